"""Every figure of the history. One `data` for a filter; each function then makes one panel from it.

Sums are zero where nothing happened, percentiles NaN where too few calls stand behind them. Money is integer
nano-dollars, latencies are ms, speeds tokens per second.
"""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db import history
from services.dashboard.calls import behind
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
from services.dashboard.data import IN_KPIS, LATENCIES, METRICS, Data, load, moments_of
from services.dashboard.filters import PARAMS, RANGE_WORDS, RANGES, Filter
from services.dashboard.kpis import Kpi, kpis, success_of
from services.dashboard.quantiles import Measured, by_group, measured, median_interval, shown
from services.dashboard.window import HOURS_UP_TO, Buckets, Window, resolve
from services.formatting import NANODOLLARS


def throughput(data: Data) -> pd.DataFrame:
    """bucket (its beginning, in the zone), deployment_id, calls, calls_per_min, out_tok_s, in_flight, running.

    A line for every deployment and bucket, zeros where nothing happened. Calls, their tokens and their time count in
    the bucket in which they were made. ``in_flight``: the time that calls were under way ÷ the length of the bucket,
    which is how many were under way at once on average. ``running``: the window holds only a part of the bucket.
    """
    wide, ids = len(data.buckets), data.ids
    codes = data.deployment_codes * wide + data.bucket_codes
    rows = data.period.rows
    part = pd.DataFrame(
        {
            "calls": rows["n"],
            "tokens": rows["reasoning_output"] + rows["answer_output"],
            "busy_ms": rows["busy_ms"],
        }
    )
    sums = part.groupby(codes).sum().reindex(range(len(ids) * wide), fill_value=0)
    seconds = np.maximum(np.tile(data.buckets.seconds, len(ids)), 1e-6)
    return pd.DataFrame(
        {
            "bucket": data.buckets.labels[np.tile(np.arange(wide), len(ids))],
            "deployment_id": np.repeat(np.array(ids, dtype=object), wide),
            "calls": sums["calls"].to_numpy(),
            "calls_per_min": sums["calls"].to_numpy() * 60 / seconds,
            "out_tok_s": sums["tokens"].to_numpy() / seconds,
            "in_flight": sums["busy_ms"].to_numpy() / 1000 / seconds,
            "running": np.tile(data.buckets.is_partial, len(ids)),
        }
    )


def states(data: Data) -> pd.DataFrame:
    """bucket, state, n, running (as in `throughput`): how calls ended over time. A line for every bucket and every
    state that occurs."""
    wide, rows = len(data.buckets), data.period.rows
    states_of_rows, kinds = pd.factorize(rows["state"], sort=True)
    sums = (
        rows["n"]
        .groupby(states_of_rows * wide + data.bucket_codes)
        .sum()
        .reindex(range(len(kinds) * wide), fill_value=0)
    )
    return pd.DataFrame(
        {
            "bucket": data.buckets.labels[np.tile(np.arange(wide), len(kinds))],
            "state": np.repeat(np.asarray(kinds, dtype=object), wide),
            "n": sums.to_numpy(),
            "running": np.tile(data.buckets.is_partial, len(kinds)),
        }
    )


QS = (0.50, 0.95, 0.99)


def latency(data: Data, metric: str) -> pd.DataFrame:
    """A figure over time: deployment_id, bucket (its beginning, in the zone), n, p50, p95, p99, running.

    A line for every deployment and bucket; n is how many calls were measured. p95 is NaN below 20 of them, p99 below
    100, and all three without any. ``running``: the window holds only a part of the bucket.
    """
    data = data.having(metric)
    wide, ids = len(data.buckets), data.ids
    n, values = by_group(
        data.period.measured(metric), data.deployment_codes * wide + data.bucket_codes, len(ids) * wide, QS
    )
    return pd.DataFrame(
        {
            "deployment_id": np.repeat(np.array(ids, dtype=object), wide),
            "bucket": data.buckets.labels[np.tile(np.arange(wide), len(ids))],
            "n": n,
            **{f"p{q * 100:.0f}": shown(q, n, values[line]) for line, q in enumerate(QS)},
            "running": np.tile(data.buckets.is_partial, len(ids)),
        }
    )


