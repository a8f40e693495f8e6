"""The words of the History page's address: those of the command line, those of other pages, and unknown ones."""

from __future__ import annotations

import re

import pytest

from app.history import filters
from app.runs import page as runs_page
from services.dashboard.filters import unknown
from tests.pages.lab import ROOT, Lab, page, said
from tests.pages.test_history_page import _one, fill, metrics

pytestmark = pytest.mark.slow


def test_the_words_of_the_command_line_are_read_once_and_become_the_page_s_own(lab: Lab) -> None:
    fill(lab, 60, 2)
    at = page("history", **{"from": "2020-01-01", "deployment": "Name 1", "source": "batch,playground"}).run()
    assert not at.exception
    assert metrics(at)["Calls"] == "30"
    assert {"from", "deployment", "source"}.isdisjoint(at.query_params)
    own = {name: _one(at.query_params[name]) for name in ("range", "since", "deployments", "sources")}
    assert own == {
        "range": "custom",
        "since": "2020-01-01T00:00:00Z",
        "deployments": "d1",
        "sources": "batch,playground",
    }
    at.multiselect(key="hs_deployments").set_value([]).run()
    assert metrics(at)["Calls"] == "60", "what is chosen goes before what the address said once"
    assert "does not know" not in said(at)


def test_a_word_that_the_page_does_not_know_is_named(lab: Lab) -> None:
    fill(lab, 10, 1)
    at = page("history", foo="1", metric="ttft", run="r1").run()
    assert not at.exception
    assert "The address has a word this page does not know: “foo”." in said(at)
    two = page("history", foo="1", **{"<b>": "x"}).run()
    assert "The address has words this page does not know: “foo”, “<b>”." in said(two)


def test_no_word_of_another_part_of_the_app_is_called_unknown() -> None:
    """Whatever is bound to the address, or read from it, anywhere."""
    found: set[str] = {runs_page.PAGE, filters.PARAM}
    for file in [*(ROOT / "app").rglob("*.py"), *(ROOT / "pages").glob("*.py")]:
        source = file.read_text()
        found |= set(re.findall(r'key="(\w+)",\s+bind="query-params"', source))
        found |= set(re.findall(r'query_params(?:\.get\(|\.pop\(|\[)"(\w+)"', source))
    assert {"run", "metric", "profile", "page"} <= found
    assert unknown(found) is None


def test_a_word_that_belongs_to_the_page_somebody_comes_from_filters_nothing(lab: Lab) -> None:
    fill(lab, 60, 2)
    at = page("runs", deployment="Name 1").run()
    assert _one(at.query_params["deployment"]) == "Name 1"
    at.switch_page(str(ROOT / "pages" / "history.py")).run()
    assert not at.exception
    assert metrics(at)["Calls"] == "60"
    at.run()
    assert metrics(at)["Calls"] == "60", "nor later, when the word is bound no more"
    assert "does not know" not in said(at)
