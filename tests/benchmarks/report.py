"""Tables on the terminal, percentiles, and the load of the machine beside every figure."""

from __future__ import annotations

import os
from collections.abc import Sequence


def pct(values: Sequence[float], q: float) -> float:
    """Nearest-rank percentile; ``q`` from 0 to 1. NaN for no values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, round(q * (len(ordered) - 1)))]


def num(value: float, digits: int = 2) -> str:
    """A figure with a sensible number of digits; "–" for none."""
    if value != value:
        return "–"
    return f"{value:,.{0 if abs(value) >= 1000 else digits}f}"


def aim(value: float, limit: float) -> str:
    """``≤ limit`` and whether ``value`` meets it."""
    return f"≤ {limit:g} {'met' if value <= limit else 'MISSED'}"


def load() -> str:
    """The load average now, as it stands beside the figures."""
    one, five, _ = os.getloadavg()
    return f"load average {one:.2f} (1 min) {five:.2f} (5 min), {os.cpu_count()} cores"


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table: first column left, the others right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    print(f"\n{title}   [{load()}]")
    for row in (header, ["-" * w for w in widths], *rows):
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "  ".join(cells), flush=True)
