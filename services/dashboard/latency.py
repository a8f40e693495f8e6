"""Latency over time and by weekday and hour, how much was done, and how calls ended."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db import history
from services.dashboard.data import Data, moments_of
from services.dashboard.quantiles import Measured, by_group, measured, shown
from services.dashboard.window import HOURS_UP_TO


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
