"""The Caching page."""
