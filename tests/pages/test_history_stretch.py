"""Which time the page shows, in words beside its filters; and what leaves it as CSV: units in the names of columns."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from typing import Any

import pytest

from app.history import latency, overview, panel, throughput
from app.history.data import COLUMNS, to_csv, with_units
from services.dashboard import figures
from services.dashboard.figures import Filter
from tests.pages.lab import Lab, page, said
from tests.pages.test_history_page import fill, load
from tests.pages.test_history_pictures import exported

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_the_stretch_that_is_shown_is_said_with_its_length(lab: Lab) -> None:
    fill(lab, 10, 1)
    at = page("history", zone="UTC").run()
    (line,) = [one.value for one in at.caption if " to now " in one.value]
    assert " · 7 d" in line and line.endswith(" · UTC")
    assert ":00" in line.replace("\\", "").partition(" to ")[0], "a whole hour"


@pytest.mark.slow
@pytest.mark.parametrize("query", [{}, {"since": "x", "until": "y"}])
def test_a_range_of_one_s_own_without_dates_shows_the_last_days_and_says_so(lab: Lab, query: dict[str, str]) -> None:
    fill(lab, 10, 1)
    at = page("history", range="custom", **query).run()
    assert not at.exception
    assert "needs a day or a moment to begin or to end at; the last 7 days are shown." in said(at)


@pytest.mark.slow
def test_a_range_whose_dates_are_not_chosen_yet_has_no_dots_in_the_bar(lab: Lab) -> None:
    fill(lab, 10, 1)
    at = page("history", zone="UTC").run()
    at.button_group(key="hs_range").set_value("custom").run()
    assert not at.exception
    pills = [one.proto.popover.label for one in at.get("popover")]
    assert any("Last 7 days (no dates are chosen)" in one.replace("\\", "") for one in pills), pills


@pytest.mark.parametrize(
    ("draw", "wanted"),
    [
        (throughput.draw, {"calls_per_minute", "output_tokens_per_s", "bucket_is_partial"}),
        (throughput.draw_states, {"calls", "bucket_is_partial"}),
        (overview.draw_scatter, {"ttft_p95_ms", "spend_usd_per_1000_calls", "calls"}),
        (
            overview.draw_ranking,
            {
                "success_share",
                "decode_p50_tokens_per_s",
                "output_tokens",
                "spend_usd",
                "spend_usd_per_1m_output_tokens",
                "paid_hours_used_share",
                "ttft_p50_ms",
            },
        ),
        (latency.draw, {"ttft_p50_ms", "ttft_p95_ms", "measured_calls", "bucket_is_partial"}),
    ],
)
def test_the_columns_of_every_csv_say_their_units(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, draw: Any, wanted: set[str]
) -> None:
    fill(lab, 60, 2)
    what, _ = exported(load(lab), monkeypatch, draw)
    names = set(csv.DictReader(io.StringIO(to_csv(with_units(what.frame())))).fieldnames or ())
    assert wanted <= names
    assert not names & {*COLUMNS, "nanousd"}


def test_dollars_are_exact_in_the_csv_and_what_is_not_known_is_empty(lab: Lab) -> None:
    fill(lab, 40, 2)
    table = figures.ranking(load(lab))
    table.loc[1, ["nanousd", "n_unpriced"]] = [0, table.loc[1, "n"]]
    lines = list(csv.DictReader(io.StringIO(to_csv(with_units(table)))))
    assert round(float(lines[0]["spend_usd"]) * 10**9) == table.loc[0, "nanousd"] > 0
    assert lines[1]["spend_usd"] == ""


def test_an_export_is_named_by_the_time_of_the_page_s_zone(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(lab, 10, 1)
    end = datetime(2026, 3, 1, 20, 30, tzinfo=UTC)
    data = load(lab, Filter(range="custom", end=end, zone="Asia/Kolkata"))
    kept: list[str] = []
    monkeypatch.setattr(panel.st, "download_button", lambda label, made, name, *_, **__: kept.append(name))
    panel.export(data, panel.Export("x", lambda: figures.ranking(data)), "", "")
    assert kept == ["inference-lab-x-20260302-0200.csv"]
