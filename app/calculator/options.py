"""The options, ranked, what each one's figures rest on, and how the calculator's figures are written."""

from __future__ import annotations

import math

import pandas as pd
import streamlit as st

from app.widgets.panel import panel
from app.widgets.text import plain
from services.calculator import queueing
from services.calculator.types import Answer, Option, Range
from services.formatting import DASH

KEY = "ca_options"

SHORT = 12

COLUMNS = {
    # Before the option: on a small screen what is further right is cut off.
    "month": st.column_config.NumberColumn("Per month", width=78, format="~$%,.0f", help="For 730 hours, before tax."),
    "option": st.column_config.TextColumn("Option", width=270),
    "times": st.column_config.TextColumn("× first", width=58, help="How many times the first option's cost."),
    "per_1000": st.column_config.TextColumn("Per 1,000", width=72, help="US dollars for 1,000 requests."),
    "ttft": st.column_config.TextColumn("First token p95", width=100),
    "ttlt": st.column_config.TextColumn("Last token p95", width=100),
    "used": st.column_config.NumberColumn("Used", format="%.0f %%", width=55, help="Mean utilisation over the day."),
    "meets": st.column_config.TextColumn("Meets the limits", width="medium"),
    "range": st.column_config.TextColumn("Cost from, to", help="With the uncertain assumptions at their bounds."),
    "per_mtok": st.column_config.TextColumn("Per 1M tokens", help="Of input and output together."),
    "ttft_range": st.column_config.TextColumn("First token from, to"),
    "ttlt_range": st.column_config.TextColumn("Last token from, to"),
    "p50": st.column_config.TextColumn("First / last token p50"),
    "timed": st.column_config.TextColumn("Times are"),
    "replicas": st.column_config.TextColumn("Replicas", help="Least to most over the hours of the day."),
    "full": st.column_config.TextColumn("Full at", help="Requests a minute, mean of this day's shape."),
    "longest": st.column_config.NumberColumn("Longest answer", format="%d", help="Tokens within the last-token limit."),
}


def draw(answer: Answer) -> Option | None:
    """The table; returns the option whose line is selected, else the chosen one, else the first."""
    if not answer.options:
        st.info(
            "Nothing in the catalogue can be priced for this. Add a price or an instance of your own below.",
            icon=":material/info:",
        )
        return None
    input_tokens, output_tokens = (
        queueing.mean(answer.workload.input_tokens),
        queueing.mean(answer.workload.output_tokens),
    )
    subtitle = (
        f"~ estimated, no mark: measured · costs are of the mean request ({input_tokens:,.0f} tokens in, "
        f"{output_tokens:,.0f} out at this spread) · select a line to see why"
    )
    with panel("Options", subtitle) as right, right:
        every = len(answer.options) > SHORT and st.toggle(f"All {len(answer.options)}", key="ca_all")
    options = answer.options if every else short(answer)
    event = st.dataframe(
        table(answer, options),
        key=KEY,
        hide_index=True,
        placeholder=DASH,
        column_config=COLUMNS,
        height="content",
        on_select="rerun",
        selection_mode="single-row",
        alt="Ways to run the workload with cost, times and limits",
    )
    rows = [row for row in event.selection.rows if row < len(options)]
    if rows:
        return options[rows[0]]
    return next((option for option in answer.options if option.id == answer.chosen), answer.options[0])


def short(answer: Answer, limit: int = SHORT) -> tuple[Option, ...]:
    """The best, and of every way that is not among them its best one: nothing of the field goes unmentioned."""
    best = list(answer.options[:limit])
    for option in answer.options[limit:]:
        if not any(option.way == other.way for other in best):
            best.append(option)
    return tuple(best)


