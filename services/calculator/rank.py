"""The answer: every option, best first, whether the choice is stable, and what each other would need; and what the
answer hangs on: one input changed at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Any

from services.calculator import breakeven, options_api, options_hourly, options_provisioned, roofline, sentences
from services.calculator.assumptions import Assumptions
from services.calculator.catalog import merged
from services.calculator.roofline import FACTORS, at_bound
from services.calculator.sentences import INFEASIBLE, LATENCY_UNKNOWN, MEETS, MISSES, standing, unknown
from services.calculator.types import Answer, Objectives, Option, Range, Spread, Swing, Workload

__all__ = [
    "answer",
    "applied",
    "calculate",
    "condition",
    "decided_by",
    "ranked",
    "stability",
    "standing",
    "with_what_would_win",
]


def calculate(
    workload: Workload,
    objectives: Objectives,
    *,
    assumptions: Assumptions | None = None,
    measured: Any = None,
    today: date | None = None,
) -> Answer:
    """All options for a workload, ranked by what they cost a month among those that meet the objectives."""
    used, limits = assumptions or Assumptions(), applied(workload, objectives)
    catalog = merged(used.own)
    options = [
        *options_api.options(workload, limits, used, catalog, measured),
        *options_provisioned.options(workload, limits, used, catalog, measured),
        *options_hourly.options(workload, limits, used, catalog, measured),
    ]
    return answer(_wanted(options, limits, used), workload, limits, today or datetime.now(UTC).date())


def applied(workload: Workload, objectives: Objectives) -> Objectives:
    """The limits that any request has: where all may wait for batch, no time has to be held."""
    return replace(objectives, ttft_s=None, ttlt_s=None) if workload.batch_share >= 1 else objectives


def answer(options: Iterable[Option], workload: Workload, objectives: Objectives, today: date) -> Answer:
    """The answer from options that were computed."""
    in_order = ranked(options, objectives)
    chosen = next((option for option in in_order if standing(option, objectives) == 0), None)
    stable, why = stability(chosen, in_order, objectives, workload)
    in_words = with_what_would_win(chosen, in_order, workload, objectives)
    unspoken = Answer(workload, objectives, in_words, None if chosen is None else chosen.id, stable, why, (), today)
    return replace(unspoken, sentences=sentences.sentences(unspoken))


def ranked(options: Iterable[Option], objectives: Objectives) -> tuple[Option, ...]:
    """Best first: those that meet all, then those whose latency is not known, those that miss, the infeasible."""
    return tuple(sorted(options, key=lambda option: (standing(option, objectives), _usd(option), option.id)))


def _usd(option: Option) -> float:
    return float("inf") if option.monthly_usd is None else option.monthly_usd.mid


def _wanted(options: Sequence[Option], objectives: Objectives, assumptions: Assumptions) -> list[Option]:
    models = objectives.models if objectives.models is not None else assumptions.models
    return [
        option
        for option in options
        if (models is None or option.model in models) and (assumptions.ways is None or option.way in assumptions.ways)
    ]


def with_what_would_win(
    chosen: Option | None, options: Sequence[Option], workload: Workload, objectives: Objectives
) -> tuple[Option, ...]:
    """The options, each but the chosen one with what would make it win (one that says so itself keeps its words)."""
    return tuple(
        option
        if option.would_win is not None or (chosen is not None and option.id == chosen.id)
        else replace(option, would_win=condition(option, chosen, workload, objectives))
        for option in options
    )


def condition(option: Option, chosen: Option | None, workload: Workload, objectives: Objectives) -> str | None:
    """In words; None where nothing a person could change would do."""
    place = standing(option, objectives)
    if place == INFEASIBLE:
        return None
    needs: list[str] = []
    if place == MISSES:
        needs += _limits(option, objectives)
    if place == LATENCY_UNKNOWN:
        needs.append(f"its {' and '.join(unknown(option, objectives))} measured within the limit")
    if chosen is not None and chosen.monthly_usd is not None:
        money = _money(option, chosen, workload)
        if money is None and place == MEETS:
            return None
        needs += [money] if money is not None else []
    return " and ".join(needs) or None


def _limits(option: Option, objectives: Objectives) -> list[str]:
    limits: list[str] = []
    for name, limit, time in (
        ("first token", objectives.ttft_s, option.ttft_p95_s),
        ("last token", objectives.ttlt_s, option.ttlt_p95_s),
    ):
        if limit is not None and time is not None and time.mid > limit:
            short = f", or answers of at most {option.largest_output:,} tokens" if option.largest_output else ""
            limits.append(f"a limit of {time.mid:.2g} s for the {name}{short if name == 'last token' else ''}")
    if limits:
        return limits
    return ["the need it misses dropped (" + "; ".join(miss.rstrip(".") for miss in option.misses) + ")"]


def _money(option: Option, chosen: Option, workload: Workload) -> str | None:
    assert chosen.monthly_usd is not None
    target = chosen.monthly_usd.mid
    if option.monthly_usd is None:
        return f"a quote of at most ${target:,.0f} a month"
    usd = option.monthly_usd.mid
    if usd <= target or usd <= 0:
        return None
    if option.hourly_usd is not None:
        price = f"${option.hourly_usd * target / usd:,.4g} an hour instead of ${option.hourly_usd:,.4g}"
    else:
        price = f"token prices {1 - target / usd:.0%} lower"
    if breakeven.hourly(option) == breakeven.hourly(chosen):
        return price
    rate = breakeven.crossing(option, chosen, workload)
    if rate is None or rate.rpm is None or rate.beyond:
        return price
    side = "below" if option.hourly_usd is None else "above"
    return f"{price}, or {side} {breakeven.number(rate.rpm)} requests/min"


def stability(
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
    theirs, ours = _monthly_range(other), _monthly_range(chosen)
    if chosen.serving is not None and other.serving is not None and chosen.serving.gpu == other.serving.gpu:
        return theirs.low < ours.low or theirs.mid < ours.mid or theirs.high < ours.high
    return theirs.low < ours.high


def _monthly_range(option: Option) -> Range:
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
    ours, theirs = _monthly_range(chosen), _monthly_range(other)
    wider = chosen if ours.high - ours.low >= theirs.high - theirs.low else other
    cause = f"the {decided_by(wider, workload)}" if wider.serving is not None else f"the price range of {wider.title}"
    less = f"{other.title} may cost less (${theirs.low:,.0f} against ${ours.high:,.0f})"
    return f"{cause} decides: inside its assumed range {less}"


def decided_by(option: Option, workload: Workload) -> str:
    """The efficiency factor that an hour-priced option leans on most, with its GPU."""
    assert option.serving is not None
    factor = roofline.widest(option.serving, workload.input_tokens.median, workload.output_tokens.median)
    return f"{factor} on the {option.serving.gpu.name}"


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
    first, second = _usd_of_chosen(at_low, chosen), _usd_of_chosen(at_high, chosen)
    changes = at_low.chosen != chosen.id or at_high.chosen != chosen.id
    if first is None or second is None or (first == second and not changes):
        return None
    return Swing(name, first, second, low.text, high.text, changes)


def _usd_of_chosen(answer: Answer, chosen: Option) -> float | None:
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
        return lambda: calculate(
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
