"""Figures and texts as people read them: units, marks, dashes; and text made harmless for Markdown, terminals and
spreadsheets."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

DASH = "–"
NANODOLLARS = 1_000_000_000  # in a dollar
# Every ASCII punctuation character can be escaped in CommonMark; escaping all of them leaves nothing to interpret,
# Streamlit's own directives (":red[…]", ":material/…:") included.
_MARKDOWN = re.compile(r"([!-/:-@\[-`{-~])")
# What a spreadsheet takes for the beginning of a formula.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def seconds(ms: float | None, mark: str = "") -> str:
    """Milliseconds as "0.41 s", below 0.1 s as "12 ms", below 10 ms as "3.2 ms"; None as a dash."""
    if ms is None:
        return DASH
    if abs(ms) < 9.95:
        return f"{mark}{ms:.1f} ms"
    if abs(ms) < 100:
        return f"{mark}{ms:.0f} ms"
    return f"{mark}{ms / 1000:.2f} s"


def rate(per_second: float | None, mark: str = "") -> str:
    """Tokens per second as "93 tok/s", below 10 with one decimal; None as a dash."""
    if per_second is None:
        return DASH
    return f"{mark}{per_second:.1f} tok/s" if per_second < 10 else f"{mark}{per_second:,.0f} tok/s"


def count(number: int | None, mark: str = "") -> str:
    """A count with thousands separators; None as a dash."""
    return DASH if number is None else f"{mark}{number:,}"


def money(nanousd: int | None, mark: str = "") -> str:
    """An amount for a reader: cents from one dollar up, three significant digits below it.

    "$12.35", "$0.00123", "≥ $0.00091" with the mark "≥", "$0", and "no price" for None.
    """
    if nanousd is None:
        return "no price"
    dollars = Decimal(nanousd) / NANODOLLARS
    if nanousd == 0:
        text = "0"
    elif abs(dollars) >= 1:
        text = format(dollars.quantize(Decimal("0.01"), rounding=ROUND_HALF_UP), ",f")
    else:
        step = Decimal(1).scaleb(max(dollars.adjusted() - 2, -9))
        text = format(dollars.quantize(step, rounding=ROUND_HALF_UP).normalize(), "f")
        if len(text.partition(".")[2]) < 2:
            text = format(Decimal(text), ".2f")
    sign, text = ("−", text[1:]) if text.startswith("-") else ("", text)
    return f"{mark} {sign}${text}" if mark else f"{sign}${text}"


def percent(share: float) -> str:
    """A share (0 to 1) as "3 %"; "under 1 %" for what would round to nothing."""
    return "under 1 %" if 0 < share < 0.01 else f"{share * 100:.0f} %"


def plural(n: int, noun: str, nouns: str | None = None) -> str:
    """A count with its noun: "1 call", "2,000 calls"."""
    return f"{n:,} {noun if n == 1 else nouns or noun + 's'}"


def joined(names: Sequence[str]) -> str:
    """Names as a list in a sentence: "a", "a and b", "a, b and c"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def md_escape(text: str) -> str:
    """``text`` with every Markdown, HTML and Streamlit-directive character escaped, on one line.

    Streamlit fetches remote images from almost any text it draws, labels included; an escaped text can fetch nothing.
    """
    return _MARKDOWN.sub(r"\\\1", " ".join(_CONTROL.sub("", text).split()))


def printable(text: str) -> str:
    """``text`` without the control characters that would steer a terminal or turn its direction around."""
    return _CONTROL.sub("", text)


def safe_cell(value: Any) -> Any:
    """A cell that a spreadsheet will not run: see OWASP, CSV injection."""
    if isinstance(value, datetime):
        return value.isoformat()
    if not isinstance(value, str):
        return value
    # NFKC turns full-width forms of the same characters into the ones that spreadsheets act on.
    first = unicodedata.normalize("NFKC", value[:1])
    is_number = re.fullmatch(r"-?\d+(\.\d+)?", value) is not None
    return f"'{value}" if first.startswith(_FORMULA_STARTS) and not is_number else value
