"""`lab calculate`: the calculator's answer to a WORKLOAD.toml, and single points of self-hosted replicas."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
from rich.table import Table

from app.cli.terminal import console
from services import formatting
from services.calculator import report
from services.calculator import workload_file as calculator_workload_file
from services.calculator.serialization import FieldError
from services.calculator.types import Answer
from services.calculator.workload_file import PointSpec

SHOWN = 20  # options in a terminal
EXAMPLE = """# What `lab calculate` reads. docs/calculator.md describes every field; what is left out has its usual value.
# preset = "rag"                     # begin with: chat, extraction, classification, rag, backlog or agent

[workload]
rpm = 60                             # requests a minute, mean of the day; or requests_per_month = 2_628_000
input_tokens = { median = 1000, sigma = 0.8 }   # or only a number, when they do not differ
output_tokens = { median = 300, sigma = 0.7 }
shape = "office"                     # flat, office, evening, or 24 weights from hour 0 on
burstiness = 1.0                     # 1: at random; more: in bunches
prefix_share = 0.5                   # of the input that is repeated
reuse = "steady"                     # or "burst": in sessions of calls_per_session
reuse_per_hour = 600
batch_share = 0.0                    # of the requests that may wait up to a day
months = 0                           # of commitment that may be signed: 0, 1, 6, 12 or 36

[objectives]
ttft_s = 3.0                         # first token, seconds at p95; "none" for no limit
ttlt_s = 15.0                        # last token
replicas = 1                         # at least
# models = ["Llama-3.1-8B"]          # those that were judged good enough

[assumptions]
headroom = 0.2                       # of replicas above the busiest hour
# instance_prices = { "g6e.xlarge" = 1.861 }
# spot_discount = { "*" = 0.6 }

# Figures of one replica at a batch; as many as you like.
[[points]]
model = "Llama-3.1-8B"               # or config = "path/to/config.json"
gpu = "H100-80GB-SXM"                # or a table of its figures
tp = 1
precision = "bf16"                   # bf16, fp8, w8, w4 or mxfp4
batch = 8
input = 1000
output = 300
"""  # noqa: E501  # an example is read by people: one field a line


def calculate(file: Path | None, given: Sequence[str], *, as_json: bool, example: bool) -> int:
    """Print the answer. Returns 2, with a sentence for every field, when something in the input cannot be."""
    if example:
        print(EXAMPLE, end="")
        return 0
    if file is None and not given:
        print("Give a WORKLOAD.toml (`lab calculate --example > w.toml` writes one), or a --point.", file=sys.stderr)
        return 2
    asked, errors = _read(file)
    extra = [_point(text, no, errors) for no, text in enumerate(given, 1)]
    if errors:
        for one in errors:
            print(formatting.printable(f"{one.field}: {one.sentence}" if one.field else one.sentence), file=sys.stderr)
        return 2
    specs = [*(asked.points if asked else ()), *(one for one in extra if one is not None)]
    answer = None
    if asked is not None and asked.workload is not None:
        from services.calculator import rank

        answer = rank.calculate(asked.workload, asked.objectives, assumptions=asked.assumptions)
    figures = [calculator_workload_file.work_out(one) for one in specs]
    if as_json:
        found: dict[str, Any] = {"schema": report.SCHEMA}
        if answer is not None and asked is not None:
            found = report.as_json(answer, asked.assumptions)
        print(orjson.dumps(found | {"points": figures}).decode())
        return 0
    if answer is not None:
        _print(answer)
    _print_points(figures)
    return 0


def _read(file: Path | None) -> tuple[calculator_workload_file.WorkloadFile | None, list[FieldError]]:
    if file is None:
        return None, []
    if str(file) == "-":
        return calculator_workload_file.parse(
            sys.stdin.buffer.read(calculator_workload_file.LARGEST + 1), folder=Path()
        )
    return calculator_workload_file.read(file)


def _point(text: str, no: int, errors: list[FieldError]) -> PointSpec | None:
    """A point as "model=Llama-3.1-8B,gpu=L4,batch=4". A value that is a number or true is one."""
    table: dict[str, Any] = {}
    for part in text.replace(",", " ").split():
        name, equals, value = part.partition("=")
        if not equals:
            said = f"“{formatting.printable(part)}” is no name=value, as in model=Llama-3.1-8B,gpu=L4,batch=4."
            errors.append(FieldError(f"--point {no}", said))
            return None
        table[name] = _value(value)
    return calculator_workload_file.read_point(table, f"--point {no}", errors)


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _print(answer: Answer) -> None:
    out = console()
    out.print(formatting.printable("\n".join(answer.sentences)), markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "option", "a month", "per 1,000", "first p95", "last p95", "objectives"):
        table.add_column(title, overflow="fold")
    shown = [one for one in answer.options if one.infeasible is None]
    for no, one in enumerate(shown[:SHOWN], 1):
        mark = "" if one.timed.startswith("measured") else "~"
        table.add_row(
            str(no),
            formatting.printable(one.title),
            report.money(one.monthly_usd),
            report.money(one.per_1000_usd),
            report.seconds(one.ttft_p95_s, mark),
            report.seconds(one.ttlt_p95_s, mark),
            formatting.printable(report.standing(one, answer.objectives)),
        )
    out.print()
    out.print(table)
    if len(shown) > SHOWN:
        out.print(f"{len(shown) - SHOWN:,} more; --json has all of them.", style="dim")
    lost = [one for one in answer.options if one.infeasible is not None]
    if lost:
        out.print(f"\nCannot be done ({len(lost):,}; --json has all of them):", style="dim")
        said = (formatting.printable(f"{one.title}: {one.infeasible}") for one in lost[:SHOWN])
        out.print("\n".join(said), markup=False)


def _print_points(figures: Sequence[dict[str, Any]]) -> None:
    if not figures:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in (
        "point",
        "batch",
        "KV slots",
        "prefill",
        "decode step",
        "TTFT",
        "TPOT",
        "tokens/s",
        "requests/min",
        "bound",
    ):
        table.add_column(title, overflow="fold")
    for one in figures:
        name = one["name"] or f"{one['model']} {one['precision']} on {one['tp']} × {one['gpu']}"
        batch = str(one["batch"]) if one["running"] in (0, one["batch"]) else f"{one['batch']} ({one['running']} run)"
        times = [_span(one[key], 1000, " ms") for key in ("prefill_s", "decode_step_s", "ttft_s", "tpot_s")]
        rates = [_span(one[key], 1, "") for key in ("output_tokens_per_s", "requests_per_min")]
        table.add_row(formatting.printable(name), batch, f"~{one['kv_slots']:,}", *times, *rates, one["bound"])
    out = console()
    out.print()
    out.print(table)
    out.print("\n".join(formatting.printable(one["infeasible"]) for one in figures if one["infeasible"]), markup=False)


def _span(value: dict[str, float] | None, factor: float, unit: str) -> str:
    if value is None:
        return formatting.DASH
    low, mid, high = (_short(value[key] * factor) for key in ("low", "mid", "high"))
    return f"~{mid}{unit} ({low}–{high})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
