"""One HTTP attempt, read by our own reader: bytes stamped as they arrive, decoded, judged by the wire's own signals.

`Progress` is its living state: one writer (the attempt's own task), many lookers on the same event loop (the board, the
deadlines); no locks, no callbacks. Nothing here retries, follows redirects, or takes a clean end of file for success.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import perf_counter_ns
from types import SimpleNamespace
from typing import TypedDict

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver
from yarl import URL

from services import outcomes
from services.providers.base import Decoder, Kind
from services.security import keys
from services.security.keys import HIDDEN, SHORTEST
from services.security.network import Forbidden
from services.security.outbound import DIRECT, SIGN_IN_PAGE, Way, environment_ca_trouble, wants_browser
from services.types import Framing, Limits, Outcome, Phase, WireError, WireRequest
from services.wire.framing import CONTENT_TYPES, FRAMERS, Framer, FramingError
from services.wire.sse import ServerEvent, StreamTooLarge
from services.wire.stamps import StampedHandler, handler_of, stamped_connector

NS = 1_000_000_000


class Progress:
    """Stamps (perf_counter_ns; 0 = not yet), content so far, and the reason if somebody ends it early."""

    __slots__ = (
        "abort",
        "accepted",
        "answer",
        "answer_chars",
        "connect_end",
        "connect_start",
        "decoder",
        "delta_kinds",
        "delta_ns",
        "end",
        "first",
        "first_answer",
        "handed",
        "headers",
        "keepalives",
        "last",
        "limits",
        "n_bytes",
        "n_events",
        "phase",
        "reasoning",
        "reasoning_chars",
        "reused",
        "status",
        "t0",
        "t0_wall",
        "via",
    )

    def __init__(self, decoder: Decoder | None, limits: Limits) -> None:
        self.decoder = decoder
        self.limits = limits
        self.phase: Phase = "queued"
        self.accepted = perf_counter_ns()
        self.handed = 0
        self.connect_start = 0
        self.connect_end = 0
        self.reused = False
        self.via: str | None = None  # the setting of the proxy that it goes through
        self.t0 = 0
        self.t0_wall: float | None = None
        self.headers = 0
        self.first = 0
        self.first_answer = 0
        self.last = 0
        self.end = 0
        self.status: int | None = None
        self.delta_ns: array[int] = array("q")
        self.delta_kinds = bytearray()  # "a" answer, "r" reasoning, "t" tool arguments
        self.answer: list[str] = []
        self.reasoning: list[str] = []
        self.answer_chars = 0
        self.reasoning_chars = 0
        self.n_bytes = 0
        self.n_events = 0
        self.keepalives = 0
        self.abort: Outcome | None = None

    @property
    def over(self) -> bool:
        """True once the attempt has ended in any way."""
        return self.phase == "done"

    def overdue(self, now: int) -> Outcome | None:
        """The deadline that has passed at ``now`` (perf_counter_ns), if any.

        Deadlines are on content: keep-alive comments and empty deltas do not hold them off.
        """
        limits = self.limits
        if self.phase == "connecting":
            return "timeout_connect" if now - self.handed > limits.connect_s * NS else None
        if not self.t0 or self.over:
            return None
        if now - self.t0 > limits.total_s * NS:
            return "timeout_total"
        if not self.headers:
            return "timeout_headers" if now - self.t0 > limits.headers_s * NS else None
        if not self.last:
            return "timeout_first_token" if now - self.t0 > limits.first_token_s * NS else None
        return "timeout_idle" if now - self.last > limits.idle_s * NS else None


MAX_ERROR_BYTES = 65_536

NEAR_KEEPALIVE_S = 3.0  # llama.cpp closes an idle connection after 5 s

FAR_KEEPALIVE_S = 15.0


# (method, url, headers, body as it is sent) → the headers to send: a signature over all of them.
Sign = Callable[[str, str, Mapping[str, str], bytes], dict[str, str]]


_NO_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None, sock_read=None)


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt ended: the fine outcome, and what the service or the transport said about it."""

    outcome: Outcome
    detail: str | None = None
    error_type: str | None = None
    error_code: str | None = None
    retry_after_s: float | None = None


