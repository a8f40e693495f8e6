"""The ways that are paid by the token: how fast a service answers, what an account may ask of it, and each option.

Each model is an option as it is, with the prompt cache, with the batch price for the share that may wait, and with
both. A discount is counted only where a list has its price (`services.calculator.token_cost`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from services.calculator import assumptions as given
from services.calculator import queueing, token_cost
from services.calculator.assumptions import AccountQuota, ApiModel, ApiSpeed, Assumptions
from services.calculator.catalog import Catalog
from services.calculator.token_cost import CachePlan, Cost, Rates, TokenPrice
from services.calculator.types import Fact, Objectives, Option, Range, Spread, Way, Workload

TIERS = ("flex", "priority")

Measured = Mapping[str, ApiSpeed]  # by "way/model_ref" or model_ref


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
    listed = token_cost.price(api.provider, api.model_ref, day, context, assumptions.region)
    own = given.token_price(assumptions, api.way, api.model_ref)
    if own is None or context in TIERS:
        return listed
    if context == "batch":
        if own.batch_input is None or own.batch_output is None:
            return listed
        return TokenPrice(
            Rates(own.batch_input, own.batch_output),
            "your own price",
            day.isoformat(),
            api.model_ref,
            context,
            kind="yours",
        )
    base = _over(own, None if listed is None else listed.base)
    tiers = () if listed is None else listed.tiers
    if own.above is not None and own.long_input is not None and own.long_output is not None:
        tiers = ((own.above, Rates(own.long_input, own.long_output)),)
    return TokenPrice(base, "your own price", day.isoformat(), api.model_ref, context, tiers, "yours")


def _over(own: given.TokenPrice, listed: Rates | None) -> Rates:
    listed_rates = listed or Rates(own.input, own.output)
    return Rates(
        own.input,
        own.output,
        own.cache_read if own.cache_read is not None else listed_rates.cache_read,
        own.cache_write_5m if own.cache_write_5m is not None else listed_rates.cache_write_5m,
        own.cache_write_1h if own.cache_write_1h is not None else listed_rates.cache_write_1h,
    )


def _of_model(case: Case) -> Iterator[Option]:
    standard = price(case.api, case.assumptions, case.day)
    if standard is None:
        yield _unpriced(case)
        return
    in_batch = case.workload.batch_share > 0
    batch = price(case.api, case.assumptions, case.day, "batch") if in_batch else None
    plan = token_cost.plan(case.workload, standard, token_cost.floor(case.api.way, case.api.model_ref))
    for cached in (False, True) if plan.ttl else (False,):
        yield _option(case, standard, None, plan, cached)
        if batch is not None:
            yield _option(case, standard, batch, plan, cached)
    for tier in TIERS:
        listed_price = price(case.api, case.assumptions, case.day, tier)
        if listed_price is not None:
            own_plan = token_cost.plan(case.workload, listed_price, token_cost.floor(case.api.way, case.api.model_ref))
            yield _option(case, listed_price, batch, own_plan, own_plan.pays)


def _name(api: ApiModel, tier: str, cached: bool, batched: bool) -> tuple[str, str]:
    tails = (f"+{tier}" if tier in TIERS else "", "+cache" if cached else "", "+batch" if batched else "")
    named = ((f"{tier} tier", tier in TIERS), ("cache", cached), ("batch", batched))
    words = [word for word, yes in named if yes]
    return f"{api.way}/{api.model_ref}{''.join(tails)}", ", ".join([api.title, *words])


def _option(case: Case, rates: TokenPrice, batch: TokenPrice | None, plan: CachePlan, cached: bool) -> Option:
    workload, api = case.workload, case.api
    identity, title = _name(api, rates.context, cached, batch is not None)
    money = _money(workload, rates, batch, plan if cached else None)
    speed_ref = api.model_ref if rates.context == "standard" else f"{api.model_ref}+{rates.context}"
    speed = find(api.way, speed_ref, case.assumptions, case.catalog, case.measured)
    none_waits = batch is not None and workload.batch_share >= 1  # then no request has a limit to miss
    times = times_of(speed, workload.output_tokens, case.objectives)
    now = 1 - workload.batch_share if batch is not None else 1.0
    quota = quota_of(api, workload, case.assumptions, case.catalog, now)
    monthly = None if money is None else money.monthly
    per_month = queueing.requests_a_month(workload)
    all_tokens = (token_cost.mean(workload.input_tokens) + token_cost.mean(workload.output_tokens)) * per_month / 1e6
    infeasible = _impossible(case) or quota.infeasible
    if money is None and infeasible is None:
        infeasible = "The price of requests of this length is not known."
    return Option(
        id=identity,
        way=api.way,
        title=title,
        model=api.family,
        cached=cached,
        batched=batch is not None,
        monthly_usd=monthly,
        per_1000_usd=_per(monthly, per_month / 1000),
        per_mtok_usd=_per(monthly, all_tokens),
        ttft_p50_s=times.ttft_p50,
        ttft_p95_s=times.ttft_p95,
        ttlt_p50_s=times.ttlt_p50,
        ttlt_p95_s=times.ttlt_p95,
        timed=times.timed,
        utilisation=quota.used,
        replicas=None,
        full_at_rpm=quota.full_at_rpm,
        largest_output=times.largest,
        drivers={} if money is None else money.drivers,
        misses=(*(() if none_waits else misses(times, case.objectives)), *_shared(case.objectives)),
        infeasible=infeasible,
        missing=(*(() if none_waits else times.missing), *quota.missing, *_unknown(case, rates, batch, cached)),
        would_win=None,
        facts=(*_facts(case, rates, batch, plan), *times.facts, *quota.facts),
    )


@dataclass(frozen=True, slots=True)
class Money:
    """US dollars a month, and their ``drivers``, which sum to the middle of the range."""

    monthly: Range
    drivers: dict[str, float]


def _money(workload: Workload, rates: TokenPrice, batch: TokenPrice | None, plan: CachePlan | None) -> Money | None:
    """The month. Hits inside a batch are best effort, so its share counts none; ``low`` is what it is with them."""
    lengths = (workload.input_tokens, workload.output_tokens)
    prefix, hit, ttl = (plan.share, plan.hit, plan.ttl or "5m") if plan else (0.0, 0.0, "5m")
    mean_cost = token_cost.mean_cost(rates, *lengths, prefix, hit, ttl)
    later = None if batch is None else token_cost.mean_cost(batch, *lengths)
    if mean_cost is None or (batch is not None and later is None):
        return None
    per_month = queueing.requests_a_month(workload)
    waiting = per_month * workload.batch_share if later is not None else 0.0
    drivers = {name: usd * (per_month - waiting) for name, usd in mean_cost.drivers().items()}
    if batch is None or later is None:
        return Money(_flat(sum(drivers.values())), drivers)
    drivers["batch"] = later.usd * waiting
    total = sum(drivers.values())
    hits = token_cost.mean_cost(batch, *lengths, prefix, hit, ttl) if prefix else None
    saved = max(0.0, later.usd - hits.usd) * waiting if hits is not None else 0.0
    return Money(Range(total - saved, total, total), drivers)


def request_cost(workload: Workload, rates: TokenPrice) -> Cost | None:
    """The mean request at the plain price: what an hourly price is held against; None: not known."""
    return token_cost.mean_cost(rates, workload.input_tokens, workload.output_tokens)


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
    options = []
    # Said once a model: where a batch price exists, the option with it stands beside this one.
    if case.workload.batch_share > 0 and batch is None and price(case.api, case.assumptions, case.day, "batch") is None:
        options.append("No list has a batch price for this model here, so no discount is counted for what may wait.")
    if cached and token_cost.floor(case.api.way, case.api.model_ref).tokens is None:
        options.append("The shortest prefix that this model caches is not known; a shorter one costs the full price.")
    long = token_cost.p95(case.workload.input_tokens) + token_cost.p95(case.workload.output_tokens)
    if case.api.max_context is not None and long > case.api.max_context:
        options.append(f"The longest requests do not fit into the context of {case.api.max_context:,} tokens.")
    return tuple(options)


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
    region_words = f" in {case.assumptions.region}" if case.assumptions.region else ""
    return Option(
        id=identity,
        way=case.api.way,
        title=title,
        model=case.api.family,
        cached=False,
        batched=False,
        monthly_usd=None,
        per_1000_usd=None,
        per_mtok_usd=None,
        ttft_p50_s=None,
        ttft_p95_s=None,
        ttlt_p50_s=None,
        ttlt_p95_s=None,
        timed="not known",
        utilisation=None,
        replicas=None,
        full_at_rpm=None,
        largest_output=None,
        drivers={},
        misses=(),
        infeasible=f"No price list has this model{region_words}: enter its price to compare it.",
        missing=(),
        would_win=None,
        facts=(),
    )


NOT_KNOWN = "Latency not known: measure it in the playground."

LONGEST = 10_000_000  # tokens; beyond any model's output


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
    speeds = measured or {}
    own = given.api_speed(assumptions, way, ref)
    return own or speeds.get(f"{way}/{ref}") or speeds.get(ref) or catalog.speed(way, ref)


def times_of(speed: ApiSpeed | None, output: Spread, objectives: Objectives) -> Times:
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
        _exactly(first),
        _exactly(first95),
        _exactly(last),
        last95,
        source,
        _largest(speed, objectives.ttlt_s),
        tuple(gap for gap in gaps if gap),
        (Fact("Speed", _words(speed), speed.source, speed.date, speed.kind),),
    )


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
    long = (token_cost.p95(output) - output.median) / speed.tok_s_p50
    mid = usual + math.hypot(late, slow, long)
    high = speed.ttft_p95_s + token_cost.p95(output) / min(speed.tok_s_p10, speed.tok_s_p50)
    return Range(usual + max(late, slow, long), mid, max(high, mid))


def _largest(speed: ApiSpeed, limit: float | None) -> int | None:
    """The longest answer whose last token arrives inside the limit at p95; None: no limit, or not known."""
    if limit is None or _last_p95(speed, Spread(1.0)) is None:
        return None
    low, high = 0, LONGEST
    while low < high:
        middle = (low + high + 1) // 2
        p95 = _last_p95(speed, Spread(float(middle)))
        low, high = (middle, high) if p95 is not None and p95.mid <= limit else (low, middle - 1)
    return low


def _words(speed: ApiSpeed) -> str:
    parts = (
        (speed.ttft_p50_s, "first token {:g} s at p50"),
        (speed.ttft_p95_s, "{:g} s at p95"),
        (speed.tok_s_p50, "{:g} tokens a second at p50"),
        (speed.tok_s_p10, "{:g} at p10"),
    )
    return ", ".join(words.format(value) for value, words in parts if value is not None)


@dataclass(frozen=True, slots=True)
class Held:
    """A workload held against an account's limits. ``used``: share of them in the busiest hour. ``full_at_rpm``: the
    mean rate of the shape at which they are reached. A default that can be raised is a warning, a limit that the user
    stated is final."""

    used: Range | None = None
    full_at_rpm: float | None = None
    infeasible: str | None = None
    missing: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


def quota_of(api: ApiModel, workload: Workload, assumptions: Assumptions, catalog: Catalog, now: float = 1.0) -> Held:
    """The limits that hold for the share ``now`` of the requests (those in batches have limits of their own)."""
    own, default = given.quota(assumptions, api.way, api.model_ref), catalog.quota(api.way, api.model_ref)
    if own is not None:
        limits, name = AccountQuota(api.way, api.model_ref, own.rpm, own.tpm, source="yours"), "Your quota"
    elif default is not None:
        limits, name = default, "The published default quota"
    else:
        return Held()
    most_requests = most_rpm(workload, limits)
    factor = queueing.peak(workload) * now
    if most_requests is None or factor <= 0:
        return Held()
    peak = workload.rpm * factor
    used = peak / most_requests if most_requests > 0 else float("inf")
    kind = "yours" if own is not None else "list"
    fact = Fact("Quota", f"{most_requests:,.4g} requests a minute of these lengths", limits.source, limits.date, kind)
    utilisation = Held(Range(used, used, used), most_requests / factor, facts=(fact,))
    if peak <= most_requests:
        return utilisation
    sentence = (
        f"{name} carries {most_requests:,.4g} requests a minute of these lengths, and the busiest hour has {peak:,.4g}"
    )
    if own is not None:
        return Held(utilisation.used, utilisation.full_at_rpm, f"{sentence}: ask for a higher one.", (), (fact,))
    return Held(
        utilisation.used,
        utilisation.full_at_rpm,
        None,
        (f"{sentence}: ask for a higher one before you rely on it.",),
        (fact,),
    )


def most_rpm(workload: Workload, limits: AccountQuota) -> float | None:
    """Requests a minute that all limits allow; None: there is no limit.

    Bedrock sets aside the longest answer (taken as the p95) when a request starts, and settles with the real one. Input
    from a cache is counted like other input: where a service does not count it, more is possible.
    """
    input_tokens, output_tokens = token_cost.mean(workload.input_tokens), token_cost.mean(workload.output_tokens)
    weighed = output_tokens * limits.output_weight
    if limits.way is Way.BEDROCK:
        weighed = max(weighed, token_cost.p95(workload.output_tokens))
    apart = ((limits.tpm, input_tokens + weighed), (limits.input_tpm, input_tokens), (limits.output_tpm, output_tokens))
    shares = [limit / rate for limit, rate in apart if limit is not None]
    return min([*shares, *([] if limits.rpm is None else [limits.rpm])], default=None)
