"""Every fault the emulator can do, where it applies, and how a call that meets it has to end.

Meant to be iterated like `tests.fake.faults`: ``for spec in FAULTS.values(): for route in spec.routes: …``. Rows are
those of the fault catalogue; ``outcomes`` lists what is acceptable, the best first; ``text`` what is kept.
The mantle's routes (messages, responses, chat) take the faults of `tests.fake.faults` themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from services.types import Outcome, State
from tests.aws import changes as c
from tests.aws import scripts
from tests.aws.scripts import INVOKE, ROUTES, SAGEMAKER, TELLING, AwsScript
from tests.fake import changes as fake
from tests.fake import replies as r
from tests.fake.faults import Deadline, states_of
from tests.fake.plan import Plan

__all__ = ["FAULTS", "FaultSpec", "effective", "states_of"]
Change = Callable[[Plan, Any, Any], Plan]
Reply = Callable[[Any, Any], Plan]


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault. ``inner`` changes what is in the frames, ``change`` the frames, ``reply`` is a whole other answer.

    ``address``: "server", or what to use instead: "hang" (never accepts) or "closed" (nothing listens).
    """

    name: str
    row: int
    title: str
    outcomes: tuple[Outcome, ...]
    routes: tuple[str, ...] = ROUTES
    text: Literal["all", "partial", "none"] = "all"
    end: Any = "eof"
    script: Mapping[str, Any] = field(default_factory=dict)
    script_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    inner: Change | None = None
    change: Change | None = None
    reply: Reply | None = None
    address: Literal["server", "hang", "closed"] = "server"
    deadline: Deadline = ""

    def outcomes_on(self, route: str) -> tuple[Outcome, ...]:
        """Acceptable outcomes, the best first."""
        return self.outcomes

    def states_on(self, route: str) -> tuple[State, ...]:
        """Acceptable states."""
        return states_of(self.outcomes)

    def model(self, name: str = "fake", **options: Any) -> str:
        """The model id or endpoint name that asks ``name`` for this fault with a short quick answer."""
        return scripts.model(scripts.with_fault(self.name, **options), name)


def effective(script: AwsScript, route: str) -> AwsScript:
    """The script with its fault's own options, and without what its route cannot say."""
    spec = FAULTS[script.fault or "ok"]
    real = replace(script, **{**spec.script, **spec.script_on.get(route, {})})
    return real if route in TELLING else replace(real, reasoning=0, tool=0)


_CONVERSE = ("converse",)
_BEDROCK = (*_CONVERSE, *INVOKE)
_SSE = ("sagemaker:chat", "sagemaker:tgi")


def _f(name: str, row: int, title: str, outcome: str, **rest: Any) -> FaultSpec:
    return FaultSpec(name, row, title, tuple(outcome.split("|")), **rest)  # type: ignore[arg-type]  # words are checked in the tests


def _part(name: str, row: int, title: str, outcome: str, change: Change, **rest: Any) -> FaultSpec:
    return _f(name, row, title, outcome, change=change, text="partial", **rest)


def _inner(name: str, row: int, title: str, outcome: str, inner: Change, **rest: Any) -> FaultSpec:
    return _f(name, row, title, outcome, inner=inner, text="partial", **rest)


def _none(name: str, row: int, title: str, outcome: str, reply: Reply, **rest: Any) -> FaultSpec:
    return _f(name, row, title, outcome, reply=reply, text="none", **rest)


def _finish(name: str, row: int, title: str, outcome: str, words: Mapping[str, str], **rest: Any) -> FaultSpec:
    return _f(
        name, row, title, outcome, routes=tuple(words), script_on={w: {"finish": v} for w, v in words.items()}, **rest
    )


def _http(name: str, row: int, code: str, outcome: str, **rest: Any) -> FaultSpec:
    return _none(name, row, code, outcome, c.error(code), **rest)


_LENGTH = {
    "converse": "max_tokens",
    "invoke:anthropic": "max_tokens",
    "invoke:llama": "length",
    "invoke:mistral": "length",
    "invoke:titan": "LENGTH",
    "invoke:chat": "length",
    "sagemaker:chat": "length",
    "sagemaker:tgi": "length",
    "sagemaker:lines": "length",
}
_FILTERED = {
    "converse": "content_filtered",
    "invoke:titan": "CONTENT_FILTERED",
    "invoke:chat": "content_filter",
    "sagemaker:chat": "content_filter",
}
_TIMED = "stream_error|timeout_total|timeout_idle|timeout_first_token|timeout_headers|http_error"
_GONE = "unreachable|truncated|protocol_error"

