"""Stretches of time, buckets on the wall's clock, and the words of an address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dashboard.data import stretch
from services.dashboard.filters import CACHES, RANGES, Filter
from services.dashboard.window import MOST_BUCKETS, buckets, days, resolve

NOW = datetime(2026, 10, 27, 10, 20, 30, tzinfo=UTC)
texts = st.lists(st.text(min_size=1, max_size=9), max_size=3, unique=True).map(tuple)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(
    st.sampled_from(RANGES),
    st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
    texts,
    texts,
    texts,
    st.lists(st.sampled_from(CACHES), unique=True).map(tuple),
    moments,
    st.timedeltas(timedelta(1), timedelta(99)),
)
def test_a_filter_comes_back_from_its_address(range_, zone, names, tags, teams, caches, start, length) -> None:
    chosen = Filter(range_, zone=zone, deployments=names, tags=tags, teams=teams, caches=caches)
    if range_ == "custom":
        chosen = chosen.but(start=start, end=start + length)
    found = Filter.from_params(chosen.to_params())
    assert found == chosen and not found.ignored


def test_what_means_nothing_in_an_address_is_left_out_and_said() -> None:
    found = Filter.from_params({"range": "9y", "zone": "Mars/Base", "cache": "hot,warm", "page": "history"})
    assert found == Filter(caches=("warm",))
    assert [sentence[-1] for sentence in found.ignored] == [".", ".", "."]
    assert "2026-10-32" in Filter.from_params({"from": "2026-10-32"}).ignored[0]
    assert Filter.from_params({"from": "2026-10-02", "to": "2026-10-01"}).range == "7d"


def test_a_custom_range_holds_its_last_day_in_its_zone() -> None:
    found = Filter.from_params({"from": "2026-10-25", "to": "2026-10-25", "zone": "Europe/Berlin"})
    assert found.start == datetime(2026, 10, 24, 22, tzinfo=UTC)
    assert found.end == datetime(2026, 10, 25, 23, tzinfo=UTC)
    moment = Filter.from_params({"from": "2026-10-25T12:30", "zone": "Europe/Berlin"})
    assert moment.start == datetime(2026, 10, 25, 11, 30, tzinfo=UTC)


@pytest.mark.parametrize("range_", ["1h", "24h", "7d", "30d", "90d", "365d", "mtd", "all"])
@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "Asia/Kolkata", "America/St_Johns"])
def test_buckets_cover_the_window_without_gaps_and_are_not_too_many(range_, zone) -> None:
    first = NOW - timedelta(days=2000)
    view = resolve(Filter(range_, zone=zone), NOW, first)
    for made in (buckets(view), buckets(view, whole_hours=True), days(view)):
        assert made.edges[0] == np.datetime64(view.start.replace(tzinfo=None))
        assert made.edges[-1] == np.datetime64(NOW.replace(tzinfo=None))
        assert (np.diff(made.edges) > np.timedelta64(0)).all()
        assert made.is_running.tolist() == [False] * (len(made) - 1) + [True]
        assert made.is_partial[-1] and not made.is_partial[1:-1].any()
    assert 1 <= len(buckets(view)) <= MOST_BUCKETS + 2
    if view.previous is not None:
        assert view.previous[1] == view.start
        assert view.start - view.previous[0] == view.end - view.start
    assert view.grain == ("d" if range_ in ("90d", "365d", "all") else "h")


@pytest.mark.parametrize(
    ("range_", "start"),
    [
        ("1h", datetime(2026, 10, 27, 9, 20, tzinfo=UTC)),
        ("24h", datetime(2026, 10, 26, 10, tzinfo=UTC)),
        ("7d", datetime(2026, 10, 20, 10, tzinfo=UTC)),
        ("30d", datetime(2026, 9, 27, 10, tzinfo=UTC)),
        ("90d", datetime(2026, 7, 29, tzinfo=UTC)),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/New_York"])
def test_a_preset_begins_at_a_whole_hour_and_at_the_same_moment_in_every_zone(range_, start, zone) -> None:
    assert resolve(Filter(range_, zone=zone), NOW).start == start


def test_a_first_bucket_that_is_cut_is_partial_and_a_whole_one_is_not() -> None:
    cut = buckets(resolve(Filter("7d"), NOW))
    assert (cut.is_partial[0], cut.seconds[0]) == (True, 2 * 3600)
    whole = buckets(resolve(Filter("7d"), NOW.replace(hour=12)))
    assert (whole.is_partial[0], whole.seconds[0]) == (False, 6 * 3600)
    past = Filter("custom", start=NOW - timedelta(days=9), end=NOW - timedelta(days=2))
    assert buckets(resolve(past, NOW)).is_partial[[0, -1]].all()


def test_the_stretch_is_said_to_the_minute() -> None:
    assert stretch(resolve(Filter("7d", zone="Europe/Berlin"), NOW)) == (
        "Tue 20 Oct 12:00 to now (Tue 27 Oct 11:20) · 7 d 20 min · Europe/Berlin"
    )
    past = Filter("custom", start=datetime(2026, 10, 1, tzinfo=UTC), end=datetime(2026, 10, 1, 6, tzinfo=UTC))
    assert stretch(resolve(past, NOW)) == "Thu 1 Oct 2026 00:00 to Thu 1 Oct 2026 06:00 · 6 h · UTC"


def test_a_custom_range_without_a_date_shows_the_last_days_and_says_so() -> None:
    found = Filter.from_params({"range": "custom", "from": "x"})
    assert found.range == "7d"
    assert found.ignored[-1].endswith("needs a day or a moment to begin or to end at; the last 7 days are shown.")


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("text", ["0001-01-01", "9999-12-31", "1999-12-30T00:00:00Z", "0001-01-01T00:00:00+14:00"])
def test_a_date_beyond_the_calendar_is_out_of_range_and_no_text_that_is_not_a_date(text, zone) -> None:
    found = Filter.from_params({"from": text, "zone": zone})
    assert found.start is None
    assert found.ignored[0] == f"“{text}” is out of range: a history begins and ends between the years 2000 and 2200."


def test_a_day_has_25_hours_where_summer_time_ends_and_23_where_it_begins() -> None:
    autumn = Filter(range="custom", start=datetime(2026, 10, 20, tzinfo=UTC), end=NOW, zone="Europe/Berlin")
    made = days(resolve(autumn, NOW))
    lengths = dict(zip(made.labels.strftime("%m-%d"), made.seconds / 3600, strict=True))
    assert (lengths["10-24"], lengths["10-25"], lengths["10-26"]) == (24, 25, 24)
    spring = Filter(
        range="custom",
        start=datetime(2026, 3, 25, tzinfo=UTC),
        end=datetime(2026, 4, 2, tzinfo=UTC),
        zone="Europe/Berlin",
    )
    view = resolve(spring, NOW)
    assert sorted(set(days(view).seconds[1:-1] / 3600)) == [23, 24]
    assert set(buckets(view).seconds[1:-1] / 3600) == {5, 6}
    assert not view.running and not buckets(view).is_running.any()


def test_edges_of_a_zone_that_is_half_an_hour_off_move_to_the_next_whole_hour() -> None:
    made = buckets(resolve(Filter("7d", zone="Asia/Kolkata"), NOW), whole_hours=True)
    assert all(moment.minute == 0 for moment in made.edges[1:-1].tolist())
    assert {label.minute for label in made.labels[1:]} == {30}


def test_the_month_begins_at_midnight_of_the_zone() -> None:
    view = resolve(Filter("mtd", zone="Europe/Berlin"), NOW)
    assert view.start == datetime(2026, 9, 30, 22, tzinfo=UTC)


def test_a_value_with_commas_and_backslashes_comes_back_from_an_address() -> None:
    chosen = Filter("7d", deployments=("a,b\\", "\\,"), tags=("x,",))
    assert Filter.from_params(chosen.to_params()) == chosen
