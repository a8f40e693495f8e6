"""A page with nothing but the board: `?case=four`, `&role=viewer`; `?run=ID` watches a run of the fake engine.

`?case=elements` shows Streamlit's own elements instead, `?case=broken` fails.
"""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from app.charts import theme
from app.live.board import board
from app.live.websocket import board_token
from tests.e2e.board_snapshots import snapshot

st.set_page_config(page_title="board", layout="wide")
asked = st.query_params
case = asked.get("case", "four")


def elements() -> None:
    frame = pd.DataFrame({"deployment": list("abcd"), "ttft": [1.0, 2.0, 3.0, 4.0]})
    st.button("Send", type="primary")
    st.dataframe(frame)
    colors = alt.Scale(domain=list("abcd"), range=list(theme.LIGHT_COLOURS[:4]))
    st.altair_chart(
        alt.Chart(frame)
        .mark_bar()
        .encode(x="ttft", y="deployment", color=alt.Color("deployment", scale=colors))
        .transform_calculate(twice="datum.ttft * 2"),
        alt="bars",
    )
    st.line_chart(frame, x="deployment", y="ttft")
    st.code("curl https://example.org", language="bash")
    st.markdown("![pixel](http://198.51.100.7/markdown.png) :material/bolt: $x^2$")
    st.download_button("Export", "a,b", file_name="x.csv")
    st.file_uploader("Attach")
    st.metric("first token", "0.41 s")
    st.slider("temperature", 0.0, 1.0, 0.5)


def live_or_still() -> None:
    run_id = asked.get("run", case)
    live = "run" in asked and not st.session_state.get("over")
    st.session_state["reruns"] = st.session_state.get("reruns", 0) + 1
    st.button("Rerun")
    still = None if "run" in asked else snapshot(run_id)
    if asked.get("known") == "later":  # a blind run whose names the page gives once it has been rerun
        still = {**snapshot("four"), "blind": st.session_state.reruns == 1, "live": True}
    finished = board(
        key="board",
        snapshot=still,
        run_id=run_id,
        token=board_token(run_id, "tester", asked.get("role", "member")),  # type: ignore[arg-type]
        live=live,
    )
    if finished:
        st.session_state.over = True
        st.session_state.finishes = st.session_state.get("finishes", 0) + 1
    st.write(f"reruns {st.session_state.reruns}, finishes {st.session_state.get('finishes', 0)}")


st.title("Playground")
st.caption("Send one prompt to several deployments and watch time, tokens and cost side by side.")
if case == "broken":
    raise RuntimeError("the key is sk-ant-api03-AAAAAAAAAAAAAAAAAAAAAAAA")
if case == "elements":
    elements()
else:
    live_or_still()
