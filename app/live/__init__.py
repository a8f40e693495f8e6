"""A run while it is under way: from the engine's stream to the board in every browser."""
