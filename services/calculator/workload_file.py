"""WORKLOAD.toml ⇄ what the calculator takes, and its `[[points]]`, single replicas to work out.

For who wants to hold the engine against a measurement: everything that vLLM is started with can be said.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from services import formatting, toml_text
from services.calculator import catalog, memory, presets, roofline, serialization, validation
from services.calculator.assumptions import Assumptions
from services.calculator.catalog import Catalog, ConfigError
from services.calculator.serialization import FieldError
from services.calculator.types import (
    HOURS_A_MONTH,
    Efficiency,
    Gpu,
    Llm,
    Objectives,
    Precision,
    Range,
    Serving,
    Workload,
)
from services.paths import regular

LARGEST = 2_000_000  # bytes of a file

MOST_POINTS = 10_000

TABLES = ("preset", "workload", "objectives", "assumptions", "points")

BARE = re.compile(r"[A-Za-z0-9_-]+\Z")


@dataclass(frozen=True, slots=True)
class PointSpec:
    """A point that can be worked out. ``batch``: requests that are always under way."""

    serving: Serving
    batch: int
    input: int
    output: int
    cached: int = 0
    name: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadFile:
    """A file that was read. ``workload`` None: it only has points."""

    workload: Workload | None
    objectives: Objectives
    assumptions: Assumptions
    points: tuple[PointSpec, ...] = ()
    preset: str = ""


def read(path: Path) -> tuple[WorkloadFile | None, list[FieldError]]:
    """A file. The field of an error that concerns the whole file is ""."""
    try:
        with regular(path) as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        return None, [FieldError("", f"{path.name} cannot be read ({reason}); give the path of a WORKLOAD.toml.")]
    return parse(content, folder=path.parent)


def parse(content: bytes, *, folder: Path | None = None) -> tuple[WorkloadFile | None, list[FieldError]]:
    """The bytes of a file; None beside the errors when there is any. ``folder``: where paths in it begin."""
    if len(content) > LARGEST:
        return None, [FieldError("", f"The file has more than {LARGEST // 1_000_000} MB: it is no WORKLOAD.toml.")]
    try:
        table = toml_text.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError:
        return None, [FieldError("", "The file is no text in UTF-8, so it is no TOML: see `lab calculate --example`.")]
    except toml_text.NotToml as error:
        why = formatting.printable(str(error))
        return None, [FieldError("", f"The file is no TOML ({why}): see `lab calculate --example`.")]
    errors: list[FieldError] = []
    file_read = build(table, errors, folder=folder)
    return (file_read if not errors else None), errors


def build(table: Mapping[str, Any], errors: list[FieldError], *, folder: Path | None = None) -> WorkloadFile | None:
    """What the tables of a file ask for; what is wrong is added to ``errors``."""
    errors.extend(FieldError(str(key), serialization.unknown(key, TABLES)) for key in table if key not in TABLES)
    preset = table.get("preset", "")
    if preset and (not isinstance(preset, str) or preset not in presets.BY_ID):
        names = ", ".join(presets.BY_ID)
        errors.append(FieldError("preset", f"There is no preset {serialization.shown(preset)}; known are {names}."))
        preset = ""
    assumptions = (
        serialization.from_plain(Assumptions, table.get("assumptions", {}), "assumptions", errors) or Assumptions()
    )
    start = presets.BY_ID.get(preset) if preset else None
    goal_given = _over(start.objectives if start else Objectives(), table.get("objectives", {}))
    objectives = serialization.from_plain(Objectives, goal_given, "objectives", errors) or Objectives()
    spec_points = _points(table.get("points", []), assumptions, folder, errors)
    if "workload" not in table and not preset:
        errors.extend(validation.check_assumptions(assumptions))
        if not spec_points and not errors:
            errors.append(FieldError("workload", "Nothing is asked: give a [workload], a preset, or [[points]]."))
        return WorkloadFile(None, objectives, assumptions, spec_points, preset)
    workload_given = _workload(table.get("workload", {}), start.workload if start else None, errors)
    workload = serialization.from_plain(Workload, workload_given, "workload", errors)
    if workload is None:
        return None
    fields_wrong = {error.field for error in errors}
    errors.extend(
        error for error in validation.check(workload, objectives, assumptions) if error.field not in fields_wrong
    )
    return WorkloadFile(workload, objectives, assumptions, spec_points, preset)


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
            sentence = f"“requests_per_month” is a number, not {serialization.shown(month)}."
            errors.append(FieldError("workload.requests_per_month", sentence))
            table["rpm"] = 1.0
    shape = table.get("shape")
    if isinstance(shape, str):
        if shape not in presets.SHAPES:
            names = ", ".join(presets.SHAPES)
            sentence = f"“shape” is one of {names}, or a list of 24 weights, not {serialization.shown(shape)}."
            errors.append(FieldError("workload.shape", sentence))
        table["shape"] = list(presets.SHAPES.get(shape, presets.SHAPES["flat"]))
    return _over(start, table)


def _over(start: Any, table: Any) -> Any:
    """A table over a preset's."""
    return (
        {**serialization.to_plain(start, whole=True), **table}
        if start is not None and isinstance(table, Mapping)
        else table
    )


