"""What may be entered: one check for the page, the command line, files and addresses, and for rows of one's own.

Nothing raises; what cannot be is a `FieldError` at its field, in one sentence that says what may be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from services.calculator import catalog
from services.calculator.assumptions import Assumptions
from services.calculator.serialization import FieldError, shown
from services.calculator.types import Gpu, Llm, Objectives, Range, Reuse, Serving, Spread, Workload

MOST_RPM = 1_000_000  # a thousand times the largest published account quota we know of

MOST_TOKENS = 10_000_000  # of one input: the longest context anyone sells

MONTHS = (0, 1, 6, 12, 36)

MOST_REPLICAS = 1_000

LONGEST_S = 86_400.0

SHARES = ("headroom", "ops_share", "share", "memory_share")


def check(
    workload: Workload,
    objectives: Objectives,
    assumptions: Assumptions | None = None,
    *,
    contexts: Mapping[str, int] | None = None,
) -> list[FieldError]:
    """Everything that is wrong, field by field, in the order of the page; empty where it can be calculated.

    ``contexts``: catalogue id → longest context in tokens; None: every model of the catalogue with the user's own.
    """
    errors = [*check_workload(workload), *check_objectives(objectives)]
    if assumptions is not None:
        errors += check_assumptions(assumptions)
    if contexts is None:
        contexts = _contexts(assumptions)
    return errors + _against(workload, objectives, contexts, {error.field for error in errors})


def check_workload(workload: Workload) -> list[FieldError]:
    """What is wrong with a workload by itself."""
    work = workload
    errors = [
        _between(
            "workload.rpm",
            work.rpm,
            0,
            MOST_RPM,
            "Requests per minute",
            above=True,
            advice=(
                f"more than {MOST_RPM:,} a minute is beyond what any service sells; split the workload."
                if isinstance(work.rpm, int | float) and work.rpm > MOST_RPM
                else ""
            ),
        ),
        *_spread("workload.input_tokens", work.input_tokens, "The input"),
        *_spread("workload.output_tokens", work.output_tokens, "The output"),
        _shape(work.shape),
        _between(
            "workload.burstiness",
            work.burstiness,
            0,
            100,
            "Burstiness",
            above=True,
            advice="1 is a stream of requests at random, 4 comes in bunches.",
        ),
        _between(
            "workload.prefix_share", work.prefix_share, 0, 1, "The repeated share of the input", advice="0.8 is 80 %."
        ),
        _between(
            "workload.batch_share", work.batch_share, 0, 1, "The share that may wait for batch", advice="0.3 is 30 %."
        ),
        _between("workload.reuse_per_hour", work.reuse_per_hour, 0, 1e7, "Reuse per hour"),
        _between("workload.calls_per_session", work.calls_per_session, 1, 100_000, "Calls per session"),
    ]
    if work.reuse not in tuple(Reuse):
        errors.append(FieldError("workload.reuse", "Reuse is “steady” or “burst”."))
    if work.peak_concurrency is not None:
        errors.append(
            _between(
                "workload.peak_concurrency",
                work.peak_concurrency,
                1,
                MOST_RPM,
                "Peak concurrency",
                advice="leave it empty to have it follow from the rate.",
            )
        )
    if work.months not in MONTHS:
        errors.append(FieldError("workload.months", f"Commitments are sold for {_listed(MONTHS)} months; choose one."))
    return [error for error in errors if error is not None]


def check_objectives(objectives: Objectives) -> list[FieldError]:
    """What is wrong with the objectives by themselves."""
    goal, empty = objectives, "leave it empty for no limit."
    errors: list[FieldError | None] = []
    for name, value, title in (
        ("ttft_s", goal.ttft_s, "The time to the first token"),
        ("ttlt_s", goal.ttlt_s, "The time to the last token"),
    ):
        if value is not None:
            errors.append(
                _between(f"objectives.{name}", value, 0, LONGEST_S, title, above=True, unit=" s", advice=empty)
            )
    if _finite(goal.ttft_s) and _finite(goal.ttlt_s) and 0 < goal.ttlt_s < goal.ttft_s:  # type: ignore[operator]  # finite: not None
        errors.append(
            FieldError(
                "objectives.ttlt_s",
                f"The last token cannot be due ({goal.ttlt_s:g} s) before the first ({goal.ttft_s:g} s); raise the one "
                "or lower the other.",
            )
        )
    errors.append(_between("objectives.replicas", goal.replicas, 1, MOST_REPLICAS, "Replicas"))
    if goal.models is not None and not goal.models:
        errors.append(FieldError("objectives.models", "No model is judged good enough: choose one, or judge none."))
    return [error for error in errors if error is not None]


def check_assumptions(assumptions: Assumptions) -> list[FieldError]:
    """What is wrong with the assumptions: every number in them is finite and not negative, shares are at most 1."""
    errors: list[FieldError] = []
    _walk("assumptions", assumptions, errors)
    fields_wrong = {error.field for error in errors}
    return errors + [error for error in check_rows(assumptions, "assumptions") if error.field not in fields_wrong]


def _walk(place: str, value: Any, errors: list[FieldError]) -> None:
    name = place.rsplit(".", 1)[-1]
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        share = name in SHARES or "_discount" in place
        error = _between(place, value, 0, 1 if share else 1e15, f"“{name}”", advice="0.2 is 20 %." if share else "")
        errors.extend([error] if error else [])
    elif isinstance(value, Range):
        if not (0 <= value.low <= value.mid <= value.high < math.inf):
            errors.append(
                FieldError(place, f"“{name}” goes from low over mid to high, none below 0: put them in order.")
            )
    elif is_dataclass(value):
        for element in fields(value):
            _walk(f"{place}.{element.name}", getattr(value, element.name), errors)
    elif isinstance(value, Mapping):
        for key, element in value.items():
            _walk(f"{place}.{key}", element, errors)
    elif isinstance(value, tuple | list):
        for no, element in enumerate(value, 1):
            _walk(f"{place}[{no}]", element, errors)


def _against(
    workload: Workload, objectives: Objectives, contexts: Mapping[str, int], wrong: set[str]
) -> list[FieldError]:
    """What is wrong only beside the models that there are."""
    errors: list[FieldError] = []
    if not contexts:
        return errors
    if objectives.models:
        missing = [model for model in objectives.models if model not in contexts]
        if missing:
            errors.append(
                FieldError(
                    "objectives.models",
                    f"There is no model {shown(missing[0])} in the catalogue; choose one that is, "
                    "or add it as your own.",
                )
            )
    allowed = [contexts[model] for model in objectives.models or contexts if model in contexts]
    if not allowed or wrong & {"workload.input_tokens", "workload.output_tokens"}:
        return errors
    if objectives.models and not all(allowed):
        return errors  # one of them has a context that nobody states
    longest, input_tokens, output_tokens = max(allowed), workload.input_tokens.median, workload.output_tokens.median
    if input_tokens + output_tokens > longest:
        field = "input" if input_tokens > longest else "output"
        whose = "the chosen models" if objectives.models else "any model here"
        errors.append(
            FieldError(
                f"workload.{field}_tokens",
                f"{input_tokens:,.0f} tokens in and {output_tokens:,.0f} out do not fit into the longest context of "
                f"{whose} ({longest:,}); shorten the {field}.",
            )
        )
    return errors


def _contexts(assumptions: Assumptions | None) -> Mapping[str, int]:
    """Catalogue id → longest context, of every model that there is; 0 where it is not known."""
    merged = catalog.merged((assumptions or Assumptions()).own)
    return {**dict.fromkeys(merged.families, 0), **merged.contexts}


def _between(
    field: str,
    value: Any,
    low: float,
    high: float,
    title: str,
    *,
    above: bool = False,
    unit: str = "",
    advice: str = "",
) -> FieldError | None:
    """The sentence for a number outside ``low`` to ``high`` (``above``: nor at ``low``), None where it is inside."""
    if _finite(value) and (low < value if above else low <= value) and value <= high:
        return None
    written = f"{value:,.10g}{unit}" if _finite(value) else shown(value)
    need = f"above {low:g}" if above else f"at least {low:g}"
    if _finite(value) and value > high:
        need = f"at most {high:,.10g}{unit}"
    return FieldError(field, f"{title} must be {need}, not {written}" + (f": {advice}" if advice else "."))


def _spread(field: str, value: Spread, title: str) -> list[FieldError]:
    refusals = [
        _between(field, value.median, 1, MOST_TOKENS, f"{title} in tokens"),
        _between(
            field,
            value.sigma,
            0,
            3,
            f"{title}'s spread",
            advice="0 is always the median, 0.7 a usual chat, 1 a wide mix.",
        ),
    ]
    return [error for error in refusals if error is not None][:1]


def _shape(shape: Any) -> FieldError | None:
    field = "workload.shape"
    if not isinstance(shape, tuple | list) or len(shape) != 24:
        number = len(shape) if isinstance(shape, tuple | list) else 0
        return FieldError(field, f"The day has 24 hours, the curve has {number} weights: give one for every hour.")
    for hour, weight in enumerate(shape):
        if not _finite(weight) or weight < 0 or weight > 1e6:
            written = f"{weight:g}" if _finite(weight) else shown(weight)
            return FieldError(field, f"Hour {hour} has the weight {written}: a weight is a number from 0 on.")
    if max(shape) < 1e-6:
        return FieldError(field, "All 24 hours are 0, so nothing is ever asked: give at least one hour a weight.")
    return None


def _finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(choice) for choice in values[:-1]) + f" or {values[-1]}"


workload = check_workload  # as the contract names them

objectives = check_objectives

POSITIVE = frozenset(
    {
        "kv_bytes",
        "memory_share",
        "max_seqs",
        "step_tokens",
        "memory_gib",
        "bandwidth_gb_s",
        "tflops_bf16",
        "tflops_fp8",
        "tflops_fp4",
        "params_b",
        "active_b",
        "layers",
        "hidden",
        "heads",
        "kv_heads",
        "head_dim",
        "max_context",
        "vocab",
        "native_bits",
        "count",
        "block",
    }
)

SHARES_OF_PEAK = frozenset({"bandwidth", "prefill", "decode_compute", "link"})

LEAST, MOST = 1e-6, 1e12

TENSOR_PARALLEL = (1, 2, 4, 8)


def check_rows(value: Any, place: str) -> list[FieldError]:
    """Everything in a dataclass, a mapping or a sequence that cannot be counted with, field by field."""
    errors: list[FieldError] = []
    _walk_rows(place, value, errors)
    return errors


def _walk_rows(place: str, value: Any, errors: list[FieldError]) -> None:
    name = place.rsplit(".", 1)[-1]
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        lowest = LEAST if name in POSITIVE else 0.0
        if not math.isfinite(value) or not lowest <= value <= MOST:
            errors.append(FieldError(place, f"“{name}” must be {'above' if lowest else 'at least'} 0 and below 10¹²."))
        elif name == "max_tp" and value not in TENSOR_PARALLEL:
            errors.append(FieldError(place, "“max_tp” is 1, 2, 4 or 8."))
    elif isinstance(value, Range):
        if name in SHARES_OF_PEAK and not 0.001 <= value.low <= value.mid <= value.high < math.inf:
            errors.append(
                FieldError(place, f"“{name}” goes from low over mid to high, from 0.001 on: put them in order.")
            )
        elif not 0 <= value.low <= value.mid <= value.high < math.inf:
            errors.append(
                FieldError(place, f"“{name}” goes from low over mid to high, none below 0: put them in order.")
            )
    elif is_dataclass(value):
        for element in fields(value):
            _walk_rows(f"{place}.{element.name}", getattr(value, element.name), errors)
        if isinstance(value, Llm):
            errors.extend(_llm(place, value))
        # A GPU that stands alone needs no link; one that the ranking may put beside others does.
        linked = isinstance(value, Serving) and value.tp > 1 and not value.gpu.link_gb_s
        if linked or (isinstance(value, Gpu) and place.startswith("assumptions") and not value.link_gb_s):
            errors.append(FieldError(f"{place}.link_gb_s", "“link_gb_s” must be above 0 where GPUs work together."))
    elif isinstance(value, Mapping):
        for key, element in value.items():
            _walk_rows(f"{place}.{key}", element, errors)
    elif isinstance(value, tuple | list):
        for no, element in enumerate(value, 1):
            _walk_rows(f"{place}[{no}]", element, errors)


def _llm(place: str, llm: Llm) -> list[FieldError]:
    errors = []
    if llm.window_layers > llm.layers:
        errors.append(
            FieldError(f"{place}.window_layers", f"{llm.window_layers} of {llm.layers} layers cannot have a window.")
        )
    if llm.experts and llm.experts_per_token > llm.experts:
        errors.append(
            FieldError(
                f"{place}.experts_per_token", f"{llm.experts_per_token} of {llm.experts} experts cannot be used."
            )
        )
    if llm.active_b > llm.params_b * 1.001:
        errors.append(FieldError(f"{place}.active_b", "More parameters are active than there are."))
    return errors
