"""Ctrl-C on the command line: one sentence and the exit code of a stopped program, at whatever moment it comes."""

from __future__ import annotations

import os
import signal
from types import FrameType

SENTENCE = "Stopped before it was done; what was recorded is kept."
CODE = 130


def while_loading() -> None:
    """From here on Ctrl-C ends the program at once: while modules are loaded nothing is under way that could be undone.

    An exception in the middle of an import cannot be caught where it would be of use. Where Ctrl-C is ignored already
    (a job in the background), it stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def while_working() -> None:
    """From here on Ctrl-C is `KeyboardInterrupt` again, for whoever has something to finish."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def while_ending() -> None:
    """From here on Ctrl-C ends what is left without a word: Python's own end would answer it with a traceback."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _end(_number: int, _frame: FrameType | None) -> None:
    os.write(2, f"\n{SENTENCE}\n".encode())
    os._exit(CODE)
