"""What a process needs of its machine: health, life time, log files and whole output."""
