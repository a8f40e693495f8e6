"""The place of one job, as its route is lent it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.security.keys import scrub


@dataclass(slots=True)
class Spot:
    """``tell`` shows a sentence on the page; ``notes`` are those that stay when the job is over."""

    folder: Path
    tell: Callable[[str], None]
    is_stopped: Callable[[], bool]
    notes: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Show this sentence on the page, until there is another."""
        self.tell(scrub(text))

    def note(self, text: str) -> None:
        """Show this sentence, and keep it with what is said of the job when it is over."""
        kept = scrub(text)
        if kept not in self.notes:
            self.notes.append(kept)
        self.tell(kept)

    def stopped(self) -> bool:
        """Whether the person cancelled."""
        return self.is_stopped()
