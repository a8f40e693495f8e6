"""Faults inside a stream: each takes the plan of an undisturbed answer and returns the disturbed one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from services.types import Wire
from tests.fake.plan import End, Plan, Step
from tests.fake.scripts import CONTENT, Mark, Script
from tests.fake.wires import keepalive, sse

Change = Callable[[Plan, Script, Wire], Plan]
HUGE_LINE = 2_000_000


def _until(plan: Plan, script: Script) -> tuple[list[Step], float]:
    """The steps before the fault, and its time: when the next content would have left."""
    kept: list[Step] = []
    left = script.position
    for step in plan.steps:
        if step.mark in CONTENT:
            if left == 0:
                return kept, step.at_ms
            left -= 1
        elif step.mark in {"close", "usage", "terminal"}:
            return kept, step.at_ms
        kept.append(step)
    return kept, kept[-1].at_ms if kept else script.headers


def stop(end: End) -> Change:
    """The stream stops before delta ``at`` and ends that way."""

    def change(plan: Plan, script: Script, wire: Wire) -> Plan:
        kept, _ = _until(plan, script)
        return replace(plan, steps=tuple(kept), end=end)

    return change


def dropped(plan: Plan, script: Script, wire: Wire) -> Plan:
    """FIN in the middle of an event and of a chunk: half of the next delta is sent."""
    kept, at = _until(plan, script)
    half = plan.steps[len(kept)].data[: len(plan.steps[len(kept)].data) // 2]
    return replace(plan, steps=(*kept, Step(at, "junk", half)), end="drop")


def said(make: Callable[[Wire, int], bytes], end: End = "eof", mark: Mark = "error") -> Change:
    """The stream stops before delta ``at``; bytes made from (wire, sequence number) follow; then it ends so."""

    def change(plan: Plan, script: Script, wire: Wire) -> Plan:
        kept, at = _until(plan, script)
        return replace(plan, steps=(*kept, Step(at, mark, make(wire, len(kept)))), end=end)

    return change


def error_event(kind: str, message: str, code: str | None = None) -> Change:
    """The wire's own error event in the middle of the stream."""

    def make(wire: Wire, number: int) -> bytes:
        if wire == "messages":
            error: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
            return sse(error, "error")
        if wire == "responses":
            body = {"type": "error", "code": code or kind, "message": message, "param": None}
            return sse(body | {"sequence_number": number}, "error")
        return sse({"error": {"message": message, "type": kind, "param": None, "code": code}})

    return said(make)


def failed(code: str) -> Change:
    """Responses: a ``response.failed`` with that code."""

    def make(wire: Wire, number: int) -> bytes:
        error = {"code": code, "message": "The model stopped working."}
        response = {"id": "resp_fake", "object": "response", "status": "failed", "error": error, "output": []}
        return sse({"type": "response.failed", "sequence_number": number, "response": response}, "response.failed")

    return said(make)


def inserted(make: Callable[[Wire], bytes], mark: Mark = "junk") -> Change:
    """Bytes before delta ``at``; the stream goes on as if nothing had been."""

    def change(plan: Plan, script: Script, wire: Wire) -> Plan:
        kept, at = _until(plan, script)
        return replace(plan, steps=(*kept, Step(at, mark, make(wire)), *plan.steps[len(kept) :]))

    return change


def without(*marks: Mark, end: End = "eof") -> Change:
    """The stream without the frames of those marks."""

    def change(plan: Plan, script: Script, wire: Wire) -> Plan:
        return replace(plan, steps=tuple(s for s in plan.steps if s.mark not in marks), end=end)

    return change


def drip(plan: Plan, script: Script, wire: Wire) -> Plan:
    """After delta ``at`` only keepalives, for ever."""
    kept, _ = _until(plan, script)
    every = script.ping or 10.0
    return replace(
        plan, steps=tuple(kept), repeat=(Step(0, "keepalive", keepalive(wire)),), repeat_ms=every, end="hang"
    )


def endless(plan: Plan, script: Script, wire: Wire) -> Plan:
    """The answer's deltas again and again, for ever."""
    body = [s for s in plan.steps if s.mark not in {"close", "usage", "terminal"}]
    again = tuple(s for s in plan.steps if s.mark == "answer")
    return replace(plan, steps=tuple(body), repeat=again, repeat_ms=max(script.itl, 1.0), end="hang")


def burst(plan: Plan, script: Script, wire: Wire) -> Plan:
    """A proxy that buffers: the same bytes, all of them when the last one would have left."""
    last = plan.steps[-1].at_ms
    return replace(plan, steps=tuple(replace(s, at_ms=last) for s in plan.steps), head_ms=last)


def unended(plan: Plan, script: Script, wire: Wire) -> Plan:
    """The last event has neither a blank line nor a line end."""
    last = plan.steps[-1]
    return replace(plan, steps=(*plan.steps[:-1], replace(last, data=last.data.rstrip(b"\n"))))


def merged(plan: Plan, script: Script, wire: Wire) -> Plan:
    """Every other content event lacks the blank line after it."""
    steps: list[Step] = []
    for index, step in enumerate(plan.steps):
        after = plan.steps[index + 1] if index + 1 < len(plan.steps) else None
        joins = step.mark in CONTENT and index % 2 == 0 and after is not None and after.mark in CONTENT
        steps.append(replace(step, data=step.data[:-1]) if joins else step)
    return replace(plan, steps=tuple(steps))


def spoiled(spoil: Callable[[bytes], bytes]) -> Change:
    """Delta ``at`` with spoiled bytes; the stream goes on as if nothing had been."""

    def change(plan: Plan, script: Script, wire: Wire) -> Plan:
        kept, at = _until(plan, script)
        bad = plan.steps[len(kept)]
        return replace(plan, steps=(*kept, Step(at, "error", spoil(bad.data)), *plan.steps[len(kept) + 1 :]))

    return change


def broken_json(data: bytes) -> bytes:
    """The event without the last third of its data."""
    return data[: len(data) * 2 // 3] + b"\n\n"


def broken_utf8(data: bytes) -> bytes:
    """The event with two bytes that UTF-8 cannot hold before its last quotation mark, which is inside a string."""
    cut = data.rindex(b'"')
    return data[:cut] + b"\xff\xfe" + data[cut:]


def huge(wire: Wire) -> bytes:
    """One line of two million bytes."""
    return sse({"type": "huge", "text": "x" * HUGE_LINE}, None if wire == "chat" else "huge")


def gzipped(always: bool) -> Change:
    """The stream, compressed, each event flushed."""
    return lambda plan, _script, _wire: replace(plan, gzip="always" if always else "if accepted")
