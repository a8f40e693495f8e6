"""Bounds on connections: how long a request may take to be asked, how large a message may be, how many sockets.

uvicorn and Streamlit leave these open: a head without end, a body that drips, a socket that never speaks, pings that
nobody reads the answers of. `BoundedHttp` and `BoundedWebSocket` are uvicorn's own protocols with limits;
`SocketBounds` counts WebSockets where their path and address are known. A request under a name that is not ours is
refused before anything of it is read (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Frame
from websockets.http11 import Request

from services.deployments.configured_hosts import ConfiguredHosts
from services.processes.lifetime import file_limit
from services.security.hosts import Host, Rules, ip_address, parse_host

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


log = logging.getLogger(__name__)

HEAD_WITHIN_S = 20.0  # from the connection, or from the last answer, until a whole head of a request is here
HEAD_LIMIT = 64 * 2**10
# Connections that have not asked for anything yet, and sockets that have not spoken: for an address and in all.
UNASKED_PER_ADDRESS, UNASKED = 256, 1_024
SILENT_PER_ADDRESS, SILENT = 64, 256
STREAM_LIMIT = 20 * 2**20  # one message of a page to Streamlit: everything that stands in its widgets
BOARD_LIMIT = 2**16  # one message of a board to us
BOARD_PATH = "/api/board/"
STREAM_PATH = "/_stcore/stream"
FRAGMENTS_LIMIT = 4_096
UNREAD_LIMIT = 2**20  # answers to pings that a client does not take off its socket
# Forty people behind one address, each with several tabs of one stream and at times one board.
SOCKETS_PER_ADDRESS = 400
SOCKETS = 3_000
FILES_PER_SOCKET = 5  # itself and the event loop of its session
FIRST_MESSAGE_WITHIN_S = 20.0
TOO_MANY = "There are too many connections from this address; close some tabs and try again.\n"


class NoTraceback(logging.Filter):
    """Keeps what a stranger's bytes did to a parser to one line of the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        """True; the record has no traceback any more."""
        if record.levelno < logging.ERROR:
            record.exc_info = record.exc_text = None
        return True


class Tally:
    """Counts by address, with a limit for each address and one for all. Not for several threads."""

    def __init__(self, each: int, total: int) -> None:
        self.each, self.total = each, total
        self.counts: Counter[str] = Counter()
        self.sum = 0

    def enter(self, key: str, *, bounded: bool = True) -> bool:
        """Count one more; False, and nothing counted, where that would be too many. Not ``bounded``: by all alone."""
        if self.sum >= self.total or (bounded and self.counts[key] >= self.each):
            return False
        self.counts[key] += 1
        self.sum += 1
        return True

    def leave(self, key: str) -> None:
        """Count one less of what `enter` counted."""
        self.sum -= 1
        self.counts[key] -= 1
        if not self.counts[key]:
            del self.counts[key]

    @contextmanager
    def held(self, key: str, *, bounded: bool = True) -> Iterator[bool]:
        """`enter`, and `leave` at the end; gives whether there was room."""
        inside = self.enter(key, bounded=bounded)
        try:
            yield inside
        finally:
            if inside:
                self.leave(key)


class Silent:
    """Those who still have to say something, oldest first, with a limit for each address and one for all.

    Where there are too many the oldest has to go and not the newcomer: whoever means it speaks at once, so a crowd that
    only holds its places keeps nobody out.
    """

    def __init__(self, each: int, total: int) -> None:
        self.each, self.total = each, total
        self._all: dict[object, str] = {}
        self._by_key: dict[str, dict[object, Callable[[], None]]] = {}

    def __len__(self) -> int:
        return len(self._all)

    def enter(self, client: tuple[str, int] | list[Any] | None, give_up: Callable[[], None]) -> object:
        """A place for a newcomer, to be left with `leave`. ``give_up`` is called where it has to go for another."""
        key, bounded = address_of(client)
        place = object()
        if bounded and len(self._by_key.get(key, ())) >= self.each:
            self._push_out(next(iter(self._by_key[key])))
        elif len(self._all) >= self.total:
            self._push_out(next(iter(self._all)))
        self._all[place] = key
        self._by_key.setdefault(key, {})[place] = give_up
        return place

    def leave(self, place: object) -> Callable[[], None] | None:
        """Give a place back; also one that is gone already."""
        key = self._all.pop(place, None)
        if key is None:
            return None
        give_up = self._by_key[key].pop(place)
        if not self._by_key[key]:
            del self._by_key[key]
        return give_up

    def _push_out(self, place: object) -> None:
        if give_up := self.leave(place):
            give_up()

    @asynccontextmanager
    async def patience(self, client: tuple[str, int] | list[Any] | None, seconds: float) -> AsyncIterator[None]:
        """Wait for somebody within the block for so long, or until the place is needed: then TimeoutError."""
        async with asyncio.timeout(seconds) as limit:
            place = self.enter(client, lambda: limit.reschedule(0))
            try:
                yield
            finally:
                self.leave(place)


