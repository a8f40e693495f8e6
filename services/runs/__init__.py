"""A run: what is asked for, what is drawn of it, and what is taken away."""
