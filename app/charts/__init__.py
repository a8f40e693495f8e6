"""How charts look, on every page."""
