"""The paths that a person walks through the playground, in a real browser before a real `lab run`."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from services import formatting
from tests.e2e.board_stage import CHROMIUM
from tests.e2e.live_lab import WAIT_MS, LiveLab, deployment, live_lab, until

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is missing: install it with `apt-get install chromium`"),
]
expect.set_options(timeout=WAIT_MS)
SUGGESTED = "Explain in three sentences why caching makes a service faster, and name one case where it does not."
THREE = "?d=quick,steady,slow"


def declare(url: str) -> str:
    return (
        deployment("quick", "fake?tokens=60&itl=20&ttft=100&cached=2", f"{url}/v1")
        + deployment("steady", "fake?tokens=60&itl=25&ttft=300&reasoning=8&text=utf8", f"{url}/v1")
        + deployment("slow", "fake?tokens=3000&itl=20&ttft=200", f"{url}/v1")
        + deployment("tiny", "fake?tokens=12&itl=2&ttft=5", f"{url}/v1")
        + deployment("tiny-two", "fake?tokens=15&itl=2&ttft=5", f"{url}/v1")
        + "".join(deployment(f"eight-{i}", f"fake?tokens={10 + i}&itl=5", f"{url}/v1") for i in range(6))
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLab]:
    with live_lab(tmp_path_factory.mktemp("walk"), declare) as made:
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


def send(page: Page) -> str:
    """Click on Send; the run's id."""
    before = page.url
    page.get_by_role("button", name="Send").click()
    page.wait_for_url(lambda url: "run=" in url and url != before)
    return re.search(r"run=([\w-]+)", page.url)[1]  # type: ignore[index]


