"""What calls and hours cost, what of a bar is which, and what the same calls would cost today."""

from __future__ import annotations

import calendar
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from db.history import PriceUse, price_uses
from db.rollups import DRIVERS
from services.dashboard.calls import BYS, UNKNOWN, keyed
from services.dashboard.data import Data, Period, is_narrow, rate_now
from services.dashboard.window import Buckets
from services.formatting import NANODOLLARS
from services.pricing import cost as pricing_cost
from services.pricing import overview
from services.pricing.cost import money

__all__ = [
    "BYS",
    "BY_THE_HOUR",
    "COLUMNS",
    "COST_DRIVERS",
    "FROM_CALLS",
    "HOURS",
    "NOT_COUNTED",
    "NOT_READABLE",
    "NO_PRICE_THEN",
    "NO_PRICE_TODAY",
    "PACE_DAYS",
    "PACE_HELP",
    "Line",
    "Pace",
    "Paid",
    "Repriced",
    "Savings",
    "Spend",
    "cost",
    "keys_of_hours",
    "pace",
    "paid",
    "paid_words",
    "repriced",
    "savings",
    "spend",
    "spend_of",
]


Line = tuple[str, int, int | None, int | None, int | None, str]

COLUMNS = ("deployment_id", "n", "was_nanousd", "today_nanousd", "difference", "reason")

NO_PRICE_THEN, NO_PRICE_TODAY = "had no price by the token", "has no price by the token today"

NOT_READABLE = "has a price row that is not readable"

NOT_COUNTED = "lacks some count of its tokens"


@dataclass(frozen=True, slots=True)
class Repriced:
    """``table``: deployment_id, n, was_nanousd, today_nanousd, difference (None where the two cannot be compared) and
    the ``reason`` why not ("" where they can). One line for each deployment, whatever prices its calls were made at,
    and one more for each reason why some of them cannot be compared. ``was`` and ``today``: the sums of the lines with
    both. ``words`` say what is and is not in them."""

    table: pd.DataFrame
    was: int
    today: int
    words: str


def repriced(data: Data) -> Repriced:
    """The calls of the filter that are still kept, one by one, at the prices of ``data.now``.

    Tokens × today's rates, in the service tier that served the call and as a batch where it was one. Calls whose price
    did not change, and calls of deployments that are declared nowhere any more, stand with what they cost.
    """
    bounds: tuple[int, ...] = overview.USUAL_BOUNDS
    uses = price_uses(data.engine, bounds, data.wanted)
    called = {use.deployment_id for use in uses}
    today = [pricing_cost.price_of(d, data.now) for d in data.deployments.values() if d.id in called]
    if (wider := overview.bounds(uses, today)) != bounds:
        bounds = wider
        uses = price_uses(data.engine, bounds, data.wanted)
    lines = _lines(data, uses, bounds)
    table = pd.DataFrame(lines, columns=list(COLUMNS), dtype=object)
    comparable = [line for line in lines if line[4] is not None]
    was, now = sum(line[2] or 0 for line in comparable), sum(line[3] or 0 for line in comparable)
    return Repriced(table, was, now, _words(lines, was, now, data))


def _lines(data: Data, uses: Sequence[PriceUse], bounds: Sequence[int]) -> list[Line]:
    changed = overview.changes(data.deployments, uses, bounds, data.now)
    lines: list[Line] = [
        (change.deployment.id, change.n, change.nanousd, change.today_nanousd, change.difference, _reason(change))
        for change in changed
    ]
    for deployment_id in dict.fromkeys(use.deployment_id for use in uses):
        uses_here = [use for use in uses if use.deployment_id == deployment_id]
        of_it = [change for change in changed if change.deployment.id == deployment_id]
        n = sum(use.n_billed for use in uses_here) - sum(change.n for change in of_it)
        paid = sum(use.nanousd for use in uses_here) - sum(change.nanousd or 0 for change in of_it)
        if paid:
            lines.append((deployment_id, max(n, 0), paid, paid, 0, ""))
    return sorted(_summed(lines), key=lambda line: (data.slot(line[0]), line[0], line[5]))


def _reason(change: overview.Change) -> str:
    if change.difference is not None:
        return ""
    if change.damaged:
        return NOT_READABLE
    if change.nanousd is None:
        return NO_PRICE_THEN
    by_token = change.now is not None and change.now.rates is not None
    return NOT_COUNTED if by_token else NO_PRICE_TODAY


def _summed(lines: Sequence[Line]) -> list[Line]:
    """One line for each deployment and reason."""
    groups: dict[tuple[str, str], list[Line]] = {}
    for line in lines:
        groups.setdefault((line[0], line[5]), []).append(line)
    return [
        (
            of,
            sum(line[1] for line in group),
            _sum(line[2] for line in group),
            _sum(line[3] for line in group),
            _sum(line[4] for line in group),
            reason,
        )
        for (of, reason), group in groups.items()
    ]


def _sum(amounts: Iterable[int | None]) -> int | None:
    amounts_known = [amount for amount in amounts if amount is not None]
    return sum(amounts_known) if amounts_known else None


def _words(lines: Sequence[Line], was: int, now: int, data: Data) -> str:
    day = data.now.date().isoformat()
    words = (
        f"At the prices of {day} the same tokens cost {pricing_cost.money(now)}; they cost {pricing_cost.money(was)}."
    )
    without = sum(line[1] for line in lines if line[4] is None)
    if without:
        words += f" {without:,} calls are not in this: they have, or had, no price by the token."
    if data.period.totals["n"] and not lines:
        words = "No call of this range that is still kept has a price by the token."
    return words + " Nothing is changed by looking: every call keeps the price it was made at."


