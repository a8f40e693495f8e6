"""The engine's process: engine and batch service put together and served on a socket, and how it is started."""
