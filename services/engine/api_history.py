"""The engine's door for what people keep: alerts, notes, the budget, scenarios, and rollups made anew."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web
from sqlmodel import Session

from db import rollups, small_tables
from services import alerts as alerts_module
from services.engine.background import BUSY_BATCH, IDLE_BATCH
from services.engine.requests import answer, body_of, may, own
from services.pricing import budget
from services.request_fields import RequestFields
from services.runs.spec import new_id
from services.security import access

if TYPE_CHECKING:
    from services.engine.engine import Engine


MOST_WORDS = 60

LONGEST_WORD = 20_000  # characters: the packed assumptions are the longest


class _Scenarios:
    """The handlers, with the engine they ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def listed(self, request: web.Request) -> web.Response:
        may(request, "look")
        scenarios = await asyncio.to_thread(small_tables.scenarios, self._engine.reader)
        return answer([scenario.model_dump() for scenario in scenarios])

    async def save(self, request: web.Request) -> web.Response:
        person, body = may(request, "annotate"), await body_of(request)
        role = request.headers.get("x-lab-role", "viewer")
        fields, scenario_id, name = body.values.get("state"), new_id(), body.text("name", longest=1_000)
        state = fields if isinstance(fields, dict) else {}
        sound = all(isinstance(text, str) and len(text) <= LONGEST_WORD for pair in state.items() for text in pair)
        if not state or len(state) > MOST_WORDS or not sound:
            raise ValueError("The scenario cannot be kept: its “state” is the words of the page's address, as texts.")
        stored_id = await self._engine.writer.write(
            lambda session: small_tables.save_scenario(
                session=session,
                scenario_id=scenario_id,
                name=name,
                state=state,
                person=person,
                at=datetime.now(UTC),
                may_replace=lambda owner: access.owns(role, person, owner),
            )
        )
        return answer({"id": stored_id})

    async def delete(self, request: web.Request) -> web.Response:
        may(request, "annotate")
        scenario_id = request.match_info["id"]
        for owner in await asyncio.to_thread(small_tables.scenario_owners, self._engine.reader, scenario_id):
            own(request, "annotate", owner, "scenario")
        gone = await self._engine.writer.write(
            lambda session: small_tables.remove_scenario(session=session, scenario_id=scenario_id)
        )
        return answer({"deleted": gone})


def scenario_routes(engine: Engine) -> list[web.RouteDef]:
    """All of them below /scenarios."""
    door = _Scenarios(engine)
    return [
        web.get("/scenarios", door.listed),
        web.post("/scenarios", door.save),
        web.delete("/scenarios/{id}", door.delete),
    ]


class _Rollups:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def unroll(self, request: web.Request) -> web.Response:
        """Take the rollups of one UTC day away; its calls are then added again."""
        may(request, "deploy")
        day = (await body_of(request)).moment("day")
        if day != rollups.day_of(day):
            raise ValueError("A day is given as its first instant in UTC.")
        return answer({"unmarked": await self._engine.writer.write(partial(_unroll, day))})

    async def fold(self, request: web.Request) -> web.Response:
        """Add some calls: few while others are being measured."""
        may(request, "deploy")
        limit = BUSY_BATCH if self._engine.calls.live else IDLE_BATCH
        return answer({"added": await self._engine.writer.write(partial(_fold, limit))})


def _unroll(day: datetime, session: Session) -> int:
    return rollups.unroll_days(session=session, days=[day])


def _fold(limit: int, session: Session) -> int:
    return rollups.fold(session=session, limit=limit)


def rollup_routes(engine: Engine) -> list[web.RouteDef]:
    """All of them below /rollups."""
    door = _Rollups(engine)
    return [web.post("/rollups/unroll", door.unroll), web.post("/rollups/fold", door.fold)]


MOST_ALERTS = 50

LONGEST_NOTE = 100_000  # characters as they are sent; the records keep the beginning

T = TypeVar("T")


class _History:
    """The handlers, with the engine they ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def _read(self, read: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.to_thread(read, self._engine.reader, *arguments)

    async def list_alerts(self, request: web.Request) -> web.Response:
        may(request, "look")
        alerts = [alert.model_dump() for alert in await self._read(small_tables.alerts)]
        return answer({"alerts": alerts, "targets": alerts_module.targets()})

    async def save_alert(self, request: web.Request) -> web.Response:
        person, body = may(request, "deploy"), await body_of(request)
        alert = _alert(body)
        alerts_module.check_targets(alert.targets, alerts_module.targets())
        alert_ids = {row.id for row in await self._read(small_tables.alerts)}
        if alert.id and alert.id not in alert_ids:
            raise ValueError("That alert is not there any more; reload the page.")
        if not alert.id and len(alert_ids) >= MOST_ALERTS:
            raise ValueError(f"There are {MOST_ALERTS} alerts already; delete one first.")
        alert_id, now = alert.id or new_id(), datetime.now(UTC)
        await self._engine.writer.write(
            lambda session: small_tables.save(
                session=session, alert_id=alert_id, values=alert.to_values(), person=person, at=now
            )
        )
        self._engine.alerting.wake()
        return answer({"id": alert_id})

    async def delete_alert(self, request: web.Request) -> web.Response:
        may(request, "deploy")
        alert_id = request.match_info["id"]
        await self._engine.writer.write(lambda session: small_tables.remove(session=session, alert_id=alert_id))
        return answer({"ok": True})

    async def list_events(self, request: web.Request) -> web.Response:
        may(request, "look")
        limit_text = request.query.get("limit", "20")
        if not re.fullmatch(r"[0-9]{1,9}", limit_text):
            raise ValueError("“limit” is a whole number from 1 to 200.")
        limit = min(max(int(limit_text), 1), 200)
        events = await self._read(small_tables.events, request.query.get("alert"), limit)
        return answer([event.model_dump() for event in events])

    async def add_note(self, request: web.Request) -> web.Response:
        person, body = may(request, "annotate"), await body_of(request)
        moment, note_id, note = body.moment("at"), new_id(), body.text("note", longest=LONGEST_NOTE)
        await self._engine.writer.write(
            lambda session: small_tables.add(session=session, note_id=note_id, at=moment, note=note, person=person)
        )
        return answer({"id": note_id})

    async def delete_note(self, request: web.Request) -> web.Response:
        may(request, "annotate")
        note_id = request.match_info["id"]
        for owner in await self._read(small_tables.owners, note_id):
            own(request, "annotate", owner, "note")
        gone = await self._engine.writer.write(
            lambda session: small_tables.remove_note(session=session, note_id=note_id)
        )
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
        await self._engine.writer.write(lambda session: budget.set_monthly(session=session, usd=usd))
        return answer({"ok": True})


def _alert(body: RequestFields) -> alerts_module.Alert:
    """The alert of a request. Raises ValueError in words."""
    body.need("metric", "threshold")
    return alerts_module.Alert.from_row(
        {
            "metric": body.text("metric"),
            "threshold": body.number("threshold"),
            "window_s": body.whole("window_s", 0, alerts_module.LONGEST_S, default=0),
            "name": body.words("name"),
            "deployments": body.texts("deployments"),
            "targets": body.texts("targets"),
            "enabled": body.flag("enabled", True),
            "id": body.words("id"),
        }
    )


def routes(engine: Engine) -> list[web.RouteDef]:
    """All of them below /history."""
    door = _History(engine)
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
