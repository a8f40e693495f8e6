"""How many tokens a file is and will be answered with: from a deployment's recorded calls, else from characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services import view

Row = Mapping[str, Any]
CHARS_PER_TOKEN = 4.0
# Without history: English prose lies near 4; code, numbers and other scripts are denser, plain long words less so.
DENSE, LOOSE = 3.0, 5.0
ENOUGH = 5  # recorded calls, to be believed more than the rule of thumb
FITTED = 8  # recorded calls of different lengths, to tell what is sent around each prompt
ALIKE = 4.0  # lengths that differ by less than this factor are told by one ratio
OFTEN = 0.2


@dataclass(frozen=True, slots=True)
class Tokens:
    """Sums over a whole file, and where they are from. None: not known."""

    low: int | None
    mid: int | None
    high: int | None
    notes: tuple[str, ...] = ()


def inputs(past: Sequence[Row], chars: int, n: int) -> Tokens:
    """Input tokens of ``n`` lines with ``chars`` characters together."""
    found = [
        (float(row["chars"]), float(tokens))
        for row in past
        if row["usage_source"] == "provider" and row.get("chars") and (tokens := view.input_tokens(row))
    ]
    if len(found) < ENOUGH:
        return _by_thumb(chars, n, len(found))
    known = np.asarray(found)
    around, rate = _line(known, chars / n)
    spread = known[:, 1] / np.maximum(around + rate * known[:, 0], 1.0)
    low, high = (float(x) for x in np.quantile(spread, (0.1, 0.9)))
    mid = around * n + rate * chars
    about = f", and {around:,.0f} more around each line" if around >= 1 else ""
    note = f"Input tokens: from {len(found):,} recorded calls, {1 / rate:.1f} characters per token{about}."
    return Tokens(_at_least(mid * min(low, 1.0), n), _at_least(mid, n), _at_least(mid * max(high, 1.0), n), (note,))


def _by_thumb(chars: int, n: int, recorded: int) -> Tokens:
    note = f"Input tokens: about 4 characters per token, which is an estimate (3 to 5): {few_words(recorded, 'calls')}."
    low, mid, high = (_at_least(chars / per, n) for per in (LOOSE, CHARS_PER_TOKEN, DENSE))
    return Tokens(low, mid, high, (note,))


def few_words(recorded: int, what: str) -> str:
    """Why nothing can be told from what was recorded of a deployment; ``what``: "calls", "answers"."""
    if not recorded:
        return f"this deployment has no recorded {what}"
    one = recorded == 1
    some = what.removesuffix("s") if one else what
    return f"{recorded} recorded {some} of this deployment {'is' if one else 'are'} too few"


def _line(known: Any, chars_each: float) -> tuple[float, float]:
    """(tokens around each prompt, tokens per character). Short prompts are mostly what a service puts around them, so
    a plain ratio from short ones would be several times too much for long ones."""
    chars, tokens = known[:, 0], known[:, 1]
    if len(known) >= FITTED and chars.max() >= ALIKE * chars.min():
        rate, around = np.polyfit(chars, tokens, 1)
        if 1 / 12 <= rate <= 2 and around >= 0:
            return float(around), float(rate)
    mean = chars.mean()
    if mean / ALIKE <= chars_each <= mean * ALIKE:
        return 0.0, float(tokens.sum() / chars.sum())
    return max(float(tokens.mean() - mean / CHARS_PER_TOKEN), 0.0), 1 / CHARS_PER_TOKEN


def _at_least(tokens: float, n: int) -> int:
    return max(round(tokens), n)


def outputs(past: Sequence[Row], n: int, limit: float | None) -> Tokens:
    """Output tokens of ``n`` lines, reasoning included because it is billed as output. ``limit``: of one line.

    With history: every line like the mean of the recorded answers (a sum follows the mean, not the median); the range
    is every line like the shortest tenth and like the longest. Without: from nothing to the limit.
    """
    made = [float(tokens) for row in past if (tokens := view.output_tokens(row)) is not None]
    if len(made) < ENOUGH:
        return _unknown(n, limit, len(made))
    known = np.minimum(np.asarray(made), limit if limit is not None else np.inf)
    low, middle, high = (float(x) for x in np.quantile(known, (0.1, 0.5, 0.9)))
    mean = float(known.mean())
    capped = f", none above the limit of {limit:,.0f}" if limit is not None else ""
    notes = [
        f"Output tokens: from {len(made):,} recorded answers, {mean:,.0f} on average (median {middle:,.0f}, most "
        f"between {low:,.0f} and {high:,.0f}){capped}."
    ]
    cut = sum(1 for row in past if row.get("outcome") == "max_tokens")
    if cut > OFTEN * len(past):
        notes.append(f"{cut:,} of those answers stopped at their own limit: yours can be longer.")
    if any(row["usage_source"] != "provider" for row in past):
        notes.append("Some of those counts are our own estimates.")
    return Tokens(round(min(low, mean) * n), round(mean * n), round(max(high, mean) * n), tuple(notes))


def _unknown(n: int, limit: float | None, recorded: int) -> Tokens:
    few = few_words(recorded, "answers")
    if limit is None:
        note = (
            f"Output tokens: not known, because {few} and nothing limits an answer: set “Max output tokens” to bound "
            "the cost."
        )
        return Tokens(0, None, None, (note,))
    note = (
        f"Output tokens: {few}, so anything from 0 to the limit of {limit:,.0f} a line; the middle is a guess of half."
    )
    return Tokens(0, round(n * limit / 2), round(n * limit), (note,))
