"""How fast a service answers: its time to the first token and its tokens a second, as measured, published or stated by
the user (shared/calculator.md, D 9). There is no estimate of what nobody measured."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from services.calculator import assumptions as given
from services.calculator import tokens
from services.calculator.assumptions import ApiSpeed, Assumptions
from services.calculator.catalog import Catalog
from services.calculator.types import Fact, Objectives, Range, Spread

NOT_KNOWN = "Latency not known: measure it in the playground."
LONGEST = 10_000_000  # tokens; beyond any model's output

Measured = Mapping[str, ApiSpeed]  # by "way/model_ref" or model_ref


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds; None: not known. ``timed`` as in `Option`. ``largest``: output tokens that fit into the limit."""

    ttft_p50: Range | None = None
    ttft_p95: Range | None = None
    ttlt_p50: Range | None = None
    ttlt_p95: Range | None = None
    timed: str = "not known"
    largest: int | None = None
    missing: tuple[str, ...] = (NOT_KNOWN,)
    facts: tuple[Fact, ...] = ()


def find(way: str, ref: str, assumptions: Assumptions, catalog: Catalog, measured: Measured | None) -> ApiSpeed | None:
    """The user's own figures, else the measured, else the published ones; None: not known."""
    known = measured or {}
    own = given.api_speed(assumptions, way, ref)
    return own or known.get(f"{way}/{ref}") or known.get(ref) or catalog.speed(way, ref)


def of(speed: ApiSpeed | None, output: Spread, objectives: Objectives) -> Times:
    """Times of a workload's requests at that speed."""
    if speed is None:
        return Times()
    first, first95 = speed.ttft_p50_s, speed.ttft_p95_s
    last = _last(speed, output.median)
    last95 = _last_p95(speed, output)
    gaps = [
        "The p95 of the first token is not known: measure it in the playground." if first95 is None else "",
        "The p95 of the last token is not known: measure it in the playground." if last95 is None else "",
    ]
    words = {"yours": "stated by you", "list": "published"}
    source = f"measured, n {speed.n}" if speed.kind == "measured" else words.get(speed.kind, "estimated")
    return Times(
        _exactly(first), _exactly(first95), _exactly(last), last95, source,
        _largest(speed, objectives.ttlt_s), tuple(gap for gap in gaps if gap),
        (Fact("Speed", _words(speed), speed.source, speed.date, speed.kind),),
    )  # fmt: skip


def misses(times: Times, objectives: Objectives) -> tuple[str, ...]:
    """Which limit does not hold, in sentences; what is not known is no miss (and no hit)."""
    pairs = (("First", times.ttft_p95, objectives.ttft_s), ("Last", times.ttlt_p95, objectives.ttlt_s))
    return tuple(
        f"{name} token after ~{seconds.mid:.2g} s at p95, and {limit:g} s are asked for."
        for name, seconds, limit in pairs
        if seconds is not None and limit is not None and seconds.mid > limit
    )


def _exactly(seconds: float | None) -> Range | None:
    return None if seconds is None else Range(seconds, seconds, seconds)


def _last(speed: ApiSpeed, output: float) -> float | None:
    if speed.ttft_p50_s is None or not speed.tok_s_p50:
        return None
    return speed.ttft_p50_s + output / speed.tok_s_p50


def _last_p95(speed: ApiSpeed, output: Spread) -> Range | None:
    """The p95 of the last token from three causes: a late first token, a slow stream, a long answer.

    ``low``: only the worst of them happens; ``mid``: they are independent (their excesses add up in squares); ``high``:
    all at once. Without the stream's slow tail it is not known.
    """
    if speed.ttft_p50_s is None or speed.ttft_p95_s is None or not speed.tok_s_p50 or not speed.tok_s_p10:
        return None
    usual = speed.ttft_p50_s + output.median / speed.tok_s_p50
    late = max(0.0, speed.ttft_p95_s - speed.ttft_p50_s)
    slow = max(0.0, output.median / speed.tok_s_p10 - output.median / speed.tok_s_p50)
    long = (tokens.p95(output) - output.median) / speed.tok_s_p50
    mid = usual + math.hypot(late, slow, long)
    high = speed.ttft_p95_s + tokens.p95(output) / min(speed.tok_s_p10, speed.tok_s_p50)
    return Range(usual + max(late, slow, long), mid, max(high, mid))


def _largest(speed: ApiSpeed, limit: float | None) -> int | None:
    """The longest answer whose last token arrives inside the limit at p95; None: no limit, or not known."""
    if limit is None or _last_p95(speed, Spread(1.0)) is None:
        return None
    low, high = 0, LONGEST
    while low < high:
        middle = (low + high + 1) // 2
        found = _last_p95(speed, Spread(float(middle)))
        low, high = (middle, high) if found is not None and found.mid <= limit else (low, middle - 1)
    return low


def _words(speed: ApiSpeed) -> str:
    parts = (
        (speed.ttft_p50_s, "first token {:g} s at p50"),
        (speed.ttft_p95_s, "{:g} s at p95"),
        (speed.tok_s_p50, "{:g} tokens a second at p50"),
        (speed.tok_s_p10, "{:g} at p10"),
    )
    return ", ".join(words.format(value) for value, words in parts if value is not None)
