"""One self-hosted option: a model served in one way on one kind of machine, as a fleet that carries the day."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from services.calculator import memory, queueing, shape, token_cost
from services.calculator.assumptions import Assumptions, discount
from services.calculator.catalog_rows import Instance
from services.calculator.types import FLAT, HOURS_A_MONTH, Fact, Objectives, Option, Range, Serving, Way, Workload

FULLEST = 0.85  # of what a replica can carry at all: above it waits grow without measure
PLACES = {Way.EC2: "EC2 ", Way.SAGEMAKER: "SageMaker ", Way.CONTAINER: ""}


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance at the price that is paid for it. ``note``: the discount in it, if any."""

    row: Instance
    usd_per_hour: float
    note: str | None
    kind: str  # "list" or "yours"


@dataclass(frozen=True, slots=True)
class Sized:
    """A serving with what one replica of it carries; ``capacity.mid`` 0 and ``meets`` False: an objective is never
    held, and ``capacity`` is then what it carries regardless."""

    serving: Serving
    capacity: Range
    full: Range
    meets: bool
    cached_share: float


def machine(row: Instance, workload: Workload, given: Assumptions) -> Machine:
    """The instance at its own, discounted or listed price."""
    own = given.instance_prices.get(row.name)
    share, note = discount(given, row.name, workload.months)
    return Machine(
        row, (row.usd_per_hour if own is None else own) * (1 - share), note, "list" if own is None else "yours"
    )


def size(serving: Serving, workload: Workload, objectives: Objectives, given: Assumptions) -> Sized | None:
    """What one replica carries; None when it does not fit into memory."""
    share = cached_share(serving, workload) if given.self_host_cache else 0.0
    plain = replace(workload, rpm=1.0, shape=FLAT, batch_share=0.0, months=0, peak_concurrency=None, prefix_share=0.0)
    limits = Objectives(ttft_s=objectives.ttft_s, ttlt_s=objectives.ttlt_s)
    return _size(serving, plain, limits, share)


def cached_share(serving: Serving, workload: Workload) -> float:
    """In steps of 5 %, so that what was computed for one rate serves for its neighbours."""
    if workload.prefix_share <= 0:
        return 0.0
    inputs, outputs = queueing.mean(workload.input_tokens), queueing.mean(workload.output_tokens)
    held = memory.of(serving, inputs, outputs)
    spare = held.slots / 2  # half of the cache is left to prefixes at the load a fleet is sized for
    kept = token_cost.self_hosted(workload, spare)
    return math.floor(20 * kept.cached / max(1.0, workload.input_tokens.median)) / 20


@lru_cache(maxsize=8192)
def _size(serving: Serving, workload: Workload, limits: Objectives, share: float) -> Sized | None:
    inputs, outputs = workload.input_tokens, workload.output_tokens
    traffic = queueing.traffic_of(inputs, outputs, share, workload.burstiness)
    three = queueing.lines(serving, traffic.input, traffic.output, traffic.cached, outputs.sigma)
    if three is None:
        return None
    fulls = sorted(line.full * 60 for line in three)
    full = Range(*fulls)
    most = Range(*(FULLEST * rate for rate in fulls))
    if limits.ttft_s is None and limits.ttlt_s is None:
        return Sized(serving, most, full, True, share)
    held = queueing.capacity_rpm(serving, workload, limits, share)
    if held.mid <= 0:
        return Sized(serving, most, full, False, share)
    kept = Range(min(held.low, most.low), min(held.mid, most.mid), min(held.high, most.high))
    return Sized(serving, kept, full, True, share)


def monthly(sized: Sized, place: Machine, workload: Workload, objectives: Objectives, given: Assumptions) -> Range:
    """US dollars a month. A slow case that never holds the objectives is priced by what it carries regardless."""
    slow = sized.capacity.low if sized.capacity.low > 0 else min(sized.capacity.mid, FULLEST * sized.full.low)
    each = [
        _cost(counts_of(sized, rate, place, workload, objectives, given), sized, place, given)
        for rate in (sized.capacity.high, sized.capacity.mid, slow)
    ]
    return Range(*each)


