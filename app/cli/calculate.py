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
from services.calculator import workload_file as workload_files
from services.calculator.serialization import FieldError
from services.calculator.types import Answer
from services.calculator.workload_file import PointSpec

MOST_ROWS = 20  # options in a terminal
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


def calculate(file: Path | None, points: Sequence[str], *, as_json: bool, example: bool) -> int:
    """Print the answer. Returns 2, with a sentence for every field, when something in the input cannot be."""
    if example:
        print(EXAMPLE, end="")
        return 0
    if file is None and not points:
        print("Give a WORKLOAD.toml (`lab calculate --example > w.toml` writes one), or a --point.", file=sys.stderr)
        return 2
    workload_file, errors = _read(file)
    extra = [_point(text, no, errors) for no, text in enumerate(points, 1)]
    if errors:
        for error in errors:
            print(
                formatting.printable(f"{error.field}: {error.sentence}" if error.field else error.sentence),
                file=sys.stderr,
            )
        return 2
    specs = [*(workload_file.points if workload_file else ()), *(point for point in extra if point is not None)]
    answer = None
    if workload_file is not None and workload_file.workload is not None:
        from services.calculator import rank

        answer = rank.calculate(workload_file.workload, workload_file.objectives, assumptions=workload_file.assumptions)
    figures = [workload_files.work_out(spec) for spec in specs]
    if as_json:
        report_json: dict[str, Any] = {"schema": report.SCHEMA}
        if answer is not None and workload_file is not None:
            report_json = report.as_json(answer, workload_file.assumptions)
        print(orjson.dumps(report_json | {"points": figures}).decode())
        return 0
    if answer is not None:
        _print_answer(answer)
    _print_points(figures)
    return 0


def _read(file: Path | None) -> tuple[workload_files.WorkloadFile | None, list[FieldError]]:
    if file is None:
        return None, []
    if str(file) == "-":
        return workload_files.parse(sys.stdin.buffer.read(workload_files.LARGEST + 1), folder=Path())
    return workload_files.read(file)


def _point(text: str, no: int, errors: list[FieldError]) -> PointSpec | None:
    """A point as "model=Llama-3.1-8B,gpu=L4,batch=4". A value that is a number or true is one."""
    table: dict[str, Any] = {}
    for pair in text.replace(",", " ").split():
        name, equals, value = pair.partition("=")
        if not equals:
            sentence = f"“{formatting.printable(pair)}” is no name=value, as in model=Llama-3.1-8B,gpu=L4,batch=4."
            errors.append(FieldError(f"--point {no}", sentence))
            return None
        table[name] = _value(value)
    return workload_files.read_point(table, f"--point {no}", errors)


def _value(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _print_answer(answer: Answer) -> None:
    out = console()
    out.print(formatting.printable("\n".join(answer.sentences)), markup=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("", "option", "a month", "per 1,000", "first p95", "last p95", "objectives"):
        table.add_column(title, overflow="fold")
    feasible = [option for option in answer.options if option.infeasible is None]
    for no, option in enumerate(feasible[:MOST_ROWS], 1):
        mark = "" if option.timed.startswith("measured") else "~"
        table.add_row(
            str(no),
            formatting.printable(option.title),
            report.money(option.monthly_usd),
            report.money(option.per_1000_usd),
            report.seconds(option.ttft_p95_s, mark),
            report.seconds(option.ttlt_p95_s, mark),
            formatting.printable(report.standing(option, answer.objectives)),
        )
    out.print()
    out.print(table)
    if len(feasible) > MOST_ROWS:
        out.print(f"{len(feasible) - MOST_ROWS:,} more; --json has all of them.", style="dim")
    infeasible = [option for option in answer.options if option.infeasible is not None]
    if infeasible:
        out.print(f"\nCannot be done ({len(infeasible):,}; --json has all of them):", style="dim")
        reasons = (formatting.printable(f"{option.title}: {option.infeasible}") for option in infeasible[:MOST_ROWS])
        out.print("\n".join(reasons), markup=False)


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
    for point in figures:
        name = point["name"] or f"{point['model']} {point['precision']} on {point['tp']} × {point['gpu']}"
        batch = (
            str(point["batch"])
            if point["running"] in (0, point["batch"])
            else f"{point['batch']} ({point['running']} run)"
        )
        times = [_span(point[key], 1000, " ms") for key in ("prefill_s", "decode_step_s", "ttft_s", "tpot_s")]
        rates = [_span(point[key], 1, "") for key in ("output_tokens_per_s", "requests_per_min")]
        table.add_row(formatting.printable(name), batch, f"~{point['kv_slots']:,}", *times, *rates, point["bound"])
    out = console()
    out.print()
    out.print(table)
    out.print(
        "\n".join(formatting.printable(point["infeasible"]) for point in figures if point["infeasible"]), markup=False
    )


def _span(value: dict[str, float] | None, factor: float, unit: str) -> str:
    if value is None:
        return formatting.DASH
    low, mid, high = (_short(value[key] * factor) for key in ("low", "mid", "high"))
    return f"~{mid}{unit} ({low}–{high})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