def _points(
    table: Any, assumptions: Assumptions, folder: Path | None, errors: list[FieldError]
) -> tuple[PointSpec, ...]:
    if not isinstance(table, list) or len(table) > MOST_POINTS:
        errors.append(FieldError("points", f"Points are [[points]] tables, at most {MOST_POINTS:,}."))
        return ()
    catalog_used = catalog.merged(assumptions.own)
    points = [
        read_point(element, f"points[{no}]", errors, catalog_given=catalog_used, folder=folder)
        for no, element in enumerate(table, 1)
    ]
    return tuple(point for point in points if point is not None)


# --- writing ---------------------------------------------------------------------------------------------------------
def write(workload: Workload, objectives: Objectives, assumptions: Assumptions | None = None) -> str:
    """A file that `parse` reads back to the same. Fields at their default are left out."""
    work = serialization.to_plain(workload)
    shape = presets.shape_name(workload.shape)
    if "shape" in work and shape != "own":
        work["shape"] = shape
    tables = {"workload": work, "objectives": _with_empties(objectives)}
    if assumptions is not None and (plain := serialization.to_plain(assumptions)):
        tables["assumptions"] = plain
    return "\n\n".join(f"[{name}]\n{_lines(table)}".rstrip() for name, table in tables.items()) + "\n"


def _with_empties(value: Any) -> dict[str, Any]:
    """TOML has no null: a field that is empty where its default is not says so."""
    plain: dict[str, Any] = serialization.to_plain(value)
    for field in fields(value):
        if getattr(value, field.name) is None and field.default not in (None, MISSING):
            plain[field.name] = "none"
    return plain


def _lines(table: Mapping[str, Any]) -> str:
    return "\n".join(f"{_key(key)} = {_value(value)}" for key, value in table.items() if value is not None)


def _key(key: str) -> str:
    return key if BARE.match(key) else _text(key)


def _text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '"'
        + "".join(
            character if character >= " " and character != "\x7f" else f"\\u{ord(character):04x}"
            for character in escaped
        )
        + '"'
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        inner = (f"{_key(key)} = {_value(element)}" for key, element in value.items() if element is not None)
        return "{ " + ", ".join(inner) + " }" if value else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(_value(element) for element in value) + "]"
    return _text(value) if isinstance(value, str) else repr(value)


GIB = 2**30

LARGEST_CONFIG = 4_000_000  # bytes of a config.json


# What vLLM calls it → what we do.
ALIASES = {
    "input_tokens": "input",
    "output_tokens": "output",
    "tensor_parallel_size": "tp",
    "concurrency": "batch",
    "quantization": "precision",
    "prefix_cached": "cached",
    "kv_cache_bytes": "kv_bytes",
    "block_size": "block",
}


LIMITS: Mapping[str, tuple[float, float]] = {
    "batch": (1, 100_000),
    "input": (1, 10_000_000),
    "output": (1, 10_000_000),
    "cached": (0, 10_000_000),
    "tp": (1, 128),
    "kv_bytes": (0.25, 4),
    "gpu_memory_utilization": (0.05, 1),
    "max_num_seqs": (1, 100_000),
    "max_num_batched_tokens": (16, 10_000_000),
    "block": (1, 1024),
}


