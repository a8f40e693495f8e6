"""A fake model server that speaks three wires byte by byte on a known schedule (see `tests/fake/README.md`)."""
