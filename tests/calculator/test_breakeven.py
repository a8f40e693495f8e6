"""Where lines cross, and the rule of thumb with what it held for."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest

from services.calculator import breakeven
from services.calculator.types import Answer, Objectives, Spread, Workload
from tests.calculator.options import machine, option

LOAD = Workload(100, Spread(1000), Spread(300))


def test_the_rule_of_thumb_is_claude_2_1_at_45_3_requests_a_minute():
    rule = breakeven.rule_of_thumb()
    assert rule.rpm == pytest.approx(45.3, abs=0.05)
    assert rule.low_rpm < rule.rpm < rule.high_rpm
    assert "Claude 2.1" in rule.sentence and "45.3" in rule.sentence and "$63" in rule.sentence


@pytest.mark.parametrize(
    ("hour", "prices", "lengths", "rpm"),
    [
        (35.0, (8, 24), (1545, 52), 42.9),
        (35.0, (8, 24), (1000, 300), 38.4),
        (88.0, (3, 15), (1000, 300), 196),
        (88.0, (3, 15), (8000, 1000), 38),
        (21.18, (0.72, 0.72), (1000, 300), 377),
        (1.861, (0.22, 0.22), (1000, 300), 108),
    ],
)
def test_the_break_evens_of_the_fact_sheet_come_out(hour, prices, lengths, rpm):
    found = breakeven.break_even_rpm(hour, breakeven.request_usd(*lengths, *prices))
    assert found == pytest.approx(rpm, rel=0.012)


def test_free_requests_never_break_even():
    assert breakeven.break_even_rpm(10.0, 0.0) is None


def test_a_token_line_crosses_the_machine_where_their_months_cost_the_same():
    tokens, box = option("tokens", 5760.0), machine("box", 1.861, 300)
    cross = breakeven.crossing(tokens, box, LOAD)
    assert cross.rpm == pytest.approx(100 * 1.861 * 730 / 5760) and not cross.beyond
    one, two = breakeven.cost_at(tokens, cross.rpm, LOAD), breakeven.cost_at(box, cross.rpm, LOAD)
    assert one is not None and two is not None and one.mid == pytest.approx(two.mid)


def test_a_crossing_beyond_the_machines_capacity_is_no_break_even():
    tokens, box = option("tokens", 500.0), machine("box", 1.861, 200)
    cross = breakeven.crossing(tokens, box, LOAD)
    assert cross.beyond and cross.rpm is not None and cross.rpm > 200


def test_a_quota_that_ends_before_the_crossing_leaves_none():
    tokens, box = option("tokens", 500.0, full_at_rpm=150.0), machine("box", 1.861, 1000)
    assert breakeven.crossing(tokens, box, LOAD).rpm is None


def test_two_machines_cross_where_the_smaller_needs_a_second_one():
    small, large = machine("small", 1.0, 50, replicas=2), machine("large", 1.8, 500)
    cross = breakeven.crossing(small, large, LOAD)
    assert cross.rpm == pytest.approx(50, rel=0.01)


def test_the_curves_have_a_line_and_a_limit_for_each_option_asked_for():
    options = (option("tokens", 5760.0), machine("box", 1.861, 300), option("none", None, infeasible="no"))
    answer = Answer(LOAD, Objectives(), options, "box", True, None, (), date(2026, 11, 24))
    curves = breakeven.curves(answer, ["tokens", "box", "none"])
    assert set(curves.usd) == {"tokens", "box"}
    assert curves.full_at == {"tokens": None, "box": pytest.approx(300)}
    assert len(curves.crossings) == 1 and curves.rpm[0] <= 1 < 300 < curves.rpm[-1]
    lines = [line for line in curves.usd["box"] if line is not None]
    assert all(one.mid <= two.mid for one, two in pairwise(lines))
