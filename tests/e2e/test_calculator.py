"""The calculator as a person uses it: a preset, a field, the address, a queue simulated, a scenario kept."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.board_stage import CHROMIUM
from tests.e2e.live_lab import WAIT_MS, LiveLab, deployment, live_lab, quiet

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is missing: install it with `apt-get install chromium`"),
]
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLab]:
    with live_lab(tmp_path_factory.mktemp("calculator"), lambda url: deployment("one", "fake", f"{url}/v1")) as made:
        yield made
        assert made.flaws == []


def opened(lab: LiveLab, address: str, **how: object) -> Page:
    page = lab.page(height=1400, **how)  # type: ignore[arg-type]
    page.goto(f"{lab.url}/calculator{address}")
    expect(page.get_by_text("Where the lines cross")).to_be_visible()
    return page


def test_a_change_is_in_the_answer_and_in_the_address_and_opens_again(lab: LiveLab) -> None:
    page = opened(lab, "?preset=chat&models=Llama-3.1-8B")
    expect(page.get_by_text(re.compile(r"^Choose Llama-3.1-8B"))).to_be_visible()
    field = page.get_by_role("spinbutton", name="Requests/min")
    field.fill("900")
    field.press("Enter")
    page.wait_for_url(re.compile("rpm=900"))
    expect(page.get_by_text(re.compile(r"^Choose Llama-3.1-8B"))).to_be_visible()
    again = opened(lab, page.url.partition("/calculator")[2])
    expect(again.get_by_role("spinbutton", name="Requests/min")).to_have_value("900")
    page.context.close()
    again.context.close()


def test_bad_input_is_said_on_the_field_and_can_be_mended(lab: LiveLab) -> None:
    page = opened(lab, "?preset=rag")
    field = page.get_by_role("spinbutton", name="Output tokens")
    field.fill("-3")
    field.press("Enter")
    expect(page.get_by_text("Nothing is calculated until")).to_be_visible()
    field.fill("250")
    field.press("Enter")
    expect(page.get_by_text("Where the lines cross")).to_be_visible()
    page.context.close()


def test_a_queue_is_simulated_and_a_scenario_kept_and_compared(lab: LiveLab) -> None:
    page = opened(lab, "?preset=chat&models=Llama-3.1-8B")
    page.get_by_text("How a server of your own runs it").click()
    quiet(page)  # a click while the page is drawn anew goes to a button that is about to be replaced
    page.get_by_role("button", name="Simulate", exact=True).click()
    expect(page.get_by_text(re.compile("^Simulated: 2,000 requests, seed 1"))).to_be_visible()
    page.get_by_role("button", name="Scenarios").click()
    page.get_by_role("textbox", name="Keep this as").fill("Support bot")
    page.get_by_role("button", name="Keep", exact=True).click()
    expect(page.get_by_text("Scenarios side by side")).to_be_visible()
    assert [row["name"] for row in lab.rows("SELECT name FROM scenario")] == ["Support bot"]
    page.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1280, "light")])
def test_the_page_fits(lab: LiveLab, width: int, scheme: str) -> None:
    page = opened(lab, "?preset=agent", width=width, scheme=scheme)
    assert not page.evaluate("document.documentElement.scrollWidth > window.innerWidth + 1")
    page.context.close()
