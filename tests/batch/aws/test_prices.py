"""What lines of Bedrock's batches cost: by the batch rows of the lists, of no list, or by the hour."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from services.batch.providers.aws import converse, for_batch, invoked
from services.pricing.cost import cost, price_of
from services.types import PriceRef, Usage
from tests.batch.aws.house import AWS, bedrock

AT = datetime(2026, 11, 24, tzinfo=UTC)
USAGE = Usage(uncached_input=100_000, answer_output=1_000_000, source="provider")


@pytest.mark.parametrize(
    ("model", "live", "batch"),
    [  # US dollars for 100,000 tokens in and a million out, from the dated list
        ("amazon.nova-pro-v1:0", "3.28", "1.64"),
        ("us.amazon.nova-lite-v1:0", "0.246", "0.123"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "5.61", "2.805"),
        ("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "15.3", "7.65"),
        ("zai.glm-4.7-flash", "0.407", "0.2035"),
    ],
)
def test_a_batch_costs_what_the_list_says(model: str, live: str, batch: str) -> None:
    one = bedrock(model, price=PriceRef("aws", model))
    for wanted, is_batch in ((live, False), (batch, True)):
        found = cost(USAGE, price_of(one, AT, batch=is_batch), complete=True)
        assert (found.state, found.nanousd) == ("exact", int(Decimal(wanted) * 10**9))


def test_a_batch_row_that_is_for_another_price_is_not_taken() -> None:
    """The list's row of this id is global inference, 10 % below what the model costs in a region."""
    one = bedrock("anthropic.claude-haiku-4-5-20251001-v1:0")
    assert price_of(replace(one, price=PriceRef("aws", one.model)), AT, batch=True) is None


@pytest.mark.parametrize("model", ["anthropic.claude-opus-4-8", "us.meta.llama3-1-405b-instruct-v1:0"])
def test_a_model_without_a_batch_row_has_no_batch_price_and_not_half_of_another(model: str) -> None:
    one = bedrock(model, price=PriceRef("aws", model))
    assert price_of(one, AT) is not None and price_of(one, AT, batch=True) is None


def test_one_line_costs_to_the_nano_dollar() -> None:
    one = bedrock("us.amazon.nova-pro-v1:0", price=PriceRef("aws", "us.amazon.nova-pro-v1:0"))
    body = {
        "output": {"message": {"role": "assistant", "content": [{"text": "yes"}]}},
        "stopReason": "end_turn",
        "usage": {"inputTokens": 137, "outputTokens": 11, "totalTokens": 148},
        "metrics": {"latencyMs": 5},
    }
    found = cost(converse("r0000000001", body).usage, price_of(one, AT, batch=True), complete=True)
    assert (found.state, found.nanousd) == ("exact", 137 * 400 + 11 * 1600)


def test_cached_tokens_without_a_batch_rate_make_it_a_lower_bound() -> None:
    model = "global.anthropic.claude-haiku-4-5-20251001-v1:0"
    one = bedrock(model, "invoke", price=PriceRef("aws", model))
    body = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "yes"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 100, "output_tokens": 10, "cache_read_input_tokens": 50},
    }
    found = cost(invoked("r0000000001", model, body).usage, price_of(one, AT, batch=True), complete=True)
    assert (found.state, found.nanousd) == ("lower_bound", 100 * 500 + 10 * 2500)


def test_a_tier_or_a_latency_mode_of_live_calls_does_not_move_the_price_of_a_batch() -> None:
    model = "us.amazon.nova-pro-v1:0"
    one = bedrock(model, price=PriceRef("aws", model))
    fast = replace(one, aws=replace(AWS, service_tier="priority", latency="optimized"))
    assert price_of(for_batch(fast), AT, batch=True) == price_of(one, AT, batch=True)
