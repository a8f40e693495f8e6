"""Text from elsewhere (answers, errors, names) on its way to the screen: it is shown, never obeyed."""

from __future__ import annotations

from services.words import md_escape


def plain(text: object) -> str:
    """Any text, fit for a Streamlit label, caption or table cell: no markdown, no HTML, no directive survives."""
    return md_escape(str(text))


def clip(text: str, limit: int) -> str:
    """The text on one line, at most ``limit`` characters, with an ellipsis where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"
