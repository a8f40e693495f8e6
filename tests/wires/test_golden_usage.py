"""Usage payloads of every wire as the services send them: disjoint counts, the service's own total, and the cost.

Each row of golden_usage.json: ``payload`` as the wire carries it, ``counts`` (uncached, cache read, write 5 min, write
1 h, reasoning, answer; null = not said), ``total`` as the service counts, ``price`` in $ per 1,000,000 tokens, and the
cost in micro-dollars, which is tokens × that rate and was worked out apart from the product (with fractions).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from services.pricing import cost as pricing_cost
from services.providers import KINDS, kind_of
from services.providers.decoder import WireDecoder
from services.types import Aws, Deployment, PriceRef
from services.wire.framing import ServerEvent

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent / "golden_usage.json").read_text())
BY_NAME = pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
NAMES = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output")


def _deployment(row: dict[str, Any]) -> Deployment:
    on_aws = KINDS[row["kind"]].on_aws or bool(row.get("aws"))
    return Deployment(
        "d",
        "D",
        row["kind"],
        row["model"],
        "https://host.example",
        row["wire"],
        region="us-east-1" if on_aws else None,
        aws=Aws(service_tier=row.get("tier")) if on_aws else None,
        price=PriceRef(override=row["price"]),
    )


def _events(row: dict[str, Any]) -> list[tuple[str, Any]]:
    """The shortest stream of the wire that ends well and carries the payload where the wire has it."""
    payload, tier = row["payload"], row.get("tier")
    if row["wire"] == "messages":
        return [
            ("", {"type": "message_start", "message": {}}),
            ("", {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": payload}),
            ("", {"type": "message_stop"}),
        ]
    if row["wire"] == "responses":
        response = {"status": "completed", "usage": payload, "service_tier": tier}
        return [("", {"type": "response.completed", "response": response})]
    if row["wire"] == "converse":
        served = {"serviceTier": {"type": tier}} if tier else {}
        return [("messageStop", {"stopReason": "end_turn"}), ("metadata", {"usage": payload, **served})]
    if row["wire"] == "invoke":
        bodies = [payload]
        if row["family"] == "claude":
            delta = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": payload["usage"]}
            rest = {name: value for name, value in payload.items() if name != "usage"}
            bodies = [delta, {"type": "message_stop", **rest}]
        return [("chunk", {"bytes": base64.b64encode(json.dumps(body).encode()).decode()}) for body in bodies]
    if row["wire"] in ("tgi", "lines"):
        return [("", {"token": {"text": "x"}, "generated_text": "x", "details": payload})]
    chunk = {"choices": [{"delta": {}, "finish_reason": "stop"}], "service_tier": tier}
    return [("", chunk), ("", {"choices": [], "usage": payload})]


def _read(row: dict[str, Any]) -> WireDecoder:
    target = _deployment(row)
    decoder = kind_of(target).decoder(target)
    assert isinstance(decoder, WireDecoder)
    for name, body in _events(row):
        decoder.feed(ServerEvent(name, json.dumps(body).encode()))
    assert decoder.terminal
    return decoder


def test_there_are_forty_payloads_of_every_wire_and_kind_of_deployment() -> None:
    assert len(ROWS) >= 40
    assert {row["wire"] for row in ROWS} == {wire for kind in KINDS.values() for wire in kind.wires}
    assert {row["kind"] for row in ROWS} == set(KINDS) - {"bedrock-provisioned"}  # the same wire, paid by the hour


@BY_NAME
def test_the_counts_are_disjoint_exact_and_sum_to_the_services_own_total(row: dict[str, Any]) -> None:
    usage = _read(row).usage
    assert usage is not None
    assert [getattr(usage, name) for name in NAMES] == row["counts"]
    assert (usage.input_total or 0) + (usage.output_total or 0) == row["total"]
    assert usage.source == "provider"
    assert usage.raw


@BY_NAME
def test_the_cost_is_exact_to_a_micro_dollar(row: dict[str, Any]) -> None:
    decoder = _read(row)
    assert decoder.usage is not None
    price = pricing_cost.price_of(_deployment(row), datetime(2026, 11, 3, tzinfo=UTC))
    cost = pricing_cost.cost(decoder.usage, price, complete=True)
    assert cost.state == row.get("cost_state", "exact")
    assert cost.nanousd is not None
    assert abs(Decimal(cost.nanousd) / 1000 - Decimal(row["cost_microusd"])) <= Decimal("0.003")
    assert sum(cost.drivers.values()) == cost.nanousd


@BY_NAME
def test_the_tier_that_served_is_the_one_the_service_names(row: dict[str, Any]) -> None:
    assert _read(row).served_tier == row.get("tier")
