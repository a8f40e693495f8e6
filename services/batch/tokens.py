"""How many tokens a file is and will be answered with: from a deployment's recorded calls, else from characters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.runs import view
from services.types import Ask

Row = Mapping[str, Any]
CHARS_PER_TOKEN = 4.0
# Without history: English prose lies near 4; code, numbers and other scripts are denser, plain long words less so.
DENSE, LOOSE = 3.0, 5.0
# Tokens that are sent around the texts and counted as input: (low, middle, high), see `Talk`.
MARKS, REPLY, OWN_SYSTEM = (3, 4, 6), (3, 3, 4), (0, 10, 40)
OTHER_TEXT = 0.1  # of the tokens of the texts: as much as the density of a file may differ from that of recorded calls
MOST_AROUND = 50.0  # of one message without a system prompt: the high of all three
DENSEST = 1.0  # tokens per character, of texts in the scripts that have most
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


@dataclass(frozen=True, slots=True)
class Talk:
    """What one line is made of: ``turns`` messages, and a system prompt or not (the share of lines that have one).

    A service counts more than the texts. Each message is put between marks that name its role: 3 to 4 tokens by
    OpenAI's own recipe ("How to count tokens with tiktoken": 3 a message now, 4 for older models), 5 in ChatML
    (<|im_start|>, role, line end, <|im_end|>, line end). The answer is begun with 3 more (the same recipe). And many
    chat templates put in a system prompt of their own where none is given: SmolLM2's, Qwen 2.5's and Llama 3's are 20
    to 30 tokens, a hosted service's is none. Measured on the embedded SmolLM2: 28 around each prompt without a system
    prompt (200 lines of the sample, by least squares).
    """

    turns: float = 1.0
    systems: float = 0.0

    @property
    def around(self) -> tuple[float, float, float]:
        """Tokens around the texts of one line: low, middle, high."""
        low, mid, high = (
            (self.turns + self.systems) * marks + reply + (1 - self.systems) * own
            for marks, reply, own in zip(MARKS, REPLY, OWN_SYSTEM, strict=True)
        )
        return low, mid, high


ONE = Talk()


def talk_of(asks: Sequence[Ask]) -> Talk:
    """What the lines of a file are made of, by some of them."""
    if not asks:
        return ONE
    n = len(asks)
    return Talk(sum(len(one.messages) for one in asks) / n, sum(bool(one.system) for one in asks) / n)


def inputs(past: Sequence[Row], chars: int, n: int, talk: Talk = ONE) -> Tokens:
    """Input tokens of ``n`` lines with ``chars`` characters together, what is sent around them included.

    From recorded calls, which are of one turn each: their own tokens for each prompt of theirs, and the marks of
    further turns. How much of those tokens is around a prompt can be told only where prompts differ in length; where
    they do not, the range is what it can be (from nothing to all that the characters leave over), which is nothing to
    speak of for lines as long as those.
    """
    found = [
        (float(row["chars"]), float(tokens))
        for row in past
        if row["usage_source"] == "provider" and row.get("chars") and (tokens := view.input_tokens(row))
    ]
    if len(found) < ENOUGH:
        return _by_thumb(chars, n, len(found), talk)
    known = np.asarray(found)
    ways, note = _ways(known)
    around, rate = ways[0]
    spread = known[:, 1] / np.maximum(around + rate * known[:, 0], 1.0)
    low, high = (float(x) for x in np.quantile(spread, (0.1, 0.9)))
    each = [start * n + per * chars for start, per in ways]
    more = [max(talk.turns - 1, 0) * marks * n for marks in MARKS]
    text = rate * chars * OTHER_TEXT
    bounds = (min(each) * min(low, 1.0) - text, each[0], max(each) * max(high, 1.0) + text)
    least, middle, most = (_at_least(one + two, n) for one, two in zip(bounds, more, strict=True))
    return Tokens(least, middle, most, (f"Input tokens: from {len(found):,} recorded calls, {note}.",))


def _by_thumb(chars: int, n: int, recorded: int, talk: Talk) -> Tokens:
    around = talk.around
    note = (
        f"Input tokens: about 4 characters per token and {around[1]:,.0f} more around each line, which is an estimate "
        f"(3 to 5, and {around[0]:,.0f} to {around[2]:,.0f}): {few_words(recorded, 'calls')}."
    )
    low, mid, high = (
        _at_least(chars / per + more * n, n) for per, more in zip((LOOSE, CHARS_PER_TOKEN, DENSE), around, strict=True)
    )
    return Tokens(low, mid, high, (note,))


def few_words(recorded: int, what: str) -> str:
    """Why nothing can be told from what was recorded of a deployment; ``what``: "calls", "answers"."""
    if not recorded:
        return f"this deployment has no recorded {what}"
    one = recorded == 1
    some = what.removesuffix("s") if one else what
    return f"{recorded} recorded {some} of this deployment {'is' if one else 'are'} too few"


def _ways(known: Any) -> tuple[list[tuple[float, float]], str]:
    """(tokens around each prompt, tokens per character) as they may be, the likeliest first, and that in words.

    Short prompts are mostly what a service puts around them, so a plain ratio from short ones would be several times
    too much for long ones, and one from long ones too little for short ones.
    """
    chars, tokens = known[:, 0], known[:, 1]
    if len(known) >= FITTED and chars.max() >= ALIKE * chars.min():
        rate, around = np.polyfit(chars, tokens, 1)
        if 1 / 12 <= rate <= 2 and around >= 0:
            about = f", and {around:,.0f} more around each line" if around >= 1 else ""
            return [(float(around), float(rate))], f"{1 / rate:.1f} characters per token{about}"
    each, length = float(tokens.mean()), float(chars.mean())
    ratio = each / length
    ways = [(each - length / per, 1 / per) for per in (CHARS_PER_TOKEN, LOOSE, DENSE) if each >= length / per]
    if not ways or ratio <= DENSEST:
        ways.append((0.0, ratio))
    around = min(ways[0][0], MOST_AROUND)
    if (each - around) / length <= DENSEST:  # more than a template puts around: the text itself is dense
        ways.insert(0, (around, (each - around) / length))
    return ways, f"{1 / ratio:.1f} characters per token with what is sent around them"


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
