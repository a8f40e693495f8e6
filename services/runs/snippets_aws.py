"""Copied code for deployments on AWS: boto3, the SDKs' Bedrock clients, and curl with AWS's signature.

No credential stands in any of it: boto3 and the SDKs take them from the ordinary chain, curl from the environment.
"""

from __future__ import annotations

import json
import pprint
import re
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from services.aws.credentials import BEARER_ENV
from services.types import Wire, WireRequest

_OS = "import os\n"
_REGION = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]+)+-\d+")
_INVOKE_NAMES = {
    "x-amzn-bedrock-guardrailidentifier": "guardrailIdentifier",
    "x-amzn-bedrock-guardrailversion": "guardrailVersion",
    "x-amzn-bedrock-trace": "trace",
    "x-amzn-bedrock-performanceconfig-latency": "performanceConfigLatency",
    "x-amzn-bedrock-service-tier": "serviceTier",
}
_SAGEMAKER_NAMES = {
    "x-amzn-sagemaker-inference-component": "InferenceComponentName",
    "x-amzn-sagemaker-target-variant": "TargetVariant",
}


def signed_curl(request: WireRequest, body: str) -> str:
    """A shell command that signs with the credentials of the environment, or of a profile by the AWS CLI.

    Their session token is sent when there is one. The answer comes in AWS's binary frames where the request asks for
    them.
    """
    sign = request.sign
    assert sign is not None
    lines = [f"curl --no-buffer -X {request.method} {shlex.quote(request.url)}"]
    export = f"aws configure export-credentials --profile {shlex.quote(sign.profile or '')} --format env"
    warning = "# Some versions of curl sign an address with “%” in it wrongly; AWS then refuses the signature.\n"
    warning = warning if "%" in request.url else ""
    before = f'eval "$({export})"\n' if sign.profile else ""
    lines.append(f"  --aws-sigv4 {shlex.quote(f'aws:amz:{sign.region}:{sign.service}')}")
    lines.append('  --user "${AWS_ACCESS_KEY_ID}:${AWS_SECRET_ACCESS_KEY}"')
    lines.append('  ${AWS_SESSION_TOKEN:+-H "x-amz-security-token: ${AWS_SESSION_TOKEN}"}')
    for name, value in {"content-type": "application/json", **request.headers}.items():
        lines.append(f"  -H {shlex.quote(f'{name}: {value}')}")
    if request.framing != "sse":
        lines.append("  --output -")
    lines.append(f"  --data-binary {shlex.quote(body)}")
    return warning + before + " \\\n".join(lines)


def bedrock(request: WireRequest, wire: Wire, body: Mapping[str, Any], key_env: str | None) -> str:
    """boto3 code for a Bedrock call, printed as it arrives."""
    model = unquote(urlsplit(request.url).path.split("/model/", 1)[1].rsplit("/", 1)[0])
    bearer = "" if key_env in (None, BEARER_ENV) else f'os.environ["{BEARER_ENV}"] = os.environ["{key_env}"]\n'
    arguments: dict[str, Any]
    if wire == "converse":
        call, arguments, imports = "converse_stream", {"modelId": model, **body}, ""
        loop = (
            'for event in response["stream"]:\n'
            '    text = event.get("contentBlockDelta", {}).get("delta", {}).get("text", "")\n'
            '    print(text, end="", flush=True)\n'
        )
    else:
        call, imports = "invoke_model_with_response_stream", "import json\n"
        arguments = {"modelId": model, "contentType": "application/json", **_named(request, _INVOKE_NAMES)}
        loop = 'for event in response["body"]:\n    print(event["chunk"]["bytes"].decode(), flush=True)\n'
    return (
        f"{_OS if bearer else ''}{imports}{_session(request, 'bedrock-runtime', '/model/', bearer)}"
        f"response = client.{call}(\n{_arguments(arguments, None if wire == 'converse' else ('body', body))}\n)\n{loop}"
    )


def sagemaker(request: WireRequest, body: Mapping[str, Any]) -> str:
    """boto3 code for a SageMaker endpoint; what the container writes is printed as it arrives."""
    endpoint = unquote(urlsplit(request.url).path.split("/endpoints/", 1)[1].rsplit("/", 1)[0])
    arguments = {"EndpointName": endpoint, "ContentType": "application/json", **_named(request, _SAGEMAKER_NAMES)}
    return (
        f"import json\nimport sys\n{_session(request, 'sagemaker-runtime', '/endpoints/')}"
        f"response = client.invoke_endpoint_with_response_stream(\n{_arguments(arguments, ('Body', body))}\n)\n"
        'for event in response["Body"]:\n'
        '    sys.stdout.buffer.write(event["PayloadPart"]["Bytes"])\n    sys.stdout.buffer.flush()\n'
    )


def anthropic_client(request: WireRequest, base: str) -> str:
    """The expression that makes Anthropic's client for Bedrock's Messages endpoint."""
    sign = request.sign
    assert sign is not None
    profile = f"aws_profile={json.dumps(sign.profile)}, " if sign.profile else ""
    return (
        f"anthropic.AnthropicBedrockMantle(\n    aws_region={json.dumps(sign.region)}, {profile}"
        f"base_url={json.dumps(base)}, max_retries=0\n)"
    )


def openai_client(request: WireRequest, base: str) -> str:
    """The expression that makes OpenAI's client for Bedrock's OpenAI endpoints."""
    sign = request.sign
    assert sign is not None
    endpoint = "mantle" if sign.service == "bedrock-mantle" else "runtime"
    profile = f", profile={json.dumps(sign.profile)}" if sign.profile else ""
    return (
        f'openai.OpenAI(\n    provider=bedrock(endpoint="{endpoint}", region={json.dumps(sign.region)}, '
        f"base_url={json.dumps(base)}{profile}),\n    max_retries=0,\n)"
    )


def _session(request: WireRequest, service: str, before: str, bearer: str = "") -> str:
    parts = urlsplit(request.url)
    host = parts.hostname or ""
    sign = request.sign
    # With a key of its own nothing is signed, and the region stands in AWS's own addresses only; boto3 insists on one.
    found = next((one for one in host.split(".") if _REGION.fullmatch(one)), "us-east-1")
    region = sign.region if sign is not None else found
    profile = f"profile_name={json.dumps(sign.profile)}, " if sign is not None and sign.profile else ""
    base = f"{parts.scheme}://{parts.netloc}{parts.path.split(before)[0]}"
    return (
        f"\nimport boto3\nfrom botocore.config import Config\n\n{bearer}"
        f"session = boto3.Session({profile}region_name={json.dumps(region)})\n"
        f"client = session.client(\n    {json.dumps(service)},\n    endpoint_url={json.dumps(base)},\n"
        '    config=Config(retries={"total_max_attempts": 1}, read_timeout=600),\n)\n'
    )


def _named(request: WireRequest, names: Mapping[str, str]) -> dict[str, str]:
    return {names[name]: value for name, value in request.headers.items() if name in names}


def _arguments(values: Mapping[str, Any], body: tuple[str, Mapping[str, Any]] | None) -> str:
    lines = [f"    {name}={_literal(value)}," for name, value in values.items()]
    if body is not None:
        lines.append(f"    {body[0]}=json.dumps({_literal(dict(body[1]))}),")
    return "\n".join(lines)


def _literal(value: Any) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False).replace("\n", "\n    ")
