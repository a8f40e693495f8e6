"""The engine: one process, one event loop, one task per call; the only writer of the database."""
