"""What of a bar of costs is calls and what was paid by the hour: behind the hours there is no call to list."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from services.dashboard.cost import HOURS, cost, keys_of_hours
from services.dashboard.data import Data
from services.dashboard.hours import is_narrow
from services.dashboard.keys import keyed
from services.pricing.cost import money

NANO = 10**9


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
    mine = np.array([one == key for one in keys_of_hours(data, by)], dtype=bool)
    lines = data.period.hours[mine]
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
    rates = {money(round(one)) for one in (amounts[there] / seconds[there] * 3600)}
    rate = f"{money(round((used + idle) / hours))}/h" + (" on average" if len(rates) > 1 else "") if hours else ""
    n = int(rows.loc[keys == key, "n"].sum())
    return Paid(n, all_of_it - used - idle, used, idle, hours, rate, narrowed)


def paid_words(found: Paid) -> str:
    """The bar in one sentence whose amounts, as they are written, add up to it."""
    parts = sorted(one for one in (found.calls, found.by_the_hour) if one > 0)
    step = _step(parts[0])
    whole, least = _rounded(found.total, step), _rounded(parts[0], step)
    # The larger part takes what rounding leaves over.
    larger = whole - least if len(parts) > 1 else whole
    if not found.calls:
        by_calls, by_the_hour = Decimal(0), larger
    else:
        by_calls, by_the_hour = (least, larger) if found.calls <= found.by_the_hour else (larger, least)
    time = f"{_hours(found.hours)}{' in use' if found.narrowed else ''}{f' at {found.rate}' if found.rate else ''}"
    if found.narrowed:
        rest = "no call stands behind them, and idle time is in no bar of a selection as narrow as this"
    else:
        rest = f"of which {_percent(found.idle / found.by_the_hour)} idle: no call stands behind them"
    if not found.n and not found.calls:
        return f"{_dollars(whole)} in this bar are {time}, {rest}."
    calls = "is 1 call" if found.n == 1 else f"are {found.n:,} calls"
    return f"{_dollars(whole)} in this bar: {_dollars(by_calls)} {calls}, {_dollars(by_the_hour)} are {time}, {rest}."


def _step(nanousd: int) -> Decimal:
    """The last digit that is written: cents, or finer where nothing would be left of the amount."""
    return Decimal(1).scaleb(min(-2, max((Decimal(nanousd) / NANO).adjusted(), -9)))


def _rounded(nanousd: int, step: Decimal) -> Decimal:
    return (Decimal(nanousd) / NANO).quantize(step, rounding=ROUND_HALF_UP)


def _dollars(amount: Decimal) -> str:
    return f"${amount:,f}" if amount else "$0"


def _percent(share: float) -> str:
    if 0.995 <= share < 1:
        return "over 99 %"
    return "under 1 %" if 0 < share < 0.005 else f"{share * 100:.0f} %"


def _hours(hours: float) -> str:
    return f"{hours * 60:.0f} min" if hours < 1 else f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"
