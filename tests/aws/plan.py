"""From a script to the bytes and times of one AWS reply, by the machinery of `tests.fake.plan`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import cycle, groupby
from typing import Any

from tests.aws import bodies, converse
from tests.aws.frames import EVENT_STREAM, chunk, payload_part
from tests.aws.scripts import AwsScript, of
from tests.fake.plan import ENDS, Compiled, Plan, Step, _cut, compile_plan, schedule
from tests.fake.replies import body_reply
from tests.fake.scripts import CONTENT, Script
from tests.fake.wires import dumps


def steps_for(script: AwsScript, route: str) -> list[Step]:
    """What is inside the frames, on its schedule (Converse: the frames themselves)."""
    frames = converse.frames(script) if route == "converse" else bodies.BODIES[route](script)
    steps = schedule(frames, script)
    if route.startswith("sagemaker"):
        steps = _as_text(steps, script)
    return steps


def _as_text(steps: list[Step], script: AwsScript) -> list[Step]:
    """Line ends, byte order mark, comments and keepalives: things of the container's text."""
    if script.ping > 0 and steps:
        count = int((steps[-1].at_ms - script.headers) / script.ping)
        pings = [Step(script.headers + (i + 1) * script.ping, "keepalive", b":\n\n") for i in range(count)]
        steps = sorted([*steps, *pings], key=lambda s: s.at_ms)
    if script.comments:
        steps = [replace(s, data=b": a comment\n\n" + s.data) for s in steps]
    if script.newline != "lf":
        end = b"\r\n" if script.newline == "crlf" else b"\r"
        steps = [replace(s, data=s.data.replace(b"\n", end)) for s in steps]
    if script.bom and steps:
        steps = [replace(steps[0], data=b"\xef\xbb\xbf" + steps[0].data), *steps[1:]]
    return steps


def framed(plan: Plan, script: AwsScript, route: str) -> Plan:
    """The plan with its steps in AWS's frames."""
    if route == "converse":
        return plan
    if route.startswith("invoke"):
        pad = bool(script.pad)
        return replace(plan, steps=tuple(replace(s, data=chunk(s.data, pad=pad)) for s in plan.steps))
    repeat = tuple(replace(s, data=payload_part(s.data)) for s in plan.repeat)
    return replace(plan, steps=tuple(_parts(_joined(plan.steps, script.join), script.parts)), repeat=repeat)


def _joined(steps: Sequence[Step], count: int) -> Iterator[Step]:
    """Every ``count`` deltas of one kind together, when the last of them leaves; other events stay alone."""
    for mark, run in groupby(steps, key=lambda s: s.mark):
        alike = list(run)
        size = max(1, count) if mark in CONTENT else 1
        for start in range(0, len(alike), size):
            group = alike[start : start + size]
            data, text = b"".join(s.data for s in group), "".join(s.text for s in group)
            yield Step(group[-1].at_ms, mark, data, text)


def _parts(steps: Iterator[Step], sizes: str) -> Iterator[Step]:
    """Each step's bytes in parts of those sizes, whatever lies at the borders; the last part has the mark."""
    wanted = cycle([max(1, int(n)) for n in re.findall(r"\d+", sizes)] or [1 << 30])
    for step in steps:
        data = step.data
        while data:
            piece, data = data[: (size := next(wanted))], data[size:]
            done = not data
            yield Step(step.at_ms, step.mark if done else "junk", payload_part(piece), step.text if done else "")


@lru_cache(maxsize=4096)
def plan_for(script: Script, route: str) -> Plan:
    """The plan of a script, its fault included. Raises KeyError for an unknown fault."""
    from tests.aws.faults import FAULTS, effective

    spec, real = FAULTS[script.fault or "ok"], effective(of(script), route)
    if spec.reply:
        return _cut_and_ended(spec.reply(real, route), real)
    plan = Plan(
        tuple(steps_for(real, route)),
        headers=headers(real, route),
        head_ms=real.headers,
        end=spec.end,
        transfer=real.transfer,
    )
    if spec.inner and route != "converse":
        plan = spec.inner(plan, real, route)
    plan = framed(plan, real, route)
    if spec.change:
        plan = spec.change(plan, real, route)
    return _cut_and_ended(plan, real)


def headers(script: AwsScript, route: str) -> tuple[tuple[str, str], ...]:
    """The head of a streamed reply."""
    if route.startswith("sagemaker"):
        return (
            EVENT_STREAM,
            ("X-Amzn-SageMaker-Content-Type", bodies.CONTENT_TYPES[route]),
            ("x-Amzn-Invoked-Production-Variant", script.variant),
        )
    if route == "converse":
        return (EVENT_STREAM,)
    return (EVENT_STREAM, ("X-Amzn-Bedrock-Content-Type", "application/json"), *_served(script))


def _served(script: AwsScript) -> tuple[tuple[str, str], ...]:
    said = []
    if script.latency not in {"", "none"}:
        said.append(("X-Amzn-Bedrock-PerformanceConfig-Latency", script.latency))
    if script.tier not in {"", "none"}:
        said.append(("X-Amzn-Bedrock-Service-Tier", script.tier))
    return tuple(said)


def _cut_and_ended(plan: Plan, script: AwsScript) -> Plan:
    steps, last = plan.steps, str(plan.end)
    if script.cut >= 0:
        steps, last = tuple(_cut(steps, script.cut)), "close"
    last = script.end or last
    if last not in ENDS:
        raise ValueError(f"a reply cannot end with {last!r}")
    return replace(plan, steps=steps, end=ENDS[last])


@lru_cache(maxsize=4096)
def compiled(script: Script, route: str) -> Compiled:
    """The bytes and times of a plan."""
    return compile_plan(plan_for(script, route), of(script).chunk, gzip=False)


def golden(script: Script, route: str) -> bytes:
    """The whole body of a script as one byte string, without transfer coding."""
    return b"".join(step.data for step in plan_for(script, route).steps)


def whole_reply(script: AwsScript, route: str) -> Plan:
    """The answer to a request that does not stream: one JSON object when the stream would have ended."""
    steps = steps_for(script, route)
    body: Any = converse.whole(script) if route == "converse" else bodies.whole(script, route)
    more: tuple[tuple[str, str], ...] = () if route == "converse" else _served(script)
    if route.startswith("sagemaker"):
        more = (("x-Amzn-Invoked-Production-Variant", script.variant),)
    if route.startswith("invoke"):
        for name, value in bodies.metrics(script)[bodies.METRICS].items():
            if name in {"inputTokenCount", "outputTokenCount", "invocationLatency"}:
                dashed = re.sub(r"(?=[A-Z])", "-", name).title()
                more = (*more, (f"X-Amzn-Bedrock-{dashed}", str(value)))
    head_ms = steps[-1].at_ms if steps else script.ttft
    return body_reply(200, dumps(body).encode(), ("content-type", "application/json"), *more, head_ms=head_ms)
