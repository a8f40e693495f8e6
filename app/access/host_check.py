"""Who may talk to the pages' process at all: checked before anything else answers, for HTTP and WebSocket alike.

Every file, upload, health check and socket of Streamlit and of ours passes here. Nothing of a body is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.deployments.configured_hosts import ConfiguredHosts
from services.security.hosts import Host, Rules, parse_host

READING = frozenset({"GET", "HEAD", "OPTIONS"})
# What a browser says of a request that one of its pages made without being sent here by a person.
ELSEWHERE = frozenset({b"cross-site", b"same-site"})
MISDIRECTED, FORBIDDEN = 421, 403
WRONG_HOST = (
    "Inference Lab does not answer under {name}. If this is its right name, whoever runs the server adds it to hosts "
    "under [access] in deployments.toml, or to LAB_HOSTS; until then, use the address that lab run printed.\n"
)
WRONG_ORIGIN = (
    "This came from a page of another site, so nothing was done. If that page is Inference Lab under its public name, "
    "whoever runs the server adds the name to hosts under [access] in deployments.toml, or to LAB_HOSTS.\n"
)


class Doors:
    """Pure ASGI middleware: refuses foreign hosts with 421 and foreign pages with 403, and gives no page CORS rights.

    ``started_at`` says the address that the server was started with, None where that is not known.
    """

    def __init__(
        self, app: ASGIApp, started_at: Callable[[], str | None], configured: ConfiguredHosts | None = None
    ) -> None:
        self.app = app
        self._started_at = started_at
        self._configured = configured or ConfiguredHosts()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        rules = Rules(self._configured.hosts(), self._started_at())
        host = _host_of(scope)
        arrived_at = scope["server"][0] if scope.get("server") else None
        if host is None or not rules.answers_to(host, arrived_at):
            name = "that host" if host is None else host.name
            await refuse(scope, receive, send, MISDIRECTED, WRONG_HOST.format(name=name))
            return
        if not _may_come_in(scope, rules, host):
            await refuse(scope, receive, send, FORBIDDEN, WRONG_ORIGIN)
            return
        if scope["type"] == "websocket":
            await self.app(_with_host_of_origin(scope), receive, send)
            return

        async def send_without_cors(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Our pages are always of this very origin and need none; Streamlit would offer it to others.
                kept = [pair for pair in message.get("headers", ()) if not _is_cors(pair[0])]
                message = {**message, "headers": kept}
            await send(message)

        await self.app(scope, receive, send_without_cors)


async def refuse(scope: Scope, receive: Receive, send: Send, status: int, sentence: str, *, close: bool = True) -> None:
    """Answer with a sentence; a WebSocket is refused before it is one. ``close``: the connection ends with it."""
    prefix = "http" if scope["type"] == "http" else "websocket.http"
    if prefix == "websocket.http":
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close", "code": 1008})
            return
    body = sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"cache-control", b"no-store"),
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": f"{prefix}.response.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": b"" if scope.get("method") == "HEAD" else body})


def header_values(scope: Scope, name: bytes) -> list[bytes]:
    """Every value of a header, in order."""
    return [value for key, value in scope["headers"] if key == name]


def _host_of(scope: Scope) -> Host | None:
    """The one host that a request names. None for none, several, or what is no host."""
    values = header_values(scope, b"host")
    if len(values) != 1:
        return None
    target = scope["path"]
    if "://" in target and not target.startswith("/"):
        # An absolute target names a host of its own, which wins over the header.
        values.append(target.partition("://")[2].partition("/")[0].encode())
    hosts = {parse_host(value.decode("latin-1")) for value in values}
    return hosts.pop() if len(hosts) == 1 else None


def _may_come_in(scope: Scope, rules: Rules, host: Host) -> bool:
    origins = header_values(scope, b"origin")
    if len(origins) > 1:
        return False
    ours = bool(origins) and rules.may_come_from(origins[0].decode("latin-1"), host, scope.get("scheme", "http"))
    if ours:
        return True
    if scope["type"] == "websocket" or scope["method"] not in READING:
        # Browsers send Origin with each of these. Without it this is curl, a health check, a script: no page at all.
        return not origins and not _from_elsewhere(scope)
    return not (_from_elsewhere(scope) and header_values(scope, b"sec-fetch-mode") != [b"navigate"])


def _from_elsewhere(scope: Scope) -> bool:
    return any(value in ELSEWHERE for value in header_values(scope, b"sec-fetch-site"))


def _with_host_of_origin(scope: Scope) -> Scope:
    """A WebSocket whose Host reads as its page's address does.

    Streamlit and the board compare the two as text: behind a proxy that sends its own Host they would refuse our own
    page, and Streamlit would first ask a server on the internet what this machine's address is.
    """
    origins = header_values(scope, b"origin")
    if not origins:
        return scope
    host = origins[0].partition(b"://")[2]
    return {**scope, "headers": [*_without(scope["headers"], b"host"), (b"host", host)]}


def _without(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[tuple[bytes, bytes]]:
    return [pair for pair in headers if pair[0] != name]


def _is_cors(name: bytes) -> bool:
    return name.lower().startswith(b"access-control-")