_ALL: tuple[FaultSpec, ...] = (
    _f("ok", 0, "nothing wrong", "ok"),
    # A1: exceptions inside the stream
    _part(
        "stream_throttling",
        5,
        "throttlingException in the stream",
        "throttled|stream_error",
        c.excepted("throttlingException"),
        routes=_BEDROCK,
    ),
    _part(
        "stream_throttling_first",
        5,
        "throttlingException before any content",
        "throttled|stream_error",
        c.excepted("throttlingException"),
        routes=_BEDROCK,
        script={"at": 0},
    ),
    _part(
        "stream_internal",
        5,
        "internalServerException in the stream",
        "stream_error",
        c.excepted("internalServerException"),
        routes=_BEDROCK,
    ),
    _part(
        "stream_model_error",
        5,
        "modelStreamErrorException with the original status",
        "stream_error",
        c.excepted("modelStreamErrorException"),
        routes=_BEDROCK,
    ),
    _part(
        "stream_validation",
        5,
        "validationException in the stream",
        "stream_error|http_error",
        c.excepted("validationException"),
        routes=_BEDROCK,
    ),
    _part(
        "stream_unavailable",
        5,
        "serviceUnavailableException in the stream",
        "overloaded|stream_error",
        c.excepted("serviceUnavailableException"),
        routes=_BEDROCK,
    ),
    _part(
        "stream_model_timeout",
        14,
        "modelTimeoutException in the stream",
        _TIMED,
        c.excepted("modelTimeoutException"),
        routes=INVOKE,
    ),
    _part("stream_unmodelled", 5, "an error frame that no model knows", "stream_error", c.unmodelled),
    _part(
        "model_stream_error",
        7,
        "ModelStreamError: StreamBroken",
        "truncated|stream_error",
        c.excepted("ModelStreamError"),
        routes=SAGEMAKER,
    ),
    _part(
        "model_stream_time",
        7,
        "ModelStreamError: ModelInvocationTimeExceeded",
        _TIMED,
        c.excepted("ModelStreamError", "ModelInvocationTimeExceeded"),
        routes=SAGEMAKER,
    ),
    _part(
        "internal_stream_failure",
        7,
        "InternalStreamFailure",
        "stream_error",
        c.excepted("InternalStreamFailure"),
        routes=SAGEMAKER,
    ),
    _inner(
        "container_error",
        3,
        "the container states an error in its own stream",
        "stream_error",
        c.container_error,
        routes=SAGEMAKER,
    ),
    _inner(
        "model_error_event",
        1,
        "Anthropic's error event inside a chunk",
        "overloaded|stream_error",
        c.overloaded,
        routes=("invoke:anthropic",),
    ),
    _f("unknown_events", 2, "events of a kind nobody knows in between", "ok", change=c.unknown),
    _f(
        "unknown_stop",
        9,
        "a stop reason nobody knows",
        "truncated",
        routes=("converse", "invoke:anthropic"),
        script={"finish": "moon_phase"},
    ),
    _f("finish_abort", 9, "finished with “abort”", "truncated", routes=("sagemaker:chat",), script={"finish": "abort"}),
    _f(
        "no_finish",
        10,
        "ends after the last delta",
        "truncated",
        inner=fake.without("close", "usage", "terminal"),
        change=fake.without("close", "usage", "terminal"),
    ),
    _f(
        "no_message_stop",
        10,
        "metadata but no messageStop",
        "truncated",
        routes=_CONVERSE,
        change=fake.without("terminal"),
    ),
    _f(
        "no_metadata", 41, "messageStop but no metadata", "ok|truncated", routes=_CONVERSE, change=fake.without("usage")
    ),
    # before the stream
    _http("throttled", 11, "ThrottlingException", "throttled"),
    _http("denied", 13, "AccessDeniedException", "unauthorised"),
    _http("missing_model", 13, "ResourceNotFoundException", "not_found", routes=_BEDROCK),
    _http("invalid", 13, "ValidationException", "http_error|not_found|config_error", routes=_BEDROCK),
    _http("model_timeout", 14, "ModelTimeoutException", _TIMED, routes=_BEDROCK),
    _http("not_ready", 14, "ModelNotReadyException", "not_ready"),
    _http("unavailable", 13, "ServiceUnavailableException", "overloaded|http_error", routes=_BEDROCK),
    _http("internal", 13, "InternalServerException", "http_error|stream_error", routes=_BEDROCK),
    _http("model_failed", 13, "ModelErrorException", "http_error|stream_error", routes=_BEDROCK),
    _http("expired", 13, "ExpiredTokenException", "unauthorised"),
    _http("unrecognised", 13, "UnrecognizedClientException", "unauthorised"),
    _http("bad_signature", 13, "InvalidSignatureException", "unauthorised"),
    _http("quota", 12, "ServiceQuotaExceededException", "quota_exhausted|http_error|throttled", routes=_BEDROCK),
    _http("sm_not_found", 13, "ValidationError", "http_error|not_found|config_error", routes=SAGEMAKER),
    _http("sm_model_error", 13, "ModelError", "http_error|stream_error", routes=SAGEMAKER),
    _http("sm_unavailable", 13, "ServiceUnavailable", "overloaded|http_error", routes=SAGEMAKER),
    _http("sm_internal", 13, "InternalFailure", "http_error|stream_error", routes=SAGEMAKER),
    # A2: transport
    _none("connect_hang", 18, "never accepted", "timeout_connect", r.nothing, address="hang", deadline="connect_s"),
    _none("refused", 18, "nothing listens", "unreachable", r.nothing, address="closed"),
    _none("header_stall", 18, "accepted, never answered", "timeout_headers", r.nothing, deadline="headers_s"),
    _f(
        "first_token_stall",
        18,
        "headers, then nothing",
        "timeout_first_token",
        script={"at": 0},
        text="none",
        change=fake.stop("hang"),
        deadline="first_token_s",
    ),
    _part("stall", 19, "falls silent in the middle", "timeout_idle", fake.stop("hang"), deadline="idle_s"),
    _f(
        "drip",
        20,
        "the container sends only comments from the middle on",
        "timeout_idle",
        inner=c.drip,
        routes=_SSE,
        text="partial",
        deadline="idle_s",
    ),
    _f("endless", 20, "never stops", "timeout_total", change=fake.endless, deadline="total_s", text="partial"),
    _part("mid_frame", 21, "FIN inside a frame and a chunk", "truncated", fake.dropped),
    _part("mid_frame_eof", 21, "a clean end inside a frame", "truncated", c.half_frame),
    _part("length_cut", 21, "Content-Length, and fewer bytes", "truncated", c.short_of_length),
    _f(
        "hang_after_end",
        19,
        "everything is sent, and the connection stays open",
        "ok|timeout_idle",
        end="hang",
        deadline="idle_s",
    ),
    _f("drop_after_end", 21, "FIN without the last chunk, after everything", "ok", end="close"),
    _part("rst", 22, "reset in the middle", "truncated", fake.stop("rst")),
    _none("close_before_head", 21, "closed without an answer", _GONE, r.slammed),
    _none("rst_before_head", 22, "reset without an answer", _GONE, r.slammed_rst),
    _part("clean_eof", 23, "ends cleanly at the border of a frame", "truncated", fake.stop("eof")),
    _part("fin", 23, "FIN between two frames", "truncated", fake.stop("close")),
    _f(
        "eof_after_open",
        23,
        "ends cleanly before any content",
        "truncated|empty",
        script={"at": 0},
        text="none",
        change=fake.stop("eof"),
    ),
    _part("bad_crc", 24, "a frame with a wrong checksum", "protocol_error", c.damaged("crc")),
    _part("bad_prelude", 24, "a frame whose lengths have a wrong checksum", "protocol_error", c.damaged("prelude")),
    _part("bad_body", 24, "a frame with a bit turned in its payload", "protocol_error", c.damaged("body")),
    _part("huge_frame", 24, "a frame that says it is 2 GB long", "protocol_error|truncated", c.huge),
    _none("html_200", 24, "200 with a login page", "protocol_error", r.html(200)),
    _none("html_as_stream", 24, "200 with a page that calls itself an event stream", "protocol_error", c.html_stream),
    _none("html_502", 13, "502 with a proxy's page", "http_error", r.html(502)),
    _none("json_200", 25, "200 with a JSON error", "protocol_error|stream_error", c.json_error),
    _none("json_200_other", 25, "200 with some JSON", "protocol_error", r.json_other),
    _none("empty_200", 26, "200, chunked, nothing in it", "empty", c.empty),
    _none("empty_200_length", 26, "200, Content-Length: 0", "empty", c.empty_length),
    _f("one_byte", 27, "one byte per chunk", "ok", script={"chunk": "1"}),
    _f("split_utf8", 27, "emoji and CJK, chunks cut anywhere", "ok", script={"chunk": "3-1-7-2", "text": "utf8"}),
    _f("burst", 34, "everything at once, at the end", "ok", change=fake.burst),
    _f("to_close", 23, "no chunks: the body ends with the connection", "ok", script={"transfer": "close"}),
    _f("with_length", 23, "Content-Length instead of chunks", "ok", script={"transfer": "length"}),
    _none("redirect_307", 0, "307 to the canary", "http_error", r.redirect(307)),
    # PayloadParts, and what a container writes
    _f("parts_one_byte", 33, "one byte per part", "ok", routes=SAGEMAKER, script={"parts": "1", "text": "utf8"}),
    _f(
        "parts_odd",
        33,
        "parts that end inside lines and characters",
        "ok",
        routes=SAGEMAKER,
        script={"parts": "3-1-17-2", "text": "utf8"},
    ),
    _f("parts_two", 33, "two events in a part", "ok", routes=SAGEMAKER, script={"join": 2}),
    _f(
        "parts_mixed",
        33,
        "three events together, cut into uneven parts",
        "ok",
        routes=SAGEMAKER,
        script={"join": 3, "parts": "150-13-40"},
    ),
    _f("comments", 27, "a comment before every event", "ok", routes=_SSE, script={"comments": 1}),
    _f("keepalives", 27, "keepalives between the events", "ok", routes=_SSE, script={"ping": 1.0}),
    _f("crlf", 27, "CRLF", "ok", routes=SAGEMAKER, script={"newline": "crlf"}),
    _f("bom", 31, "byte order mark", "ok", routes=SAGEMAKER, script={"bom": 1}),
    _f("no_last_newline", 30, "the last event has no line end", "ok", inner=fake.unended, routes=SAGEMAKER),
    _inner(
        "bad_json",
        29,
        "malformed JSON in a frame",
        "protocol_error",
        fake.spoiled(c.broken_json),
        routes=(*INVOKE, *SAGEMAKER),
    ),
    _f(
        "bad_event_json",
        29,
        "malformed JSON as an event's payload",
        "protocol_error",
        text="partial",
        change=c.broken_event,
        routes=_BEDROCK,
    ),
    _inner(
        "bad_utf8",
        29,
        "invalid UTF-8 in a frame",
        "protocol_error",
        fake.spoiled(fake.broken_utf8),
        routes=(*INVOKE, *SAGEMAKER),
    ),
    _f(
        "merged_end",
        40,
        "the last token's event carries the end",
        "ok",
        routes=("sagemaker:tgi", "sagemaker:lines"),
        script={"last": 1},
    ),
    # A3: content and meters
    _f(
        "empty_first",
        38,
        "empty deltas first",
        "ok",
        script={"empties": 3},
        routes=("converse", "invoke:anthropic", "sagemaker:chat"),
    ),
    _f("reasoning_first", 39, "reasoning deltas first", "ok", routes=tuple(sorted(TELLING)), script={"reasoning": 6}),
    _f("redacted", 39, "redacted reasoning first", "ok", routes=_CONVERSE, script={"redacted": 2}),
    _f(
        "tool_only", 40, "a tool call and no text", "ok", routes=tuple(sorted(TELLING)), script={"tokens": 0, "tool": 6}
    ),
    _f(
        "tool_stop_empty",
        40,
        "says it calls a tool, and does not",
        "empty",
        routes=_CONVERSE,
        text="none",
        script={"tokens": 0, "finish": "tool_use"},
    ),
    _f("usage_missing", 41, "no usage", "ok|truncated", script={"usage": "missing"}),
    _f("usage_late", 41, "usage long after the last delta", "ok", script={"late_usage": 40.0}),
    _f("usage_zero", 43, "usage says zero", "ok", script={"usage": "zero"}),
    _f("empty_answer", 44, "zero tokens, ends normally", "empty", script={"tokens": 0}, text="none"),
    _finish("max_tokens", 44, "the token limit", "max_tokens", _LENGTH),
    _f(
        "all_reasoning",
        44,
        "the whole limit spent on reasoning",
        "empty",
        text="none",
        routes=_CONVERSE,
        script={"tokens": 0, "reasoning": 8, "finish": "max_tokens"},
    ),
    _f("stop_sequence", 44, "a stop sequence", "ok", routes=_CONVERSE, script={"finish": "stop_sequence"}),
    _f(
        "context_full",
        44,
        "model_context_window_exceeded",
        "max_tokens|truncated",
        routes=_CONVERSE,
        script={"finish": "model_context_window_exceeded"},
    ),
    _f(
        "guardrail",
        45,
        "guardrail_intervened, with its trace",
        "guardrail",
        routes=_CONVERSE,
        script={"finish": "guardrail_intervened", "guardrail": "intervened"},
    ),
    _f("guardrail_passed", 45, "a guardrail that let it pass", "ok", routes=_CONVERSE, script={"guardrail": "passed"}),
    _finish("content_filter", 45, "the filter stops it", "filtered", _FILTERED),
    _f("refusal", 45, "the model refuses", "refused", routes=("invoke:anthropic",), script={"finish": "refusal"}),
    _f(
        "malformed_output",
        45,
        "malformed_model_output",
        "stream_error|truncated|protocol_error",
        routes=_CONVERSE,
        script={"finish": "malformed_model_output"},
    ),
    _f(
        "malformed_tool",
        45,
        "malformed_tool_use",
        "stream_error|truncated|protocol_error",
        routes=_CONVERSE,
        script={"finish": "malformed_tool_use"},
    ),
    _f(
        "other_tier",
        0,
        "another service tier than the one asked for",
        "ok",
        routes=_BEDROCK,
        script={"tier": "default"},
    ),
)

FAULTS: dict[str, FaultSpec] = {spec.name: spec for spec in _ALL}
