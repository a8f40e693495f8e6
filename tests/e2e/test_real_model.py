"""What a person sees on a fresh machine: the suggested prompt, three real deployments of the embedded model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.e2e.board_stage import CHROMIUM
from tests.e2e.live_lab import WAIT_MS, LiveLab, live_lab, until
from tests.e2e.test_walk import SUGGESTED, columns, done, prompt, send

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="Chromium is missing: install it with `apt-get install chromium`"),
]
expect.set_options(timeout=WAIT_MS)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveLab]:
    with live_lab(tmp_path_factory.mktemp("real"), lambda _url: "", embedded=True) as made:
        yield made


def test_the_suggested_prompt_streams_in_three_local_columns_and_one_is_stopped(lab: LiveLab) -> None:
    page = lab.page()
    expect(prompt(page)).to_have_value(SUGGESTED)
    run_id = send(page)
    expect(columns(page)).to_have_count(3)
    for column in range(3):
        expect(columns(page).nth(column)).to_contain_text("local")
    expect(columns(page).nth(1).locator(".answer")).not_to_be_empty()
    stop = columns(page).nth(1).get_by_role("button", name="stop")
    stop.click()
    until(lambda: all(row["state"] != "running" for row in lab.calls(run_id)))
    done(page)
    first, stopped, third = lab.calls(run_id)
    assert {first["state"], third["state"]} == {"succeeded"}
    assert stopped["state"] in ("cancelled", "succeeded"), "it may have been quicker than the click"
    for row in (first, third):
        assert row["ttft_ms"] > 0
        assert row["usage_source"] == "provider"
        assert row["answer_output"] > 10
        assert row["cost_state"] == "free"
    assert lab.flaws == []
    page.context.close()


def test_a_picture_for_the_readme(lab: LiveLab) -> None:
    """With LAB_SHOTS set, keeps the picture that the README shows; otherwise only walks the way to it."""
    page = lab.page(height=900)
    send(page)
    done(page)
    page.wait_for_timeout(500)
    if folder := os.environ.get("LAB_SHOTS"):
        page.screenshot(path=Path(folder) / "playground.png")
    assert columns(page).count() == 3
    page.context.close()
