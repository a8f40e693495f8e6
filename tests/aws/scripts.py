"""What one reply of the AWS emulator does, and the truth that a client has to find in it.

A script is `tests.fake.scripts.Script` with what only AWS has. It travels behind a ``?`` in the model id or the
endpoint name (``anthropic.claude-fake-v1:0?tokens=40&itl=20``), is enqueued, or is assigned to a name.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import takewhile
from typing import Any
from urllib.parse import parse_qsl, urlencode

from services.types import Usage
from tests.fake.scripts import CONTENT, Planned, Script, Truth, output_tokens, usage_of

# How a reply is written. The first part is the operation, the second the body inside its frames.
INVOKE = ("invoke:anthropic", "invoke:llama", "invoke:mistral", "invoke:titan", "invoke:chat")
SAGEMAKER = ("sagemaker:chat", "sagemaker:tgi", "sagemaker:lines")
ROUTES: tuple[str, ...] = ("converse", *INVOKE, *SAGEMAKER)
# Routes whose body can tell reasoning and tool calls from the answer.
TELLING = frozenset({"converse", "invoke:anthropic", "invoke:chat", "sagemaker:chat"})


@dataclass(frozen=True, slots=True)
class AwsScript(Script):
    """A `Script` on AWS. ``fault`` is a name in `tests.aws.faults.FAULTS`; ``finish`` the route's own word."""

    tier: str = ""  # the service tier that the reply names; "" = the one that was asked for; "none" = says nothing
    latency: str = ""  # performanceConfig of the reply, likewise
    latency_ms: int = -1  # metrics.latencyMs; -1 = when the last delta leaves
    guardrail: str = ""  # "intervened" or "passed": a guardrail trace in the metadata
    redacted: int = 0  # redacted reasoning blobs before the reasoning (converse)
    pad: int = 1  # 0: without Bedrock's padding "p"
    parts: str = ""  # sagemaker: bytes per PayloadPart, "7" or a cycle "3-1-50"; "" = one part for each event
    join: int = 1  # sagemaker: so many events of the container share a part
    body: str = ""  # sagemaker: "chat" | "tgi" | "lines"; "" = what the request's body asks for
    last: int = 0  # tgi, lines: 1 = the last token's event carries the end as well
    variant: str = "AllTraffic"  # sagemaker: the production variant that answered


def model(script: Script, name: str = "fake") -> str:
    """The model id (or endpoint name) that asks ``name`` for this script."""
    given = {
        f.name: f"{v:g}" if isinstance(v, float) else str(v)
        for f in fields(script)
        if (v := getattr(script, f.name)) != f.default
    }
    return f"{name}?{urlencode(given)}" if given else name


@lru_cache(maxsize=4096)
def parse(name: str) -> AwsScript:
    """The script behind the ``?`` of a name. Raises ValueError for an option that does not exist."""
    known: dict[str, Any] = {f.name: f.default for f in fields(AwsScript)}
    values: dict[str, Any] = {}
    for key, raw in parse_qsl(name.partition("?")[2], keep_blank_values=True):
        if key not in known:
            raise ValueError(f"the emulator has no option {key!r}")
        kind = int if key in {"at", "tokens"} else type(known[key])
        values[key] = kind(raw)
    return AwsScript(**values)


def of(script: Script) -> AwsScript:
    """Any script as one of AWS."""
    if isinstance(script, AwsScript):
        return script
    return AwsScript(**{f.name: getattr(script, f.name) for f in fields(script)})


def with_fault(name: str, **options: Any) -> AwsScript:
    """A short, quick script with that fault."""
    return replace(AwsScript(tokens=12, ttft=4.0, itl=1.0, input=10), fault=name, **options)


def truth(script: Script, route: str) -> Truth:
    """The expected truth of one script on one route; `Truth.usage` holds None where the route says nothing."""
    from tests.aws.faults import FAULTS, effective, states_of
    from tests.aws.plan import plan_for

    given = of(script)
    spec = FAULTS[given.fault or "ok"]
    real = effective(given, route)
    steps = plan_for(given, route).steps
    if spec.text == "partial":
        steps = tuple(takewhile(lambda s: s.mark != "error", steps))
    deltas = tuple(Planned(s.at_ms, s.mark, s.text) for s in steps if s.mark in CONTENT and s.text)  # type: ignore[arg-type]  # CONTENT holds just these marks
    text = {kind: "".join(d.text for d in deltas if d.kind == kind) for kind in ("answer", "reasoning", "tool")}
    answers = [d.at_ms for d in deltas if d.kind == "answer"]
    ends = [s.at_ms for s in steps if s.mark == "terminal" or (s.text and s is steps[-1] and real.last)]
    outcomes = spec.outcomes_on(route)
    # messageStop is not the end of Converse: what was cut after it has lost the usage.
    whole = bool(ends) and (route != "converse" or any(s.mark == "usage" for s in steps))
    if (real.cut >= 0 or real.end not in {"", "eof"}) and not whole:
        outcomes = ("truncated", "empty")
    said = any(s.mark == "usage" for s in steps) or (bool(ends) and route != "converse")
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
        usage=usage(real, route) if said else None,
        outcomes=outcomes,
        states=states_of(outcomes),
    )


def usage(script: AwsScript, route: str) -> Usage | None:
    """What the reply's own figures mean; None when it states none. Unstated counts are None."""
    if route == "invoke:anthropic":
        return usage_of(script, "messages")
    if route in {"invoke:chat", "sagemaker:chat"}:
        return usage_of(script, "chat")
    if script.usage in {"missing", "null"}:
        return None
    zero = script.usage == "zero"
    out = 0 if zero else output_tokens(script)
    if route == "converse":
        counts = (0, 0, 0, 0) if zero else (script.input, script.cached, script.cache_write, script.cache_write_1h)
        return Usage(*counts, None, out, "provider")
    known = None if route == "sagemaker:lines" else 0 if zero else script.input
    return Usage(known, None, None, None, None, out, "provider")
