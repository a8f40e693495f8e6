"""Batches: a file in, results out, at batch prices, nothing lost."""
