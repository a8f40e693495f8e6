"""Nothing that a model, a service or another person wrote fetches anything or runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from services.client import EngineClient
from services.paths import socket_path
from services.runs.spec import ColumnSpec, RunSpec
from tests.e2e.board_stage import CHROMIUM
from tests.e2e.live_lab import WAIT_MS, LiveLab, deployment, live_lab, until
from tests.e2e.payloads import payloads
from tests.e2e.test_walk import columns, done, prompt, send
from tests.fake.scripts import Script

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is missing: install it with `apt-get install chromium`"),
]
expect.set_options(timeout=WAIT_MS)


class Refusing(BaseHTTPRequestHandler):
    """A service whose error texts are hostile: each request gets the next part of them."""

    texts: ClassVar[list[str]] = []
    asked = 0

    def do_POST(self) -> None:
        Refusing.asked += 1
        said = json.dumps({"error": {"message": " ".join(self.texts[Refusing.asked % 3 :: 3]), "type": self.texts[0]}})
        self.send_response(400)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(said.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1"
        server.shutdown()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, refusing: str) -> Iterator[LiveLab]:
    def declare(url: str) -> str:
        texts = payloads(f"{url}/canary")
        return (
            "".join(deployment(texts[n * 3][:80], "fake", f"{url}/v1", id_=f"hostile-{n}") for n in range(4))
            + "".join(deployment(texts[n + 20][:80], "m", refusing, id_=f"failing-{n}") for n in range(3))
            + deployment("good", "fake?tokens=5", f"{url}/v1")
        )

    with live_lab(tmp_path_factory.mktemp("untrusted"), declare) as made:
        Refusing.texts = payloads(f"{made.fake.url}/canary")
        yield made


OURS = ("/metrics", "/version", "/props")


def fetched(lab: LiveLab) -> list[str]:
    """What was fetched that nobody may fetch. The engine's own look at the server of a run that somebody watches, once
    a second, is no page's doing."""
    return [
        hit.path for hit in lab.fake.canary_hits if not (hit.path in OURS and "aiohttp" in hit.headers["user-agent"])
    ]


def calm(page: Page, lab: LiveLab) -> None:
    """Give the browser time to do what it must not, then look whether it did."""
    page.wait_for_timeout(600)
    assert page.evaluate("window.__pwned") is None
    assert fetched(lab) == []
    assert [flaw for flaw in lab.flaws if "left the lab" in flaw] == []


def test_there_are_enough_payloads() -> None:
    assert len(payloads("http://c")) >= 24


def test_answers_errors_and_names_fetch_nothing_on_any_page(lab: LiveLab) -> None:
    texts = payloads(f"{lab.fake.url}/canary")
    for number in range(4):
        lab.fake.enqueue(Script(text="  \n\n".join(texts[number::4]), tokens=400, itl=1.0), wire="chat")
    page = lab.page(query="?d=hostile-0,hostile-1,hostile-2,hostile-3")
    run_id = send(page)
    expect(columns(page)).to_have_count(4)
    calm(page, lab)
    done(page)
    calm(page, lab)
    page.get_by_text("Difference of two answers").click()
    expect(page.get_by_text("struck through")).to_be_visible()
    page.get_by_text("Copy a request as code").click()
    page.get_by_text("Call details").click()
    calm(page, lab)
    answers = [row["answer"] for row in lab.calls(run_id)]
    assert sum("/canary/" in (answer or "") for answer in answers) == 4, "the payloads were in the answers"

    failing = lab.page(query="?d=failing-0,failing-1,failing-2")
    failed = send(failing)
    expect(columns(failing)).to_have_count(3)
    until(lambda: all(row["state"] == "failed" for row in lab.calls(failed)))
    assert all("/canary/" in row["message"] for row in lab.calls(failed)), "the payloads were in the sentences"
    done(failing)
    calm(failing, lab)

    for path in (f"?run={run_id}", f"?run={failed}", "runs", "deployments"):
        other = lab.page(query=path, scheme="dark", width=390)
        other.wait_for_timeout(1200)
        calm(other, lab)
        other.context.close()
    page.context.close()
    failing.context.close()


def test_prompts_system_prompts_and_tags_fetch_nothing(lab: LiveLab) -> None:
    texts = payloads(f"{lab.fake.url}/canary")
    page = lab.page(query="?d=good")
    prompt(page).fill("\n\n".join(texts) + " {{ <img src=x> }}")
    page.wait_for_timeout(300)
    prompt(page).fill("\n\n".join(texts))
    run_id = send(page)
    done(page)
    calm(page, lab)
    client = EngineClient(socket_path(lab.data), person=texts[0], role="admin")
    for text in texts[:8]:
        client.annotate(run_id, tags=texts[:8], note=text)
    client.start_run(RunSpec(texts[3], (ColumnSpec("good"),), system=texts[4], tags=tuple(texts[8:12])))
    for path in (f"?run={run_id}", "runs", f"runs?q={texts[1]}"):
        other = lab.page(query=path)
        other.wait_for_timeout(1200)
        calm(other, lab)
        other.context.close()
    page.context.close()


def test_an_address_of_the_page_is_untrusted_too(lab: LiveLab) -> None:
    for text in payloads(f"{lab.fake.url}/canary")[:8]:
        page = lab.page(query="?" + urlencode({"run": text, "d": text}))
        page.wait_for_timeout(400)
        calm(page, lab)
        page.context.close()
