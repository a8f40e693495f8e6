"""How far a batch is and how long the rest takes, in words that claim no more than is known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest

from services.batch import estimate as ways
from services.batch import text as words
from services.batch.estimate import Estimate
from services.batch.types import BatchState, Checked, Format, LineState, Options, RouteName


def test_every_state_route_line_and_format_has_words() -> None:
    assert set(words.STATES) == set(words.ICONS) == set(get_args(BatchState))
    assert set(words.LINES) == set(get_args(LineState))
    assert set(words.ROUTES) == set(get_args(RouteName))
    assert set(words.FORMATS) == set(get_args(Format))


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "1 s"),
        (40, "40 s"),
        (89, "89 s"),
        (90, "2 min"),
        (600, "10 min"),
        (7800, "2 h 10 min"),
        (86400, "24 h"),
        (200_000, "2 d 7 h"),
    ],
)
def test_a_stretch_of_time_is_told_in_units_that_fit_it(seconds: float, said: str) -> None:
    assert words.span(seconds) == said


def test_a_range_names_its_unit_once() -> None:
    assert words.spans(360, 540) == "6–9 min"
    assert words.spans(50, 180) == "50 s – 3 min"
    assert words.spans(40, 40.2) == "40 s"


def test_no_time_is_told_from_fewer_than_three_lines() -> None:
    assert words.eta_s(100, 2, 60) is None
    assert words.eta_s(0, 0, 60) == (0.0, 0.0)


def test_the_range_holds_the_plain_quotient_and_narrows_with_more_lines() -> None:
    few, many = words.eta_s(100, 4, 60), words.eta_s(100, 400, 60)
    assert few is not None
    assert many is not None
    assert few[0] < 100 * 60 / 4 < few[1]
    assert many[0] < 100 * 60 / 400 < many[1]
    assert few[1] / few[0] > 3 > many[1] / many[0]


def test_a_rate_is_per_second_or_per_minute_and_a_dash_before_the_first_line() -> None:
    assert words.rate(120, 60) == "2.0 lines/s"
    assert words.rate(12, 60) == "12.0 lines/min"
    assert words.rate(0, 60) == "–"


def test_ago_and_sizes_and_the_line_of_a_file() -> None:
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert words.ago(now - timedelta(seconds=10), now) == "just now"
    assert words.ago((now - timedelta(minutes=5)).replace(tzinfo=None), now) == "5 min ago"
    assert [words.size(n) for n in (812, 34_000, 1_200_000_000)] == ["812 B", "34 kB", "1.2 GB"]
    checked = Checked("a", 34_000, "csv", Options(), ("id", "text"), 1)
    assert words.line(checked) == "CSV · 1 line · 2 columns: id, text · 34 kB"


@pytest.mark.parametrize(
    ("low", "mid", "high", "said"),
    [
        (0, 0, 0, "free"),
        (None, None, None, "–"),
        (10**9, None, 2 * 10**9, "$1.00–2.00"),
        (10**9, 10**9, 10**9, "~$1.00"),
        (None, None, 10**9, "up to $1.00"),
        (10**9, None, None, "≥ $1.00"),
        (None, 10**9, None, "~$1.00"),
    ],
)
def test_a_cost_that_is_not_known_is_never_nothing(
    low: int | None, mid: int | None, high: int | None, said: str
) -> None:
    assert ways.money_range(low, high, mid).replace("1.0000", "1.00").replace("2.0000", "2.00") == said


def test_times_and_jobs_of_an_estimate() -> None:
    assert ways.time_words(Estimate("d", "openai", seconds_high=86400)) == "up to 24 h"
    assert ways.time_words(Estimate("d", "runner")) == "–"
    assert ways.jobs_words(Estimate("d", "openai", n_jobs=3)) == "3 jobs"
    assert ways.jobs_words(Estimate("d", "runner")) == "–"
    assert ways.tokens_words(Estimate("d", "runner", input_tokens=1200)) == "~1,200 + –"
