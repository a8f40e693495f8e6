"""What a request costs by the token: golden cases, long-context tiers, spreads of lengths, and prices nobody has."""

from __future__ import annotations

from datetime import date
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.calculator import token_cost
from services.calculator.token_cost import Rates, TokenPrice
from services.calculator.types import Spread

DAY = date(2026, 11, 24)
SONNET = TokenPrice(Rates(3, 15, 0.3, 3.75, 6), "test", "2026")
TIERED = TokenPrice(Rates(1, 4, 0.1), "test", "2026", tiers=((1000, Rates(5, 20, 0.5)),))
LENGTHS = st.floats(1, 1e6)


def test_the_golden_request_with_a_cache_write_costs_what_the_facts_say():
    assert token_cost.request_usd(SONNET, 3, 0, 12_304, 550) == pytest.approx(0.054399)


def test_a_read_costs_a_tenth_and_a_write_for_an_hour_twice_the_input():
    assert token_cost.request_usd(SONNET, 0, 1_000_000, 0, 0) == pytest.approx(0.3)
    assert token_cost.request_usd(SONNET, 0, 0, 1_000_000, 0, "1h") == pytest.approx(6)


def test_haiku_5_5_costs_five_times_as_much_above_100_000_input_tokens():
    price = token_cost.price("anthropic", "claude-haiku-5-5", DAY)
    assert price is not None
    at, above = token_cost.request_usd(price, 100_000, 0, 0, 100), token_cost.request_usd(price, 100_000.01, 0, 0, 100)
    assert at is not None and above is not None
    assert above / at == pytest.approx(5, rel=1e-4)


def test_cached_tokens_count_for_the_long_context_tier():
    assert token_cost.request_usd(TIERED, 101, 900, 0, 0) == pytest.approx((101 * 5 + 900 * 0.5) / 1e6)
    assert token_cost.request_usd(TIERED, 100, 900, 0, 0) == pytest.approx((100 * 1 + 900 * 0.1) / 1e6)


def test_a_rate_that_is_not_known_makes_the_request_unpriced():
    price = TokenPrice(Rates(3, 15, 0.3), "test", "2026")
    assert token_cost.request_usd(price, 1, 0, 1, 1) is None
    assert token_cost.request_usd(price, 1, 1, 0, 1) is not None


def test_a_length_without_rates_makes_the_workload_unpriced():
    price = TokenPrice(Rates(1, 1), "test", "2026", tiers=((1000, None),))
    assert token_cost.mean_cost(price, Spread(500), Spread(1)) is not None
    assert token_cost.mean_cost(price, Spread(2000), Spread(1)) is None
    assert token_cost.mean_cost(price, Spread(900, 0.5), Spread(1)) is None


def test_the_mean_of_a_spread_is_that_of_drawn_requests():
    numpy = pytest.importorskip("numpy")
    drawn = numpy.random.default_rng(7).lognormal(numpy.log(800), 0.6, 400_000)
    one_by_one = numpy.where(drawn > 1000, drawn * 5 + 30 * 20, drawn * 1 + 30 * 4).mean() / 1e6
    found = token_cost.mean_cost(TIERED, Spread(800, 0.6), Spread(30))
    assert found is not None
    assert found.usd == pytest.approx(one_by_one, rel=0.01)


@given(st.lists(LENGTHS, min_size=2, max_size=2).map(sorted), LENGTHS)
def test_longer_requests_never_cost_less(inputs, output):
    costs = [token_cost.mean_cost(TIERED, Spread(length, 0.4), Spread(output, 0.4)) for length in inputs]
    assert all(one is not None and two is not None and one.usd <= two.usd * (1 + 1e-9) for one, two in pairwise(costs))


@given(LENGTHS, st.floats(0, 1), st.floats(0, 1))
def test_the_drivers_sum_to_the_request(length, prefix, hit):
    found = token_cost.mean_cost(SONNET, Spread(length), Spread(10), prefix, hit)
    assert found is not None
    assert sum(found.drivers().values()) == pytest.approx(found.usd)


@pytest.mark.parametrize("model", ["us.anthropic.claude-sonnet-5-5", "anthropic.claude-v2:1"])
def test_bedrock_without_a_batch_price_has_none(model):
    assert token_cost.price("aws", model, DAY) is not None
    assert token_cost.price("aws", model, DAY, "batch") is None


def test_a_bedrock_batch_price_that_is_listed_is_half():
    model = "meta.llama3-1-70b-instruct-v1:0"
    standard, batch = token_cost.price("aws", model, DAY), token_cost.price("aws", model, DAY, "batch")
    assert standard is not None and batch is not None
    assert batch.base.input == pytest.approx(standard.base.input / 2)


def test_a_cache_rate_that_is_only_the_plain_input_rate_is_no_cache():
    plain = token_cost.price("aws", "meta.llama3-1-70b-instruct-v1:0", DAY)
    assert plain is not None and not plain.has_cache
    assert SONNET.has_cache
