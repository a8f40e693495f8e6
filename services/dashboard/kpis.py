"""The strip of single figures: what they are, how many calls stand behind them, and what changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from services import formatting
from services.dashboard.cost import spend_of
from services.dashboard.data import Data, Period
from services.dashboard.quantiles import by_group, why_missing
from services.pricing.cost import money
from services.runs.compare import NEEDED

# States that say nothing about whether the service would have answered: somebody stopped the call, our budget denied
# it, or it was answered from a cache of ours.
NOT_JUDGED = ("cancelled", "denied", "replayed")
STATE_WORDS: Mapping[str, str] = {
    "cancelled": "stopped",
    "timed_out": "timed out",
    "cut_off": "cut off",
    "denied": "denied by a budget",
}
TIMES = (
    ("ttft_p50", "First token p50", "ttft", 0.50),
    ("ttft_p95", "First token p95", "ttft", 0.95),
    ("ttlt_p50", "Last token p50", "ttlt", 0.50),
    ("ttlt_p95", "Last token p95", "ttlt", 0.95),
    ("decode_p50", "Decode speed p50", "decode", 0.50),
)
_IN_TIMES = {(metric, q) for _, _, metric, q in TIMES}
HELP: Mapping[str, str] = {
    "calls": "Every request that ended, however it ended; a retry is a call of its own.",
    "success": "Succeeded ÷ all calls but those that were stopped by somebody, denied by a budget or answered from a "
    "cache of ours. Every state is counted below.",
    "spend": "What the calls cost at the prices they were made at, and the hours of deployments that are paid by the "
    "hour, idle or not. ≥ marks a lower bound: some calls were stopped or cut.",
    "spend_1000": "Spend ÷ calls whose cost is known × 1,000. Calls without a known price are in neither.",
    "ttft": "Of calls that succeeded and whose stamps were not late by our own fault. p95 needs 20 of them.",
}


@dataclass(frozen=True, slots=True)
class Kpi:
    """One figure. ``value``: a number (calls, a share, ms, tok/s, nano-dollars), None where it is not shown, which
    ``why_missing`` explains. ``text`` is the value with its unit ("–" for none), ``n`` how many calls it is of.

    ``change_text``: the change from the previous period of the same length ("+8 %"), "" where there is none to
    compare with; ``change`` the same as a number (a share; for the success rate the difference of shares), ``better``
    whether it is an improvement (None: neither). ``detail``: a line below it. ``help``: what it means.
    """

    key: str
    title: str
    value: float | None
    text: str
    n: int
    change_text: str = ""
    why_missing: str | None = None
    change: float | None = None
    better: bool | None = None
    detail: str = ""
    help: str = ""


def kpis(data: Data) -> list[Kpi]:
    """calls, success, ttft_p50, ttft_p95, ttlt_p50, ttlt_p95, decode_p50, spend, spend_1000: in this order."""
    now, previous = data.period, data.before
    return [_calls(now, previous), _success(now, previous), *(_times(now, previous)), *_spends(now, previous)]


def _calls(now: Period, previous: Period | None) -> Kpi:
    n = now.totals["n"]
    change = _ratio(n, previous.totals["n"] if previous else None)
    return Kpi("calls", "Calls", n, formatting.count(n), n, _percent(change), None, change, help=HELP["calls"])


def _success(now: Period, previous: Period | None) -> Kpi:
    counts = states_of(now)
    share, n = success_of(counts)
    other_states = [
        f"{k:,} {STATE_WORDS.get(state, state)}" for state, k in counts.items() if state != "succeeded" and k
    ]
    was = success_of(states_of(previous))[0] if previous else None
    change = None if share is None or was is None else share - was
    return Kpi(
        "success",
        "Succeeded",
        share,
        formatting.DASH if share is None else _share(share),
        n,
        "" if change is None else f"{_signed(change * 100, 1)} points",
        None if share is not None else "no call ended that could be judged",
        change,
        _better(change, more_is_better=True),
        ", ".join(other_states),
        HELP["success"],
    )


def states_of(period: Period) -> dict[str, int]:
    """How many calls ended in each state, the most frequent first."""
    sums = period.rows["n"].groupby(period.rows["state"]).sum().sort_values(ascending=False, kind="stable")
    return {str(state): int(n) for state, n in sums.items()}


def success_of(counts: Mapping[str, int]) -> tuple[float | None, int]:
    """Succeeded ÷ judged calls, and how many of those there are: all but cancelled, denied and replayed ones."""
    n = sum(k for state, k in counts.items() if state not in NOT_JUDGED)
    return (counts.get("succeeded", 0) / n if n else None), n


def _times(now: Period, previous: Period | None) -> list[Kpi]:
    times = []
    for key, title, metric, q in TIMES:
        n, value = overall(now, metric, q)
        was = overall(previous, metric, q)[1] if previous else None
        change = _ratio(value, was)
        show = formatting.rate if metric == "decode" else formatting.seconds
        times.append(
            Kpi(
                key,
                title,
                value,
                show(value),
                n,
                _percent(change),
                why_missing(q, n),
                change,
                _better(change, more_is_better=metric == "decode"),
                f"n {n:,}",
                HELP["ttft"],
            )
        )
    return times


def overall(period: Period, metric: str, q: float) -> tuple[int, float | None]:
    """How many calls were measured, and a percentile of all of them; None where there are too few."""
    quantiles, key = period.quantiles, (metric, q)
    if key not in quantiles:
        quantiles_needed = [quantile for _, _, name, quantile in TIMES if name == metric] if key in _IN_TIMES else [q]
        n, values = by_group(period.measured(metric), np.zeros(len(period.rows), dtype=np.int64), 1, quantiles_needed)
        quantiles |= {
            (metric, quantile): (int(n[0]), float(values[line, 0])) for line, quantile in enumerate(quantiles_needed)
        }
    n_all, value = quantiles[key]
    return n_all, value if n_all >= NEEDED.get(q, 1) else None


def _spends(now: Period, previous: Period | None) -> list[Kpi]:
    spent, was = spend_of(now), spend_of(previous) if previous else None
    total = spent.total if spent.n_costed or spent.total else None
    change = _ratio(total, was.total if was and (was.n_costed or was.total) else None)
    by_hour = spent.used + spent.idle
    parts = [f"{money(spent.calls)} by calls, {money(by_hour)} by the hour"] if by_hour else []
    parts += [f"{spent.n_unpriced:,} without a known cost"] if spent.n_unpriced else []
    missing = None if total is not None else "no call with a known cost"
    per, per_was = spent.per_1000, was.per_1000 if was else None
    per_change = _ratio(per, per_was)
    return [
        Kpi(
            "spend",
            "Spend",
            total,
            _money(total, spent.mark),
            spent.n_costed,
            _percent(change),
            missing,
            change,
            None,
            ", ".join(parts),
            HELP["spend"],
        ),
        Kpi(
            "spend_1000",
            "Spend per 1,000 calls",
            per,
            _money(per, spent.mark),
            spent.n_costed,
            _percent(per_change),
            missing,
            per_change,
            _better(per_change, more_is_better=False),
            f"n {spent.n_costed:,}",
            HELP["spend_1000"],
        ),
    ]


def _money(nanousd: int | None, mark: str) -> str:
    return formatting.DASH if nanousd is None else money(nanousd, mark)


def _share(share: float) -> str:
    """ "98.7 %"; 100 % only where it is all of them."""
    percent = min(share * 100, 99.9) if share < 1 else 100.0
    return f"{percent:.1f} %" if percent < 100 else "100 %"


def _ratio(value: float | None, was: float | None) -> float | None:
    return None if value is None or not was else value / was - 1


def _percent(change: float | None) -> str:
    if change is None:
        return ""
    return f"{_signed(change * 100, 0)} %" if abs(change) < 10 else f"× {change + 1:,.0f}"


def _signed(value: float, digits: int) -> str:
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return f"±{text}"
    return f"{'+' if value > 0 else '−'}{text}"


def _better(change: float | None, *, more_is_better: bool) -> bool | None:
    return None if not change else (change > 0) == more_is_better