def opened_session(resolver: AbstractResolver | None, keepalive_s: float) -> aiohttp.ClientSession:
    """A session of stamped connections: no cookies, no netrc, no proxy but that of the `Way` of a request.

    We ask for no compression; a proxy that compresses all the same is understood.
    """
    return aiohttp.ClientSession(
        connector=stamped_connector(resolver, keepalive_s=keepalive_s),
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trace_configs=[tracing()],
        read_bufsize=2**20,
    )


def tracing() -> aiohttp.TraceConfig:
    """Trace hooks that note connection times and t0 on the `Progress` passed as ``trace_request_ctx``."""
    trace = aiohttp.TraceConfig()

    async def connecting(_s: object, ctx: SimpleNamespace, _p: object) -> None:
        ctx.trace_request_ctx.connect_start = perf_counter_ns()

    async def connected(_s: object, ctx: SimpleNamespace, _p: object) -> None:
        ctx.trace_request_ctx.connect_end = perf_counter_ns()

    async def reused(_s: object, ctx: SimpleNamespace, _p: object) -> None:
        ctx.trace_request_ctx.reused = True

    async def sending(_s: object, ctx: SimpleNamespace, _p: object) -> None:
        progress: Progress = ctx.trace_request_ctx
        progress.t0_wall = time.time()
        progress.phase = "waiting"
        progress.t0 = perf_counter_ns()

    trace.on_connection_create_start.append(connecting)
    trace.on_connection_create_end.append(connected)
    trace.on_connection_reuseconn.append(reused)
    trace.on_request_headers_sent.append(sending)
    return trace


