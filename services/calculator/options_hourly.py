"""The ways that cost by the hour: a model on EC2, SageMaker or a machine of one's own, as a fleet that carries the day.

Every kind of GPU × number of GPUs × tensor parallelism × precision (8-bit where the GPU computes in it, else 16-bit).
Of machines with the same GPUs only the cheapest is looked at (the others have more disk and memory, not more speed),
and a choice that cannot be cheaper than those already found is not computed. Kept of each model and way: the ``KEPT``
cheapest machines that meet the objectives and ``MISSED`` that does not, each with its best serving.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from services.aws.bedrock_ids import US_REGIONS
from services.calculator import memory, options_api, queueing, token_cost
from services.calculator import queueing as calculator_queueing
from services.calculator.assumptions import Assumptions, Instance, discount, efficiency_for
from services.calculator.catalog import Catalog
from services.calculator.memory import GIB
from services.calculator.options_api import Measured
from services.calculator.types import (
    FLAT,
    HOURS_A_MONTH,
    Fact,
    Gpu,
    Llm,
    Objectives,
    Option,
    Precision,
    Range,
    Serving,
    Way,
    Workload,
)

WAYS = (Way.EC2, Way.SAGEMAKER, Way.CONTAINER)

KEPT = 3

MISSED = 1

ROOMY = 32  # sequences at once

UNMODELLED = ("Inferentia", "Trainium")  # not served by the vLLM whose scheduler and kernels the formulas describe


@dataclass(frozen=True, slots=True)
class Machine:
    """An instance at the price that is paid for it. ``note``: the discount in it, if any."""

    row: Instance
    usd_per_hour: float
    note: str | None
    kind: str  # "list" or "yours"


def cached_share(serving: Serving, workload: Workload) -> float:
    """In steps of 5 %, so that what was computed for one rate serves for its neighbours."""
    if workload.prefix_share <= 0:
        return 0.0
    inputs, outputs = queueing.mean(workload.input_tokens), queueing.mean(workload.output_tokens)
    fit = memory.of(serving, inputs, outputs)
    spare = fit.slots / 2  # half of the cache is left to prefixes at the load a fleet is sized for
    cache = token_cost.self_hosted(workload, spare)
    return math.floor(20 * cache.cached / max(1.0, workload.input_tokens.median)) / 20


@dataclass(frozen=True, slots=True)
class Sized:
    """A serving with what one replica of it carries; ``capacity.mid`` 0 and ``meets`` False: an objective is never
    held, and ``capacity`` is then what it carries regardless."""

    serving: Serving
    capacity: Range
    full: Range
    meets: bool
    cached_share: float


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate with its monthly cost, which is enough to rank it among its kind."""

    usd: float
    sized: Sized
    place: Machine


def options(
    workload: Workload,
    objectives: Objectives,
    assumptions: Assumptions,
    catalog: Catalog,
    measured: Measured | None = None,
) -> list[Option]:
    """All self-hosted options worth showing, and those that cannot be, with the reason. ``measured``, and speeds of
    one's own: by option id or "way/instance/model"; they take the place of the estimated times."""
    groups = _groups(workload, assumptions, catalog)
    options: list[Option] = []
    for llm in models(objectives, assumptions, catalog):
        for way in WAYS:
            places = groups.get(way, [])
            if places and (assumptions.ways is None or way in assumptions.ways):
                options += _of_model(llm, places, workload, objectives, assumptions, catalog)
    speeds = {**(measured or {}), **assumptions.api_speeds}
    return [_timed(option, speeds, workload, objectives) for option in options]


def _timed(option: Option, speeds: Measured, workload: Workload, objectives: Objectives) -> Option:
    speed = speeds.get(option.id) or speeds.get("/".join(option.id.split("/")[:3]))
    # Without a measured p95 the estimate says more than the measurement does.
    if speed is None or option.infeasible is not None or speed.ttft_p95_s is None:
        return option
    times = options_api.times_of(speed, workload.output_tokens, objectives)
    return replace(
        option,
        ttft_p50_s=times.ttft_p50,
        ttft_p95_s=times.ttft_p95,
        ttlt_p50_s=times.ttlt_p50,
        ttlt_p95_s=times.ttlt_p95,
        timed=times.timed,
        largest_output=times.largest,
        misses=options_api.misses(times, objectives),
        missing=times.missing,
        facts=(*option.facts, *times.facts),
    )