def prompt(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Prompt", exact=True)


def columns(page: Page) -> Locator:
    return page.locator(".col")


def answer(page: Page, column: int) -> str:
    return columns(page).nth(column).locator(".answer").inner_text()


def done(page: Page) -> None:
    expect(page.get_by_role("heading", name=re.compile("Comparison"))).to_be_visible()


def test_send_stop_one_leave_come_back_and_everything_agrees(lab: LiveLab) -> None:
    page = lab.page(query=THREE)
    expect(prompt(page)).to_have_value(SUGGESTED)
    run_id = send(page)
    expect(columns(page)).to_have_count(3)
    for column in range(3):
        expect(columns(page).nth(column).locator(".answer")).not_to_be_empty()
    first = answer(page, 2)
    until(lambda: len(answer(page, 2)) > len(first))
    clock = columns(page).nth(2).locator(".clock")
    told = clock.inner_text()
    expect(clock).not_to_have_text(told)
    shot(page, "live")

    other = lab.page(query=f"?run={run_id}")
    expect(other.locator(".col")).to_have_count(3)
    expect(other.locator(".col").nth(2).locator(".answer")).not_to_be_empty()

    page.get_by_role("link", name="Runs").click()
    expect(page.get_by_role("heading", name="Runs")).to_be_visible()
    page.get_by_role("link", name="Playground").click()
    expect(columns(page)).to_have_count(3)
    before = answer(page, 2)
    until(lambda: len(answer(page, 2)) > len(before))
    page.reload()
    expect(columns(page)).to_have_count(3)
    expect(columns(page).nth(0)).to_contain_text("done")

    page.get_by_role("button", name="stop slow").click()
    expect(columns(page).nth(2)).to_contain_text("stopped")
    done(page)
    expect(other.get_by_role("heading", name="Comparison")).to_be_visible()
    other.context.close()

    quick, steady, slow = lab.calls(run_id)
    assert (quick["state"], steady["state"], slow["state"]) == ("succeeded", "succeeded", "cancelled")
    assert answer(page, 2) == slow["answer"].strip()
    assert answer(page, 1) == steady["answer"].strip()
    for column, row in ((0, quick), (1, steady)):
        card = columns(page).nth(column)
        expect(card).to_contain_text(f"{row['ttft_ms'] / 1000:.2f} s")
        expect(card).to_contain_text(f"{row['ttlt_ms'] / 1000:.2f} s")
        expect(card).to_contain_text(formatting.rate(row["decode_tps"]))
    assert quick["cache_read"] == 2
    shot(page, "done")

    page.get_by_role("link", name="Runs").click()
    page.goto(f"{lab.url}/?run={run_id}")
    expect(columns(page).nth(2)).to_contain_text("stopped")
    assert answer(page, 0) == quick["answer"].strip()
    page.context.close()


def test_a_column_is_retried_and_the_conversation_goes_on_in_each_column(lab: LiveLab) -> None:
    page = lab.page(query="?d=tiny,tiny-two")
    prompt(page).fill("The first question")
    run_id = send(page)
    done(page)
    columns(page).nth(0).get_by_role("button", name="retry tiny").click()
    until(lambda: len([row for row in lab.calls(run_id) if row["state"] == "succeeded"]) == 3)
    done(page)
    page.get_by_role("button", name="Continue").click()
    expect(prompt(page)).to_have_value("")
    prompt(page).fill("The second question")
    prompt(page).press("Control+Enter")
    page.wait_for_url(lambda url: "run=" in url and run_id not in url)
    done(page)
    expect(page.get_by_text("The first question").first).to_be_visible()
    asked = [request.json["messages"] for request in lab.fake.requests if request.wire][-2:]
    for messages in asked:
        assert [m["content"] for m in messages][::2] == ["The first question", "The second question"]
    assert len({messages[1]["content"] for messages in asked}) == 2, "each column has its own history"
    page.context.close()


def test_a_blind_run_hides_who_is_who_until_the_vote(lab: LiveLab) -> None:
    page = lab.page(query="?d=tiny,tiny-two")
    page.get_by_text("Blind", exact=True).click()
    prompt(page).fill("Who are you?")
    run_id = send(page)
    expect(page.get_by_text("Which answer is better?")).to_be_visible()
    main = page.get_by_test_id("stMain")
    board = page.locator(".lab-board")
    assert "tiny" not in board.inner_text()
    assert "tiny" not in board.inner_html()
    shot(page, "blind")
    main.get_by_role("button", name=re.compile("^.*A is better|.*A$")).first.click()
    expect(board).to_contain_text("tiny-two")
    until(lambda: lab.rows("SELECT * FROM vote WHERE run_id = ?", run_id))
    vote = lab.rows("SELECT * FROM vote WHERE run_id = ?", run_id)[0]
    assert vote["blind"] == 1
    assert vote["winner"] in {"tiny", "tiny-two"}
    page.context.close()


def test_difference_copied_code_and_exports_are_those_of_the_run(lab: LiveLab, tmp_path: Path) -> None:
    page = lab.page(query="?d=tiny,tiny-two")
    prompt(page).fill("Tell me =1+1")
    run_id = send(page)
    done(page)
    page.get_by_text("Difference of two answers").click()
    expect(page.get_by_text("struck through in red only in the first")).to_be_visible()
    page.get_by_text("Copy a request as code").click()
    expect(page.get_by_role("tab", name="curl")).to_be_visible()
    expect(page.get_by_test_id("stCode").first).to_contain_text("Tell me =1+1")
    rows = lab.calls(run_id)
    for label, ending in (("Export JSON", "json"), ("Export CSV", "csv")):
        with page.expect_download() as saved:
            page.get_by_role("button", name=label).click()
        path = tmp_path / f"export.{ending}"
        saved.value.save_as(path)
        assert saved.value.suggested_filename.startswith("inference-lab-")
        if ending == "json":
            calls = json.loads(path.read_text())["calls"]
            assert [call["state"] for call in calls] == ["succeeded", "succeeded"]
            assert json.dumps(rows[0]["ttft_ms"]) in path.read_text()
        else:
            with path.open(newline="") as opened:
                lines = list(csv.DictReader(opened))
            assert [float(line["ttft_ms"]) for line in lines] == [row["ttft_ms"] for row in rows]
            assert [line["answer"] for line in lines] == [row["answer"] for row in rows]
    shot(page, "takeaway")
    page.context.close()


def test_runs_are_searched_starred_tagged_opened_and_deleted(lab: LiveLab) -> None:
    page = lab.page(query="?d=tiny")
    prompt(page).fill("a needle in the haystack")
    run_id = send(page)
    done(page)
    page.get_by_role("link", name="Runs").click()
    page.get_by_role("searchbox").fill("needle in the")
    page.get_by_role("searchbox").press("Enter")
    expect(page.get_by_text(re.compile(r"^1 run"))).to_be_visible()
    page.get_by_test_id("stDataFrame").first.click(position={"x": 17, "y": 50})  # the box of the first line
    page.get_by_role("button", name="Star", exact=False).first.click()
    until(lambda: lab.rows("SELECT starred FROM run WHERE id = ?", run_id)[0]["starred"])
    shot(page, "runs")
    page.get_by_role("button", name="Delete").first.click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    until(lambda: not lab.rows("SELECT id FROM run WHERE id = ?", run_id))
    assert not lab.calls(run_id)
    page.context.close()


@pytest.mark.parametrize(("count", "width", "scheme"), [(2, 1280, "dark"), (8, 1280, "light"), (8, 390, "dark")])
def test_two_and_eight_columns_fit_the_page(lab: LiveLab, count: int, width: int, scheme: str) -> None:
    names = ",".join(["tiny", "tiny-two", *(f"eight-{i}" for i in range(6))][:count])
    page = lab.page(width=width, scheme=scheme, query=f"?d={names}")
    send(page)
    done(page)
    expect(columns(page)).to_have_count(count)
    shot(page, f"columns-{count}-{width}-{scheme}")
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth + 1"), "the page scrolls sideways"
    for column in range(count):
        box = columns(page).nth(column).bounding_box()
        assert box is not None
        assert box["width"] >= 200
        assert columns(page).nth(column).locator(".answer").inner_text()
    page.context.close()
