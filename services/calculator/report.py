"""An answer to take away: JSON (docs/calculator.md has every key), CSV, and a report of one page in Markdown."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from services import formatting
from services.calculator import memory, presets, sentences, serialization
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
        "options": [_option(rank, option, answer.objectives) for rank, option in enumerate(answer.options, 1)],
    }


def _option(rank: int, option: Option, objectives: Objectives) -> dict[str, Any]:
    values = {
        field.name: getattr(option, field.name) for field in fields(option) if field.name not in ("serving", *SPANS)
    }
    figures: dict[str, Any] = {
        "rank": rank,
        **{name: serialization.to_plain(value, whole=True) for name, value in values.items()},
    }
    figures |= {name: _span(getattr(option, name)) for name in SPANS}
    return figures | {"meets": meets(option, objectives), "serving": _serving(option)}


def _span(value: Range | None) -> dict[str, float] | None:
    return None if value is None else serialization.to_plain(value, whole=True)


def _serving(option: Option) -> dict[str, Any] | None:
    if option.serving is None:
        return None
    serving = option.serving
    return {
        "model": serving.llm.name,
        "gpu": serving.gpu.name,
        "tp": serving.tp,
        "precision": serving.precision.value,
        "kv_bytes": serving.kv_bytes,
        "gpu_memory_utilization": serving.memory_share,
        "max_num_seqs": serving.max_seqs,
        "max_num_batched_tokens": serving.step_tokens,
        "static": not serving.continuous,
    }


def meets(option: Option, objectives: Objectives) -> bool | None:
    """Whether the objectives hold; None where the latency or the price that decides it is not known."""
    return {sentences.MEETS: True, sentences.LATENCY_UNKNOWN: None, sentences.PRICE_UNKNOWN: None}.get(
        sentences.standing(option, objectives), False
    )


def standing(option: Option, objectives: Objectives) -> str:
    """The same in words, with the reason."""
    why = option.infeasible or " ".join(option.misses or (() if meets(option, objectives) else option.missing))
    words = STANDINGS[sentences.standing(option, objectives)]
    return f"{words}: {why}" if why else words


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
    for rank, option in enumerate(answer.options, 1):
        values: list[Any] = []
        for name in SPANS:
            span = getattr(option, name)
            values += ["", "", ""] if span is None else [span.low, span.mid, span.high]
        why = option.infeasible or " ".join(option.misses)
        names = [safe(text) for text in (option.id, option.way.value, option.title, option.model)]
        standing_words = STANDINGS[sentences.standing(option, answer.objectives)]
        table.writerow(
            [
                rank,
                *names,
                option.cached,
                option.batched,
                standing_words,
                safe(why),
                *values,
                option.timed,
                _blank(option.full_at_rpm),
                _blank(option.largest_output),
                " ".join(str(count) for count in option.replicas or ()),
                safe(" ".join(option.missing)),
                safe(option.would_win or ""),
            ]
        )
    return out.getvalue()


def _blank(value: Any) -> Any:
    return "" if value is None else value


# --- the report ------------------------------------------------------------------------------------------------------


def as_markdown(answer: Answer, *, address: str = "") -> str:
    """One page: the answer, what was asked, the options, what it rests on. ``address``: where it can be opened."""
    best = next((option for option in answer.options if option.id == answer.chosen), None)
    parts = [
        "# Which deployment for this workload",
        f"Inference Lab, {answer.made_on.isoformat()}. Money in US dollars for a month of {HOURS_A_MONTH:.0f} hours, "
        "at list prices unless an assumption says otherwise; “~” is estimated, not measured.",
        " ".join(_plain(sentence) for sentence in answer.sentences),
        "## Asked",
        "\n".join(f"- {_plain(line)}" for line in asked(answer.workload, answer.objectives)),
        "## Options",
        _table(answer.options, answer.objectives),
        *(("## What the choice rests on", _facts(best), _memory(best, answer.workload)) if best is not None else ()),
        f"Open it again: <{address}>" if address else "",
    ]
    return "\n\n".join(section for section in parts if section) + "\n"


def asked(workload: Workload, objectives: Objectives) -> list[str]:
    """The workload and the objectives in lines."""
    work, goal = workload, objectives
    input_tokens, output_tokens = work.input_tokens.median, work.output_tokens.median
    shape = presets.SHAPE_TITLES[presets.shape_name(work.shape)].lower()
    limits = [
        f"{token_name} token within {value:g} s"
        for token_name, value in (("first", goal.ttft_s), ("last", goal.ttlt_s))
        if value
    ]
    demands = [name for name, on in (("isolated", goal.isolated), ("own weights", goal.own_weights)) if on]
    lines = [
        f"{work.rpm:,.6g} requests a minute ({shape}), "
        f"{input_tokens:,.0f} tokens in and {output_tokens:,.0f} out (medians)",
        f"{work.prefix_share:.0%} of the input repeats ({work.reuse.value}), {work.batch_share:.0%} may wait for "
        f"batch, {work.months} months of commitment",
        "At p95: " + (", ".join(limits) if limits else "no limit of time"),
        f"At least {goal.replicas} replica{'' if goal.replicas == 1 else 's'}"
        + (f"; {', '.join(demands)}" if demands else ""),
    ]
    if goal.models is None:
        return [*lines, "No model was judged good enough before: a ranking across models is no choice between them"]
    return [*lines, f"Models judged good enough: {', '.join(goal.models)}"]


def _table(options: Sequence[Option], objectives: Objectives) -> str:
    lines = [
        "| | Option | A month | Per 1,000 | First token p95 | Last token p95 | Objectives |",
        "|--:|:--|--:|--:|--:|--:|:--|",
    ]
    for rank, option in enumerate(options[:MOST_LINES], 1):
        mark = "" if option.timed.startswith("measured") else "~"
        cells = [
            str(rank),
            _plain(option.title),
            money(option.monthly_usd),
            money(option.per_1000_usd),
            seconds(option.ttft_p95_s, mark),
            seconds(option.ttlt_p95_s, mark),
            _plain(standing(option, objectives)),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    n_further = len(options) - MOST_LINES
    return "\n".join(lines) + (f"\n\n{n_further:,} more are in the CSV and the JSON." if n_further > 0 else "")


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


def _facts(option: Option) -> str:
    lines = [
        f"| {_plain(fact.name)} | {_plain(fact.value)} | {_plain(fact.source)} | {_plain(fact.date)} |"
        for fact in option.facts
    ]
    return "\n".join(["| What | Value | From | Of |", "|:--|:--|:--|:--|", *lines]) if lines else ""


def _memory(option: Option, workload: Workload) -> str:
    if option.serving is None:
        return ""
    use = memory.of(option.serving, workload.input_tokens.median, workload.output_tokens.median)
    return (
        f"Memory of a replica: ~{use.weights / GIB:.1f} GiB of weights, ~{use.kv / GIB:.1f} GiB of KV cache "
        f"({use.slots:,} tokens, {use.sequences:,} such requests at once), ~{use.activations / GIB:.1f} GiB "
        "of the rest."
    )


def _plain(text: str) -> str:
    """A text inside Markdown: nothing in it is interpreted, and it stays in its cell."""
    return formatting.md_escape(text)


def comparison(named: Mapping[str, Answer]) -> list[dict[str, Any]]:
    """Saved scenarios side by side: a line for each with its choice and the deciding figures."""
    lines: list[dict[str, Any]] = []
    for name, answer in named.items():
        best = next((option for option in answer.options if option.id == answer.chosen), None)
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
