"""Requests to Bedrock and SageMaker: true to the wires, and the same as boto3 itself sends for the same call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.serialize import create_serializer

from services.providers import kind_of
from services.runs import snippets
from services.types import Ask, Aws, CacheMode, Message, Wire
from tests.aws.fixture import AwsEmulator
from tests.aws.sigv4 import SESSION
from tests.wires.helpers import deployment

ARN = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3"
HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
TURNS = (Message("user", "One"), Message("assistant", "Two"), Message("user", "Three"))
HOSTILE = 'it\'s "quoted" \\ $(touch pwned) `x` ${HOME} Grüße 🙂\n{braces} %s'


def built(kind: str, wire: Wire, model: str, ask: Ask | None = None, /, aws: Aws | None = None, **params: Any) -> Any:
    target = deployment(kind, wire, model, aws=aws or Aws())
    return kind_of(target).request(target, ask or Ask((Message("user", "Hello"),), "Be brief.", params))


def test_a_converse_request_is_true_to_the_wire() -> None:
    aws = Aws("lab", "flex", "optimized", "abc123:DRAFT")
    request = built("bedrock", "converse", HAIKU, aws=aws, max_tokens=50, temperature=0.2, top_k=3, stop=["END"])
    assert request.url == ("https://host.example/model/us.anthropic.claude-haiku-4-5-20251001-v1%3A0/converse-stream")
    assert request.body == {
        "messages": [{"role": "user", "content": [{"text": "Hello"}]}],
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 50, "temperature": 0.2, "stopSequences": ["END"]},
        "additionalModelRequestFields": {"top_k": 3},
        "guardrailConfig": {"guardrailIdentifier": "abc123", "guardrailVersion": "DRAFT", "trace": "enabled"},
        "performanceConfig": {"latency": "optimized"},
        "serviceTier": {"type": "flex"},
    }
    assert (request.framing, request.auth) == ("eventstream", None)
    assert (request.sign.service, request.sign.region, request.sign.profile) == ("bedrock", "us-east-1", "lab")


def test_a_token_limit_is_always_sent_and_larger_where_the_model_thinks() -> None:
    assert built("bedrock", "converse", HAIKU).body["inferenceConfig"] == {"maxTokens": 1024}
    assert built("bedrock", "converse", "us.anthropic.claude-opus-5-5").body["inferenceConfig"] == {"maxTokens": 8192}
    assert built("bedrock", "invoke", "meta.llama3-8b-instruct-v1:0").body["max_gen_len"] == 1024
    assert built("sagemaker", "tgi", "e").body["parameters"]["max_new_tokens"] == 1024


REASONING: list[tuple[str, str, dict[str, Any] | None]] = [
    (
        "us.anthropic.claude-opus-5-5",
        "high",
        {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "high"}},
    ),
    ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "medium", {"thinking": {"type": "enabled", "budget_tokens": 2000}}),
    ("us.amazon.nova-2-lite-v1:0", "low", {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}}),
    ("us.amazon.nova-2-lite-v1:0", "none", {"reasoningConfig": {"type": "disabled"}}),
    ("us.amazon.nova-2-lite-v1:0", "high", None),
    ("amazon.nova-lite-v1:0", "low", None),
    ("openai.gpt-oss-120b-1:0", "low", {"reasoning_effort": "low"}),
    ("openai.gpt-oss-120b-1:0", "none", None),
    ("us.openai.gpt-5.2", "medium", {"reasoning": {"effort": "medium"}}),
    ("meta.llama3-8b-instruct-v1:0", "low", None),
    (ARN, "low", None),
]


@pytest.mark.parametrize(("model", "effort", "fields"), REASONING)
def test_reasoning_is_asked_for_the_way_each_family_takes_it(model: str, effort: str, fields: Any) -> None:
    request = built("bedrock", "converse", model, reasoning_effort=effort, max_tokens=4000)
    assert request.body.get("additionalModelRequestFields") == fields
    assert ("reasoning_effort" in request.dropped_params) == (fields is None)


def test_an_arn_takes_what_every_model_takes_and_more_when_its_model_is_named() -> None:
    request = built("bedrock", "converse", ARN, top_k=3)
    assert "serves" in request.dropped_params["top_k"]
    assert "application-inference-profile%2Fa1b2c3/converse-stream" in request.url
    named = built("bedrock", "converse", ARN, aws=Aws(serves="amazon.nova-lite-v1:0"), top_k=3)
    assert named.body["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 3}}


def test_provisioned_throughput_asks_for_no_service_tier() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"
    request = built("bedrock-provisioned", "converse", arn, aws=Aws(service_tier="flex"))
    assert "serviceTier" not in request.body


POINT, HOUR = {"cachePoint": {"type": "default"}}, {"cachePoint": {"type": "default", "ttl": "1h"}}


@pytest.mark.parametrize(
    ("mode", "system", "turns", "marks"),
    [
        ("5m", "S", TURNS[:1], (POINT, None)),
        ("1h", "S", TURNS, (HOUR, HOUR)),
        ("5m", None, TURNS, (None, POINT)),
        ("5m", None, TURNS[:1], (None, POINT)),
        ("off", "S", TURNS, (None, None)),
        (None, "S", TURNS, (None, None)),
    ],
)
def test_cache_points_stand_behind_the_system_prompt_and_the_last_turn(
    mode: CacheMode | None, system: str | None, turns: Any, marks: Any
) -> None:
    body = built("bedrock", "converse", HAIKU, Ask(turns, system, {}, mode)).body
    found = [
        next((block for block in blocks if "cachePoint" in block), None)
        for blocks in (body.get("system", []), body["messages"][-1]["content"])
    ]
    assert tuple(found) == marks


def test_a_cache_mode_that_a_model_does_not_have_is_dropped_in_words() -> None:
    llama = built("bedrock", "converse", "meta.llama3-8b-instruct-v1:0", Ask(TURNS, "S", {}, "5m"))
    assert "no say" in llama.dropped_params["cache"]
    nova = built("bedrock", "converse", "amazon.nova-lite-v1:0", Ask(TURNS, "S", {}, "1h"))
    assert "cachePoint" not in json.dumps(nova.body)
    assert "cache" in nova.dropped_params
    claude = built("bedrock", "invoke", HAIKU, Ask(TURNS[:1], "S", {}, "1h")).body
    assert claude["system"] == [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]


def test_each_invoke_family_gets_its_own_body() -> None:
    params = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": ["X"]}
    ask = Ask(TURNS, "S", params)
    claude = built("bedrock", "invoke", "anthropic.claude-3-5-sonnet-20240620-v1:0", ask).body
    assert claude == {
        "anthropic_version": "bedrock-2023-05-31",
        "system": "S",
        "max_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "stop_sequences": ["X"],
        "messages": [{"role": m.role, "content": m.text} for m in TURNS],
    }
    llama = built("bedrock", "invoke", "us.meta.llama3-3-70b-instruct-v1:0", ask)
    assert llama.body["prompt"] == (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nOne<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "Two<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nThree<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert "stop" in llama.dropped_params
    mistral = built("bedrock", "invoke", "mistral.mistral-7b-instruct-v0:2", ask).body
    assert mistral["prompt"] == "<s>[INST] S\n\nOne [/INST] Two</s>[INST] Three [/INST]"
    titan = built("bedrock", "invoke", "amazon.titan-text-express-v1", ask).body
    assert titan["textGenerationConfig"] == {
        "maxTokenCount": 9,
        "temperature": 0.5,
        "topP": 0.9,
        "stopSequences": ["X"],
    }
    assert titan["inputText"] == "User: S\n\nOne\nBot: Two\nUser: Three\nBot:"
    nova = built("bedrock", "invoke", "amazon.nova-lite-v1:0", ask).body
    assert (nova["schemaVersion"], nova["inferenceConfig"]["maxTokens"]) == ("messages-v1", 9)
    oss = built("bedrock", "invoke", "openai.gpt-oss-20b-1:0", ask).body
    assert (oss["max_completion_tokens"], oss["messages"][0]) == (9, {"role": "system", "content": "S"})
    with pytest.raises(ValueError, match="use the wire “converse”"):
        built("bedrock", "invoke", "cohere.command-r-v1:0", ask)


def test_a_sagemaker_container_is_told_a_model_only_when_one_is_named() -> None:
    request = built("sagemaker", "chat", "my-endpoint", aws=Aws(component="part", variant="blue"), max_tokens=5)
    assert "model" not in request.body
    assert request.url == "https://host.example/endpoints/my-endpoint/invocations-response-stream"
    assert request.headers == {
        "x-amzn-sagemaker-inference-component": "part",
        "x-amzn-sagemaker-target-variant": "blue",
    }
    assert (request.framing, request.sign.service) == ("sagemaker", "sagemaker")
    assert built("sagemaker", "chat", "my-endpoint", aws=Aws(serves="adapter")).body["model"] == "adapter"


def test_tgi_is_not_sent_what_it_refuses() -> None:
    request = built("sagemaker", "tgi", "e", temperature=0.0, top_k=5, top_p=1.0, max_tokens=7, stop=["X"])
    assert request.body["parameters"] == {
        "max_new_tokens": 7,
        "stop": ["X"],
        "do_sample": False,
        "details": True,
        "return_full_text": False,
    }
    assert set(request.dropped_params) == {"temperature", "top_k", "top_p"}
    lines = built("sagemaker", "lines", "e", temperature=0.7, stop=["X"]).body["parameters"]
    assert (lines["do_sample"], lines["stop_sequences"]) == (True, ["X"])


def test_a_body_that_sagemaker_would_not_take_is_refused_in_words() -> None:
    with pytest.raises(ValueError, match=r"takes at most 6,291,456: shorten"):
        built("sagemaker", "chat", "e", Ask((Message("user", "x" * 6_291_456),)))


def test_a_deployment_without_a_region_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    target = deployment("bedrock", "converse", HAIKU, region=None)
    with pytest.raises(ValueError, match="names no region"):
        kind_of(target).request(target, Ask((Message("user", "Hi"),)))


# --- against boto3 ---------------------------------------------------------------------------------------------------

CALLS: list[tuple[str, Wire, str]] = [
    ("bedrock", "converse", HAIKU),
    ("bedrock", "converse", ARN),
    ("bedrock", "converse", "us.amazon.nova-2-lite-v1:0"),
    ("bedrock", "converse", "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"),
]


@pytest.mark.parametrize(("kind", "wire", "model"), CALLS)
@pytest.mark.parametrize("mode", [None, "1h", "5m"])
def test_botocore_serialises_a_converse_call_to_our_path_and_body(
    kind: str, wire: Wire, model: str, mode: CacheMode | None
) -> None:
    """The body passes botocore's own validation (a wrong name or type raises) and comes out the same."""
    import botocore.session

    aws = Aws(None, "priority", "optimized", "abc:1")
    ask = Ask(TURNS, HOSTILE, {"temperature": 0.2, "top_k": 3, "stop": ["a"], "max_tokens": 9}, mode)
    request = built(kind, wire, model, ask, aws=aws)
    service = botocore.session.get_session().get_service_model("bedrock-runtime")
    serialised = create_serializer("rest-json", include_validation=True).serialize_to_request(
        {"modelId": model, **json.loads(json.dumps(request.body))}, service.operation_model("ConverseStream")
    )
    assert f"https://host.example{serialised['url_path']}" == request.url
    assert json.loads(serialised["body"]) == request.body


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEmulator]:
    with AwsEmulator() as aws:
        aws.apply(monkeypatch)
        yield aws


