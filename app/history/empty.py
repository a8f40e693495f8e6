"""The history before its first call, and a selection that holds none."""

from __future__ import annotations

import streamlit as st

from app import auth, navigation
from app.history import demo
from app.history.filters import clear
from services.dashboard.figures import Filter

COMING = (
    ("Latency", "First and last token over time for each deployment: median, p95 and p99, with gaps where nothing was "
     "called; as a distribution; by weekday and hour."),
    ("Throughput", "Calls a minute, output tokens a second, calls in flight; throttles, timeouts and errors apart."),
    ("Cost", "By driver and by deployment, model, person, team, tag or day; idle hours hatched; the month's pace."),
    ("Speed against price", "Which deployment is fast, which is cheap, and which is both."),
)  # fmt: skip


def draw(person: auth.Person) -> None:
    """What will be here, and the one button that gets there."""
    st.caption("Nothing was called yet. Every call of the playground, of batches and of load tests will be here:")
    with st.grid(2, min_column_width=280, gap="small"):
        for title, words in COMING:
            with st.container(border=True, height="stretch"):
                st.markdown(f"**{title}**")
                st.caption(words)
    with st.container(horizontal=True):
        first = person.may("send") and st.button(
            "Send the first prompt", type="primary", icon=":material/compare_arrows:", key="hs_first"
        )
        st.button("Look at demo data", icon=":material/science:", key="hs_look_demo", on_click=_demo)
        if not person.may("send"):
            st.caption("Somebody who may send prompts has to make the first call.")
    if first:  # the playground suggests a prompt by itself
        st.switch_page(navigation.page_file("playground"))


def _demo() -> None:
    """Callback: switch the simulated calls on."""
    st.session_state[demo.SWITCH] = True


def draw_no_match(chosen: Filter) -> None:
    """No call of this selection, while there are others."""
    narrowed = "this selection in " if chosen.is_narrowed else ""
    st.caption(f"No call of {narrowed}this stretch of time. {'Take a filter away or c' if narrowed else 'C'}hoose a "
               "longer one.")  # fmt: skip
    st.button("Show everything", key="hs_all", icon=":material/all_inclusive:", on_click=clear, args=("all",))
