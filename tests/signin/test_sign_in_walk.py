"""Sign in, see your name, sign out: in a real browser."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.e2e.board_stage import ARGS, CHROMIUM
from tests.e2e.live_lab import WAIT_MS
from tests.signin.house import House
from tests.signin.oidc import Provider

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason="there is no Chromium"),
]


def test_somebody_signs_in_works_and_signs_out_in_two_tabs(house: House, provider: Provider) -> None:
    failed: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=[*ARGS, "--no-first-run"])
        context = browser.new_context()
        context.set_default_timeout(WAIT_MS)
        expect.set_options(timeout=WAIT_MS)
        page = context.new_page()
        context.on("response", lambda answer: failed.append(answer.url) if answer.status in (401, 403) else None)
        provider.script.deny = "access_denied"
        page.goto(house.url)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("The sign-in was cancelled at the provider")).to_be_visible()
        provider.script.deny = ""
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_text("ada@example.com · member")).to_be_visible()
        assert "signin=" not in page.url
        other = context.new_page()
        other.goto(f"{house.url}/runs")
        expect(other.get_by_text("ada@example.com · member")).to_be_visible()
        other.goto(f"{house.url}/batch")
        with other.expect_response(lambda answer: "/_stcore/upload_file" in answer.url) as taken:
            other.locator("input[type=file]").first.set_input_files(
                {"name": "lines.csv", "mimeType": "text/csv", "buffer": b"text\none\n"}
            )
        assert taken.value.status < 400
        other.goto(house.url)
        prompt = other.get_by_label("Prompt", exact=True)
        prompt.fill("a thought of some length")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_text("This server asks who you are first.")).to_be_visible()
        prompt.blur()
        expect(other.get_by_text("Your sign-in has ended; sign in again.")).to_be_visible()
        expect(other.get_by_text("a thought of some length")).to_be_visible()
        expect(other.get_by_text("ada@example.com")).not_to_be_visible()
        browser.close()
    assert failed == []
    assert "Traceback" not in house.log
