"""compose.yaml, as far as it can be read without Docker: what is passed on, and its look at the app's health."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.paths import ROOT

pytestmark = pytest.mark.slow

PASSED_ON = {
    "ANTHROPIC_API_KEY",
    "OPENAI_API_KEY",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_REGION",
    "ALERT_WEBHOOK",
    "ALERT_MAIL",
    "LAB_HOSTS",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "https_proxy",
    "http_proxy",
    "all_proxy",
    "no_proxy",
    "SSL_CERT_FILE",
    "DATABASE_URL",
}


def app(**set_outside: str) -> dict[str, Any]:
    """The service as Docker reads it with those variables set."""

    def filled(match: re.Match[str]) -> str:
        return set_outside.get(match[1], match[2] or "")

    text = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", filled, (ROOT / "compose.yaml").read_text(encoding="utf-8"))
    service: dict[str, Any] = yaml.safe_load(text)["services"]["app"]
    return service


def test_every_setting_of_the_readme_is_passed_on_by_name_and_no_value_is_written() -> None:
    service = app()
    assert set(service["environment"]) >= PASSED_ON
    assert [name for name in PASSED_ON if service["environment"][name] is not None] == []
    assert service["env_file"] == [{"path": "keys.env", "required": False}]
    assert (
        re.fullmatch(r"\d+:\d+", service["user"]) and service["user"].split(":")[0] in (ROOT / "Dockerfile").read_text()
    )
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {".env", "keys.env"} <= set(ignored)
    assert int(service["stop_grace_period"].rstrip("s")) > 45, "the engine writes its rows for up to so long"


def test_the_look_at_the_apps_health_follows_the_port_and_uses_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class App(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200 if self.path == "/_stcore/health" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), App) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        service = app(LAB_PORT=str(server.server_port))
        kind, python, *arguments = service["healthcheck"]["test"]
        assert kind == "CMD" and Path(python).name == "python"
        environment = {**os.environ, "HTTP_PROXY": "http://127.0.0.1:1", "http_proxy": "http://127.0.0.1:1"}
        subprocess.run([sys.executable, *arguments], check=True, timeout=30, env=environment)
        server.shutdown()
    assert asked == ["/_stcore/health"]
    command = service["command"]
    assert command[command.index("--port") + 1] == str(server.server_port)
    assert service["ports"] == [f"127.0.0.1:{server.server_port}:{server.server_port}"]
