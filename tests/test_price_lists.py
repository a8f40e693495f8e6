"""The two price lists: which row a Bedrock identifier gets, what each is used for, and where they disagree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from zipfile import ZipFile

import pytest

from scripts import refresh_litellm
from services.aws.bedrock_ids import ModelId, parsed, same_model
from services.pricing import sources as pricing_sources

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BATCH = {"processing": "batch"}
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"
PROFILE = "arn:aws:bedrock:eu-west-1:123456789012:inference-profile/"


def price(model: str, context: dict[str, str] | None = None, region: str | None = None, provider: str = "aws"):
    found = pricing_sources.listed(provider, model, NOW, context or {}, region)
    return found and (found.source.split()[0], str(found.rates["input"]), str(found.rates["output"]))


@pytest.mark.parametrize(
    ("model", "region", "wanted"),
    [
        (f"us.{SONNET}", "us-east-1", ("genai-prices", "3.3", "16.5")),
        (f"global.{SONNET}", "eu-west-1", ("genai-prices", "3", "15")),
        (SONNET, "us-east-1", ("genai-prices", "3.3", "16.5")),
        (SONNET, "eu-central-1", ("genai-prices", "3.3", "16.5")),
        (f"{PROFILE}eu.{SONNET}", None, ("LiteLLM", "3.3", "16.5")),
        (f"{PROFILE}global.{SONNET}", None, ("genai-prices", "3", "15")),
        (f"arn:aws:bedrock:us-west-2::foundation-model/{SONNET}", None, ("genai-prices", "3.3", "16.5")),
        ("us.anthropic.claude-opus-4-5-20251101-v1:0", "us-east-1", ("genai-prices", "5.5", "27.5")),
        ("amazon.nova-pro-v1:0", "us-east-1", ("genai-prices", "0.8", "3.2")),
        ("us.amazon.nova-pro-v1:0", "us-east-1", ("genai-prices", "0.8", "3.2")),
        ("eu.amazon.nova-pro-v1:0", "eu-west-1", ("LiteLLM", "1.05", "4.2")),
        ("jp.amazon.nova-2-lite-v1:0", "ap-northeast-1", ("LiteLLM", "0.396", "3.311")),
        ("meta.llama3-8b-instruct-v1:0", "us-east-1", ("genai-prices", "0.3", "0.6")),
        ("meta.llama3-8b-instruct-v1:0", "sa-east-1", ("LiteLLM", "0.5", "1.01")),
        ("us-gov.anthropic.claude-sonnet-5-5", "us-gov-west-1", ("LiteLLM", "2.4", "12")),
        ("anthropic.claude-sonnet-5-5", "us-gov-west-1", ("LiteLLM", "2.4", "12")),
        ("deepseek.v3.2", "us-east-1", ("LiteLLM", "0.62", "1.85")),
    ],
)
def test_a_bedrock_identifier_has_the_price_of_its_own_geography(model, region, wanted) -> None:
    assert price(model, region=region) == wanted


@pytest.mark.parametrize(
    ("model", "region"),
    [
        ("global.amazon.nova-pro-v1:0", "us-east-1"),
        ("sa.amazon.nova-pro-v1:0", "sa-east-1"),
        ("amazon.nova-pro-v2:0", "us-east-1"),
        ("amazon.nova-pro-v1:0", "eu-central-1"),
        ("us.anthropic.claude-sonnet-4-5-mine-v1:0", "us-east-1"),
        ("my.anthropic.claude-sonnet-5-5", "us-east-1"),
        ("claude-sonnet-5-5", "us-east-1"),
        ("us-gov.meta.llama3-3-70b-instruct-v1:0", "us-gov-west-1"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3", None),
        (f"arn:aws:bedrock:us-east-1:123456789012:provisioned-model/{SONNET}", None),
        ("arn:aws:bedrock:us-east-1:123456789012:custom-model-deployment/x", None),
        ("", None),
    ],
)
def test_what_no_list_names_for_that_geography_has_no_price(model, region) -> None:
    assert price(model, region=region) is None


def test_the_lists_own_matching_would_have_given_some_of_those_the_us_price() -> None:
    aws = pricing_sources._providers()["aws"]
    assert aws.find_model("eu.amazon.nova-pro-v1:0").id == "amazon.nova-pro-v1:0"
    assert aws.find_model("my.anthropic.claude-3-haiku-20240307-v1:0") is not None


@pytest.mark.parametrize(
    ("model", "context", "wanted"),
    [
        (f"us.{SONNET}", BATCH, ("LiteLLM", "1.65", "8.25")),
        (f"global.{SONNET}", BATCH, ("LiteLLM", "1.5", "7.5")),
        ("openai.gpt-oss-120b-1:0", BATCH, ("LiteLLM", "0.075", "0.3")),
        ("openai.gpt-oss-120b-1:0", {"service_tier": "flex"}, ("LiteLLM", "0.075", "0.3")),
        ("openai.gpt-oss-120b-1:0", {"service_tier": "priority"}, ("LiteLLM", "0.2625", "1.05")),
        ("amazon.nova-pro-v1:0", {"service_tier": "priority"}, ("LiteLLM", "1.4", "5.6")),
        ("us.anthropic.claude-sonnet-5-5", BATCH, None),
        ("us.anthropic.claude-opus-5", BATCH, None),
        ("amazon.nova-lite-v1:0", {"service_tier": "priority"}, None),
        ("openai.gpt-oss-120b-1:0", {"service_tier": "reserved"}, None),
        ("amazon.nova-pro-v1:0", {"latency": "optimized"}, None),
        ("openai.gpt-oss-120b-1:0", BATCH | {"service_tier": "flex"}, None),
    ],
)
def test_bedrock_batch_flex_and_priority_come_from_the_second_list_or_not_at_all(model, context, wanted) -> None:
    assert price(model, context, "us-east-1") == wanted


def test_a_row_that_contradicts_the_first_list_is_not_used_for_a_discount() -> None:
    # LiteLLM's row without a geography is the price of global inference: half of it is not the batch price of a region.
    assert pricing_sources.litellm_price("aws", SONNET, BATCH, "us-east-1").rates["input"] == Decimal("1.5")
    assert price(SONNET, BATCH, "us-east-1") is None


def test_the_first_list_goes_before_the_second_for_openai_and_anthropic() -> None:
    assert price("gpt-6.1-sol", {"service_tier": "flex"}, provider="openai") == ("genai-prices", "1", "5")
    assert price("claude-haiku-4-5", BATCH, provider="anthropic") == ("genai-prices", "0.5", "2.5")


def test_a_batch_price_says_nothing_about_lengths_that_only_the_standard_price_tells_apart() -> None:
    found = pricing_sources.litellm_price("aws", f"us.{SONNET}", BATCH, "us-east-1")
    assert found.tiers == ((200_000, {}),)
    assert "cache_read" not in found.rates


def test_the_snapshot_says_where_and_when_it_is_from_and_is_small() -> None:
    data = pricing_sources.snapshot()
    assert (data["source"], data["licence"]) == ("LiteLLM", "MIT, Copyright (c) 2023 Berri AI")
    assert datetime.fromisoformat(data["date"]).date() <= datetime.now(UTC).date()
    file = Path(refresh_litellm.FILE)
    assert file.stat().st_size < 400_000
    assert file.with_name("litellm_LICENSE.txt").read_text().count("Permission is hereby granted") == 1
    for models in data["models"].values():
        for tables in models.values():
            assert all(
                Decimal(rate) >= 0 for table in tables.values() for row in table.values() for rate in row.values()
            )


def test_refreshing_takes_only_token_prices_of_chat_models(tmp_path: Path) -> None:
    wheel = tmp_path / "litellm-9.8.7-py3-none-any.whl"
    chat = {"litellm_provider": "bedrock", "mode": "chat", "input_cost_per_token": 1.375e-07}
    listed = {
        "us.one.model": chat
        | {
            "output_cost_per_token": 5e-07,
            "output_cost_per_token_flex": 2.5e-07,
            "input_cost_per_token_above_200k_tokens": 2e-07,
            "search_context_cost_per_query": {},
        },
        "free.model": chat | {"input_cost_per_token": 0, "output_cost_per_token": 0},
        "bedrock/us-east-1/1-month-commitment/old.model": chat | {"output_cost_per_token": 1e-6},
        "reasons.apart": chat | {"output_cost_per_token": 1e-6, "output_cost_per_reasoning_token": 2e-6},
        "half.model": chat,
        "picture.model": chat | {"mode": "image_generation", "output_cost_per_token": 1e-6},
        "elsewhere": chat | {"litellm_provider": "nobody", "output_cost_per_token": 1e-6},
    }
    with ZipFile(wheel, "w") as archive:
        archive.writestr(refresh_litellm.INSIDE, json.dumps(listed))
    made = refresh_litellm.snapshot(wheel, "2026-11-24")
    assert (made["version"], made["date"]) == ("9.8.7", "2026-11-24")
    assert made["models"]["aws"] == {
        "us.one.model": {"standard": {"0": {"input": "0.1375", "output": "0.5"}, "200000": {"input": "0.2"}}}
    }


@pytest.mark.parametrize(
    ("listed", "asked", "same"),
    [
        ("anthropic.claude-opus-4-5-v1:0", "anthropic.claude-opus-4-5-20251101-v1:0", True),
        ("anthropic.claude-opus-5", "anthropic.claude-opus-5-v1:0", True),
        ("nvidia.nemotron-nano-9b-v2:0", "nvidia.nemotron-nano-9b-v2", True),
        ("nvidia.nemotron-nano-9b-v2:0", "nvidia.nemotron-nano-9b", False),
        ("mistral.mistral-7b-instruct-v0:2", "mistral.mistral-7b-instruct-v0:3", False),
        ("anthropic.claude-opus-5", "anthropic.claude-opus-5-5", False),
        ("anthropic.claude-opus-4-v1:0", "anthropic.claude-opus-4-5-v1:0", False),
    ],
)
def test_two_names_are_one_model_only_up_to_date_and_first_version(listed, asked, same) -> None:
    assert same_model(listed, asked) is same


def test_an_arn_gives_its_own_region_before_that_of_the_deployment() -> None:
    found = parsed("arn:aws-us-gov:bedrock:us-gov-east-1::foundation-model/amazon.nova-pro-v1:0", "us-east-1")
    assert found == ModelId("amazon.nova-pro-v1:0", None, "us-gov-east-1")
    assert found.in_govcloud and not found.in_us


# --- where the lists disagree --------------------------------------------------------------------------------------

# LiteLLM's rows of Bedrock models without a geography are the prices of global inference, 10 % lower.
GLOBAL_ROWS = {
    "anthropic.claude-fable-5",
    "anthropic.claude-fable-5-1",
    "anthropic.claude-haiku-4-5-20251001-v1:0",
    "anthropic.claude-haiku-5-5",
    "anthropic.claude-opus-4-5-20251101-v1:0",
    "anthropic.claude-opus-4-6-v1",
    "anthropic.claude-opus-4-7",
    "anthropic.claude-opus-4-8",
    "anthropic.claude-opus-5",
    "anthropic.claude-opus-5-5",
    "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "anthropic.claude-sonnet-4-6",
    "anthropic.claude-sonnet-5",
    "anthropic.claude-sonnet-5-5",
    "amazon.nova-2-lite-v1:0",
    "openai.gpt-6-luna",
    "openai.gpt-6-sol",
    "bedrock_mantle/anthropic.claude-haiku-5-5",
    "bedrock_mantle/anthropic.claude-opus-5-5",
    "bedrock_mantle/anthropic.claude-sonnet-5-5",
    "bedrock_mantle/openai.gpt-6-luna",
    "bedrock_mantle/openai.gpt-6-sol",
}
# genai-prices has one row for us., eu. and jp.; LiteLLM's own one for each goes first (`services.pricing.sources`).
ONE_ROW_FOR_ALL = {"eu.amazon.nova-2-lite-v1:0", "jp.amazon.nova-2-lite-v1:0"}


def shared() -> Iterator[tuple[str, str, dict[str, str], pricing_sources.ListedPrice, pricing_sources.ListedPrice]]:
    for provider, models in pricing_sources.snapshot()["models"].items():
        for key in models:
            parts = key.split("/")
            region = parts[1] if provider == "aws" and len(parts) == 3 else None
            for context in ({}, BATCH, {"service_tier": "flex"}, {"service_tier": "priority"}):
                first = pricing_sources.genai_price(provider, parts[-1], NOW, context, region)
                second = pricing_sources.litellm_price(provider, parts[-1], context, region)
                if first is not None and second is not None:
                    yield provider, key, context, first, second


def test_both_lists_agree_on_input_and_output_of_every_model_they_share_but_for_known_ones() -> None:
    rows = list(shared())
    differ = {key for _, key, _, one, two in rows if any(one.rates[n] != two.rates[n] for n in ("input", "output"))}
    assert len(rows) > 400
    assert differ == GLOBAL_ROWS | ONE_ROW_FOR_ALL


def test_every_known_disagreement_of_a_row_without_geography_is_ten_per_cent() -> None:
    for _, key, _, first, second in shared():
        if key in GLOBAL_ROWS:
            assert first.rates["input"] == second.rates["input"] * Decimal("1.1"), key
