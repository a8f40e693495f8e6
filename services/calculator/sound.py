"""Whether rows of one's own can be counted with: what is divided by is above 0, and nothing is below it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from services.calculator.serialization import FieldError
from services.calculator.types import Gpu, Llm, Range, Serving

POSITIVE = frozenset({
    "kv_bytes", "memory_share", "max_seqs", "step_tokens", "memory_gib", "bandwidth_gb_s", "tflops_bf16", "tflops_fp8",
    "tflops_fp4", "params_b", "active_b", "layers", "hidden", "heads", "kv_heads", "head_dim",
    "max_context", "vocab", "native_bits", "count", "block",
})  # fmt: skip
SHARES_OF_PEAK = frozenset({"bandwidth", "prefill", "decode_compute", "link"})
LEAST, MOST = 1e-6, 1e12
TENSOR_PARALLEL = (1, 2, 4, 8)


def check(value: Any, at: str) -> list[FieldError]:
    """Everything in a dataclass, a mapping or a sequence that cannot be counted with, field by field."""
    found: list[FieldError] = []
    _walk(at, value, found)
    return found


def _walk(at: str, value: Any, found: list[FieldError]) -> None:
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
            _walk(f"{at}.{one.name}", getattr(value, one.name), found)
        if isinstance(value, Llm):
            found.extend(_llm(at, value))
        # A GPU that stands alone needs no link; one that the ranking may put beside others does.
        linked = isinstance(value, Serving) and value.tp > 1 and not value.gpu.link_gb_s
        if linked or (isinstance(value, Gpu) and at.startswith("assumptions") and not value.link_gb_s):
            found.append(FieldError(f"{at}.link_gb_s", "“link_gb_s” must be above 0 where GPUs work together."))
    elif isinstance(value, Mapping):
        for key, one in value.items():
            _walk(f"{at}.{key}", one, found)
    elif isinstance(value, tuple | list):
        for no, one in enumerate(value, 1):
            _walk(f"{at}[{no}]", one, found)


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