def counts_of(
    sized: Sized, capacity_rpm: float, place: Machine, workload: Workload, objectives: Objectives, given: Assumptions
) -> tuple[int, ...] | None:
    """Replicas by the hour at a capacity."""
    step = max(1, place.row.count // sized.serving.tp)
    least = least_machines(sized, place, workload, objectives)
    return shape.replicas(
        shape.sized_rates(workload), capacity_rpm, headroom=given.headroom, least=least, step=step,
        autoscale=given.autoscale,
    )  # fmt: skip


def least_machines(sized: Sized, place: Machine, workload: Workload, objectives: Objectives) -> int:
    """Machines that have to stand at any rate: for availability, and for the concurrency asked for."""
    least = max(1, objectives.replicas)
    if workload.peak_concurrency is None:
        return least
    step = max(1, place.row.count // sized.serving.tp)
    inputs, outputs = queueing.mean(workload.input_tokens), queueing.mean(workload.output_tokens)
    at_once = max(1, memory.of(sized.serving, inputs, outputs).sequences)
    return max(least, math.ceil(workload.peak_concurrency / (at_once * step)))


def _cost(counts: tuple[int, ...] | None, sized: Sized, place: Machine, given: Assumptions) -> float:
    if counts is None:
        return math.inf
    step = max(1, place.row.count // sized.serving.tp)
    hours = shape.replica_hours(counts, given.cold_start_min if given.autoscale else 0.0)
    return hours * place.usd_per_hour / step * (1 + given.ops_share)


def option(sized: Sized, place: Machine, workload: Workload, objectives: Objectives, given: Assumptions) -> Option:
    """The whole option, with its times at the busiest hour."""
    counts = counts_of(sized, sized.capacity.mid, place, workload, objectives, given)
    assert counts is not None  # the capacity of what fits is above 0
    rates = shape.sized_rates(workload)
    hour = max(range(len(rates)), key=lambda at: rates[at] / counts[at])
    busiest = rates[hour] / counts[hour]
    times = queueing.quantiles(
        sized.serving, busiest, workload.input_tokens, workload.output_tokens, sized.cached_share, workload.burstiness
    )
    assert times is not None
    usd = monthly(sized, place, workload, objectives, given)
    step = max(1, place.row.count // sized.serving.tp)
    mean_rate = sum(rates) / sum(counts)
    largest = (
        queueing.largest_output(
            sized.serving, busiest, workload.input_tokens, workload.output_tokens, objectives.ttlt_s,
            sized.cached_share, workload.burstiness,
        )
        if objectives.ttlt_s is not None
        else None
    )  # fmt: skip
    return Option(
        id=_id(place.row, sized.serving),
        way=place.row.way,
        title=_title(place, sized.serving),
        model=sized.serving.llm.name,
        cached=sized.cached_share > 0,
        batched=workload.batch_share > 0,
        monthly_usd=usd,
        per_1000_usd=_scaled(usd, 1000 / shape.requests_a_month(workload)),
        per_mtok_usd=_scaled(usd, 1e6 / (shape.requests_a_month(workload) * _tokens(workload))),
        ttft_p50_s=times.ttft_p50_s,
        ttft_p95_s=times.ttft_p95_s,
        ttlt_p50_s=times.ttlt_p50_s,
        ttlt_p95_s=times.ttlt_p95_s,
        timed="estimated",
        utilisation=Range(*(mean_rate / full for full in (sized.full.high, sized.full.mid, sized.full.low))),
        replicas=counts,
        full_at_rpm=workload.rpm * max(counts) * sized.capacity.mid / max(rates),
        largest_output=largest,
        drivers={"hours": usd.mid},
        misses=_misses(times, objectives, largest),
        infeasible=None,
        missing=_missing(sized),
        would_win=None,
        facts=_facts(sized, place, given),
        hourly_usd=place.usd_per_hour / step,
        serving=sized.serving,
        capacity_rpm=sized.capacity,
        replicas_a_machine=step,
        least_replicas=step * least_machines(sized, place, workload, objectives),
        headroom=given.headroom,
    )


def _id(row: Instance, serving: Serving) -> str:
    return f"{row.way}/{row.name}/{serving.llm.name}/{serving.precision}/tp{serving.tp}"


NO_BF16 = ("T4", "V100")


def _title(place: Machine, serving: Serving) -> str:
    spread = f", TP {serving.tp}" if serving.tp > 1 else ""
    note = f", {place.note}" if place.note else ""
    # Before Ampere there is no bfloat16: vLLM then wants --dtype half, as wide and as fast.
    number = "fp16" if serving.gpu.name.startswith(NO_BF16) and serving.precision == "bf16" else str(serving.precision)
    return f"{serving.llm.name}, {PLACES.get(place.row.way, '')}{place.row.name}, {number}{spread}, vLLM{note}"


def _tokens(workload: Workload) -> float:
    return queueing.mean(workload.input_tokens) + queueing.mean(workload.output_tokens)


def _scaled(value: Range, factor: float) -> Range:
    return Range(value.low * factor, value.mid * factor, value.high * factor)


def _misses(times: queueing.Quantiles, objectives: Objectives, largest: int | None) -> tuple[str, ...]:
    found: list[str] = []
    if objectives.ttft_s is not None and times.ttft_p95_s.mid > objectives.ttft_s:
        found.append(f"first token: {_s(times.ttft_p95_s.mid)} at p95, the limit is {objectives.ttft_s:g} s")
    if objectives.ttlt_s is not None and times.ttlt_p95_s.mid > objectives.ttlt_s:
        fits = f"at most {largest:,} tokens fit in" if largest else "no answer fits in"
        found.append(f"last token: {_s(times.ttlt_p95_s.mid)} at p95, {fits} {objectives.ttlt_s:g} s")
    return tuple(found)


def _missing(sized: Sized) -> tuple[str, ...]:
    if sized.meets and sized.capacity.low <= 0:
        gpu = sized.serving.gpu.name
        return (f"At the slow end of the assumed efficiency of the {gpu} it misses the limits at any load.",)
    return ()


def _s(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


def _facts(sized: Sized, place: Machine, given: Assumptions) -> tuple[Fact, ...]:
    row, gpu, llm = place.row, sized.serving.gpu, sized.serving.llm
    price = f"${place.usd_per_hour:,.4g} an hour" + (f" ({place.note})" if place.note else "")
    kind = "yours" if place.note or place.kind == "yours" else "list"
    yours = "yours" if sized.serving.efficiency is not None else "estimated"
    return (
        Fact(f"{row.name} price", price, "yours" if kind == "yours" else row.source, row.date, kind),
        Fact(gpu.name, f"{gpu.memory_gib:g} GiB, {gpu.bandwidth_gb_s:,.0f} GB/s", gpu.source, gpu.date, "list"),
        Fact(llm.name, f"{llm.params_b:g} B parameters", llm.source, llm.date, "list"),
        Fact("capacity of a replica", f"{sized.capacity.mid:,.0f} requests/min", "roofline of this page", "", yours),
        Fact("headroom", f"{given.headroom:.0%}", "assumed", "", "yours" if given.headroom != 0.2 else "estimated"),
        Fact("month", f"{HOURS_A_MONTH:g} hours", "AWS's own month", "", "list"),
    )
