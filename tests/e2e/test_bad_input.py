"""Bad input and broken parts: one plain sentence, and nothing is lost."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.board_stage import CHROMIUM
from tests.e2e.live_lab import WAIT_MS, LiveLab, deployment, live_lab, quiet, until
from tests.e2e.test_walk import columns, done, prompt, send

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is missing: install it with `apt-get install chromium`"),
]
expect.set_options(timeout=WAIT_MS)


def declare(url: str) -> str:
    return (
        deployment("good", "fake?tokens=20&itl=5", f"{url}/v1")
        + deployment("wrong-key", "fake?fault=http_401", f"{url}/v1")
        + deployment("no-model", "fake?fault=http_404", f"{url}/v1")
        + deployment("nobody-there", "fake", "http://127.0.0.1:9/v1")
        + deployment("slow", "fake?tokens=3000&itl=20", f"{url}/v1")
    )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLab]:
    with live_lab(tmp_path_factory.mktemp("bad"), declare) as made:
        yield made


@pytest.fixture
def page(lab: LiveLab) -> Iterator[Page]:
    lab.flaws.clear()
    made = lab.page(query="?d=good")
    yield made
    assert made.get_by_test_id("stException").count() == 0
    assert "Traceback" not in made.content()
    made.context.close()
    assert lab.flaws == []


def test_an_empty_prompt_is_refused_and_the_page_goes_on(page: Page) -> None:
    prompt(page).fill("")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text("The prompt is empty: write something to send.")).to_be_visible()
    prompt(page).fill("better")
    send(page)
    done(page)


def test_a_prompt_that_is_too_long_is_refused_and_kept(page: Page) -> None:
    long = "x" * 1_000_001
    prompt(page).fill(long)
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_text(re.compile("1,000,001 characters long and the limit is 1,000,000"))).to_be_visible()
    assert len(prompt(page).input_value()) == 1_000_001


def test_a_prompt_of_a_megabyte_is_sent(lab: LiveLab, page: Page) -> None:
    prompt(page).fill("y" * 990_000)
    run_id = send(page)
    done(page)
    assert lab.calls(run_id)[0]["state"] == "succeeded"


def test_what_is_wrong_with_a_deployment_is_said_in_its_column(lab: LiveLab) -> None:
    page = lab.page(query="?d=wrong-key,no-model,nobody-there,good")
    run_id = send(page)
    until(lambda: all(row["state"] != "running" for row in lab.calls(run_id)))
    for column, words in ((0, "did not accept the key"), (1, "has no model"), (2, "could not be reached")):
        expect(columns(page).nth(column)).to_contain_text(words)
    expect(columns(page).nth(3)).to_contain_text("done")
    page.context.close()


def test_a_deployments_file_that_breaks_is_told_and_what_was_known_goes_on(lab: LiveLab, page: Page) -> None:
    good = lab.file.read_text()
    lab.file.write_text(good + '\n[[deployment]]\nname = "unfinished\n')
    page.reload()
    expect(page.get_by_text(re.compile("deployments.toml.*line"))).to_be_visible()
    send(page)
    done(page)
    lab.file.write_text(good)
    page.reload()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.get_by_text(re.compile("deployments.toml.*line"))).to_have_count(0)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("http://169.254.169.254/v1", "metadata|not allowed|may not"),
        ("ftp://host/v1", "start with https"),
        ("not an address", "has an address that cannot be used"),
        ("http://user:pass@host/v1", "user|password|credential"),
    ],
)
def test_an_address_that_may_not_be_is_refused_by_the_form(lab: LiveLab, address: str, words: str) -> None:
    page = lab.page(query="deployments")
    page.get_by_text("Add a deployment").click()
    page.get_by_role("textbox", name="Name", exact=True).fill("Mine 🙂")
    page.get_by_role("textbox", name="Model", exact=True).fill("m")
    page.get_by_role("textbox", name="Base URL").fill(address)
    page.get_by_role("textbox", name="Base URL").press("Tab")
    quiet(page)
    page.get_by_role("button", name="Add deployment").click()
    expect(page.get_by_text(re.compile(words, re.IGNORECASE)).first).to_be_visible()
    assert page.get_by_role("textbox", name="Model", exact=True).input_value() == "m", "what was typed is kept"
    assert not lab.rows("SELECT id FROM deployment WHERE spec LIKE '%Mine %'")
    page.context.close()


def test_a_run_that_does_not_exist_is_said_to_be_unknown(lab: LiveLab) -> None:
    page = lab.page(query="?run=nothing-like-it")
    expect(page.get_by_text(re.compile("no run|not in the records|There is no", re.IGNORECASE)).first).to_be_visible()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.context.close()


def test_an_engine_that_is_killed_comes_back_and_its_calls_are_lost_with_a_sentence(lab: LiveLab) -> None:
    lab.flaws.clear()
    page = lab.page(query="?d=slow")
    run_id = send(page)
    expect(columns(page).first.locator(".answer")).not_to_be_empty()
    os.kill(lab.engine_pid(), signal.SIGKILL)
    until(lambda: lab.calls(run_id)[0]["state"] == "lost")
    expect(columns(page).first).to_contain_text("lost")
    expect(columns(page).first).to_contain_text("Our own process ended")
    columns(page).first.get_by_role("button", name="retry slow").click()
    until(lambda: [row["state"] for row in lab.calls(run_id)] == ["lost", "running"])
    expect(columns(page).first.locator(".answer")).not_to_be_empty()
    page.get_by_role("button", name="stop slow").click()
    until(lambda: lab.calls(run_id)[1]["state"] == "cancelled")
    page.context.close()
    assert [flaw for flaw in lab.flaws if "page error" in flaw] == []