async def attempt(
    session: aiohttp.ClientSession,
    kind: Kind,
    request: WireRequest,
    key: str | None,
    progress: Progress,
    sign: Sign | None = None,
    secret: str = "",
    way: Way = DIRECT,
) -> Ending:
    """Send one request and read its stream to the end, writing into ``progress`` as bytes arrive.

    ``secret``: what must not come back as an answer beside ``key``, such as a session token that ``sign`` sends.
    ``way``: how it leaves this machine; a session whose names are not guarded is to be given with every proxy.
    Always returns an `Ending`; the only exception that leaves is CancelledError without ``progress.abort`` set.
    """
    headers = {
        **request.headers,
        "accept": CONTENT_TYPES[request.framing][0],
        "accept-encoding": "identity",
        "content-type": "application/json",
    }
    if request.auth and key:
        headers[request.auth[0]] = request.auth[1].format(key=key)
    body = orjson.dumps(request.body)
    if sign is not None:
        headers = sign(request.method, request.url, headers, body)
    # A signature covers the address as it is written, and AWS's addresses are quoted in their own way.
    url = request.url if sign is None and request.framing == "sse" else URL(request.url, encoded=True)
    progress.phase = "connecting"
    progress.via = way.proxy.setting if way.proxy is not None else None
    progress.handed = perf_counter_ns()
    response: aiohttp.ClientResponse | None = None
    try:
        response = await session.request(
            request.method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            timeout=_NO_TIMEOUT,
            trace_request_ctx=progress,
            **leaving(way),
        )
        if way.proxy is not None and response.status == 407:
            return Ending("proxy_error", _wants_login(way), "proxy_login")
        return await _read(response, kind, request.framing, key or secret, progress)
    except asyncio.CancelledError:
        if progress.abort is None:
            raise
        return _aborted(progress.abort, way)
    except Exception as error:
        return _transport_ending(error, progress, way)
    finally:
        # Done before anything is awaited again: from here on nobody may abort what has already ended.
        progress.end = progress.end or perf_counter_ns()
        progress.phase = "done"
        if response is not None:
            if progress.decoder is not None and progress.decoder.terminal:
                await _drain(response)
            # close, not release: what is left of an aborted stream must stop upstream as well.
            response.close()


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read the few bytes after the terminal signal so that the connection can be used again; never wait for long."""
    try:
        async with asyncio.timeout(0.05):
            while await response.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError, OSError):
        return
    response.release()


async def _read(
    response: aiohttp.ClientResponse, kind: Kind, framing: Framing, secret: str, progress: Progress
) -> Ending:
    handler = handler_of(response)
    # `is not None`: aiohttp's protocol is a queue too, and an empty queue counts as false.
    progress.headers = (handler.headers_ns if handler is not None else 0) or perf_counter_ns()
    progress.status = response.status
    content_type = response.headers.get("content-type", "").lower()
    headers = {name.lower(): value for name, value in response.headers.items()}
    if progress.decoder is not None:
        progress.decoder.opened(headers)
    if response.status != 200 or not content_type.startswith(CONTENT_TYPES[framing]):
        error_body = await _short_body(response)
        if response.status == 200 and not error_body.strip():
            return Ending("empty", "the service answered 200 with nothing in it")
        return _of_error(kind.http_error(response.status, headers, error_body))
    intake = Intake(progress, FRAMERS[framing](), secret, asyncio.get_running_loop().create_future())
    try:
        if handler is None:
            intake.eof = True
        else:
            await _streamed(response, handler, intake)
        if intake.eof:
            intake.take(intake.framer.flush(), perf_counter_ns())
    finally:
        intake.let_go()
    progress.end = (handler.last_ns if handler is not None else 0) or perf_counter_ns()
    decoder = intake.decoder
    if decoder.error is not None:
        return _of_error(decoder.error)
    outcome, detail = outcomes.judge(decoder, saw_content=bool(progress.first), eof=intake.eof)
    return Ending(outcome, detail)


async def _streamed(response: aiohttp.ClientResponse, handler: StampedHandler, intake: Intake) -> None:
    """Take the stream in as it arrives. Raises what the transport or `Intake` raised."""
    content = response.content
    try:
        early = content.read_nowait()
        for chunk, stamp in _stamped(early, handler):
            intake.feed(chunk, stamp)
        if not intake.over.done():
            handler.attach(content, intake.feed, lambda: intake.ended(content))
        await intake.over
    finally:
        handler.detach()


def _stamped(data: bytes, handler: StampedHandler) -> list[tuple[bytes, int]]:
    """Split the start of a body at the boundaries of the network reads that brought it, each with its stamp."""
    parts: list[tuple[bytes, int]] = []
    start = 0
    for total, stamp in handler.marks:
        if total > start:
            parts.append((data[start:total], stamp))
            start = total
    if start < len(data):
        parts.append((data[start:], handler.last_ns or perf_counter_ns()))
    handler.marks.clear()
    return parts


async def _short_body(response: aiohttp.ClientResponse) -> bytes:
    body = b""
    while len(body) < MAX_ERROR_BYTES:
        data = await response.content.readany()
        if not data:
            break
        body += data
    return body[:MAX_ERROR_BYTES]


def _of_error(error: WireError) -> Ending:
    return Ending(error.outcome, error.message or None, error.type, error.code, error.retry_after_s)


class WayOptions(TypedDict, total=False):
    """What aiohttp's request is told of a way out."""

    ssl: ssl.SSLContext
    proxy: str
    proxy_headers: dict[str, str]


def leaving(way: Way) -> WayOptions:
    """What aiohttp is told of a way; nothing of the usual one."""
    options: WayOptions = {} if way.tls is None else {"ssl": way.tls}
    if way.proxy is not None:
        options["proxy"] = way.proxy.url
        if way.proxy.login is not None:
            # aiohttp makes Proxy-Authorization of it, of a tunnel's request as of a plain one.
            options["proxy_headers"] = {"Authorization": way.proxy.login}
    return options


def _aborted(outcome: Outcome, way: Way) -> Ending:
    if outcome == "timeout_connect" and way.proxy is not None:
        return Ending(outcome, f"it is called through the proxy of {way.proxy.setting}, which did not connect in time")
    return Ending(outcome)


