"""One connection to the engine's socket, for one person in one role: a request, an answer, an error in words."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from services.security import access

# The socket is on this machine: a file of certificates that cannot be read is no reason not to use it.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


UNSENDABLE = (
    "Nothing was sent: the request holds a whole number of more than 64 bits, or a text that is no UTF-8; mend it and "
    "send it again."
)


class EngineError(Exception):
    """The engine refused or failed; the text is a sentence for the person."""


class EngineDown(EngineError):
    """No engine answers on the socket."""


class EngineConnection:
    """Thread-safe; every method raises `EngineError`."""

    def __init__(self, socket: Path, *, person: str, role: str) -> None:
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(
                uds=str(socket), limits=httpx.Limits(max_keepalive_connections=4), trust_env=False, verify=_NO_TLS
            ),
            base_url="http://engine",
            timeout=httpx.Timeout(30, connect=2),
            headers={access.PERSON_HEADER: access.person_header(person), "x-lab-role": role},
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections to the engine."""
        self._http.close()

    def call(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        content = _content(body)
        try:
            response = self._http.request(
                method, path, content=content, timeout=self._http.timeout if timeout is None else timeout
            )
        except (httpx.TransportError, OSError) as error:
            raise EngineDown(
                "The engine does not answer; it is started again within a few seconds, and what was recorded is kept."
            ) from error
        try:
            value = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise EngineError(f"The engine answered {response.status_code} without words; see its log.") from error
        if response.status_code >= 400:
            raise EngineError(str(value.get("error", f"The engine answered {response.status_code}.")))
        return value

    @contextmanager
    def lines(self, path: str) -> Iterator[Iterator[Any]]:
        """The JSON lines of an answer that goes on until the engine ends it; none when it is refused."""
        with self._http.stream("GET", path, timeout=None) as response:
            if response.status_code != 200:
                yield iter(())
                return
            yield (orjson.loads(line) for line in response.iter_lines() if line)

    def embedded_server(self, name: str) -> tuple[str, str]:
        """Address and key of a server of the local model, for a worker; waits until it is ready."""
        server = self.call("GET", f"/embedded/{quoted(name)}/url", timeout=120)
        return str(server["url"]), str(server["key"])


def _content(body: Any) -> bytes | None:
    """A request's body as JSON. Raises `EngineError` for what JSON of the engine cannot hold."""
    if body is None:
        return None
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise EngineError(UNSENDABLE) from error


def quoted(name: str) -> str:
    """A name as one part of a path, also one that a path would take for a step up."""
    return quote(name, safe="", errors="replace").replace(".", "%2E")
