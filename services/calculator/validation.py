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
    found = [*check_workload(workload), *check_objectives(objectives)]
    if assumptions is not None:
        found += check_assumptions(assumptions)
    if contexts is None:
        contexts = _contexts(assumptions)
    return found + _against(workload, objectives, contexts, {one.field for one in found})


def check_workload(workload: Workload) -> list[FieldError]:
    """What is wrong with a workload by itself."""
    one = workload
    found = [
        _between(
            "workload.rpm",
            one.rpm,
            0,
            MOST_RPM,
            "Requests per minute",
            above=True,
            more=(
                f"more than {MOST_RPM:,} a minute is beyond what any service sells; split the workload."
                if isinstance(one.rpm, int | float) and one.rpm > MOST_RPM
                else ""
            ),
        ),
        *_spread("workload.input_tokens", one.input_tokens, "The input"),
        *_spread("workload.output_tokens", one.output_tokens, "The output"),
        _shape(one.shape),
        _between(
            "workload.burstiness",
            one.burstiness,
            0,
            100,
            "Burstiness",
            above=True,
            more="1 is a stream of requests at random, 4 comes in bunches.",
        ),
        _between(
            "workload.prefix_share", one.prefix_share, 0, 1, "The repeated share of the input", more="0.8 is 80 %."
        ),
        _between(
            "workload.batch_share", one.batch_share, 0, 1, "The share that may wait for batch", more="0.3 is 30 %."
        ),
        _between("workload.reuse_per_hour", one.reuse_per_hour, 0, 1e7, "Reuse per hour"),
        _between("workload.calls_per_session", one.calls_per_session, 1, 100_000, "Calls per session"),
    ]
    if one.reuse not in tuple(Reuse):
        found.append(FieldError("workload.reuse", "Reuse is “steady” or “burst”."))
    if one.peak_concurrency is not None:
        found.append(
            _between(
                "workload.peak_concurrency",
                one.peak_concurrency,
                1,
                MOST_RPM,
                "Peak concurrency",
                more="leave it empty to have it follow from the rate.",
            )
        )
    if one.months not in MONTHS:
        found.append(FieldError("workload.months", f"Commitments are sold for {_listed(MONTHS)} months; choose one."))
    return [error for error in found if error is not None]


def check_objectives(objectives: Objectives) -> list[FieldError]:
    """What is wrong with the objectives by themselves."""
    one, empty = objectives, "leave it empty for no limit."
    found: list[FieldError | None] = []
    for name, value, title in (
        ("ttft_s", one.ttft_s, "The time to the first token"),
        ("ttlt_s", one.ttlt_s, "The time to the last token"),
    ):
        if value is not None:
            found.append(_between(f"objectives.{name}", value, 0, LONGEST_S, title, above=True, unit=" s", more=empty))
    if _finite(one.ttft_s) and _finite(one.ttlt_s) and 0 < one.ttlt_s < one.ttft_s:  # type: ignore[operator]  # finite: not None
        found.append(
            FieldError(
                "objectives.ttlt_s",
                f"The last token cannot be due ({one.ttlt_s:g} s) before the first ({one.ttft_s:g} s); raise the one "
                "or lower the other.",
            )
        )
    found.append(_between("objectives.replicas", one.replicas, 1, MOST_REPLICAS, "Replicas"))
    if one.models is not None and not one.models:
        found.append(FieldError("objectives.models", "No model is judged good enough: choose one, or judge none."))
    return [error for error in found if error is not None]


def check_assumptions(assumptions: Assumptions) -> list[FieldError]:
    """What is wrong with the assumptions: every number in them is finite and not negative, shares are at most 1."""
    found: list[FieldError] = []
    _walk("assumptions", assumptions, found)
    known = {one.field for one in found}
    return found + [one for one in check_rows(assumptions, "assumptions") if one.field not in known]


def _walk(at: str, value: Any, found: list[FieldError]) -> None:
    name = at.rsplit(".", 1)[-1]
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        share = name in SHARES or "_discount" in at
        error = _between(at, value, 0, 1 if share else 1e15, f"“{name}”", more="0.2 is 20 %." if share else "")
        found.extend([error] if error else [])
    elif isinstance(value, Range):
        if not (0 <= value.low <= value.mid <= value.high < math.inf):
            found.append(FieldError(at, f"“{name}” goes from low over mid to high, none below 0: put them in order."))
    elif is_dataclass(value):
        for one in fields(value):
            _walk(f"{at}.{one.name}", getattr(value, one.name), found)
    elif isinstance(value, Mapping):
        for key, one in value.items():
            _walk(f"{at}.{key}", one, found)
    elif isinstance(value, tuple | list):
        for no, one in enumerate(value, 1):
            _walk(f"{at}[{no}]", one, found)


def _against(
    workload: Workload, objectives: Objectives, contexts: Mapping[str, int], wrong: set[str]
) -> list[FieldError]:
    """What is wrong only beside the models that there are."""
    found: list[FieldError] = []
    if not contexts:
        return found
    if objectives.models:
        missing = [one for one in objectives.models if one not in contexts]
        if missing:
            found.append(
                FieldError(
                    "objectives.models",
                    f"There is no model {shown(missing[0])} in the catalogue; choose one that is, "
                    "or add it as your own.",
                )
            )
    allowed = [contexts[one] for one in objectives.models or contexts if one in contexts]
    if not allowed or wrong & {"workload.input_tokens", "workload.output_tokens"}:
        return found
    if objectives.models and not all(allowed):
        return found  # one of them has a context that nobody states
    longest, given, made = max(allowed), workload.input_tokens.median, workload.output_tokens.median
    if given + made > longest:
        field = "input" if given > longest else "output"
        whose = "the chosen models" if objectives.models else "any model here"
        found.append(
            FieldError(
                f"workload.{field}_tokens",
                f"{given:,.0f} tokens in and {made:,.0f} out do not fit into the longest context of {whose} "
                f"({longest:,}); shorten the {field}.",
            )
        )
    return found


