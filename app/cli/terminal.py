"""The terminal of the command line: names and answers are only ever text there."""

from __future__ import annotations

import errno
import os
import sys

from rich.console import Console

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
PIPED_WIDTH = 240  # nothing is cut or wrapped for a file or another program


def console(*, stderr: bool = False) -> Console:
    """A console that takes markup and emoji codes in texts for what they are: text."""
    out = sys.stderr if stderr else sys.stdout
    width = None if out.isatty() else PIPED_WIDTH
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=width)


def output_failed(error: OSError) -> bool:
    """Whether an error is that standard output takes nothing (a full disk): one that names no file, of a program that
    writes no other. What was left to be said there is dropped, so that the end of the program does not fail of it too.
    """
    if error.filename:
        return False
    full = error.errno in FULL
    try:
        sys.stdout.flush()
    except OSError:
        full = True
    if full:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return full