def models(objectives: Objectives, assumptions: Assumptions, catalog: Catalog) -> list[Llm]:
    """The models looked at: those judged good enough, else those asked for, else those whose weights are also sold by
    the token (so that there is something to compare them with)."""
    names = objectives.models if objectives.models is not None else assumptions.models
    if names is None:
        sold = {model_row.family for model_row in catalog.api_models} | {
            model_row.name for model_row in assumptions.own.llms
        }
        return [llm for name, llm in catalog.llms.items() if name in sold]
    return [catalog.llms[name] for name in names if name in catalog.llms]


def _groups(workload: Workload, assumptions: Assumptions, catalog: Catalog) -> dict[Way, list[Machine]]:
    """By way, the cheapest machine of each GPU and number of them. Another region has only prices of one's own."""
    in_region = assumptions.region is None or assumptions.region in US_REGIONS
    own = {instance.name for instance in assumptions.own.instances} | set(assumptions.instance_prices)
    best: dict[tuple[Way, str, int], Machine] = {}
    for row in catalog.instances.values():
        if row.gpu not in catalog.gpus or row.gpu.startswith(UNMODELLED) or not (in_region or row.name in own):
            continue
        place = machine(row, workload, assumptions)
        key = (row.way, row.gpu, row.count)
        if key not in best or place.usd_per_hour < best[key].usd_per_hour:
            best[key] = place
    by_way: dict[Way, list[Machine]] = {}
    for (way, _, _), place in sorted(best.items(), key=lambda entry: entry[1].usd_per_hour):
        by_way.setdefault(way, []).append(place)
    return by_way


def _of_model(
    llm: Llm,
    places: list[Machine],
    workload: Workload,
    objectives: Objectives,
    assumptions: Assumptions,
    catalog: Catalog,
) -> list[Option]:
    way = places[0].row.way
    inputs, outputs = workload.input_tokens.median, workload.output_tokens.median
    if inputs + outputs > llm.max_context:
        reason = f"{inputs + outputs:,.0f} tokens do not fit into its context of {llm.max_context:,}"
        return [_refused(llm, places[0].row, reason)]
    # Gemma 3 cannot be run in fp16 (its activations overflow), and these have no bfloat16.
    places = [
        machine_row
        for machine_row in places
        if not (llm.name.startswith("Gemma-3") and machine_row.row.gpu.startswith(NO_BF16))
    ]
    if not places:
        return []
    meets: list[Found] = []
    misses: list[Found] = []
    tight: tuple[float, Machine, Serving] | None = None
    for place in _by_least_cost(places, objectives):
        if len(meets) >= KEPT and _least(place, objectives) >= meets[KEPT - 1].usd:
            break
        best = None
        for serving in _servings(llm, catalog.gpus[place.row.gpu], place.row, assumptions):
            sized = size(serving, workload, objectives, assumptions)
            if sized is None:
                over = _needed_gib(serving, workload) / (serving.tp * serving.gpu.memory_gib)
                if tight is None or over < tight[0]:
                    tight = (over, place, serving)
                continue
            candidate = Found(monthly(sized, place, workload, objectives, assumptions).mid, sized, place)
            if best is None or (not candidate.sized.meets, candidate.usd) < (not best.sized.meets, best.usd):
                best = candidate
            if sized.meets and _roomy(sized, workload):
                break
        if best is not None:
            (meets if best.sized.meets else misses).append(best)
            meets.sort(key=_usd)
    misses.sort(key=_usd)
    candidates = [*meets[:KEPT], *misses[:MISSED]]
    options_made = [
        option(candidate.sized, candidate.place, workload, objectives, assumptions) for candidate in candidates
    ]
    if tight is not None and (
        not options_made or tight[1].row.gpu not in {candidate.place.row.gpu for candidate in candidates}
    ):
        options_made.append(_too_small(llm, tight[1].row, tight[2], workload))
    if not options_made:
        options_made.append(_refused(llm, places[0].row, f"no {way} machine here has a GPU and a precision for it"))
    return options_made


