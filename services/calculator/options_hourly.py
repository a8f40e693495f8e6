"""The ways that cost by the hour: EC2, SageMaker and machines of one's own, with vLLM on them.

Every kind of GPU × number of GPUs × tensor parallelism × precision (8-bit where the GPU computes in it, else 16-bit).
Of machines with the same GPUs only the cheapest is looked at (the others have more disk and memory, not more speed),
and a choice that cannot be cheaper than those already found is not computed. Kept of each model and way: the ``KEPT``
cheapest machines that meet the objectives and ``MISSED`` that does not, each with its best serving.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from services.calculator import api_times, memory, queueing
from services.calculator.api_times import Measured
from services.calculator.assumptions import Assumptions, efficiency_for
from services.calculator.catalog import Catalog
from services.calculator.catalog_rows import Instance
from services.calculator.hours_option import NO_BF16, Machine, Sized, machine, monthly, option, size
from services.calculator.overheads import GIB
from services.calculator.types import Fact, Gpu, Llm, Objectives, Option, Precision, Serving, Way, Workload
from services.providers.bedrock_ids import US_REGIONS

WAYS = (Way.EC2, Way.SAGEMAKER, Way.CONTAINER)
KEPT = 3
MISSED = 1
ROOMY = 32  # sequences at once
UNMODELLED = ("Inferentia", "Trainium")  # not served by the vLLM whose scheduler and kernels the formulas describe


@dataclass(frozen=True, slots=True)
class Found:
    """A candidate with its monthly cost, which is enough to rank it among its kind."""

    usd: float
    sized: Sized
    place: Machine


def options(
    workload: Workload,
    objectives: Objectives,
    given: Assumptions,
    catalog: Catalog,
    measured: Measured | None = None,
) -> list[Option]:
    """All self-hosted options worth showing, and those that cannot be, with the reason. ``measured``, and speeds of
    one's own: by option id or "way/instance/model"; they take the place of the estimated times."""
    groups = _groups(workload, given, catalog)
    found: list[Option] = []
    for llm in models(objectives, given, catalog):
        for way in WAYS:
            places = groups.get(way, [])
            if places and (given.ways is None or way in given.ways):
                found += _of_model(llm, places, workload, objectives, given, catalog)
    known = {**(measured or {}), **given.api_speeds}
    return [_timed(one, known, workload, objectives) for one in found]


def _timed(option: Option, known: Measured, workload: Workload, objectives: Objectives) -> Option:
    speed = known.get(option.id) or known.get("/".join(option.id.split("/")[:3]))
    # Without a measured p95 the estimate says more than the measurement does.
    if speed is None or option.infeasible is not None or speed.ttft_p95_s is None:
        return option
    times = api_times.of(speed, workload.output_tokens, objectives)
    return replace(
        option, ttft_p50_s=times.ttft_p50, ttft_p95_s=times.ttft_p95, ttlt_p50_s=times.ttlt_p50,
        ttlt_p95_s=times.ttlt_p95, timed=times.timed, largest_output=times.largest,
        misses=api_times.misses(times, objectives), missing=times.missing, facts=(*option.facts, *times.facts),
    )  # fmt: skip


def models(objectives: Objectives, given: Assumptions, catalog: Catalog) -> list[Llm]:
    """The models looked at: those judged good enough, else those asked for, else those whose weights are also sold by
    the token (so that there is something to compare them with)."""
    wanted = objectives.models if objectives.models is not None else given.models
    if wanted is None:
        sold = {one.family for one in catalog.api_models} | {one.name for one in given.own.llms}
        return [llm for name, llm in catalog.llms.items() if name in sold]
    return [catalog.llms[name] for name in wanted if name in catalog.llms]


def _groups(workload: Workload, given: Assumptions, catalog: Catalog) -> dict[Way, list[Machine]]:
    """By way, the cheapest machine of each GPU and number of them. Another region has only prices of one's own."""
    here = given.region is None or given.region in US_REGIONS
    own = {one.name for one in given.own.instances} | set(given.instance_prices)
    best: dict[tuple[Way, str, int], Machine] = {}
    for row in catalog.instances.values():
        if row.gpu not in catalog.gpus or row.gpu.startswith(UNMODELLED) or not (here or row.name in own):
            continue
        place = machine(row, workload, given)
        key = (row.way, row.gpu, row.count)
        if key not in best or place.usd_per_hour < best[key].usd_per_hour:
            best[key] = place
    found: dict[Way, list[Machine]] = {}
    for (way, _, _), place in sorted(best.items(), key=lambda one: one[1].usd_per_hour):
        found.setdefault(way, []).append(place)
    return found


