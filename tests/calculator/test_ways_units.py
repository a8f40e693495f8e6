"""Provisioned units: the break-even of the seed's rule, whole units, and what AWS does not publish."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from services.calculator import options_provisioned
from services.calculator.assumptions import Assumptions
from services.calculator.catalog import base
from services.calculator.types import Objectives, Spread, Workload

DAY = date(2026, 11, 24)
WORK = Workload(rpm=100, input_tokens=Spread(2000), output_tokens=Spread(300), months=6)
CLAUDE = "bedrock_provisioned/anthropic.claude-v2:1/1-month"


def _options(work=WORK, objectives=None, **changes):
    found = options_provisioned.options(work, objectives or Objectives(), Assumptions(**changes), base(), today=DAY)
    return {option.id: option for option in found}


def test_claude_2_1_breaks_even_at_45_3_requests_a_minute():
    assert options_provisioned.break_even_rpm(63, (2000 * 8 + 300 * 24) / 1e6) == pytest.approx(45.26, abs=0.01)
    assert "45.3 requests a minute" in _options()[CLAUDE].would_win


def test_a_unit_whose_capacity_nobody_publishes_has_no_monthly_cost():
    option = _options()[CLAUDE]
    assert option.monthly_usd is None and option.replicas is None
    assert option.infeasible == options_provisioned.NO_CAPACITY
    assert option.hourly_usd == 63


def test_a_quote_that_is_needed_says_which_price_would_win():
    option = _options()["bedrock_provisioned/amazon.nova-pro-v1:0/1-month"]
    assert "quote" in option.infeasible and option.hourly_usd is None
    per_hour = (2000 * 0.8 + 300 * 3.2) / 1e6 * 6000
    assert f"${per_hour:,.2f} an hour" in option.would_win


def test_units_are_whole_and_carry_the_busiest_hour_on_both_sides():
    own = {"anthropic.claude-v2:1": 100_000.0}
    outputs = {"anthropic.claude-v2:1": 12_000.0}  # 40 requests a minute by output, 50 by input
    option = _options(unit_input_tpm=own, unit_output_tpm=outputs)[CLAUDE]
    assert option.replicas == (3,) * 24
    assert option.monthly_usd.mid == pytest.approx(3 * 63 * 730)
    assert (option.full_at_rpm, option.utilisation.mid) == (pytest.approx(120), pytest.approx(100 / 120))
    peaky = replace(WORK, shape=(2.0,) + (1.0,) * 22 + (0.0,))
    assert _options(peaky, unit_input_tpm=own, unit_output_tpm=outputs)[CLAUDE].replicas == (5,) * 24


def test_one_side_of_the_tokens_is_no_capacity():
    assert _options(unit_input_tpm={"anthropic.claude-v2:1": 1e5})[CLAUDE].infeasible == options_provisioned.NO_CAPACITY


def test_a_break_even_beyond_capacity_is_told_as_none():
    option = _options(replace(WORK, rpm=20), unit_rpm={"anthropic.claude-v2:1": 40})[CLAUDE]
    assert "would pay above 45.3" in option.would_win and "carry 40.0" in option.would_win
    pays = _options(unit_rpm={"anthropic.claude-v2:1": 110})[CLAUDE]
    assert "cost less than the price by the token above 45.3" in pays.would_win
    assert pays.infeasible is None


def test_a_commitment_longer_than_allowed_is_a_reason():
    stated = {"unit_rpm": {"anthropic.claude-v2:1": 110}}
    half_year = CLAUDE.replace("1-month", "6-month")
    assert _options(**stated)[half_year].infeasible is None
    found = _options(replace(WORK, months=1), **stated)
    assert found[CLAUDE].infeasible is None and "6 months" in found[half_year].infeasible
    assert "none is allowed" in _options(replace(WORK, months=0), **stated)[CLAUDE].infeasible


def test_an_own_price_for_one_commitment_goes_before_the_one_for_all():
    prices = {"anthropic.claude-v2:1": 10.0, "anthropic.claude-v2:1/1-month": 20.0}
    found = _options(unit_prices=prices)
    assert found[CLAUDE].hourly_usd == 20
    assert found[CLAUDE.replace("1-month", "6-month")].hourly_usd == 10


def test_units_of_others_than_bedrock_are_not_listed_under_bedrock():
    assert {unit.provider for unit in base().units} - {"bedrock"}
    assert all("gpt" not in key and "grok" not in key for key in _options())
