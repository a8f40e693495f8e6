"""Every figure of the history. One `data` for a filter; each function then makes one panel from it.

Sums are zero where nothing happened, percentiles NaN where too few calls stand behind them. Money is integer
nano-dollars, latencies are ms, speeds tokens per second.
"""

from services.dashboard.calls import behind
from services.dashboard.compare import distribution, medians, ranking, scatter
from services.dashboard.cost import (
    BYS,
    COST_DRIVERS,
    PACE_HELP,
    Pace,
    Repriced,
    Savings,
    Spend,
    cost,
    pace,
    repriced,
    savings,
    spend,
)
from services.dashboard.data import IN_KPIS, LATENCIES, METRICS, Data, load
from services.dashboard.filters import PARAMS, RANGE_WORDS, RANGES, Filter
from services.dashboard.kpis import Kpi, kpis
from services.dashboard.latency import heatmap, heatmap_said, latency, states, throughput
from services.dashboard.window import Buckets, Window, resolve

__all__ = [
    "BYS",
    "COST_DRIVERS",
    "IN_KPIS",
    "LATENCIES",
    "METRICS",
    "PACE_HELP",
    "PARAMS",
    "RANGES",
    "RANGE_WORDS",
    "Buckets",
    "Data",
    "Filter",
    "Kpi",
    "Pace",
    "Repriced",
    "Savings",
    "Spend",
    "Window",
    "behind",
    "cost",
    "distribution",
    "heatmap",
    "heatmap_said",
    "kpis",
    "latency",
    "load",
    "medians",
    "pace",
    "ranking",
    "repriced",
    "resolve",
    "savings",
    "scatter",
    "spend",
    "states",
    "throughput",
]
