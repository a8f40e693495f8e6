"""The ways that are paid by the token: Anthropic, OpenAI, Bedrock on demand and its tiers.

Each model is an option as it is, with the prompt cache, with the batch price for the share that may wait, and with
both. A discount is counted only where a list has its price (`services.calculator.tokens`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime

from services.calculator import api_quota, api_times, shape, token_cost, tokens
from services.calculator import assumptions as given
from services.calculator.api_times import Measured
from services.calculator.assumptions import Assumptions
from services.calculator.catalog import Catalog
from services.calculator.catalog_rows import ApiModel
from services.calculator.token_cost import CachePlan
from services.calculator.tokens import Cost, Rates, TokenPrice
from services.calculator.types import Fact, Objectives, Option, Range, Workload

TIERS = ("flex", "priority")


@dataclass(frozen=True, slots=True)
class Case:
    """All that the options of one model share."""

    workload: Workload
    objectives: Objectives
    assumptions: Assumptions
    catalog: Catalog
    measured: Measured | None
    day: date
    api: ApiModel


def options(
    workload: Workload,
    objectives: Objectives,
    assumptions: Assumptions,
    catalog: Catalog,
    measured: Measured | None = None,
    *,
    today: date | None = None,
) -> list[Option]:
    """Every option that is paid by the token, unranked. ``measured``: own speeds by "way/model_ref" or model_ref."""
    day = today or datetime.now(UTC).date()
    models = looked_at(objectives, assumptions)
    return [
        option
        for api in catalog.api_models
        if assumptions.ways is None or api.way in assumptions.ways
        if models is None or api.family in models
        for option in _of_model(Case(workload, objectives, assumptions, catalog, measured, day, api))
    ]


def looked_at(objectives: Objectives, assumptions: Assumptions) -> tuple[str, ...] | None:
    """The catalogue ids that are compared: those judged good enough, else those chosen; None: all."""
    return assumptions.models if objectives.models is None else objectives.models


def price(api: ApiModel, assumptions: Assumptions, day: date, context: str = "standard") -> TokenPrice | None:
    """A model's price in one context, the user's own over the list's; None: not known."""
    listed = tokens.price(api.provider, api.model_ref, day, context, assumptions.region)
    own = given.token_price(assumptions, api.way, api.model_ref)
    if own is None or context in TIERS:
        return listed
    if context == "batch":
        if own.batch_input is None or own.batch_output is None:
            return listed
        return TokenPrice(Rates(own.batch_input, own.batch_output), "your own price", day.isoformat(),
                          api.model_ref, context, kind="yours")  # fmt: skip
    base = _over(own, None if listed is None else listed.base)
    tiers = () if listed is None else listed.tiers
    if own.above is not None and own.long_input is not None and own.long_output is not None:
        tiers = ((own.above, Rates(own.long_input, own.long_output)),)
    return TokenPrice(base, "your own price", day.isoformat(), api.model_ref, context, tiers, "yours")


def _over(own: given.TokenPrice, listed: Rates | None) -> Rates:
    known = listed or Rates(own.input, own.output)
    return Rates(
        own.input, own.output,
        own.cache_read if own.cache_read is not None else known.cache_read,
        own.cache_write_5m if own.cache_write_5m is not None else known.cache_write_5m,
        own.cache_write_1h if own.cache_write_1h is not None else known.cache_write_1h,
    )  # fmt: skip


def _of_model(case: Case) -> Iterator[Option]:
    standard = price(case.api, case.assumptions, case.day)
    if standard is None:
        yield _unpriced(case)
        return
    wanted = case.workload.batch_share > 0
    batch = price(case.api, case.assumptions, case.day, "batch") if wanted else None
    plan = token_cost.plan(case.workload, standard, token_cost.floor(case.api.way, case.api.model_ref))
    for cached in (False, True) if plan.ttl else (False,):
        yield _option(case, standard, None, plan, cached)
        if batch is not None:
            yield _option(case, standard, batch, plan, cached)
    for tier in TIERS:
        found = price(case.api, case.assumptions, case.day, tier)
        if found is not None:
            own_plan = token_cost.plan(case.workload, found, token_cost.floor(case.api.way, case.api.model_ref))
            yield _option(case, found, batch, own_plan, own_plan.pays)


