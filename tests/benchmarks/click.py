"""From the click on Send, stamped in the browser, to the first byte of the request at the server."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import text

from db.engine import database_url, reader
from tests.benchmarks.house import House, house
from tests.benchmarks.report import aim, num, pct, table

AIMS_MS = (20.0, 100.0)
COLUMNS = 3
HEADER = ("", "n", "p50 ms", "aim", "p99 ms", "aim", "worst")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
LISTEN = """() => {
  const now = () => performance.timeOrigin + performance.now(), send = WebSocket.prototype.send;
  document.addEventListener("click", () => { window.clicked = now(); window.sent = 0; }, true);
  WebSocket.prototype.send = function (data) { window.sent = window.sent || now(); return send.call(this, data); };
}"""


def main(*, quick: bool = False) -> None:
    """Print the whole way, and what the browser and the engine have of it."""
    models = {f"fake-{i}": "fake?tokens=5&itl=5&ttft=20" for i in range(COLUMNS)}
    with house(models) as at:
        clicks = _clicks(at, 10 if quick else 60)
        rows = _parts(at, clicks)
    table(f"click on Send → request on the wire, {COLUMNS} columns", HEADER, rows)


def _clicks(at: House, n: int) -> list[tuple[float, float]]:
    """Send ``n`` times in a real browser; the epoch milliseconds of each click and of what the page sent for it."""
    from playwright.sync_api import sync_playwright

    clicks: list[tuple[float, float]] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(at.url)
        send = page.get_by_role("button", name="Send").first
        send.wait_for(timeout=60_000)
        page.wait_for_timeout(2000)
        page.evaluate(LISTEN)
        for i in range(n + 1):
            before = len(_asked(at))
            send.click()
            _until(lambda before=before: len(_asked(at)) >= before + COLUMNS)
            if i:  # the first one warms up
                clicks.append(tuple(page.evaluate("[window.clicked, window.sent]")))
            page.get_by_text("Comparison").first.wait_for(timeout=30_000)
            page.wait_for_timeout(700)
        browser.close()
    return clicks


def _asked(at: House) -> list[dict[str, Any]]:
    return [r for r in at.fake.control("requests")["requests"] if r["wire"]]


def _until(true: Any, timeout_s: float = 20.0) -> None:
    end = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > end:
            raise TimeoutError("the click did not become requests")
        time.sleep(0.02)


def _parts(at: House, clicks: list[tuple[float, float]]) -> list[list[str]]:
    to_epoch_ms = (time.time_ns() - time.perf_counter_ns()) / 1e6
    wire = [r["first_byte_ns"] / 1e6 + to_epoch_ms for r in _asked(at)][COLUMNS:]
    groups = [sorted(wire[i : i + COLUMNS]) for i in range(0, len(wire), COLUMNS)]
    first = [group[0] - click for group, (click, _) in zip(groups, clicks, strict=True)]
    last = [group[-1] - click for group, (click, _) in zip(groups, clicks, strict=True)]
    with reader(database_url(at.data)).connect() as connection:
        found = connection.execute(text("SELECT queued_ms + connect_ms FROM call ORDER BY created_at")).scalars()
        engine = [float(ms) for ms in found][COLUMNS:]
    return [
        _row("whole way, first column", first, AIMS_MS),
        _row("whole way, last column", last, AIMS_MS),
        _row("  of it: in the browser (Streamlit's own script)", [sent - click for click, sent in clicks], None),
        _row("  of it: in the engine (row committed, connected)", engine, None),
    ]


def _row(name: str, values: list[float], aims: tuple[float, float] | None) -> list[str]:
    p50, p99 = pct(values, 0.5), pct(values, 0.99)
    return [
        name,
        str(len(values)),
        num(p50, 1),
        aim(p50, aims[0]) if aims else "",
        num(p99, 1),
        aim(p99, aims[1]) if aims else "",
        num(max(values), 1),
    ]
