"""Deployments against each other: distributions, speed against price, the ranking."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from services.dashboard.data import Data
from services.dashboard.kpis import success_of
from services.dashboard.quantiles import by_group, median_interval, shown

POINTS = 200
NANO = 1e9


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
    dollars = nanousd / NANO * times
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
