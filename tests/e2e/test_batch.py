"""A batch as a person sends one: sample, check, submit, close the page, come back, read, download; and by mistake."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.board_stage import CHROMIUM
from tests.e2e.live_lab import WAIT_MS, LiveLab, deployment, live_lab, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is missing: install it with `apt-get install chromium`"),
]
expect.set_options(timeout=WAIT_MS)
HOSTILE = '<img src=x onerror="alert(1)"> ![x](https://evil.example/p.png) :red[hot]'


def declare(url: str) -> str:
    return (
        deployment("quick", "fake?tokens=6&itl=2&ttft=20", f"{url}/v1")
        + deployment("other", "fake?tokens=9&itl=2&ttft=20", f"{url}/v1")
        + deployment("slow", "fake?tokens=400&itl=20&ttft=100", f"{url}/v1")
        + deployment("broken", "fake?fault=http_400", f"{url}/v1")
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLab]:
    with live_lab(tmp_path_factory.mktemp("batch"), declare) as made:
        yield made


@pytest.fixture(autouse=True)
def no_flaws(lab: LiveLab) -> Iterator[None]:
    lab.flaws.clear()
    yield
    assert lab.flaws == []


def shot(page: Page, name: str) -> None:
    """Keep a picture where LAB_SHOTS points, to be looked at."""
    if folder := os.environ.get("LAB_SHOTS"):
        page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)


def opened(lab: LiveLab, *, width: int = 1280, scheme: str = "light") -> Page:
    page = lab.page(width=width, height=1400, scheme=scheme)
    if width < 800:
        page.goto(f"{lab.url}/batch")
    else:
        page.get_by_role("link", name="Batch").click()
    expect(page.get_by_role("heading", name="Batch", exact=True)).to_be_visible()
    return page


def upload(page: Page, name: str, content: str) -> None:
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(
        {"name": name, "mimeType": "text/csv", "buffer": content.encode()}
    )


def send_to(page: Page, name: str) -> None:
    """Choose the deployment."""
    page.get_by_role("combobox", name="Send to").click()
    page.get_by_role("option", name=re.compile(f"^{name} ")).click()
    expect(page.get_by_text(re.compile(f"^{name} · our own runner")).last).to_be_visible()


def submitted(page: Page, button: str) -> str:
    """Click on it; the batch's id."""
    page.get_by_role("button", name=button, exact=True).click()
    page.wait_for_url(re.compile("batch="))
    return re.search(r"batch=([\w-]+)", page.url)[1]  # type: ignore[index]


def contrast(page: Page, selector: str) -> float:
    """WCAG 2.2 contrast of a text's colour against the page behind it."""
    return float(page.evaluate(CONTRAST, selector))


CONTRAST = """(selector) => {
  const light = (color) => color.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, n) => sum + v * [0.2126, 0.7152, 0.0722][n], 0);
  const text = light(getComputedStyle(document.querySelector(selector)).color);
  const ground = light(getComputedStyle(document.querySelector('[data-testid="stApp"]')).backgroundColor);
  return (Math.max(text, ground) + 0.05) / (Math.min(text, ground) + 0.05);
}"""


def ended(page: Page) -> None:
    expect(page.get_by_text(re.compile(r"^\d+ sent = "))).to_be_visible()


def test_the_sample_goes_the_whole_way_and_its_files_hold_what_was_answered(lab: LiveLab, tmp_path: Path) -> None:
    page = opened(lab)
    page.get_by_role("button", name="Use the sample of 200 lines").click()
    expect(page.get_by_text("CSV · 200 lines · 3 columns")).to_be_visible()
    send_to(page, "quick")
    assert not lab.rows("SELECT id FROM batch"), "nothing is sent before the button"
    shot(page, "batch-new")
    batch_id = submitted(page, "Send 200 lines")
    page.context.close()

    page = lab.page(height=1400)
    page.goto(f"{lab.url}/batch?batch={batch_id}")
    ended(page)
    expect(page.get_by_text("200 sent = 200 succeeded.")).to_be_visible()
    shot(page, "batch-ended")
    rows = lab.rows("SELECT answer FROM batch_line WHERE batch_id = ? ORDER BY no", batch_id)
    answers = [row["answer"] for row in rows]
    page.get_by_role("tab", name="Figures").click()
    expect(page.get_by_text("Every line accounted for")).to_be_visible()
    shot(page, "batch-figures")
    page.get_by_role("tab", name="Results").click()
    assert all(answers)
    page.get_by_test_id("stPopoverButton").filter(has_text="Download").click()
    for place, ending in enumerate(("csv", "jsonl", "parquet", "xlsx")):
        with page.expect_download() as saved:
            page.get_by_test_id("stDownloadButton").nth(place).get_by_role("button").first.click()
        path = tmp_path / f"results.{ending}"
        saved.value.save_as(path)
        assert saved.value.suggested_filename.startswith("inference-lab-batch_sample-")
        if ending == "csv":
            with path.open(newline="") as file:
                assert [line["lab_answer"] for line in csv.DictReader(file)] == answers
        elif ending == "jsonl":
            assert [json.loads(line)["lab_answer"] for line in path.read_text().splitlines()] == answers
        else:
            assert path.stat().st_size > 1000
    page.keyboard.press("Escape")
    table = page.get_by_test_id("stDataFrame").first
    table.hover(position={"x": 200, "y": 60})  # a table takes no cell before it has seen the mouse move over it
    table.click(position={"x": 200, "y": 50})
    expect(page.get_by_text("Ask again in the playground")).to_be_visible()
    page.get_by_role("button", name="Ask again in the playground").click()
    expect(page.get_by_role("heading", name="Playground")).to_be_visible()
    expect(page.get_by_role("textbox", name="Prompt", exact=True)).to_have_value(re.compile("Order 8812 arrived"))
    page.context.close()


