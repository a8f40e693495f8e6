"""Keys, addresses and access."""