def _usd(candidate: Found) -> float:
    return candidate.usd


def _least(place: Machine, objectives: Objectives) -> float:
    """What not even an idle fleet of this machine costs less than."""
    return place.usd_per_hour * 730 * max(1, objectives.replicas)


def _by_least_cost(places: Iterable[Machine], objectives: Objectives) -> list[Machine]:
    return sorted(places, key=lambda machine_row: _least(machine_row, objectives))


def _roomy(sized: Sized, workload: Workload) -> bool:
    """Whether memory lets so many requests run that more GPUs a replica would be faster, but no cheaper."""
    inputs, outputs = queueing.mean(workload.input_tokens), queueing.mean(workload.output_tokens)
    return memory.of(sized.serving, inputs, outputs).sequences >= ROOMY


def _servings(llm: Llm, gpu: Gpu, row: Instance, assumptions: Assumptions) -> tuple[Serving, ...]:
    widest = min(row.count, assumptions.max_tp)
    base = Serving(
        llm=llm,
        gpu=gpu,
        kv_bytes=assumptions.kv_bytes,
        memory_share=assumptions.memory_share,
        max_seqs=assumptions.max_seqs,
        step_tokens=assumptions.step_tokens,
        continuous=assumptions.continuous,
        efficiency=efficiency_for(assumptions, gpu.name),
    )
    return _widths(base, widest, tuple(_precisions(llm, gpu, assumptions)))


@lru_cache(maxsize=8192)
def _widths(base: Serving, widest: int, precisions: tuple[Precision, ...]) -> tuple[Serving, ...]:
    """By precision, from the narrowest tensor parallelism that fits to the widest; the widest where nothing fits."""
    servings: list[Serving] = []
    for precision in precisions:
        widths = [tp for tp in (1, 2, 4, 8, 16) if tp <= widest and base.llm.heads % tp == 0]
        cuts = [replace(base, tp=tp, precision=precision) for tp in widths]
        servings += [serving for serving in cuts if memory.of(serving, 1, 1).fits] or cuts[-1:]
    return tuple(servings)


def _precisions(llm: Llm, gpu: Gpu, assumptions: Assumptions) -> Iterator[Precision]:
    if llm.native_bits < 8:  # shipped in MXFP4: it is served so
        if Precision.MXFP4 in assumptions.precisions:
            yield Precision.MXFP4
        return
    native = gpu.tflops_fp8 is not None and Precision.FP8 in assumptions.precisions
    for precision in assumptions.precisions:
        if precision is Precision.MXFP4 or (precision is Precision.FP8 and not native):
            continue
        if precision is Precision.BF16 and native:
            continue
        yield precision


def _needed_gib(serving: Serving, workload: Workload) -> float:
    fit = memory.of(serving, 1, 1)
    per_sequence = memory.kv_bytes(
        serving, queueing.mean(workload.input_tokens) + queueing.mean(workload.output_tokens)
    )
    return (fit.weights + fit.activations + per_sequence) / serving.memory_share / GIB


def _too_small(llm: Llm, row: Instance, serving: Serving, workload: Workload) -> Option:
    needs, has = _needed_gib(serving, workload), serving.tp * serving.gpu.memory_gib
    hardware = f"{serving.tp} × {serving.gpu.name}" if serving.tp > 1 else serving.gpu.name
    return _refused(
        llm,
        row,
        f"does not fit: {serving.precision} needs {needs:,.0f} GiB, {hardware} has {has:,.0f} GiB",
        would_win="a smaller precision, a shorter context or a larger GPU",
    )


def _refused(llm: Llm, row: Instance, reason: str, would_win: str | None = None) -> Option:
    return Option(
        id=f"{row.way}/{row.name}/{llm.name}",
        way=row.way,
        title=f"{llm.name}, {row.name}",
        model=llm.name,
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
        infeasible=reason,
        missing=(),
        would_win=would_win,
        facts=(Fact(f"{row.name} price", f"${row.usd_per_hour:g} an hour", row.source, row.date, "list"),),
    )


FULLEST = 0.85  # of what a replica can carry at all: above it waits grow without measure

PLACES = {Way.EC2: "EC2 ", Way.SAGEMAKER: "SageMaker ", Way.CONTAINER: ""}


