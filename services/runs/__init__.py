"""A run: its request, its conversation, the figures of its calls, and its export."""
