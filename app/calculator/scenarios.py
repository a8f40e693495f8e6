"""Scenarios: the page's state under a name, side by side with others; and what the page gives away."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

import orjson
import pandas as pd
import streamlit as st
from sqlalchemy.exc import SQLAlchemyError

from app import auth
from app.calculator import options
from app.calculator import state as calculator_state
from app.widgets.panel import panel
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import small_tables
from services.calculator import address, report, validation
from services.calculator.address import State
from services.calculator.types import Answer
from services.formatting import DASH

REFUSED, NAME, SHOWN = "ca_scenario_refused", "ca_scenario_name", "ca_scenario_shown"
MOST = 6


def draw(person: auth.Person, state_now: State, answer: Answer) -> None:
    """The two menus: keep and open scenarios; export."""
    with st.popover("Scenarios", icon=":material/bookmark:"):
        if person.may("annotate"):
            with st.form("ca_scenario", border=False, clear_on_submit=True):
                st.text_input(
                    "Keep this as",
                    key=NAME,
                    max_chars=small_tables.LONGEST_SCENARIO_NAME,
                    placeholder="Support bot, 2027",
                )
                st.form_submit_button(
                    "Keep", icon=":material/bookmark_add:", on_click=_save, args=(address.write(state_now),)
                )
        draw_refusal(REFUSED)
        rows = _rows()
        if not rows:
            st.caption("A kept scenario opens again with all its assumptions, for everybody, and can be compared.")
        for row in rows:
            _line(row, may=person.may_change("annotate", row))
    link = _link(state_now)  # here: a download that is made later has no page around it
    with st.popover("Export", icon=":material/download:", key="ca_export"):
        for label, name, mime, content in (
            ("Options as CSV", "options.csv", "text/csv", lambda: report.as_csv(answer)),
            (
                "All figures as JSON",
                "answer.json",
                "application/json",
                lambda: orjson.dumps(report.as_json(answer, state_now.assumptions), option=orjson.OPT_INDENT_2),
            ),
            ("Report on one page", "report.md", "text/markdown", lambda: report.as_markdown(answer, address=link)),
        ):
            st.download_button(
                label, content, f"inference-lab-{name}", mime, key=f"ca_get_{name}", on_click="ignore", width="stretch"
            )
        st.caption("The page's address holds the whole state: send it to somebody.")


def _link(state_now: State) -> str:

    return f"{str(st.context.url or '').partition('?')[0]}?{urlencode(address.write(state_now))}"


def _rows() -> list[dict[str, Any]]:
    try:
        return [scenario.model_dump(warnings=False) for scenario in small_tables.scenarios(auth.database())]
    except SQLAlchemyError:
        st.caption("The scenarios cannot be read just now; they are kept.")
        return []


def _words(row: dict[str, Any]) -> dict[str, str]:
    """A scenario's state; of a damaged one what is left of it."""
    state = row["state"] if isinstance(row["state"], dict) else {}
    return {str(name): value for name, value in state.items() if isinstance(value, str)}


def _save(words: dict[str, str]) -> None:
    attempt(REFUSED, lambda: auth.engine().history.save_scenario(str(st.session_state.get(NAME) or ""), words))


def _line(row: dict[str, Any], *, may: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        st.button(
            plain(clip(row["name"], 40)),
            key=f"ca_open_{row['id']}",
            type="tertiary",
            on_click=_open,
            args=(row,),
            help=plain(f"Kept by {row['person']}"),
            width="stretch",
        )
        if may:
            st.button(
                "Delete",
                key=f"ca_drop_{row['id']}",
                icon=":material/delete:",
                type="tertiary",
                on_click=_drop,
                args=(row["id"],),
            )


def _open(row: dict[str, Any]) -> None:
    state_read, _ = address.read(_words(row))
    calculator_state.put(state_read)


def _drop(scenario_id: str) -> None:
    attempt(REFUSED, lambda: auth.engine().history.delete_scenario(scenario_id))


def compare(state_now: State, measured: Any) -> None:
    """Scenarios side by side, this page's first."""
    rows = {row["name"]: row for row in _rows()}
    if not rows:
        return
    with st.container(border=True), panel("Scenarios side by side", "the choice of each · estimated"):
        picked = st.multiselect(
            "Scenarios",
            list(rows),
            key=SHOWN,
            max_selections=MOST,
            placeholder="Choose scenarios",
            label_visibility="collapsed",
        )
        picked = [name for name in picked if name in rows]
        if picked:
            states = [("This page", state_now), *((name, address.read(_words(rows[name]))[0]) for name in picked)]
            st.dataframe(
                pd.DataFrame([_figures(name, scenario, measured) for name, scenario in states]),
                hide_index=True,
                placeholder=DASH,
                alt="The choice of each scenario",
            )


def _figures(name: str, scenario: State, measured: Any) -> dict[str, Any]:
    work = scenario.workload
    line: dict[str, Any] = {
        "Scenario": name,
        "Requests/min": work.rpm,
        "In": work.input_tokens.median,
        "Out": work.output_tokens.median,
    }
    if validation.check(work, scenario.objectives, scenario.assumptions):
        return line | {"Choice": "cannot be calculated: open it to see the field"}
    answer = calculator_state.calculate(scenario, measured)
    best = calculator_state.chosen(answer)
    if best is None:
        return line | {"Choice": "none meets the limits"}
    return line | {
        "Choice": best.title,
        "Per month": options.usd(options.mid(best.monthly_usd), "~"),
        "Per 1,000": options.usd(options.mid(best.per_1000_usd), "~"),
        "First token p95": options.seconds(options.mid(best.ttft_p95_s)),
        "Last token p95": options.seconds(options.mid(best.ttlt_p95_s)),
        "Stable": "yes" if answer.stable else "no",
    }