@dataclass(frozen=True, slots=True)
class Point:
    """A `[[points]]` table as it is written. ``types``: a catalogue id, a Hugging Face id, or a table of `Llm`;
    ``config``: a path to a config.json in its place. ``gpu``: a name or a table of `Gpu`; ``instance`` in its place
    takes that machine's GPU. Tokens are of one request; ``cached`` of them are in the prefix cache."""

    model: str | Llm | None = None
    config: str | None = None
    gpu: str | Gpu | None = None
    instance: str | None = None
    tp: int = 1
    precision: Precision = Precision.BF16
    kv_bytes: float = 2.0
    batch: int = 1
    input: int = 1000
    output: int = 300
    cached: int = 0
    gpu_memory_utilization: float = 0.90
    max_num_seqs: int | None = None  # as `vllm serve` takes for the GPU
    max_num_batched_tokens: int | None = None  # as above
    activation_gib: float | None = None
    block: int = 16
    static: bool = False
    efficiency: Efficiency | None = None
    name: str = ""


def read_point(
    table: Any,
    place: str,
    errors: list[FieldError],
    *,
    catalog_given: Catalog | None = None,
    folder: Path | None = None,
) -> PointSpec | None:
    """The point of a table; what is wrong is added to ``errors``. ``folder``: where a ``config`` path begins."""
    n_before = len(errors)
    if isinstance(table, Mapping):
        table = {ALIASES.get(str(key), key): value for key, value in table.items()}
    point_read = serialization.from_plain(Point, table, place, errors)
    if point_read is None:
        return None
    for name, (low, high) in LIMITS.items():
        value = getattr(point_read, name)
        if value is not None and not low <= value <= high:
            sentence = f"“{name}” must be from {low:,g} to {high:,.10g}, not {value:,.10g}."
            errors.append(FieldError(f"{place}.{name}", sentence))
    catalog_given = catalog_given or catalog.base()
    llm = _llm(point_read, place, errors, catalog_given, folder)
    gpu = _gpu(point_read, place, errors, catalog_given)
    if llm is None or gpu is None or len(errors) > n_before:
        return None
    _against(point_read, llm, place, errors)
    if len(errors) > n_before:
        return None
    usual = memory.server_defaults(gpu.name, gpu.memory_gib)
    serving = Serving(
        llm,
        gpu,
        tp=point_read.tp,
        precision=point_read.precision,
        kv_bytes=point_read.kv_bytes,
        memory_share=point_read.gpu_memory_utilization,
        activation_gib=point_read.activation_gib,
        block=point_read.block,
        max_seqs=point_read.max_num_seqs or usual[0],
        step_tokens=point_read.max_num_batched_tokens or usual[1],
        continuous=not point_read.static,
        efficiency=point_read.efficiency,
    )
    if not _sound(serving, place, errors):
        return None
    return PointSpec(serving, point_read.batch, point_read.input, point_read.output, point_read.cached, point_read.name)


def work_out(spec: PointSpec) -> dict[str, Any]:
    """The figures of a point, JSON-ready: times in seconds, each ``{low, mid, high}``; docs/calculator.md has the keys.

    Where more is asked for at once than fits, the rest waits: ``running`` says how many run, and the waiting
    ((batch − running) / throughput, Little's law) is in TTFT and end-to-end time.
    """
    serving = spec.serving
    use = memory.of(serving, spec.input, spec.output)
    figures: dict[str, Any] = {
        "name": spec.name,
        "model": serving.llm.name,
        "gpu": serving.gpu.name,
        "tp": serving.tp,
        "precision": serving.precision.value,
        "kv_bytes": serving.kv_bytes,
        "batch": spec.batch,
        "input": spec.input,
        "output": spec.output,
        "cached": spec.cached,
        "static": not serving.continuous,
        "kv_slots": use.slots,
        "kv_gib": use.kv / GIB,
        "weights_gib": use.weights / GIB,
        "activations_gib": use.activations / GIB,
        "kv_bytes_per_token": use.kv_per_token,
        "sequences": use.sequences,
        "fits": use.fits,
    }
    if not use.fits:
        return figures | dict.fromkeys(TIMES) | {"running": 0, "bound": "memory", "infeasible": _misfit(spec)}
    running = min(spec.batch, max(1, roofline.most(serving, spec.input, spec.output)))
    at = roofline.point(serving, running, spec.input, spec.output, spec.cached)
    rate = [one_rate / 60 for one_rate in (at.rpm.low, at.rpm.mid, at.rpm.high)]
    waits = [(spec.batch - running) / rate_of_bound for rate_of_bound in reversed(rate)]  # the fastest first
    return figures | {
        "prefill_s": span(at.prefill_s),
        "decode_step_s": span(at.step_s),
        "ttft_s": span(_later(at.ttft_s, waits)),
        "tpot_s": span(at.tpot_s),
        "e2e_s": span(_later(at.e2e_s, waits)),
        "output_tokens_per_s": span(at.output_tok_s),
        "requests_per_min": span(at.rpm),
        "running": running,
        "bound": at.bound,
        "infeasible": None,
    }


