"""Prices come from the stored row or not at all, and the arithmetic is exact."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import genai_prices
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.pricing.cost import Cost, Price, PriceTier, check_price, cost, mark_of, money, price_of, words_of
from services.pricing.sources import find_model, newest_change
from services.types import Deployment, PriceRef, Usage

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SONNET = {"input": "3", "cache_read": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15"}


def deployment(price: PriceRef, model: str = "m", **more: Any) -> Deployment:
    return Deployment(id="d", name="D", kind="openai", model=model, base_url="https://h.example", price=price, **more)


def listed(provider: str, model: str, at: datetime = NOW, **more: Any) -> Price | None:
    return price_of(deployment(PriceRef(provider=provider, model=model), **more), at)


def overridden(**rates: str) -> Price:
    price = price_of(deployment(PriceRef(override=rates)), NOW)
    assert price is not None
    return price


def provider_usage(**counts: int) -> Usage:
    return Usage(**counts, source="provider")  # type: ignore[arg-type]


def test_the_golden_call_with_a_cache_write_costs_exactly_0_054399_dollars() -> None:
    usage = provider_usage(uncached_input=3, cache_read=0, cache_write_5m=12_304, answer_output=550)
    found = cost(usage, Price("t", "2026-01-01", rates=SONNET), complete=True)
    assert found.state == "exact"
    assert found.nanousd == found.high_nanousd == 54_399_000
    assert found.drivers["cache_write_5m"] == 46_140_000
    assert words_of(found) == "$0.0544"


def test_the_five_drivers_are_charged_apart_and_reasoning_at_the_output_rate() -> None:
    usage = provider_usage(
        uncached_input=1_000,
        cache_read=1_000,
        cache_write_5m=1_000,
        cache_write_1h=1_000,
        reasoning_output=1_000,
        answer_output=1_000,
    )
    found = cost(usage, Price("t", "2026-01-01", rates=SONNET), complete=True)
    assert found.drivers == {
        "uncached_input": 3_000_000,
        "cache_read": 300_000,
        "cache_write_5m": 3_750_000,
        "cache_write_1h": 6_000_000,
        "reasoning_output": 15_000_000,
        "answer_output": 15_000_000,
    }
    assert sum(found.drivers.values()) == found.nanousd


@pytest.mark.parametrize(("provider", "model"), [("anthropic", "claude-haiku-4-5"), ("openai", "gpt-6-luna")])
@given(data=st.data())
def test_a_listed_price_gives_the_same_sum_as_genai_prices_itself(provider: str, model: str, data: Any) -> None:
    count = st.integers(0, 150_000)
    plain, read, write, out = (data.draw(count) for _ in range(4))
    usage = provider_usage(uncached_input=plain, cache_read=read, cache_write_5m=write, answer_output=out)
    ours = cost(usage, listed(provider, model), complete=True)
    theirs = genai_prices.calc_price(
        genai_prices.Usage(
            input_tokens=plain + read + write, cache_read_tokens=read, cache_write_tokens=write, output_tokens=out
        ),
        model,
        provider_id=provider,
        genai_request_timestamp=NOW,
    )
    assert ours.nanousd is not None
    assert abs(Decimal(ours.nanousd) / 10**9 - theirs.total_price) <= Decimal("2e-9")  # four drivers, each rounded


def test_all_rates_of_a_call_jump_with_its_total_input_tokens_cached_ones_included() -> None:
    price = listed("anthropic", "claude-haiku-5-5")
    below = cost(provider_usage(uncached_input=1, cache_read=99_999, answer_output=1_000), price, complete=True)
    above = cost(provider_usage(uncached_input=1, cache_read=100_000, answer_output=1_000), price, complete=True)
    assert below.drivers["answer_output"] == 500_000
    assert above.drivers["answer_output"] == 2_500_000
    assert above.drivers["cache_read"] == 5_000_000


def test_a_stored_price_row_recomputes_the_call_later_without_the_list() -> None:
    price = listed("anthropic", "claude-haiku-5-5")
    assert price is not None
    again = Price.from_json(json.loads(json.dumps(price.to_json())))
    assert again == price
    assert again.tiers == (PriceTier(100_000, again.rates_for(100_001)),)
    for tokens in (10, 100_000, 100_001, 900_000):
        usage = provider_usage(uncached_input=tokens, answer_output=77)
        assert cost(usage, again, complete=True) == cost(usage, price, complete=True)


def test_the_source_names_the_package_and_a_date_that_is_not_in_the_future() -> None:
    price = listed("openai", "gpt-6-luna")
    assert price is not None
    assert price.source == f"genai-prices {genai_prices.__version__}"
    assert price.date == newest_change().isoformat()
    assert "2026-10-14" <= price.date <= datetime.now(UTC).date().isoformat()


def test_the_price_in_force_at_the_moment_of_the_call_is_used() -> None:
    before, after = (listed("openai", "gpt-5.6-sol", datetime(2026, 8, day, tzinfo=UTC)) for day in (20, 21))
    assert before is not None and after is not None and before.rates and after.rates
    assert (before.rates["input"], after.rates["input"]) == ("5", "4")


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-6-luna-nonsense"),
        ("openai", "llama-3"),
        ("openai", "gpt-6"),
        ("openai", "ft:gpt-4o-mini:acme"),
        ("openai", "claude-haiku-5-5"),
        ("anthropic", "claude-opus-4-8-nonsense"),
        ("anthropic", "claude-haiku-4-5-mine"),
        ("anthropic", "claude-haiku-5.5-turbo"),
        ("anthropic", "claude"),
        ("openai-compatible", "gpt-6-luna"),
        ("my-anthropic", "claude-haiku-5-5"),
        ("nobody", "gpt-6-luna"),
        ("openai", "gpt-6.2-sol"),
    ],
)
def test_a_model_the_list_does_not_name_has_no_price_and_never_that_of_the_nearest(provider: str, model: str) -> None:
    assert listed(provider, model) is None
    assert cost(provider_usage(uncached_input=1, answer_output=1), None, complete=True) == Cost("no_price")


def test_genai_prices_itself_would_have_priced_some_of_those() -> None:
    found = genai_prices.calc_price(genai_prices.Usage(), "claude-opus-4-8-nonsense", provider_id="anthropic")
    assert found.model.id == "claude-opus-4-8"


@pytest.mark.parametrize(
    ("provider", "model", "wanted"),
    [
        ("openai", "gpt-6-luna-2026-10-01", "gpt-6-luna"),
        ("openai", "GPT-6-Luna", "gpt-6-luna"),
        ("openai", "gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("anthropic", "claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic", "claude-sonnet-4-20250514", "claude-sonnet-4-0"),
        ("aws", "eu.anthropic.claude-haiku-5-5", "regional.anthropic.claude-haiku-5-5"),
    ],
)
def test_a_dated_name_of_a_listed_model_has_its_price(provider: str, model: str, wanted: str) -> None:
    found = find_model(provider, model)
    assert found is not None and found.id == wanted


def test_a_server_of_ones_own_with_an_api_models_name_has_no_price_unless_its_reference_says_so() -> None:
    own = Deployment(id="d", name="D", kind="anthropic", model="claude-haiku-5-5", base_url="http://10.0.0.5:8000")
    assert price_of(own, NOW) is None
    assert price_of(replace(own, price=PriceRef(provider="anthropic")), NOW) is not None


@pytest.mark.parametrize(
    ("body", "rate"),
    [
        ({}, "2"),
        ({"service_tier": "default"}, "2"),
        ({"service_tier": "auto"}, "2"),
        ({"service_tier": "flex"}, "1"),
        ({"service_tier": "scale"}, None),
        ({"service_tier": "flex", "speed": "fast"}, None),
    ],
)
def test_a_service_tier_has_its_own_price_or_none_but_not_the_standard_one(body: dict[str, str], rate: str) -> None:
    price = listed("openai", "gpt-6.1-sol", extra_body=body)
    assert (price.rates["input"] if price and price.rates else None) == rate


def test_a_region_surcharge_that_the_list_does_not_know_leaves_no_price() -> None:
    assert listed("anthropic", "claude-opus-5-5", extra_body={"inference_geo": "us"}) is None


def test_an_override_is_used_before_the_list_and_cache_rates_default_to_the_input_rate() -> None:
    price = price_of(deployment(PriceRef("openai", "gpt-6-luna", {"input": "0.2", "output": "0.4"}, "3")), NOW)
    assert price is not None and price.rates == {
        "input": "0.2",
        "cache_read": "0.2",
        "cache_write_5m": "0.2",
        "cache_write_1h": "0.2",
        "output": "0.4",
    }
    assert (price.source, price.date) == ("deployment", "2026-11-20")


def test_a_local_model_is_free_and_one_by_the_hour_keeps_its_rate_but_has_no_cost_per_call() -> None:
    usage = provider_usage(uncached_input=5, answer_output=5)
    local, rented = (price_of(deployment(PriceRef(per_hour=rate)), NOW) for rate in ("0", "1.25"))
    assert cost(usage, local, complete=True) == Cost("free", 0, 0)
    assert cost(usage, rented, complete=True) == Cost("by_the_hour")
    assert rented is not None and rented.per_hour == "1.25"
    assert Price.from_json(rented.to_json()) == rented
    assert cost(Usage(), local, complete=False).state == "free"


@pytest.mark.parametrize(
    ("usage", "complete", "state"),
    [
        (provider_usage(uncached_input=10, answer_output=5), True, "exact"),
        (provider_usage(uncached_input=10, answer_output=5), False, "lower_bound"),
        (Usage(uncached_input=10, answer_output=5, source="estimated"), True, "estimated"),
        (Usage(uncached_input=10, answer_output=5, source="estimated"), False, "lower_bound"),
        (Usage(uncached_input=10, answer_output=5, source="partial"), True, "lower_bound"),
        (provider_usage(uncached_input=10), True, "lower_bound"),
        (provider_usage(answer_output=5), True, "lower_bound"),
        (Usage(), True, "unknown_usage"),
        (Usage(), False, "unknown_usage"),
        (provider_usage(uncached_input=0, answer_output=0), True, "exact"),
    ],
)
def test_a_cost_says_how_well_it_is_known(usage: Usage, complete: bool, state: str) -> None:
    found = cost(usage, overridden(input="1", output="2"), complete=complete)
    assert found.state == state
    assert mark_of(found) == {"lower_bound": "≥", "estimated": "~"}.get(state, "")
    assert (found.nanousd is None) == (state == "unknown_usage")


def test_a_cut_stream_costs_between_what_was_seen_and_what_it_was_allowed() -> None:
    usage = Usage(uncached_input=1_000, answer_output=100, source="estimated")
    price = overridden(input="1", output="2")
    assert cost(usage, price, complete=False).high_nanousd is None
    found = cost(usage, price, complete=False, max_output_tokens=500)
    assert (found.nanousd, found.high_nanousd) == (1_200_000, 2_000_000)
    assert words_of(found) == "≥ $0.0012"


@given(st.integers(0, 10**7), st.integers(0, 10**7), st.decimals("0", "500", places=6))
def test_the_drivers_always_sum_to_the_cost(given_in: int, given_out: int, rate: Decimal) -> None:
    found = cost(
        provider_usage(uncached_input=given_in, reasoning_output=given_out, answer_output=3),
        overridden(input=str(rate), output="1.1111"),
        complete=True,
    )
    assert found.nanousd == sum(found.drivers.values())
    assert found.drivers["uncached_input"] == pytest.approx(given_in * rate * 1000, abs=Decimal("0.5"))


@pytest.mark.parametrize(
    ("amount", "mark", "text"),
    [
        (0, "", "$0"),
        (1, "", "$0.000000001"),
        (1_230_000, "", "$0.00123"),
        (910_000, "≥", "≥ $0.00091"),
        (54_399_000, "", "$0.0544"),
        (120_000, "~", "~ $0.00012"),
        (100_000_000, "", "$0.10"),
        (999_600_000, "", "$1.00"),
        (12_345_678_901, "", "$12.35"),
        (1_234_500_000_000, "", "$1,234.50"),
        (-1_230_000, "", "−$0.00123"),
        (None, "≥", "no price"),
    ],
)
def test_money_shows_cents_or_three_digits(amount: int | None, mark: str, text: str) -> None:
    assert money(amount, mark) == text


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        (PriceRef(override={"input": "1"}), "needs 'output'"),
        (PriceRef(override={"input": "1", "output": "2", "ouput": "3"}), "no field 'ouput'"),
        (PriceRef(override={"input": "-1", "output": "2"}), "0 or more"),
        (PriceRef(override={"input": "cheap", "output": "2"}), "must be a number"),
        (PriceRef(per_hour="NaN"), "0 or more"),
        (PriceRef(model="gpt-6-luna"), "without its provider"),
    ],
)
def test_a_price_reference_that_cannot_be_used_is_refused_in_words(ref: PriceRef, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_price(ref)
    with pytest.raises(ValueError, match=words):
        price_of(deployment(ref), NOW)
