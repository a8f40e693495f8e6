"""The parameters a person can set, under the product's own names, with their ranges and what they mean."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from services.types import Json, JsonMapping

MAX_STOPS = 4


@dataclass(frozen=True, slots=True)
class ParamSpec:
    """One parameter. ``default`` None: it is not sent and the service's own default holds."""

    name: str
    label: str
    kind: Literal["float", "int", "text", "list", "choice"]
    minimum: float | None = None
    maximum: float | None = None
    default: Any = None
    choices: tuple[str, ...] = ()
    help: str = ""


_SPECS = (
    ParamSpec(
        "temperature",
        "Temperature",
        "float",
        0.0,
        2.0,
        help="How much chance goes into each token. 0 picks the likeliest (almost repeatable), about 1 is the usual "
        "default, above 1 gets wild. Anthropic stops at 1; most reasoning models take none.",
    ),
    ParamSpec(
        "top_p",
        "Top p",
        "float",
        0.0,
        1.0,
        help="Only the likeliest tokens that together hold this share of the probability are drawn from. Change this "
        "or the temperature, not both.",
    ),
    ParamSpec(
        "top_k",
        "Top k",
        "int",
        1,
        1000,
        help="Only this many of the likeliest tokens are drawn from. Self-hosted servers and older Claude models.",
    ),
    ParamSpec(
        "max_tokens",
        "Max output tokens",
        "int",
        1,
        200_000,
        default=1024,
        help="The answer is cut after this many tokens. Reasoning counts too: a reasoning model can use it all up "
        "before its first word of answer.",
    ),
    ParamSpec(
        "stop",
        "Stop sequences",
        "list",
        1,
        MAX_STOPS,
        help=f"The answer ends where one of these texts would appear. At most {MAX_STOPS}.",
    ),
    ParamSpec(
        "seed",
        "Seed",
        "int",
        0,
        2**31 - 1,
        help="The same seed with the same settings gives the same answer, as far as the service can. "
        "Chat completions wire only.",
    ),
    ParamSpec(
        "reasoning_effort",
        "Reasoning effort",
        "choice",
        choices=("none", "minimal", "low", "medium", "high", "xhigh", "max"),
        help="How long a reasoning model may think before it answers. More effort: later first word, more output "
        "tokens, higher cost. Not every model knows every level.",
    ),
    ParamSpec(
        "frequency_penalty",
        "Frequency penalty",
        "float",
        -2.0,
        2.0,
        help="Above 0, tokens become less likely the more often they have been used. Chat completions wire only.",
    ),
    ParamSpec(
        "presence_penalty",
        "Presence penalty",
        "float",
        -2.0,
        2.0,
        help="Above 0, tokens that have been used at all become less likely. Chat completions wire only.",
    ),
)

PARAMS: dict[str, ParamSpec] = {spec.name: spec for spec in _SPECS}


def clean(params: JsonMapping) -> Json:
    """The parameters that are really set, each of its own type and in range, in the order of `PARAMS`.

    None, "" and empty lists mean "not set" and are left out. Numbers may come as text (command line, CSV). Raises
    ValueError with one sentence for a name that is not known or a value that cannot be sent.
    """
    unknown = [name for name in params if name not in PARAMS]
    if unknown:
        raise ValueError(f"“{unknown[0]}” is not a parameter here; these are: {', '.join(PARAMS)}.")
    return {
        name: _value(spec, params[name]) for name, spec in PARAMS.items() if params.get(name) not in (None, "", [], ())
    }


def _value(spec: ParamSpec, value: Any) -> Any:
    if spec.kind == "list":
        return _stops(spec, value)
    if spec.kind == "choice":
        if value not in spec.choices:
            raise ValueError(f"{spec.label} is one of {', '.join(spec.choices)}; “{value}” is not.")
        return value
    if spec.kind == "text":
        return str(value)
    number = _number(spec, value)
    assert spec.minimum is not None
    assert spec.maximum is not None
    if not spec.minimum <= number <= spec.maximum:
        raise ValueError(f"{spec.label} goes from {spec.minimum:,g} to {spec.maximum:,g}; {value} is outside.")
    return int(number) if spec.kind == "int" else number


def _number(spec: ParamSpec, value: Any) -> float:
    expected = "a whole number" if spec.kind == "int" else "a number"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"{spec.label} is {expected}; {_shown(value)} is not.")
    try:
        number = float(value)
    except (ValueError, OverflowError):
        raise ValueError(f"{spec.label} is {expected}; “{value}” is not.") from None
    if not math.isfinite(number) or (spec.kind == "int" and not number.is_integer()):
        raise ValueError(f"{spec.label} is {expected}; {value} is not.")
    return number


def _shown(value: Any) -> str:
    """A value as JSON has it: whoever reads this wrote no Python."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (TypeError, ValueError, RecursionError):
        return str(value)


def _stops(spec: ParamSpec, value: Any) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, Sequence) or not all(isinstance(item, str) for item in texts):
        raise ValueError(f"{spec.label} is a list of texts; {_shown(value)} is not.")
    stops = [item for item in texts if item]
    if len(stops) > MAX_STOPS:
        raise ValueError(f"{spec.label}: at most {MAX_STOPS} are taken, {len(stops)} were given.")
    return stops
