"""A small engine that speaks the board's frames on a Unix socket, and a viewer that puts them together again."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aiohttp import web


class FakeRun:
    """One run: the columns as the engine knows them, and whoever follows them."""

    def __init__(self, run_id: str, columns: list[dict[str, Any]]) -> None:
        self.run_id = run_id
        self.columns = copy.deepcopy(columns)
        self.live = True
        self.blind = False
        self.seq = 0
        self.followers: list[asyncio.Queue[str | None]] = []

    def snapshot(self) -> str:
        return json.dumps(
            {
                "type": "snapshot",
                "run": self.run_id,
                "seq": self.seq,
                "live": True,
                "blind": self.blind,
                "columns": self.columns,
            }
        )

    def tell(self, frame: dict[str, Any]) -> None:
        self.seq += 1
        for follower in self.followers:
            follower.put_nowait(json.dumps({**frame, "seq": self.seq}))

    def write(self, i: int, answer: str = "", reasoning: str = "", **fields: Any) -> None:
        column = self.columns[i]
        if fields.get("reset"):
            column["answer"] = column["reasoning"] = ""
        column["answer"] += answer
        column["reasoning"] += reasoning
        column.update({k: v for k, v in fields.items() if k != "reset"})
        texts = {k: v for k, v in (("a", answer), ("r", reasoning)) if v}
        self.tell({"type": "delta", "cols": [{"i": i, **texts, **fields}]})

    def end(self) -> None:
        self.live = False
        self.tell({"type": "end"})
        for follower in self.followers:
            follower.put_nowait(None)


class FakeEngine:
    """The engine's side of the socket. Every method but `serve` belongs to its event loop."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.runs: dict[str, FakeRun] = {}
        self.posts: list[tuple[str, Any, str, str]] = []
        self.streams_opened = 0
        self._runner: web.AppRunner | None = None

    def run(self, run_id: str, columns: list[dict[str, Any]]) -> FakeRun:
        self.runs[run_id] = FakeRun(run_id, columns)
        return self.runs[run_id]

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/runs/{id}/stream", self._stream)
        app.router.add_post("/runs/{id}/{verb}", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await self._runner.setup()
        await web.UnixSite(self._runner, str(self.socket)).start()

    async def stop(self) -> None:
        if self._runner:
            for run in self.runs.values():
                for follower in run.followers:
                    follower.put_nowait(None)
            await self._runner.cleanup()
            self._runner = None

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        run = self.runs.get(request.match_info["id"])
        if run is None or not run.live:
            return web.json_response({"error": "not live"}, status=404)
        self.streams_opened += 1
        response = web.StreamResponse()
        await response.prepare(request)
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        run.followers.append(queue)
        try:
            await response.write(run.snapshot().encode() + b"\n")
            while (frame := await queue.get()) is not None:
                await response.write(frame.encode() + b"\n")
        finally:
            run.followers.remove(queue)
        return response

    async def _post(self, request: web.Request) -> web.Response:
        verb, body = request.match_info["verb"], await request.json()
        self.posts.append((verb, body, request.headers["X-Lab-Person"], request.headers["X-Lab-Role"]))
        run = self.runs.get(request.match_info["id"])
        if run is None:
            return web.json_response({"error": "There is no such run."}, status=404)
        if verb == "retry":
            run.live = True
            column = run.columns[body["column"]]
            run.write(body["column"], reset=True, attempt=column["attempt"] + 1, phase="waiting", state="running")
        return web.json_response({"ok": True})

    @contextlib.contextmanager
    def in_thread(self) -> Iterator[asyncio.AbstractEventLoop]:
        """Serve from a thread of its own, for tests whose own thread belongs to a browser."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        asyncio.run_coroutine_threadsafe(self.start(), loop).result(10)
        try:
            yield loop
        finally:
            asyncio.run_coroutine_threadsafe(self.stop(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)


class Screen:
    """What a browser would show after the frames it was sent."""

    def __init__(self) -> None:
        self.columns: dict[int, dict[str, Any]] = {}
        self.ended = False
        self.sentences: list[str] = []
        self.snapshots = 0
        self.sent_again = 0  # characters that came although they were here

    def take(self, text: str) -> None:
        frame = json.loads(text)
        kind = frame["type"]
        if kind == "snapshot":
            self.snapshots += 1
            self.ended = False
            for told in frame["columns"]:
                self._resume(told)
        elif kind == "delta":
            for change in frame["cols"]:
                column = self.columns[change["i"]]
                if change.get("reset"):
                    column["answer"] = column["reasoning"] = ""
                column["answer"] += change.get("a", "")
                column["reasoning"] += change.get("r", "")
                column.update({k: v for k, v in change.items() if k not in ("a", "r", "reset")})
        elif kind in ("trouble", "notice"):
            self.sentences.append(frame["sentence"])
        elif kind == "end":
            self.ended = True

    def _resume(self, told: dict[str, Any]) -> None:
        mine = self.columns.get(told["i"], {"answer": "", "reasoning": ""})
        self.sent_again += sum(max(0, len(mine[name]) - told[f"{name}_from"]) for name in ("answer", "reasoning"))
        kept = {name: mine[name][: told[f"{name}_from"]] for name in ("answer", "reasoning")}
        assert all(len(kept[name]) == told[f"{name}_from"] for name in kept), "a tail that starts beyond what is here"
        self.columns[told["i"]] = {**told, **{name: kept[name] + told[name] for name in kept}}

    def have(self) -> list[dict[str, int]]:
        return [
            {
                "i": i,
                "rep": c["rep"],
                "attempt": c["attempt"],
                "answer": len(c["answer"]),
                "reasoning": len(c["reasoning"]),
            }
            for i, c in self.columns.items()
        ]
