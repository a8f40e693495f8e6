"""Long system prompts to measure prompt caching with: one handbook of our own writing, cut after a chapter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from services.paths import ROOT

FILE = ROOT / "services" / "data" / "caching_handbook.md"
QUESTION = "A customer brings a hire bicycle back five hours late with a puncture. What do we charge?"
CHARS_PER_TOKEN = 4.3  # of this text, with the embedded model's tokenizer; others count a little differently


@dataclass(frozen=True, slots=True)
class Handbook:
    """One length of the handbook: its chapters from the first to ``chapters``, in about ``tokens`` tokens."""

    title: str
    chapters: int
    tokens: int

    @property
    def text(self) -> str:
        """The system prompt."""
        return "\n## ".join(_parts()[: self.chapters + 1]).strip()


@cache
def _parts() -> tuple[str, ...]:
    return tuple(FILE.read_text(encoding="utf-8").split("\n## "))


# Tokens as the embedded model counts them.
HANDBOOKS: tuple[Handbook, ...] = (
    Handbook("About 570 tokens", 3, 570),
    Handbook("About 1,400 tokens", 8, 1400),
    Handbook("About 3,000 tokens", 18, 3050),
    Handbook("About 6,000 tokens", 34, 5950),
)


def about(text: str) -> int:
    """Roughly how many tokens a text has."""
    return round(len(text) / CHARS_PER_TOKEN)


def fitting(context_tokens: int | None, answer_tokens: int) -> Handbook:
    """The longest handbook that fits a context together with the question and the answer; 1,400 tokens at first."""
    usual = HANDBOOKS[1]
    if context_tokens is None or usual.tokens + about(QUESTION) + answer_tokens + 100 <= context_tokens:
        return usual
    return HANDBOOKS[0]