def machine(row: Instance, workload: Workload, assumptions: Assumptions) -> Machine:
    """The instance at its own, discounted or listed price."""
    own = assumptions.instance_prices.get(row.name)
    share, note = discount(assumptions, row.name, workload.months)
    return Machine(
        row, (row.usd_per_hour if own is None else own) * (1 - share), note, "list" if own is None else "yours"
    )


def size(serving: Serving, workload: Workload, objectives: Objectives, assumptions: Assumptions) -> Sized | None:
    """What one replica carries; None when it does not fit into memory."""
    share = cached_share(serving, workload) if assumptions.self_host_cache else 0.0
    plain = replace(workload, rpm=1.0, shape=FLAT, batch_share=0.0, months=0, peak_concurrency=None, prefix_share=0.0)
    limits = Objectives(ttft_s=objectives.ttft_s, ttlt_s=objectives.ttlt_s)
    return _size(serving, plain, limits, share)


@lru_cache(maxsize=8192)
def _size(serving: Serving, workload: Workload, limits: Objectives, share: float) -> Sized | None:
    inputs, outputs = workload.input_tokens, workload.output_tokens
    traffic = queueing.traffic_of(inputs, outputs, share, workload.burstiness)
    three = queueing.lines(serving, traffic.input, traffic.output, traffic.cached, outputs.sigma)
    if three is None:
        return None
    fulls = sorted(line.full * 60 for line in three)
    full = Range(*fulls)
    fullest = Range(*(FULLEST * rate for rate in fulls))
    if limits.ttft_s is None and limits.ttlt_s is None:
        return Sized(serving, fullest, full, True, share)
    capacity = queueing.capacity_rpm(serving, workload, limits, share)
    if capacity.mid <= 0:
        return Sized(serving, fullest, full, False, share)
    bounded = Range(min(capacity.low, fullest.low), min(capacity.mid, fullest.mid), min(capacity.high, fullest.high))
    return Sized(serving, bounded, full, True, share)


def monthly(
    sized: Sized, place: Machine, workload: Workload, objectives: Objectives, assumptions: Assumptions
) -> Range:
    """US dollars a month. A slow case that never holds the objectives is priced by what it carries regardless."""
    slow = sized.capacity.low if sized.capacity.low > 0 else min(sized.capacity.mid, FULLEST * sized.full.low)
    usd_by_bound = [
        _cost(counts_of(sized, rate, place, workload, objectives, assumptions), sized, place, assumptions)
        for rate in (sized.capacity.high, sized.capacity.mid, slow)
    ]
    return Range(*usd_by_bound)


