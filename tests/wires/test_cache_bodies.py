"""Prompt caching in the requests: each mode the way its wire says it, and no mode that a deployment does not have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.call_record import from_row
from services.deployments.catalog import embedded_deployments
from services.providers import kind_of
from services.providers.caching import DROPPED
from services.providers.openai import prefix_key
from services.runs import record as runs_record
from services.types import Ask, Aws, CacheMode, Deployment, Message, Wire
from tests.wires.helpers import deployment

MODES: tuple[CacheMode, ...] = ("off", "auto", "5m", "1h")
CLAUDE = deployment("anthropic", "messages", "claude-haiku-4-5")
LOCAL = {d.id: d for d in embedded_deployments()}
ON_BEDROCK = replace(CLAUDE, aws=Aws(), region="us-east-1", base_url="https://bedrock-mantle.us-east-1.api.aws")
TURNS = (Message("user", "One"), Message("assistant", "Two"), Message("user", "Three"))


def body(to: Deployment, cache: CacheMode | None, *, system: str | None = "Long.", turns: int = 1) -> dict[str, Any]:
    ask = Ask(TURNS[-turns:], system, {"max_tokens": 50}, cache)
    return dict(kind_of(to).request(to, ask).body)


def mark(ttl: str) -> dict[str, Any]:
    return {"cache_control": {"type": "ephemeral", "ttl": ttl}}


def test_nothing_is_said_about_caching_unless_it_was_asked_for() -> None:
    assert body(CLAUDE, None) == body(CLAUDE, "off")
    assert "cache" not in str(body(CLAUDE, None))
    for to in (deployment("openai", "responses", "gpt-6.2-sol"), deployment("openai-compatible", "chat", "qwen3")):
        assert "cache" not in str(body(to, None))


def test_automatic_caching_of_claude_is_one_marker_for_the_whole_request() -> None:
    sent = body(CLAUDE, "auto")
    assert sent["cache_control"] == {"type": "ephemeral"}
    assert (sent["system"], sent["messages"][0]["content"]) == ("Long.", "Three")


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_an_explicit_breakpoint_stands_on_the_system_prompt(ttl: CacheMode) -> None:
    sent = body(CLAUDE, ttl)
    assert sent["system"] == [{"type": "text", "text": "Long.", **mark(ttl)}]
    assert sent["messages"] == [{"role": "user", "content": "Three"}]
    assert "cache_control" not in sent


@pytest.mark.parametrize("ttl", ["5m", "1h"])
def test_without_a_system_prompt_and_in_a_conversation_the_last_message_is_marked(ttl: CacheMode) -> None:
    marked = {"role": "user", "content": [{"type": "text", "text": "Three", **mark(ttl)}]}
    alone = body(CLAUDE, ttl, system=None)
    assert ("system" in alone, alone["messages"]) == (False, [marked])
    talk = body(CLAUDE, ttl, turns=3)
    assert talk["system"] == [{"type": "text", "text": "Long.", **mark(ttl)}]
    assert talk["messages"] == [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        marked,
    ]


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_openai_gets_a_key_that_names_the_prefix_and_says_nothing_of_it(wire: Wire) -> None:
    to = deployment("openai", wire, "gpt-4.1")
    key = body(to, "auto", system="A secret prompt.")["prompt_cache_key"]
    assert key == body(to, "auto", system="A secret prompt.", turns=3)["prompt_cache_key"], "stable"
    assert key != body(to, "auto", system="Another prompt.")["prompt_cache_key"]
    assert key != prefix_key("gpt-4o", "A secret prompt.")
    assert (len(key), "secret" in key) == (32, False)


@pytest.mark.parametrize(
    ("model", "can"), [("gpt-5.6-luna", True), ("gpt-6.2-sol", True), ("gpt-5.5", False), ("gpt-4.1", False)]
)
@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_openai_is_kept_from_caching_only_where_it_can_be(wire: Wire, model: str, can: bool) -> None:
    to = deployment("openai", wire, model)
    assert ("off" in kind_of(to).cache_modes(to)) is can
    assert body(to, "off").get("prompt_cache_options") == ({"mode": "explicit"} if can else None)


@pytest.mark.parametrize("wire", ["chat", "responses"])
def test_a_server_of_ones_own_is_kept_from_its_cache_by_a_salt_of_its_own_for_each_call(wire: Wire) -> None:
    to = deployment("openai-compatible", wire, "qwen3")
    first, second = body(to, "off"), body(to, "off")
    assert first["cache_prompt"] is False
    assert len(first["cache_salt"]) == 32
    assert first["cache_salt"] != second["cache_salt"]
    assert body(to, "auto") == body(to, None)


@pytest.mark.parametrize(
    ("to", "modes"),
    [
        (CLAUDE, ("off", "auto", "5m", "1h")),
        (ON_BEDROCK, ("off", "5m", "1h")),
        (deployment("anthropic", "messages", "qwen3"), ("auto",)),
        (deployment("openai", "responses", "qwen3"), ("auto",)),
        (deployment("openai-compatible", "chat", "qwen3"), ("auto", "off")),
        (LOCAL["local-chat"], ("auto", "off")),
        (LOCAL["local-responses"], ("auto", "off")),
        (LOCAL["local-messages"], ("auto",)),
    ],
)
def test_each_deployment_offers_the_modes_it_has(to: Deployment, modes: tuple[CacheMode, ...]) -> None:
    assert kind_of(to).cache_modes(to) == modes


@pytest.mark.parametrize("to", [CLAUDE, ON_BEDROCK, *LOCAL.values(), deployment("openai", "chat", "gpt-4.1")])
@pytest.mark.parametrize("mode", MODES)
def test_a_mode_that_a_deployment_does_not_have_is_dropped_with_a_reason(to: Deployment, mode: CacheMode) -> None:
    request = kind_of(to).request(to, Ask(TURNS[-1:], "Long.", {}, mode))
    has = mode in kind_of(to).cache_modes(to)
    assert (DROPPED in request.dropped_params) is not has
    if not has:
        assert len(request.dropped_params[DROPPED]) > 15
        assert "cache" not in str(dict(request.body))


def test_the_server_of_ours_is_told_so_at_its_real_address_too() -> None:
    sent_to = replace(LOCAL["local-responses"], base_url="http://127.0.0.1:4321")
    assert body(sent_to, "off")["cache_prompt"] is False


def test_a_recorded_call_is_built_again_with_its_caching() -> None:
    row = {
        "deployment": {
            "id": "c",
            "name": "C",
            "kind": "anthropic",
            "model": "claude-haiku-4-5",
            "wire": "messages",
            "base_url": "https://api.anthropic.com",
        },
        "request": {"ask": {"messages": [{"role": "user", "text": "Hi"}], "system": "S", "params": {}, "cache": "1h"}},
    }
    made = runs_record.request_of(from_row(row))
    assert made is not None
    assert made.body["system"][0]["cache_control"]["ttl"] == "1h"
