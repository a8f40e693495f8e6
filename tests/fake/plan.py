"""From a script to the exact bytes and times of one response."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import cycle
from typing import Literal

from services.types import Wire
from tests.fake.scripts import CONTENT, Mark, Script
from tests.fake.wires import Frame, frames_for, keepalive

# eof: terminating chunk, connection kept · close: FIN without it · drop: FIN inside a chunk · rst · hang: nothing more
End = Literal["eof", "close", "drop", "rst", "hang"]
ENDS: dict[str, End] = {"eof": "eof", "close": "close", "drop": "drop", "rst": "rst", "hang": "hang"}
MISSING_OF_DROPPED_CHUNK = 1000
EVENT_STREAM = (("content-type", "text/event-stream; charset=utf-8"), ("cache-control", "no-cache"))


@dataclass(frozen=True, slots=True)
class Step:
    """Body bytes that leave together, at ``at_ms`` after the request was read; ``text`` is the content in them."""

    at_ms: float
    mark: Mark
    data: bytes
    text: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """A whole response before its transfer coding. ``head_ms`` None: not even a status line is sent."""

    steps: tuple[Step, ...] = ()
    status: int = 200
    headers: tuple[tuple[str, str], ...] = EVENT_STREAM
    head_ms: float | None = 0.0
    end: End = "eof"
    repeat: tuple[Step, ...] = ()  # sent for ever after the steps, one every `repeat_ms`
    repeat_ms: float = 0.0
    transfer: str = "chunked"
    gzip: Literal["never", "if accepted", "always"] = "never"


@dataclass(frozen=True, slots=True)
class Compiled:
    """Ready bytes: ``writes`` holds (ns after the request was read, mark, bytes as they go on the wire)."""

    head: bytes  # without the blank line that ends it
    head_ns: int | None
    writes: tuple[tuple[int, Mark, bytes], ...]
    end: End
    repeat: tuple[tuple[Mark, bytes], ...]
    repeat_ns: int
    keep_alive: bool


def schedule(frames: Sequence[Frame], script: Script) -> list[Step]:
    """Opening frames with the head, content every ``itl``, the closing with the last delta, usage ``late``."""
    steps: list[Step] = []
    n, now = 0, script.headers
    for index, frame in enumerate(frames):
        if frame.mark in CONTENT:
            now = script.ttft + n * script.itl
            n += 1
        elif frame.mark in {"open", "keepalive"} and n:
            now = script.ttft + n * script.itl if _more_content(frames, index) else now
        elif frame.mark == "close" and not n:
            now = script.ttft
        elif frame.mark in {"usage", "terminal"}:
            now = max(script.ttft, script.ttft + (n - 1) * script.itl) + script.late_usage
        steps.append(Step(now, frame.mark, frame.data, frame.text))
    return steps


def _more_content(frames: Sequence[Frame], index: int) -> bool:
    return any(f.mark in CONTENT for f in frames[index:])


@lru_cache(maxsize=2048)
def plan_for(script: Script, wire: Wire) -> Plan:
    """The plan of a script, its fault included. Raises KeyError for an unknown fault."""
    from tests.fake.faults import FAULTS, effective
    from tests.fake.replies import error_reply

    spec = FAULTS[script.fault or "ok"]
    real = effective(script, wire)
    if spec.reply:
        plan = spec.reply(real, wire)
    elif real.status:
        plan = error_reply(real.status, wire)
    else:
        steps = schedule(frames_for(real, wire), real)
        plan = Plan(tuple(steps), head_ms=real.headers, end=spec.end, transfer=real.transfer)
        if spec.change:
            plan = spec.change(plan, real, wire)
    return _dressed(plan, real, wire)


def _dressed(plan: Plan, script: Script, wire: Wire) -> Plan:
    """Byte-level options: keepalives, comments, line ends, BOM, the cut, the way it ends."""
    steps = list(plan.steps)
    if script.ping > 0 and steps:
        steps = _with_pings(steps, script, wire)
    if script.comments:
        steps = [replace(s, data=b": a comment\n\n" + s.data) for s in steps]
    if script.newline != "lf":
        end = b"\r\n" if script.newline == "crlf" else b"\r"
        steps = [replace(s, data=s.data.replace(b"\n", end)) for s in steps]
    if script.bom and steps:
        steps[0] = replace(steps[0], data=b"\xef\xbb\xbf" + steps[0].data)
    last: str = plan.end
    if script.cut >= 0:
        steps, last = list(_cut(steps, script.cut)), "close"
    last = script.end or last
    if last not in ENDS:
        raise ValueError(f"a response cannot end with {last!r}")
    return replace(plan, steps=tuple(steps), end=ENDS[last])


def _with_pings(steps: list[Step], script: Script, wire: Wire) -> list[Step]:
    count = int((steps[-1].at_ms - script.headers) / script.ping)
    pings = [Step(script.headers + (i + 1) * script.ping, "keepalive", keepalive(wire)) for i in range(count)]
    return sorted([*steps, *pings], key=lambda s: s.at_ms)


def _cut(steps: Sequence[Step], length: int) -> Iterator[Step]:
    for step in steps:
        if length <= 0:
            return
        whole = len(step.data) <= length
        yield step if whole else Step(step.at_ms, "junk", step.data[:length])
        length -= len(step.data)


def golden(script: Script, wire: Wire) -> bytes:
    """The whole body of a script as one byte string, without transfer coding."""
    return b"".join(step.data for step in plan_for(script, wire).steps)


@lru_cache(maxsize=2048)
def compiled(script: Script, wire: Wire, *, gzip: bool) -> Compiled:
    """The bytes and times of a plan. ``gzip``: the client accepts it."""
    from tests.fake.faults import effective

    return compile_plan(plan_for(script, wire), effective(script, wire).chunk, gzip=gzip)


def compile_plan(plan: Plan, chunk: str, *, gzip: bool) -> Compiled:
    """A plan with its transfer coding; ``chunk`` as in `Script`."""
    squeeze = plan.gzip == "always" or (plan.gzip == "if accepted" and gzip)
    pieces = list(_pieces(_squeezed(plan.steps) if squeeze else plan.steps, chunk))
    headers = [*plan.headers, ("server", "fake")]
    if squeeze:
        headers.append(("content-encoding", "gzip"))
    if plan.transfer == "chunked":
        headers.append(("transfer-encoding", "chunked"))
    elif plan.transfer == "length":
        headers.append(("content-length", str(sum(len(p.data) for p in pieces))))
    else:
        headers.append(("connection", "close"))
    head = f"HTTP/1.1 {plan.status} {_REASONS.get(plan.status, 'Status')}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers)
    coded = chunk_coded if plan.transfer == "chunked" else bytes
    writes = [(round(p.at_ms * 1e6), p.mark, coded(p.data)) for p in pieces]
    if plan.end == "drop" and plan.transfer == "chunked" and writes:
        at, mark, _ = writes[-1]
        data = pieces[-1].data
        writes[-1] = (at, mark, f"{len(data) + MISSING_OF_DROPPED_CHUNK:x}\r\n".encode() + data)
    if plan.end == "eof" and plan.transfer == "chunked":
        at = writes[-1][0] if writes else round((plan.head_ms or 0) * 1e6)
        writes.append((at, "close", b"0\r\n\r\n"))
    return Compiled(
        head.encode(),
        None if plan.head_ms is None else round(plan.head_ms * 1e6),
        tuple(writes),
        plan.end,
        tuple((s.mark, coded(s.data)) for s in plan.repeat),
        round(plan.repeat_ms * 1e6),
        keep_alive=plan.end == "eof" and plan.transfer != "close",
    )


def _squeezed(steps: Sequence[Step]) -> list[Step]:
    """The same steps as one gzip stream, flushed after each so that none waits for the next."""
    squeezer = zlib.compressobj(wbits=31)
    out = [replace(s, data=squeezer.compress(s.data) + squeezer.flush(zlib.Z_SYNC_FLUSH)) for s in steps]
    if out:
        out[-1] = replace(out[-1], data=out[-1].data + squeezer.flush())
    return out


def _pieces(steps: Sequence[Step], chunk: str) -> Iterator[Step]:
    """Each step's bytes, cut into writes of the asked sizes (a cycle that goes on over the steps)."""
    sizes = cycle([max(1, int(n)) for n in re.findall(r"\d+", chunk)] or [1 << 30])
    for step in steps:
        data = step.data
        while data:
            size = next(sizes)
            rest = data[size:]
            # A cut event counts as delivered with its last piece.
            yield Step(step.at_ms, "junk" if rest else step.mark, data[:size])
            data = rest


def chunk_coded(data: bytes) -> bytes:
    """One HTTP/1.1 chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


_REASONS = {
    200: "OK",
    302: "Found",
    307: "Temporary Redirect",
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    413: "Content Too Large",
    422: "Unprocessable Content",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    529: "Overloaded",
}
