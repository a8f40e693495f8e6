"""The engine's door for the calculator's saved scenarios."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aiohttp import web

from db import scenarios as store
from services.engine.requests import answer, body_of, may, own
from services.runs.spec import new_id
from services.security import access

if TYPE_CHECKING:
    from services.engine.engine import Engine

MOST_WORDS = 60
LONGEST_WORD = 20_000  # characters: the packed assumptions are the longest


class _Door:
    """The handlers, with the engine they ask."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def listed(self, request: web.Request) -> web.Response:
        may(request, "look")
        return answer(await asyncio.to_thread(store.scenarios, self._engine.reader))

    async def save(self, request: web.Request) -> web.Response:
        person, body = may(request, "annotate"), await body_of(request)
        role = request.headers.get("x-lab-role", "viewer")
        given, scenario_id, name = body.values.get("state"), new_id(), body.text("name", longest=1_000)
        state = given if isinstance(given, dict) else {}
        sound = all(isinstance(one, str) and len(one) <= LONGEST_WORD for pair in state.items() for one in pair)
        if not state or len(state) > MOST_WORDS or not sound:
            raise ValueError("The scenario cannot be kept: its “state” is the words of the page's address, as texts.")
        kept = await self._engine.writer.write(
            lambda session: store.save(
                session=session,
                scenario_id=scenario_id,
                name=name,
                state=state,
                person=person,
                at=datetime.now(UTC),
                may_replace=lambda owner: access.owns(role, person, owner),
            )
        )
        return answer({"id": kept})

    async def delete(self, request: web.Request) -> web.Response:
        may(request, "annotate")
        scenario_id = request.match_info["id"]
        for owner in await asyncio.to_thread(store.owners, self._engine.reader, scenario_id):
            own(request, "annotate", owner, "scenario")
        gone = await self._engine.writer.write(lambda session: store.remove(session=session, scenario_id=scenario_id))
        return answer({"deleted": gone})


def routes(engine: Engine) -> list[web.RouteDef]:
    """All of them below /scenarios."""
    door = _Door(engine)
    return [
        web.get("/scenarios", door.listed),
        web.post("/scenarios", door.save),
        web.delete("/scenarios/{id}", door.delete),
    ]
