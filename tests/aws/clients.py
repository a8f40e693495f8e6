"""The real boto3 clients, unpatched, with a pair of the emulator's credentials and without retries."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import boto3
from botocore.config import Config

from tests.aws.sigv4 import VALID, Key

USER: list[dict[str, Any]] = [{"role": "user", "content": [{"text": "hi"}]}]


@lru_cache(maxsize=256)
def client(url: str, service: str, key: Key = VALID, *, region: str = "us-east-1") -> Any:
    """A client of that service (bedrock-runtime, bedrock, sagemaker-runtime, sts)."""
    return boto3.client(
        service,
        endpoint_url=url,
        region_name=region,
        config=Config(retries={"total_max_attempts": 1}, read_timeout=3),
        aws_access_key_id=key.access,
        aws_secret_access_key=key.secret,
        aws_session_token=key.token,
    )


NAMES = {
    "converse": "anthropic.claude-fake-v1:0",
    "invoke:anthropic": "anthropic.claude-fake-v1:0",
    "invoke:llama": "meta.llama-fake-v1:0",
    "invoke:mistral": "mistral.mistral-fake-v1:0",
    "invoke:titan": "amazon.titan-text-fake-v1",
    "invoke:chat": "openai.gpt-oss-fake-v1:0",
    "sagemaker:chat": "an-endpoint",
    "sagemaker:tgi": "an-endpoint",
    "sagemaker:lines": "an-endpoint",
}


def body_of(route: str) -> bytes:
    """A request body that asks that route for everything it can say."""
    if route.endswith(":chat"):
        return json.dumps({"messages": [], "stream": True, "stream_options": {"include_usage": True}}).encode()
    return json.dumps({"inputs": "hi", "parameters": {"details": True}, "stream": True}).encode()


def streamed(url: str, route: str, name: str, key: Key = VALID) -> tuple[dict[str, Any], Any]:
    """(the reply, its event stream) of the streaming operation of that route."""
    if route == "converse":
        reply = client(url, "bedrock-runtime", key).converse_stream(modelId=name, messages=USER)
        return reply, reply["stream"]
    if route.startswith("invoke"):
        runtime = client(url, "bedrock-runtime", key)
        reply = runtime.invoke_model_with_response_stream(modelId=name, body=body_of(route))
        return reply, reply["body"]
    runtime = client(url, "sagemaker-runtime", key)
    body = body_of(route)
    reply = runtime.invoke_endpoint_with_response_stream(EndpointName=name, Body=body, ContentType="application/json")
    return reply, reply["Body"]
