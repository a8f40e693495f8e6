"""The whole state of the calculator ⇄ the words of an address.

Readable where a person may want to change it ("rpm=120&in=4000"); the assumptions, of which there may be many, as one
packed word. What is at its default is left out, so that an address stays short and outlives a change of a preset.
"""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import orjson

from services.calculator import presets, serialization, validation
from services.calculator.assumptions import Assumptions
from services.calculator.serialization import FieldError
from services.calculator.types import Objectives, Spread, Workload

WORKLOAD = {
    "rpm": "rpm",
    "burst": "burstiness",
    "prefix": "prefix_share",
    "reuse": "reuse",
    "reuse_h": "reuse_per_hour",
    "session": "calls_per_session",
    "batch": "batch_share",
    "peak": "peak_concurrency",
    "months": "months",
}
SPREADS = {"in": "input_tokens", "out": "output_tokens"}
OBJECTIVES = {"ttft": "ttft_s", "ttlt": "ttlt_s", "replicas": "replicas"}
FLAGS = {"isolated": "isolated", "own": "own_weights"}
LARGEST = 200_000  # bytes of packed assumptions once unpacked: an address is no place for more


@dataclass(frozen=True, slots=True)
class State:
    """Everything that decides the answer. ``preset``: which one it began with, "" for none."""

    workload: Workload = presets.FIRST.workload
    objectives: Objectives = presets.FIRST.objectives
    assumptions: Assumptions = field(default_factory=Assumptions)
    preset: str = ""


def write(state: State) -> dict[str, str]:
    """The words of an address, in a fixed order."""
    work, goal = state.workload, state.objectives
    words: dict[str, str] = {"preset": state.preset} if state.preset else {}
    words["rpm"] = _number(work.rpm)
    for key, name in SPREADS.items():
        spread: Spread = getattr(work, name)
        words[key] = _number(spread.median)
        if spread.sigma:
            words[f"{key}_s"] = _number(spread.sigma)
    if (shape := presets.shape_name(work.shape)) != "flat":
        words["shape"] = shape if shape != "own" else ",".join(_number(weight) for weight in work.shape)
    for keys, of in ((WORKLOAD, work), (OBJECTIVES | FLAGS, goal)):
        defaults = {field.name: field.default for field in fields(of)}
        for key, name in keys.items():
            value = getattr(of, name)
            if key != "rpm" and value != defaults[name]:
                words[key] = _text(value)
    if goal.models is not None:
        words["models"] = ",".join(goal.models)
    if packed := _pack(state.assumptions):
        words["a"] = packed
    return words


def read(params: Mapping[str, str]) -> tuple[State, list[FieldError]]:
    """The state of an address. A word that means nothing is said, and its field keeps what it had; words that are not
    ours are passed over."""
    errors: list[FieldError] = []
    preset = params.get("preset", "")
    if preset and preset not in presets.BY_ID:
        errors.append(
            FieldError("preset", serialization.unknown(preset, list(presets.BY_ID)).replace("field", "preset"))
        )
        preset = ""
    start = presets.BY_ID[preset] if preset else presets.FIRST
    work, goal = start.workload, start.objectives
    if any(key in params for key in (*SPREADS, "rpm")):  # written by us: what it leaves out is at its default
        goal = Objectives()
        work = Workload(work.rpm, Spread(work.input_tokens.median), Spread(work.output_tokens.median))
    changes = {name: _value(params[key]) for key, name in WORKLOAD.items() if key in params}
    for key, name in SPREADS.items():
        spread = serialization.to_plain(getattr(work, name), whole=True)
        texts = {"median": params.get(key), "sigma": params.get(f"{key}_s")}
        changes[name] = spread | {figure: _value(text) for figure, text in texts.items() if text is not None}
    if "shape" in params:
        changes["shape"] = _shape(params["shape"])
    work = _changed(work, changes, "workload", errors)
    aims = {name: _value(params[key]) for key, name in OBJECTIVES.items() if key in params}
    aims |= {name: _flag(params[key]) for key, name in FLAGS.items() if key in params}
    if "models" in params:
        aims["models"] = [name for name in params["models"].split(",") if name]
    goal = _changed(goal, aims, "objectives", errors)
    return State(work, goal, _unpack(params.get("a", ""), errors), preset), errors


def _changed(base: Any, changes: Mapping[str, Any], place: str, errors: list[FieldError]) -> Any:
    """``base`` with the changes that can be made; the others are said."""
    for name, value in changes.items():
        wrong: list[FieldError] = []
        changed_part = serialization.from_plain(type(base), {**_needed(base), name: value}, place, wrong)
        if changed_part is None or wrong:
            errors.extend(wrong)
            continue
        changed = replace(base, **{name: getattr(changed_part, name)})
        test = validation.check_workload if isinstance(base, Workload) else validation.check_objectives
        refusals = [error for error in test(changed) if error.field == f"{place}.{name}"]
        errors.extend(refusals)
        if not refusals:
            base = changed
    return base


def _needed(base: Any) -> dict[str, Any]:
    if not isinstance(base, Workload):
        return {}
    return {"rpm": base.rpm, "input_tokens": base.input_tokens.median, "output_tokens": base.output_tokens.median}


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:.10g}"


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "1" if value else "0"
    return _number(value) if isinstance(value, int | float) else str(value)


def _value(text: str) -> Any:
    """The number that a word is, or the word."""
    try:
        return float(text)
    except ValueError:
        return text


def _flag(text: str) -> Any:
    return {"1": True, "0": False, "true": True, "false": False}.get(text, text)


def _shape(text: str) -> Any:
    if text in presets.SHAPES:
        return presets.SHAPES[text]
    return [_value(word) for word in text.split(",")][:1_000]


def _pack(assumptions: Assumptions) -> str:
    plain = serialization.to_plain(assumptions)
    if not plain:
        return ""
    return base64.urlsafe_b64encode(zlib.compress(orjson.dumps(plain), 9)).decode().rstrip("=")


def _unpack(word: str, errors: list[FieldError]) -> Assumptions:
    if not word:
        return Assumptions()
    try:
        packed = base64.urlsafe_b64decode(word.encode() + b"=" * (-len(word) % 4))
        open_ = zlib.decompressobj()
        text = open_.decompress(packed, LARGEST)
        if open_.unconsumed_tail or not open_.eof:
            raise ValueError
        plain = orjson.loads(text)
    except (ValueError, binascii.Error, zlib.error):
        errors.append(FieldError("assumptions", "The assumptions in the address are damaged: the usual ones are used."))
        return Assumptions()
    wrong: list[FieldError] = []
    assumptions_read = serialization.from_plain(Assumptions, plain, "assumptions", wrong)
    if assumptions_read is not None and not wrong:
        wrong = validation.check_assumptions(assumptions_read)
    errors.extend(wrong)
    return assumptions_read if assumptions_read is not None and not wrong else Assumptions()
