"""Whole answers of Bedrock and of SageMaker's containers, told to the decoders of the streams as their events.

So a batch's line is judged by the very code that judges a live call: what counts as an end, what as a refusal, how
tokens are counted. `whole_answers` does the same for the wires of Anthropic and OpenAI, which Claude and the
chat-shaped models also speak inside InvokeModel.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import orjson

from services.batch.providers.common import clean
from services.batch.providers.whole_answers import answered
from services.batch.types import LineResult
from services.outcomes import STATE_OF, judge
from services.providers import bedrock_streams, invoke_bodies
from services.providers.bedrock_models import family
from services.providers.container_wires import TokenDecoder
from services.providers.converse_wire import ConverseDecoder
from services.providers.decoder import WireDecoder, text
from services.providers.errors import stated_error
from services.providers.usage import obj
from services.security import keys
from services.types import Usage, WireError
from services.wire.sse import ServerEvent

Event = tuple[str, Mapping[str, Any]]


def converse(wire_id: str, body: Mapping[str, Any]) -> LineResult:
    """The line whose answer is ``body``, a whole reply of Converse (or of Nova over InvokeModel, which is the same)."""
    return _told(wire_id, ConverseDecoder(), _converse(body))


def invoked(wire_id: str, model: str, body: Mapping[str, Any]) -> LineResult:
    """The line whose answer is ``body``, a whole reply of InvokeModel from ``model``."""
    kind = family(model)
    if kind == "nova":
        return converse(wire_id, body)
    if kind == "claude":
        return answered(wire_id, "messages", body, None)
    if kind in ("llama", "titan") or (kind == "mistral" and invoke_bodies.prompted(model)):
        return _told(wire_id, bedrock_streams.decoder_of(model), [_chunk(_titan(body) if kind == "titan" else body)])
    return answered(wire_id, "chat", _chat(body), None)


def contained(wire_id: str, wire: str, body: Any) -> LineResult:
    """The line whose answer is ``body``, a whole reply of a container on SageMaker that speaks ``wire``."""
    first = body[0] if isinstance(body, list) and body else body
    if not isinstance(first, Mapping):
        return unreadable("An answer of the container is no JSON object.", wire_id)
    if wire == "chat":
        return answered(wire_id, "chat", first, None)
    return _told(wire_id, TokenDecoder(), _tokens(first))


def failed(wire_id: str, said: Any, status: int | None) -> LineResult:
    """The line that the service answered with an error: what it said, and the HTTP status it would have had."""
    error = stated_error(said, status=status)
    return LineResult(
        wire_id, "failed", error.outcome, message=clean(error.message) or None, http_status=status,
        error_type=error.type, error_code=error.code,
    )  # fmt: skip


def unreadable(why: str, wire_id: str = "") -> LineResult:
    """A line of a results file that holds no answer."""
    return LineResult(wire_id, "failed", "protocol_error", message=why)


def _told(wire_id: str, reader: WireDecoder, events: Iterable[Event]) -> LineResult:
    texts: dict[str, list[str]] = {"answer": [], "reasoning": [], "tool": []}
    for name, value in events:
        for delta in reader.feed(ServerEvent(name, orjson.dumps(value))):
            texts[delta.kind].append(delta.text)
    outcome, detail = judge(reader, saw_content=reader.spoke, eof=True)
    error = reader.error or WireError(outcome)
    return LineResult(
        wire_id, "succeeded" if STATE_OF[outcome] == "succeeded" else "failed", outcome,
        "".join(texts["answer"] or texts["tool"]), "".join(texts["reasoning"]),
        keys.scrub(detail) if detail else None, reader.usage or Usage(), reader.finish_raw, reader.model_reported,
        reader.response_id, None, error.type, error.code, reader.server_ms, reader.served_tier,
    )  # fmt: skip


def _converse(body: Mapping[str, Any]) -> Iterator[Event]:
    content = obj(obj(body.get("output")).get("message")).get("content")
    for index, block in enumerate(map(obj, content if isinstance(content, list) else ())):
        for delta in _blocks(block):
            if "toolUse" in delta:
                yield "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": {}}}
            yield "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}
    yield "messageStop", {"stopReason": body.get("stopReason")}
    told = ("usage", "metrics", "trace", "performanceConfig", "serviceTier")
    yield "metadata", {name: body[name] for name in told if name in body}


def _blocks(block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    if "text" in block:
        yield {"text": text(block["text"])}
    if "reasoningContent" in block:
        thought = obj(obj(block["reasoningContent"]).get("reasoningText")) or obj(block["reasoningContent"])
        yield {"reasoningContent": {"text": text(thought.get("text"))}}
    if "toolUse" in block:
        yield {"toolUse": {"input": orjson.dumps(obj(block["toolUse"]).get("input")).decode()}}


def _chunk(body: Mapping[str, Any]) -> Event:
    return "chunk", {"bytes": base64.b64encode(orjson.dumps(dict(body))).decode()}


def _titan(body: Mapping[str, Any]) -> Mapping[str, Any]:
    results = body.get("results")
    first = obj(results[0]) if isinstance(results, list) and results else {}
    return {
        "outputText": first.get("outputText"), "completionReason": first.get("completionReason"),
        "inputTextTokenCount": body.get("inputTextTokenCount"), "totalOutputTextTokenCount": first.get("tokenCount"),
    }  # fmt: skip


def _chat(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Mistral's newer models call the finish reason ``stop_reason``."""
    choices = body.get("choices")
    first = obj(choices[0]) if isinstance(choices, list) and choices else {}
    if first.get("finish_reason") or not first.get("stop_reason"):
        return body
    return {**body, "choices": [{**first, "finish_reason": first["stop_reason"]}]}


def _tokens(body: Mapping[str, Any]) -> Iterator[Event]:
    details = obj(body.get("details"))
    if body.get("error"):
        yield "", body
    yield "", {
        "token": {"text": text(body.get("generated_text"))}, "generated_text": body.get("generated_text"),
        **({"details": details} if details else {}),
    }  # fmt: skip
