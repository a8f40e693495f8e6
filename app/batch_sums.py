"""What a batch came to: every line accounted for, the reasons of those without an answer, latency, tokens and cost.

A finished batch is added up once for everybody. A large one is added up beside the page, which shows its counts
meanwhile.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
import streamlit as st
from sqlalchemy import Engine

from app import batch_words as words
from app import session
from app.definitions import FIGURES
from app.text import plain
from db import batches as store
from services import keys
from services import words as units
from services.batch import reconcile, stats
from services.batch.against import Against, against
from services.batch.reconcile import Account
from services.pricing import money

Row = Mapping[str, Any]
KEPT, WAIT_S, POLL_S = 100, 1.0, 1.0
ADDING = "The lines are being added up; the figures appear here."
FAILED = "The figures could not be made of the records; reload the page in a moment."


class Sums:
    """One batch that is being added up. ``account`` and ``summary`` are there when it is ``over`` without trouble."""

    def __init__(self, database: Engine, row: Row) -> None:
        self.account: Account | None = None
        self.summary: stats.Summary | None = None
        self.against: Against | None = None
        self.over = threading.Event()
        threading.Thread(target=self._add, args=(database, row), daemon=True, name="batch sums").start()

    def _add(self, database: Engine, row: Row) -> None:
        try:
            sums = stats.Sums()

            def lines() -> Iterator[Row]:
                for line in store.each_line(database, row["id"]):
                    sums.add(line)
                    yield line

            self.account = reconcile.account(lines(), name=name_of(row), n_recorded=row["n_lines"],
                                             n_left_out=row.get("n_left_out") or 0)  # fmt: skip
            seconds = stats.duration(row)
            self.summary = sums.summary(seconds)
            self.against = against(database, row, self.summary, seconds=seconds)
        except Exception as error:
            logging.getLogger(__name__).warning("A batch could not be added up: %s", keys.scrub(repr(error)))
        finally:
            self.over.set()


class Known:
    """The batches that were added up last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str, str], Sums] = OrderedDict()

    def of(self, database: Engine, row: Row) -> Sums:
        """The sums of a batch as it stands."""
        at = (str(database.url), str(row["id"]), f"{row['state']} {row['ended_at']}")
        with self._lock:
            kept = self._kept.get(at)
            if kept is None or (kept.over.is_set() and kept.account is None):
                self._kept[at] = Sums(database, row)
            self._kept.move_to_end(at)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            return self._kept[at]


@st.cache_resource
def known() -> Known:
    """The sums that this process has made."""
    return Known()


def name_of(row: Row) -> str:
    """What the batch's deployment is called."""
    return str((row.get("deployment") or {}).get("name") or row["deployment_id"])


def sums_of(row: Row, wait_s: float = WAIT_S) -> Sums:
    """The sums of a batch, which may not be over yet."""
    found = known().of(session.database(), row)
    found.over.wait(wait_s)
    return found


def account_of(row: Row, counts: Mapping[str, int]) -> Account:
    """Every line accounted for: with the reasons where they are known by now, else by counts alone."""
    found = sums_of(row)
    left_out = row.get("n_left_out") or 0
    return found.account or reconcile.by_counts(counts, n_recorded=row["n_lines"], n_left_out=left_out)


def draw_failures(account: Account) -> None:
    """Why lines have no answer, the commonest reason first, and what to do."""
    for group in account.groups:
        icon = ":red[:material/error:]" if group.state == "failed" else ":orange[:material/info:]"
        said = f"{icon} **{group.n:,} {words.LINES[group.state]}** · {plain(group.text)} "
        st.caption(f"{said}{plain(reconcile.first_lines(group).capitalize())}.")


def draw(row: Row, account: Account) -> None:
    """The reconciliation, the figures, and the card against one by one."""
    found = sums_of(row)
    if not found.over.is_set():
        _wait(row)
        return
    if found.summary is None:
        st.caption(FAILED)
        return
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Every line accounted for**")
        rows = [{"": one["state"], "Lines": f"{one['lines']:,}", "What it means": one["meaning"]}
                for one in account.table]  # fmt: skip
        st.table(pd.DataFrame(rows), border="horizontal", hide_index=True, alt="How many lines ended in which state")
    with right:
        _against(found.against, free=set(found.summary.cost_states) == {"free"})
    figures(found.summary)


@st.fragment(run_every=POLL_S, key="bt_adding")
def _wait(row: Row) -> None:
    if sums_of(row, 0).over.is_set():
        st.rerun()
    st.caption(ADDING)


def figures(of: stats.Summary) -> None:
    """Latency, tokens, cost and pace of all lines."""
    st.markdown("**Figures of all lines**")
    with st.grid(4, gap="small"):
        for name, title in (("ttft_ms", "First token"), ("ttlt_ms", "Last token")):
            spread = of.times[name]
            told = f"p50 of {spread.n:,} · p95 {units.seconds(spread.p95)}" if spread.n else None
            st.metric(title, units.seconds(spread.p50), delta=told, delta_color="off", delta_arrow="off",
                      help=f"{FIGURES[name.removesuffix('_ms')]} {spread.why or ''}".strip())  # fmt: skip
        st.metric("Input tokens", units.count(of.input_tokens), help=FIGURES["input"], delta=_share(of),
                  delta_color="off", delta_arrow="off")  # fmt: skip
        st.metric("Output tokens", units.count(of.output_tokens), help=FIGURES["output"],
                  delta=f"{of.at_limit:,} answers at the limit" if of.at_limit else None, delta_color="off",
                  delta_arrow="off")  # fmt: skip
        st.metric("Cost", cost(of), help=FIGURES["cost"], delta=_per_1000(of), delta_color="off", delta_arrow="off")
        st.metric("Took", "–" if of.seconds is None else words.span(of.seconds),
                  delta=None if of.lines_per_minute is None else f"{of.lines_per_minute:,.1f} lines/min",
                  delta_color="off", delta_arrow="off")  # fmt: skip
        st.metric("Output speed", units.rate(of.tokens_per_s), help="Output tokens per second of the whole batch, "
                  "all lanes together.")  # fmt: skip


def cost(of: stats.Summary) -> str:
    """What all lines cost: "≥ $0.41", "free", "no price"."""
    if of.cost_nanousd is None:
        return "free" if set(of.cost_states) == {"free"} else "no price"
    if of.cost_nanousd == 0 and set(of.cost_states) == {"free"}:
        return "free"
    return money(of.cost_nanousd, of.mark)


def _per_1000(of: stats.Summary) -> str | None:
    return f"{money(of.per_1000_nanousd)} per 1,000 lines" if of.per_1000_nanousd else None


def _share(of: stats.Summary) -> str | None:
    cached = of.counts.get("cache_read")
    return f"{cached:,} from the cache" if cached else None


def _against(found: Against | None, *, free: bool) -> None:
    st.markdown("**Batch against one by one**")
    if found is None:
        return
    with st.container(border=True):
        if found.saved_nanousd is not None:
            with st.grid(2, gap="small"):
                saved = -found.saved_share if found.saved_share else None
                st.metric("This way", _money(found.cost_nanousd), delta=f"{saved:+.0%}" if saved else None,
                          delta_color="inverse")  # fmt: skip
                st.metric("One by one", _money(found.plain_nanousd))
        st.caption("This deployment costs nothing either way." if free else plain(found.cost_sentence))
        st.caption(plain(found.time_sentence))


def _money(nanousd: int | None) -> str:
    if nanousd is None:
        return "–"
    return "free" if nanousd == 0 else money(nanousd)
