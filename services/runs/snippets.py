"""A recorded call as code that sends the same request again: curl and Python, the key only ever a variable.

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
from services.types import Json, JsonMapping, Wire, WireRequest

DUMMY_KEY = "no-key-needed"


def snippets(request: WireRequest, *, wire: Wire, key_env: str | None) -> dict[str, str]:
    """Title → code for every way that applies to the wire: curl, the service's SDK, and httpx.

    The key is read from the environment variable ``key_env``; without one the SDKs get a placeholder, because they
    insist on some key.
    """
    if request.sign is not None or request.framing != "sse":
        return _on_aws(request, wire, key_env)
    sdk = {
        "messages": ("Python (anthropic)", _anthropic),
        "responses": ("Python (openai)", _openai),
        "chat": ("Python (openai)", _openai),
    }
    title, write = sdk[wire]
    return {
        "curl": _curl(request, key_env),
        title: write(request, wire, key_env),
        "Python (httpx)": _httpx(request, key_env),
    }


def _on_aws(request: WireRequest, wire: Wire, key_env: str | None) -> dict[str, str]:
    curl = _curl(request, key_env) if request.sign is None else signed_curl(request, _json(request))
    body = _body(request)
    if request.framing == "eventstream":
        return {"curl": curl, "Python (boto3)": bedrock(request, wire, body, key_env)}
    if request.framing == "sagemaker":
        return {"curl": curl, "Python (boto3)": sagemaker(request, body)}
    if wire == "messages":
        client = anthropic_client(request, request.url.removesuffix("/v1/messages"))
        return {"curl": curl, "Python (anthropic)": _anthropic(request, wire, None, client)}
    base = request.url.removesuffix("/responses" if wire == "responses" else "/chat/completions")
    return {"curl": curl, "Python (openai)": _openai(request, wire, None, openai_client(request, base))}


def _json(request: WireRequest) -> str:
    return json.dumps(_body(request), ensure_ascii=False)


def _body(request: WireRequest) -> Json:
    plain: Json = json.loads(json.dumps(request.body))
    return plain  # plain dicts and lists, whatever mappings the request was built from


def _curl(request: WireRequest, key_env: str | None) -> str:
    lines = [f"curl --no-buffer -X {request.method} {shlex.quote(request.url)}"]
    for name, value in {"content-type": "application/json", **request.headers}.items():
        lines.append(f"  -H {shlex.quote(f'{name}: {value}')}")
    if request.auth and key_env:
        prefix, suffix = request.auth[1].split("{key}")
        # The variable stands outside the single quotes, so that the shell fills it in and nothing else.
        lines.append(
            f'  -H {shlex.quote(f"{request.auth[0]}: {prefix}")}"${{{key_env}}}"{shlex.quote(suffix) if suffix else ""}'
        )
    if request.framing != "sse":
        lines.append("  --output -")
    lines.append(f"  --data-binary {shlex.quote(_json(request))}")
    return " \\\n".join(lines)


def _key(key_env: str | None) -> str:
    return f'os.environ["{key_env}"]' if key_env else json.dumps(DUMMY_KEY)


def _import_os(key_env: str | None) -> str:
    return "import os\n\n" if key_env else ""


def _arguments(body: JsonMapping, *, extra: JsonMapping | None = None) -> str:
    parts = [f"    {name}={_literal(value)}," for name, value in body.items()]
    if extra:
        parts.append(f"    extra_body={_literal(dict(extra))},")
    return "\n".join(parts)


def _literal(value: Any) -> str:
    return pprint.pformat(value, width=100, sort_dicts=False).replace("\n", "\n    ")


_ANTHROPIC_NAMED = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "system",
        "stop_sequences",
        "thinking",
        "output_config",
        "metadata",
        "tools",
        "cache_control",
    }
)

_OPENAI_CHAT_NAMED = frozenset(
    {
        "model",
        "messages",
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "reasoning_effort",
        "stream_options",
        "tools",
        "prompt_cache_key",
        "prompt_cache_options",
    }
)

_OPENAI_RESPONSES_NAMED = frozenset(
    {
        "model",
        "input",
        "instructions",
        "max_output_tokens",
        "temperature",
        "top_p",
        "reasoning",
        "store",
        "text",
        "tools",
        "prompt_cache_key",
        "prompt_cache_options",
    }
)


def _split(body: Json, named: frozenset[str]) -> tuple[Json, Json]:
    return (
        {k: v for k, v in body.items() if k in named},
        {k: v for k, v in body.items() if k not in named and k != "stream"},
    )


def _anthropic(request: WireRequest, wire: Wire, key_env: str | None, client: str | None = None) -> str:
    named, extra = _split(_body(request), _ANTHROPIC_NAMED)
    base = request.url.removesuffix("/v1/messages")
    # Bedrock's own keys are bearer tokens on this wire as well.
    name = "auth_token" if request.auth and request.auth[0] == "authorization" else "api_key"
    usual = f"anthropic.Anthropic({name}={_key(key_env)}, base_url={json.dumps(base)}, max_retries=0)"
    return (
        f"{_import_os(key_env)}import anthropic\n\n"
        f"client = {client or usual}\n"
        f"stream = client.messages.create(\n{_arguments(named, extra=extra)}\n    stream=True,\n)\n"
        "for event in stream:\n"
        '    if event.type == "content_block_delta" and event.delta.type == "text_delta":\n'
        '        print(event.delta.text, end="", flush=True)\n'
    )


def _openai(request: WireRequest, wire: Wire, key_env: str | None, client: str | None = None) -> str:
    responses = wire == "responses"
    named, extra = _split(_body(request), _OPENAI_RESPONSES_NAMED if responses else _OPENAI_CHAT_NAMED)
    base = request.url.removesuffix("/responses" if responses else "/chat/completions")
    loop = (
        "for event in stream:\n"
        '    if event.type == "response.output_text.delta":\n'
        '        print(event.delta, end="", flush=True)\n'
        if responses
        else "for chunk in stream:\n"
        "    if chunk.choices and chunk.choices[0].delta.content:\n"
        '        print(chunk.choices[0].delta.content, end="", flush=True)\n'
    )
    call = "client.responses.create" if responses else "client.chat.completions.create"
    usual = f"openai.OpenAI(api_key={_key(key_env)}, base_url={json.dumps(base)}, max_retries=0)"
    bedrock = "from openai.providers import bedrock\n" if client else ""
    return (
        f"{_import_os(key_env)}import openai\n{bedrock}\n"
        f"client = {client or usual}\n"
        f"stream = {call}(\n{_arguments(named, extra=extra)}\n    stream=True,\n)\n{loop}"
    )


def _httpx(request: WireRequest, key_env: str | None) -> str:
    headers = {"content-type": "application/json", **request.headers}
    lines = [f"    {json.dumps(name)}: {json.dumps(value)}," for name, value in headers.items()]
    if request.auth and key_env:
        prefix, suffix = request.auth[1].split("{key}")
        value = " + ".join(
            piece
            for piece in (json.dumps(prefix) if prefix else "", _key(key_env), json.dumps(suffix) if suffix else "")
            if piece
        )
        lines.append(f"    {json.dumps(request.auth[0])}: {value},")
    return (
        f"{_import_os(key_env)}import httpx\n\n"
        "headers = {\n" + "\n".join(lines) + "\n}\n"
        f"body = {_literal(_body(request))}\n"
        f"with httpx.stream({json.dumps(request.method)}, {json.dumps(request.url)}, headers=headers, json=body, "
        "timeout=600) as response:\n"
        "    for line in response.iter_lines():\n"
        "        print(line)\n"
    )


def host_of(request: WireRequest) -> str:
    """The host that a request goes to, for a page's caption."""
    return urlsplit(request.url).hostname or ""


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
    setup = f'eval "$({export})"\n' if sign.profile else ""
    lines.append(f"  --aws-sigv4 {shlex.quote(f'aws:amz:{sign.region}:{sign.service}')}")
    lines.append('  --user "${AWS_ACCESS_KEY_ID}:${AWS_SECRET_ACCESS_KEY}"')
    lines.append('  ${AWS_SESSION_TOKEN:+-H "x-amz-security-token: ${AWS_SESSION_TOKEN}"}')
    for name, value in {"content-type": "application/json", **request.headers}.items():
        lines.append(f"  -H {shlex.quote(f'{name}: {value}')}")
    if request.framing != "sse":
        lines.append("  --output -")
    lines.append(f"  --data-binary {shlex.quote(body)}")
    return warning + setup + " \\\n".join(lines)


