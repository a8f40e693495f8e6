"""The engine's door for making the rollups anew: it is the only one that writes while it runs."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING

from aiohttp import web
from sqlmodel import Session

from db import rollups
from services.engine.requests import answer, body_of, may
from services.engine.rollup_loop import BUSY_BATCH, IDLE_BATCH

if TYPE_CHECKING:
    from services.engine.engine import Engine


class _Door:
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


def routes(engine: Engine) -> list[web.RouteDef]:
    """All of them below /rollups."""
    door = _Door(engine)
    return [web.post("/rollups/unroll", door.unroll), web.post("/rollups/fold", door.fold)]