def _of_model(
    llm: Llm, places: list[Machine], workload: Workload, objectives: Objectives, given: Assumptions, catalog: Catalog
) -> list[Option]:
    way = places[0].row.way
    inputs, outputs = workload.input_tokens.median, workload.output_tokens.median
    if inputs + outputs > llm.max_context:
        reason = f"{inputs + outputs:,.0f} tokens do not fit into its context of {llm.max_context:,}"
        return [_refused(llm, places[0].row, reason)]
    # Gemma 3 cannot be run in fp16 (its activations overflow), and these have no bfloat16.
    places = [one for one in places if not (llm.name.startswith("Gemma-3") and one.row.gpu.startswith(NO_BF16))]
    if not places:
        return []
    meets: list[Found] = []
    misses: list[Found] = []
    tight: tuple[float, Machine, Serving] | None = None
    for place in _by_least_cost(places, objectives):
        if len(meets) >= KEPT and _least(place, objectives) >= meets[KEPT - 1].usd:
            break
        best = None
        for serving in _servings(llm, catalog.gpus[place.row.gpu], place.row, given):
            sized = size(serving, workload, objectives, given)
            if sized is None:
                over = _needed_gib(serving, workload) / (serving.tp * serving.gpu.memory_gib)
                if tight is None or over < tight[0]:
                    tight = (over, place, serving)
                continue
            one = Found(monthly(sized, place, workload, objectives, given).mid, sized, place)
            if best is None or (not one.sized.meets, one.usd) < (not best.sized.meets, best.usd):
                best = one
            if sized.meets and _roomy(sized, workload):
                break
        if best is not None:
            (meets if best.sized.meets else misses).append(best)
            meets.sort(key=_usd)
    misses.sort(key=_usd)
    kept = [*meets[:KEPT], *misses[:MISSED]]
    made = [option(one.sized, one.place, workload, objectives, given) for one in kept]
    if tight is not None and (not made or tight[1].row.gpu not in {one.place.row.gpu for one in kept}):
        made.append(_too_small(llm, tight[1].row, tight[2], workload))
    if not made:
        made.append(_refused(llm, places[0].row, f"no {way} machine here has a GPU and a precision for it"))
    return made


def _usd(found: Found) -> float:
    return found.usd


def _least(place: Machine, objectives: Objectives) -> float:
    """What not even an idle fleet of this machine costs less than."""
    return place.usd_per_hour * 730 * max(1, objectives.replicas)


def _by_least_cost(places: Iterable[Machine], objectives: Objectives) -> list[Machine]:
    return sorted(places, key=lambda one: _least(one, objectives))


def _roomy(sized: Sized, workload: Workload) -> bool:
    """Whether memory lets so many requests run that more GPUs a replica would be faster, but no cheaper."""
    inputs, outputs = queueing.mean(workload.input_tokens), queueing.mean(workload.output_tokens)
    return memory.of(sized.serving, inputs, outputs).sequences >= ROOMY


def _servings(llm: Llm, gpu: Gpu, row: Instance, given: Assumptions) -> tuple[Serving, ...]:
    widest = min(row.count, given.max_tp)
    base = Serving(
        llm=llm, gpu=gpu, kv_bytes=given.kv_bytes, memory_share=given.memory_share, max_seqs=given.max_seqs,
        step_tokens=given.step_tokens, continuous=given.continuous, efficiency=efficiency_for(given, gpu.name),
    )  # fmt: skip
    return _widths(base, widest, tuple(_precisions(llm, gpu, given)))


@lru_cache(maxsize=8192)
def _widths(base: Serving, widest: int, precisions: tuple[Precision, ...]) -> tuple[Serving, ...]:
    """By precision, from the narrowest tensor parallelism that fits to the widest; the widest where nothing fits."""
    found: list[Serving] = []
    for precision in precisions:
        widths = [tp for tp in (1, 2, 4, 8, 16) if tp <= widest and base.llm.heads % tp == 0]
        made = [replace(base, tp=tp, precision=precision) for tp in widths]
        found += [one for one in made if memory.of(one, 1, 1).fits] or made[-1:]
    return tuple(found)


def _precisions(llm: Llm, gpu: Gpu, given: Assumptions) -> Iterator[Precision]:
    if llm.native_bits < 8:  # shipped in MXFP4: it is served so
        if Precision.MXFP4 in given.precisions:
            yield Precision.MXFP4
        return
    native = gpu.tflops_fp8 is not None and Precision.FP8 in given.precisions
    for precision in given.precisions:
        if precision is Precision.MXFP4 or (precision is Precision.FP8 and not native):
            continue
        if precision is Precision.BF16 and native:
            continue
        yield precision


def _needed_gib(serving: Serving, workload: Workload) -> float:
    held = memory.of(serving, 1, 1)
    one = memory.kv_bytes(serving, queueing.mean(workload.input_tokens) + queueing.mean(workload.output_tokens))
    return (held.weights + held.activations + one) / serving.memory_share / GIB


def _too_small(llm: Llm, row: Instance, serving: Serving, workload: Workload) -> Option:
    needs, has = _needed_gib(serving, workload), serving.tp * serving.gpu.memory_gib
    what = f"{serving.tp} × {serving.gpu.name}" if serving.tp > 1 else serving.gpu.name
    return _refused(
        llm, row, f"does not fit: {serving.precision} needs {needs:,.0f} GiB, {what} has {has:,.0f} GiB",
        would_win="a smaller precision, a shorter context or a larger GPU",
    )  # fmt: skip


def _refused(llm: Llm, row: Instance, reason: str, would_win: str | None = None) -> Option:
    return Option(
        id=f"{row.way}/{row.name}/{llm.name}", way=row.way, title=f"{llm.name}, {row.name}", model=llm.name,
        cached=False, batched=False, monthly_usd=None, per_1000_usd=None, per_mtok_usd=None, ttft_p50_s=None,
        ttft_p95_s=None, ttlt_p50_s=None, ttlt_p95_s=None, timed="not known", utilisation=None, replicas=None,
        full_at_rpm=None, largest_output=None, drivers={}, misses=(), infeasible=reason, missing=(),
        would_win=would_win, facts=(Fact(f"{row.name} price", f"${row.usd_per_hour:g} an hour", row.source, row.date,
        "list"),),
    )  # fmt: skip
