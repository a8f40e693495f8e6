"""The frames (server-sent events) of an undisturbed answer, the same for a script whoever asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from services.types import Wire
from tests.fake.scripts import Mark, Script, cycled, output_tokens

REPORTED = "fake-1"  # the model name that answers carry
CREATED = 1_790_000_000
THOUGHTS = [" I", " have", " to", " think", " step", " by", " step", "."]


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event with its blank line; ``text`` is the content it carries."""

    mark: Mark
    data: bytes
    text: str = ""


def dumps(value: Any) -> str:
    """JSON as the services send it: compact, non-ASCII characters as they are."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def sse(value: Any, event: str | None = None) -> bytes:
    """One event; ``value`` is an object, or ready text."""
    text = value if isinstance(value, str) else dumps(value)
    name = f"event: {event}\n" if event else ""
    return f"{name}data: {text}\n\n".encode()


def contents(script: Script) -> list[tuple[Mark, str]]:
    """(mark, text) of every content delta, in order."""
    groups: list[tuple[Mark, list[str]]] = [
        ("reasoning", cycled(THOUGHTS, script.reasoning)),
        ("answer", script.words()),
        ("tool", tool_pieces(script.tool)),
    ]
    per = max(1, script.tokens_per_delta)
    return [(mark, "".join(words[i : i + per])) for mark, words in groups for i in range(0, len(words), per)]


def tool_pieces(n: int) -> list[str]:
    """``n`` pieces of a JSON object of tool arguments."""
    if n <= 0:
        return []
    return ["{}"] if n == 1 else ['{"city":"Z', *["ü"] * (n - 2), '"}']


def sent_so_far(script: Script, parts: Sequence[tuple[Mark, str]]) -> list[int]:
    """Output tokens sent up to and including each delta (for services that state usage in every chunk)."""
    total = output_tokens(script) - script.hidden_reasoning
    return [min(total, n) for n in accumulate([max(1, script.tokens_per_delta)] * len(parts))]


def frames_for(script: Script, wire: Wire) -> list[Frame]:
    """Every frame of the undisturbed answer on that wire."""
    from tests.fake import wire_chat, wire_messages, wire_responses

    builders = {"messages": wire_messages.frames, "responses": wire_responses.frames, "chat": wire_chat.frames}
    return builders[wire](script)


def whole_for(script: Script, wire: Wire) -> dict[str, Any]:
    """The JSON body of a request that did not ask to stream."""
    from tests.fake import wire_chat, wire_messages, wire_responses

    builders = {"messages": wire_messages.whole, "responses": wire_responses.whole, "chat": wire_chat.whole}
    return builders[wire](script)


def keepalive(wire: Wire) -> bytes:
    """What that service sends to keep a connection open."""
    return sse({"type": "ping"}, "ping") if wire == "messages" else b": keepalive\n\n"


def error_body(wire: Wire, status: int, kind: str, message: str, code: str | None = None) -> dict[str, Any]:
    """The JSON error object that the service of that wire sends with an HTTP status."""
    if wire == "messages":
        return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_fake_{status}"}
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}
