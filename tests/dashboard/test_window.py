"""Stretches of time, buckets on the wall's clock, and the words of an address."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dashboard.filters import CACHES, RANGES, Filter
from services.dashboard.window import MOST_BUCKETS, buckets, days, resolve

NOW = datetime(2026, 10, 27, 10, 20, 30, tzinfo=UTC)
texts = st.lists(st.text(min_size=1, max_size=9), max_size=3, unique=True).map(tuple)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))


@given(
    st.sampled_from(RANGES), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]), texts, texts, texts,
    st.lists(st.sampled_from(CACHES), unique=True).map(tuple), moments, st.timedeltas(timedelta(1), timedelta(99)),
)  # fmt: skip
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
    assert 1 <= len(buckets(view)) <= MOST_BUCKETS + 2
    if view.previous is not None:
        assert view.previous[1] == view.start
        assert view.start - view.previous[0] == view.end - view.start
    assert view.grain == ("d" if range_ in ("90d", "365d", "all") else "h")


def test_a_day_has_25_hours_where_summer_time_ends_and_23_where_it_begins() -> None:
    autumn = Filter(range="custom", start=datetime(2026, 10, 20, tzinfo=UTC), end=NOW, zone="Europe/Berlin")
    made = days(resolve(autumn, NOW))
    lengths = dict(zip(made.labels.strftime("%m-%d"), made.seconds / 3600, strict=True))
    assert (lengths["10-24"], lengths["10-25"], lengths["10-26"]) == (24, 25, 24)
    spring = Filter(range="custom", start=datetime(2026, 3, 25, tzinfo=UTC), end=datetime(2026, 4, 2, tzinfo=UTC),
                    zone="Europe/Berlin")  # fmt: skip
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