def _name(api: ApiModel, tier: str, cached: bool, batched: bool) -> tuple[str, str]:
    tails = (f"+{tier}" if tier in TIERS else "", "+cache" if cached else "", "+batch" if batched else "")
    named = ((f"{tier} tier", tier in TIERS), ("cache", cached), ("batch", batched))
    said = [word for word, yes in named if yes]
    return f"{api.way}/{api.model_ref}{''.join(tails)}", ", ".join([api.title, *said])


def _option(case: Case, rates: TokenPrice, batch: TokenPrice | None, plan: CachePlan, cached: bool) -> Option:
    workload, api = case.workload, case.api
    identity, title = _name(api, rates.context, cached, batch is not None)
    money = _money(workload, rates, batch, plan if cached else None)
    speed_ref = api.model_ref if rates.context == "standard" else f"{api.model_ref}+{rates.context}"
    speed = api_times.find(api.way, speed_ref, case.assumptions, case.catalog, case.measured)
    none_waits = batch is not None and workload.batch_share >= 1  # then no request has a limit to miss
    times = api_times.of(speed, workload.output_tokens, case.objectives)
    now = 1 - workload.batch_share if batch is not None else 1.0
    quota = api_quota.of(api, workload, case.assumptions, case.catalog, now)
    monthly = None if money is None else money.monthly
    per_month = shape.requests_a_month(workload)
    all_tokens = (tokens.mean(workload.input_tokens) + tokens.mean(workload.output_tokens)) * per_month / 1e6
    infeasible = _impossible(case) or quota.infeasible
    if money is None and infeasible is None:
        infeasible = "The price of requests of this length is not known."
    return Option(
        id=identity, way=api.way, title=title, model=api.family, cached=cached, batched=batch is not None,
        monthly_usd=monthly, per_1000_usd=_per(monthly, per_month / 1000), per_mtok_usd=_per(monthly, all_tokens),
        ttft_p50_s=times.ttft_p50, ttft_p95_s=times.ttft_p95, ttlt_p50_s=times.ttlt_p50, ttlt_p95_s=times.ttlt_p95,
        timed=times.timed, utilisation=quota.used, replicas=None, full_at_rpm=quota.full_at_rpm,
        largest_output=times.largest, drivers={} if money is None else money.drivers,
        misses=(*(() if none_waits else api_times.misses(times, case.objectives)), *_shared(case.objectives)),
        infeasible=infeasible,
        missing=(*(() if none_waits else times.missing), *quota.missing, *_unknown(case, rates, batch, cached)),
        would_win=None, facts=(*_facts(case, rates, batch, plan), *times.facts, *quota.facts),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars a month, and their ``drivers``, which sum to the middle of the range."""

    monthly: Range
    drivers: dict[str, float]


def _money(workload: Workload, rates: TokenPrice, batch: TokenPrice | None, plan: CachePlan | None) -> Money | None:
    """The month. Hits inside a batch are best effort, so its share counts none; ``low`` is what it is with them."""
    lengths = (workload.input_tokens, workload.output_tokens)
    prefix, hit, ttl = (plan.share, plan.hit, plan.ttl or "5m") if plan else (0.0, 0.0, "5m")
    one = tokens.mean_cost(rates, *lengths, prefix, hit, ttl)
    later = None if batch is None else tokens.mean_cost(batch, *lengths)
    if one is None or (batch is not None and later is None):
        return None
    per_month = shape.requests_a_month(workload)
    waiting = per_month * workload.batch_share if later is not None else 0.0
    drivers = {name: usd * (per_month - waiting) for name, usd in one.drivers().items()}
    if batch is None or later is None:
        return Money(_flat(sum(drivers.values())), drivers)
    drivers["batch"] = later.usd * waiting
    total = sum(drivers.values())
    hits = tokens.mean_cost(batch, *lengths, prefix, hit, ttl) if prefix else None
    saved = max(0.0, later.usd - hits.usd) * waiting if hits is not None else 0.0
    return Money(Range(total - saved, total, total), drivers)


def request_cost(workload: Workload, rates: TokenPrice) -> Cost | None:
    """The mean request at the plain price: what an hourly price is held against; None: not known."""
    return tokens.mean_cost(rates, workload.input_tokens, workload.output_tokens)


def _flat(value: float) -> Range:
    return Range(value, value, value)


def _per(monthly: Range | None, count: float) -> Range | None:
    if monthly is None or count <= 0:
        return None
    return Range(monthly.low / count, monthly.mid / count, monthly.high / count)


def _impossible(case: Case) -> str | None:
    """Why the service cannot do it at all; None: it can."""
    api, workload = case.api, case.workload
    if case.objectives.own_weights:
        return "A model of your own cannot be called here by the token."
    length = workload.input_tokens.median + workload.output_tokens.median
    if api.max_context is not None and length > api.max_context:
        return f"Requests of {length:,.0f} tokens are longer than the context of {api.max_context:,}."
    if api.max_output is not None and workload.output_tokens.median > api.max_output:
        return f"Answers of {workload.output_tokens.median:,.0f} tokens are longer than it gives ({api.max_output:,})."
    return None


def _shared(objectives: Objectives) -> tuple[str, ...]:
    return ("Its machines are shared with other customers.",) if objectives.isolated else ()


def _unknown(case: Case, rates: TokenPrice, batch: TokenPrice | None, cached: bool) -> tuple[str, ...]:
    found = []
    # Said once a model: where a batch price exists, the option with it stands beside this one.
    if case.workload.batch_share > 0 and batch is None and price(case.api, case.assumptions, case.day, "batch") is None:
        found.append("No list has a batch price for this model here, so no discount is counted for what may wait.")
    if cached and token_cost.floor(case.api.way, case.api.model_ref).tokens is None:
        found.append("The shortest prefix that this model caches is not known; a shorter one costs the full price.")
    long = tokens.p95(case.workload.input_tokens) + tokens.p95(case.workload.output_tokens)
    if case.api.max_context is not None and long > case.api.max_context:
        found.append(f"The longest requests do not fit into the context of {case.api.max_context:,} tokens.")
    return tuple(found)


def _facts(case: Case, rates: TokenPrice, batch: TokenPrice | None, plan: CachePlan) -> Iterator[Fact]:
    tier = "" if rates.context == "standard" else f" ({rates.context} tier)"
    yield Fact(f"Token price{tier}", rates.words, rates.source, rates.date, rates.kind)
    if batch is not None:
        yield Fact("Batch price", batch.words, batch.source, batch.date, batch.kind)
    if case.workload.prefix_share > 0:
        floor = token_cost.floor(case.api.way, case.api.model_ref)
        yield Fact("Prompt cache", plan.sentence, token_cost.source(floor), floor.as_of, "estimated")


def _unpriced(case: Case) -> Option:
    """A model without a price stays listed, with the reason."""
    identity, title = _name(case.api, "standard", cached=False, batched=False)
    where = f" in {case.assumptions.region}" if case.assumptions.region else ""
    return Option(
        id=identity, way=case.api.way, title=title, model=case.api.family, cached=False, batched=False,
        monthly_usd=None, per_1000_usd=None, per_mtok_usd=None, ttft_p50_s=None, ttft_p95_s=None, ttlt_p50_s=None,
        ttlt_p95_s=None, timed="not known", utilisation=None, replicas=None, full_at_rpm=None, largest_output=None,
        drivers={}, misses=(), infeasible=f"No price list has this model{where}: enter its price to compare it.",
        missing=(), would_win=None, facts=(),
    )  # fmt: skip
