"""The engine's door for what people add to the history: alerts, notes on moments, the budget."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from db import notes as note_store
from db import small_tables as alert_store
from services import alert_sending, alerts
from services.engine.requests import answer, body_of, may, own
from services.pricing import budget
from services.request_fields import Given
from services.runs.spec import new_id

if TYPE_CHECKING:
    from services.engine.engine import Engine

MOST_ALERTS = 50
LONGEST_NOTE = 100_000  # characters as they are sent; the records keep the beginning
T = TypeVar("T")


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
        alert = _alert(body)
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
        asked = request.query.get("limit", "20")
        if not re.fullmatch(r"[0-9]{1,9}", asked):
            raise ValueError("“limit” is a whole number from 1 to 200.")
        limit = min(max(int(asked), 1), 200)
        return answer(await self._read(alert_store.events, request.query.get("alert"), limit))

    async def add_note(self, request: web.Request) -> web.Response:
        person, body = may(request, "annotate"), await body_of(request)
        at, note_id, note = body.moment("at"), new_id(), body.text("note", longest=LONGEST_NOTE)
        await self._engine.writer.write(
            lambda session: note_store.add(session=session, note_id=note_id, at=at, note=note, person=person)
        )
        return answer({"id": note_id})

    async def delete_note(self, request: web.Request) -> web.Response:
        may(request, "annotate")
        note_id = request.match_info["id"]
        for owner in await self._read(note_store.owners, note_id):
            own(request, "annotate", owner, "note")
        gone = await self._engine.writer.write(lambda session: note_store.remove(session=session, note_id=note_id))
        return answer({"deleted": gone})

    async def get_budget(self, request: web.Request) -> web.Response:
        may(request, "look")
        amount = await self._read(budget.monthly)
        return answer({"monthly_usd": None if amount is None else format(amount, "f")})

    async def set_budget(self, request: web.Request) -> web.Response:
        may(request, "deploy")
        body = await body_of(request)
        named = isinstance(body.values.get("monthly_usd"), str) or not body.has("monthly_usd")
        usd = body.words("monthly_usd", longest=40) if named else str(body.number("monthly_usd"))
        await self._engine.writer.write(lambda session: budget.keep(session=session, usd=usd))
        return answer({"ok": True})


def _alert(body: Given) -> alerts.Alert:
    """The alert of a request. Raises ValueError in words."""
    body.need("metric", "threshold")
    return alerts.Alert.from_row({
        "metric": body.text("metric"), "threshold": body.number("threshold"),
        "window_s": body.whole("window_s", 0, alerts.LONGEST_S, default=0), "name": body.words("name"),
        "deployments": body.texts("deployments"), "targets": body.texts("targets"),
        "enabled": body.flag("enabled", True), "id": body.words("id"),
    })  # fmt: skip


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
