"""What an attack on the history found: dates at the ends of the calendar, and two names for one percentile."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from db.history import Pieces
from services.alerts import Alert, _p95
from services.dashboard.filters import Filter
from services.dashboard.window import EARLIEST, resolve
from services.request_fields import RequestFields

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize("since", [datetime.min.replace(tzinfo=UTC), datetime(1013, 5, 1, tzinfo=UTC)])
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/New_York"])
def test_a_stretch_from_the_beginning_of_the_calendar_can_be_looked_at(since: datetime, zone: str) -> None:
    view = resolve(Filter(range="custom", start=since, end=datetime.max.replace(tzinfo=UTC), zone=zone), NOW)
    assert EARLIEST - timedelta(days=1) <= view.start < view.end <= NOW
    assert view.previous is None


@pytest.mark.parametrize("given", ["9999-12-31T23:59:59-12:00", "0001-01-01T00:00:00+14:00", "2201-01-01T00:00:00Z"])
def test_a_note_beyond_any_calendar_is_refused_in_words(given: str) -> None:
    with pytest.raises(ValueError, match="between the years 2000 and 2200"):
        RequestFields({"at": given}).moment("at")


def test_a_note_without_a_readable_moment_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match="a date and a time"):
        RequestFields({"at": "yesterday"}).moment("at")


def test_the_alert_names_the_same_percentile_as_the_page() -> None:
    values = np.random.default_rng(1).lognormal(5, 1, 46)
    found = Pieces(pd.DataFrame(), pd.DataFrame({"ttft": values}), True, None)
    assert _p95(found).value == pytest.approx(np.quantile(values, 0.95))


@pytest.mark.parametrize("wrong", [{"metric": []}, {"targets": "ALERT_TEAM"}, {"window_s": "x"}])
def test_an_alert_of_the_wrong_shape_is_refused_in_words(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"[Aa]n alert"):
        Alert.from_row({"metric": "p95_ttft", "threshold": 1.0, "window_s": 3600, **wrong})
