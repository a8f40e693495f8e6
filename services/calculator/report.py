"""An answer to take away: JSON (docs/calculator.md has every key), CSV, and a report of one page in Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from services import formatting
from services.calculator import memory, presets, serialization
from services.calculator import status as ranks
from services.calculator.assumptions import Assumptions
from services.calculator.types import HOURS_A_MONTH, Answer, Objectives, Option, Range, Workload
from services.formatting import safe_cell as safe

SCHEMA = 1
GIB = 2**30
MOST_LINES = 12  # options in the report of one page
SPANS = (
    "monthly_usd",
    "per_1000_usd",
    "per_mtok_usd",
    "ttft_p50_s",
    "ttft_p95_s",
    "ttlt_p50_s",
    "ttlt_p95_s",
    "utilisation",
)


def as_json(answer: Answer, assumptions: Assumptions | None = None) -> dict[str, Any]:
    """The answer as plain values: what was asked, what came out, every figure as ``{low, mid, high}`` or null."""
    return {
        "schema": SCHEMA,
        "made_on": answer.made_on.isoformat(),
        "hours_a_month": HOURS_A_MONTH,
        "workload": serialization.to_plain(answer.workload, whole=True),
        "objectives": serialization.to_plain(answer.objectives, whole=True),
        "assumptions": serialization.to_plain(assumptions or Assumptions()),
        "chosen": answer.chosen,
        "stable": answer.stable,
        "unstable_because": answer.unstable_because,
        "sentences": list(answer.sentences),
        "options": [_option(rank, one, answer.objectives) for rank, one in enumerate(answer.options, 1)],
    }


def _option(rank: int, one: Option, objectives: Objectives) -> dict[str, Any]:
    left = {each.name: getattr(one, each.name) for each in fields(one) if each.name not in ("serving", *SPANS)}
    made: dict[str, Any] = {
        "rank": rank,
        **{name: serialization.to_plain(value, whole=True) for name, value in left.items()},
    }
    made |= {name: _span(getattr(one, name)) for name in SPANS}
    return made | {"meets": meets(one, objectives), "serving": _serving(one)}


def _span(value: Range | None) -> dict[str, float] | None:
    return None if value is None else serialization.to_plain(value, whole=True)


def _serving(one: Option) -> dict[str, Any] | None:
    if one.serving is None:
        return None
    held = one.serving
    return {
        "model": held.llm.name,
        "gpu": held.gpu.name,
        "tp": held.tp,
        "precision": held.precision.value,
        "kv_bytes": held.kv_bytes,
        "gpu_memory_utilization": held.memory_share,
        "max_num_seqs": held.max_seqs,
        "max_num_batched_tokens": held.step_tokens,
        "static": not held.continuous,
    }


def meets(one: Option, objectives: Objectives) -> bool | None:
    """Whether the objectives hold; None where the latency or the price that decides it is not known."""
    return {ranks.MEETS: True, ranks.LATENCY_UNKNOWN: None, ranks.PRICE_UNKNOWN: None}.get(
        ranks.standing(one, objectives), False
    )


def standing(one: Option, objectives: Objectives) -> str:
    """The same in words, with the reason."""
    why = one.infeasible or " ".join(one.misses or (() if meets(one, objectives) else one.missing))
    said = STANDINGS[ranks.standing(one, objectives)]
    return f"{said}: {why}" if why else said


STANDINGS = ("meets", "not known", "misses", "price not known", "cannot be done")


def as_csv(answer: Answer) -> str:
    """One line for each option; a range is three columns. Texts that a spreadsheet would run are made harmless."""
    out = io.StringIO()
    table = csv.writer(out)
    ends = [f"{name}_{end}" for name in SPANS for end in ("low", "mid", "high")]
    table.writerow(
        [
            "rank",
            "id",
            "way",
            "title",
            "model",
            "cached",
            "batched",
            "objectives",
            "why",
            *ends,
            "timed",
            "full_at_rpm",
            "largest_output_tokens",
            "replicas_by_hour",
            "missing",
            "would_win",
        ]
    )
    for rank, one in enumerate(answer.options, 1):
        values: list[Any] = []
        for name in SPANS:
            span = getattr(one, name)
            values += ["", "", ""] if span is None else [span.low, span.mid, span.high]
        why = one.infeasible or " ".join(one.misses)
        names = [safe(text) for text in (one.id, one.way.value, one.title, one.model)]
        stands = STANDINGS[ranks.standing(one, answer.objectives)]
        table.writerow(
            [
                rank,
                *names,
                one.cached,
                one.batched,
                stands,
                safe(why),
                *values,
                one.timed,
                _blank(one.full_at_rpm),
                _blank(one.largest_output),
                " ".join(str(count) for count in one.replicas or ()),
                safe(" ".join(one.missing)),
                safe(one.would_win or ""),
            ]
        )
    return out.getvalue()


def _blank(value: Any) -> Any:
    return "" if value is None else value


# --- the report ------------------------------------------------------------------------------------------------------


def as_markdown(answer: Answer, *, address: str = "") -> str:
    """One page: the answer, what was asked, the options, what it rests on. ``address``: where it can be opened."""
    best = next((one for one in answer.options if one.id == answer.chosen), None)
    parts = [
        "# Which deployment for this workload",
        f"Inference Lab, {answer.made_on.isoformat()}. Money in US dollars for a month of {HOURS_A_MONTH:.0f} hours, "
        "at list prices unless an assumption says otherwise; “~” is estimated, not measured.",
        " ".join(_plain(one) for one in answer.sentences),
        "## Asked",
        "\n".join(f"- {_plain(line)}" for line in asked(answer.workload, answer.objectives)),
        "## Options",
        _table(answer.options, answer.objectives),
        *(("## What the choice rests on", _facts(best), _memory(best, answer.workload)) if best is not None else ()),
        f"Open it again: <{address}>" if address else "",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def asked(workload: Workload, objectives: Objectives) -> list[str]:
    """The workload and the objectives in lines."""
    work, goal = workload, objectives
    given, made = work.input_tokens.median, work.output_tokens.median
    shape = presets.SHAPE_TITLES[presets.shape_name(work.shape)].lower()
    limits = [
        f"{what} token within {value:g} s" for what, value in (("first", goal.ttft_s), ("last", goal.ttlt_s)) if value
    ]
    wanted = [name for name, on in (("isolated", goal.isolated), ("own weights", goal.own_weights)) if on]
    lines = [
        f"{work.rpm:,.6g} requests a minute ({shape}), {given:,.0f} tokens in and {made:,.0f} out (medians)",
        f"{work.prefix_share:.0%} of the input repeats ({work.reuse.value}), {work.batch_share:.0%} may wait for "
        f"batch, {work.months} months of commitment",
        "At p95: " + (", ".join(limits) if limits else "no limit of time"),
        f"At least {goal.replicas} replica{'' if goal.replicas == 1 else 's'}"
        + (f"; {', '.join(wanted)}" if wanted else ""),
    ]
    if goal.models is None:
        return [*lines, "No model was judged good enough before: a ranking across models is no choice between them"]
    return [*lines, f"Models judged good enough: {', '.join(goal.models)}"]


def _table(options: Sequence[Option], objectives: Objectives) -> str:
    lines = [
        "| | Option | A month | Per 1,000 | First token p95 | Last token p95 | Objectives |",
        "|--:|:--|--:|--:|--:|--:|:--|",
    ]
    for rank, one in enumerate(options[:MOST_LINES], 1):
        mark = "" if one.timed.startswith("measured") else "~"
        cells = [
            str(rank),
            _plain(one.title),
            money(one.monthly_usd),
            money(one.per_1000_usd),
            seconds(one.ttft_p95_s, mark),
            seconds(one.ttlt_p95_s, mark),
            _plain(standing(one, objectives)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    rest = len(options) - MOST_LINES
    return "\n".join(lines) + (f"\n\n{rest:,} more are in the CSV and the JSON." if rest > 0 else "")


def money(value: Range | None, mark: str = "~") -> str:
    """A range of dollars: "~$1,240 ($980–1,600)"; None as a dash."""
    if value is None:
        return formatting.DASH
    if value.low == value.high:
        return f"${_figure(value.mid)}"
    return f"{mark}${_figure(value.mid)} (${_figure(value.low)}–{_figure(value.high)})"


def _figure(usd: float) -> str:
    return f"{usd:,.0f}" if usd >= 100 else f"{usd:,.2f}" if usd >= 0.1 or usd == 0 else f"{usd:.3g}"


def seconds(value: Range | None, mark: str = "~") -> str:
    """A range of seconds: "~0.41 s (0.30–0.62)"; None as a dash."""
    if value is None:
        return formatting.DASH
    if value.low == value.high:
        return formatting.seconds(value.mid * 1000, mark)
    return f"{formatting.seconds(value.mid * 1000, mark)} ({value.low:.2g}–{value.high:.2g} s)"


def _facts(one: Option) -> str:
    lines = [
        f"| {_plain(each.name)} | {_plain(each.value)} | {_plain(each.source)} | {_plain(each.date)} |"
        for each in one.facts
    ]
    return "\n".join(["| What | Value | From | Of |", "|:--|:--|:--|:--|", *lines]) if lines else ""


def _memory(one: Option, workload: Workload) -> str:
    if one.serving is None:
        return ""
    held = memory.of(one.serving, workload.input_tokens.median, workload.output_tokens.median)
    return (
        f"Memory of a replica: ~{held.weights / GIB:.1f} GiB of weights, ~{held.kv / GIB:.1f} GiB of KV cache "
        f"({held.slots:,} tokens, {held.sequences:,} such requests at once), ~{held.activations / GIB:.1f} GiB "
        "of the rest."
    )


def _plain(text: str) -> str:
    """A text inside Markdown: nothing in it is interpreted, and it stays in its cell."""
    return formatting.md_escape(text)


def comparison(named: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """Saved scenarios side by side: a line for each with its choice and the deciding figures."""
    lines: list[dict[str, Any]] = []
    for name, answer in named.items():
        best = next((one for one in answer.options if one.id == answer.chosen), None)
        lines.append(
            {
                "scenario": name,
                "rpm": answer.workload.rpm,
                "input_tokens": answer.workload.input_tokens.median,
                "output_tokens": answer.workload.output_tokens.median,
                "choice": None if best is None else best.title,
                "monthly_usd": None if best is None else best.monthly_usd,
                "per_1000_usd": None if best is None else best.per_1000_usd,
                "ttft_p95_s": None if best is None else best.ttft_p95_s,
                "ttlt_p95_s": None if best is None else best.ttlt_p95_s,
                "stable": answer.stable,
            }
        )
    return lines
