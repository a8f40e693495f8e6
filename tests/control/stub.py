"""A few lines of AWS's wire for what emulator and moto do not say: refusals, odd states, components, many pages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

Answer = tuple[int, dict[str, Any]]


class Stub:
    """A server; ``answers`` maps SageMaker's operation (or, without a target, "METHOD /path") to what is answered."""

    def __init__(self, **answers: Answer | Callable[[dict[str, Any]], Answer]) -> None:
        self.answers: dict[str, Any] = dict(answers)
        self.refusal: Answer | None = None  # for every request
        self.asked: list[tuple[str, dict[str, Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
                target = self.headers.get("x-amz-target") or f"{self.command} {self.path.partition('?')[0]}"
                name = target.rpartition(".")[2] if "." in target and "/" not in target else target
                outer.asked.append((name, body))
                found = outer.refusal or outer.answers.get(name, (404, {"__type": "UnknownOperationException"}))
                status, row = found(body) if callable(found) else found
                data = json.dumps(row).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                if status >= 400:
                    self.send_header("x-amzn-errortype", str(row.get("__type", "")))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PATCH = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def refused(code: str, message: str = "", status: int = 400) -> Answer:
    """An error as AWS's JSON protocols write it."""
    return status, {"__type": code, "message": message, "Message": message}
