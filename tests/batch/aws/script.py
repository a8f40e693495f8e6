"""What goes wrong in the emulator, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# What happens to one attempt to submit. "lost": it is done and the connection closed without an answer; "unheard": the
# connection is closed and nothing done.
Fault = Literal["throttling", "quota", "conflict", "validation", "denied", "broken", "lost", "unheard"]
BEDROCK_STATES = ("Submitted", "Validating", "Scheduled", "InProgress", "Completed")
TRANSFORM_STATES = ("InProgress", "InProgress", "Completed")


@dataclass(frozen=True, slots=True)
class Script:
    """One job's life. ``states``: one for each time it is asked; the last one stays. ``errors``: which records fail,
    counted from 0. ``finished``: the part of the records that was worked on before the end. ``missing``, ``double``,
    ``unknown``: so many records are left out, told twice, told under an id nobody sent. ``cut``: so many bytes are
    taken off the end of the output. ``manifest``: "right", "wrong" (counts that do not fit), "broken" or "none".
    """

    states: tuple[str, ...] = BEDROCK_STATES
    message: str = ""
    errors: tuple[int, ...] = ()
    finished: float = 1.0
    shuffled: bool = False
    missing: int = 0
    double: int = 0
    unknown: int = 0
    cut: int = 0
    manifest: Literal["right", "wrong", "broken", "none"] = "right"
