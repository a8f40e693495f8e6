"""What the decoders of the wires share: parsing an event without ever raising, and stating errors."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson

from services.providers.errors import plain, stated_error
from services.types import Delta, Json, JsonMapping, Usage, WireError
from services.wire.framing import ServerEvent

_NOTHING: tuple[Delta, ...] = ()


class WireDecoder:
    """Base of the decoders: a pure state machine without a clock. Subclasses fill in `take`.

    Beside what `base.Decoder` asks for it knows ``events`` (how many carried data), ``answered`` (answer text or a tool
    call came, not only reasoning), ``refused`` (the service marked its text as a refusal), which
    `services.outcomes.judge` looks at, and ``spoke`` (any content came).
    """

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.finish_raw: str | None = None
        self.finish_detail: str | None = None
        self.error: WireError | None = None
        self.model_reported: str | None = None
        self.response_id: str | None = None
        self.server_ms: float | None = None
        self.served_tier: str | None = None
        self.facts: Json = {}
        self.events = 0
        self.answered = False
        self.refused = False
        self.spoke = False
        self._ended = False

    def opened(self, headers: Mapping[str, str]) -> None:
        """The response's headers (names in lower case): ids that a service names only there."""
        if headers.get("x-amzn-invoked-production-variant"):
            self.facts["variant"] = plain(headers["x-amzn-invoked-production-variant"], 80)
        for name in ("x-amzn-requestid", "request-id", "x-request-id"):
            if headers.get(name):
                self.facts["request_id"] = plain(headers[name], 80)
                return

    @property
    def terminal(self) -> bool:
        """True once the wire's own terminal signal was seen, and nothing went wrong before it."""
        return self._ended and self.error is None

    def feed(self, event: ServerEvent) -> Sequence[Delta]:
        """Decode one event; returns the non-empty content it carried. After an error nothing more is decoded."""
        if self.error is not None:
            return _NOTHING
        self.events += 1
        if event.fields:
            self._odd_fields(event)
        data = event.data.strip()
        if self.error is not None or not data:
            if not data and event.name == "error" and self.error is None:
                self.fail(None)
            return _NOTHING
        if data == b"[DONE]":
            self.done()
            return _NOTHING
        body = self._parse(data)
        if body is None:
            return _NOTHING
        if (
            event.name in ("error", "exception")
            or body.get("error")
            or body.get("type") == "error"
            or body.get("object") == "error"
        ):
            self.fail(body)
            return _NOTHING
        if "timings" in body:
            self._server_time(body["timings"])
        deltas = [delta for delta in self.take(event.name, body) if delta.text]
        self.spoke = self.spoke or bool(deltas)
        if not self.answered and any(delta.kind != "reasoning" for delta in deltas):
            self.answered = True
        return deltas

    def take(self, name: str, body: JsonMapping) -> Sequence[Delta]:
        """Decode one parsed event of the wire; may return empty deltas, which are dropped."""
        raise NotImplementedError

    def done(self) -> None:
        """The chat wire's ``[DONE]``; the other wires have no such event and take no notice of it."""

    def fail(self, stated: Any) -> None:
        """End in the error that the service stated."""
        self.error = stated_error(stated)
        if self.spoke and self.error.outcome == "timeout_first_token":
            self.error = replace(self.error, outcome="timeout_idle")

    def cut(self, message: str) -> None:
        """End as truncated: the service closed its answer in a way that is not one of its normal ones."""
        self.error = WireError("truncated", "abnormal_finish", self.finish_raw, message)

    def tier(self, raw: Any) -> None:
        """Note which service tier really served the call, where the service says it."""
        if isinstance(raw, str) and raw:
            self.served_tier = plain(raw, 40)

    def finish(self, raw: Any) -> None:
        """Note the wire's own word for why it stopped."""
        if isinstance(raw, str) and raw:
            self.finish_raw = plain(raw, 80)

    def identify(self, body: JsonMapping) -> None:
        """Note the response's id and the model that answered, the first time each is said."""
        if self.response_id is None and isinstance(body.get("id"), str):
            self.response_id = plain(body["id"]) or None
        if self.model_reported is None and isinstance(body.get("model"), str):
            self.model_reported = plain(body["model"]) or None

    def _odd_fields(self, event: ServerEvent) -> None:
        for field, value in event.fields:
            parsed = loads(value)
            if field == "error":
                self.error = stated_error(parsed if parsed is not None else value.decode("utf-8", "replace"))
            elif isinstance(parsed, Mapping) and (parsed.get("error") or parsed.get("object") == "error"):
                self.error = stated_error(parsed)

    def _parse(self, data: bytes) -> JsonMapping | None:
        body = loads(data)
        if isinstance(body, dict):
            return body
        position, why = 0, "is not a JSON object"
        try:
            data.decode("utf-8")
            orjson.loads(data)
        except UnicodeDecodeError as error:
            position, why = error.start, "is not valid UTF-8"
        except orjson.JSONDecodeError as error:
            position, why = error.pos, "is not valid JSON"
        place = f"event {self.events}, byte {position}"
        self.error = WireError(
            "protocol_error", "bad_event", place, f"event {self.events} {why} (at its byte {position})"
        )
        return None

    def _server_time(self, timings: Any) -> None:
        """llama.cpp's own account of its work: prompt and generation, in milliseconds."""
        if not isinstance(timings, Mapping):
            return
        parts = [timings.get("prompt_ms"), timings.get("predicted_ms")]
        durations = [
            float(p) for p in parts if isinstance(p, int | float) and not isinstance(p, bool) and 0 <= p < 1e12
        ]
        if durations:
            self.server_ms = sum(durations)


def loads(data: bytes) -> Any:
    """Parsed JSON, or None when it is none. Lone surrogates, which strict parsers refuse, become "?"."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        if b"\\u" not in data:
            return None
    try:
        tolerant = json.loads(data.decode("utf-8"))
        return orjson.loads(json.dumps(tolerant, ensure_ascii=False).encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def text(value: Any) -> str:
    """``value`` if it is a string, else ""."""
    return value if isinstance(value, str) else ""