def test_a_long_batch_is_paused_resumed_and_cancelled_while_somebody_watches(lab: LiveLab) -> None:
    page = opened(lab)
    upload(page, "slow.csv", "id,text\n" + "".join(f"{n},Question {n}\n" for n in range(60)))
    send_to(page, "slow")
    batch_id = submitted(page, "Send 60 lines")
    expect(page.get_by_text(re.compile("^Running"))).to_be_visible()
    expect(page.get_by_text("under way").first).to_be_visible()
    expect(page.get_by_text("The lines so far, at")).to_be_visible()
    shot(page, "batch-running")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    until(lambda: lab.rows("SELECT state FROM batch WHERE id = ?", batch_id)[0]["state"] == "paused")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text(re.compile("^Running"))).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    ended(page)
    expect(page.get_by_text(re.compile(r"^Cancelled, (\d+ of 60|nothing) answered$"))).to_be_visible()
    states = {row["state"] for row in lab.rows("SELECT state FROM batch_line WHERE batch_id = ?", batch_id)}
    assert not states & {"waiting", "running"}
    page.context.close()


def test_lines_with_faults_are_seen_left_out_and_failed_ones_are_sent_again(lab: LiveLab) -> None:
    page = opened(lab)
    upload(page, "faulty.csv", f'id,text\na1,Why?\na2,\na3,"{HOSTILE.replace(chr(34), chr(34) * 2)}"\n')
    expect(page.get_by_text("1 of 3 lines cannot be sent")).to_be_visible()
    shot(page, "batch-faults")
    page.get_by_text("Leave out the 1 that cannot be sent", exact=True).click()
    send_to(page, "broken")
    first = submitted(page, "Send the 2 valid lines, leave out 1")
    ended(page)
    expect(page.get_by_text("Ended, nothing answered")).to_be_visible()
    expect(page.get_by_text("2 failed").first).to_be_visible()
    assert page.locator("img[src='x']").count() == 0, "what was sent is shown as text"
    shot(page, "batch-failed")
    page.get_by_role("button", name="Send the 2 lines without an answer again").click()
    page.wait_for_url(lambda url: "batch=" in url and first not in url)
    expect(page.get_by_text(re.compile("left unanswered, sent again"))).to_be_visible()
    ended(page)
    page.context.close()


def test_two_batches_of_a_file_stand_side_by_side_and_a_second_submit_is_asked_about(lab: LiveLab) -> None:
    content = "id,text\n" + "".join(f"{n},Compare {n}\n" for n in range(12))
    page = opened(lab)
    upload(page, "both.csv", content)
    send_to(page, "quick")
    submitted(page, "Send 12 lines")
    ended(page)
    page.get_by_role("button", name="All batches").click()
    upload(page, "both.csv", content)
    expect(page.get_by_text("This file was submitted")).to_be_visible()
    expect(page.get_by_role("button", name="Send 12 lines")).to_be_disabled()
    send_to(page, "other")
    page.get_by_text("Send it again", exact=True).click()
    expect(page.get_by_role("button", name="Send 12 lines")).to_be_enabled()
    submitted(page, "Send 12 lines")
    ended(page)
    page.get_by_role("tab", name="Compare").click()
    expect(page.get_by_text(re.compile(r"the same of 12 lines that both answered"))).to_be_visible()
    shot(page, "batch-compare")
    page.context.close()


def test_three_lines_are_tried_live_before_all_are_sent(lab: LiveLab) -> None:
    page = opened(lab)
    page.get_by_role("button", name="Use the sample of 200 lines").click()
    send_to(page, "quick")
    page.get_by_role("button", name="Try 3 lines live").click()
    expect(page.locator(".col")).to_have_count(3)
    for column in range(3):
        expect(page.locator(".col").nth(column)).to_contain_text("done")
    expect(page.get_by_text("grey: waiting")).to_have_count(1)
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light"), (390, "dark")])
def test_every_step_fits_the_page(lab: LiveLab, width: int, scheme: str) -> None:
    page = opened(lab, width=width, scheme=scheme)
    page.get_by_role("button", name="Use the sample of 200 lines").click()
    expect(page.get_by_role("button", name="Send 200 lines")).to_be_visible()
    shot(page, f"batch-new-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "the page scrolls sideways"
    batch = lab.rows("SELECT id FROM batch ORDER BY created_at LIMIT 1")[0]["id"]
    page.goto(f"{lab.url}/batch?batch={batch}")
    ended(page)
    assert contrast(page, "[data-testid=stTab][data-selected]") >= 4.5
    shot(page, f"batch-ended-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "the page scrolls sideways"
    page.context.close()
