"""The UI process: Streamlit, the board's WebSocket route and the headers. `app.serve` starts it."""

from __future__ import annotations

import asyncio
import gc
import importlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.middleware import Middleware
from starlette.routing import WebSocketRoute

from app import signin
from app.headers import SecurityHeaders
from app.relay import Relay

MAIN = Path(__file__).resolve().parent / "main.py"
# What pages need and what takes long to import: fetched after the first answer, not before it.
HEAVY = ("pandas", "altair", "sqlmodel", "app.session")
PAGE_FAILED = "This page could not be drawn. Nothing was lost: reload it, and if that does not help, see the log."

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
    not walked (design.md, section 1).
    """
    from services.keys import install_log_filter

    install_log_filter()
    signin.install_log_filter()
    warming = asyncio.create_task(asyncio.to_thread(_warm))
    try:
        yield None
    finally:
        warming.cancel()
        await relay.close()


def _lets_in(cookies: Mapping[str, str], origin: str) -> bool:
    from app import session  # after the first answer, as all that is heavy

    return session.lets_in(cookies, origin)


def _base() -> str:
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


def create(script: Path = MAIN) -> st.App:
    """The ASGI app around a Streamlit script (absolute path)."""
    return st.App(
        script,
        lifespan=lifespan,
        routes=[WebSocketRoute(f"{_base()}/api/board/{{run_id}}", relay.endpoint)],
        middleware=[Middleware(SecurityHeaders), Middleware(signin.SignInRoutes, lets_in=_lets_in)],
        on_script_error=on_script_error,
    )


app = create()