TIMES = ("prefill_s", "decode_step_s", "ttft_s", "tpot_s", "e2e_s", "output_tokens_per_s", "requests_per_min")


def span(value: Range) -> dict[str, float]:
    """A range as JSON has it."""
    return {"low": value.low, "mid": value.mid, "high": value.high}


def _later(value: Range, waits: list[float]) -> Range:
    return Range(value.low + waits[0], value.mid + waits[1], value.high + waits[2])


def _misfit(spec: PointSpec) -> str:
    serving = spec.serving
    use = memory.of(serving, spec.input, spec.output)
    request = use.kv_per_token * (spec.input + spec.output)
    need, have = (use.weights + use.activations + request) / GIB, use.total * serving.memory_share / GIB
    return (
        f"{serving.llm.name} in {serving.precision.value} does not fit on {serving.tp} × {serving.gpu.name}: one "
        f"request of {spec.input + spec.output:,} tokens needs about {need:,.0f} GiB with the weights, "
        f"and {have:,.0f} GiB may "
        "be used."
    )


def _llm(
    point_read: Point, place: str, errors: list[FieldError], catalog_used: Catalog, folder: Path | None
) -> Llm | None:
    if (point_read.model is None) == (point_read.config is None):
        if not any(error.field.startswith(f"{place}.model") for error in errors):
            errors.append(
                FieldError(f"{place}.model", "Name a model, or give the path of its config.json as “config”.")
            )
        return None
    if isinstance(point_read.model, Llm):
        return point_read.model if _sound(point_read.model, f"{place}.model", errors) else None
    try:
        return (
            catalog_used.llm(point_read.model)
            if point_read.model is not None
            else _from_config(point_read.config or "", folder)
        )
    except LookupError as error:
        errors.append(FieldError(f"{place}.model", str(error.args[0])))
    except ConfigError as error:
        errors.append(FieldError(f"{place}.config", str(error)))
    except (OSError, ValueError, RecursionError):
        name = serialization.shown(point_read.config)
        errors.append(FieldError(f"{place}.config", f"The file {name} cannot be read; give the path of a config.json."))
    return None


def _from_config(path: str, folder: Path | None) -> Llm:
    with regular((folder or Path()).joinpath(path)) as file:
        text = file.read(LARGEST_CONFIG + 1)
    if len(text) > LARGEST_CONFIG:
        raise ConfigError("The file is too large for a config.json; give the model's own.")
    return catalog.llm_from_config(text.decode())


def _gpu(point_read: Point, place: str, errors: list[FieldError], catalog_used: Catalog) -> Gpu | None:
    if (point_read.gpu is None) == (point_read.instance is None):
        if not any(error.field.startswith(f"{place}.gpu") for error in errors):
            errors.append(FieldError(f"{place}.gpu", "Name a GPU, or an “instance” whose GPU is meant."))
        return None
    if isinstance(point_read.gpu, Gpu):
        return point_read.gpu if _sound(point_read.gpu, f"{place}.gpu", errors) else None
    field = "gpu" if point_read.gpu is not None else "instance"
    try:
        return catalog_used.gpu(
            point_read.gpu if point_read.gpu is not None else catalog_used.instance(point_read.instance or "").gpu
        )
    except LookupError as error:
        errors.append(FieldError(f"{place}.{field}", str(error.args[0])))
    return None


def _sound(row: Llm | Gpu | Serving, place: str, errors: list[FieldError]) -> bool:
    """Whether a row that the user wrote can be counted with."""
    wrong = validation.check_rows(row, place)
    errors.extend(wrong)
    return not wrong


def _against(point_read: Point, llm: Llm, place: str, errors: list[FieldError]) -> None:
    if point_read.input + point_read.output > llm.max_context:
        field = "input" if point_read.input > llm.max_context else "output"
        errors.append(
            FieldError(
                f"{place}.{field}",
                (
                    f"{point_read.input:,} tokens in and {point_read.output:,} out do not fit into the context of "
                    f"{llm.name} ({llm.max_context:,}); shorten the {field}."
                ),
            )
        )
    if point_read.cached > point_read.input:
        sentence = f"{point_read.cached:,} tokens are cached, but the input has only {point_read.input:,}."
        errors.append(FieldError(f"{place}.cached", sentence))
