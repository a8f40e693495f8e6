"""What calls and hours cost. Everything is integer nano-dollars, so that sums are exact."""

from __future__ import annotations

import calendar
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db.rollups import DRIVERS
from services.dashboard.data import Data, Period
from services.dashboard.hours import rate_now
from services.dashboard.keys import BYS, UNKNOWN, keyed
from services.dashboard.window import Buckets
from services.pricing.cost import money

__all__ = ["BYS", "COST_DRIVERS", "PACE_HELP", "Pace", "Savings", "Spend", "cost", "pace", "savings", "spend"]

# Driver → the columns of the rollups that it adds up, in the order in which they are stacked.
FROM_CALLS: Mapping[str, tuple[str, ...]] = {
    "uncached input": ("cost_uncached_input",),
    "cache read": ("cost_cache_read",),
    "cache write": ("cost_cache_write_5m", "cost_cache_write_1h"),
    "output": ("cost_reasoning_output", "cost_answer_output"),
    "not itemised": (),  # what a call cost beyond its drivers
}
HOURS = {"hours used": "used_nanousd", "hours idle": "idle_nanousd"}
COST_DRIVERS = (*FROM_CALLS, *HOURS)
BY_THE_HOUR = "paid by the hour"
PACE_DAYS = 7
PACE_HELP = (
    "What was spent since the month began, and what the whole month will have cost at this pace: what was spent, the "
    "hours that are left of every deployment that is paid by the hour and on now, and calls that go on as in the month "
    f"so far, or in its last {PACE_DAYS} days where it is older."
)


@dataclass(frozen=True, slots=True)
class Spend:
    """All that was spent, in nano-dollars. ``calls`` is to the nano-dollar the sum of the calls' costs; ``used`` and
    ``idle`` are the hours of hour-priced deployments. ``n_costed``: calls whose cost is known or that ran on an
    hour-priced deployment. ``n_unpriced``: the others. ``mark``: "≥" where some cost is a lower bound."""

    calls: int
    used: int
    idle: int
    n_costed: int
    n_unpriced: int
    n_bounded: int

    @property
    def total(self) -> int:
        """Calls and hours."""
        return self.calls + self.used + self.idle

    @property
    def per_1000(self) -> int | None:
        """`total` per 1,000 calls with a known cost, in nano-dollars; None without any."""
        return round(self.total * 1000 / self.n_costed) if self.n_costed else None

    @property
    def mark(self) -> str:
        """ "≥" for a lower bound."""
        return "≥" if self.n_bounded else ""


@dataclass(frozen=True, slots=True)
class Savings:
    """What was saved against the plain price (no caching, no batch), in nano-dollars; below 0: it cost more.

    ``batch`` is what calls of batches saved, by their price and by caching in them; ``caching`` what all others did.
    """

    plain: int
    paid: int
    caching: int
    batch: int


@dataclass(frozen=True, slots=True)
class Pace:
    """The month so far. ``expected``: what the whole month costs at this pace (`pace`); None in its first hour.
    ``days``: day (in the zone), spent (nano-dollars up to the end of that day), budget (the line up to then, NaN
    without one)."""

    spent: int
    expected: int | None
    budget: int | None
    days: pd.DataFrame
    text: str


def cost(data: Data, by: str) -> pd.DataFrame:
    """key, driver (`COST_DRIVERS`), nanousd, hatched: what was spent, by one of `BYS` and by driver.

    Keys come with the largest first ("day": in order), a deployment's is its id, a day's an ISO date, whatever is
    known of nobody has a key in words. Lines of 0 are left out. The sum is that of `spend`, whatever ``by`` is.
    ``hatched``: paid for idle time.
    """
    if by not in BYS:
        raise ValueError(f"cost has no view by {by!r}; it can be {', '.join(BYS)}")
    table = _calls_by(data, by)
    hours = data.period.hours
    if len(hours):
        keys = keys_of_hours(data, by)
        for driver, column in HOURS.items():
            table = pd.concat([table, pd.DataFrame({"key": keys, "driver": driver, "nanousd": hours[column]})])
    table = table.groupby(["key", "driver"], as_index=False, sort=False)["nanousd"].sum()
    table = table[table["nanousd"] != 0]
    table["hatched"] = table["driver"] == "hours idle"
    place = {driver: number for number, driver in enumerate(COST_DRIVERS)}
    table["place"] = table["driver"].map(place)
    table["all"] = table.groupby("key")["nanousd"].transform("sum")
    order = ["key", "place"] if by == "day" else ["all", "key", "place"]
    table = table.sort_values(order, ascending=[True, True] if by == "day" else [False, True, True])
    return table[["key", "driver", "nanousd", "hatched"]].reset_index(drop=True)


def _calls_by(data: Data, by: str) -> pd.DataFrame:
    rows, keys, rest = keyed(data, by)
    found = _driven(rows).groupby(np.asarray(keys, dtype=object), sort=False).sum()
    if rest:
        found.loc[rest] = found.loc[rest] if rest in found.index else 0
        found.loc[rest] += _driven(data.period.rows).sum() - found.sum()
    long = found.rename_axis("key").reset_index().melt("key", var_name="driver", value_name="nanousd")
    return long.astype({"nanousd": "int64"})


