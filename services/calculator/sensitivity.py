"""Which assumption moves the answer most: one at a time to its bounds, everything else as it is (a tornado)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from services.calculator import rank, roofline
from services.calculator.assumptions import Assumptions
from services.calculator.roofline import FACTORS, at_bound
from services.calculator.types import Answer, Option, Range, Spread, Swing

SHARE = 0.2  # what is not a range of its own is moved by a fifth either way


@dataclass(frozen=True, slots=True)
class Bound:
    """One assumption at one bound."""

    text: str
    answer: Callable[[], Answer]


def tornado(answer: Answer, *, assumptions: Assumptions | None = None, measured: Any = None) -> list[Swing]:
    """The chosen option's monthly cost with each assumption at its bounds, the widest first; [] without a choice.

    ``changes_choice``: at one of the bounds another option is first.
    """
    assumptions_used = assumptions or Assumptions()
    chosen = next((option for option in answer.options if option.id == answer.chosen), None)
    if chosen is None or chosen.monthly_usd is None:
        return []
    swings = [
        swing
        for name, low, high in _bounds(answer, chosen, assumptions_used, measured)
        if (swing := _swing(name, low, high, chosen)) is not None
    ]
    return sorted(swings, key=lambda swing: -abs(swing.high_usd - swing.low_usd))


def _swing(name: str, low: Bound, high: Bound, chosen: Option) -> Swing | None:
    at_low, at_high = low.answer(), high.answer()
    first, second = _usd(at_low, chosen), _usd(at_high, chosen)
    changes = at_low.chosen != chosen.id or at_high.chosen != chosen.id
    if first is None or second is None or (first == second and not changes):
        return None
    return Swing(name, first, second, low.text, high.text, changes)


def _usd(answer: Answer, chosen: Option) -> float | None:
    """What the chosen option costs there; one machine of the same model and way stands in where its own is gone."""
    same = [option for option in answer.options if option.monthly_usd is not None and option.infeasible is None]
    exact = [option for option in same if option.id == chosen.id]
    near = [option for option in same if (option.model, option.way) == (chosen.model, chosen.way)]
    match = next(iter([*exact, *near]), None)
    return None if match is None or match.monthly_usd is None else match.monthly_usd.mid


def _bounds(
    answer: Answer, chosen: Option, assumptions: Assumptions, measured: Any
) -> Iterator[tuple[str, Bound, Bound]]:
    def again(**changes: Any) -> Callable[[], Answer]:
        workload = changes.get("workload", answer.workload)
        return lambda: rank.calculate(
            workload,
            answer.objectives,
            assumptions=changes.get("given", assumptions),
            measured=measured,
            today=answer.made_on,
        )

    load = answer.workload
    less, longer = _around(load.input_tokens)
    yield (
        "input tokens",
        Bound(f"{less.median:,.0f}", again(workload=replace(load, input_tokens=less))),
        Bound(f"{longer.median:,.0f}", again(workload=replace(load, input_tokens=longer))),
    )
    less, longer = _around(load.output_tokens)
    yield (
        "output tokens",
        Bound(f"{less.median:,.0f}", again(workload=replace(load, output_tokens=less))),
        Bound(f"{longer.median:,.0f}", again(workload=replace(load, output_tokens=longer))),
    )
    yield (
        "requests/min",
        Bound(f"{load.rpm * (1 - SHARE):,.4g}", again(workload=replace(load, rpm=load.rpm * (1 - SHARE)))),
        Bound(f"{load.rpm * (1 + SHARE):,.4g}", again(workload=replace(load, rpm=load.rpm * (1 + SHARE)))),
    )
    if load.prefix_share > 0:
        high, low = min(1.0, load.prefix_share * (1 + SHARE)), load.prefix_share * (1 - SHARE)
        yield (
            "repeated prefix",
            Bound(f"{low:.0%}", again(workload=replace(load, prefix_share=low))),
            Bound(f"{high:.0%}", again(workload=replace(load, prefix_share=high))),
        )
    if chosen.serving is not None:
        yield from _hardware(chosen, assumptions, again)


def _around(spread: Spread) -> tuple[Spread, Spread]:
    return Spread(spread.median * (1 - SHARE), spread.sigma), Spread(spread.median * (1 + SHARE), spread.sigma)


def _hardware(
    chosen: Option, assumptions: Assumptions, again: Callable[..., Callable[[], Answer]]
) -> Iterator[tuple[str, Bound, Bound]]:
    serving = chosen.serving
    assert serving is not None
    base = serving.efficiency or roofline.of(serving.gpu.name, serving.precision)
    for factor, words in FACTORS:
        if factor in ("link", "hop_s") and serving.tp == 1:
            continue
        value: Range = getattr(base, factor)
        low, high = (
            again(
                given=replace(
                    assumptions, efficiency={**assumptions.efficiency, serving.gpu.name: at_bound(base, factor, bound)}
                )
            )
            for bound in (value.low, value.high)
        )
        yield f"{words}, {serving.gpu.name}", Bound(_text(value.low), low), Bound(_text(value.high), high)
    bounds = (0.0, 2 * assumptions.headroom) if assumptions.headroom else (0.0, SHARE)
    low, high = (again(given=replace(assumptions, headroom=bound)) for bound in bounds)
    yield "headroom", Bound(f"{bounds[0]:.0%}", low), Bound(f"{bounds[1]:.0%}", high)


def _text(value: float) -> str:
    if value >= 0.1:
        return f"{value:.0%}"
    return f"{value * 1e3:g} ms" if value >= 1e-4 else f"{value * 1e6:g} µs"
