"""Makes ``litellm_prices.json`` anew from a wheel of LiteLLM: the prices of chat models of the providers we name.

    pip download litellm --no-deps -d /tmp/litellm
    python -m scripts.refresh_litellm /tmp/litellm/litellm-*.whl

The list is under LiteLLM's MIT licence (its ``enterprise/`` folder is not, and is not read). No code of the package is
run. After it, `tests/test_price_lists.py` says where the new list and genai-prices disagree.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

INSIDE = "litellm/model_prices_and_context_window_backup.json"
FILE = Path(__file__).resolve().parents[1] / "services" / "data" / "litellm_prices.json"
MODES = ("chat", "responses")
# LiteLLM's provider → the provider of genai-prices, whose names the product speaks. Only providers on whose standard
# prices the two lists agree: on DeepSeek, Mistral and xAI they contradict each other for one model in three.
PROVIDERS: Mapping[str, str] = {
    "anthropic": "anthropic",
    "openai": "openai",
    "bedrock": "aws",
    "bedrock_converse": "aws",
    "bedrock_mantle": "aws",
}
RATES: Mapping[str, str] = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
}
CONTEXTS: Mapping[str, str] = {"": "standard", "_batches": "batch", "_flex": "flex", "_priority": "priority"}
FIELD = re.compile(
    rf"(?P<rate>{'|'.join(sorted(RATES, key=len, reverse=True))})"
    r"(?:_above_(?P<above>\d+)k_tokens)?(?P<context>_batches|_flex|_priority)?\Z"
)
# Prices by the second, by the video or by the commitment are not those of a token.
NOT_BY_TOKEN = ("commitment", "claude_platform")
Tables = dict[str, dict[str, dict[str, str]]]  # context → input tokens above → rate → US dollars per 1,000,000 tokens


def prices(row: Mapping[str, Any]) -> Tables:
    """The token prices of one model; empty when it has none for input or none for output."""
    tables: Tables = {}
    for name, value in row.items():
        field = FIELD.match(name)
        if field is None or not isinstance(value, Decimal | int) or value < 0:
            continue
        above = str(int(field["above"] or 0) * 1000)
        context = CONTEXTS[field["context"] or ""]
        tables.setdefault(context, {}).setdefault(above, {})[RATES[field["rate"]]] = dollars(Decimal(value))
    complete = {context: table for context, table in tables.items() if {"input", "output"} <= set(table.get("0", ()))}
    return complete if _charged(complete) and _reasoning_is_output(row) else {}


def dollars(per_token: Decimal) -> str:
    """US dollars per 1,000,000 tokens, without needless zeros."""
    return format((per_token * 1_000_000).normalize(), "f")


def _charged(tables: Tables) -> bool:
    """False without a standard price, and for one of 0 and 0: LiteLLM writes that where it knows none."""
    rates = tables.get("standard", {}).get("0", {})
    return any(Decimal(rates.get(name, "0")) for name in ("input", "output"))


def _reasoning_is_output(row: Mapping[str, Any]) -> bool:
    """Whether reasoning is charged like the answer: the product has one output rate for both."""
    apart = row.get("output_cost_per_reasoning_token")
    return apart is None or apart == row.get("output_cost_per_token")


def snapshot(wheel: Path, today: str) -> dict[str, Any]:
    """The filtered list. Raises KeyError when the wheel does not hold it."""
    with zipfile.ZipFile(wheel) as archive:
        listed = json.loads(archive.read(INSIDE), parse_float=Decimal)
    models: dict[str, dict[str, Tables]] = {name: {} for name in sorted(set(PROVIDERS.values()))}
    for name, row in sorted(listed.items()):
        provider = PROVIDERS.get(str(row.get("litellm_provider")))
        if provider is None or row.get("mode") not in MODES or any(word in name for word in NOT_BY_TOKEN):
            continue
        tables = prices(row)
        if tables:
            models[provider][own_name(name, provider, row["litellm_provider"])] = tables
    return {
        "source": "LiteLLM",
        "version": wheel.name.split("-")[1],
        "date": today,
        "licence": "MIT, Copyright (c) 2023 Berri AI",
        "url": "https://github.com/BerriAI/litellm/blob/main/model_prices_and_context_window.json",
        "unit": "US dollars per 1,000,000 tokens, by context and by input tokens above",
        "models": models,
    }


def own_name(name: str, provider: str, litellm_provider: str) -> str:
    """The model's name without LiteLLM's prefix of the provider. Bedrock's prefixes say the region and are kept."""
    return name.lower() if provider == "aws" else name.removeprefix(f"{litellm_provider}/").lower()


def main(wheel: str) -> None:
    """Write the snapshot of today."""
    listing = snapshot(Path(wheel), datetime.now(UTC).date().isoformat())
    FILE.write_text(json.dumps(listing, separators=(",", ":"), sort_keys=True) + "\n", encoding="utf-8")
    counts = ", ".join(f"{provider} {len(rows)}" for provider, rows in listing["models"].items())
    print(f"{FILE.name}: LiteLLM {listing['version']}, {FILE.stat().st_size / 1000:.0f} kB; models: {counts}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("Give one wheel of LiteLLM: python -m scripts.refresh_litellm WHEEL")
    main(sys.argv[1])