def counts_of(
    sized: Sized,
    capacity_rpm: float,
    place: Machine,
    workload: Workload,
    objectives: Objectives,
    assumptions: Assumptions,
) -> tuple[int, ...] | None:
    """Replicas by the hour at a capacity."""
    step = max(1, place.row.count // sized.serving.tp)
    fewest = least_machines(sized, place, workload, objectives)
    return calculator_queueing.replicas(
        calculator_queueing.sized_rates(workload),
        capacity_rpm,
        headroom=assumptions.headroom,
        fewest=fewest,
        step=step,
        autoscale=assumptions.autoscale,
    )


def least_machines(sized: Sized, place: Machine, workload: Workload, objectives: Objectives) -> int:
    """Machines that have to stand at any rate: for availability, and for the concurrency asked for."""
    fewest = max(1, objectives.replicas)
    if workload.peak_concurrency is None:
        return fewest
    step = max(1, place.row.count // sized.serving.tp)
    inputs, outputs = queueing.mean(workload.input_tokens), queueing.mean(workload.output_tokens)
    at_once = max(1, memory.of(sized.serving, inputs, outputs).sequences)
    return max(fewest, math.ceil(workload.peak_concurrency / (at_once * step)))


def _cost(counts: tuple[int, ...] | None, sized: Sized, place: Machine, assumptions: Assumptions) -> float:
    if counts is None:
        return math.inf
    step = max(1, place.row.count // sized.serving.tp)
    hours = calculator_queueing.replica_hours(counts, assumptions.cold_start_min if assumptions.autoscale else 0.0)
    return hours * place.usd_per_hour / step * (1 + assumptions.ops_share)


def option(
    sized: Sized, place: Machine, workload: Workload, objectives: Objectives, assumptions: Assumptions
) -> Option:
    """The whole option, with its times at the busiest hour."""
    counts = counts_of(sized, sized.capacity.mid, place, workload, objectives, assumptions)
    assert counts is not None  # the capacity of what fits is above 0
    rates = calculator_queueing.sized_rates(workload)
    hour = max(range(len(rates)), key=lambda hour_of_day: rates[hour_of_day] / counts[hour_of_day])
    busiest = rates[hour] / counts[hour]
    times = queueing.quantiles(
        sized.serving, busiest, workload.input_tokens, workload.output_tokens, sized.cached_share, workload.burstiness
    )
    assert times is not None
    usd = monthly(sized, place, workload, objectives, assumptions)
    step = max(1, place.row.count // sized.serving.tp)
    mean_rate = sum(rates) / sum(counts)
    largest = (
        queueing.largest_output(
            sized.serving,
            busiest,
            workload.input_tokens,
            workload.output_tokens,
            objectives.ttlt_s,
            sized.cached_share,
            workload.burstiness,
        )
        if objectives.ttlt_s is not None
        else None
    )
    return Option(
        id=_id(place.row, sized.serving),
        way=place.row.way,
        title=_title(place, sized.serving),
        model=sized.serving.llm.name,
        cached=sized.cached_share > 0,
        batched=workload.batch_share > 0,
        monthly_usd=usd,
        per_1000_usd=_scaled(usd, 1000 / calculator_queueing.requests_a_month(workload)),
        per_mtok_usd=_scaled(usd, 1e6 / (calculator_queueing.requests_a_month(workload) * _tokens(workload))),
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
        facts=_facts(sized, place, assumptions),
        hourly_usd=place.usd_per_hour / step,
        serving=sized.serving,
        capacity_rpm=sized.capacity,
        replicas_a_machine=step,
        least_replicas=step * least_machines(sized, place, workload, objectives),
        headroom=assumptions.headroom,
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
    notes: list[str] = []
    if objectives.ttft_s is not None and times.ttft_p95_s.mid > objectives.ttft_s:
        notes.append(f"first token: {_s(times.ttft_p95_s.mid)} at p95, the limit is {objectives.ttft_s:g} s")
    if objectives.ttlt_s is not None and times.ttlt_p95_s.mid > objectives.ttlt_s:
        fits = f"at most {largest:,} tokens fit in" if largest else "no answer fits in"
        notes.append(f"last token: {_s(times.ttlt_p95_s.mid)} at p95, {fits} {objectives.ttlt_s:g} s")
    return tuple(notes)


def _missing(sized: Sized) -> tuple[str, ...]:
    if sized.meets and sized.capacity.low <= 0:
        gpu = sized.serving.gpu.name
        return (f"At the slow end of the assumed efficiency of the {gpu} it misses the limits at any load.",)
    return ()


def _s(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"


def _facts(sized: Sized, place: Machine, assumptions: Assumptions) -> tuple[Fact, ...]:
    row, gpu, llm = place.row, sized.serving.gpu, sized.serving.llm
    price = f"${place.usd_per_hour:,.4g} an hour" + (f" ({place.note})" if place.note else "")
    kind = "yours" if place.note or place.kind == "yours" else "list"
    yours = "yours" if sized.serving.efficiency is not None else "estimated"
    return (
        Fact(f"{row.name} price", price, "yours" if kind == "yours" else row.source, row.date, kind),
        Fact(gpu.name, f"{gpu.memory_gib:g} GiB, {gpu.bandwidth_gb_s:,.0f} GB/s", gpu.source, gpu.date, "list"),
        Fact(llm.name, f"{llm.params_b:g} B parameters", llm.source, llm.date, "list"),
        Fact("capacity of a replica", f"{sized.capacity.mid:,.0f} requests/min", "roofline of this page", "", yours),
        Fact(
            "headroom",
            f"{assumptions.headroom:.0%}",
            "assumed",
            "",
            "yours" if assumptions.headroom != 0.2 else "estimated",
        ),
        Fact("month", f"{HOURS_A_MONTH:g} hours", "AWS's own month", "", "list"),
    )
