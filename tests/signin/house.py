"""The real pages with real `[auth]` secrets in a process of their own, and visitors without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from app.launcher import free_port
from services.paths import ROOT
from tests.e2e.live_lab import answers, until
from tests.signin.oidc import CLIENT, SECRET, Provider

COOKIE_SECRET = "canary-cookie-secret-77aa0b1c2d3e4f5a"
BOARD_SECRET = "canary-board-secret-91e0"


def secrets_toml(provider: Provider, port: int) -> str:
    """The secrets file of a lab at ``port`` for a provider."""
    return f"""
[auth]
redirect_uri = "http://localhost:{port}/oauth2callback"
cookie_secret = "{COOKIE_SECRET}"
client_id = "{CLIENT}"
client_secret = "{SECRET}"
server_metadata_url = "{provider.url}/.well-known/openid-configuration"
"""


@dataclass
class House:
    """The pages of one test: where they are and what they log."""

    url: str
    folder: Path

    @property
    def log(self) -> str:
        """Everything that was logged so far."""
        return (self.folder / "pages.log").read_text(errors="replace")

    def access(self, text: str) -> None:
        """Write what [access] of deployments.toml says."""
        written = self.folder / "deployments.toml.new"
        written.write_text(f"[access]\n{text}\n")
        written.replace(self.folder / "deployments.toml")


@contextlib.contextmanager
def pages(folder: Path, secrets: str | bytes | None, port: int) -> Iterator[House]:
    """Serve the real app, with ``secrets`` as its only secrets file (None: there is none), without an engine."""
    file = folder / ".streamlit" / "secrets.toml"  # Streamlit looks for one in the home directory too
    file.parent.mkdir(exist_ok=True)
    if secrets is not None:
        file.write_bytes(secrets if isinstance(secrets, bytes) else secrets.encode())
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LAB_DATA": str(folder / "data"),
        "LAB_BOARD_SECRET": BOARD_SECRET,
        "LAB_DEPLOYMENTS": str(folder / "deployments.toml"),
        "LAB_SOCKET": str(folder / "e.sock"),
        "HOME": str(folder),
    }
    (folder / "data").mkdir(exist_ok=True)
    with (folder / "pages.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "app.server", "--port", str(port)], cwd=folder, env=env, stdout=log, stderr=log
        )
        try:
            until(lambda: answers(f"http://localhost:{port}/_stcore/health") or process.poll() is not None)
            yield House(f"http://localhost:{port}", folder)
        finally:
            process.terminate()
            process.wait(20)


def port_for(offset: int) -> int:
    """A free port; suites that run side by side look in other hundreds."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return free_port("127.0.0.1", 9100 + 200 * worker + offset)


@dataclass
class Seen:
    """What one drawing of the page shows: its words, and its buttons by label."""

    words: str = ""
    buttons: dict[str, str] = field(default_factory=dict)
    redirect: str = ""
    fragment: str = ""  # one that can be drawn by itself
    fields: dict[str, str] = field(default_factory=dict)


class Visitor:
    """Somebody with cookies of their own, who opens pages as a browser does but reads the wire instead of a screen."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.http = httpx.Client(base_url=house.url, follow_redirects=True, trust_env=False, timeout=20)
        self.http.get("/_stcore/health")

    def cookies(self) -> dict[str, str]:
        """The cookies of the lab."""
        return {
            cookie.name: cookie.value or "" for cookie in self.http.cookies.jar if cookie.domain.startswith("local")
        }

    def sign_in(self) -> httpx.Response:
        """Press the button that the page shows and follow the provider; the last answer."""
        target = self.press("Sign in").redirect
        assert target, "the button led nowhere"
        return self.http.get(target)

    def look(self, query: str = "") -> Seen:
        """Open the page."""
        return asyncio.run(self._run(query, None))

    def press(self, label: str, query: str = "") -> Seen:
        """Open the page and press a button."""
        return asyncio.run(self._run(query, label))

    async def _run(self, query: str, label: str | None) -> Seen:
        async with self.open() as tab:
            seen = await tab.draw(query)
            return seen if label is None else await tab.draw(query, press=seen.buttons[label])

    @contextlib.asynccontextmanager
    async def open(self) -> Any:
        """A tab of this visitor that stays open: its cookies are those of now."""
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies().items())
        headers = {"Origin": self.house.url, "Cookie": cookies}
        address = f"{self.house.url}/_stcore/stream"
        protocols = ("streamlit", self.cookies().get("_streamlit_xsrf", "") or "none")
        async with (
            aiohttp.ClientSession() as client,
            client.ws_connect(address, headers=headers, protocols=protocols, max_msg_size=0) as socket,
        ):
            yield Tab(socket)


class Tab:
    """An open page."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket

    async def draw(
        self,
        query: str = "",
        *,
        press: str = "",
        texts: dict[str, str] | None = None,
        page: str = "",
        fragment: str = "",
    ) -> Seen:
        """Run the page once, with a button pressed or with texts typed, or a fragment of it; what it shows then."""
        asked = BackMsg()
        asked.rerun_script.query_string = query
        asked.rerun_script.page_name = page
        asked.rerun_script.fragment_id = fragment
        if press:
            state = asked.rerun_script.widget_states.widgets.add()
            state.id, state.trigger_value = press, True
        for widget, text in (texts or {}).items():
            state = asked.rerun_script.widget_states.widgets.add()
            state.id, state.string_value = widget, text
        await self.socket.send_bytes(asked.SerializeToString())
        seen = Seen()
        async with asyncio.timeout(40):
            while True:
                message = await self.socket.receive()
                assert message.type is aiohttp.WSMsgType.BINARY, message
                told = ForwardMsg.FromString(message.data)
                if told.WhichOneof("type") == "auth_redirect":
                    seen.redirect = told.auth_redirect.url
                if told.WhichOneof("type") == "delta":
                    seen.fragment = told.delta.fragment_id or seen.fragment
                    _note(told.delta.new_element, seen)
                if told.WhichOneof("type") == "script_finished" and told.script_finished in (0, 3):
                    return seen


def _note(element: Any, seen: Seen) -> None:
    kind = element.WhichOneof("type")
    if kind == "button":
        seen.buttons[_plain(element.button.label)] = element.button.id
    elif kind == "text_area":
        seen.fields[element.text_area.label] = element.text_area.id
    elif kind in ("markdown", "alert", "heading", "code", "exception"):
        body = getattr(element, kind)
        seen.words += _plain(getattr(body, "body", "") or getattr(body, "code_text", "") or str(body)) + "\n"


def _plain(text: str) -> str:
    return re.sub(r":small\[\]|[\\\u2060\u200b]", "", text)


def cookie_for(claims: dict[str, Any], url: str, *, secret: str = COOKIE_SECRET, body: str = "") -> str:
    """An identity cookie as Streamlit signs it, for claims that no provider of ours would give."""
    from streamlit.web.server.starlette.starlette_app_utils import create_signed_value

    text = body or json.dumps({"is_logged_in": True, "provider": "default", **claims, "origin": url})
    return create_signed_value(secret, "_streamlit_user", text).decode()