def _wants_login(way: Way) -> str:
    setting = way.proxy.setting if way.proxy is not None else ""
    if way.proxy is not None and way.proxy.login is not None:
        return f"the proxy of {setting} did not accept the user name and password (407)"
    return f"the proxy of {setting} wants a user name and a password (407)"


def _proxy_ending(error: Exception, way: Way) -> Ending | None:
    """An error that a proxy made, or that was made on the way through it; None for any other."""
    if way.proxy is None:
        return None
    setting = way.proxy.setting
    if isinstance(error, aiohttp.ClientHttpProxyError):
        if error.status == 407:
            return Ending("proxy_error", _wants_login(way), "proxy_login")
        if error.status in (502, 503, 504):
            return Ending(
                "proxy_error", f"the proxy of {setting} could not reach the host ({error.status})", "proxy_refused"
            )
        if error.status in SIGN_IN_PAGE:
            return Ending("proxy_error", f"the proxy of {setting} {wants_browser(error.status)}", "proxy_login")
        return Ending(
            "proxy_error", f"the proxy of {setting} refused to connect to the host ({error.status})", "proxy_refused"
        )
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Ending("proxy_error", f"the proxy of {setting} does not answer", "proxy_unreachable")
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Ending("proxy_error", f"the name of the proxy of {setting} could not be resolved", "proxy_unreachable")
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Ending("proxy_error", f"the proxy of {setting} showed {_untrusted()}", "proxy_tls")
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return Ending("proxy_error", f"through the proxy of {setting} no secure connection could be made", "proxy_tls")
    return Ending("proxy_error", f"the proxy of {setting} closed the connection", "proxy_unreachable")


def _untrusted() -> str:
    """What a certificate means that nobody vouches for, and what to do."""
    trouble = environment_ca_trouble()
    mend = keys.scrub(trouble) if trouble else "name the company's own in SSL_CERT_FILE or ca_file"
    return f"a certificate that is not trusted here: {mend}"


def _transport_ending(error: Exception, progress: Progress, way: Way) -> Ending:
    """A transport that broke. Before t0 nothing was sent; after it the request may have been served and billed."""
    if progress.abort is not None:
        return _aborted(progress.abort, way)
    if isinstance(error, Forbidden):
        return Ending("config_error", str(error))
    if isinstance(error, StreamTooLarge | FramingError):
        return Ending("protocol_error", str(error))
    if isinstance(error, aiohttp.InvalidURL):
        return Ending("config_error", "the address is not a valid URL")
    cause = error.__cause__ or error.__context__
    if isinstance(cause, Forbidden):
        return Ending("config_error", str(cause))
    if not progress.t0:
        by_proxy = _proxy_ending(error, way)
        if by_proxy is not None:
            return by_proxy
        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            return Ending("unreachable", f"it showed {_untrusted()}", "tls")
        if isinstance(error, aiohttp.ClientConnectorSSLError):
            return Ending("unreachable", "the secure connection could not be made", "tls")
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return Ending("unreachable", "the host name could not be resolved", "dns")
        if isinstance(error, aiohttp.ClientConnectorError):
            return Ending("unreachable", "the connection was refused", type(error.os_error).__name__)
        return Ending("unreachable", "no connection could be made", type(error).__name__)
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ClientConnectionError | ConnectionError):
        return Ending("truncated", "the connection broke before the answer was complete", type(error).__name__)
    return Ending("protocol_error", "the answer was not valid HTTP", type(error).__name__)


MAX_STREAM_BYTES = 20_000_000

_KIND_CODE = {"answer": 97, "reasoning": 114, "tool": 116}


