"""Single replicas to work out: a `[[points]]` table of WORKLOAD.toml → memory, times and rates at a batch.

For who wants to hold the engine against a measurement: everything that vLLM is started with can be said.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.calculator import catalog, memory, overheads, roofline, serialization, sound
from services.calculator.catalog import Catalog, ConfigError
from services.calculator.serialization import FieldError
from services.calculator.types import Efficiency, Gpu, Llm, Precision, Range, Serving
from services.regular_file import regular

GIB = 2**30
LARGEST_CONFIG = 4_000_000  # bytes of a config.json
# What vLLM calls it → what we do.
ALIASES = {
    "input_tokens": "input", "output_tokens": "output", "tensor_parallel_size": "tp", "concurrency": "batch",
    "quantization": "precision", "prefix_cached": "cached", "kv_cache_bytes": "kv_bytes", "block_size": "block",
}  # fmt: skip
LIMITS: Mapping[str, tuple[float, float]] = {
    "batch": (1, 100_000), "input": (1, 10_000_000), "output": (1, 10_000_000), "cached": (0, 10_000_000),
    "tp": (1, 128), "kv_bytes": (0.25, 4), "gpu_memory_utilization": (0.05, 1), "max_num_seqs": (1, 100_000),
    "max_num_batched_tokens": (16, 10_000_000), "block": (1, 1024),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
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


@dataclass(frozen=True, slots=True)
class PointSpec:
    """A point that can be worked out. ``batch``: requests that are always under way."""

    serving: Serving
    batch: int
    input: int
    output: int
    cached: int = 0
    name: str = ""


def read(
    given: Any, at: str, errors: list[FieldError], *, known: Catalog | None = None, folder: Path | None = None
) -> PointSpec | None:
    """The point of a table; what is wrong is added to ``errors``. ``folder``: where a ``config`` path begins."""
    before = len(errors)
    if isinstance(given, Mapping):
        given = {ALIASES.get(str(key), key): value for key, value in given.items()}
    asked = serialization.from_plain(Asked, given, at, errors)
    if asked is None:
        return None
    for name, (low, high) in LIMITS.items():
        value = getattr(asked, name)
        if value is not None and not low <= value <= high:
            sentence = f"“{name}” must be from {low:,g} to {high:,.10g}, not {value:,.10g}."
            errors.append(FieldError(f"{at}.{name}", sentence))
    known = known or catalog.base()
    llm = _llm(asked, at, errors, known, folder)
    gpu = _gpu(asked, at, errors, known)
    if llm is None or gpu is None or len(errors) > before:
        return None
    _against(asked, llm, at, errors)
    if len(errors) > before:
        return None
    usual = overheads.server_defaults(gpu.name, gpu.memory_gib)
    serving = Serving(
        llm, gpu, tp=asked.tp, precision=asked.precision, kv_bytes=asked.kv_bytes,
        memory_share=asked.gpu_memory_utilization, activation_gib=asked.activation_gib, block=asked.block,
        max_seqs=asked.max_num_seqs or usual[0], step_tokens=asked.max_num_batched_tokens or usual[1],
        continuous=not asked.static, efficiency=asked.efficiency,
    )  # fmt: skip
    if not _sound(serving, at, errors):
        return None
    return PointSpec(serving, asked.batch, asked.input, asked.output, asked.cached, asked.name)


def work_out(spec: PointSpec) -> dict[str, Any]:
    """The figures of a point, JSON-ready: times in seconds, each ``{low, mid, high}``; docs/calculator.md has the keys.

    Where more is asked for at once than fits, the rest waits: ``running`` says how many run, and the waiting
    ((batch − running) / throughput, Little's law) is in TTFT and end-to-end time.
    """
    one = spec.serving
    held = memory.of(one, spec.input, spec.output)
    figures: dict[str, Any] = {
        "name": spec.name, "model": one.llm.name, "gpu": one.gpu.name, "tp": one.tp, "precision": one.precision.value,
        "kv_bytes": one.kv_bytes, "batch": spec.batch, "input": spec.input, "output": spec.output,
        "cached": spec.cached, "static": not one.continuous,
        "kv_slots": held.slots, "kv_gib": held.kv / GIB, "weights_gib": held.weights / GIB,
        "activations_gib": held.activations / GIB, "kv_bytes_per_token": held.kv_per_token,
        "sequences": held.sequences, "fits": held.fits,
    }  # fmt: skip
    if not held.fits:
        return figures | dict.fromkeys(TIMES) | {"running": 0, "bound": "memory", "infeasible": _misfit(spec)}
    running = min(spec.batch, max(1, roofline.most(one, spec.input, spec.output)))
    at = roofline.point(one, running, spec.input, spec.output, spec.cached)
    rate = [one_rate / 60 for one_rate in (at.rpm.low, at.rpm.mid, at.rpm.high)]
    waits = [(spec.batch - running) / each for each in reversed(rate)]  # the fastest first
    return figures | {
        "prefill_s": span(at.prefill_s), "decode_step_s": span(at.step_s), "ttft_s": span(_later(at.ttft_s, waits)),
        "tpot_s": span(at.tpot_s), "e2e_s": span(_later(at.e2e_s, waits)),
        "output_tokens_per_s": span(at.output_tok_s), "requests_per_min": span(at.rpm),
        "running": running, "bound": at.bound, "infeasible": None,
    }  # fmt: skip


TIMES = ("prefill_s", "decode_step_s", "ttft_s", "tpot_s", "e2e_s", "output_tokens_per_s", "requests_per_min")


def span(value: Range) -> dict[str, float]:
    """A range as JSON has it."""
    return {"low": value.low, "mid": value.mid, "high": value.high}


def _later(value: Range, waits: list[float]) -> Range:
    return Range(value.low + waits[0], value.mid + waits[1], value.high + waits[2])


def _misfit(spec: PointSpec) -> str:
    one = spec.serving
    held = memory.of(one, spec.input, spec.output)
    request = held.kv_per_token * (spec.input + spec.output)
    need, have = (held.weights + held.activations + request) / GIB, held.total * one.memory_share / GIB
    return (
        f"{one.llm.name} in {one.precision.value} does not fit on {one.tp} × {one.gpu.name}: one request of "
        f"{spec.input + spec.output:,} tokens needs about {need:,.0f} GiB with the weights, and {have:,.0f} GiB may "
        "be used."
    )  # fmt: skip


def _llm(asked: Asked, at: str, errors: list[FieldError], known: Catalog, folder: Path | None) -> Llm | None:
    if (asked.model is None) == (asked.config is None):
        if not any(one.field.startswith(f"{at}.model") for one in errors):
            errors.append(FieldError(f"{at}.model", "Name a model, or give the path of its config.json as “config”."))
        return None
    if isinstance(asked.model, Llm):
        return asked.model if _sound(asked.model, f"{at}.model", errors) else None
    try:
        return known.llm(asked.model) if asked.model is not None else _from_config(asked.config or "", folder)
    except LookupError as error:
        errors.append(FieldError(f"{at}.model", str(error.args[0])))
    except ConfigError as error:
        errors.append(FieldError(f"{at}.config", str(error)))
    except (OSError, ValueError, RecursionError):
        name = serialization.shown(asked.config)
        errors.append(FieldError(f"{at}.config", f"The file {name} cannot be read; give the path of a config.json."))
    return None


def _from_config(path: str, folder: Path | None) -> Llm:
    with regular((folder or Path()).joinpath(path)) as file:
        text = file.read(LARGEST_CONFIG + 1)
    if len(text) > LARGEST_CONFIG:
        raise ConfigError("The file is too large for a config.json; give the model's own.")
    return catalog.llm_from_config(text.decode())


def _gpu(asked: Asked, at: str, errors: list[FieldError], known: Catalog) -> Gpu | None:
    if (asked.gpu is None) == (asked.instance is None):
        if not any(one.field.startswith(f"{at}.gpu") for one in errors):
            errors.append(FieldError(f"{at}.gpu", "Name a GPU, or an “instance” whose GPU is meant."))
        return None
    if isinstance(asked.gpu, Gpu):
        return asked.gpu if _sound(asked.gpu, f"{at}.gpu", errors) else None
    field = "gpu" if asked.gpu is not None else "instance"
    try:
        return known.gpu(asked.gpu if asked.gpu is not None else known.instance(asked.instance or "").gpu)
    except LookupError as error:
        errors.append(FieldError(f"{at}.{field}", str(error.args[0])))
    return None


def _sound(row: Llm | Gpu | Serving, at: str, errors: list[FieldError]) -> bool:
    """Whether a row that the user wrote can be counted with."""
    wrong = sound.check(row, at)
    errors.extend(wrong)
    return not wrong


def _against(asked: Asked, llm: Llm, at: str, errors: list[FieldError]) -> None:
    if asked.input + asked.output > llm.max_context:
        field = "input" if asked.input > llm.max_context else "output"
        errors.append(FieldError(f"{at}.{field}", (
            f"{asked.input:,} tokens in and {asked.output:,} out do not fit into the context of {llm.name} "
            f"({llm.max_context:,}); shorten the {field}."
        )))  # fmt: skip
    if asked.cached > asked.input:
        sentence = f"{asked.cached:,} tokens are cached, but the input has only {asked.input:,}."
        errors.append(FieldError(f"{at}.cached", sentence))
