"""Bytes as they arrive: framing, server-sent events, time stamps."""
