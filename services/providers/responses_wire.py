"""The Responses wire (OpenAI, llama.cpp): request body and stream decoder.

Terminal signal: ``response.completed`` or ``response.incomplete``. ``response.failed``, ``response.cancelled`` and
``error`` events end the call in their own error.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from services.providers.decoder import WireDecoder, text
from services.providers.usage import from_openai, obj
from services.types import Ask, Delta, Deployment

_DELTAS: dict[str, Literal["answer", "reasoning", "tool"]] = {
    "response.output_text.delta": "answer",
    "response.refusal.delta": "answer",
    "response.reasoning_summary_text.delta": "reasoning",
    "response.reasoning_text.delta": "reasoning",
    "response.function_call_arguments.delta": "tool",
    "response.custom_tool_call_input.delta": "tool",
    "response.mcp_call_arguments.delta": "tool",
    "response.code_interpreter_call_code.delta": "tool",
}
_LAST = frozenset({"response.completed", "response.incomplete", "response.failed", "response.cancelled"})


class ResponsesDecoder(WireDecoder):
    """Decodes typed ``response.*`` events."""

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
        """One event; its type is stated in the data, and in the event name as well."""
        kind = text(body.get("type")) or name
        if kind in _DELTAS:
            if kind == "response.refusal.delta":
                self.refused = self.refused or bool(text(body.get("delta")))
            return [Delta(_DELTAS[kind], text(body.get("delta")))]
        response = obj(body.get("response"))
        self.identify(response)
        if kind == "response.output_item.added" and text(obj(body.get("item")).get("type")).endswith("_call"):
            self.answered = True
        if kind in _LAST:
            return self._last(kind, response)
        return ()

    def _last(self, kind: str, response: Mapping[str, Any]) -> Sequence[Delta]:
        usage = obj(response.get("usage"))
        self.usage = from_openai(usage) or self.usage
        self.tier(response.get("service_tier"))
        status = text(response.get("status")) or kind.removeprefix("response.")
        if kind == "response.failed" or status == "failed" or response.get("error"):
            self.finish("failed")
            self.fail(response.get("error"))
            return ()
        if kind == "response.incomplete" or status == "incomplete":
            self.finish(obj(response.get("incomplete_details")).get("reason") or "incomplete")
        else:
            self.finish(status)
        if kind == "response.cancelled" or status not in ("completed", "incomplete"):
            self.cut(f"the service ended its answer with the status “{self.finish_raw}”")
            return ()
        self._ended = True
        # A server that does not stream still says its whole text here.
        return () if self.answered else list(_whole(response))


def _whole(response: Mapping[str, Any]) -> Iterator[Delta]:
    output = response.get("output")
    for item in map(obj, output if isinstance(output, list) else []):
        content = item.get("content")
        if item.get("type") == "message" and isinstance(content, list):
            for part in map(obj, content):
                if part.get("type") == "output_text":
                    yield Delta("answer", text(part.get("text")))


def responses_body(deployment: Deployment, ask: Ask, params: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON body of a streamed response that the service does not store."""
    body: dict[str, Any] = {
        "model": deployment.model,
        "input": [{"role": message.role, "content": message.text} for message in ask.messages],
        "stream": True,
        "store": False,
    }
    if ask.system:
        body["instructions"] = ask.system
    for name, value in params.items():
        if name == "max_tokens":
            body["max_output_tokens"] = value
        elif name == "reasoning_effort":
            body["reasoning"] = {"effort": value}
        else:
            body[name] = value
    return body
