"""When caching a repeated prefix pays, and what of it a server of one's own keeps."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.calculator import token_cost
from services.calculator.token_cost import Floor, Rates, TokenPrice
from services.calculator.types import Reuse, Spread, Way, Workload

BOTH = Floor(1024, "2026", (("5m", 5.0), ("1h", 60.0)))
PRICE = TokenPrice(Rates(3, 15, 0.3, 3.75, 6), "test", "2026")


def _workload(**changes):
    return Workload(
        **{
            "rpm": 10,
            "input_tokens": Spread(4000),
            "output_tokens": Spread(300),
            "prefix_share": 0.5,
            "reuse_per_hour": 60,
        }
        | changes
    )


def test_five_minutes_need_hits_of_a_fifth_and_one_use_in_20_minutes():
    plan = token_cost.plan(_workload(), PRICE, 1024)
    assert plan.needed_hit == pytest.approx(0.217, abs=5e-4)
    assert plan.reuse_needed_s == pytest.approx(20.4 * 60, rel=0.01)
    assert (plan.ttl, plan.pays) == ("5m", True)


def test_an_hour_needs_half_of_the_hits_and_one_use_in_80_minutes():
    plan = token_cost.plan(_workload(), PRICE, Floor(1024, lifetimes=(("1h", 60.0),)))
    assert plan.needed_hit == pytest.approx(0.526, abs=5e-4)
    assert plan.reuse_needed_s == pytest.approx(80.3 * 60, rel=0.01)


def test_hits_follow_the_lifetime_that_every_hit_renews():
    assert token_cost.hit_share(_workload(reuse_per_hour=12), 5) == pytest.approx(0.632, abs=1e-3)
    assert token_cost.hit_share(_workload(reuse_per_hour=0), 5) == 0


@pytest.mark.parametrize(("uses", "ttl"), [(0.5, "5m"), (0.6, "1h"), (3, "1h")])
def test_steady_reuse_above_0_55_an_hour_is_kept_for_an_hour(uses, ttl):
    assert token_cost.plan(_workload(reuse_per_hour=uses), PRICE, BOTH).ttl == ttl


def test_a_burst_is_kept_for_five_minutes_and_pays_from_the_second_call():
    plan = token_cost.plan(_workload(reuse=Reuse.BURST, calls_per_session=5), PRICE, BOTH)
    assert (plan.ttl, plan.calls_needed, plan.hit) == ("5m", 2, pytest.approx(0.8))
    assert not token_cost.plan(_workload(reuse=Reuse.BURST, calls_per_session=1), PRICE, BOTH).pays


def test_what_is_saved_is_the_difference_of_the_two_costs():
    plan = token_cost.plan(_workload(reuse=Reuse.BURST, calls_per_session=5), PRICE, BOTH)
    assert plan.saves == pytest.approx(2000 * 3 / 1e6 - 2000 * (0.8 * 0.3 + 0.2 * 3.75) / 1e6)


def test_a_prefix_below_the_minimum_is_not_cached_and_the_sentence_says_so():
    plan = token_cost.plan(_workload(prefix_share=0.2), PRICE, 1024)
    assert (plan.ttl, plan.saves, plan.hit) == (None, 0, 0)
    assert "1,024" in plan.sentence and "800" in plan.sentence


def test_without_a_cheaper_read_there_is_nothing_to_gain():
    flat = TokenPrice(Rates(1, 1, 1, 1, 1), "test", "2026")
    assert token_cost.plan(_workload(), flat, None).ttl is None


def test_a_list_that_repeats_the_five_minute_price_sells_no_hour():
    same = TokenPrice(Rates(3, 15, 0.3, 3.75, 3.75), "test", "2026")
    assert token_cost.plan(_workload(reuse_per_hour=1), same, BOTH).ttl == "5m"


@given(st.floats(0, 500), st.floats(0, 500))
def test_more_reuse_never_finds_less_and_pays_exactly_above_the_needed_hits(one, two):
    low, high = sorted((one, two))
    few, many = (token_cost.plan(_workload(reuse_per_hour=uses), PRICE, 1024) for uses in (low, high))
    assert few.hit <= many.hit
    if abs(few.hit - few.needed_hit) > 1e-6:
        assert few.pays == (few.hit > few.needed_hit)


def test_the_minimums_and_lifetimes_are_those_of_the_dated_file():
    claude = token_cost.floor(Way.ANTHROPIC, "claude-haiku-4-5")
    assert (claude.tokens, [name for name, _ in claude.lifetimes]) == (4096, ["5m", "1h"])
    assert token_cost.floor(Way.BEDROCK, "us.anthropic.claude-sonnet-4-6").tokens == 1024
    assert token_cost.floor(Way.OPENAI, "gpt-6.1-terra").lifetimes == (("auto", 30.0),)
    assert token_cost.floor(Way.BEDROCK, "meta.llama3-1-70b-instruct-v1:0").tokens is None


def test_a_server_keeps_the_share_of_the_prefixes_that_has_room():
    workload = _workload(rpm=10, reuse_per_hour=6)  # 100 prefixes of 2,000 tokens
    assert token_cost.self_hosted(workload, 200_000).hit == pytest.approx(1)
    half = token_cost.self_hosted(workload, 100_000)
    assert (half.hit, half.cached) == (pytest.approx(0.5), pytest.approx(1000))
    assert token_cost.self_hosted(workload, 0).hit == 0
