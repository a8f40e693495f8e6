"""How much was done over time, and how calls ended."""

from __future__ import annotations

import numpy as np
import pandas as pd

from services.dashboard.data import Data


def throughput(data: Data) -> pd.DataFrame:
    """bucket (its beginning, in the zone), deployment_id, calls, calls_per_min, out_tok_s, in_flight, running.

    A line for every deployment and bucket, zeros where nothing happened. Calls, their tokens and their time count in
    the bucket in which they were made. ``in_flight``: the time that calls were under way ÷ the length of the bucket,
    which is how many were under way at once on average. ``running``: the window holds only a part of the bucket.
    """
    wide, ids = len(data.buckets), data.ids
    codes = data.deployment_codes * wide + data.bucket_codes
    rows = data.period.rows
    part = pd.DataFrame({
        "calls": rows["n"], "tokens": rows["reasoning_output"] + rows["answer_output"], "busy_ms": rows["busy_ms"],
    })  # fmt: skip
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
    found, kinds = pd.factorize(rows["state"], sort=True)
    sums = rows["n"].groupby(found * wide + data.bucket_codes).sum().reindex(range(len(kinds) * wide), fill_value=0)
    return pd.DataFrame(
        {
            "bucket": data.buckets.labels[np.tile(np.arange(wide), len(kinds))],
            "state": np.repeat(np.asarray(kinds, dtype=object), wide),
            "n": sums.to_numpy(),
            "running": np.tile(data.buckets.is_partial, len(kinds)),
        }
    )
