"""The HTTP server under both emulators, in a thread: it reads a request whole and hands it to the service."""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from tests.batch.vendors.faults import Faults


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes
    origin: str  # "http://127.0.0.1:PORT"


@dataclass
class Reply:
    """``body``: an object is sent as JSON. ``drop``: the connection is closed instead of an answer."""

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False


class Service(Protocol):
    faults: Faults
    log: list[Request]

    def answer(self, request: Request) -> Reply | None:
        """The reply, None when this service has no such path."""


class Pace:
    """How jobs move: one step at every look, or with the clock, so many seconds for each step."""

    def __init__(self, step_s: float | None = None) -> None:
        self.step_s = step_s

    def step(self, now_at: int, since: float, last: int) -> int:
        """The step that a job which is at ``now_at`` is found at."""
        if self.step_s is None:
            return min(now_at + 1, last)
        return min(int((time.time() - since) / self.step_s), last) if self.step_s else last


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no error of ours."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Server:
    """``with Server(service, …) as server:`` answers at ``server.url``; the first service that knows the path does."""

    def __init__(self, *services: Service, port: int = 0) -> None:
        self.services = services
        self._http = _Http(("127.0.0.1", port), _handler(services))
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


def _handler(services: tuple[Service, ...]) -> type[BaseHTTPRequestHandler]:
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def _any(self) -> None:
            parts = urlsplit(self.path)
            request = Request(
                self.command,
                parts.path,
                {name: values[-1] for name, values in parse_qs(parts.query).items()},
                {name.lower(): value for name, value in self.headers.items()},
                self._body(),
                f"http://{self.headers.get('host')}",
            )
            with lock:
                reply = next((found for one in services if (found := one.answer(request)) is not None), None)
            reply = reply or Reply({"error": {"message": f"no route {request.path}", "type": "not_found"}}, 404)
            if reply.drop:
                self.close_connection = True
                return
            body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            self.send_response(reply.status)
            self.send_header("content-type", "application/octet-stream" if body is reply.body else "application/json")
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = _any  # names that the base class looks for

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                return b"".join(self._chunks())
            return self.rfile.read(int(self.headers.get("content-length") or 0))

        def _chunks(self) -> Iterable[bytes]:
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

    return Handler


def jsonl(rows: list[Any], faults: Faults) -> bytes:
    """Rows as a results file, with the faults of results."""
    if faults.shuffle:
        random.Random(7).shuffle(rows)
    found = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return found[: len(found) - faults.cut] if faults.cut else found


def spread(rows: list[tuple[int, Any]], faults: Faults) -> list[Any]:
    """Rows by the position of their line, with those left out that are missing and those twice that are double."""
    kept = [row for index, row in rows if index not in faults.missing]
    return kept + [row for index, row in rows if index in faults.double]
