"""The answer in three plain sentences, with the numbers that decide it, and where an option stands: only one that is
known to meet every objective can be a choice."""

from __future__ import annotations

from services.calculator import breakeven
from services.calculator.types import Answer, Objectives, Option, Range

MEETS, LATENCY_UNKNOWN, MISSES, PRICE_UNKNOWN, INFEASIBLE = range(5)


def standing(option: Option, objectives: Objectives) -> int:
    """``MEETS`` to ``INFEASIBLE``, best first."""
    if option.infeasible is not None:
        return INFEASIBLE
    if option.monthly_usd is None:
        return PRICE_UNKNOWN
    if option.misses:
        return MISSES
    return LATENCY_UNKNOWN if unknown(option, objectives) else MEETS


def unknown(option: Option, objectives: Objectives) -> tuple[str, ...]:
    """The limits that are set and of which it is not known whether the option holds them."""
    first = objectives.ttft_s is not None and option.ttft_p95_s is None
    last = objectives.ttlt_s is not None and option.ttlt_p95_s is None
    return tuple(name for name, is_so in (("first token", first), ("last token", last)) if is_so)


def sentences(answer: Answer) -> tuple[str, str, str]:
    """What to choose and why, where that turns, and how sure it is. Without a choice: why there is none."""
    chosen = next((option for option in answer.options if option.id == answer.chosen), None)
    if chosen is None or chosen.monthly_usd is None:
        return _none(answer)
    return _choice(chosen, answer), _turn(chosen, answer), _sure(answer)


def usd(value: float) -> str:
    """A monthly amount: whole dollars from ten up, cents below."""
    return f"${value:,.0f}" if abs(value) >= 10 else f"${value:,.2f}"


def amount(value: Range) -> str:
    """An amount with its range: "$1,359", "about $1,359 ($1,200–$2,000)"."""
    if value.high - value.low <= 0.005 * max(value.mid, 1e-9):
        return usd(value.mid)
    return f"about {usd(value.mid)} ({usd(value.low)}–{usd(value.high)})"


def seconds(value: float) -> str:
    """ "0.21 s", "4.9 s", "11 s"."""
    return f"{value:.2f} s" if value < 1 else f"{value:.1f} s" if value < 10 else f"{value:,.0f} s"


def _choice(chosen: Option, answer: Answer) -> str:
    judged = answer.objectives.models is not None
    start = f"Choose {chosen.title}" if judged else f"If its answers are good enough, choose {chosen.title}"
    assert chosen.monthly_usd is not None
    other = _rival(chosen, answer)
    against = ""
    if other is not None and other.monthly_usd is not None:
        against = f" against {amount(other.monthly_usd)} for {named(other, answer)}"
    return f"{start}: {amount(chosen.monthly_usd)} a month{against}, and {_meets(chosen, answer.objectives)}."


def _rival(chosen: Option, answer: Answer) -> Option | None:
    """What the choice is held against: the other way to pay first (hours against tokens says more than one machine
    against its neighbour), the same model first; where none of it is known to meet the limits, one whose latency is
    not known."""
    fit = [
        option
        for option in answer.options
        if option.id != chosen.id and standing(option, answer.objectives) <= LATENCY_UNKNOWN
    ]
    other = [option for option in fit if breakeven.hourly(option) != breakeven.hourly(chosen)]
    known_to_meet = [option for option in fit if standing(option, answer.objectives) == MEETS]
    ordered = [
        *(option for option in other if option in known_to_meet),
        *(option for option in other if option.model == chosen.model),
    ]
    return next(iter([*ordered, *known_to_meet, *other]), None)


def named(option: Option, answer: Answer) -> str:
    """Its title, and that its latency is not known where a limit asks for it."""
    unsure = standing(option, answer.objectives) == LATENCY_UNKNOWN
    return f"{option.title} (latency not known)" if unsure else option.title


def _meets(chosen: Option, objectives: Objectives) -> str:
    mark = "" if chosen.timed.startswith("measured") else "~"
    limits = [
        f"its {name} comes within {mark}{seconds(time.mid)} at p95 (limit {limit:g} s)"
        for name, limit, time in (
            ("first token", objectives.ttft_s, chosen.ttft_p95_s),
            ("last token", objectives.ttlt_s, chosen.ttlt_p95_s),
        )
        if limit is not None and time is not None
    ]
    limits_met = " and ".join(limits) or "no limit on its latency is set"
    if chosen.full_at_rpm is None:
        return limits_met
    return f"{limits_met}, up to {breakeven.number(chosen.full_at_rpm)} requests/min"