def heatmap(data: Data, metric: str) -> pd.DataFrame:
    """The median by time of day and weekday: weekday (0 = Monday), hour (0–23), both of the zone, n, p50 (NaN without
    calls). 168 lines. Of a range above 31 days, where hours are not kept apart, its last 31 (`heatmap_said`)."""
    if data.window.grain == "h":
        data = data.having(metric)
        found, moments = data.period.measured(metric), data.period.rows["at"].to_numpy()
    else:
        found, moments = data._kept.get(f"heat {metric}") or _last_days(data, metric)
        data._kept[f"heat {metric}"] = (found, moments)
    local = pd.DatetimeIndex(moments).tz_localize("UTC").tz_convert(data.window.zone)
    codes = np.asarray(local.day_of_week * 24 + local.hour, dtype=np.int64)
    n, values = by_group(found, codes, 168, (0.50,))
    every = np.arange(168)
    return pd.DataFrame({"weekday": every // 24, "hour": every % 24, "n": n, "p50": values[0]})


def heatmap_said(data: Data) -> str:
    """What the heat map covers, where that is not the whole range; "" where it is."""
    return "" if data.window.grain == "h" else "The last 31 days of the range."


def _last_days(data: Data, metric: str) -> tuple[Measured, NDArray[np.datetime64]]:
    start = max(data.window.start, data.window.end - HOURS_UP_TO)
    selection = replace(data.wanted, start=start)
    read = history.pieces(data.engine, selection, grain="h", sketches=(metric,), sums=())
    return measured(read.cells[metric].tolist(), read.calls[metric].to_numpy(dtype=float)), moments_of(read)


POINTS = 200


def distribution(data: Data, metric: str) -> pd.DataFrame:
    """deployment_id, value, share: the empirical distribution of each deployment in at most 200 points.

    ``share`` of the calls took at most ``value``. A deployment of which nothing was measured has no line.
    """
    data = data.having(metric)
    n, values = by_group(data.period.measured(metric), data.deployment_codes, len(data.ids), np.linspace(0, 1, POINTS))
    parts = []
    for number, deployment_id in enumerate(data.ids):
        k = int(n[number])
        if k == 0:
            continue
        shares = np.linspace(0, 1, POINTS) if k > POINTS else np.linspace(1 / k, 1, k)
        curve = values[:, number]
        if k <= POINTS:
            single = by_group(
                data.period.measured(metric),
                np.where(data.deployment_codes == number, 0, -1),
                1,
                np.linspace(0, 1, k) if k > 1 else [0.0],
            )[1]
            curve = single[:, 0]
        parts.append(pd.DataFrame({"deployment_id": deployment_id, "value": curve, "share": shares}))
    columns = ["deployment_id", "value", "share"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def medians(data: Data, metric: str) -> pd.DataFrame:
    """deployment_id, n, p50, low, high: the median with its 95 % interval (NaN below 6 calls)."""
    data = data.having(metric)
    n, table = median_interval(data.period.measured(metric), data.deployment_codes, len(data.ids))
    return pd.DataFrame({"deployment_id": data.ids, "n": n, "p50": table[0], "low": table[1], "high": table[2]})


def scatter(data: Data) -> pd.DataFrame:
    """deployment_id, p95_ttft (ms, NaN below 20 calls), usd_per_1000 (NaN where no cost is known), n."""
    table = ranking(data)[["deployment_id", "ttft_p95", "usd_per_1000", "n"]]
    return table.rename(columns={"ttft_p95": "p95_ttft"})


def ranking(data: Data) -> pd.DataFrame:
    """One line per deployment: deployment_id, n, success (share), ttft_p50, ttft_p95, ttlt_p50, ttlt_p95, decode_p50,
    out_tokens, nanousd (calls and hours), usd_per_1000, usd_per_1m_output, utilisation (share of the paid hours in
    use; NaN for a deployment that is not paid by the hour), n_unpriced.

    Money per call or token counts calls whose cost is known and their tokens, and for a deployment that is paid by
    the hour all that its hours cost, idle ones too: effective, at the measured use.
    """
    if "ranking" not in data._kept:
        data._kept["ranking"] = _ranking(data)
    table: pd.DataFrame = data._kept["ranking"]
    return table.copy()


def _ranking(data: Data) -> pd.DataFrame:
    ids, rows, codes = data.ids, data.period.rows, data.deployment_codes
    tokens = rows["reasoning_output"] + rows["answer_output"]
    part = rows[["n", "n_priced", "cost_nanousd"]].assign(
        out_tokens=tokens, costed_tokens=tokens.where(rows["n_priced"] > 0, 0)
    )
    sums = part.groupby(codes).sum().reindex(range(len(ids)), fill_value=0)
    hours = data.period.hours.groupby("deployment_id")[["on_s", "busy_s", "used_nanousd", "idle_nanousd"]].sum()
    hours = hours.reindex(ids)
    by_hour = hours["on_s"].notna().to_numpy()
    paid = (hours["used_nanousd"].fillna(0) + hours["idle_nanousd"].fillna(0)).astype("int64").to_numpy()
    nanousd = sums["cost_nanousd"].to_numpy() + paid
    costed = np.where(by_hour, sums["n"], sums["n_priced"])
    table = pd.DataFrame({"deployment_id": ids, "n": sums["n"].to_numpy(), "success": _success(data)})
    for metric, q in (("ttft", 0.5), ("ttft", 0.95), ("ttlt", 0.5), ("ttlt", 0.95), ("decode", 0.5)):
        n, values = by_group(data.period.measured(metric), codes, len(ids), [q])
        table[f"{metric}_p{q * 100:.0f}"] = shown(q, n, values[0])
    table["out_tokens"] = sums["out_tokens"].to_numpy()
    table["nanousd"] = nanousd
    table["usd_per_1000"] = _per(nanousd, costed, 1000)
    table["usd_per_1m_output"] = _per(nanousd, np.where(by_hour, sums["out_tokens"], sums["costed_tokens"]), 1e6)
    on = hours["on_s"].to_numpy(dtype=float)
    table["utilisation"] = np.divide(
        hours["busy_s"].to_numpy(dtype=float), on, out=np.full(len(ids), np.nan), where=on > 0
    )
    table["n_unpriced"] = sums["n"].to_numpy() - costed
    return table


def _per(nanousd: NDArray[np.int64], of: NDArray[np.int64], times: float) -> NDArray[np.float64]:
    dollars = nanousd / NANODOLLARS * times
    ratio: NDArray[np.float64] = np.divide(dollars, of, out=np.full(len(dollars), np.nan), where=np.asarray(of) > 0)
    return ratio


def _success(data: Data) -> list[float]:
    rows = data.period.rows
    counts = rows["n"].groupby([data.deployment_codes, rows["state"]]).sum()
    medians = []
    for number in range(len(data.ids)):
        of_it = counts[number] if number in counts.index.get_level_values(0) else {}
        share, _ = success_of({str(state): int(n) for state, n in of_it.items()})
        medians.append(np.nan if share is None else share)
    return medians


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
