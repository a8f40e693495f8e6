"""WORKLOAD.toml ⇄ what the calculator takes. docs/calculator.md describes the file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from services import formatting, toml_text
from services.calculator import catalog, points, presets, serialization, validation
from services.calculator.assumptions import Assumptions
from services.calculator.points import PointSpec
from services.calculator.serialization import FieldError
from services.calculator.types import HOURS_A_MONTH, Objectives, Workload
from services.regular_file import regular

LARGEST = 2_000_000  # bytes of a file
MOST_POINTS = 10_000
TABLES = ("preset", "workload", "objectives", "assumptions", "points")
BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class Asked:
    """A file that was read. ``workload`` None: it only has points."""

    workload: Workload | None
    objectives: Objectives
    assumptions: Assumptions
    points: tuple[PointSpec, ...] = ()
    preset: str = ""


def read(path: Path) -> tuple[Asked | None, list[FieldError]]:
    """A file. The field of an error that concerns the whole file is ""."""
    try:
        with regular(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        said = (error.strerror or str(error)).lower()
        return None, [FieldError("", f"{path.name} cannot be read ({said}); give the path of a WORKLOAD.toml.")]
    return parse(content, folder=path.parent)


def parse(content: bytes, *, folder: Path | None = None) -> tuple[Asked | None, list[FieldError]]:
    """The bytes of a file; None beside the errors when there is any. ``folder``: where paths in it begin."""
    if len(content) > LARGEST:
        return None, [FieldError("", f"The file has more than {LARGEST // 1_000_000} MB: it is no WORKLOAD.toml.")]
    try:
        given = toml_text.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None, [FieldError("", "The file is no text in UTF-8, so it is no TOML: see `lab calculate --example`.")]
    except toml_text.NotToml as error:
        why = formatting.printable(str(error))
        return None, [FieldError("", f"The file is no TOML ({why}): see `lab calculate --example`.")]
    errors: list[FieldError] = []
    asked = build(given, errors, folder=folder)
    return (asked if not errors else None), errors


def build(given: Mapping[str, Any], errors: list[FieldError], *, folder: Path | None = None) -> Asked | None:
    """What the tables of a file ask for; what is wrong is added to ``errors``."""
    errors.extend(FieldError(str(key), serialization.unknown(key, TABLES)) for key in given if key not in TABLES)
    preset = given.get("preset", "")
    if preset and (not isinstance(preset, str) or preset not in presets.BY_ID):
        names = ", ".join(presets.BY_ID)
        errors.append(FieldError("preset", f"There is no preset {serialization.shown(preset)}; known are {names}."))
        preset = ""
    assumptions = (
        serialization.from_plain(Assumptions, given.get("assumptions", {}), "assumptions", errors) or Assumptions()
    )
    start = presets.BY_ID.get(preset) if preset else None
    goal_given = _over(start.objectives if start else Objectives(), given.get("objectives", {}))
    objectives = serialization.from_plain(Objectives, goal_given, "objectives", errors) or Objectives()
    spec_points = _points(given.get("points", []), assumptions, folder, errors)
    if "workload" not in given and not preset:
        errors.extend(validation.check_assumptions(assumptions))
        if not spec_points and not errors:
            errors.append(FieldError("workload", "Nothing is asked: give a [workload], a preset, or [[points]]."))
        return Asked(None, objectives, assumptions, spec_points, preset)
    workload_given = _workload(given.get("workload", {}), start.workload if start else None, errors)
    workload = serialization.from_plain(Workload, workload_given, "workload", errors)
    if workload is None:
        return None
    said = {one.field for one in errors}
    errors.extend(one for one in validation.check(workload, objectives, assumptions) if one.field not in said)
    return Asked(workload, objectives, assumptions, spec_points, preset)


def _workload(given: Any, start: Workload | None, errors: list[FieldError]) -> Any:
    """The table with shapes by name and a rate by the month taken into what `Workload` has."""
    if not isinstance(given, Mapping):
        return given
    table = dict(given)
    if "requests_per_month" in table:
        month = table.pop("requests_per_month")
        if "rpm" in table:
            errors.append(FieldError("workload.rpm", "Give “rpm” or “requests_per_month”, not both."))
        elif isinstance(month, int | float) and not isinstance(month, bool):
            try:
                table["rpm"] = month / (HOURS_A_MONTH * 60)
            except OverflowError:
                table["rpm"] = float("inf")
        else:
            said = f"“requests_per_month” is a number, not {serialization.shown(month)}."
            errors.append(FieldError("workload.requests_per_month", said))
            table["rpm"] = 1.0
    shape = table.get("shape")
    if isinstance(shape, str):
        if shape not in presets.SHAPES:
            names = ", ".join(presets.SHAPES)
            said = f"“shape” is one of {names}, or a list of 24 weights, not {serialization.shown(shape)}."
            errors.append(FieldError("workload.shape", said))
        table["shape"] = list(presets.SHAPES.get(shape, presets.SHAPES["flat"]))
    return _over(start, table)


def _over(start: Any, given: Any) -> Any:
    """A table over a preset's."""
    return (
        {**serialization.to_plain(start, whole=True), **given}
        if start is not None and isinstance(given, Mapping)
        else given
    )


def _points(
    given: Any, assumptions: Assumptions, folder: Path | None, errors: list[FieldError]
) -> tuple[PointSpec, ...]:
    if not isinstance(given, list) or len(given) > MOST_POINTS:
        errors.append(FieldError("points", f"Points are [[points]] tables, at most {MOST_POINTS:,}."))
        return ()
    known = catalog.merged(assumptions.own)
    made = [points.read(one, f"points[{no}]", errors, known=known, folder=folder) for no, one in enumerate(given, 1)]
    return tuple(one for one in made if one is not None)


# --- writing ---------------------------------------------------------------------------------------------------------


def write(workload: Workload, objectives: Objectives, assumptions: Assumptions | None = None) -> str:
    """A file that `parse` reads back to the same. Fields at their default are left out."""
    work = serialization.to_plain(workload)
    shape = presets.shape_name(workload.shape)
    if "shape" in work and shape != "own":
        work["shape"] = shape
    tables = {"workload": work, "objectives": _with_empties(objectives)}
    if assumptions is not None and (kept := serialization.to_plain(assumptions)):
        tables["assumptions"] = kept
    return "\n\n".join(f"[{name}]\n{_lines(table)}".rstrip() for name, table in tables.items()) + "\n"


def _with_empties(value: Any) -> dict[str, Any]:
    """TOML has no null: a field that is empty where its default is not says so."""
    kept: dict[str, Any] = serialization.to_plain(value)
    for one in fields(value):
        if getattr(value, one.name) is None and one.default not in (None, MISSING):
            kept[one.name] = "none"
    return kept


def _lines(table: Mapping[str, Any]) -> str:
    return "\n".join(f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    return key if BARE.match(key) else _text(key)


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one >= " " and one != "\x7f" else f"\\u{ord(one):04x}" for one in escaped) + '"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = (f"{_key(key)} = {_value(one)}" for key, one in value.items() if one is not None)
        return "{ " + ", ".join(inner) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(one) for one in value) + "]"
    return _text(value) if isinstance(value, str) else repr(value)