def _turn(chosen: Option, answer: Answer) -> str:
    """What costs less already but for an unknown latency, else the nearest rate, below or above, at which another
    option costs less; one that is paid for otherwise first."""
    if cheaper := _cheaper_but_unknown(chosen, answer):
        return cheaper
    now = answer.workload.rpm
    rivals: list[tuple[float, float, str, Option]] = []
    for option in _rivals(chosen, answer):
        cross = breakeven.crossing(chosen, option, answer.workload)
        side = None if not cross.rpm or cross.beyond else _side(chosen, option, cross.rpm, answer)
        if cross.rpm and side is not None and (side == "Below") == (cross.rpm < now):
            rivals.append((max(cross.rpm / now, now / cross.rpm), cross.rpm, side, option))
    if rivals:
        paid = [rival for rival in rivals if breakeven.hourly(rival[3]) != breakeven.hourly(chosen)]
        _, rate, side, other = min(paid or rivals, key=lambda rival: rival[:2])
        return f"{side} {breakeven.number(rate)} requests/min {named(other, answer)} costs less."
    return _why_alone(chosen, answer)


def _side(chosen: Option, other: Option, rate: float, answer: Answer) -> str | None:
    """On which side of a crossing the other option is the cheaper one; None where it is on neither, or on both."""
    cheaper = []
    for side, rpm in (("Below", rate * 0.97), ("Above", rate * 1.03)):
        own_cost = breakeven.mid_at(chosen, rpm, answer.workload)
        theirs = breakeven.mid_at(other, rpm, answer.workload)
        if own_cost is not None and theirs is not None and theirs < own_cost:
            cheaper.append(side)
    return cheaper[0] if len(cheaper) == 1 else None


def _rivals(chosen: Option, answer: Answer) -> list[Option]:
    """The cheapest other of each way that meets the limits: more lines would cross at the same places."""
    best: dict[str, Option] = {}
    for option in answer.options:
        if option.id != chosen.id and standing(option, answer.objectives) == MEETS:
            best.setdefault(option.way, option)
    rival = _rival(chosen, answer)
    return [*best.values(), *([] if rival is None else [rival])]


def _cheaper_but_unknown(chosen: Option, answer: Answer) -> str | None:
    for option in answer.options:
        if (
            standing(option, answer.objectives) != LATENCY_UNKNOWN
            or option.monthly_usd is None
            or chosen.monthly_usd is None
        ):
            continue
        if option.monthly_usd.mid < chosen.monthly_usd.mid:
            return (
                f"{option.title} would cost {amount(option.monthly_usd)}, but its latency is not known: measure it in "
                "the playground before it can be chosen."
            )
    return None


def _why_alone(chosen: Option, answer: Answer) -> str:
    if any(option.id != chosen.id and standing(option, answer.objectives) == MEETS for option in answer.options):
        return "At no rate drawn does another option that meets the limits cost less."
    return "No other option is known to meet the limits."


def _sure(answer: Answer) -> str:
    if answer.stable:
        return "The choice holds everywhere inside the assumed ranges."
    because = f": {answer.unstable_because}" if answer.unstable_because else ""
    return f"The choice is not settled{because}."


def _none(answer: Answer) -> tuple[str, str, str]:
    first = next((option for option in answer.options if standing(option, answer.objectives) == LATENCY_UNKNOWN), None)
    near = next((option for option in answer.options if standing(option, answer.objectives) == MISSES), None)
    start = "No option is known to meet the limits, so none is recommended."
    if not answer.options:
        return start, "Nothing is left to compare.", "Tick more models or ways to run them."
    if first is not None and first.monthly_usd is not None:
        unknown_figures = " and ".join(unknown(first, answer.objectives))
        second = (
            f"The cheapest whose {unknown_figures} is not known is {first.title}, at "
            f"{amount(first.monthly_usd)} a month."
        )
        return start, second, "Measure it in the playground, or enter its times, and it can be ranked."
    if near is not None and near.monthly_usd is not None:
        second = (
            f"The cheapest that misses one is {near.title}, at {amount(near.monthly_usd)} a month: {near.misses[0]}."
        )
        wins = f"It would do with {near.would_win}." if near.would_win else "Loosen that limit to choose it."
        return start, second, wins
    reason = (answer.options[0].infeasible or "its price is not known").rstrip(".")
    second = f"{answer.options[0].title}: {reason}."
    return start, second, "Change the workload, the models or the machines it may run on."
