"""What a batch came to: every line accounted for, the reasons of those without an answer, latency, tokens and cost.

A finished batch is added up once for everybody. A large one is added up beside the page, which shows its counts
meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping

import pandas as pd
import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.glossary import FIGURES
from app.widgets.text import plain
from db import batches
from db.batch_rows import BatchRow, CalledLine
from services import formatting as units
from services.batch import reconcile, stats
from services.batch import text as words
from services.batch.reconcile import Reconciliation, together
from services.batch.stats import Against, Worked, against, worked
from services.pricing.cost import money
from services.security import keys

KEPT, WAIT_S, POLL_S = 100, 1.0, 1.0
ADDING = "The lines are being added up; the figures appear here."
FAILED = "The figures could not be made of the records; reload the page in a moment."
TIME_TITLES: Mapping[stats.TimeName, str] = {"ttft_ms": "First token", "ttlt_ms": "Last token"}
TOOK = "From its beginning to its end, without the time in which no line was under way."
STILL = (
    "No line was under way: the batch was paused, its worker was away, or it waited before it tried again. Nobody "
    "writes down when a batch is paused; this is told from its calls, gaps of less than 5 s left aside."
)


class Sums:
    """One batch that is being added up. ``account`` and ``summary`` are there when it is ``over`` without trouble."""

    def __init__(self, database: Engine, row: BatchRow) -> None:
        self.account: Reconciliation | None = None
        self.summary: stats.Summary | None = None
        self.against: Against | None = None
        self.worked = Worked()
        self.over = threading.Event()
        threading.Thread(target=self._add, args=(database, row), daemon=True, name="batch sums").start()

    def _add(self, database: Engine, row: BatchRow) -> None:
        try:
            sums = stats.Sums()

            def lines() -> Iterator[CalledLine]:
                for line in batches.each_line(database, row["id"]):
                    sums.add(line)
                    yield line

            account = reconcile.account(
                lines(),
                name=words.deployment_name(row),
                n_recorded=row["n_lines"],
                n_left_out=row.get("n_left_out") or 0,
            )
            took = worked(database, row)
            summary = sums.summary(took.working)
            # All or nothing: what is there without the rest would be kept so, and never be made again.
            self.against = against(database, row, summary, seconds=took.working)
            self.worked, self.summary, self.account = took, summary, account
        except Exception as error:
            logging.getLogger(__name__).warning("A batch could not be added up: %s", keys.scrub(repr(error)))
        finally:
            self.over.set()


class Known:
    """The batches that were added up last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, str], Sums] = OrderedDict()

    def of(self, database: Engine, row: BatchRow) -> Sums:
        """The sums of a batch as it stands."""
        key = (str(database.url), str(row["id"]), f"{row['state']} {row['ended_at']}")
        with self._lock:
            sums = self._kept.get(key)
            if sums is None or (sums.over.is_set() and sums.account is None):
                self._kept[key] = Sums(database, row)
            self._kept.move_to_end(key)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]


@st.cache_resource
def known() -> Known:
    """The sums that this process has made."""
    return Known()


def sums_of(row: BatchRow, wait_s: float = WAIT_S) -> Sums:
    """The sums of a batch, which may not be over yet."""
    sums = known().of(auth.database(), row)
    sums.over.wait(wait_s)
    return sums


def account_of(row: BatchRow, counts: Mapping[str, int]) -> Reconciliation:
    """Every line accounted for: with the reasons where they are known by now, else by counts alone."""
    sums = sums_of(row)
    left_out = row.get("n_left_out") or 0
    return sums.account or reconcile.by_counts(counts, n_recorded=row["n_lines"], n_left_out=left_out)


def draw_failures(account: Reconciliation) -> None:
    """Why lines have no answer, the commonest reason first, and what to do."""
    for group in together(account.groups):
        icon = ":red[:material/error:]" if group.state == "failed" else ":orange[:material/info:]"
        sentence = f"{icon} **{group.n:,} {words.LINES[group.state]}** · {plain(group.text)} "
        st.caption(f"{sentence}{plain(reconcile.first_lines(group).capitalize())}.")


def draw(row: BatchRow, account: Reconciliation) -> None:
    """The reconciliation, the figures, and the card against one by one."""
    sums = sums_of(row)
    if not sums.over.is_set():
        _wait(row)
        return
    if sums.summary is None:
        st.caption(FAILED)
        return
    left_column, right_column = st.columns(2, gap="medium")
    with left_column:
        st.markdown("**Every line accounted for**")
        rows = [
            {"": count.state, "Lines": f"{count.lines:,}", "What it means": count.meaning} for count in account.table
        ]
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, alt="How many lines ended in which state")
    with right_column:
        _against(sums.against, sums.summary.cost_states)
    figures(sums.summary, sums.worked)


