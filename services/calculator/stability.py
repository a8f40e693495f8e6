"""Whether the first option stays first everywhere inside the ranges, and which assumption decides if not."""

from __future__ import annotations

from collections.abc import Sequence

from services.calculator import factors
from services.calculator.status import MEETS, standing
from services.calculator.types import Objectives, Option, Range, Workload


def stable(
    chosen: Option | None, options: Sequence[Option], objectives: Objectives, workload: Workload
) -> tuple[bool, str | None]:
    """(stays first, why not). Nothing chosen is not stable. Two options on one kind of GPU have its efficiency in
    common, so they are compared case by case; others independently of each other."""
    if chosen is None or chosen.monthly_usd is None:
        return False, None
    broken = _breaks(chosen, objectives, workload)
    if broken is not None:
        return False, broken
    for other in options:
        if other.id == chosen.id or standing(other, objectives) != MEETS or other.monthly_usd is None:
            continue
        if _overtakes(other, chosen):
            return False, _why(chosen, other, workload)
    return True, None


def _overtakes(other: Option, chosen: Option) -> bool:
    one, two = _usd(other), _usd(chosen)
    if chosen.serving is not None and other.serving is not None and chosen.serving.gpu == other.serving.gpu:
        return one.low < two.low or one.mid < two.mid or one.high < two.high
    return one.low < two.high


def _usd(option: Option) -> Range:
    assert option.monthly_usd is not None
    return option.monthly_usd


def _breaks(chosen: Option, objectives: Objectives, workload: Workload) -> str | None:
    """Whether the choice misses a limit at the slow end of its range."""
    for name, limit, time in (
        ("first", objectives.ttft_s, chosen.ttft_p95_s),
        ("last", objectives.ttlt_s, chosen.ttlt_p95_s),
    ):
        if limit is not None and time is not None and time.high > limit:
            cause = f"the {decided_by(chosen, workload)} is" if chosen.serving is not None else "its times are"
            return f"{cause} at the slow end of the assumed range, where its {name} token comes after the limit"
    return None


def _why(chosen: Option, other: Option, workload: Workload) -> str:
    one, two = _usd(chosen), _usd(other)
    wider = chosen if one.high - one.low >= two.high - two.low else other
    what = f"the {decided_by(wider, workload)}" if wider.serving is not None else f"the price range of {wider.title}"
    less = f"{other.title} may cost less (${two.low:,.0f} against ${one.high:,.0f})"
    return f"{what} decides: inside its assumed range {less}"


def decided_by(option: Option, workload: Workload) -> str:
    """The efficiency factor that an hour-priced option leans on most, with its GPU."""
    assert option.serving is not None
    factor = factors.widest(option.serving, workload.input_tokens.median, workload.output_tokens.median)
    return f"{factor} on the {option.serving.gpu.name}"