def address_of(client: tuple[str, int] | list[Any] | None) -> tuple[str, bool]:
    """What connections are counted by, and whether it has a limit of its own.

    An IPv6 client has a whole /64 to itself. Loopback has only the limit of all: behind a proxy on this machine that
    does not say whom it speaks for, everybody comes from there.
    """
    address = ip_address(client[0]) if client else None
    if address is None:
        return "unknown", False
    if isinstance(address, ipaddress.IPv6Address) and not address.is_loopback:
        return str(ipaddress.ip_network((int(address) >> 64 << 64, 64))), True
    return str(address), not address.is_loopback


_unasked = Silent(UNASKED_PER_ADDRESS, UNASKED)


class BoundedHttp(H11Protocol):
    """uvicorn's HTTP/1.1 protocol, with an end to heads that do not end and to bodies that nobody reads."""

    _deadline: asyncio.TimerHandle | None = None
    _place: object = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn narrows it too
        super().connection_made(transport)
        self._place = _unasked.enter(self.client, transport.abort)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_here()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.scope
        super().handle_events()
        if self.scope is not before:
            self._head_is_here()

    def on_response_complete(self) -> None:
        before = self.scope
        super().on_response_complete()
        # What is left of a body that was not wanted, and the next head, have their time; a head that was here already
        # is being answered.
        if self.scope is before and not self.transport.is_closing():
            self._expect_head()

    def _expect_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(HEAD_WITHIN_S, self._too_slow)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        _unasked.leave(self._place)

    def _too_slow(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol: a board's messages are small, in few pieces, and its pings are read."""

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            self.handshake_complete = True  # refused, and that is that: uvicorn would log an error for each

    def handle_connect(self, event: Request) -> None:
        if BOARD_PATH in event.path:
            self.conn.max_message_size = BOARD_LIMIT
        super().handle_connect(event)

    def handle_cont(self, event: Frame) -> None:
        if len(self.frames) >= FRAGMENTS_LIMIT:
            self._end(1009, "a message came in too many pieces")
            return
        super().handle_cont(event)

    def handle_ping(self) -> None:
        if self.transport.get_write_buffer_size() > UNREAD_LIMIT:
            self.transport.abort()
            return
        super().handle_ping()

    def send_receive_event_to_app(self) -> None:
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self._end(1007, "a text was not UTF-8")
                return
        super().send_receive_event_to_app()

    def _end(self, code: int, why: str) -> None:
        self.frames = []
        if self.close_sent or self.transport.is_closing():
            return
        log.warning("A WebSocket of %s was closed: %s.", self.client[0] if self.client else "somebody", why)
        self.conn.send_close(code, why)
        self.handle_parser_exception()


class SocketBounds:
    """ASGI middleware: so many WebSockets for an address and in all, and none of Streamlit's that never speaks."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.tally = Tally(SOCKETS_PER_ADDRESS, min(SOCKETS, file_limit() // FILES_PER_SOCKET))
        self.silent = Silent(SILENT_PER_ADDRESS, SILENT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self.app(scope, receive, send)
            return
        key, bounded = address_of(scope.get("client"))
        with self.tally.held(key, bounded=bounded) as inside:
            if not inside:
                log.warning("A WebSocket of %s was refused: %d are open.", key, self.tally.counts[key])
                await refuse(scope, receive, send, 429, TOO_MANY)
            elif scope["path"].endswith(STREAM_PATH):
                stream = _Stream(scope, receive, send, self.silent)
                await self.app(scope, stream.receive, stream.send)
            else:
                await self.app(scope, receive, send)


class _Stream:
    """One of Streamlit's sockets: its first message comes soon, and every one is binary.

    Streamlit would wait for ever, and answer a text with a traceback in the log.
    """

    def __init__(self, scope: Scope, receive: Receive, send: Send, silent: Silent) -> None:
        self._client, self._receive, self._send, self._silent = scope.get("client"), receive, send, silent
        self._accepted = self._has_spoken = self._closed = False

    async def receive(self) -> Message:
        if not self._accepted or self._has_spoken:
            message = await self._receive()
        else:
            try:
                async with self._silent.patience(self._client, FIRST_MESSAGE_WITHIN_S):
                    message = await self._receive()
            except TimeoutError:
                return await self._close(1008, "it never said anything", logging.DEBUG)  # a crowd would fill the log
            self._has_spoken = True
        if message["type"] == "websocket.receive" and message.get("bytes") is None:
            return await self._close(1003, "it sent text where only binary messages are understood")
        return message

    async def send(self, message: Message) -> None:
        if self._closed:
            raise OSError("the socket is closed")  # what Starlette takes for a client that has gone
        await self._send(message)
        if message["type"] == "websocket.accept":
            self._accepted = True

    async def _close(self, code: int, why: str, level: int = logging.WARNING) -> Message:
        log.log(level, "A page's socket of %s was closed: %s.", address_of(self._client)[0], why)
        self._closed = True
        await self._send({"type": "websocket.close", "code": code, "reason": why})
        return {"type": "websocket.disconnect", "code": code}
