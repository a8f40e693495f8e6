"""Every write of runs and calls, as a plain function of one session: the units that `db.writer.Writer` commits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Result,
    Table,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    text,
    update,
)
from sqlmodel import Session, col

from db import rollups
from db.models import Call, DeploymentRow, Owner, Run, Setting, Vote
from db.rollups import CALL, ROLLUP, day_of
from db.run_rows import Json, JsonMapping, KnownCost, NewRun, NewVote
from db.types import storable

LOST = (
    "Our own process ended while this call was under way; its text so far was not kept and it may have been billed: "
    "send it again if you need it."
)

WORKER = "worker-"  # how the id of an owner begins that is a worker of batches and no engine

CHOICES = ("a", "b", "tie", "both_bad", "best")

PART = 500


# The statements of every call, on the bare tables and made once: built anew through the ORM they cost the engine more
# than reading the stream does.
_RUN: Table = Run.__table__  # type: ignore[attr-defined]  # SQLModel adds __table__ at run time


_FINISH = update(CALL).where(CALL.c.id == bindparam("finished_id"), CALL.c.state == "running")

RESERVED_SLOTS = 1000  # from here on: colours that wait until a catalogue model is switched on for the first time


def _now() -> datetime:
    return datetime.now(UTC)


def _rows(result: Result[Any]) -> int:
    """How many rows an UPDATE or a DELETE met."""
    assert isinstance(result, CursorResult)
    return result.rowcount


def _parts(ids: list[str]) -> Iterator[list[str]]:
    """The ids in lists short enough for the number of parameters of one statement."""
    return (ids[start : start + PART] for start in range(0, len(ids), PART))


def insert_run(*, session: Session, values: NewRun | Json) -> None:
    """Record a run before anything of it is sent."""
    session.execute(_RUN.insert(), dict(values))


def set_run_calls(*, session: Session, run_id: str, n_calls: int) -> None:
    """How many calls a run is going to have."""
    session.execute(update(Run).where(col(Run.id) == run_id).values(n_calls=n_calls))


def insert_calls(*, session: Session, rows: Sequence[Json]) -> None:
    """Record calls (state "running") before their requests are sent."""
    session.execute(CALL.insert(), list(rows))


def finish_call(*, session: Session, call_id: str, values: Json) -> bool:
    """Finish a running call, exactly once: a call that is finished already is left alone and False returned."""
    return _rows(session.execute(_FINISH, {**values, "finished_id": call_id})) > 0


# --- engines -------------------------------------------------------------------------------------------------------
def clock(session: Session) -> datetime:
    """Now. On PostgreSQL by the server's clock: engines on several hosts judge each other's heartbeats by it."""
    if session.get_bind().dialect.name == "postgresql":
        now: datetime = session.execute(select(func.now())).scalar_one()
        return now
    return _now()


def adopt_owner(*, session: Session, owner_id: str, pid: int, host: str) -> None:
    """Record that an engine works on this database from now on."""
    now = clock(session)
    session.execute(insert(Owner).values(id=owner_id, pid=pid, host=host, started_at=now, heartbeat_at=now))


def heartbeat(*, session: Session, owner_id: str) -> None:
    """Say that an engine still lives."""
    session.execute(update(Owner).where(col(Owner.id) == owner_id).values(heartbeat_at=clock(session)))


def release_owner(*, session: Session, owner_id: str) -> None:
    """Say that an engine ended in good order."""
    session.execute(update(Owner).where(col(Owner.id) == owner_id).values(stopped_at=clock(session)))


def mark_lost(*, session: Session, owner_id: str, stale_after_s: float, single_owner: bool) -> list[str]:
    """Calls that run under an engine that is dead become *lost*; returns their ids.

    ``single_owner`` (SQLite): every engine but ``owner_id`` is dead. Otherwise one is dead when it stopped, or when
    its heartbeat is older than ``stale_after_s`` seconds. Workers of batches are always judged by their heartbeat.
    """
    fresh = clock(session) - timedelta(seconds=stale_after_s)
    beating = and_(col(Owner.heartbeat_at) > fresh, col(Owner.stopped_at).is_(None))
    if single_owner:
        beating = and_(beating, col(Owner.id).startswith(WORKER))
    alive = select(col(Owner.id)).where(or_(col(Owner.id) == owner_id, beating))
    orphaned = or_(col(Call.owner).is_(None), col(Call.owner).not_in(alive))
    return lose(session=session, condition=orphaned, message=LOST)


# --- what people add -----------------------------------------------------------------------------------------------
def annotate_run(
    *,
    session: Session,
    run_id: str,
    starred: bool | None = None,
    tags: Sequence[str] | None = None,
    note: str | None = None,
) -> bool:
    """Star, tag or note a run; None leaves a field as it is. False when there is no such run."""
    change = update(Run).where(col(Run.id) == run_id)
    if starred is not None:
        change = change.values(starred=starred)
    if tags is not None:
        change = change.values(tags=sorted({storable(tag).strip()[:60] for tag in tags if tag.strip()}))
    if note is not None:
        change = change.values(note=note[:2000])
    if starred is None and tags is None and note is None:
        return True
    done = session.execute(change)
    return _rows(done) > 0


def delete_runs(*, session: Session, run_ids: Sequence[str]) -> int:
    """Delete runs; their calls and votes go with them, and out of the rollups. Returns how many runs there were.

    The days of the calls are unrolled and added anew; where calls were forgotten (`forget_calls`) a day's rollups stay
    as they are, because they could not be made again.
    """
    days = rollups.days_of_runs(session=session, run_ids=list(run_ids))
    kept_since = calls_kept_since(session=session)
    deleted = _delete_runs(session, run_ids)
    rollups.unroll_days(session=session, days=[day for day in days if kept_since is None or day >= kept_since])
    return deleted


def _delete_runs(session: Session, run_ids: Sequence[str]) -> int:
    return sum(_rows(session.execute(delete(Run).where(col(Run.id).in_(ids)))) for ids in _parts(list(run_ids)))


def insert_vote(*, session: Session, values: NewVote) -> None:
    """Record a vote. A person's later vote on the same pair of a repetition, or on its best, replaces the former.

    Raises ValueError for a choice that is not one of `CHOICES`.
    """
    if values["choice"] not in CHOICES:
        raise ValueError(f"A vote is one of: {', '.join(CHOICES)}.")
    same = [
        col(Vote.run_id) == values["run_id"],
        col(Vote.person) == values["person"],
        col(Vote.repetition) == values["repetition"],
    ]
    if values["choice"] == "best":
        same.append(col(Vote.choice) == "best")
    else:
        a, b = values["column_a"], values["column_b"]
        same += [col(Vote.choice) != "best", or_(_pair(a, b), _pair(b, a))]
    session.execute(delete(Vote).where(*same))
    session.execute(insert(Vote).values(**{"created_at": _now(), **values}))


def _pair(a: int | None, b: int | None) -> ColumnElement[bool]:
    return and_(col(Vote.column_a).is_not_distinct_from(a), col(Vote.column_b).is_not_distinct_from(b))


# --- deployments ---------------------------------------------------------------------------------------------------
def upsert_deployment(*, session: Session, deployment_id: str, spec: JsonMapping, origin: str, enabled: bool) -> int:
    """Record a deployment as it is declared now; returns its colour slot, which never changes.

    A new one gets ``spec["color_slot"]`` if that is free, else the lowest slot that no other row ever had. A switch
    that was set on the page stays, unless the declaration's own ``enabled`` has changed since; a deployment of the
    page itself is as it was saved.
    """
    if session.get_bind().dialect.name == "postgresql":
        # Two engines that start together must not both find the same slot free; SQLite has one writer anyway.
        session.execute(text("LOCK TABLE deployment IN SHARE ROW EXCLUSIVE MODE"))
    columns = (col(DeploymentRow.spec), col(DeploymentRow.origin), col(DeploymentRow.archived))
    switches = (col(DeploymentRow.enabled), col(DeploymentRow.color_slot))
    stored = session.execute(select(*columns, *switches).where(col(DeploymentRow.id) == deployment_id)).first()
    now = _now()
    if stored is None:
        slot = _free_slot(session, spec.get("color_slot"))
        session.execute(
            insert(DeploymentRow).values(
                id=deployment_id,
                spec=spec,
                origin=origin,
                enabled=enabled,
                color_slot=slot,
                archived=False,
                created_at=now,
                updated_at=now,
            )
        )
        return slot
    switched = origin == "page" or (stored.spec or {}).get("enabled", True) != enabled
    on = enabled if switched else stored.enabled
    if (stored.spec, stored.origin, stored.archived, stored.enabled) != (spec, origin, False, on):
        _change(session, deployment_id, spec=spec, origin=origin, archived=False, enabled=on, updated_at=now)
    return int(stored.color_slot)


def _free_slot(session: Session, preferred: object = None) -> int:
    taken = set(session.execute(select(col(DeploymentRow.color_slot))).scalars())
    if type(preferred) is int and preferred >= 0 and preferred not in taken:
        return preferred
    return next(slot for slot in range(len(taken) + 1) if slot not in taken)


def _change(session: Session, deployment_id: str, **values: Any) -> None:
    session.execute(update(DeploymentRow).where(col(DeploymentRow.id) == deployment_id).values(**values))


def set_deployment_enabled(*, session: Session, deployment_id: str, enabled: bool) -> None:
    """Switch a deployment on or off. One that was never on before leaves its reserved slot for a colour of its own."""
    change = update(DeploymentRow).where(col(DeploymentRow.id) == deployment_id)
    change = change.values(enabled=enabled, updated_at=_now())
    slot = session.execute(select(col(DeploymentRow.color_slot)).where(col(DeploymentRow.id) == deployment_id)).scalar()
    if enabled and slot is not None and slot >= RESERVED_SLOTS:
        change = change.values(color_slot=_free_slot(session))
    session.execute(change)


def set_deployment_test(*, session: Session, deployment_id: str, test: Json) -> None:
    """Keep the result of the last connection test."""
    _change(session, deployment_id, test=test, tested_at=_now())


def archive_deployment(*, session: Session, deployment_id: str) -> None:
    """Take a deployment off the lists; its row stays so that its colour is never given to another."""
    _change(session, deployment_id, archived=True, updated_at=_now())


def archive_missing_deployments(*, session: Session, keep: Sequence[str], origins: Sequence[str]) -> int:
    """Archive the deployments of these origins that are declared no longer; returns how many."""
    done = session.execute(
        update(DeploymentRow)
        .where(
            col(DeploymentRow.origin).in_(list(origins)),
            col(DeploymentRow.id).not_in(list(keep)),
            col(DeploymentRow.archived).is_(False),
        )
        .values(archived=True, updated_at=_now())
    )
    return _rows(done)


FREE: KnownCost = {"cost_state": "free", "cost_nanousd": 0, "cost_high_nanousd": 0, "cost_drivers": {}}

# An hour has no plain price (`services.pricing.cost`), rates have.
FOR_NOTHING: KnownCost = {**FREE, "plain_nanousd": 0}

HOURLY: KnownCost = {"cost_state": "by_the_hour"}


def lose(*, session: Session, condition: ColumnElement[bool], message: str) -> list[str]:
    """Running calls become *lost*; their ids. What they cost is not known, but a call of a deployment that charges
    nothing costs nothing, and one that is paid by the hour has no cost of its own."""
    done = session.execute(
        update(CALL)
        .where(CALL.c.state == "running", condition)
        .values(state="lost", outcome="lost", message=message, ended_at=datetime.now(UTC), cost_state="unknown")
        .returning(CALL.c.id, CALL.c.price)
    )
    cost_of_call = {str(call_id): of_price(price) for call_id, price in done}
    for values in (FREE, FOR_NOTHING, HOURLY):
        for ids in _parts([call_id for call_id, cost in cost_of_call.items() if cost is values]):
            session.execute(update(CALL).where(CALL.c.id.in_(ids)).values(**values))
    return sorted(cost_of_call)


def of_price(price: object) -> KnownCost | None:
    """The columns of the cost of any call at a price (`services.pricing.price.Price.to_json`); None where it depends on
    what the call counted, or where there is no price."""
    if not isinstance(price, Mapping):
        return None
    if (per_hour := price.get("per_hour")) is not None:
        return FREE if _is_zero(per_hour) else HOURLY if _is_amount(per_hour) else None
    tiers = [tier.get("rates") for tier in price.get("tiers") or () if isinstance(tier, Mapping)]
    rates = [rate_row for rate_row in (price.get("rates"), *tiers) if isinstance(rate_row, Mapping)]
    # Rates of nothing that leave one out charge for it at a rate that is not known.
    complete = (
        bool(rates) and len(rates) == 1 + len(tiers) and all({"input", "output"} <= set(rate_row) for rate_row in rates)
    )
    return FOR_NOTHING if complete and all(_is_zero(rate) for rate_row in rates for rate in rate_row.values()) else None


def _is_zero(amount: object) -> bool:
    return _is_amount(amount) and Decimal(str(amount)) == 0


def _is_amount(amount: object) -> bool:
    try:
        return Decimal(str(amount)).is_finite()
    except InvalidOperation:
        return False


# --- what is forgotten in time: texts after some days, calls after more, rollups never ------------------------------
CALLS_SINCE = "calls_kept_since"


def forget_texts(*, session: Session, older_than: datetime) -> int:
    """Forget prompts, answers and what was sent of runs created before ``older_than``; the figures stay.

    Returns how many runs were emptied. A run with a call under way is left for the next time.
    """
    busy = exists().where(col(Call.run_id) == col(Run.id), col(Call.state) == "running")
    old = select(col(Run.id)).where(col(Run.created_at) < older_than, col(Run.text_stored).is_(True), ~busy)
    ids = list(session.execute(old).scalars())
    for some_ids in _parts(ids):
        session.execute(
            update(Call).where(col(Call.run_id).in_(some_ids)).values(answer=None, reasoning=None, request=None)
        )
        session.execute(
            update(Run)
            .where(col(Run.id).in_(some_ids))
            .values(
                prompt=None, system=None, template=None, variables=None, attachments=None, note=None, text_stored=False
            )
        )
    return len(ids)


def forget_calls(*, session: Session, older_than: datetime, limit: int = 2000) -> int:
    """Forget calls made on UTC days that ended before ``older_than``, oldest first; returns how many.

    Only whole days whose calls are all rolled up go, so that a day is there with all of its calls or with none; a run
    goes with its last call, unless it is starred. Call it again while it returns ``limit``.
    """
    cutoff = day_of(older_than)
    open_days = select(col(Call.created_at)).where(
        col(Call.created_at) < cutoff, (col(Call.rolled).is_(False)) | (col(Call.state) == "running")
    )
    waiting = session.execute(open_days.order_by(col(Call.created_at)).limit(1)).scalar()
    if waiting is not None:
        cutoff = day_of(waiting)
    ids = list(
        session.execute(
            select(col(Call.id)).where(col(Call.created_at) < cutoff).order_by(col(Call.created_at)).limit(limit)
        ).scalars()
    )
    _keep_since(session, cutoff)
    for some_ids in _parts(ids):
        runs = set(session.execute(select(col(Call.run_id)).where(col(Call.id).in_(some_ids))).scalars())
        session.execute(delete(Call).where(col(Call.id).in_(some_ids)))
        with_calls = exists().where(col(Call.run_id) == col(Run.id))
        session.execute(delete(Run).where(col(Run.id).in_(runs), ~with_calls, col(Run.starred).is_(False)))
    return len(ids)


def calls_kept_since(*, session: Session | Connection) -> datetime | None:
    """The UTC day from which on all calls are still there; None while none was ever forgotten."""
    value = session.execute(select(col(Setting.value)).where(col(Setting.key) == CALLS_SINCE)).scalar()
    return datetime.fromisoformat(value["day"]) if value else None


def days_kept(connection: Connection) -> list[datetime]:
    """The UTC days whose calls are all still there, oldest first: those whose rollups can be made anew."""
    first, last = connection.execute(select(func.min(col(Call.created_at)), func.max(col(Call.created_at)))).one()
    begin, end = connection.execute(select(func.min(ROLLUP.c.bucket), func.max(ROLLUP.c.bucket))).one()
    moments = [moment for moment in (first, last, begin, end) if moment is not None]
    if not moments:
        return []
    start = calls_kept_since(session=connection) or day_of(min(moments))
    return [start + timedelta(days=number) for number in range((day_of(max(moments)) - start).days + 1)]


def _keep_since(session: Session, day: datetime) -> None:
    value = {"day": day.isoformat()}
    done = session.execute(update(Setting).where(col(Setting.key) == CALLS_SINCE).values(value=value))
    if _rows(done) == 0:
        session.add(Setting(key=CALLS_SINCE, value=value))
        session.flush()
