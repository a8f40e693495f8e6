"""Rates by the hour, replicas, and hours of a month."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.calculator import queueing
from services.calculator.types import HOURS_A_MONTH, Spread, Workload

OFFICE = (0.0,) * 8 + (2.0,) * 10 + (0.5,) * 6
LOAD = Workload(120, Spread(1000), Spread(300), shape=OFFICE)


def test_the_rates_of_a_day_have_the_mean_that_was_asked_for():
    assert sum(queueing.rates(LOAD)) / 24 == pytest.approx(120)
    assert max(queueing.rates(LOAD)) == pytest.approx(120 * 2 * 24 / 23)


def test_requests_that_may_wait_fill_the_valleys_and_none_is_lost():
    sized = queueing.sized_rates(replace(LOAD, batch_share=0.4))
    assert sum(sized) == pytest.approx(24 * 120)
    assert max(sized) == pytest.approx(0.6 * max(queueing.rates(LOAD)))
    assert min(sized) > 0


def test_all_that_may_wait_makes_the_day_flat():
    assert queueing.sized_rates(replace(LOAD, batch_share=1.0)) == pytest.approx((120.0,) * 24)


def test_a_fixed_fleet_is_that_of_the_busiest_hour_in_whole_machines():
    counts = queueing.replicas((10, 100), 30, headroom=0.2, fewest=1, step=4)
    assert counts == (4, 4)
    assert queueing.replicas((10, 130), 30, headroom=0.2, fewest=1, step=4) == (8, 8)


def test_scaling_follows_the_hours_but_never_below_the_least():
    assert queueing.replicas((0, 100), 50, headroom=0.0, fewest=1, autoscale=True) == (1, 2)
    assert queueing.replicas((0, 100), 50, headroom=0.0, fewest=3, autoscale=True) == (3, 3)


def test_a_rate_that_fills_a_replica_exactly_needs_no_second_one():
    assert queueing.replicas((100 / 1.2,), 100, headroom=0.2, fewest=1) == (1,)


def test_without_capacity_no_number_of_replicas_is_enough():
    assert queueing.replicas((1,), 0, headroom=0.2, fewest=1) is None


def test_a_replica_that_starts_early_is_paid_for_from_its_start():
    flat = queueing.replica_hours((2,) * 24)
    assert flat == pytest.approx(2 * HOURS_A_MONTH)
    assert queueing.replica_hours((1, 2) * 12, 30) == pytest.approx((36 + 12 * 0.5) * HOURS_A_MONTH / 24)
