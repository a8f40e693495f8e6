"""The options that are paid by the token: discounts only where they are listed, quotas, times, what is not known."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from services.calculator import assumptions as given
from services.calculator import options_api as calculator_options_api
from services.calculator.assumptions import AccountQuota, ApiModel, ApiSpeed, Assumptions, Own, Quota
from services.calculator.catalog import merged
from services.calculator.types import Objectives, Spread, Way, Workload

DAY = date(2026, 11, 24)
WORK = Workload(rpm=10, input_tokens=Spread(2000), output_tokens=Spread(300))
SPEED = ApiSpeed(0.5, 1.0, 100, 50, "playground", "2026-11-24", "measured", 212)
MONTH = 10 * 60 * 730


def _options(work=WORK, objectives=None, measured=None, **changes):
    stated = Assumptions(**changes)
    # Published speeds and quotas are data that changes, and not what is tested here.
    catalog = replace(merged(stated.own), speeds={}, quotas=())
    found = calculator_options_api.options(work, objectives or Objectives(), stated, catalog, measured, today=DAY)
    return {option.id: option for option in found}


def test_a_month_is_the_price_of_its_requests():
    haiku = _options()["anthropic/claude-haiku-4-5"]
    assert haiku.monthly_usd.mid == pytest.approx((2000 * 1 + 300 * 5) / 1e6 * MONTH)
    assert haiku.per_1000_usd.mid == pytest.approx(3.5)
    assert haiku.per_mtok_usd.mid == pytest.approx(0.0035 / 2300 * 1e6)


def test_batch_is_offered_only_where_a_batch_price_is_listed():
    found = _options(replace(WORK, batch_share=0.5))
    plain, batched = found["anthropic/claude-haiku-4-5"], found["anthropic/claude-haiku-4-5+batch"]
    assert batched.monthly_usd.mid == pytest.approx(plain.monthly_usd.mid * 0.75)
    sonnet = found["bedrock/us.anthropic.claude-sonnet-5-5"]
    assert "bedrock/us.anthropic.claude-sonnet-5-5+batch" not in found
    assert any("batch price" in words for words in sonnet.missing)
    assert sonnet.monthly_usd.mid == pytest.approx(_options()[sonnet.id].monthly_usd.mid)


def test_the_cache_is_an_option_of_its_own_where_the_prefix_is_long_enough():
    found = _options(replace(WORK, input_tokens=Spread(8000), prefix_share=0.6))
    plain, cached = found["anthropic/claude-haiku-4-5"], found["anthropic/claude-haiku-4-5+cache"]
    assert cached.monthly_usd.mid < plain.monthly_usd.mid
    assert sum(cached.drivers.values()) == pytest.approx(cached.monthly_usd.mid)
    short = _options(replace(WORK, prefix_share=0.6))
    assert "anthropic/claude-haiku-4-5+cache" not in short
    assert any("4,096" in fact.value for fact in short["anthropic/claude-haiku-4-5"].facts)


def test_hits_inside_a_batch_are_only_the_lower_end_of_the_range():
    found = _options(replace(WORK, input_tokens=Spread(8000), prefix_share=0.6, batch_share=0.5))
    both = found["anthropic/claude-haiku-4-5+cache+batch"]
    assert both.monthly_usd.low < both.monthly_usd.mid == both.monthly_usd.high
    assert sum(both.drivers.values()) == pytest.approx(both.monthly_usd.mid)


def test_a_long_context_costs_five_times_the_short_one():
    short, long = (_options(replace(WORK, input_tokens=Spread(size), output_tokens=Spread(1))) for size in (1e5, 2e5))
    key = "anthropic/claude-haiku-5-5"
    assert long[key].monthly_usd.mid / short[key].monthly_usd.mid == pytest.approx(10, rel=1e-3)


def test_bedrock_tiers_are_options_with_their_own_prices():
    found = _options()
    plain = found["bedrock/amazon.nova-pro-v1:0"].monthly_usd.mid
    assert found["bedrock/amazon.nova-pro-v1:0+flex"].monthly_usd.mid == pytest.approx(plain / 2)
    assert found["bedrock/amazon.nova-pro-v1:0+priority"].monthly_usd.mid == pytest.approx(plain * 1.75)
    assert not any("claude" in key and "+flex" in key for key in found)


def test_what_nobody_measured_has_no_latency_and_meets_no_limit():
    option = _options()["anthropic/claude-haiku-4-5"]
    assert (option.timed, option.ttft_p95_s, option.ttlt_p95_s, option.largest_output) == ("not known",) + (None,) * 3
    assert any("measure it in the playground" in words for words in option.missing)


def test_a_published_median_alone_says_nothing_about_the_slowest_twentieth():
    median = ApiSpeed(ttft_p50_s=0.5, tok_s_p50=100, source="a test", kind="list")
    option = _options(measured={"claude-haiku-4-5": median})["anthropic/claude-haiku-4-5"]
    assert option.ttlt_p50_s.mid == pytest.approx(3.5)
    assert (option.timed, option.ttft_p95_s, option.ttlt_p95_s, option.largest_output) == ("published",) + (None,) * 3
    assert [words[:12] for words in option.missing] == ["The p95 of t"] * 2


def test_measured_speeds_give_times_limits_and_the_longest_answer():
    limits = Objectives(ttft_s=0.9, ttlt_s=4)
    option = _options(WORK, limits, {"anthropic/claude-haiku-4-5": SPEED})["anthropic/claude-haiku-4-5"]
    assert option.timed == "measured, n 212"
    assert option.ttlt_p50_s.mid == pytest.approx(0.5 + 300 / 100)
    assert option.ttlt_p95_s.low == pytest.approx(3.5 + 3)
    assert option.ttlt_p95_s.high == pytest.approx(1 + 300 / 50)
    assert [words.split()[0] for words in option.misses] == ["First", "Last"]
    fitting = replace(WORK, output_tokens=Spread(option.largest_output))
    again = _options(fitting, limits, {"claude-haiku-4-5": SPEED})["anthropic/claude-haiku-4-5"]
    assert 3.9 < again.ttlt_p95_s.mid <= 4


def test_own_figures_go_before_measured_ones():
    own = replace(SPEED, ttft_p95_s=7.0, kind="yours", n=None)
    option = _options(measured={"claude-haiku-4-5": SPEED}, api_speeds={"claude-haiku-4-5": own})
    assert option["anthropic/claude-haiku-4-5"].ttft_p95_s.mid == 7


def test_requests_that_all_may_wait_miss_no_limit():
    found = _options(replace(WORK, batch_share=1.0), Objectives(ttft_s=0.1), {"claude-haiku-4-5": SPEED})
    assert found["anthropic/claude-haiku-4-5+batch"].misses == ()
    assert found["anthropic/claude-haiku-4-5"].misses


def test_a_quota_below_the_busiest_hour_is_a_reason_and_one_above_it_a_use():
    peaky = replace(WORK, shape=(3.0,) + (1.0,) * 22 + (0.0,))
    mean = 25 / 24
    tight = _options(peaky, quotas={"claude-haiku-4-5": Quota(rpm=20)})["anthropic/claude-haiku-4-5"]
    assert "quota" in tight.infeasible and tight.full_at_rpm == pytest.approx(20 / (3 / mean))
    wide = _options(peaky, quotas={"claude-haiku-4-5": Quota(tpm=230_000)})["anthropic/claude-haiku-4-5"]
    assert wide.infeasible is None and wide.utilisation.mid == pytest.approx(30 / mean / 100)


def test_a_published_default_that_is_too_small_is_a_warning_with_the_tightest_of_its_limits():
    limit = AccountQuota(Way.ANTHROPIC, "claude-haiku*", 1000, None, 1.0, 500_000, 1500, "a page", "2026")
    stated = Assumptions()
    catalog = replace(merged(stated.own), quotas=(limit,))
    found = calculator_options_api.options(WORK, Objectives(), stated, catalog, today=DAY)
    option = next(one for one in found if one.id == "anthropic/claude-haiku-4-5")
    assert option.full_at_rpm == pytest.approx(1500 / 300)
    assert option.infeasible is None and any("default quota carries 5 requests" in said for said in option.missing)


def test_bedrock_sets_the_weighed_answer_aside():
    work = replace(WORK, output_tokens=Spread(300, 0.0))
    limit = AccountQuota(Way.BEDROCK, "anthropic*", None, 200_000, 5.0)
    assert calculator_options_api.most_rpm(work, limit) == pytest.approx(200_000 / (2000 + 1500))


def test_own_prices_replace_the_lists_and_keep_its_other_rates():
    own = given.TokenPrice(input=100, output=200, batch_input=1, batch_output=2)
    found = _options(replace(WORK, batch_share=1.0), token_prices={"claude-haiku-4-5": own})
    option = found["anthropic/claude-haiku-4-5"]
    assert option.monthly_usd.mid == pytest.approx((2000 * 100 + 300 * 200) / 1e6 * MONTH)
    assert found["anthropic/claude-haiku-4-5+batch"].monthly_usd.mid == pytest.approx((2000 + 600) / 1e6 * MONTH)
    assert option.facts[0].kind == "yours" and "$0.1 cached" in option.facts[0].value


def test_a_model_that_no_list_has_is_listed_without_a_price():
    own = Own(api_models=(ApiModel(Way.OPENAI, "openai", "gpt-none", "GPT none", "gpt-none"),))
    option = _options(own=own)["openai/gpt-none"]
    assert option.monthly_usd is None and "enter its price" in option.infeasible


def test_what_the_service_cannot_do_is_said():
    assert "context" in _options(replace(WORK, input_tokens=Spread(3e5)))["anthropic/claude-haiku-4-5"].infeasible
    assert "own" in _options(objectives=Objectives(own_weights=True))["anthropic/claude-haiku-4-5"].infeasible
    assert _options(objectives=Objectives(isolated=True))["anthropic/claude-haiku-4-5"].misses


def test_no_cost_ever_falls_with_load():
    less, more = _options(), _options(replace(WORK, rpm=11))
    assert less.keys() == more.keys()
    assert all(less[key].monthly_usd.mid < more[key].monthly_usd.mid for key in less if less[key].monthly_usd)


def test_only_the_models_and_ways_that_are_asked_for_are_listed():
    found = _options(objectives=Objectives(models=("claude-haiku-4-5",)), ways=("anthropic",))
    assert {(option.way, option.model) for option in found.values()} == {(Way.ANTHROPIC, "claude-haiku-4-5")}
