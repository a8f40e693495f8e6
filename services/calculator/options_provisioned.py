"""Provisioned throughput: model units that are paid by the hour.

Bedrock publishes neither what a unit carries nor, for current models, what it costs. Such a unit is listed with what is
missing and with the figure at which it would win, never with a number of units that nobody knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, date, datetime

from services.calculator import options_api, queueing, token_cost
from services.calculator.assumptions import ApiModel, Assumptions, Unit
from services.calculator.catalog import Catalog
from services.calculator.options_api import Measured, Times, looked_at, price, request_cost
from services.calculator.token_cost import TokenPrice
from services.calculator.types import HOURS_A_MONTH, Fact, Objectives, Option, Range, Way, Workload

PROVIDER = "bedrock"
MONTHS = {"none": 0, "1-month": 1, "6-month": 6}
QUOTE_NEEDED = "AWS publishes no price of this unit: ask for a quote and enter it."
NO_CAPACITY = "A unit's capacity is not published: measure or ask AWS."
NOT_ALONE = "AWS does not promise that no other customer is on its machines."


@dataclass(frozen=True, slots=True)
class Priced:
    """A unit with what the user states of it. ``carries``: requests a minute of the workload's lengths that one unit
    carries, None: not known. ``on_demand``: US dollars a request of the same model by the token, None: no price."""

    unit: Unit
    usd_per_hour: float | None
    carries: float | None
    on_demand: float | None
    facts: tuple[Fact, ...]


def options(
    workload: Workload,
    objectives: Objectives,
    assumptions: Assumptions,
    catalog: Catalog,
    measured: Measured | None = None,
    *,
    today: date | None = None,
) -> list[Option]:
    """One option for each unit of the catalogue and each commitment, unranked."""
    if assumptions.ways is not None and Way.PROVISIONED not in assumptions.ways:
        return []
    day = today or datetime.now(UTC).date()
    models = looked_at(objectives, assumptions)
    return [
        _option(
            _priced(unit, workload, assumptions, day),
            workload,
            objectives,
            _times(unit, workload, objectives, assumptions, catalog, measured),
        )
        for unit in catalog.units
        if unit.provider == PROVIDER and (models is None or (unit.family or unit.model_id) in models)
    ]


def break_even_rpm(usd_per_hour: float, usd_per_request: float) -> float:
    """Requests a minute at which an hour costs as much as the requests made in it: $/h ÷ (60 · $/request)."""
    return usd_per_hour / (60 * usd_per_request)


def capacity_rpm(
    workload: Workload, input_tpm: float | None, output_tpm: float | None, rpm: float | None
) -> float | None:
    """Requests a minute that one unit carries; None: not known. One side of the tokens alone says too little."""
    if input_tpm is None or output_tpm is None:
        return rpm
    by_input = input_tpm / token_cost.mean(workload.input_tokens)
    by_output = output_tpm / token_cost.mean(workload.output_tokens)
    return min(by_input, by_output, math.inf if rpm is None else rpm)


def _priced(unit: Unit, workload: Workload, assumptions: Assumptions, day: date) -> Priced:
    own = assumptions.unit_prices
    own_rate = own.get(f"{unit.model_id}/{unit.commitment}", own.get(unit.model_id))
    usd = unit.usd_per_hour if own_rate is None else own_rate
    stated = [
        table.get(unit.model_id)
        for table in (assumptions.unit_input_tpm, assumptions.unit_output_tpm, assumptions.unit_rpm)
    ]
    carries = capacity_rpm(workload, stated[0] or unit.input_tpm, stated[1] or unit.output_tpm, stated[2])
    listed = _on_demand(unit, assumptions, day)
    cost = None if listed is None else request_cost(workload, listed)
    facts = []
    if usd is not None:
        note = f" ({unit.note})" if unit.note else ""
        source, dated, kind = (unit.source, unit.date, "list") if own_rate is None else ("your own price", "", "yours")
        facts.append(Fact("Price of a unit", f"${usd:,.2f} an hour{note}", source, dated, kind))
    if carries is not None:
        by_user = any(value is not None for value in stated)
        source, dated, kind = ("your own figure", "", "yours") if by_user else (unit.source, unit.date, "list")
        facts.append(Fact("Capacity of a unit", f"{carries:,.4g} requests a minute", source, dated, kind))
    if listed is not None:
        facts.append(Fact("On demand", listed.words, listed.source, listed.date, listed.kind))
    return Priced(unit, usd, carries, None if cost is None else cost.usd, tuple(facts))


def _on_demand(unit: Unit, assumptions: Assumptions, day: date) -> TokenPrice | None:
    api = ApiModel(Way.BEDROCK, "aws", unit.model_id, unit.title, unit.family)
    return price(api, assumptions, day)


def _times(
    unit: Unit,
    workload: Workload,
    objectives: Objectives,
    assumptions: Assumptions,
    catalog: Catalog,
    measured: Measured | None,
) -> Times:
    speed = options_api.find(Way.PROVISIONED, unit.model_id, assumptions, catalog, measured)
    return options_api.times_of(speed, workload.output_tokens, objectives)


def _option(it: Priced, workload: Workload, objectives: Objectives, times: Times) -> Option:
    busiest = max(queueing.sized_rates(workload))
    count = None if not it.carries else max(1, math.ceil(busiest / it.carries - 1e-9))
    complete = it.usd_per_hour is not None and count is not None
    monthly = (it.usd_per_hour or 0.0) * (count or 0) * HOURS_A_MONTH
    per_month = queueing.requests_a_month(workload)
    all_tokens = (token_cost.mean(workload.input_tokens) + token_cost.mean(workload.output_tokens)) * per_month / 1e6
    full = None if count is None or not it.carries else count * it.carries * workload.rpm / busiest
    share = None if full is None else workload.rpm / full * workload.rpm / busiest
    return Option(
        id=f"{Way.PROVISIONED}/{it.unit.model_id}/{it.unit.commitment}",
        way=Way.PROVISIONED,
        title=f"{it.unit.title}, provisioned, {_commitment(it.unit)}",
        model=it.unit.family or it.unit.model_id,
        cached=False,
        batched=False,
        monthly_usd=_flat(monthly) if complete else None,
        per_1000_usd=_flat(monthly / per_month * 1000) if complete else None,
        per_mtok_usd=_flat(monthly / all_tokens) if complete else None,
        ttft_p50_s=times.ttft_p50,
        ttft_p95_s=times.ttft_p95,
        ttlt_p50_s=times.ttlt_p50,
        ttlt_p95_s=times.ttlt_p95,
        timed=times.timed,
        utilisation=None if share is None else _flat(share),
        replicas=None if count is None else (count,) * queueing.HOURS,
        full_at_rpm=full,
        largest_output=times.largest,
        drivers={"hours": monthly} if complete else {},
        misses=(*options_api.misses(times, objectives), *_alone(objectives)),
        infeasible=_impossible(it, workload),
        missing=(*times.missing, *_unknown(it)),
        would_win=_would_win(it, workload, count, full),
        facts=(*it.facts, *times.facts),
        hourly_usd=it.usd_per_hour,
        capacity_rpm=None if not it.carries else _flat(it.carries),
    )


def _flat(value: float) -> Range:
    return Range(value, value, value)


def _commitment(unit: Unit) -> str:
    return "no commitment" if unit.commitment == "none" else f"{unit.commitment} commitment"


def _alone(objectives: Objectives) -> tuple[str, ...]:
    return (NOT_ALONE,) if objectives.isolated else ()


def _impossible(it: Priced, workload: Workload) -> str | None:
    months = MONTHS.get(it.unit.commitment)
    reasons = []
    if months is not None and months > workload.months:
        allowed = f"{workload.months} are allowed" if workload.months else "none is allowed"
        reasons.append(f"It needs a commitment of {months} month{'s' if months > 1 else ''}, and {allowed}.")
    if it.usd_per_hour is None:
        reasons.append(QUOTE_NEEDED)
    if not it.carries:
        reasons.append(NO_CAPACITY)
    return " ".join(reasons) or None


def _unknown(it: Priced) -> tuple[str, ...]:
    return (
        ("No list has a price of this model by the token, so no break-even is known.",) if it.on_demand is None else ()
    )


def _would_win(it: Priced, workload: Workload, count: int | None, full: float | None) -> str | None:
    """What would have to be true for units to cost less than the same model by the token; None: not known."""
    if not it.on_demand:
        return None
    by_token = it.on_demand * queueing.requests_a_month(workload) / HOURS_A_MONTH
    if it.usd_per_hour is None:
        units = f"{count} unit{'s' if count > 1 else ''}" if count else "all units together"
        return f"A quote below ${by_token:,.2f} an hour for {units} would beat the price by the token."
    if count is None:
        even = break_even_rpm(it.usd_per_hour, it.on_demand)
        return (
            f"One unit at ${it.usd_per_hour:,.2f} an hour pays above {even:,.1f} requests a minute of these lengths, "
            "if it can carry them."
        )
    even = break_even_rpm(it.usd_per_hour * count, it.on_demand)
    many = f"{count} unit{'s' if count > 1 else ''} at ${it.usd_per_hour:,.2f} an hour"
    if full is not None and even > full:
        return (
            f"{many} would pay above {even:,.1f} requests a minute, and carry {full:,.1f}: below "
            f"${it.usd_per_hour * full / even:,.2f} an hour a unit they would pay when full."
        )
    return f"{many} cost less than the price by the token above {even:,.1f} requests a minute."
