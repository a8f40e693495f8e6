"""Batches in the engine's process: their routes (submit, pause, resume, cancel, send again, delete, workers, votes).

What is there already is read straight from the database (`db.batches`), as everywhere.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from aiohttp import web

from db import batch_queries
from db import batches as batches_module
from services.batch.service import BatchService, spec_of
from services.batch.types import MOST_NANOUSD, STALE_S
from services.engine import api
from services.engine.engine import Engine
from services.engine.requests import answer, body_of, may, own
from services.security import access


def batch_service(engine: Engine, data: Path | None) -> BatchService:
    """The batch service of an engine, which starts and ends with it; without ``data`` it takes no batch."""
    service = BatchService(engine.writer, engine.reader, engine.registry, data=data, wake=engine.batch_taken)
    engine.companions.append(service)
    return service


def make_app(engine: Engine, service: BatchService) -> web.Application:
    """The whole application of the engine's process."""
    return api.make_app(engine, routes(engine, service))


class _Handlers:
    """The handlers, with the engine and the batch service that they ask."""

    def __init__(self, engine: Engine, service: BatchService) -> None:
        self._engine = engine
        self._batches = service

    async def submit(self, request: web.Request) -> web.Response:
        person, role = may(request, "send"), request.headers.get("x-lab-role", "viewer")
        spec = spec_of(await body_of(request))
        if spec.parent_id is not None:
            parent = await asyncio.to_thread(batches_module.batch, self._engine.reader, spec.parent_id)
            if parent is not None:
                own(request, "send", parent["person"], "batch")
        return answer({"batch_id": await self._batches.submit(spec, person, role)})

    async def pause(self, request: web.Request) -> web.Response:
        await self._own(request, "send")
        await body_of(request)
        await self._batches.pause(request.match_info["id"])
        return answer({"ok": True})

    async def resume(self, request: web.Request) -> web.Response:
        await self._own(request, "send")
        body = await body_of(request)
        budget = body.whole("budget_nanousd", 1, MOST_NANOUSD) if body.has("budget_nanousd") else None
        await self._batches.resume(request.match_info["id"], budget)
        return answer({"ok": True})

    async def cancel(self, request: web.Request) -> web.Response:
        await self._own(request, "send")
        await body_of(request)
        await self._batches.cancel(request.match_info["id"])
        return answer({"ok": True})

    async def resend(self, request: web.Request) -> web.Response:
        person = await self._own(request, "send")
        await body_of(request)
        return answer({"batch_id": await self._batches.resend(request.match_info["id"], person)})

    async def delete(self, request: web.Request) -> web.Response:
        await self._own(request, "delete")
        return answer({"ok": await self._batches.delete(request.match_info["id"])})

    async def _own(self, request: web.Request, action: access.Action) -> str:
        """Who asks, if the batch is theirs to change. One that is not in the records is refused where it is done."""
        person = may(request, action)
        row = await asyncio.to_thread(batches_module.batch, self._engine.reader, request.match_info["id"])
        return person if row is None else own(request, action, row["person"], "batch")

    async def vote(self, request: web.Request) -> web.Response:
        person, body = may(request, "vote"), await body_of(request)
        first, second, no = body.text("batch_a"), body.text("batch_b"), body.whole("no", 1, 10**9)
        choice = body.words("choice")
        rows = [
            await asyncio.to_thread(batches_module.batch, self._engine.reader, batch_id) for batch_id in (first, second)
        ]
        if None in rows:
            raise ValueError("One of these batches is not in the records; it may have been deleted.")
        batch_a, other = sorted((row for row in rows if row is not None), key=lambda row: str(row["id"]))
        if not await asyncio.to_thread(batch_queries.in_both, self._engine.reader, batch_a, other, no):
            raise ValueError(f"There is no line {no:,} that both batches have, so that nobody can vote on it.")
        await self._engine.writer.write(
            lambda session: batch_queries.vote(
                session=session, batch_a=first, batch_b=second, no=no, person=person, choice=choice
            )
        )
        return answer({"ok": True})

    async def workers(self, request: web.Request) -> web.Response:
        may(request, "look")
        rows = await asyncio.to_thread(batches_module.workers, self._engine.reader)
        alive = set(
            await self._engine.writer.write(
                lambda session: batches_module.alive(session=session, stale_after_s=STALE_S)
            )
        )
        workers = [row | {"alive": row["id"] in alive} for row in rows]
        return answer({"workers": workers, "said": self._engine.batch_worker.said})


def routes(engine: Engine, service: BatchService) -> list[web.RouteDef]:
    """The routes for batches."""
    handlers = _Handlers(engine, service)
    return [
        web.post("/batches", handlers.submit),
        web.post("/batches/votes", handlers.vote),
        web.get("/batches/workers", handlers.workers),
        web.post("/batches/{id}/pause", handlers.pause),
        web.post("/batches/{id}/resume", handlers.resume),
        web.post("/batches/{id}/cancel", handlers.cancel),
        web.post("/batches/{id}/resend", handlers.resend),
        web.delete("/batches/{id}", handlers.delete),
    ]
