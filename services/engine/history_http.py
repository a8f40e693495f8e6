"""The engine's door for what people add to the history: alerts, notes on moments, the budget."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from db import alerts as alert_store
from db import notes as note_store
from services import alert_sending, alerts, budget
from services.engine.asking import answer, body_of, may
from services.runs import new_id

if TYPE_CHECKING:
    from services.engine.core import Engine

MOST_ALERTS = 50
T = TypeVar("T")


FIRST_YEAR, LAST_YEAR = 2000, 2200


class _Door:
    """The handlers, with the engine they ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _read(self, read: Callable[..., T], *given: Any) -> T:
        return await asyncio.to_thread(read, self._engine.reader, *given)

    async def list_alerts(self, request: web.Request) -> web.Response:
        may(request, "look")
        return answer({"alerts": await self._read(alert_store.alerts), "targets": alert_sending.targets()})

    async def save_alert(self, request: web.Request) -> web.Response:
        person, body = may(request, "deploy"), await body_of(request)
        alert = alerts.Alert.from_row(body)
        alerts.check_targets(alert.targets, alert_sending.targets())
        known = {row["id"] for row in await self._read(alert_store.alerts)}
        if alert.id and alert.id not in known:
            raise ValueError("That alert is not there any more; reload the page.")
        if not alert.id and len(known) >= MOST_ALERTS:
            raise ValueError(f"There are {MOST_ALERTS} alerts already; delete one first.")
        alert_id, now = alert.id or new_id(), datetime.now(UTC)
        await self._engine.writer.write(
            lambda session: alert_store.save(
                session=session, alert_id=alert_id, values=alert.to_values(), person=person, at=now
            )
        )
        self._engine.alerting.wake()
        return answer({"id": alert_id})

    async def delete_alert(self, request: web.Request) -> web.Response:
        may(request, "deploy")
        alert_id = request.match_info["id"]
        await self._engine.writer.write(lambda session: alert_store.remove(session=session, alert_id=alert_id))
        return answer({"ok": True})

    async def list_events(self, request: web.Request) -> web.Response:
        may(request, "look")
        limit = min(max(int(request.query.get("limit", "20")), 1), 200)
        return answer(await self._read(alert_store.events, request.query.get("alert"), limit))

    async def add_note(self, request: web.Request) -> web.Response:
        person, body = may(request, "annotate"), await body_of(request)
        at, note_id, note = _moment(body["at"]), new_id(), str(body["note"])
        await self._engine.writer.write(
            lambda session: note_store.add(session=session, note_id=note_id, at=at, note=note, person=person)
        )
        return answer({"id": note_id})

    async def delete_note(self, request: web.Request) -> web.Response:
        may(request, "annotate")
        note_id = request.match_info["id"]
        gone = await self._engine.writer.write(lambda session: note_store.remove(session=session, note_id=note_id))
        return answer({"deleted": gone})

    async def get_budget(self, request: web.Request) -> web.Response:
        may(request, "look")
        amount = await self._read(budget.monthly)
        return answer({"monthly_usd": None if amount is None else format(amount, "f")})

    async def set_budget(self, request: web.Request) -> web.Response:
        may(request, "deploy")
        given = (await body_of(request)).get("monthly_usd")
        usd = None if given is None else str(given)
        await self._engine.writer.write(lambda session: budget.keep(session=session, usd=usd))
        return answer({"ok": True})


def _moment(given: object) -> datetime:
    """The moment of a note. Raises ValueError in words. Between these years no zone can push it out of the calendar."""
    try:
        at = datetime.fromisoformat(str(given))
    except ValueError:
        raise ValueError(
            "The moment of a note is a date and a time with its zone, like 2026-11-24T12:00:00+00:00."
        ) from None
    if at.tzinfo is None:
        raise ValueError("The moment of a note needs a time zone.")
    if not FIRST_YEAR <= at.year <= LAST_YEAR:
        raise ValueError(f"A note stands between the years {FIRST_YEAR} and {LAST_YEAR}.")
    return at


def routes(engine: Engine) -> list[web.RouteDef]:
    """All of them below /history."""
    door = _Door(engine)
    return [
        web.get("/history/alerts", door.list_alerts),
        web.post("/history/alerts", door.save_alert),
        web.delete("/history/alerts/{id}", door.delete_alert),
        web.get("/history/events", door.list_events),
        web.post("/history/notes", door.add_note),
        web.delete("/history/notes/{id}", door.delete_note),
        web.get("/history/budget", door.get_budget),
        web.put("/history/budget", door.set_budget),
    ]
