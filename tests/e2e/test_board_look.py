"""The board in a real browser: how it looks, and that it shows what the frames say and nothing else.

Pictures are kept where LAB_SHOTS points, to be looked at.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.board_snapshots import ANSWER, CASES, HOSTILE, answering, column, waiting
from tests.e2e.board_stage import CHROMIUM, Stage, set_stage, wait_for

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is missing: install it with `apt-get install chromium`"),
]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with set_stage(tmp_path_factory.mktemp("ui")) as stage:
        yield stage


@pytest.fixture
def page(stage: Stage) -> Iterator[Page]:
    page = stage.browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme="light")
    page.set_default_timeout(15_000)
    flaws: list[str] = []
    page.on("pageerror", lambda error: flaws.append(str(error)))
    foreign: list[str] = []
    page.on("request", lambda r: None if r.url.startswith((stage.url, "blob:", "data:")) else foreign.append(r.url))
    yield page
    page.close()
    assert flaws == []
    assert [url for url in foreign if "198.51.100.7" not in url] == []


def open_case(stage: Stage, page: Page, query: str) -> Locator:
    page.goto(f"{stage.url}/?{query}")
    page.wait_for_selector(".col")
    return page.locator(".col")


@pytest.mark.parametrize("case", CASES)
def test_the_board_fits_its_page_wide_and_narrow_in_light_and_dark(stage: Stage, page: Page, case: str) -> None:
    columns = open_case(stage, page, f"case={case}")
    expect(columns).to_have_count(len(CASES[case]["columns"]))
    for width, theme in ((1280, "light"), (1280, "dark"), (390, "dark"), (390, "light")):
        page.set_viewport_size({"width": width, "height": 1200})
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]  # one of the two words above
        expect(page.locator(".lab-board")).to_have_attribute("data-theme", theme)
        expect(page.locator(".lab-board")).to_have_class(re.compile("phone" if width == 390 else "^(?!.*phone)"))
        if shots := os.environ.get("LAB_SHOTS"):
            page.screenshot(path=f"{shots}/{case}-{width}-{theme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        boxes = [columns.nth(n).bounding_box() for n in range(columns.count())]
        rows = len({round(box["y"]) for box in boxes if box})
        assert rows == (len(boxes) if width == 390 else max(1, len(boxes) // 4))
        sticking_out = page.locator(".lab-board").evaluate(
            "(board) => [...board.querySelectorAll('.fig, .state, .title')]"
            ".filter((c) => c.scrollWidth > c.clientWidth + 1)"
            ".map((c) => c.textContent)"
        )
        assert sticking_out == []


def test_figures_marks_and_reasons_are_the_ones_in_the_frame(stage: Stage, page: Page) -> None:
    columns = open_case(stage, page, "case=four")
    done, live, slow, cut = (columns.nth(n) for n in range(4))
    expect(done.locator(".fig b")).to_have_text(
        ["12 ms", "0.55 s", "93 tok/s", "91 tok/s", "41 / 40", "51", "$39.60 / h", "0.2 ms"]
    )
    expect(live.locator(".fig b")).to_have_text(
        ["0.24 s", "–", "~112 tok/s", "~92 tok/s", "~44 / –", "~212", "≥ $0.00091", "0.2 ms"]
    )
    expect(live.locator(".fig.muted")).to_have_count(6)
    expect(slow.locator(".note")).to_contain_text("The typical first token here is 0.38 s (n = 212): this one is slow.")
    expect(cut.locator(".words")).to_have_text("cut off after 96 tokens")
    expect(cut.locator(".note")).to_contain_text("closed the stream before its end signal")
    cut.locator(".fig").nth(7).hover()
    expect(page.locator(".tooltip")).to_contain_text("left out of comparisons")
    slow.locator(".figs").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".tooltip")).to_contain_text("Nothing has arrived yet.")
    page.keyboard.press("Escape")
    expect(page.locator(".tooltip")).to_be_hidden()
    expect(page.locator(".lane").nth(3)).to_have_attribute("aria-label", re.compile("failed at 1.91 s"))


def test_every_bar_of_the_race_ends_where_the_shared_axis_says(stage: Stage, page: Page) -> None:
    open_case(stage, page, "case=four")
    # Two bars of the same age, long enough to fill most of the track, and the finished one at its last token.
    ends = """(board) => [...board.querySelectorAll('.lane')].map((lane) => {
        const track = lane.querySelector('.track').getBoundingClientRect();
        const parts = [...lane.querySelectorAll('i')].filter((part) => !part.hidden && part.className !== 'bad');
        return (parts.at(-1).getBoundingClientRect().right - track.left) / track.width; })"""
    wait_for(lambda: page.locator(".lab-board").evaluate(ends)[2] > 0.9)
    done, live, slow, cut = page.locator(".lab-board").evaluate(ends)
    assert live == pytest.approx(slow, abs=0.005)
    last = float(page.locator(".scale span").last.inner_text().removesuffix(" s"))
    assert (done, cut) == (pytest.approx(0.551 / last, abs=0.005), pytest.approx(1.9 / last, abs=0.005))


def test_a_running_columns_server_is_told_and_what_it_does_not_say_is_left_out(stage: Stage, page: Page) -> None:
    columns = open_case(stage, page, "case=eight")
    told = "server: 3 running · 1 waiting · KV 42 % · prefix hits 63 %"
    expect(columns.nth(1).locator(".server")).to_have_text(told)
    expect(columns.nth(4).locator(".server")).to_have_text("server: 0 running")
    for silent in (0, 2, 3):
        expect(columns.nth(silent).locator(".server")).to_be_hidden()
    columns.nth(4).locator(".server").hover()
    expect(page.locator(".tooltip")).to_contain_text("It does not report its KV cache.")
    open_case(stage, page, "case=blind")
    expect(page.locator(".server").nth(1)).to_be_hidden()


def test_a_stalled_column_says_for_how_long(stage: Stage, page: Page) -> None:
    columns = open_case(stage, page, "case=eight")
    expect(columns.nth(4).locator(".words")).to_have_text(re.compile(r"reasoning · no token for 1\d s"))
    expect(columns.nth(5).locator(".round")).to_have_text("3 of 10 · attempt 2")


def test_model_text_is_text(stage: Stage, page: Page) -> None:
    columns = open_case(stage, page, "case=hostile")
    assert columns.locator(".answer").evaluate("(node) => node.textContent") == HOSTILE
    assert page.locator(".lab-board").locator("img, script, a, iframe").count() == 0
    assert page.title() == "board"


def test_blind_shows_letters_and_neither_speed_nor_cost(stage: Stage, page: Page) -> None:
    columns = open_case(stage, page, "case=blind")
    expect(columns.locator(".name")).to_have_text(["A", "B", "C", "D"])
    shown = page.locator(".lab-board").inner_text()
    for secret in ("SmolLM2", "Haiku", "Llama", "SageMaker", "tok/s", "$", "0.55 s", "endpoint"):
        assert secret not in shown
    assert not page.locator(".race").is_visible()
    assert len({columns.nth(n).evaluate("(c) => getComputedStyle(c).borderTopColor") for n in range(4)}) == 1


def test_names_of_a_blind_live_run_are_shown_when_the_page_says_so(stage: Stage, page: Page) -> None:
    run = stage.run("r-blind", CASES["four"]["columns"])
    run.blind = True
    columns = open_case(stage, page, "run=r-blind&known=later")
    expect(columns.locator(".name")).to_have_text(["A", "B", "C", "D"])
    stage.do(lambda: run.write(1, " and more"))
    expect(columns.nth(1).locator(".answer")).to_contain_text("and more")
    page.get_by_role("button", name="Rerun").click()
    expect(columns.nth(1).locator(".name")).to_have_text("Haiku, Anthropic API")
    asyncio.run_coroutine_threadsafe(stage.engine.stop(), stage.loop).result(10)
    stage.engine.socket.unlink(missing_ok=True)
    asyncio.run_coroutine_threadsafe(stage.engine.start(), stage.loop).result(10)
    stage.do(lambda: run.write(1, " and on"))
    expect(columns.nth(1).locator(".answer")).to_contain_text("and more and on")
    expect(columns.nth(1).locator(".name")).to_have_text("Haiku, Anthropic API")
    stage.do(run.end)


def test_only_those_who_may_are_offered_stop_and_retry(stage: Stage, page: Page) -> None:
    stage.run("r-role", [answering(0), column(1, "b")])
    open_case(stage, page, "run=r-role&role=viewer")
    expect(page.locator("button.act:visible")).to_have_count(0)
    open_case(stage, page, "run=r-role&role=member")
    expect(page.locator("button.act:visible")).to_have_text(["stop", "retry"])
    page.get_by_role("button", name="stop Haiku, Anthropic API").click()
    wait_for(lambda: len(stage.engine.posts) >= 1)
    assert stage.engine.posts[-1] == ("stop", {"column": 0}, "tester", "member")


def test_a_live_run_streams_survives_reruns_and_refresh_and_finishes_once(stage: Stage, page: Page) -> None:
    run = stage.run("r-live", [waiting(0, "first"), waiting(1, "second")])
    columns = open_case(stage, page, "run=r-live")
    first = columns.nth(0).locator(".answer")
    stage.do(lambda: run.write(0, "one 🙂 ", phase="answering", words="answering"))
    expect(first).to_have_text("one 🙂 ")
    expect(columns.nth(0).locator(".words")).to_have_text("answering")
    opened = stage.engine.streams_opened
    first.evaluate("(node) => { window.kept = node.firstChild.firstChild; }")
    page.get_by_role("button", name="Rerun").click()
    expect(page.get_by_text("reruns 2")).to_be_visible()
    stage.do(lambda: run.write(0, "two "))
    expect(first).to_have_text("one 🙂 two ")
    assert first.evaluate("(node) => window.kept === node.firstChild.firstChild"), "a rerun repainted the text"
    assert stage.engine.streams_opened == opened, "a rerun tore the socket down"
    page.emulate_media(color_scheme="dark")
    expect(page.locator(".lab-board")).to_have_attribute("data-theme", "dark")
    expect(first).to_have_text("one 🙂 two ")
    page.reload()
    expect(first).to_have_text("one 🙂 two ")
    stage.do(lambda: run.write(0, "three", phase="done", state="succeeded", words="done"))
    stage.do(lambda: run.write(1, "other", phase="done", state="succeeded", words="done"))
    stage.do(run.end)
    expect(page.get_by_text("reruns 2, finishes 1")).to_be_visible()
    page.get_by_role("button", name="Rerun").click()
    expect(page.get_by_text("reruns 3, finishes 1")).to_be_visible()
    expect(first).to_have_text("one 🙂 two three")


def test_a_finished_run_is_retried_in_place_and_a_refusal_is_said(stage: Stage, page: Page) -> None:
    run = stage.run("two", CASES["two"]["columns"])
    stage.do(run.end)
    columns = open_case(stage, page, "case=two")
    page.get_by_role("button", name="retry SmolLM2 local").click()
    expect(columns.nth(0).locator(".answer")).to_have_text("")
    expect(columns.nth(1).locator(".answer")).to_have_text(re.compile("^Caching keeps"))
    stage.do(lambda: run.write(0, "a second try", phase="done", state="succeeded", words="done"))
    expect(columns.nth(0).locator(".answer")).to_have_text("a second try")
    stage.do(run.end)
    expect(page.get_by_text("finishes 1")).to_be_visible()
    columns = open_case(stage, page, "case=one")
    page.get_by_role("button", name="retry SmolLM2 local").click()
    expect(page.locator(".trouble")).to_have_text("There is no such run.")
    expect(page.get_by_text("finishes 1")).to_be_visible()
    expect(page.locator(".trouble")).to_have_text("There is no such run.")


def test_whole_answers_are_shown_without_scrolling_when_asked_for(stage: Stage, page: Page) -> None:
    body = open_case(stage, page, "case=two").nth(1).locator(".body")
    cut_off = "(b) => b.scrollHeight > b.clientHeight"
    assert body.evaluate(cut_off)
    page.get_by_role("button", name="whole answers").click()
    assert not body.evaluate(cut_off)


def test_the_board_goes_on_where_it_was_when_the_engine_comes_back(stage: Stage, page: Page) -> None:
    run = stage.run("r-back", [answering(0, answer="before ")])
    columns = open_case(stage, page, "run=r-back")
    answer = columns.nth(0).locator(".answer")
    expect(answer).to_have_text("before ")
    asyncio.run_coroutine_threadsafe(stage.engine.stop(), stage.loop).result(10)
    expect(page.locator(".trouble")).to_contain_text("The engine is not answering")
    run.columns[0]["answer"] += "after"
    stage.engine.socket.unlink(missing_ok=True)
    asyncio.run_coroutine_threadsafe(stage.engine.start(), stage.loop).result(10)
    expect(answer).to_have_text("before after")
    expect(page.locator(".trouble")).to_be_hidden()
    stage.do(run.end)


def test_a_column_follows_its_end_only_while_the_reader_is_there(stage: Stage, page: Page) -> None:
    run = stage.run("r-scroll", [answering(0, answer=ANSWER * 20, reasoning="")])
    columns = open_case(stage, page, "run=r-scroll")
    body = columns.nth(0).locator(".body")
    at_end = "(b) => b.scrollHeight - b.scrollTop - b.clientHeight < 24"
    wait_for(lambda: body.evaluate(at_end))
    stage.do(lambda: run.write(0, ANSWER * 4))
    wait_for(lambda: len(body.inner_text()) > len(ANSWER) * 23 and body.evaluate(at_end))
    body.evaluate("(b) => { b.scrollTop = 40; }")
    expect(columns.nth(0).locator(".to-end")).to_be_visible()
    stage.do(lambda: run.write(0, "the very last word"))
    expect(body).to_contain_text("the very last word")
    assert body.evaluate("(b) => b.scrollTop") == 40
    columns.nth(0).locator(".to-end").click()
    wait_for(lambda: body.evaluate(at_end))
    stage.do(run.end)


def test_streamlit_works_under_the_policy_and_nothing_leaves_the_host(stage: Stage, page: Page) -> None:
    refused: list[str] = []
    page.on("console", lambda m: refused.append(m.text) if "Content Security Policy" in m.text else None)
    response = page.goto(f"{stage.url}/?case=elements")
    assert response is not None
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["referrer-policy"] == "no-referrer"
    assert f"ws://{stage.url.removeprefix('http://')}" in response.headers["content-security-policy"]
    expect(page.locator("[data-testid=stVegaLiteChart] canvas, [data-testid=stVegaLiteChart] svg")).to_have_count(2)
    expect(page.locator("[data-testid=stDataFrame] canvas").first).to_be_visible()
    expect(page.locator("[data-testid=stSlider]")).to_be_visible()
    wait_for(lambda: any("markdown.png" in text for text in refused))
    assert [text for text in refused if "198.51.100.7" not in text] == []


def test_a_page_that_fails_says_one_sentence_and_no_key_reaches_the_log(stage: Stage, page: Page) -> None:
    page.goto(f"{stage.url}/?case=broken")
    expect(page.get_by_test_id("stAlert")).to_have_text(re.compile("This page could not be drawn"))
    assert "sk-ant" not in page.content()
    wait_for(lambda: "RuntimeError" in stage.log.read_text())
    assert "sk-ant" not in stage.log.read_text()