COPIES: list[tuple[str, Wire, str, Aws, str]] = [
    ("bedrock", "converse", "us.anthropic.claude-fake-v1:0", Aws(None, "flex", "optimized", "abc:1"), ""),
    ("bedrock", "invoke", "meta.llama-fake-v1:0", Aws(None, "flex", "optimized", "abc:1"), ""),
    ("sagemaker", "chat", "my-endpoint", Aws(component="part", variant="blue"), ""),
    ("sagemaker", "tgi", "my-endpoint", Aws(serves="llama-3.1"), ""),
    ("anthropic", "messages", "fake", Aws(), "/anthropic"),
    ("openai", "responses", "fake", Aws(), "/v1"),
    ("openai-compatible", "chat", "fake", Aws(), "/v1"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "wire", "model", "aws", "base"), COPIES, ids=[f"{c[0]}-{c[1]}" for c in COPIES])
def test_copied_code_sends_the_same_request_with_a_good_signature(
    emulator: AwsEmulator, tmp_path: Path, kind: str, wire: Wire, model: str, aws: Aws, base: str
) -> None:
    target = deployment(kind, wire, model, base_url=f"{emulator.url}{base}", aws=aws, region="us-east-1")
    made = kind_of(target).request(target, Ask(TURNS, HOSTILE, {"max_tokens": 40}))
    for title, code in snippets.snippets(made, wire=wire, key_env=None).items():
        assert SESSION.secret not in code
        assert os.environ["AWS_SECRET_ACCESS_KEY"] not in code
        if title == "curl" and "%" in made.url:
            assert code.startswith("# Some versions of curl"), "it says why it may fail"
            continue
        since = len(emulator.requests)
        command = ["sh", "-c", code] if title == "curl" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=tmp_path, env=dict(os.environ), capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr.decode()[-800:]
        arrived = emulator.requests[since]
        assert f"{emulator.url}{arrived.path}" == made.url, title
        assert arrived.json == made.body, title
        for name, value in made.headers.items():
            if name == "anthropic-version":
                continue  # the SDK's Bedrock client has its own, newer one
            assert arrived.headers[name] == value, (title, name)
        assert emulator.verdicts[since].error is None, (title, emulator.verdicts[since])
        assert done.stdout.strip(), "the stream is shown"
    assert not any(tmp_path.iterdir())
