"""The terminal of the command line: names and answers are only ever text there."""

from __future__ import annotations

import sys

from rich.console import Console

PIPED_WIDTH = 240  # nothing is cut or wrapped for a file or another program


def console(*, stderr: bool = False) -> Console:
    """A console that takes markup and emoji codes in texts for what they are: text."""
    out = sys.stderr if stderr else sys.stdout
    width = None if out.isatty() else PIPED_WIDTH
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)
