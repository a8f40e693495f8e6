"""The fake server itself: listens, chooses the script of each request, keeps the log."""

from __future__ import annotations

import asyncio
import json
import socket
from collections import deque
from time import perf_counter_ns
from urllib.parse import parse_qs, unquote, urlsplit

from services.types import Wire
from tests.fake.choosing import answer, bearer, models_answer, ready, script_of
from tests.fake.connection import Connection
from tests.fake.http import Request, plain_response
from tests.fake.plan import Compiled
from tests.fake.record import CanaryHit, Record
from tests.fake.replies import error_reply
from tests.fake.scripts import Script, parse

PATHS: dict[str, Wire] = {
    "/v1/messages": "messages",
    "/v1/responses": "responses",
    "/v1/chat/completions": "chat",
}
PIXEL = bytes.fromhex("47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b")


class Core:
    """One listening socket and everything behind it. Use `tests.fake.fixture` rather than this class."""

    def __init__(self, *, port: int = 0, default: Script | None = None, key: str | None = None) -> None:
        self.default, self.key = default, key
        self.requests: list[Record] = []
        self.canary_hits: list[CanaryHit] = []
        self.connections: set[Connection] = set()
        self.accepted = 0  # connections since the start
        self.live = 0  # model requests under way
        self.most_live = 0
        self._queue: deque[tuple[Wire | None, Script]] = deque()
        self._listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Begin to accept, in the running loop."""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._listener.fileno(), self._accept)

    def shut(self) -> None:
        """Stop listening and close every connection."""
        if self._loop is not None:
            self._loop.remove_reader(self._listener.fileno())
        self._listener.close()
        for connection in list(self.connections):
            connection.close()

    def enqueue(self, *scripts: Script | str, wire: Wire | None = None) -> None:
        """The next model requests (on that wire, or on any) get these scripts, whatever model they name."""
        self._queue.extend((wire, parse(s) if isinstance(s, str) else s) for s in scripts)

    def reset(self) -> None:
        """Forget the log, the canary and the queue; streams under way go on."""
        self.requests.clear()
        self.canary_hits.clear()
        self._queue.clear()
        self.most_live = self.live

    def hits(self, wire: Wire | None = None) -> int:
        """Model requests received (GET requests for models not counted)."""
        return sum(1 for r in self.requests if r.wire and wire in (None, r.wire))

    def over(self) -> None:
        """A model request has ended."""
        self.live -= 1

    def _accept(self) -> None:
        for _ in range(256):
            try:
                sock, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                return
            self.accepted += 1
            self.connections.add(Connection(self, sock, self.accepted))

    # --- dispatch -----------------------------------------------------------------------------------------------

    def handle(self, connection: Connection, request: Request, first_ns: int, now: int) -> None:
        """One whole request has been read."""
        path = urlsplit(request.path).path
        if path.startswith("/_control/"):
            connection.raw(self._control(request, path))
            return
        models = path == "/v1/models" or path.startswith("/v1/models/")
        wire = PATHS.get(path) if request.method == "POST" else None
        if (
            wire is None
            and not (models and request.method == "GET")
            and (request.method in {"GET", "HEAD"} or path.startswith("/canary"))
        ):
            self.canary_hits.append(CanaryHit(now, request.method, request.path, request.headers))
            more = (("access-control-allow-origin", "*"),)
            connection.raw(plain_response(200, b"" if request.method == "HEAD" else PIXEL, "image/gif", *more))
            return
        record = Record(
            len(self.requests),
            connection.number,
            request.method,
            request.path,
            request.headers,
            request.body,
            request.parse(),
            wire,
            first_byte_ns=first_ns,
            received_ns=now,
        )
        self.requests.append(record)
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        record.concurrent = self.live
        plan = self._choose(record, path, models)
        record.status = int(plan.head.split(b" ", 2)[1])
        connection.play(record, plan)

    def _choose(self, record: Record, path: str, models: bool) -> Compiled:
        kind: Wire = record.wire or ("messages" if "anthropic-version" in record.headers else "chat")
        if self.key is not None and self.key not in (record.headers.get("x-api-key"), bearer(record.headers)):
            return ready(error_reply(401, kind, "The key is not valid."))
        if models:
            return models_answer(record, kind, unquote(path.removeprefix("/v1/models").strip("/")))
        if record.wire is None:
            return ready(error_reply(404, kind, "There is nothing at this path."))
        model = str(record.json.get("model", ""))
        queued = next((q for q in self._queue if q[0] in (None, record.wire)), None)
        if queued is not None:
            self._queue.remove(queued)
            script = queued[1]
        elif model == "fake" and self.default is not None:
            script = self.default
        else:
            found = script_of(model, kind)
            if isinstance(found, Compiled):
                return found
            script = found
        record.script = script
        return answer(record, script, record.wire)

    # --- control ------------------------------------------------------------------------------------------------

    def _control(self, request: Request, path: str) -> bytes:
        name = path.removeprefix("/_control/")
        if name == "requests":
            since = int(parse_qs(urlsplit(request.path).query).get("since", ["0"])[0])
            value: object = {
                "now_ns": perf_counter_ns(),
                "live": self.live,
                "most_live": self.most_live,
                "accepted": self.accepted,
                "requests": [r.to_json() for r in self.requests[since:]],
            }
        elif name == "canary":
            value = [{"ns": h.ns, "method": h.method, "path": h.path, "headers": h.headers} for h in self.canary_hits]
        elif name == "stats":
            value = {"hits": self.hits(), "live": self.live, "most_live": self.most_live, "accepted": self.accepted}
        elif name == "enqueue" and request.method == "POST":
            self.enqueue(*request.parse().get("models", []), wire=request.parse().get("wire"))
            value = {"queued": len(self._queue)}
        elif name == "reset" and request.method == "POST":
            self.reset()
            value = {"ok": True}
        else:
            return plain_response(404, b'{"error":"no such control"}')
        return plain_response(200, json.dumps(value).encode())
