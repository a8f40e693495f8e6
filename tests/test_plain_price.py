"""The plain price of a call: all input at the input rate, nothing off for waiting."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from services.pricing.cost import Price, PriceTier, cost, is_discounted, plain_nanousd, price_of
from services.types import Deployment, PriceRef, Usage

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
SONNET = {"input": "3", "cache_read": "0.3", "cache_write_5m": "3.75", "cache_write_1h": "6", "output": "15"}
PRICE = Price("t", "2026-01-01", rates=SONNET)


def usage(**counts: Any) -> Usage:
    return Usage(**{"source": "provider", **counts})


def test_cache_reads_and_writes_count_as_plain_input_and_reasoning_as_output() -> None:
    call = usage(uncached_input=3, cache_read=1_000, cache_write_5m=12_304, reasoning_output=50, answer_output=500)
    assert plain_nanousd(call, PRICE) == 13_307 * 3_000 + 550 * 15_000


def test_a_call_without_a_cache_costs_its_plain_price_to_the_nano_dollar() -> None:
    call = usage(uncached_input=777, answer_output=31)
    assert plain_nanousd(call, PRICE) == cost(call, PRICE, complete=True).nanousd


@pytest.mark.parametrize("context", [{"processing": "batch"}, {"service_tier": "flex"}])
def test_a_price_of_waiting_is_told_against_the_standard_row_and_has_no_plain_price_without_it(
    context: dict[str, str],
) -> None:
    half = Price("t", "2026-01-01", rates={"input": "1.5", "output": "7.5"}, context=context)
    call = usage(uncached_input=1_000, answer_output=100)
    assert is_discounted(half)
    assert plain_nanousd(call, half, PRICE) == 1_000 * 3_000 + 100 * 15_000
    assert plain_nanousd(call, half) is None


def test_a_dearer_tier_is_its_own_plain_price() -> None:
    fast = Price("t", "2026-01-01", rates={"input": "6", "output": "30"}, context={"service_tier": "priority"})
    assert plain_nanousd(usage(uncached_input=10, answer_output=1), fast, PRICE) == 10 * 6_000 + 30_000


def test_a_long_call_is_plain_at_the_rates_of_its_length() -> None:
    long = Price("t", "2026-01-01", rates=SONNET, tiers=(PriceTier(1_000, SONNET | {"input": "6"}),))
    assert plain_nanousd(usage(uncached_input=1, cache_read=1_000), long) == 1_001 * 6_000


@pytest.mark.parametrize(
    ("call", "price"),
    [
        (usage(uncached_input=1), None),
        (usage(uncached_input=1), Price("t", "2026-01-01", per_hour="2")),
        (Usage(), PRICE),
        (usage(uncached_input=1, cache_write_1h=9), Price("t", "2026", rates={"input": "1", "output": "2"})),
        (usage(uncached_input=9_000), Price("t", "2026", rates=SONNET, tiers=(PriceTier(100, {}),))),
    ],
    ids=["no price", "by the hour", "no counts", "a rate is missing", "no rates at that length"],
)
def test_what_is_not_known_is_none_and_never_nought(call: Usage, price: Price | None) -> None:
    assert plain_nanousd(call, price) is None


def test_the_standard_row_of_a_flex_deployment_is_found_in_the_list() -> None:
    flex = Deployment(
        id="d",
        name="D",
        kind="openai",
        model="gpt-5",
        base_url="https://h.example",
        price=PriceRef(provider="openai", model="gpt-5"),
        extra_body={"service_tier": "flex"},
    )
    charged, standard = price_of(flex, NOW), price_of(flex, NOW, tier="default")
    assert charged is not None and standard is not None
    call = usage(uncached_input=1_000_000, answer_output=1_000_000)
    plain, paid = plain_nanousd(call, charged, standard), cost(call, charged, complete=True).nanousd
    assert is_discounted(charged) and plain is not None and paid is not None and plain == 2 * paid