@st.fragment(run_every=POLL_S, key="bt_adding")
def _wait(row: BatchRow) -> None:
    if sums_of(row, 0).over.is_set():
        st.rerun()
    st.caption(ADDING)


def figures(of: stats.Summary, took: Worked) -> None:
    """Latency, tokens, cost and pace of all lines."""
    st.markdown("**Figures of all lines**")
    with st.grid(4, gap="small"):
        for name, title in TIME_TITLES.items():
            spread = of.times[name]
            percentiles = f"p50 of {spread.n:,} · p95 {units.seconds(spread.p95)}" if spread.n else None
            st.metric(
                title,
                units.seconds(spread.p50),
                delta=percentiles,
                delta_color="off",
                delta_arrow="off",
                help=f"{FIGURES[name.removesuffix('_ms')]} {of.untimed or spread.why or ''}".strip(),
            )
        st.metric(
            "Input tokens",
            units.count(of.input_tokens),
            help=FIGURES["input"],
            delta=_share(of),
            delta_color="off",
            delta_arrow="off",
        )
        st.metric(
            "Output tokens",
            units.count(of.output_tokens),
            help=FIGURES["output"],
            delta=_at_limit(of),
            delta_color="off",
            delta_arrow="off",
        )
        st.metric("Cost", cost(of), help=FIGURES["cost"], delta=_per_1000(of), delta_color="off", delta_arrow="off")
        st.metric(
            "Took",
            "–" if took.working is None else words.span(took.working),
            help=TOOK if took.still else None,
            delta=_pace(of),
            delta_color="off",
            delta_arrow="off",
        )
        if took.still:
            st.metric("Paused or waiting", words.span(took.still), help=STILL)
        st.metric(
            "Output speed",
            units.rate(of.tokens_per_s),
            help="Output tokens per second of the whole batch, all lanes together.",
        )
    if of.untimed:
        st.caption(of.untimed)


def cost(of: stats.Summary) -> str:
    """What all lines cost: "≥ $0.41", "free", "no price"."""
    if is_free(of.cost_states) and not of.cost_nanousd:
        return "free"
    return "no price" if of.cost_nanousd is None else money(of.cost_nanousd, of.mark)


def is_free(states: Mapping[str, int]) -> bool:
    """Whether a deployment costs nothing, by the states of its costs; lines that nobody billed do not speak against
    it."""
    return "free" in states and set(states) <= {"free", "not_billed"}


def _at_limit(of: stats.Summary) -> str | None:
    return f"{of.at_limit:,} {'answer' if of.at_limit == 1 else 'answers'} at the limit" if of.at_limit else None


def _pace(of: stats.Summary) -> str | None:
    # Lines that were cancelled or went missing were no work.
    done = of.states.get("succeeded", 0) + of.states.get("failed", 0)
    return f"{done * 60 / of.seconds:,.1f} lines/min" if of.seconds and done else None


def _per_1000(of: stats.Summary) -> str | None:
    return f"{money(of.per_1000_nanousd)} per 1,000 lines" if of.per_1000_nanousd else None


def _share(of: stats.Summary) -> str | None:
    cached = of.counts.get("cache_read")
    return f"{cached:,} from the cache" if cached else None


def _against(comparison: Against | None, states: Mapping[str, int]) -> None:
    st.markdown("**Batch against one by one**")
    if comparison is None:
        return
    with st.container(border=True):
        if comparison.saved_nanousd is not None and not is_free(states):
            with st.grid(2, gap="small"):
                saved = -comparison.saved_share if comparison.saved_share else None
                st.metric(
                    "This way",
                    _money(comparison.cost_nanousd),
                    delta=f"{saved:+.0%}" if saved else None,
                    delta_color="inverse",
                )
                st.metric("One by one", _money(comparison.plain_nanousd))
        st.caption(plain(_cost_sentence(comparison, states)))
        st.caption(plain(comparison.time_sentence))


def _money(nanousd: int | None) -> str:
    return "–" if nanousd is None else money(nanousd)


def _cost_sentence(comparison: Against, states: Mapping[str, int]) -> str:
    if is_free(states):
        return "This deployment costs nothing, in a batch or one by one."
    if states and set(states) <= {"not_billed"}:
        return "No line was answered, so nothing was billed."
    return comparison.cost_sentence
