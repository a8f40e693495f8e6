"""How the calculator's figures are written: money, times and ranges, an estimate always with its mark."""

from __future__ import annotations

import math

from services.calculator.types import Option, Range
from services.formatting import DASH


def usd(value: float | None, mark: str = "") -> str:
    """US dollars with as many digits as matter: "$1,359", "$12.40", "$0.0037"."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞"
    if value == 0:
        return "$0"
    if abs(value) >= 100:
        return f"{mark}${value:,.0f}"
    if abs(value) >= 0.1:
        return f"{mark}${value:,.2f}"
    return f"{mark}${value:.3g}" if value >= 1e-4 else f"{mark}${value:.2e}"


def seconds(value: float | None) -> str:
    """Seconds, or milliseconds below a tenth; ∞ where the queue grows without end."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞"
    if value < 0.1:
        return f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.2g} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def rate(value: float | None) -> str:
    """Requests a minute."""
    if value is None:
        return DASH
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def span(one: Range | None, write: object = seconds) -> str:
    """The bounds, "0.15–0.34 s"; empty where there is nothing between them."""
    if one is None or one.high - one.low <= 0.02 * max(one.mid, 1e-12):
        return ""
    assert callable(write)
    return f"{write(one.low)} to {write(one.high)}"


def mid(one: Range | None) -> float | None:
    """The figure in the middle; None where it is not known."""
    return one.mid if one else None


def is_measured(option: Option) -> bool:
    """Whether the times of an option are from recorded calls."""
    return option.timed.startswith("measured")


def meets(option: Option) -> str:
    """Whether the objectives hold, in a few words."""
    if option.infeasible:
        return option.infeasible
    if option.misses:
        return " ".join(option.misses)
    if option.missing:
        return " ".join(option.missing)
    return "yes"
