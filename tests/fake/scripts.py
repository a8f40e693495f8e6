"""What one response of the fake server does, and the truth that a client has to find in it.

A `Script` is one request's behaviour; it travels as a model name (``fake?tokens=40&itl=20``), so that any client can
choose it. `truth` walks the very plan that the server plays, so the two cannot disagree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import pairwise, takewhile
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

from services.types import Usage, Wire

Mark = Literal["open", "reasoning", "answer", "tool", "keepalive", "error", "close", "usage", "terminal", "junk"]
CONTENT: frozenset[str] = frozenset({"reasoning", "answer", "tool"})
WIRES: tuple[Wire, ...] = ("messages", "responses", "chat")

VOCABULARIES: dict[str, tuple[str, ...]] = {
    "words": (
        "the",
        "quick",
        "model",
        "counts",
        "every",
        "byte",
        "it",
        "sends",
        "and",
        "says",
        "when",
        "each",
        "of",
        "them",
        "left",
        "so",
        "that",
        "a",
        "clock",
        "which",
        "lies",
        "can",
        "be",
        "found.",
    ),
    "utf8": ("naïve", "日本語", "👩‍👩‍👧‍👦", "é", "🇨🇭", "漢字", "ﷺ", "😀", "한국어", "𝄞", "“quoted”", "\n", "end"),
    "markdown": ("# head", "**bold**", "<b>x</b>", "`code`", "| a | b |", "\n", "- item", "$x$", ":red[x]"),
}


@dataclass(frozen=True, slots=True)
class Script:
    """One response. Times are milliseconds from the full request being received; ``None`` means "the usual".

    Deltas leave at ``ttft + n * itl``. ``itl`` is the gap between deltas, each of ``tokens_per_delta`` tokens.
    """

    fault: str = ""
    at: int | None = None  # content deltas sent before the fault; None = 5, or half of a shorter answer
    tokens: int | None = None  # answer tokens; None = 20, or those of a literal ``text``
    ttft: float = 5.0
    itl: float = 2.0
    headers: float = 0.0  # response head
    reasoning: int = 0  # reasoning tokens sent before the answer
    reasoning_style: str = ""  # chat: "reasoning" for that field name; responses: "summary" for summary deltas
    hidden_reasoning: int = 0  # reasoning tokens that are only in the usage
    tool: int = 0  # tool-argument tokens sent after the answer
    tokens_per_delta: int = 1
    text: str = "words"  # a name in VOCABULARIES, or the literal text itself
    input: int = 12  # uncached input tokens
    cached: int = 0
    cache_write: int = 0  # 5 minutes
    cache_write_1h: int = 0
    usage: str = ""  # "missing" | "null" | "zero" | "every"
    late_usage: float = 0.0  # last delta → usage and what follows it
    finish: str = ""  # the wire's own finish word, instead of the usual one ("none": it is null)
    role: int = 1  # 0: no role chunk (chat)
    empties: int = 0  # empty deltas sent with the opening, before the first content
    ping: float = 0.0  # one keepalive every so many ms, from the head on
    comments: int = 0  # 1: an SSE comment before every event
    chunk: str = ""  # bytes per write, "1" or a cycle "3-1-7"; "" = one event per write
    newline: str = "lf"  # "lf" | "crlf" | "cr"
    bom: int = 0
    transfer: str = "chunked"  # "chunked" | "close" (ends with the connection) | "length" (Content-Length)
    cut: int = -1  # stop after this many body bytes …
    end: str = ""  # … or after the last one: "eof" | "close" | "drop" | "rst" | "hang"
    retry_after: float = 7.0
    status: int = 0  # answer with this HTTP status and an error body of the wire's form

    @property
    def delta_count(self) -> int:
        """Content deltas of the undisturbed answer."""
        per = max(1, self.tokens_per_delta)
        return sum(-(-n // per) for n in (self.reasoning, self.answer_tokens, self.tool))

    @property
    def answer_tokens(self) -> int:
        """Answer tokens that will be sent."""
        return (
            len(split_tokens(self.text))
            if self.tokens is None and self.text not in VOCABULARIES
            else (20 if self.tokens is None else self.tokens)
        )

    @property
    def position(self) -> int:
        """Content deltas sent before the fault, never more than there are less one."""
        most = max(0, self.delta_count - 1)
        return min(self.at, most) if self.at is not None else min(5, self.delta_count // 2)

    def words(self) -> list[str]:
        """The answer's tokens, in order; joined they are the answer."""
        known = VOCABULARIES.get(self.text)
        source = [w if i == 0 else f" {w}" for i, w in enumerate(known)] if known else split_tokens(self.text)
        return cycled(source, self.answer_tokens)

    def model(self) -> str:
        """The model name that asks the server for this script."""
        given = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default}
        return f"fake?{urlencode(given)}" if given else "fake"


def split_tokens(text: str) -> list[str]:
    """Words with the white space before them; joined they are ``text``."""
    return re.findall(r"\s*\S+|\s+$", text)


