"""Requests: the right address, body and headers, and nothing sent that the model refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from services.params import PARAMS
from services.providers import KINDS, kind_of
from services.providers.base import endpoint
from services.types import Ask, Message, Wire
from tests.wires.helpers import deployment

EVERYTHING: dict[str, Any] = {
    "temperature": 0.2,
    "top_p": 0.5,
    "top_k": 3,
    "max_tokens": 4000,
    "stop": ["END"],
    "seed": 7,
    "reasoning_effort": "low",
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
}
PAIRS: list[tuple[str, Wire, str]] = [
    ("anthropic", "messages", "claude-opus-5-5"),
    ("anthropic", "messages", "claude-haiku-4-5"),
    ("anthropic", "messages", "claude-sonnet-4-6"),
    ("anthropic", "messages", "smollm2-135m-instruct"),
    ("openai", "responses", "gpt-6.2-sol"),
    ("openai", "chat", "gpt-5.2"),
    ("openai", "chat", "gpt-4.1"),
    ("openai", "responses", "o3"),
    ("openai", "responses", "smollm2-135m-instruct"),
    ("openai-compatible", "chat", "qwen3"),
    ("openai-compatible", "responses", "qwen3"),
    ("bedrock", "converse", "us.anthropic.claude-haiku-4-5-20251001-v1:0"),
    ("bedrock", "converse", "us.anthropic.claude-opus-5-5"),
    ("bedrock", "converse", "us.amazon.nova-2-lite-v1:0"),
    ("bedrock", "converse", "meta.llama3-8b-instruct-v1:0"),
    ("bedrock", "converse", "openai.gpt-oss-20b-1:0"),
    ("bedrock", "converse", "arn:aws:bedrock:us-east-1:123456789012:imported-model/abcdefghij12"),
    ("bedrock-provisioned", "converse", "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"),
    ("bedrock", "invoke", "us.anthropic.claude-sonnet-4-6"),
    ("bedrock", "invoke", "meta.llama3-8b-instruct-v1:0"),
    ("bedrock", "invoke", "mistral.mistral-7b-instruct-v0:2"),
    ("bedrock", "invoke", "openai.gpt-oss-20b-1:0"),
    ("bedrock", "invoke", "amazon.titan-text-express-v1"),
    ("bedrock", "invoke", "amazon.nova-lite-v1:0"),
    ("bedrock", "invoke", "mistral.mistral-large-2407-v1:0"),
    ("bedrock", "invoke", "qwen.qwen3-32b-v1:0"),
    ("sagemaker", "chat", "my-endpoint"),
    ("sagemaker", "tgi", "my-endpoint"),
    ("sagemaker", "lines", "my-endpoint"),
]


def ask(**params: Any) -> Ask:
    return Ask((Message("user", "Hello"),), "Be brief.", params)


def built(kind: str, wire: Wire, model: str, /, extra: dict[str, Any] | None = None, **params: Any) -> Any:
    target = deployment(kind, wire, model, extra_body=extra or {})
    return kind_of(target).request(target, ask(**params))


@pytest.mark.parametrize(("kind", "wire", "model"), PAIRS)
def test_every_asked_parameter_is_either_sent_or_dropped_with_a_reason(kind: str, wire: Wire, model: str) -> None:
    request = built(kind, wire, model, **EVERYTHING)
    assert set(request.sent_params) | set(request.dropped_params) == set(PARAMS)
    assert not set(request.sent_params) & set(request.dropped_params)
    assert all(len(why) > 15 and not why.endswith(".") for why in request.dropped_params.values())
    assert request.body.get("stream", True) is True
    assert request.framing != "sse" or "stream" in request.body
    json.dumps(request.body)


@pytest.mark.parametrize(("kind", "wire", "model"), PAIRS)
def test_what_is_sent_is_among_what_the_deployment_says_it_accepts(kind: str, wire: Wire, model: str) -> None:
    target = deployment(kind, wire, model)
    accepts = kind_of(target).accepts(target)
    for name in PARAMS:
        request = kind_of(target).request(target, ask(**{name: EVERYTHING[name], "max_tokens": 4000}))
        assert (name in request.sent_params) <= (name in accepts), name


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h.example", "https://h.example/v1/messages"),
        ("https://h.example/", "https://h.example/v1/messages"),
        ("https://h.example/v1", "https://h.example/v1/messages"),
        ("https://h.example/v1/", "https://h.example/v1/messages"),
        ("https://h.example/v1/messages", "https://h.example/v1/messages"),
        ("https://h.example/proxy/openai", "https://h.example/proxy/openai/v1/messages"),
        ("https://h.example/v1beta/openai/", "https://h.example/v1beta/openai/messages"),
        ("https://h.example/openai/v1?api-version=preview", "https://h.example/openai/v1/messages?api-version=preview"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1/messages"),
        ("embedded://main", "embedded://main/v1/messages"),
    ],
)
def test_a_base_url_may_be_written_in_any_of_the_usual_ways(base: str, url: str) -> None:
    assert endpoint(base, "/messages") == url


def test_the_messages_request_is_true_to_the_wire() -> None:
    request = built("anthropic", "messages", "claude-haiku-4-5", temperature=0.2, top_k=3, stop=["END"], max_tokens=50)
    assert request.url.endswith("/v1/messages")
    assert request.headers["anthropic-version"] == "2023-06-01"
    assert request.auth == ("x-api-key", "{key}")
    assert request.body == {
        "model": "claude-haiku-4-5",
        "messages": [{"role": "user", "content": "Hello"}],
        "system": "Be brief.",
        "stream": True,
        "max_tokens": 50,
        "temperature": 0.2,
        "top_k": 3,
        "stop_sequences": ["END"],
    }


def test_the_messages_wire_always_gets_a_token_limit() -> None:
    assert built("anthropic", "messages", "claude-haiku-4-5").body["max_tokens"] == 1024
    assert built("anthropic", "messages", "claude-opus-5-5").body["max_tokens"] == 8192


THINKING: list[tuple[str, str | None, Any, Any]] = [
    ("claude-opus-5-5", None, {"type": "adaptive", "display": "summarized"}, None),
    ("claude-opus-5-5", "xhigh", {"type": "adaptive", "display": "summarized"}, {"effort": "xhigh"}),
    ("claude-opus-5-5", "none", {"type": "adaptive", "display": "summarized"}, None),
    ("claude-opus-5", "none", {"type": "disabled"}, None),
    ("claude-sonnet-5-5", "none", {"type": "between_tools"}, None),
    ("claude-haiku-5-5", "none", {"type": "disabled"}, None),
    ("claude-fable-5-2", "none", {"type": "adaptive", "display": "summarized"}, None),
    ("claude-opus-4-7", None, None, None),
    ("claude-opus-4-7", "xhigh", {"type": "adaptive", "display": "summarized"}, {"effort": "xhigh"}),
    ("claude-opus-4-6", "xhigh", None, None),
    ("claude-sonnet-4-6", "max", {"type": "adaptive", "display": "summarized"}, {"effort": "max"}),
    ("claude-haiku-4-5-20251001", "medium", {"type": "enabled", "budget_tokens": 2000}, None),
    ("claude-sonnet-4-5", "low", {"type": "enabled", "budget_tokens": 1024}, None),
    ("claude-3-5-haiku-20241022", "low", None, None),
    ("us.anthropic.claude-opus-5-5", "low", {"type": "adaptive", "display": "summarized"}, {"effort": "low"}),
]


@pytest.mark.parametrize(("model", "effort", "thinking", "config"), THINKING)
def test_reasoning_effort_is_sent_the_way_each_claude_takes_it(
    model: str, effort: str | None, thinking: Any, config: Any
) -> None:
    request = built("anthropic", "messages", model, reasoning_effort=effort, max_tokens=4000)
    assert request.body.get("thinking") == thinking
    assert request.body.get("output_config") == config
    honoured = (
        effort is None
        or thinking in ({"type": "disabled"}, {"type": "between_tools"})
        or config
        or (thinking and thinking["type"] == "enabled")
    )
    assert ("reasoning_effort" in request.dropped_params) == (not honoured)


@pytest.mark.parametrize(
    ("model", "takes"),
    [
        ("claude-opus-5-5", False),
        ("claude-sonnet-5", False),
        ("claude-opus-4-8", False),
        ("claude-opus-4-7", False),
        ("claude-fable-5", False),
        ("claude-mythos-preview", False),
        ("claude-something-new", False),
        ("claude-opus-4-6", True),
        ("claude-sonnet-4-6", True),
        ("claude-haiku-4-5", True),
        ("claude-opus-4-20250514", True),
        ("claude-3-5-sonnet-20241022", True),
        ("qwen3", True),
    ],
)
def test_sampling_parameters_go_only_to_the_models_that_still_take_them(model: str, takes: bool) -> None:
    request = built("anthropic", "messages", model, temperature=0.2, top_k=5)
    assert ("temperature" in request.body, "top_k" in request.body) == (takes, takes)
    assert ("temperature" in request.dropped_params) == (not takes)


def test_thinking_and_sampling_exclude_each_other_and_temperature_excludes_top_p() -> None:
    thinking = built("anthropic", "messages", "claude-sonnet-4-6", temperature=0.2, top_p=0.5, reasoning_effort="low")
    assert "temperature" in thinking.dropped_params
    assert "while it thinks" in thinking.dropped_params["top_p"]
    both = built("anthropic", "messages", "claude-sonnet-4-6", temperature=0.2, top_p=0.5)
    assert (both.body["temperature"], "top_p" in both.body) == (0.2, False)
    hot = built("anthropic", "messages", "claude-sonnet-4-6", temperature=1.5)
    assert "from 0 to 1" in hot.dropped_params["temperature"]


def test_the_responses_request_is_true_to_the_wire_and_stores_nothing() -> None:
    request = built("openai", "responses", "gpt-6.2-sol", reasoning_effort="high", max_tokens=50)
    assert request.url.endswith("/v1/responses")
    assert request.auth == ("authorization", "Bearer {key}")
    assert request.body == {
        "model": "gpt-6.2-sol",
        "input": [{"role": "user", "content": "Hello"}],
        "instructions": "Be brief.",
        "stream": True,
        "store": False,
        "max_output_tokens": 50,
        "reasoning": {"effort": "high"},
    }


def test_the_chat_request_asks_for_usage_and_names_its_limit_as_each_server_does() -> None:
    ours = built("openai", "chat", "gpt-4.1", max_tokens=50)
    assert ours.body["stream_options"] == {"include_usage": True}
    assert (ours.body["max_completion_tokens"], "max_tokens" in ours.body) == (50, False)
    theirs = built("openai-compatible", "chat", "qwen3", max_tokens=50)
    assert (theirs.body["max_tokens"], "max_completion_tokens" in theirs.body) == (50, False)
    assert theirs.body["messages"][0] == {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("gpt-5.2", "none", True),
        ("gpt-5.2", "low", False),
        ("gpt-5.2", None, False),
        ("gpt-5", None, False),
        ("gpt-6.2-sol", "none", False),
        ("gpt-5.6-luna", None, False),
        ("o3", "low", False),
        ("gpt-4.1", None, True),
        ("gpt-5-chat-latest", None, True),
        ("gpt-5.4-pro", "high", False),
        ("qwen3", None, True),
    ],
)
def test_openai_reasoning_models_get_a_temperature_only_where_they_take_one(
    model: str, effort: str | None, sent: bool
) -> None:
    request = built("openai", "responses", model, temperature=0.2, reasoning_effort=effort)
    assert ("temperature" in request.body) == sent


@pytest.mark.parametrize(
    ("model", "effort", "sent"),
    [
        ("o3", "minimal", False),
        ("o3", "high", True),
        ("gpt-5", "minimal", True),
        ("gpt-5", "none", False),
        ("gpt-5.1", "none", True),
        ("gpt-5.1", "minimal", False),
        ("gpt-5.1", "xhigh", False),
        ("gpt-5.5", "xhigh", True),
        ("gpt-5.5", "max", False),
        ("gpt-6-sol", "max", True),
        ("gpt-5-pro", "low", False),
        ("gpt-4.1", "low", False),
        ("gpt-daybreak-blue-latest", "low", True),
    ],
)
def test_openai_models_get_only_the_effort_levels_they_know(model: str, effort: str, sent: bool) -> None:
    request = built("openai", "responses", model, reasoning_effort=effort)
    assert (request.body.get("reasoning") == {"effort": effort}) == sent
    assert ("reasoning_effort" in request.dropped_params) == (not sent)


def test_a_limit_below_what_openai_takes_is_dropped_but_goes_to_other_servers() -> None:
    assert "max_tokens" in built("openai", "responses", "gpt-6-sol", max_tokens=5).dropped_params
    assert built("openai", "responses", "smollm2-135m-instruct", max_tokens=5).body["max_output_tokens"] == 5


def test_extra_body_is_laid_over_last_and_null_takes_a_key_out() -> None:
    extra = {"stream_options": None, "chat_template_kwargs": {"enable_thinking": False}, "temperature": 1}
    body = built("openai-compatible", "chat", "qwen3", extra, temperature=0.2).body
    assert ("stream_options" in body, body["chat_template_kwargs"], body["temperature"]) == (
        False,
        {"enable_thinking": False},
        1,
    )
    merged = built("openai", "responses", "gpt-5.2", {"reasoning": {"summary": "auto"}}, reasoning_effort="low").body
    assert merged["reasoning"] == {"effort": "low", "summary": "auto"}


def test_a_deployments_own_list_can_only_take_away() -> None:
    target = deployment("openai-compatible", "chat", params=("temperature", "max_tokens"))
    request = kind_of(target).request(target, ask(**EVERYTHING))
    assert set(request.sent_params) == {"temperature", "max_tokens"}
    assert "do not list it" in request.dropped_params["seed"]
    claude = deployment("anthropic", "messages", "claude-opus-5-5", params=("temperature",))
    assert kind_of(claude).accepts(claude) == frozenset()


def test_extra_headers_are_sent_and_no_header_of_ours_holds_a_key() -> None:
    target = deployment("openai", "chat", headers={"x-team": "lab"}, key_env="OPENAI_API_KEY")
    assert kind_of(target).request(target, ask()).headers == {"x-team": "lab"}


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.on_aws])
def test_every_kind_with_a_model_list_asks_for_it_with_its_own_key_header(kind: str) -> None:
    target = deployment(kind, KINDS[kind].wires[0])
    request = KINDS[kind].models_request(target)
    assert request is not None
    assert (request.method, request.url.split("?")[0]) == ("GET", "https://host.example/v1/models")
    sent = KINDS[kind].request(target, ask())
    assert request.auth == sent.auth


def test_what_cannot_be_sent_at_all_is_said_in_words() -> None:
    target = deployment("openai", "chat")
    with pytest.raises(ValueError, match="end with a message from the user"):
        kind_of(target).request(target, Ask(()))
    with pytest.raises(ValueError, match="names no model"):
        built("openai", "chat", " ")
    with pytest.raises(ValueError, match="speaks messages, not"):
        kind_of(deployment("anthropic", "chat"))
    with pytest.raises(ValueError, match="is not a kind of deployment"):
        kind_of(deployment("cohere", "chat"))
