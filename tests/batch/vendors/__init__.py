"""Emulators of OpenAI's files and batches and of Anthropic's message batches: real HTTP servers, with faults to switch.

``python -m tests.batch.vendors --port 9100`` runs both in one process, for trying the page by hand.
"""
