"""The pages' process as it is served, once for all of these tests, with limits small enough to be reached quickly."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

from services.paths import ROOT

VISITOR_BYTES = 4_000_000
TOTAL_BYTES = 7_000_000
SOCKETS = 20
SILENT = 8
STRANGERS = 5
UNASKED = 50
TTL_S = 3

SERVE = f"""
import sys
import app.access.connections, app.live.websocket, app.access.uploads
app.access.connections.HEAD_WITHIN_S = 1.0
app.access.connections.FIRST_MESSAGE_WITHIN_S = 3.0
app.access.connections.SOCKETS = {SOCKETS}
app.access.connections.SILENT = {SILENT}
app.access.connections._unasked.total = {UNASKED}
app.live.websocket.HELLO_S = 3.0
app.live.websocket.STRANGERS = {STRANGERS}
app.access.uploads.VISITOR_BYTES = {VISITOR_BYTES}
app.access.uploads.TOTAL_SHARE = 10**12
app.access.uploads.LEAST_TOTAL_BYTES = {TOTAL_BYTES}
app.access.uploads.PAUSE_S = 1.0
app.access.uploads.SLOW_AFTER_S = 2.0
# Only what measures: the sizes that Streamlit tells are those of now, and not of up to five seconds ago.
from streamlit.web.server.starlette import starlette_routes
starlette_routes._METRICS_EXPENSIVE_STATS_TTL_SECONDS = 0.0
from streamlit import config
import app.streamlit_config, app.server
read_settings = app.streamlit_config.keep_from_streamlit
def read_settings_and_forget_soon():
    read_settings()
    config.set_option("server.disconnectedSessionTTL", {TTL_S})
app.streamlit_config.keep_from_streamlit = read_settings_and_forget_soon
app.server.serve(int(sys.argv[1]), sys.argv[2])
"""


@dataclass
class Pages:
    """A served pages' process."""

    port: int
    log: Path
    deployments: Path
    process: subprocess.Popen[bytes]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def logged_since(self, start: int) -> str:
        return self.log.read_text()[start:]


def a_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def serve(folder: Path, address: str = "127.0.0.1", **environment: str) -> Pages:
    port, log = a_port(), folder / "pages.log"
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "LAB_DATA": str(folder),
        "LAB_SOCKET": str(folder / "none.sock"),
        "LAB_DEPLOYMENTS": str(folder / "deployments.toml"),
        **environment,
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(port), address], cwd=folder, env=env, stdout=out, stderr=out
        )
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health"):
                return Pages(port, log, folder / "deployments.toml", process)
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    process.kill()
    raise AssertionError(log.read_text())


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    served = serve(tmp_path_factory.mktemp("pages"), LAB_HOSTS="lab.example.com, odd.example.com:8443, bücher.example")
    yield served
    served.process.terminate()
    served.process.wait(20)


async def first_line(pages: Pages, request: bytes) -> bytes:
    """The first line that comes back for raw bytes; empty where the connection just ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
    writer.write(request)
    try:
        async with asyncio.timeout(20):
            return (await reader.readline()).rstrip()
    except ConnectionError:
        return b""
    finally:
        writer.close()


class Visitor:
    """A browser's tab: its socket to Streamlit, its session and its uploads."""

    def __init__(self, pages: Pages, client: aiohttp.ClientSession) -> None:
        self.pages, self.client = pages, client
        self.session = self.xsrf = ""
        self.ws: aiohttp.ClientWebSocketResponse

    async def come(self) -> Visitor:
        async with self.client.get(f"{self.pages.base}/_stcore/health") as response:
            self.xsrf = response.headers["set-cookie"].partition("=")[2].partition(";")[0]
        self.ws = await self.client.ws_connect(
            f"{self.pages.base}/_stcore/stream", headers={"Origin": self.pages.base}, max_msg_size=0
        )
        await self.ws.send_bytes(BackMsg(rerun_script={"query_string": ""}).SerializeToString())
        while not self.session:
            message = ForwardMsg()
            message.ParseFromString(await self.ws.receive_bytes())
            if message.WhichOneof("type") == "new_session":
                self.session = message.new_session.initialize.session_id
        return self

    async def upload(self, size: int, file_id: str, *, session: str | None = None) -> int:
        form = aiohttp.FormData()
        form.add_field("file", b"x" * size, filename="a.txt")
        async with self.client.put(
            f"{self.pages.base}/_stcore/upload_file/{session or self.session}/{file_id}",
            data=form,
            headers=self.headers,
            expect100=True,  # a refusal is read before the body is sent, or the end of the connection hides it
        ) as response:
            await response.read()
            return response.status

    @property
    def headers(self) -> dict[str, str]:
        return {"X-Xsrftoken": self.xsrf, "Cookie": f"_streamlit_xsrf={self.xsrf}", "Origin": self.pages.base}


async def kept_bytes(pages: Pages, client: aiohttp.ClientSession) -> int:
    """Bytes of uploads that the process keeps, as Streamlit counts them."""
    async with client.get(f"{pages.base}/_stcore/metrics?families=cache_memory_bytes") as response:
        text = await response.text()
    return sum(int(float(line.rsplit(" ", 1)[1])) for line in text.splitlines() if "UploadedFileManager" in line)
