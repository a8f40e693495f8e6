"""Every fault the fake server can do, where it applies, and how a call that meets it has to end.

Rows are those of the fault catalogue. `FAULTS` is meant to be iterated: ``for spec in FAULTS.values(): for wire in
spec.wires: …``. ``outcomes`` lists what is acceptable, the best first; ``text`` what has to be kept of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from services.types import Outcome, State, Wire
from tests.fake import changes as c
from tests.fake import replies as r
from tests.fake.scripts import WIRES, Script, with_fault
from tests.fake.wires import sse

STATES: dict[Outcome, State] = {
    "ok": "succeeded",
    "max_tokens": "succeeded",
    "truncated": "cut_off",
    "refused": "refused",
    "filtered": "refused",
    "throttled": "throttled",
    "cancelled": "cancelled",
    "timeout_connect": "timed_out",
    "timeout_headers": "timed_out",
    "timeout_first_token": "timed_out",
    "timeout_idle": "timed_out",
    "timeout_total": "timed_out",
    "guardrail": "refused",
}  # every other outcome is "failed"

Deadline = Literal["", "connect_s", "headers_s", "first_token_s", "idle_s", "total_s"]


def shortened_s(deadline: Deadline) -> float:
    """How short a test sets a limit: long enough, on a busy machine, for the text that has to come before."""
    return 2.0 if deadline == "total_s" else 0.25


@dataclass(frozen=True, slots=True)
class FaultSpec:
    """One fault. ``row``: of the catalogue (0: the healthy stream). ``deadline``: the limit a test has to shorten.

    ``address``: "server", or what to use instead: "hang" (never accepts) or "closed" (nothing listens).
    """

    name: str
    row: int
    title: str
    outcomes: tuple[Outcome, ...]
    wires: tuple[Wire, ...] = WIRES
    text: Literal["all", "partial", "none"] = "all"
    end: Any = "eof"
    script: Mapping[str, Any] = field(default_factory=dict)
    script_on: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # by wire, on top of `script`
    change: c.Change | None = None
    reply: r.Reply | None = None
    address: Literal["server", "hang", "closed"] = "server"
    deadline: Deadline = ""
    retry_after: bool = False
    with_stream_options: bool = False  # happens only to requests with `stream_options`
    outcomes_by_wire: Mapping[str, tuple[Outcome, ...]] = field(default_factory=dict)

    def outcomes_on(self, wire: Wire) -> tuple[Outcome, ...]:
        """Acceptable outcomes on that wire, the best first."""
        return self.outcomes_by_wire.get(wire, self.outcomes)

    def states_on(self, wire: Wire) -> tuple[State, ...]:
        """Acceptable states on that wire."""
        return states_of(self.outcomes_on(wire))

    def model(self, **options: Any) -> str:
        """The model name that asks for this fault with a short quick answer; ``options`` are `Script` fields."""
        return with_fault(self.name, **options).model()


def states_of(outcomes: Iterable[Outcome | str]) -> tuple[State, ...]:
    """The states of those outcomes, without repetition, in order."""
    known: Mapping[str, State] = {str(outcome): state for outcome, state in STATES.items()}
    return tuple(dict.fromkeys(known.get(o, "failed") for o in outcomes))


def effective(script: Script, wire: Wire) -> Script:
    """The script with its fault's own options; what the caller gave for the same option is overruled."""
    spec = FAULTS[script.fault or "ok"]
    return replace(script, **{**spec.script, **spec.script_on.get(wire, {})})


_MSG: tuple[Wire, ...] = ("messages",)
_RESP: tuple[Wire, ...] = ("responses",)
_CHAT: tuple[Wire, ...] = ("chat",)


def _f(name: str, row: int, title: str, outcome: str, **rest: Any) -> FaultSpec:
    return FaultSpec(name, row, title, tuple(outcome.split("|")), **rest)  # type: ignore[arg-type]  # words are checked in the tests


def _part(name: str, row: int, title: str, outcome: str, change: c.Change, **rest: Any) -> FaultSpec:
    return _f(name, row, title, outcome, change=change, text="partial", **rest)


def _none(name: str, row: int, title: str, outcome: str, reply: r.Reply, **rest: Any) -> FaultSpec:
    return _f(name, row, title, outcome, reply=reply, text="none", **rest)


_LLAMA = b'error: {"code":500,"message":"the slot ran out of context","type":"server_error"}\n\n'
_TOOL_STOP = {"messages": {"finish": "tool_use"}, "chat": {"finish": "tool_calls"}}
_LENGTH = {
    "messages": {"finish": "max_tokens"},
    "responses": {"finish": "max_output_tokens"},
    "chat": {"finish": "length"},
}

