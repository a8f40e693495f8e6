"""The UI process: Streamlit, the board's WebSocket route, and the headers that keep a browser on this host.

It looks ten times a second whether it is to end, and writes the date that answers carry.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import importlib
import logging
import re
import socket
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import Any

import streamlit as st
import uvicorn
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from uvicorn.server import ServerState

from app.access import sign_in
from app.access.connections import (
    HEAD_LIMIT,
    STREAM_LIMIT,
    BoundedHttp,
    BoundedWebSocket,
    Doors,
    NoTraceback,
    SocketBounds,
)
from app.access.uploads import FILE_MB, Uploads
from app.live.websocket import Relay
from services.processes.lifetime import raise_file_limit

log = logging.getLogger(__name__)

MAIN = Path(__file__).resolve().parent / "main.py"


# What pages need and what takes long to import: fetched after the first answer, not before it.
HEAVY = ("pandas", "altair", "sqlmodel", "app.auth")


PAGE_FAILED = "This page could not be drawn. Nothing was lost: reload it, and if that does not help, see the log."


# What has to hold whatever `.streamlit/config.toml` says, and where there is none: nothing is told to another host, no
# traceback reaches a person, no other page is let in, and no garbage is collected while people wait.
SETTINGS: Mapping[str, Any] = {
    "global.developmentMode": False,
    "browser.gatherUsageStats": False,
    "client.allowedOrigins": [],
    "client.showErrorDetails": "none",
    "client.showErrorLinks": "false",
    "client.toolbarMode": "minimal",
    "logger.enableRich": False,  # it would print tracebacks past the log filter that hides keys
    "logger.hideWelcomeMessage": True,
    "runner.magicEnabled": False,
    "runner.postScriptGC": False,
    "server.corsAllowedOrigins": [],
    "server.enableAgentApi": False,
    "server.enableCORS": True,
    "server.enableStaticServing": False,
    "server.enableWebsocketCompression": False,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": FILE_MB,
    "server.maxWidgetStateSize": STREAM_LIMIT // 10**6,
    "server.runOnSave": False,
    "server.scriptHealthCheckEnabled": False,
}


PING_S = 30.0

relay = Relay()


def _warm() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()


def on_script_error(_error: Exception) -> bool:
    """Tell the reader one sentence; True: Streamlit shows nothing of its own. It has logged the error, without keys."""
    st.error(PAGE_FAILED, icon=":material/error:")
    return True


@asynccontextmanager
async def lifespan(_app: st.App) -> AsyncIterator[dict[str, Any] | None]:
    """Quiet the collector once the heavy modules are in, and close the engine's connections at the end.

    A full collection walks every object of pandas and Streamlit while all threads stand still; frozen ones are
    not walked (docs/adr/0001-two-processes.md).
    """
    from services.security.keys import install_log_filter

    install_log_filter()
    logging.getLogger("streamlit.web.server.starlette.starlette_websocket").addFilter(NoTraceback())
    sign_in.install_log_filter()
    warming = asyncio.create_task(asyncio.to_thread(_warm))
    try:
        yield None
    finally:
        warming.cancel()
        await relay.close()


def _lets_in(cookies: Mapping[str, str], origin: str) -> bool:
    from app import auth  # after the first answer, as all that is heavy

    return auth.lets_in(cookies, origin)


def _base() -> str:
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


def _started_at() -> str | None:
    address = st.get_option("server.address")
    return str(address) if address else None


def create(script: Path = MAIN) -> st.App:
    """The ASGI app around a Streamlit script (absolute path), with `SETTINGS` in force."""
    application = st.App(
        script,
        lifespan=lifespan,
        routes=[WebSocketRoute(f"{_base()}/api/board/{{run_id}}", relay.endpoint)],
        middleware=[
            Middleware(Doors, started_at=_started_at),
            Middleware(SocketBounds),
            Middleware(SecurityHeaders),
            Middleware(sign_in.SignInRoutes, lets_in=_lets_in),
            Middleware(Uploads),
        ],
        on_script_error=on_script_error,
    )
    for name, value in SETTINGS.items():
        config.set_option(name, value, "app/asgi.py")
    return application


def run(application: st.App, port: int, address: str) -> None:
    """Serve ``application`` on ``address``:``port`` (0: a free one) until SIGINT or SIGTERM.

    In place of `st.App.run`, which offers no limit on a message, on the head of a request or on the time it takes.
    Raises SystemExit(1) when the port cannot be had and SystemExit(3) when the app does not start.
    """
    raise_file_limit()
    try:
        listening = _listen(address, port)
    except OSError as error:
        log.error("Port %d of %s cannot be used: %s.", port, address, error.strerror or error)
        sys.exit(1)
    with listening:
        port = listening.getsockname()[1]
        config.set_option("server.address", address, "app/asgi.py")
        config.set_option("server.port", port, "app/asgi.py")
        server = StillServer(
            uvicorn.Config(
                application,
                host=address,
                port=port,
                http=BoundedHttp,
                h11_max_incomplete_event_size=HEAD_LIMIT,
                ws=BoundedWebSocket,
                ws_max_size=STREAM_LIMIT,
                ws_ping_interval=PING_S,
                ws_ping_timeout=PING_S,
                ws_per_message_deflate=False,
                ssl_certfile=st.get_option("server.sslCertFile"),
                ssl_keyfile=st.get_option("server.sslKeyFile"),
                access_log=False,
                use_colors=False,
                server_header=False,
            )
        )
        server.run(sockets=[listening])
        if not server.started:
            sys.exit(3)


def _listen(address: str, port: int) -> socket.socket:
    if ":" not in address:
        return socket.create_server((address, port), backlog=2048)
    return socket.create_server((address, port), family=socket.AF_INET6, backlog=2048, dualstack_ipv6=address == "::")


_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?|\[[0-9A-Fa-f:.]+\](:\d{1,5})?")

_INLINE_SCRIPT = re.compile(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", re.DOTALL)


@lru_cache(maxsize=1)
def inline_script_hashes() -> tuple[str, ...]:
    """CSP hashes of the inline scripts in the page Streamlit ships, so that no other inline script may run."""
    import streamlit

    page = (Path(streamlit.__file__).parent / "static" / "index.html").read_text(encoding="utf-8")
    digests = (hashlib.sha256(script.encode()).digest() for script in _INLINE_SCRIPT.findall(page))
    return tuple(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)


def content_security_policy(host: str) -> str:
    """The policy for a page served as ``host`` (the Host header; one that is no host name is left out).

    blob: scripts are Streamlit's way to load a component's module; its styles are inline; charts need no eval.
    """
    # A policy cannot name an IPv6 address; 'self' covers the sockets of this very host there too.
    sockets = f" ws://{host} wss://{host}" if _HOST.fullmatch(host) and not host.startswith("[") else ""
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' blob: 'wasm-unsafe-eval' {' '.join(inline_script_hashes())}",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' data: blob:",
            "font-src 'self' data:",
            f"connect-src 'self'{sockets}",
            "worker-src 'self' blob:",
            "frame-src 'self'",
            "frame-ancestors 'self'",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
        )
    )


class SecurityHeaders:
    """Pure ASGI middleware: adds the headers to every HTTP response, streams untouched."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        host = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"host"), "")
        extra = (
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
            (b"cross-origin-resource-policy", b"same-origin"),
            (b"content-security-policy", content_security_policy(host).encode()),
        )
        names = {name for name, _ in extra}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", ()) if pair[0].lower() not in names]
                message = {**message, "headers": [*kept, *extra]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


app = create()


class DatedWhenAsked(ServerState):
    """uvicorn's state, whose headers carry the time at which they are asked for."""

    def __init__(self, server: uvicorn.Server) -> None:
        self._server = server
        super().__init__()

    def __getattribute__(self, name: str) -> Any:
        if name != "default_headers":
            return super().__getattribute__(name)
        config = self._server.config
        date = [(b"date", formatdate(time.time(), usegmt=True).encode())] if config.date_header else []
        return date + config.encoded_headers


class StillServer(uvicorn.Server):
    """uvicorn's server, which waits to be told to end instead of looking."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.server_state = DatedWhenAsked(self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leaving: asyncio.Event | None = None

    async def main_loop(self) -> None:
        """Serve until `handle_exit`."""
        self._leaving, self._loop = asyncio.Event(), asyncio.get_running_loop()
        while not self.should_exit:
            await self._leaving.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal to end, in the main thread."""
        super().handle_exit(sig, frame)
        if self._loop is not None and self._leaving is not None:
            self._loop.call_soon_threadsafe(self._leaving.set)