def cycled(source: list[str], n: int) -> list[str]:
    """``n`` tokens from ``source``, beginning again where it ends (with a space between the rounds)."""
    if not source or n <= 0:
        return []
    again = [f" {source[0].lstrip()}", *source[1:]]
    return [(source if i < len(source) else again)[i % len(source)] for i in range(n)]


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@lru_cache(maxsize=4096)
def parse(model: str) -> Script:
    """The script that a model name asks for. Raises ValueError for an option that does not exist."""
    query = model.partition("?")[2]
    known: dict[str, Any] = {f.name: f.default for f in fields(Script)}
    values: dict[str, Any] = {}
    for name, raw in parse_qsl(query, keep_blank_values=True):
        if name not in known:
            raise ValueError(f"the fake server has no option {name!r}")
        kind = int if name in {"at", "tokens"} else type(known[name])
        values[name] = kind(raw)
    return Script(**values)


@dataclass(frozen=True, slots=True)
class Planned:
    """One content delta as it will leave: when, of which kind, with which text."""

    at_ms: float
    kind: Literal["reasoning", "answer", "tool"]
    text: str


@dataclass(frozen=True, slots=True)
class Truth:
    """What a client must find. Times in ms from the full request being received; None = never happens."""

    deltas: tuple[Planned, ...]
    answer: str
    reasoning: str
    tool: str
    ttft_ms: float | None
    ttfat_ms: float | None
    ttlt_ms: float | None
    terminal_ms: float | None  # None: the wire's terminal signal is never sent
    output_tokens: int  # what the usage says when it says it
    usage: Usage | None  # what the service itself states in full; None when it does not
    outcomes: tuple[str, ...]
    states: tuple[str, ...]
    retry_after_s: float | None = None

    @property
    def gaps_ms(self) -> tuple[float, ...]:
        """Scheduled gaps between consecutive content deltas."""
        times = [d.at_ms for d in self.deltas]
        return tuple(b - a for a, b in pairwise(times))


def truth(script: Script | str, wire: Wire) -> Truth:
    """The expected truth of one script on one wire (endless streams: of the part before the repetition)."""
    from tests.fake.faults import FAULTS, effective, states_of
    from tests.fake.plan import plan_for

    given = parse(script) if isinstance(script, str) else script
    plan = plan_for(given, wire)
    spec = FAULTS[given.fault] if given.fault else FAULTS["ok"]
    real = effective(given, wire)
    steps = plan.steps
    if spec.text == "partial":  # what follows the fault does not count, if anything does
        steps = tuple(takewhile(lambda s: s.mark != "error", steps))
    deltas = tuple(Planned(s.at_ms, s.mark, s.text) for s in steps if s.mark in CONTENT and s.text)  # type: ignore[arg-type]  # CONTENT holds just these marks
    text = {kind: "".join(d.text for d in deltas if d.kind == kind) for kind in ("answer", "reasoning", "tool")}
    answers = [d.at_ms for d in deltas if d.kind == "answer"]
    ends = [s.at_ms for s in steps if s.mark == "terminal"]
    said = any(s.mark == "usage" or (wire == "responses" and s.mark == "terminal") for s in steps)
    outcomes = spec.outcomes_on(wire)
    if script_is_cut(real) and not ends:
        outcomes = ("truncated", "empty")
    return Truth(
        deltas,
        text["answer"],
        text["reasoning"],
        text["tool"],
        ttft_ms=deltas[0].at_ms if deltas else None,
        ttfat_ms=answers[0] if answers else None,
        ttlt_ms=deltas[-1].at_ms if deltas else None,
        terminal_ms=ends[-1] if ends else None,
        output_tokens=output_tokens(real),
        usage=usage_of(real, wire) if said else None,
        outcomes=outcomes,
        states=states_of(outcomes),
        retry_after_s=given.retry_after if spec.retry_after else None,
    )


def script_is_cut(script: Script) -> bool:
    """True when the body stops at a byte of the caller's choice, or the connection ends in a way of theirs."""
    return script.cut >= 0 or script.end not in {"", "eof"}


def output_tokens(script: Script) -> int:
    """All output tokens of the usage: reasoning (sent and hidden), answer and tool arguments."""
    return script.reasoning + script.hidden_reasoning + script.answer_tokens + script.tool


def usage_of(script: Script, wire: Wire) -> Usage | None:
    """The five disjoint counts that the wire's usage object means; None when it is missing, null or not final.

    1-hour cache writes are told apart on the Messages wire only; the others state one number, and None for them.
    """
    if script.usage in {"missing", "null"} or script.finish == "none":
        return None
    if script.usage == "zero":
        return Usage(0, 0, 0, 0 if wire == "messages" else None, 0, 0, "provider")
    reasoned = script.reasoning + script.hidden_reasoning
    writes = (script.cache_write, script.cache_write_1h)
    five, hour = writes if wire == "messages" else (sum(writes), None)
    return Usage(script.input, script.cached, five, hour, reasoned, script.answer_tokens + script.tool, "provider")


def with_fault(name: str, **options: Any) -> Script:
    """A short, quick script with that fault."""
    return replace(Script(tokens=12, ttft=4.0, itl=1.0, input=10), fault=name, **options)