class Intake:
    """Bytes in, progress out: decodes each read where it arrives. ``over`` is done when there is nothing to await."""

    __slots__ = ("decoder", "eof", "framer", "over", "progress", "unkeyed_answer", "unkeyed_reasoning")

    def __init__(self, progress: Progress, framer: Framer, secret: str, over: asyncio.Future[None]) -> None:
        assert progress.decoder is not None
        self.progress = progress
        self.decoder: Decoder = progress.decoder
        self.over = over
        self.framer = framer
        self.unkeyed_answer, self.unkeyed_reasoning = Echo(secret), Echo(secret)
        self.eof = False

    def feed(self, data: bytes, stamp: int) -> None:
        """Decode one read. Runs inside the transport's callback, so whatever goes wrong ends up in ``over``."""
        if self.over.done():
            return
        progress = self.progress
        try:
            progress.n_bytes += len(data)
            self.take(self._events(data, stamp), stamp)
            progress.keepalives = self.framer.keepalives
            if progress.n_bytes > MAX_STREAM_BYTES:
                raise StreamTooLarge(f"more than {MAX_STREAM_BYTES:,} bytes came in one answer")
        except Exception as error:
            self.over.set_exception(error)
            return
        if self.decoder.terminal or self.decoder.error is not None:
            self.over.set_result(None)

    def _events(self, data: bytes, stamp: int) -> list[ServerEvent]:
        """The events that ``data`` completes. What was whole before a damage is taken first: it may be the end."""
        try:
            return self.framer.feed(data)
        except FramingError as damage:
            self.take(damage.events, stamp)
            if self.decoder.terminal or self.decoder.error is not None:
                return []
            raise

    def ended(self, content: aiohttp.StreamReader) -> None:
        """The body is at its end: cleanly, or with the exception that the transport left."""
        if self.over.done():
            return
        # Later in this turn of the loop: the last bytes are handed over after the end of the body is announced.
        self.over.get_loop().call_soon(self._ended, content)

    def _ended(self, content: aiohttp.StreamReader) -> None:
        if self.over.done():
            return
        broken = content.exception()
        if broken is not None:
            self.over.set_exception(broken)
        else:
            self.eof = True
            self.over.set_result(None)

    def take(self, events: list[ServerEvent], stamp: int) -> None:
        """Decode events that arrived at ``stamp`` and write what they carried into the progress."""
        decoder, progress = self.decoder, self.progress
        for event in events:
            progress.n_events += 1
            for kind, text in decoder.feed(event):
                progress.delta_ns.append(stamp)
                progress.delta_kinds.append(_KIND_CODE[kind])
                progress.last = stamp
                if not progress.first:
                    progress.first = stamp
                if kind == "answer":
                    if not progress.first_answer:
                        progress.first_answer = stamp
                        progress.phase = "answering"
                    progress.answer.append(self.unkeyed_answer.feed(text))
                    progress.answer_chars += len(text)
                else:
                    if not progress.first_answer:
                        progress.phase = "reasoning"
                    if kind == "reasoning":
                        progress.reasoning.append(self.unkeyed_reasoning.feed(text))
                        progress.reasoning_chars += len(text)
            if decoder.error is not None or decoder.terminal:
                return

    def let_go(self) -> None:
        """Give back the texts' last characters, which could have been the beginning of the key."""
        for texts, unkeyed in (
            (self.progress.answer, self.unkeyed_answer),
            (self.progress.reasoning, self.unkeyed_reasoning),
        ):
            if remainder := unkeyed.rest():
                texts.append(remainder)


class Echo:
    """Feed it a text in pieces; it gives back the text without the key.

    Only what could be the beginning of the key is held back, until the next piece shows that it is not.
    """

    __slots__ = ("_first", "_held", "_key")

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= SHORTEST else ""
        self._first = self._key[:1]
        self._held = ""

    def feed(self, piece: str) -> str:
        """What may be shown of the text so far and was not given back yet; "" while it could be the key."""
        if not self._first or (not self._held and self._first not in piece):
            return piece
        text = (self._held + piece).replace(self._key, HIDDEN)
        keep = self._beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was still held back when the text ended: part of a key at most."""
        withheld, self._held = self._held, ""
        return withheld if len(withheld) < SHORTEST else HIDDEN

    def _beginning(self, text: str) -> int:
        """How many characters at the end of ``text`` the key begins with."""
        place = text.find(self._first, max(0, len(text) - len(self._key) + 1))
        while place >= 0:
            if self._key.startswith(text[place:]):
                return len(text) - place
            place = text.find(self._first, place + 1)
        return 0
