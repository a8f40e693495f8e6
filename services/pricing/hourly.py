"""What an hour-priced deployment really costs: idle time is paid for too (docs/metrics.md, "Counts and cost").

Pure arithmetic. Money is `Decimal` in US dollars, or integer nano-dollars where a name says so; times are seconds
unless a name says otherwise. "Busy" is the time in which at least one call of ours held the machine: calls that others
made to it are not known here, and neither is when it was switched off, so it counts as on since it was first declared.

A deployment is on from the moment it is declared here and switched on until it is switched off, taken off the list or
given another price. Whether this program runs makes no difference: a rented machine costs money while the engine is
down. What is not known here is not counted: a provisioned throughput or an endpoint that ran before it was declared
here, or that somebody stops at AWS, counts from its declaration to its being switched off here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation

import pandas as pd
from sqlalchemy import Engine, select
from sqlmodel import Session, col

from db import small_tables
from db.models import DeploymentRow
from db.run_rows import HoldingCall
from db.small_tables import Meter
from services.formatting import NANODOLLARS, money, percent
from services.pricing import cost
from services.pricing.cost import Price
from services.types import Deployment

HOUR_US = 3_600_000_000

COLUMNS = ("deployment_id", "on_at", "off_at", "usd_per_hour", "nanousd")


def hourly(deployment: Deployment, moment: datetime) -> Price | None:
    """The price of a deployment that is paid by the hour; None for one that is not, is free, or has no known price."""
    ref = deployment.price
    if ref.override is not None or (ref.per_hour is None and ref.instance is None):
        return None
    try:
        price = cost.price_of(deployment, moment)
    except ValueError:
        return None
    return price if price is not None and price.per_hour is not None and Decimal(price.per_hour) > 0 else None


def settle(*, session: Session, moment: datetime | None = None) -> int:
    """Bring the stretches in line with the deployments as they are in ``session``; returns how many changed.

    Call it in the transaction of every change to the deployments. One that was never on before counts since the last
    change of its declaration, which is where it was on before this was recorded.
    """
    now = moment or datetime.now(UTC)
    rows = session.execute(
        select(col(DeploymentRow.id), col(DeploymentRow.spec), col(DeploymentRow.updated_at)).where(
            col(DeploymentRow.enabled).is_(True), col(DeploymentRow.archived).is_(False)
        )
    ).all()
    on: dict[str, Meter] = {}
    for deployment_id, spec, since in rows:
        price = hourly(Deployment.from_json(spec), now) if spec else None
        if price is not None and price.per_hour is not None:
            on[deployment_id] = Meter(price.per_hour, price.to_json(), since)
    return small_tables.settle(session=session, on=on, at=now)


def accrued(engine: Engine, start: datetime, end: datetime, now: datetime | None = None) -> pd.DataFrame:
    """The stretches in which hour-priced deployments were on from ``start`` to ``end`` (aware, exclusive), clipped.

    Columns: ``deployment_id``, ``on_at`` and ``off_at`` (UTC), ``usd_per_hour`` (float), ``nanousd`` (what the stretch
    cost). A deployment has several when its price or its switch changed. Nothing accrues after ``now``.
    """
    until = min(end, now or datetime.now(UTC))
    lines = []
    for row in small_tables.stretches(engine, start, until):
        on_at, off_at = max(row.on_at, start), min(row.off_at or until, until)
        if off_at > on_at:
            usd = row.usd_per_hour
            lines.append((row.deployment_id, on_at, off_at, float(usd), nanousd(usd, on_at, off_at)))
    frame = pd.DataFrame(lines, columns=list(COLUMNS))
    for name in ("on_at", "off_at"):
        frame[name] = pd.to_datetime(frame[name], utc=True)
    return frame.astype({"usd_per_hour": "float64", "nanousd": "int64"})


def rates(engine: Engine, moment: datetime) -> dict[str, int]:
    """What each hour-priced deployment that is on at a moment costs, in nano-dollars an hour."""
    rows = small_tables.stretches(engine, moment - timedelta(microseconds=1), moment)
    on = [row for row in rows if row.off_at is None or row.off_at > moment]
    return {row.deployment_id: nanousd(row.usd_per_hour, moment, moment + timedelta(hours=1)) for row in on}


def nanousd(usd_per_hour: str | float, on_at: datetime, off_at: datetime) -> int:
    """What a stretch costs, in nano-dollars; 0 for one that ends before it begins."""
    span = off_at - on_at
    micros = max((span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds, 0)
    return int((Decimal(str(usd_per_hour)) * NANODOLLARS * micros / HOUR_US).to_integral_value(rounding=ROUND_HALF_UP))


WINDOW = timedelta(hours=24)

HOUR_S = 3600

MS_PER_HOUR = 3_600_000


@dataclass(frozen=True, slots=True)
class CallSpan:
    """One call: from when to when (aware) it held the machine, and its output tokens. None: not known."""

    start: datetime
    end: datetime
    output_tokens: int | None = None
    exact: bool = True  # the tokens are the service's own count


@dataclass(frozen=True, slots=True)
class Use:
    """How much a deployment was used in a window of ``window_s`` seconds, and what that cost.

    ``held_s`` is the sum over calls, ``busy_s`` the time with at least one of them. ``calls`` and ``output_tokens`` are
    those of calls that ended in the window. ``exact``: every token count is the service's own and none is missing.
    """

    per_hour: Decimal
    window_s: float
    busy_s: float
    held_s: float
    calls: int
    output_tokens: int
    exact: bool

    @property
    def idle_s(self) -> float:
        """The rest of the window."""
        return self.window_s - self.busy_s

    @property
    def utilisation(self) -> float | None:
        """The share of the window (0 to 1) in which it was busy; None for a window without length."""
        return self.busy_s / self.window_s if self.window_s > 0 else None

    @property
    def concurrency(self) -> float | None:
        """Calls at once while it was busy, on average; None when it never was."""
        return self.held_s / self.busy_s if self.busy_s > 0 else None

    @property
    def cost(self) -> Decimal:
        """What the window cost, busy or not."""
        return self.per_hour * Decimal(str(self.window_s)) / HOUR_S

    @property
    def idle_cost(self) -> Decimal:
        """The part of `cost` that was paid for idle time."""
        return self.per_hour * Decimal(str(self.idle_s)) / HOUR_S

    @property
    def per_1000_calls(self) -> Decimal | None:
        """`cost` spread over the calls: what 1,000 cost at this use. None without calls."""
        return self.cost * 1000 / self.calls if self.calls else None

    @property
    def per_1m_output(self) -> Decimal | None:
        """`cost` spread over the output tokens: what 1,000,000 cost at this use. None without tokens."""
        return self.cost * 1_000_000 / self.output_tokens if self.output_tokens else None


def span_of_call(row: HoldingCall, now: datetime) -> CallSpan | None:
    """When a call held the machine; None for one that never did.

    One that is under way holds it until ``now``.
    """
    start = row["started_at"] or (row["created_at"] if row["state"] == "running" else None)
    if start is None:
        return None
    if row["state"] == "running":
        return CallSpan(start, max(start, now) + timedelta(microseconds=1))
    if row["end_ms"] is None:
        return None
    end = start + timedelta(milliseconds=max(row["end_ms"], 0.0))
    return CallSpan(start, end, row["output"], exact=row["usage_source"] == "provider")


def window_of(declared: datetime, now: datetime) -> tuple[datetime, datetime]:
    """The last 24 hours, or less when the deployment was declared later. Aware datetimes."""
    return min(max(now - WINDOW, declared), now), now


def use_of(calls: Iterable[CallSpan], window: tuple[datetime, datetime], per_hour: Decimal) -> Use:
    """The use of a deployment in a window, from the calls that overlap it in any order."""
    start, end = window
    inside = [span for span in calls if span.end > start and span.start < end]
    spans = [(max(span.start, start), min(span.end, end)) for span in inside]
    ended = [span for span in inside if span.end <= end]
    tokens = [span.output_tokens for span in ended if span.output_tokens is not None]
    return Use(
        per_hour=per_hour,
        window_s=(end - start).total_seconds(),
        busy_s=union(spans).total_seconds(),
        held_s=sum((b - a).total_seconds() for a, b in spans),
        calls=len(ended),
        output_tokens=sum(tokens),
        exact=len(tokens) == len(ended) and all(span.exact for span in ended),
    )


def union(spans: Sequence[tuple[datetime, datetime]]) -> timedelta:
    """How long at least one of the spans lasts; overlaps count once."""
    total = timedelta()
    reached: datetime | None = None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        if end > begin:
            total += end - begin
        reached = end if reached is None else max(end, reached)
    return total


def share_nanousd(per_hour: str | None, end_ms: float | None) -> int | None:
    """What a call would cost if it had been alone on a machine that is never idle: its time × the price of an hour.

    None when the price or the time is not known, or when the hour costs nothing.
    """
    if per_hour is None or end_ms is None or end_ms < 0:
        return None
    try:
        rate = Decimal(per_hour)
    except InvalidOperation:
        return None
    if not rate.is_finite() or rate <= 0:
        return None
    return int((rate * NANODOLLARS * Decimal(str(end_ms)) / MS_PER_HOUR).to_integral_value(rounding=ROUND_HALF_UP))


def words(use: Use) -> str:
    """The use of a deployment and what it cost, as one line; figures that rest on estimates carry "~"."""
    hour = f"{_dollars(use.per_hour)} an hour"
    when = _window_words(use.window_s)
    if use.calls == 0 and use.busy_s == 0:
        return f"{hour} · no call from here in {when}: {_dollars(use.cost)} paid for idle time"
    parts = [
        hour,
        f"busy {percent(use.utilisation or 0.0)} of {when}, counting the calls from here",
        f"{_dollars(use.idle_cost)} of {_dollars(use.cost)} paid for idle time",
    ]
    if use.concurrency is not None and use.concurrency >= 1.05:
        parts[1] += f", {use.concurrency:.1f} at once"
    if use.per_1000_calls is not None:
        parts.append(f"at that use {_dollars(use.per_1000_calls)} per 1,000 calls")
    if use.per_1m_output is not None:
        parts.append(f"{'' if use.exact else '~'}{_dollars(use.per_1m_output)} per 1M output tokens")
    return " · ".join(parts)


def _window_words(window_s: float) -> str:
    if window_s >= WINDOW.total_seconds():
        return "the last 24 h"
    hours = window_s / HOUR_S
    long = f"{hours:.1f} h" if hours >= 1 else f"{window_s / 60:.0f} min"
    return f"the {long} since it was declared"


def _dollars(amount: Decimal) -> str:
    return money(int((amount * NANODOLLARS).to_integral_value(rounding=ROUND_HALF_UP)))
