"""One line of a batch: its request, its answer and the figures of its call."""

from __future__ import annotations

import streamlit as st

from app import navigation
from app.glossary import FIGURES
from app.widgets import playground_inputs
from app.widgets.text import clip, plain
from db.batch_rows import AskJson, BatchRow, CalledLine
from services.batch import text as words
from services.batch.files.templates import Template
from services.call_record import of_line
from services.runs import record

LONGEST = 200_000  # characters of a text on the page; files hold all of it
NO_TEXT = "The text of this line was not stored."
SHOWN = (
    ("ttft", "First token"),
    ("ttlt", "Last token"),
    ("decode", "Decode speed"),
    ("in", "Input"),
    ("cached", "Cached"),
    ("out", "Output"),
    ("cost", "Cost"),
)


def last_question(row: CalledLine) -> str:
    """The last message of what was asked."""
    messages = _asked(row)["messages"]
    return messages[-1]["text"] if messages else ""


def _asked(row: CalledLine) -> AskJson:
    return row["request"] or {"messages": []}


def input_text(batch: BatchRow, row: CalledLine) -> str:
    """What a line is told apart by: the values that its template takes from the file, else what was asked."""
    original, columns = row.get("original") or {}, batch.get("columns") or ()
    prompt = (batch.get("options") or {}).get("prompt")
    used = Template(prompt, columns).columns if prompt and "messages" not in original else ()
    values = [str(original[name]) for name in used if original.get(name) is not None]
    return " · ".join(values) or last_question(row)


def draw(batch: BatchRow, row: CalledLine) -> None:
    """Everything of a line."""
    with st.container(border=True, gap="small"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(
                f"**Line {row['line']:,} · {plain(clip(str(row['record_id']), 80))}** · "
                f"{plain(words.LINES.get(row['state'], row['state']))}",
                width="stretch",
            )
            if last_question(row):
                st.button(
                    "Ask again in the playground",
                    key="bt_ask_again",
                    type="tertiary",
                    icon=":material/compare_arrows:",
                    on_click=_to_playground,
                    args=(batch, row),
                )
        if st.session_state.pop("bt_go", False):
            st.switch_page(navigation.page_file("playground"))
        request_column, answer_column = st.columns(2, gap="medium")
        with request_column:
            _request(row)
        with answer_column:
            st.caption("Answer")
            if row.get("message"):
                st.caption(f":red[:material/error: {plain(row['message'])}]")
            if answer := row.get("answer"):
                text(answer)
            elif not row.get("message"):
                st.caption("No answer yet." if row["state"] in ("waiting", "running") else NO_TEXT)
            if reasoning := row.get("reasoning"):
                with st.expander("Reasoning"):
                    text(reasoning)
        _call(row)


def _request(row: CalledLine) -> None:
    request = _asked(row)
    if request.get("system"):
        st.caption("System prompt")
        text(request["system"])
    for message in request["messages"]:
        st.caption("Prompt" if message["role"] == "user" else "Answer before")
        text(message["text"])
    if not request["messages"]:
        st.caption(NO_TEXT)
    original = row.get("original") or {}
    if original:
        with st.expander("Columns of the file"):
            for name, value in original.items():
                st.caption(plain(name))
                text(str(value))


def text(value: str) -> None:
    """A text from elsewhere: shown, never obeyed."""
    st.text(value if len(value) <= LONGEST else value[:LONGEST] + " …")


def _call(row: CalledLine) -> None:
    if row.get("call_state") is None:
        return
    texts = record.in_words(of_line(row))
    with st.container(horizontal=True, gap="medium"):
        for name, title in SHOWN:
            if texts[name] != "–":
                st.caption(f"{title} **{plain(texts[name])}**", help=FIGURES.get(name), width="content")
    facts = [
        f"attempt {row['attempts']}" if (row.get("attempts") or 0) > 1 else "",
        f"answered by {row['model_reported']}" if row.get("model_reported") else "",
        f"ended with “{row['finish_raw']}”" if row.get("finish_raw") else "",
        f"HTTP {row['http_status']}" if (row.get("http_status") or 200) >= 400 else "",
        f"id at the service {row['response_id']}" if row.get("response_id") else "",
    ]
    if sentence := " · ".join(fact for fact in facts if fact):
        st.caption(plain(sentence))


def _to_playground(batch: BatchRow, row: CalledLine) -> None:
    """Callback: the playground gets this line's question, deployment and parameters."""
    request = _asked(row)
    playground_inputs.put(
        last_question(row), request.get("system") or "", batch["deployment_id"], request.get("params", {})
    )
    st.session_state["bt_go"] = True