@dataclass(frozen=True, slots=True)
class Paid:
    """A bar in nano-dollars: ``calls`` (``n`` of them) + ``used`` + ``idle``. ``hours``: how long that was on; where
    idle time is in no bar (``narrowed``), how long it was in use. ``rate``: "$1.21/h", with "on average" where there
    were several."""

    n: int
    calls: int
    used: int
    idle: int
    hours: float
    rate: str
    narrowed: bool

    @property
    def by_the_hour(self) -> int:
        """What the hours cost."""
        return self.used + self.idle

    @property
    def total(self) -> int:
        """What the bar shows."""
        return self.calls + self.by_the_hour


def paid(data: Data, by: str, key: str) -> Paid | None:
    """How the bar ``key`` of `cost` by ``by`` is made up; None where nothing in it was paid by the hour."""
    in_bar = np.array([hour_key == key for hour_key in keys_of_hours(data, by)], dtype=bool)
    lines = data.period.hours[in_bar]
    used, idle = (int(lines[column].sum()) for column in HOURS.values())
    if not used + idle:
        return None
    frame, (rows, keys, _) = cost(data, by), keyed(data, by)
    all_of_it = int(frame.loc[frame["key"] == key, "nanousd"].sum())
    narrowed = is_narrow(data.filter)
    seconds = lines["busy_s" if narrowed else "on_s"].astype(float)
    hours = float(seconds.sum()) / 3600
    amounts = lines["used_nanousd"] + lines["idle_nanousd"]
    there = seconds >= 1  # a sliver's rate is that of its rounding
    rates = {money(round(rate)) for rate in (amounts[there] / seconds[there] * 3600)}
    rate = f"{money(round((used + idle) / hours))}/h" + (" on average" if len(rates) > 1 else "") if hours else ""
    n = int(rows.loc[keys == key, "n"].sum())
    return Paid(n, all_of_it - used - idle, used, idle, hours, rate, narrowed)


def paid_words(paid: Paid) -> str:
    """The bar in one sentence whose amounts, as they are written, add up to it."""
    parts = sorted(amount for amount in (paid.calls, paid.by_the_hour) if amount > 0)
    step = _step(parts[0])
    total, smallest = _rounded(paid.total, step), _rounded(parts[0], step)
    # The larger part takes what rounding leaves over.
    larger = total - smallest if len(parts) > 1 else total
    if not paid.calls:
        by_calls, by_the_hour = Decimal(0), larger
    else:
        by_calls, by_the_hour = (smallest, larger) if paid.calls <= paid.by_the_hour else (larger, smallest)
    time = f"{_hours(paid.hours)}{' in use' if paid.narrowed else ''}{f' at {paid.rate}' if paid.rate else ''}"
    if paid.narrowed:
        remark = "no call stands behind them, and idle time is in no bar of a selection as narrow as this"
    else:
        remark = f"of which {_percent(paid.idle / paid.by_the_hour)} idle: no call stands behind them"
    if not paid.n and not paid.calls:
        return f"{_dollars(total)} in this bar are {time}, {remark}."
    calls = "is 1 call" if paid.n == 1 else f"are {paid.n:,} calls"
    return f"{_dollars(total)} in this bar: {_dollars(by_calls)} {calls}, {_dollars(by_the_hour)} are {time}, {remark}."


def _step(nanousd: int) -> Decimal:
    """The last digit that is written: cents, or finer where nothing would be left of the amount."""
    return Decimal(1).scaleb(min(-2, max((Decimal(nanousd) / NANODOLLARS).adjusted(), -9)))


def _rounded(nanousd: int, step: Decimal) -> Decimal:
    return (Decimal(nanousd) / NANODOLLARS).quantize(step, rounding=ROUND_HALF_UP)


def _dollars(amount: Decimal) -> str:
    return f"${amount:,f}" if amount else "$0"


def _percent(share: float) -> str:
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"


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
    rows, keys, left_over = keyed(data, by)
    sums = _driven(rows).groupby(np.asarray(keys, dtype=object), sort=False).sum()
    if left_over:
        sums.loc[left_over] = sums.loc[left_over] if left_over in sums.index else 0
        sums.loc[left_over] += _driven(data.period.rows).sum() - sums.sum()
    long = sums.rename_axis("key").reset_index().melt("key", var_name="driver", value_name="nanousd")
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
        return [str(deployment_id) for deployment_id in hours["deployment_id"]]
    if by in ("model", "kind"):
        deployments = [data.deployments.get(deployment_id) for deployment_id in hours["deployment_id"]]
        return [getattr(deployment, by) if deployment is not None else UNKNOWN for deployment in deployments]
    return [BY_THE_HOUR] * len(hours)


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
        totals["cost_nanousd"],
        int(hours["used_nanousd"].sum()),
        int(hours["idle_nanousd"].sum()),
        costed,
        totals["n"] - costed,
        totals["n_bounded"],
    )


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
    day_after = (first.replace(tzinfo=None) + timedelta(days=length)).replace(tzinfo=first.tzinfo)
    return day_after.timestamp() - first.timestamp()


def _pace_words(spent: int, expected: int | None, budget: int | None) -> str:
    words = f"{money(spent)} so far this month"
    if expected is not None:
        words += f", pace {money(expected)}"
    if budget is None:
        return words
    share = f" ({expected / budget * 100:.0f} %)" if expected is not None and budget > 0 else ""
    return f"{words} of {money(budget)}{share}"
