"""How much of a GPU's printed peaks a server reaches, by GPU generation and precision, with the range it is run at.

Literature: model FLOP utilisation in prefill 0.45 / 0.38 / 0.32 and in decode 0.30 / 0.18 / 0.08 on H100 / A100 / L40S
(inference-sim, hardware_config.json); 0.8 of peak memory bandwidth (aiconfigurator, systems/*.yaml); 0.55-0.8 in
practice (Pope et al. 2022; Databricks, "LLM inference performance engineering", 2023).

Set on the "fit" rows of tests/calculator/measurements.csv, one set of factors for a generation, none for a row. Median
errors on the "check" rows (2026-11-24): TPOT 8 %, throughput 13 %, TTFT 39 %; the ranges cover 100, 98 and 94 % of
them. They were not blind: the check rows' errors of an earlier version were seen, and both sets share their pages.
Weakly supported: "turing", "ada" (one L4 series, no L40S), "blackwell" (one Qwen3-32B series), weight-only formats.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from services.calculator.types import Efficiency, Precision, Range

_PCIE_HOP = Range(15e-6, 30e-6, 60e-6)  # an all-reduce through host memory: no peer-to-peer on these instances

_BY_GENERATION: dict[str, Efficiency] = {
    "turing": Efficiency(bandwidth=Range(0.55, 0.72, 0.88), prefill=Range(0.25, 0.38, 0.55), hop_s=_PCIE_HOP),
    # Measured prefills pass the 70 TFLOP/s that some sources print for the A10G (125 in others): hence above 1.
    "a10g": Efficiency(
        bandwidth=Range(0.70, 0.88, 0.97),
        prefill=Range(0.70, 1.00, 1.35),
        decode_compute=Range(0.45, 0.75, 1.10),
        hop_s=_PCIE_HOP,
        step_s=Range(0.5e-3, 1.2e-3, 3e-3),
    ),
    "ada": Efficiency(
        bandwidth=Range(0.68, 0.82, 0.95),
        prefill=Range(0.32, 0.48, 0.68),
        decode_compute=Range(0.22, 0.36, 0.55),
        hop_s=_PCIE_HOP,
        step_s=Range(0.5e-3, 1.2e-3, 3e-3),
    ),
    "ampere": Efficiency(
        bandwidth=Range(0.65, 0.82, 0.93),
        prefill=Range(0.42, 0.57, 0.72),
        decode_compute=Range(0.28, 0.46, 0.65),
        step_s=Range(0.7e-3, 1.6e-3, 3.5e-3),
    ),
    "hopper": Efficiency(
        bandwidth=Range(0.58, 0.75, 0.88),
        prefill=Range(0.30, 0.46, 0.64),
        decode_compute=Range(0.25, 0.42, 0.60),
        step_s=Range(0.6e-3, 1.4e-3, 3e-3),
    ),
    "blackwell": Efficiency(
        bandwidth=Range(0.50, 0.66, 0.85),
        prefill=Range(0.32, 0.50, 0.66),
        decode_compute=Range(0.22, 0.40, 0.60),
        step_s=Range(0.6e-3, 1.4e-3, 3e-3),
    ),
    "other": Efficiency(),
}
_NAMES = (  # first that is found in the upper-case name
    ("T4", "turing"),
    ("A10", "a10g"),
    ("L40", "ada"),
    ("L4", "ada"),
    ("RTX PRO", "blackwell"),
    ("B200", "blackwell"),
    ("B300", "blackwell"),
    ("H100", "hopper"),
    ("H200", "hopper"),
    ("GH200", "hopper"),
    ("A100", "ampere"),
)


def generation(gpu_name: str) -> str:
    """The generation whose factors a GPU of this name gets; "other" when none is known."""
    name = gpu_name.upper()
    if "A100" in name:
        return "ampere"
    return next((kind for part, kind in _NAMES if part in name), "other")


@cache
def of(gpu_name: str, precision: Precision = Precision.BF16) -> Efficiency:
    """The default factors for a GPU by its name. Weights that are unpacked before use reach less of both peaks."""
    found = _BY_GENERATION[generation(gpu_name)]
    if precision is Precision.FP8 and generation(gpu_name) in ("hopper", "ada", "blackwell"):
        return replace(found, prefill=_times(found.prefill, 1.1))  # TensorRT-LLM's tables: 0.57 on H100
    if precision in (Precision.W4, Precision.W8, Precision.MXFP4):
        return replace(found, bandwidth=_times(found.bandwidth, 0.85), decode_compute=_times(found.decode_compute, 0.8))
    return found


def _times(old: Range, factor: float) -> Range:
    return Range(old.low * factor, old.mid * factor, old.high * factor)