def _driven(rows: pd.DataFrame) -> pd.DataFrame:
    columns = {
        driver: sum((rows[name] for name in names), pd.Series(0, index=rows.index, dtype="int64"))
        for driver, names in FROM_CALLS.items()
    }
    columns["not itemised"] = rows["cost_nanousd"] - rows[list(DRIVERS)].sum(axis=1)
    return pd.DataFrame(columns)


def keys_of_hours(data: Data, by: str) -> list[str]:
    """For each line of the hours the key that it has in `cost`."""
    hours = data.period.hours
    if by == "day":
        labels = data.days.labels
        return [labels[day].date().isoformat() for day in hours["day"]]
    if by == "deployment":
        return [str(one) for one in hours["deployment_id"]]
    if by in ("model", "kind"):
        known = [data.deployments.get(one) for one in hours["deployment_id"]]
        return [getattr(one, by) if one is not None else UNKNOWN for one in known]
    return [BY_THE_HOUR] * len(hours)


def spend(data: Data) -> Spend:
    """What the period cost."""
    return spend_of(data.period)


def spend_of(period: Period) -> Spend:
    """What a period cost."""
    totals, hours = period.totals, period.hours
    hourly = period.rows["deployment_id"].isin(hours["deployment_id"].unique())
    on_hours = int(period.rows.loc[hourly, "n"].sum() - period.rows.loc[hourly, "n_priced"].sum())
    costed = totals["n_priced"] + on_hours
    return Spend(
        totals["cost_nanousd"], int(hours["used_nanousd"].sum()), int(hours["idle_nanousd"].sum()), costed,
        totals["n"] - costed, totals["n_bounded"],
    )  # fmt: skip


def savings(data: Data) -> Savings:
    """What caching and batches saved, from the calls' costs and what they would have cost at the plain price."""
    rows = data.period.rows
    saved = rows["plain_nanousd"] - rows["cost_nanousd"]
    in_batch = int(saved[rows["source"] == "batch"].sum())
    totals = data.period.totals
    return Savings(totals["plain_nanousd"], totals["cost_nanousd"], int(saved.sum()) - in_batch, in_batch)


def pace(data: Data, budget: int | None = None) -> Pace:
    """The month so far against a ``budget`` (nano-dollars for the month), from data of the range "mtd" (or lean).

    At this pace the month costs what was spent, plus the rate of the hour-priced deployments that are on now × the
    hours that are left, plus what the calls cost if they go on as in the month so far, or as in its last 7 days (begun
    ones whole) where it is older. So a machine that was rented yesterday counts from yesterday and until the month's
    end. Of a selection that leaves idle time out (`hours.hours_of`), hours in use go on as the calls do.
    """
    rows, labels = data.period.rows, data.days.labels
    calls, hours = np.zeros(len(labels), dtype=np.int64), np.zeros(len(labels), dtype=np.int64)
    np.add.at(calls, data.days.number(rows["at"].to_numpy()), rows["cost_nanousd"].to_numpy(np.int64))
    for column in HOURS.values():
        np.add.at(hours, data.period.hours["day"].to_numpy(np.int64), data.period.hours[column].to_numpy(np.int64))
    spent = (calls + hours).cumsum()
    month = _month_s(data.window.start.astimezone(ZoneInfo(data.window.zone)))
    gone = (data.window.end - data.window.start).total_seconds()
    line = [np.nan if budget is None else budget * min(1.0, (n + 1) * 86_400 / month) for n in range(len(labels))]
    total = int(spent[-1]) if len(spent) else 0
    expected = None
    if gone >= 3600:
        rate = rate_now(data.engine, data.filter, data.deployments, data.window.end)
        going = calls if rate is not None else calls + hours
        expected = total + round((_recent_per_s(going, data.days) + (rate or 0) / 3600) * max(month - gone, 0.0))
    days = pd.DataFrame({"day": labels, "spent": spent, "budget": line})
    return Pace(total, expected, budget, days, _pace_words(total, expected, budget))


def _recent_per_s(by_day: NDArray[np.int64], days: Buckets) -> float:
    """What of a sum by day falls on each second of the last 7 days, or of all of them where they are fewer."""
    first = int(days.number(days.edges[-1:] - np.timedelta64(PACE_DAYS, "D"))[0])
    seconds = (days.edges[-1] - days.edges[first]) / np.timedelta64(1, "s")
    return float(by_day[first:].sum() / seconds)


def _month_s(first: datetime) -> float:
    length = calendar.monthrange(first.year, first.month)[1]
    after = (first.replace(tzinfo=None) + timedelta(days=length)).replace(tzinfo=first.tzinfo)
    return after.timestamp() - first.timestamp()


def _pace_words(spent: int, expected: int | None, budget: int | None) -> str:
    words = f"{money(spent)} so far this month"
    if expected is not None:
        words += f", pace {money(expected)}"
    if budget is None:
        return words
    share = f" ({expected / budget * 100:.0f} %)" if expected is not None and budget > 0 else ""
    return f"{words} of {money(budget)}{share}"
