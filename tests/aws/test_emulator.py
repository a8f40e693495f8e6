"""The real boto3 and vendor SDKs read what the emulator sends, and the emulator keeps to its schedule."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest
from openai.providers import bedrock as openai_bedrock

from tests.aws import bodies
from tests.aws.clients import NAMES, USER, body_of, client, streamed
from tests.aws.fixture import AwsEmulator, aws, emulator_process
from tests.aws.scripts import ROUTES, TELLING, AwsScript, model, truth
from tests.aws.sigv4 import VALID
from tests.fake.scripts import CONTENT, Script

__all__ = ["aws"]  # a fixture, used by name
RICH = AwsScript(tokens=8, reasoning=3, cached=30, cache_write=5, cache_write_1h=2, text="utf8", ttft=3.0, itl=1.0)


@pytest.fixture(scope="module")
def shared() -> Iterator[AwsEmulator]:
    with AwsEmulator() as emulator:
        yield emulator


def texts(route: str, events: list[Any]) -> str:
    """The answer's text in what boto3 gave, read the way that AWS's own examples do."""
    if route == "converse":
        return "".join(e["contentBlockDelta"]["delta"].get("text", "") for e in events if "contentBlockDelta" in e)
    if route.startswith("sagemaker"):
        inner = b"".join(e["PayloadPart"]["Bytes"] for e in events)
        found = [line.removeprefix(b"data:").strip() for line in inner.split(b"\n")]
        objects = [json.loads(line) for line in found if line.startswith(b"{")]
    else:
        objects = [json.loads(e["chunk"]["bytes"]) for e in events]
    return "".join(text_of(route.partition(":")[2], o) for o in objects)


def text_of(body: str, said: dict[str, Any]) -> str:
    if body == "anthropic":
        return str(said.get("delta", {}).get("text", ""))
    if body == "chat":
        return "".join(c["delta"].get("content") or "" for c in said["choices"])
    if body in {"tgi", "lines"}:
        token = said["token"]
        return "" if token.get("special") or token.get("special_token") else str(token["text"])
    return str(said["outputs"][0]["text"] if body == "mistral" else said.get("generation", said.get("outputText")))


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("more", [{}, {"parts": "3-1-50", "join": 2, "chunk": "1-17"}])
def test_boto3_reads_the_text_that_the_truth_names(shared: AwsEmulator, route: str, more: dict[str, Any]) -> None:
    script = AwsScript(**{f: getattr(RICH, f) for f in ("tokens", "reasoning", "text", "ttft", "itl")}, **more)
    name = model(AwsScript(**{**as_options(script), "body": route.partition(":")[2]}), NAMES[route])
    expected = truth(script, route)
    reply, stream = streamed(shared.url, route, name)
    assert texts(route, list(stream)) == expected.answer
    record = shared.requests[-1]
    ours = shared.core.request_ids[record.id]
    assert reply["ResponseMetadata"]["RequestId"] == ours and reply["ResponseMetadata"]["RetryAttempts"] == 0
    assert [round(b - a) for a, b in zip(record.stamps, record.stamps[1:], strict=False) if b < a] == []
    assert shared.verdicts[-1].error is None


def as_options(script: AwsScript) -> dict[str, Any]:
    return {name: getattr(script, name) for name in AwsScript.__dataclass_fields__}


@pytest.mark.parametrize("route", ROUTES)
def test_every_content_write_leaves_when_the_truth_says_and_never_before(shared: AwsEmulator, route: str) -> None:
    script = AwsScript(tokens=5, reasoning=2, ttft=8.0, itl=4.0, headers=2.0, body=route.partition(":")[2])
    expected = truth(script, route)
    list(streamed(shared.url, route, model(script, NAMES[route]))[1])
    record = shared.requests[-1]
    assert expected.ttft_ms == 8.0 and len(expected.deltas) == (7 if route in TELLING else 5)
    assert len(record.content_ns) == len(expected.deltas)
    for stamp, delta in zip(record.content_ns, expected.deltas, strict=True):
        assert stamp - record.received_ns >= delta.at_ms * 1e6 - 50_000
    assert [m for m in record.marks if m in CONTENT] == [d.kind for d in expected.deltas]


def test_usage_tier_latency_and_trace_come_in_the_metadata_of_converse(aws: AwsEmulator) -> None:
    aws.enqueue(model(RICH, "").lstrip("?") + "&guardrail=passed&latency_ms=321", route="converse")
    runtime = client(aws.url, "bedrock-runtime")
    asked: dict[str, Any] = {"serviceTier": {"type": "priority"}, "performanceConfig": {"latency": "optimized"}}
    reply = runtime.converse_stream(modelId="us.anthropic.claude-fake-v1:0", messages=USER, **asked)
    last = list(reply["stream"])[-1]["metadata"]
    assert last["usage"] == {
        "inputTokens": 12,
        "outputTokens": 11,
        "totalTokens": 60,
        "cacheReadInputTokens": 30,
        "cacheWriteInputTokens": 7,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 5}, {"ttl": "1h", "inputTokens": 2}],
    }
    assert last["metrics"] == {"latencyMs": 321} and last["serviceTier"] == {"type": "priority"}
    assert last["performanceConfig"] == {"latency": "optimized"} and last["trace"]["guardrail"]["inputAssessment"]
    other = runtime.converse_stream(modelId="fake?tier=default", messages=USER, **asked)
    assert list(other["stream"])[-1]["metadata"]["serviceTier"] == {"type": "default"}
    whole = runtime.converse(modelId="fake?reasoning=2&tool=3", messages=USER)
    assert [next(iter(block)) for block in whole["output"]["message"]["content"]] == [
        "reasoningContent",
        "text",
        "toolUse",
    ]


@pytest.mark.parametrize("route", [r for r in ROUTES if r.startswith("invoke")])
def test_the_last_chunk_of_every_family_carries_the_invocation_metrics(aws: AwsEmulator, route: str) -> None:
    script = AwsScript(tokens=4, cached=3)
    events = list(streamed(aws.url, route, model(script, NAMES[route]))[1])
    found = [json.loads(e["chunk"]["bytes"]).get(bodies.METRICS) for e in events]
    assert found[:-1] == [None] * (len(events) - 1)
    assert found[-1]["inputTokenCount"] == 12 and found[-1]["outputTokenCount"] == 4
    assert found[-1]["cacheReadInputTokenCount"] == 3
    whole = client(aws.url, "bedrock-runtime").invoke_model(modelId=model(script, NAMES[route]), body=b"{}")
    assert json.loads(whole["body"].read())
    headers = whole["ResponseMetadata"]["HTTPHeaders"]
    assert headers["x-amzn-bedrock-output-token-count"] == "4" and "x-amzn-bedrock-invocation-latency" in headers


def test_sagemaker_answers_with_the_variant_and_usage_that_were_asked_for(aws: AwsEmulator) -> None:
    runtime = client(aws.url, "sagemaker-runtime")
    for body, details in ((body_of("sagemaker:tgi"), True), (b'{"inputs":"hi"}', False)):
        reply = runtime.invoke_endpoint_with_response_stream(EndpointName="e", Body=body, TargetVariant="blue")
        last = b"".join(e["PayloadPart"]["Bytes"] for e in reply["Body"]).rstrip().rpartition(b"data:")[2]
        assert reply["InvokedProductionVariant"] == "blue" and reply["ContentType"] == "text/event-stream"
        assert bool(json.loads(last)["details"]) is details
    whole = runtime.invoke_endpoint(EndpointName="e?body=lines", Body=b"{}")
    assert json.loads(whole["Body"].read())["generated_text"].startswith("the quick")
    counted = client(aws.url, "bedrock-runtime").count_tokens(modelId="fake?input=77", input={"converse": {}})
    assert counted["inputTokens"] == 77


def test_scripts_are_chosen_by_queue_then_by_assigned_name_then_by_the_name_itself(aws: AwsEmulator) -> None:
    aws.serve("meta.llama-fake-v1:0", "tokens=3")
    aws.enqueue("tokens=1", model="amazon.nova-fake-v1:0")
    aws.enqueue(AwsScript(tokens=2), route="invoke:llama")
    runtime = client(aws.url, "bedrock-runtime")

    def tokens(name: str) -> int:
        return int(runtime.converse(modelId=name, messages=USER)["usage"]["outputTokens"])

    assert tokens("us.meta.llama-fake-v1:0") == 3 and tokens("eu.amazon.nova-fake-v1:0") == 1
    assert tokens("amazon.nova-fake-v1:0?tokens=4") == 4 and tokens("amazon.nova-fake-v1:0") == 20
    events = list(streamed(aws.url, "invoke:llama", "meta.llama-fake-v1:0")[1])
    assert len(events) == 3 and tokens("meta.llama-fake-v1:0") == 3
    assert len(aws.requests) == 6
    aws.reset()
    assert aws.requests == [] and tokens("meta.llama-fake-v1:0") == 20


def test_models_without_access_and_unknown_names_are_refused(aws: AwsEmulator) -> None:
    aws.account.denied.add("meta.llama-fake-v1:0")
    aws.account.known_only, aws.account.endpoints = True, {"here"}
    runtime, sagemaker = client(aws.url, "bedrock-runtime"), client(aws.url, "sagemaker-runtime")
    for name, code in (
        ("us.meta.llama-fake-v1:0", "AccessDeniedException"),
        ("no.such-model", "ValidationException"),
        ("anthropic.claude-profile-v1:0", "ValidationException"),
        ("fake?colour=red", "ValidationException"),
    ):
        with pytest.raises(runtime.exceptions.ClientError) as caught:
            runtime.converse(modelId=name, messages=USER)
        assert caught.value.response["Error"]["Code"] == code
    assert runtime.converse(modelId="eu.anthropic.claude-profile-v1:0", messages=USER)["stopReason"] == "end_turn"
    with pytest.raises(sagemaker.exceptions.ValidationError, match="Endpoint gone of account"):
        sagemaker.invoke_endpoint(EndpointName="gone", Body=b"{}")
    assert sagemaker.invoke_endpoint(EndpointName="here", Body=b"{}")["Body"].read()


@pytest.mark.slow
def test_the_vendor_sdks_sign_for_the_mantle_and_read_its_streams(aws: AwsEmulator) -> None:
    claude = anthropic.AnthropicBedrockMantle(
        aws_access_key=VALID.access,
        aws_secret_key=VALID.secret,
        aws_region="us-east-1",
        base_url=f"{aws.url}/anthropic",
        max_retries=0,
    )
    user: Any = [{"role": "user", "content": "hi"}]
    with claude.messages.stream(model="fake?tokens=3", max_tokens=9, messages=user) as stream:
        assert "".join(stream.text_stream) == "the quick model"
    provider = openai_bedrock(
        region="us-east-1", access_key_id=VALID.access, secret_access_key=VALID.secret, base_url=f"{aws.url}/openai/v1"
    )
    gpt = openai.OpenAI(provider=provider, max_retries=0)
    aws.enqueue(Script(tokens=2), route="chat")
    chunks = gpt.chat.completions.create(model="openai.gpt-oss", messages=user, stream=True)
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "the quick"
    assert gpt.responses.create(model="fake?tokens=1", input="hi").output_text == "the"
    assert [(v.error, v.service) for v in aws.verdicts] == [(None, "bedrock-mantle")] * 3
    wrong = anthropic.AnthropicBedrockMantle(
        aws_access_key=VALID.access,
        aws_secret_key="another",
        aws_region="us-east-1",
        base_url=f"{aws.url}/anthropic",
        max_retries=0,
    )
    with pytest.raises(anthropic.APIStatusError):
        wrong.messages.create(model="fake", max_tokens=1, messages=user)
    assert aws.verdicts[-1].error == "InvalidSignatureException"


@pytest.mark.slow
def test_it_runs_in_a_process_of_its_own_and_prints_what_to_use() -> None:
    with emulator_process("--port", "0", "--default", "tokens=2") as said:
        assert said["environ"]["AWS_ACCESS_KEY_ID"] == VALID.access
        assert said["environ"]["AWS_EC2_METADATA_DISABLED"] == "true"
        runtime = client(said["url"], "bedrock-runtime")
        assert runtime.converse(modelId="fake", messages=USER)["usage"]["outputTokens"] == 2
        queued = httpx.post(f"{said['url']}/_control/enqueue", json={"scripts": ["tokens=3"], "route": "converse"})
        assert queued.json() == {"queued": 1}
        assert runtime.converse(modelId="fake", messages=USER)["usage"]["outputTokens"] == 3
        logged = httpx.get(f"{said['url']}/_control/requests?since=1").json()["requests"]
        assert [(r["path"], r["status"], r["done"]) for r in logged] == [("/model/fake/converse", 200, True)]