def bedrock(request: WireRequest, wire: Wire, body: JsonMapping, key_env: str | None) -> str:
    """boto3 code for a Bedrock call, printed as it arrives."""
    model = unquote(urlsplit(request.url).path.split("/model/", 1)[1].rsplit("/", 1)[0])
    bearer = "" if key_env in (None, BEARER_ENV) else f'os.environ["{BEARER_ENV}"] = os.environ["{key_env}"]\n'
    arguments: Json
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
        "response = "
        f"client.{call}(\n{_aws_arguments(arguments, None if wire == 'converse' else ('body', body))}\n)\n{loop}"
    )


def sagemaker(request: WireRequest, body: JsonMapping) -> str:
    """boto3 code for a SageMaker endpoint; what the container writes is printed as it arrives."""
    endpoint = unquote(urlsplit(request.url).path.split("/endpoints/", 1)[1].rsplit("/", 1)[0])
    arguments = {"EndpointName": endpoint, "ContentType": "application/json", **_named(request, _SAGEMAKER_NAMES)}
    return (
        f"import json\nimport sys\n{_session(request, 'sagemaker-runtime', '/endpoints/')}"
        f"response = client.invoke_endpoint_with_response_stream(\n{_aws_arguments(arguments, ('Body', body))}\n)\n"
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


def _session(request: WireRequest, service: str, path: str, bearer: str = "") -> str:
    parts = urlsplit(request.url)
    host = parts.hostname or ""
    sign = request.sign
    # With a key of its own nothing is signed, and the region stands in AWS's own addresses only; boto3 insists on one.
    host_region = next((label for label in host.split(".") if _REGION.fullmatch(label)), "us-east-1")
    region = sign.region if sign is not None else host_region
    profile = f"profile_name={json.dumps(sign.profile)}, " if sign is not None and sign.profile else ""
    base = f"{parts.scheme}://{parts.netloc}{parts.path.split(path)[0]}"
    return (
        f"\nimport boto3\nfrom botocore.config import Config\n\n{bearer}"
        f"session = boto3.Session({profile}region_name={json.dumps(region)})\n"
        f"client = session.client(\n    {json.dumps(service)},\n    endpoint_url={json.dumps(base)},\n"
        '    config=Config(retries={"total_max_attempts": 1}, read_timeout=600),\n)\n'
    )


def _named(request: WireRequest, names: Mapping[str, str]) -> dict[str, str]:
    return {names[name]: value for name, value in request.headers.items() if name in names}


def _aws_arguments(values: JsonMapping, body: tuple[str, JsonMapping] | None) -> str:
    lines = [f"    {name}={_literal(value)}," for name, value in values.items()]
    if body is not None:
        lines.append(f"    {body[0]}=json.dumps({_literal(dict(body[1]))}),")
    return "\n".join(lines)