_ALL: tuple[FaultSpec, ...] = (
    _f("ok", 0, "nothing wrong", "ok"),
    # A1: errors inside or before the stream
    _part(
        "error_overloaded",
        1,
        "overloaded event in the stream",
        "overloaded",
        c.error_event("overloaded_error", "Overloaded", "server_is_overloaded"),
    ),
    _part(
        "error_api",
        1,
        "the service's own error event",
        "stream_error",
        c.error_event("api_error", "Internal server error", "server_error"),
    ),
    _part(
        "error_rate_limit",
        1,
        "rate limit reached inside the stream",
        "throttled|stream_error",
        c.error_event("rate_limit_error", "Slow down", "rate_limit_exceeded"),
    ),
    _part(
        "error_bare",
        2,
        "an error event that says nothing",
        "stream_error|protocol_error",
        c.said(lambda wire, n: sse({"type": "error"} if wire != "chat" else {"error": {}}, "error")),
    ),
    _f(
        "unknown_events",
        2,
        "events of a kind nobody knows in between",
        "ok",
        change=c.inserted(lambda wire: sse({"type": "news", "n": 1}, "news" if wire != "chat" else None)),
    ),
    _part("responses_failed", 4, "response.failed", "stream_error", c.failed("server_error"), wires=_RESP),
    _part(
        "responses_failed_rate",
        4,
        "response.failed for the rate limit",
        "throttled|stream_error",
        c.failed("rate_limit_exceeded"),
        wires=_RESP,
    ),
    _part("llamacpp_error", 8, "llama.cpp's own error field", "stream_error", c.said(lambda wire, n: _LLAMA)),
    _f("finish_abort", 9, "finished with “abort”", "truncated", wires=("messages", "chat"), script={"finish": "abort"}),
    _f(
        "finish_null",
        10,
        "[DONE] without a finish reason",
        "truncated",
        wires=("messages", "chat"),
        script={"finish": "none"},
    ),
    _f("no_finish", 10, "ends after the last delta", "truncated", change=c.without("close", "usage", "terminal")),
    _f("no_terminal", 10, "finish reason but no closing signal", "truncated", wires=_MSG, change=c.without("terminal")),
    _f(
        "no_done",
        10,
        "finish reason and usage but no [DONE]",
        "ok|truncated",
        wires=_CHAT,
        change=c.without("terminal"),
    ),
    _none("http_429", 11, "429, retry-after in seconds", "throttled", r.throttled, retry_after=True),
    _none("http_429_date", 11, "429, retry-after as a date", "throttled", r.throttled_until, retry_after=True),
    _none("http_429_plain", 11, "429 without retry-after", "throttled", r.status(429)),
    _none("quota_429", 12, "429 because the money ran out", "quota_exhausted", r.quota),
    _none("billing_402", 12, "402", "quota_exhausted", r.status(402), wires=_MSG),
    _none("credit_400", 12, "400 because the credit is used up", "quota_exhausted|http_error", r.credit, wires=_MSG),
    _none("http_529", 13, "529", "overloaded", r.status(529)),
    _none("http_503", 13, "503", "overloaded|http_error", r.status(503)),
    _none("http_500", 13, "500", "http_error|stream_error", r.status(500)),
    _none("http_502_html", 13, "502 with a proxy's page", "http_error", r.html(502)),
    _none("http_400", 13, "400", "http_error", r.status(400)),
    _none("http_401", 13, "401", "unauthorised", r.status(401)),
    _none("http_403", 13, "403", "unauthorised", r.status(403)),
    _none("http_404", 13, "404: no such model", "not_found", r.status(404)),
    _none("http_413", 13, "413", "http_error", r.status(413)),
    _none("http_422", 13, "422", "http_error", r.status(422)),
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
        change=c.stop("hang"),
        deadline="first_token_s",
    ),
    _part("stall", 19, "falls silent in the middle", "timeout_idle", c.stop("hang"), deadline="idle_s"),
    _part("drip", 20, "only keepalives from the middle on", "timeout_idle", c.drip, deadline="idle_s"),
    _f(
        "drip_first",
        20,
        "only keepalives from the start",
        "timeout_first_token",
        script={"at": 0},
        text="none",
        change=c.drip,
        deadline="first_token_s",
    ),
    _f("endless", 20, "never stops", "timeout_total", change=c.endless, deadline="total_s", text="partial"),
    _part("drop", 21, "FIN inside a chunk", "truncated", c.dropped),
    _f("drop_after_end", 21, "FIN without the last chunk, after the closing signal", "ok", end="close"),
    _part("rst", 22, "reset in the middle", "truncated", c.stop("rst")),
    _none("close_before_head", 21, "closed without an answer", "unreachable|truncated|protocol_error", r.slammed),
    _none("rst_before_head", 22, "reset without an answer", "unreachable|truncated|protocol_error", r.slammed_rst),
    _part("clean_eof", 23, "ends cleanly in the middle", "truncated", c.stop("eof")),
    _part("fin", 23, "FIN between two chunks", "truncated", c.stop("close")),
    _f(
        "eof_after_open",
        23,
        "ends cleanly before any content",
        "truncated|empty",
        script={"at": 0},
        text="none",
        change=c.stop("eof"),
    ),
    _none("html_200", 24, "200 with a login page", "protocol_error", r.html(200)),
    _none("json_200", 25, "200 with a JSON error", "protocol_error|stream_error", r.json_error),
    _none("json_200_other", 25, "200 with some JSON", "protocol_error", r.json_other),
    _none("empty_200", 26, "200, chunked, nothing in it", "empty", r.empty),
    _none("empty_200_length", 26, "200, Content-Length: 0", "empty", r.empty_length),
    _f("comments", 27, "a comment before every event", "ok", script={"comments": 1}),
    _f("keepalives", 27, "keepalives between the events", "ok", script={"ping": 1.0}),
    _f("crlf", 27, "CRLF", "ok", script={"newline": "crlf"}),
    _f("cr", 27, "CR alone", "ok", script={"newline": "cr"}),
    _f("one_byte", 27, "one byte per chunk", "ok", script={"chunk": "1"}),
    _f("split_utf8", 27, "emoji and CJK cut anywhere", "ok", script={"chunk": "3-1-7-2", "text": "utf8"}),
    _f("empty_data", 28, "an empty data event", "ok", change=c.inserted(lambda wire: b"data:\n\ndata: \n\n")),
    _part("bad_json", 29, "malformed JSON", "protocol_error", c.spoiled(c.broken_json)),
    _part("bad_utf8", 29, "invalid UTF-8", "protocol_error", c.spoiled(c.broken_utf8)),
    _f("no_last_newline", 30, "the last event has no line end", "ok", change=c.unended),
    _f("bom", 31, "byte order mark", "ok", script={"bom": 1}),
    _f("no_blank_line", 32, "events run together", "ok", change=c.merged),
    _f("burst", 34, "everything at once, at the end", "ok", change=c.burst),
    _f("gzip", 35, "gzip if the client accepts it", "ok", change=c.gzipped(always=False)),
    _f("gzip_forced", 35, "gzip though the client did not ask", "ok|protocol_error", change=c.gzipped(always=True)),
    _f("to_close", 23, "no chunks: the body ends with the connection", "ok", script={"transfer": "close"}),
    _f("with_length", 23, "Content-Length instead of chunks", "ok", script={"transfer": "length"}),
    # A3: content and meters
    _f("empty_first", 38, "role-only and empty deltas first", "ok", script={"empties": 3}),
    _f("no_role", 38, "no role chunk", "ok", wires=_CHAT, script={"role": 0}),
    _f("reasoning_first", 39, "reasoning deltas first", "ok", script={"reasoning": 6}),
    _f(
        "reasoning_alias",
        39,
        "reasoning under its other name",
        "ok",
        wires=("responses", "chat"),
        script={"reasoning": 6},
        script_on={"responses": {"reasoning_style": "summary"}, "chat": {"reasoning_style": "reasoning"}},
    ),
    _f("tool_only", 40, "a tool call and no text", "ok", script={"tokens": 0, "tool": 6}),
    _f(
        "tool_stop_empty",
        40,
        "says it calls a tool, and does not",
        "empty",
        wires=("messages", "chat"),
        text="none",
        script={"tokens": 0},
        script_on=_TOOL_STOP,
    ),
    _f("usage_missing", 41, "no usage", "ok", script={"usage": "missing"}),
    _f("usage_null", 41, "usage is null", "ok", script={"usage": "null"}),
    _f("usage_every", 41, "usage in every chunk", "ok", wires=("messages", "chat"), script={"usage": "every"}),
    _f("usage_late", 41, "usage long after the last delta", "ok", script={"late_usage": 40.0}),
    _none(
        "stream_options_400",
        42,
        "stream_options is refused",
        "http_error|config_error",
        r.status(400, "stream_options: extra fields not permitted"),
        wires=_CHAT,
        with_stream_options=True,
    ),
    _f("usage_zero", 43, "usage says zero", "ok", script={"usage": "zero"}),
    _f("empty_answer", 44, "ends normally with nothing", "empty", script={"tokens": 0}, text="none"),
    _f("max_tokens", 44, "the token limit", "max_tokens", script_on=_LENGTH),
    _f(
        "all_reasoning",
        44,
        "the whole limit spent on reasoning",
        "empty",
        text="none",
        script={"tokens": 0, "reasoning": 8},
        script_on=_LENGTH,
    ),
    _f(
        "context_full",
        44,
        "the context window is full",
        "max_tokens|truncated",
        wires=_MSG,
        script={"finish": "model_context_window_exceeded"},
    ),
    _f("refusal", 45, "the model refuses", "refused", script={"finish": "refusal"}),
    _f(
        "content_filter",
        45,
        "the filter stops it",
        "filtered",
        wires=("responses", "chat"),
        script={"finish": "content_filter"},
    ),
    # Beyond the catalogue
    _none("redirect_302", 0, "302 to the canary", "http_error", r.redirect(302)),
    _none("redirect_307", 0, "307 to the canary", "http_error", r.redirect(307)),
    _part("huge_line", 0, "a line of 2 MB", "protocol_error", c.inserted(c.huge, "error")),
)

FAULTS: dict[str, FaultSpec] = {spec.name: spec for spec in _ALL}