def table(answer: Answer, options: tuple[Option, ...]) -> pd.DataFrame:
    """One line for each option, in their order."""
    first = next((mid(option.monthly_usd) for option in answer.options if option.id == answer.chosen), None)
    return pd.DataFrame(
        [
            {
                "option": option.title,
                "month": mid(option.monthly_usd),
                "range": span(option.monthly_usd, usd),
                "times": _times(option, first),
                "meets": meets(option),
                "per_1000": usd(mid(option.per_1000_usd), "~"),
                "per_mtok": usd(mid(option.per_mtok_usd), "~"),
                "ttft": _time(option, option.ttft_p95_s),
                "ttlt": _time(option, option.ttlt_p95_s),
                "ttft_range": span(option.ttft_p95_s),
                "ttlt_range": span(option.ttlt_p95_s),
                "timed": option.timed,
                "used": _percent(option),
                "p50": f"{_time(option, option.ttft_p50_s)} / {_time(option, option.ttlt_p50_s)}",
                "replicas": replicas(option),
                "full": f"{rate(option.full_at_rpm)} rpm" if option.full_at_rpm else "",
                "longest": option.largest_output,
            }
            for option in options
        ],
        columns=list(COLUMNS),
    )


def _times(option: Option, first: float | None) -> str:
    cost = mid(option.monthly_usd)
    if cost is None or not first or option.infeasible:
        return ""
    return f"{cost / first:.2g} ×" if cost / first < 100 else f"{cost / first:,.0f} ×"


def _time(option: Option, figure: Range | None) -> str:
    if figure is None:
        return DASH
    return f"{'' if is_measured(option) else '~'}{seconds(figure.mid)}"


def _percent(option: Option) -> float | None:
    return option.utilisation.mid * 100 if option.utilisation else None


def replicas(option: Option) -> str:
    """The least and the most over the day."""
    if not option.replicas:
        return ""
    low, high = min(option.replicas), max(option.replicas)
    return str(high) if low == high else f"{low} to {high}"


def draw_why(option: Option) -> None:
    """What an option's figures rest on, and what would make it win."""
    st.markdown(f"**{plain(option.title)}**")
    if option.would_win:
        st.caption(plain(option.would_win))
    if option.facts:
        st.dataframe(
            pd.DataFrame(
                [
                    {"Assumption": f.name, "Value": f.value, "Is": f.kind, "Source": f.source, "Date": f.date}
                    for f in option.facts
                ]
            ),
            hide_index=True,
            height="content",
            alt="The assumptions behind the selected option",
        )


def usd(value: float | None, mark: str = "") -> str:
    """US dollars with as many digits as matter: "$1,359", "$12.40", "$0.0037"."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞"
    if value == 0:
        return "$0"
    if abs(value) >= 100:
        return f"{mark}${value:,.0f}"
    if abs(value) >= 0.1:
        return f"{mark}${value:,.2f}"
    return f"{mark}${value:.3g}" if value >= 1e-4 else f"{mark}${value:.2e}"


def seconds(value: float | None) -> str:
    """Seconds, or milliseconds below a tenth; ∞ where the queue grows without end."""
    if value is None or math.isnan(value):
        return DASH
    if math.isinf(value):
        return "∞"
    if value < 0.1:
        return f"{value * 1000:.0f} ms" if value >= 0.00995 else f"{value * 1000:.2g} ms"
    return f"{value:.2f} s" if value < 10 else f"{value:,.0f} s"


def rate(value: float | None) -> str:
    """Requests a minute."""
    if value is None:
        return DASH
    if math.isinf(value):
        return "∞"
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def span(bounds: Range | None, write: object = seconds) -> str:
    """The bounds, "0.15–0.34 s"; empty where there is nothing between them."""
    if bounds is None or bounds.high - bounds.low <= 0.02 * max(bounds.mid, 1e-12):
        return ""
    assert callable(write)
    return f"{write(bounds.low)} to {write(bounds.high)}"


def mid(bounds: Range | None) -> float | None:
    """The figure in the middle; None where it is not known."""
    return bounds.mid if bounds else None


def is_measured(option: Option) -> bool:
    """Whether the times of an option are from recorded calls."""
    return option.timed.startswith("measured")


def meets(option: Option) -> str:
    """Whether the objectives hold, in a few words."""
    if option.infeasible:
        return option.infeasible
    if option.misses:
        return " ".join(option.misses)
    if option.missing:
        return " ".join(option.missing)
    return "yes"
