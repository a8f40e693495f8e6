"""The UI process as a whole: its settings, its headers, its end, and the collector kept quiet."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.asgi import content_security_policy, inline_script_hashes
from app.charts import theme
from services.paths import ROOT
from tests.e2e.board_snapshots import CASES

EXPECTED = {
    "runner.postScriptGC": False,
    "runner.magicEnabled": False,
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.toolbarMode": "minimal",
    "logger.enableRich": False,
    "server.enableCORS": True,
    "server.enableXsrfProtection": True,
    "server.fileWatcherType": "none",
    "server.maxUploadSize": 200,
    "theme.light.backgroundColor": "#ffffff",
    "theme.dark.backgroundColor": "#171614",
}

# Asked inside the served process: what Streamlit really uses, and how many objects the collector leaves alone.
PROBE = """
import gc, json, sys, threading, time, urllib.request
from pathlib import Path
import app.server
from services.paths import ROOT
def look():
    import streamlit as st
    while not gc.get_freeze_count():
        time.sleep(0.05)
    url = f"http://127.0.0.1:{st.get_option('server.port')}/"
    headers = dict(urllib.request.urlopen(url).headers)
    print(json.dumps({"frozen": gc.get_freeze_count(), "pandas": "pandas" in sys.modules, "headers": headers,
                      "options": {name: st.get_option(name) for name in json.loads(sys.argv_names)}}), flush=True)
sys.argv_names = sys.argv[1]
threading.Thread(target=look, daemon=True).start()
app.server.serve(int(sys.argv[2]))
"""


def a_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[dict[str, str]]:
    yield {**os.environ, "PYTHONPATH": str(ROOT), "LAB_DATA": str(tmp_path), "LAB_SOCKET": str(tmp_path / "none.sock")}


@pytest.mark.slow
def test_the_settings_hold_wherever_it_is_started_and_the_collector_is_frozen(
    elsewhere: dict[str, str], tmp_path: Path
) -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", PROBE, json.dumps(list(EXPECTED)), str(a_port())],
        cwd=tmp_path,
        env=elsewhere,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        told = json.loads(next(line for line in server.stdout if line.startswith("{")))
    finally:
        server.terminate()
        server.wait(20)
    assert told["options"] == EXPECTED
    assert told["frozen"] > 100_000
    assert told["pandas"]
    assert "default-src 'self'" in {k.lower(): v for k, v in told["headers"].items()}["content-security-policy"]


@pytest.mark.slow
def test_what_is_heavy_is_not_imported_before_the_first_answer() -> None:
    look_at = "import sys, app.asgi; print([name for name in app.asgi.HEAVY if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look_at], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_it_ends_when_the_process_that_started_it_is_gone(elsewhere: dict[str, str], tmp_path: Path) -> None:
    port = a_port()
    starter = (
        "import os, subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-m', 'app.server', '--port', '{port}', '--parent-pid',"
        " str(os.getpid())], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", starter], cwd=tmp_path, env=elsewhere, stdin=subprocess.PIPE)
    try:
        wait_until(lambda: answers(port))
    finally:
        parent.kill()
        parent.wait(20)
    wait_until(lambda: not answers(port))


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health") as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_until(condition: object) -> None:
    assert callable(condition)
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_the_policy_names_no_other_host_and_takes_no_words_from_the_host_header() -> None:
    policy = content_security_policy("lab.example:8501")
    assert "connect-src 'self' ws://lab.example:8501 wss://lab.example:8501;" in policy
    assert "'unsafe-eval'" not in policy
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]
    for unnamed in ("evil; script-src *", "a b", "a,b", "", "*", "a'", "[::1]:8501"):  # no policy can name IPv6
        assert "connect-src 'self';" in content_security_policy(unnamed)


def test_the_page_streamlit_ships_has_the_inline_script_the_policy_allows() -> None:
    assert len(inline_script_hashes()) == 1


def test_a_colour_belongs_to_its_slot_and_the_ninth_has_another_dash_and_shape() -> None:
    assert [theme.color(n, "dark") for n in range(8)] == list(theme.DARK_COLOURS)
    assert theme.color(8) == theme.LIGHT_COLOURS[0]
    assert theme.dash(0) != theme.dash(8) != theme.dash(16)
    assert theme.shape(7) != theme.shape(8)


def test_altair_scales_map_ids_to_colours_whatever_the_order() -> None:
    from services.types import Deployment

    def deployment(name: str, slot: int) -> Deployment:
        return Deployment(id=name, name=name, kind="openai", model="m", base_url="https://x", color_slot=slot)

    scale = theme.scale([deployment("b", 9), deployment("a", 0)], "light").to_dict()
    assert scale == {"domain": ["b", "a"], "range": [theme.LIGHT_COLOURS[1], theme.LIGHT_COLOURS[0]]}


def test_a_page_mounts_the_board_and_reads_no_finish_before_there_is_one() -> None:
    from streamlit.testing.v1 import AppTest

    page = AppTest.from_file(str(ROOT / "tests/e2e/board_page.py"), default_timeout=20)
    for case in CASES:
        page.query_params["case"] = case
        page.run()
        assert not page.exception
        assert "finishes 0" in page.markdown[-1].value