def _contexts(assumptions: Assumptions | None) -> Mapping[str, int]:
    """Catalogue id → longest context, of every model that there is; 0 where it is not known."""
    merged = catalog.merged((assumptions or Assumptions()).own)
    return {**dict.fromkeys(merged.families, 0), **merged.contexts}


def _between(
    field: str, value: Any, low: float, high: float, title: str, *, above: bool = False, unit: str = "", more: str = ""
) -> FieldError | None:
    """The sentence for a number outside ``low`` to ``high`` (``above``: nor at ``low``), None where it is inside."""
    if _finite(value) and (low < value if above else low <= value) and value <= high:
        return None
    given = f"{value:,.10g}{unit}" if _finite(value) else shown(value)
    need = f"above {low:g}" if above else f"at least {low:g}"
    if _finite(value) and value > high:
        need = f"at most {high:,.10g}{unit}"
    return FieldError(field, f"{title} must be {need}, not {given}" + (f": {more}" if more else "."))


def _spread(field: str, value: Spread, title: str) -> list[FieldError]:
    found = [
        _between(field, value.median, 1, MOST_TOKENS, f"{title} in tokens"),
        _between(
            field,
            value.sigma,
            0,
            3,
            f"{title}'s spread",
            more="0 is always the median, 0.7 a usual chat, 1 a wide mix.",
        ),
    ]
    return [error for error in found if error is not None][:1]


def _shape(shape: Any) -> FieldError | None:
    field = "workload.shape"
    if not isinstance(shape, tuple | list) or len(shape) != 24:
        number = len(shape) if isinstance(shape, tuple | list) else 0
        return FieldError(field, f"The day has 24 hours, the curve has {number} weights: give one for every hour.")
    for hour, weight in enumerate(shape):
        if not _finite(weight) or weight < 0 or weight > 1e6:
            given = f"{weight:g}" if _finite(weight) else shown(weight)
            return FieldError(field, f"Hour {hour} has the weight {given}: a weight is a number from 0 on.")
    if max(shape) < 1e-6:
        return FieldError(field, "All 24 hours are 0, so nothing is ever asked: give at least one hour a weight.")
    return None


def _finite(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(one) for one in values[:-1]) + f" or {values[-1]}"


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


def check_rows(value: Any, at: str) -> list[FieldError]:
    """Everything in a dataclass, a mapping or a sequence that cannot be counted with, field by field."""
    found: list[FieldError] = []
    _walk_rows(at, value, found)
    return found


def _walk_rows(at: str, value: Any, found: list[FieldError]) -> None:
    name = at.rsplit(".", 1)[-1]
    if isinstance(value, bool) or value is None:
        return
    if isinstance(value, int | float):
        least = LEAST if name in POSITIVE else 0.0
        if not math.isfinite(value) or not least <= value <= MOST:
            found.append(FieldError(at, f"“{name}” must be {'above' if least else 'at least'} 0 and below 10¹²."))
        elif name == "max_tp" and value not in TENSOR_PARALLEL:
            found.append(FieldError(at, "“max_tp” is 1, 2, 4 or 8."))
    elif isinstance(value, Range):
        if name in SHARES_OF_PEAK and not 0.001 <= value.low <= value.mid <= value.high < math.inf:
            found.append(FieldError(at, f"“{name}” goes from low over mid to high, from 0.001 on: put them in order."))
        elif not 0 <= value.low <= value.mid <= value.high < math.inf:
            found.append(FieldError(at, f"“{name}” goes from low over mid to high, none below 0: put them in order."))
    elif is_dataclass(value):
        for one in fields(value):
            _walk_rows(f"{at}.{one.name}", getattr(value, one.name), found)
        if isinstance(value, Llm):
            found.extend(_llm(at, value))
        # A GPU that stands alone needs no link; one that the ranking may put beside others does.
        linked = isinstance(value, Serving) and value.tp > 1 and not value.gpu.link_gb_s
        if linked or (isinstance(value, Gpu) and at.startswith("assumptions") and not value.link_gb_s):
            found.append(FieldError(f"{at}.link_gb_s", "“link_gb_s” must be above 0 where GPUs work together."))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            _walk_rows(f"{at}.{key}", one, found)
    elif isinstance(value, tuple | list):
        for no, one in enumerate(value, 1):
            _walk_rows(f"{at}[{no}]", one, found)


def _llm(at: str, one: Llm) -> list[FieldError]:
    found = []
    if one.window_layers > one.layers:
        found.append(
            FieldError(f"{at}.window_layers", f"{one.window_layers} of {one.layers} layers cannot have a window.")
        )
    if one.experts and one.experts_per_token > one.experts:
        found.append(
            FieldError(f"{at}.experts_per_token", f"{one.experts_per_token} of {one.experts} experts cannot be used.")
        )
    if one.active_b > one.params_b * 1.001:
        found.append(FieldError(f"{at}.active_b", "More parameters are active than there are."))
    return found
