"""Service tiers, batch and hourly prices: what a call is charged by, and what it costs to the micro-dollar."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from time import perf_counter_ns
from typing import Any

import pytest

from services.aws import instances
from services.call_record import END, CalledDeployment, CallRecord, to_row
from services.calls.record import Ended, finished
from services.calls.stream import Ending, Progress
from services.pricing.cost import Price, cost, price_of, tier_asked
from services.pricing.price import context_of
from services.providers import kind_of
from services.types import Ask, Aws, Deployment, Message, PriceRef, Usage

NOT_SENT = CallRecord("c", "r", 0, CalledDeployment("d"))
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
GPT = Deployment(
    id="d",
    name="D",
    kind="openai",
    model="gpt-6.1-sol",
    base_url="https://api.openai.com/v1",
    wire="chat",
    price=PriceRef(provider="openai"),
)
OSS = Deployment(
    id="b",
    name="B",
    kind="bedrock",
    model="openai.gpt-oss-120b-1:0",
    base_url="https://h.example",
    wire="converse",
    region="us-east-1",
    aws=Aws(),
    price=PriceRef(provider="aws"),
)


def rate(price: Price | None) -> str | None:
    return price.rates["input"] if price and price.rates else None


def usage(**counts: int) -> Usage:
    return Usage(**counts, source="provider")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("tier", "input_rate", "context"),
    [
        (None, "2", {}),
        ("default", "2", {}),
        ("standard", "2", {}),
        ("flex", "1", {"service_tier": "flex", "asked": "default"}),
        ("priority", "4", {"service_tier": "priority", "asked": "default"}),
        ("PRIORITY ", "4", {"service_tier": "priority", "asked": "default"}),
        ("batch", "1", {"processing": "batch", "asked": "default"}),
        ("scale", None, None),
        ("platinum", "2", {"served": "platinum"}),
    ],
)
def test_the_tier_that_served_a_call_is_priced_and_an_unknown_word_changes_nothing(tier, input_rate, context) -> None:
    price = price_of(GPT, NOW, tier=tier)
    assert rate(price) == input_rate
    assert (None if price is None else dict(price.context)) == context


def test_a_call_that_asked_for_flex_and_was_served_by_the_standard_tier_has_the_standard_price() -> None:
    asked = replace(GPT, extra_body={"service_tier": "flex"})
    assert rate(price_of(asked, NOW)) == "1"
    served = price_of(asked, NOW, tier="default")
    assert served is not None and rate(served) == "2" and served.context == {"asked": "flex"}
    assert price_of(asked, NOW, tier="flex") == price_of(asked, NOW)


@pytest.mark.parametrize(
    ("tier", "wanted"),
    [(None, "0.15"), ("default", "0.15"), ("flex", "0.075"), ("priority", "0.2625"), ("reserved", None)],
)
def test_a_bedrock_tier_has_its_listed_price_and_the_reserved_one_none(tier: str | None, wanted: str | None) -> None:
    assert rate(price_of(replace(OSS, aws=Aws(service_tier=tier)), NOW)) == wanted


def test_the_tier_of_the_aws_settings_goes_before_that_of_the_body() -> None:
    assert tier_asked(replace(OSS, aws=Aws(service_tier="flex"), extra_body={"service_tier": "priority"})) == "flex"
    assert tier_asked(replace(OSS, extra_body={"service_tier": {"type": "priority"}})) == "priority"


def test_optimized_latency_has_no_price_of_the_standard_one() -> None:
    assert price_of(replace(OSS, aws=Aws(latency="optimized")), NOW) is None
    assert rate(price_of(replace(OSS, aws=Aws(latency="standard")), NOW)) == "0.15"


def test_a_batch_job_has_the_batch_price_and_forgets_the_tier() -> None:
    assert rate(price_of(replace(OSS, aws=Aws(service_tier="flex")), NOW, batch=True)) == "0.075"
    assert context_of(GPT, batch=True).listed == {"processing": "batch"}
    assert price_of(replace(OSS, model="us.anthropic.claude-sonnet-5-5"), NOW, batch=True) is None
    own = replace(GPT, price=PriceRef(override={"input": "3", "output": "15"}))
    assert price_of(own, NOW, batch=True) is None
    assert rate(price_of(own, NOW, tier="flex")) == "3"


def test_golden_costs_are_exact_to_the_micro_dollar() -> None:
    sonnet = Deployment(
        id="s",
        name="S",
        kind="bedrock",
        model="global.anthropic.claude-sonnet-4-5-20250929-v1:0",
        base_url="https://h.example",
        wire="converse",
        price=PriceRef(provider="aws"),
    )
    written = usage(uncached_input=3, cache_read=0, cache_write_5m=12_304, answer_output=550)
    assert cost(written, price_of(sonnet, NOW), complete=True).nanousd == 54_399_000
    plain = usage(uncached_input=12_307, answer_output=550)
    assert cost(plain, price_of(sonnet, NOW, batch=True), complete=True).nanousd == 22_585_500
    assert cost(plain, price_of(OSS, NOW, tier="priority"), complete=True).nanousd == 3_808_088
    assert cost(plain, price_of(OSS, NOW, tier="flex"), complete=True).nanousd == 1_088_025
    long = usage(uncached_input=272_001, answer_output=1_000)
    assert cost(long, price_of(GPT, NOW), complete=True).nanousd == 1_103_004_000
    short = usage(uncached_input=272_000, answer_output=1_000)
    assert cost(short, price_of(GPT, NOW), complete=True).nanousd == 554_000_000


def test_tokens_at_a_rate_that_the_price_leaves_out_make_a_lower_bound_and_not_a_guess() -> None:
    price = Price("t", "2026-01-01", rates={"input": "1", "output": "2"})
    found = cost(usage(uncached_input=10, cache_read=5, answer_output=1), price, complete=True)
    assert (found.state, found.nanousd, found.high_nanousd) == ("lower_bound", 12_000, None)
    assert cost(usage(uncached_input=10, cache_read=0, answer_output=1), price, complete=True).state == "exact"


def test_a_length_whose_price_is_not_known_has_no_price() -> None:
    sonnet = replace(OSS, model="us.anthropic.claude-sonnet-4-5-20250929-v1:0")
    price = price_of(sonnet, NOW, batch=True)
    assert cost(usage(uncached_input=200_000, answer_output=1), price, complete=True).state == "exact"
    assert cost(usage(uncached_input=200_001, answer_output=1), price, complete=True).state == "no_price"


def ended(deployment: Deployment, served: str | None) -> dict[str, Any]:
    """The row of a call that ended well, by the tier that its service named."""
    decoder = kind_of(deployment).decoder(deployment)
    decoder.usage = usage(uncached_input=1_000_000, answer_output=0)  # type: ignore[misc]
    decoder.tier(served)  # type: ignore[attr-defined]
    decoder._ended = True  # type: ignore[attr-defined]
    progress = Progress(decoder, deployment.limits)
    progress.t0, progress.status, progress.t0_wall = perf_counter_ns(), 200, NOW.timestamp()
    progress.end = perf_counter_ns()
    ask = Ask((Message("user", "Hello"),))
    price = price_of(deployment, NOW)
    return to_row(
        finished(NOT_SENT, Ended(deployment, ask, progress, Ending("ok"), price, 0, 0.0), store_text=False), END
    )


@pytest.mark.parametrize(
    ("asked", "served", "dollars", "state"),
    [
        ("flex", None, 1, "exact"),
        ("flex", "flex", 1, "exact"),
        ("flex", "default", 2, "exact"),
        ("auto", "priority", 4, "exact"),
        ("priority", "default", 2, "exact"),
        ("auto", "scale", None, "no_price"),
        ("flex", "bronze", 1, "exact"),
    ],
)
def test_a_row_is_costed_and_stored_with_the_price_of_the_tier_that_served_it(asked, served, dollars, state) -> None:
    # 272,000 tokens are the limit of the first tier by length, so a million is charged twice that.
    row = ended(replace(GPT, extra_body={"service_tier": asked}), served)
    assert row["cost_state"] == state
    assert row["cost_nanousd"] == (None if dollars is None else dollars * 2 * 10**9)
    assert row["tier_served"] == served
    stored = row["price"] and Price.from_json(row["price"])
    assert (stored is None) == (state == "no_price")
    if served == "default":
        assert stored.context == {"asked": asked}
    if served == "bronze":
        assert stored.context == {"service_tier": "flex", "served": "bronze"}


# --- by the hour ---------------------------------------------------------------------------------------------------


def hourly(region: str | None = None, **price: Any) -> Price | None:
    d = Deployment(
        id="h",
        name="H",
        kind="sagemaker",
        model="e",
        base_url="https://h.example",
        region=region,
        price=PriceRef(**price),
    )
    return price_of(d, NOW)


def test_an_hourly_price_is_that_of_all_instances_together() -> None:
    price = hourly(per_hour="1.408", count=3)
    assert price is not None and (price.per_hour, price.count, price.source) == ("4.224", 3, "deployment")
    assert Price.from_json(price.to_json()) == price
    assert cost(usage(uncached_input=1, answer_output=1), price, complete=True).state == "by_the_hour"


@pytest.mark.parametrize(
    ("instance", "count", "per_hour"),
    [
        ("ml.g5.xlarge", 1, "1.408"),
        ("g5.xlarge", 1, "1.006"),
        ("ml.g5.12xlarge", 2, "14.18"),
        ("ML.P5.48xlarge", 1, "63.296"),
        ("p5.48xlarge", 1, "55.04"),
    ],
)
def test_an_instance_type_is_looked_up_in_the_dated_file(instance: str, count: int, per_hour: str) -> None:
    price = hourly("us-east-1", instance=instance, count=count)
    assert price is not None and (price.per_hour, price.instance, price.count) == (per_hour, instance, count)
    assert price.source.startswith("SageMaker" if instance.lower().startswith("ml.") else "EC2")
    assert price.date[:4] in ("2025", "2026") and price.context["region"] in ("us-east-1", "us-west-2")


@pytest.mark.parametrize(("instance", "region"), [("ml.g9.xlarge", None), ("g5", None), ("g5.xlarge", "eu-west-1")])
def test_an_unknown_instance_or_another_region_has_no_price(instance: str, region: str | None) -> None:
    assert hourly(region, instance=instance) is None


def test_every_instance_price_says_its_source_its_day_and_a_price_above_nothing() -> None:
    found = instances.prices().values()
    assert len(found) > 60
    assert all(one.usd_per_hour > 0 and one.source and one.date and one.evidence for one in found)


@pytest.mark.parametrize(
    ("model", "commitment", "region", "usd"),
    [
        ("anthropic.claude-v2:1", "OneMonth", "us-east-1", "63.0"),
        ("anthropic.claude-v2:1", "6-month", "us-west-2", "34.99"),
        ("anthropic.claude-v2:1", "SixMonths", "eu-central-1", "82.98"),
        ("anthropic.claude-3-sonnet-20240229-v1:0", None, None, "88.0"),
        ("arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-text-lite-v1", "", None, "7.1"),
        ("cohere.command-text-v14", "OneMonth", "eu-west-3", "39.6"),
    ],
)
def test_provisioned_throughput_has_its_listed_price_per_unit(model, commitment, region, usd) -> None:
    found = instances.unit_price(model, commitment, region)
    assert found is not None and found.usd_per_unit_hour == Decimal(usd)
    assert found.source and found.date


@pytest.mark.parametrize(
    ("model", "commitment", "region"),
    [
        ("anthropic.claude-sonnet-5-5", "OneMonth", "us-east-1"),
        ("anthropic.claude-v2:1", None, "us-east-1"),
        ("anthropic.claude-v2:1", "OneMonth", "sa-east-1"),
        ("anthropic.claude-v2:1", "TwoYears", "us-east-1"),
    ],
)
def test_what_the_file_does_not_list_needs_a_quote(model, commitment, region) -> None:
    assert instances.unit_price(model, commitment, region) is None


def test_a_published_capacity_without_a_published_price_stays_without_one() -> None:
    found = instances.unit_price("gpt-4.1", "none", provider="azure-openai")
    assert found is not None and found.usd_per_unit_hour is None and found.input_tpm == 3000
