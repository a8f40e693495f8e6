"""The tornado: which assumption moves the answer most."""

from __future__ import annotations

from datetime import date

import pytest

from services.calculator import rank
from services.calculator.assumptions import Assumptions
from services.calculator.types import Objectives, Spread, Way, Workload

LOAD = Workload(3000, Spread(1000), Spread(300))
EIGHT = Objectives(ttft_s=2.0, models=("Llama-3.1-8B",))
DAY = date(2026, 11, 24)


@pytest.fixture(scope="module")
def swings():
    given = Assumptions(ways=("ec2",))
    made = rank.calculate(LOAD, EIGHT, assumptions=given, today=DAY)
    chosen = next(one for one in made.options if one.id == made.chosen)
    assert chosen.way is Way.EC2 and chosen.monthly_usd is not None
    return rank.tornado(made, assumptions=given), chosen.monthly_usd.mid


def test_the_widest_bar_comes_first(swings):
    widths = [abs(one.high_usd - one.low_usd) for one in swings[0]]
    assert widths and widths == sorted(widths, reverse=True)


def test_more_headroom_and_longer_answers_cost_more_machines(swings):
    found = {one.assumption: one for one in swings[0]}
    assert found["headroom"].low_usd < swings[1] < found["headroom"].high_usd
    assert found["output tokens"].low_usd < found["output tokens"].high_usd


def test_a_machine_without_a_link_has_no_bar_for_it(swings):
    assert not [one for one in swings[0] if "interconnect" in one.assumption]


def test_without_a_choice_there_is_nothing_to_swing():
    made = rank.calculate(LOAD, EIGHT, assumptions=Assumptions(ways=("container",)), today=DAY)
    assert made.chosen is None and rank.tornado(made) == []
