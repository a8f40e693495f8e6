"""Notes on moments, drawn on the charts of the History page: "moved to Haiku"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.charts import theme as looks
from app.charts.theme import Look
from app.charts.vega import Spec, q, tips, view, word
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import notes

SHOWN = 20
ROOM = 1.14  # how much higher than its highest mark a chart with notes is
# Pixels of the narrowest chart with notes and of a letter, and the letters below which no words are written.
NARROWEST, LETTER, LETTERS, FEWEST = 240.0, 5.2, 10, 5
NEAR = 4.0  # pixels of the narrowest chart: notes that are nearer than this share one sign
TOLD, LINE = 6, 80  # notes in the tooltip of a sign, and letters of a line in the popover
REFUSED = "hx_note_refused"


def marks(database: Engine, start: datetime, end: datetime) -> pd.DataFrame:
    """The notes from ``start`` to ``end`` as rules on a chart: ``at`` (aware UTC) and ``note``, oldest first."""
    rows = notes.notes(database, start, end)[::-1]
    frame = pd.DataFrame({"at": [row["at"] for row in rows], "note": [row["note"] or "" for row in rows]})
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame.astype({"note": "object"})


def rules(notes: Sequence[Mapping[str, Any]], shown: Look, x: Spec) -> tuple[list[Spec], list[Spec]]:
    """The notes as layers for a chart over time: thin rules, to be drawn behind its marks, so that none is hidden by
    a note; and in front, above the marks (`ROOM`), a sign with the first words. Notes that share a place share a sign,
    which tells all of them on hovering. ``x``: `theme.time_x`."""
    if not notes:
        return [], []
    low, high = x["scale"]["domain"]
    groups = _together(notes, [int(one) for one in looks.millis([one["at"] for one in notes])], high - low)
    moments = [one for one, _ in groups]
    rows = pd.DataFrame({"moment": moments, "note": [_all_of(group) for _, group in groups],
                         "who": [", ".join(dict.fromkeys(one["person"] for one in group)) for _, group in groups],
                         "words": _first_words([(one - low) / max(high - low, 1) for one in moments],
                                               [group for _, group in groups]),
                         "side": ["right" if one - low > high - one else "left" for one in moments]})  # fmt: skip
    said = {"x": q("moment", **x), "tooltip": tips(("note", "Note"), ("who", "By"))}
    front = [view("point", rows, {**said, "y": {"value": 4}}, shape="triangle-down", filled=True, color=shown.ink,
                  size=45, opacity=0.9)]  # fmt: skip
    front += [
        view("text", rows, {**said, "y": {"value": 4}, "text": word("words")}, only=f"datum.side === '{side}'",
             align=side, dx=dx, baseline="middle", color=shown.muted, fontSize=LETTERS)
        for side, dx in (("left", 7), ("right", -7)) if side in set(rows["side"])
    ]  # fmt: skip
    return [view("rule", rows, said, color=shown.ink, strokeDash=[3, 3], strokeWidth=1, opacity=0.5)], front


def _together(notes: Sequence[Mapping[str, Any]], moments: Sequence[int], span: int) -> list[tuple[int, list[Any]]]:
    """The notes by place: where the first of each place is, and those of it, oldest first."""
    groups: list[tuple[int, list[Any]]] = []
    for note, at in zip(notes, moments, strict=True):
        if not groups or at - groups[-1][0] >= NEAR / NARROWEST * span:
            groups.append((at, []))
        groups[-1][1].append(note)
    return groups


def _all_of(group: Sequence[Mapping[str, Any]]) -> str:
    told = [one["note"] or "" for one in group]
    rest = f" · + {len(told) - TOLD} more" if len(told) > TOLD else ""
    return " · ".join(told[:TOLD]) + rest


def _first_words(places: Sequence[float], groups: Sequence[Sequence[Mapping[str, Any]]]) -> list[str]:
    """As much of each place's first note as there is room for beside its rule, towards the middle, and how many more
    notes there are; ``places``: 0 to 1, ascending."""
    found = []
    for number, (at, group) in enumerate(zip(places, groups, strict=True)):
        step = -1 if at > 0.5 else 1
        there = 0 <= number + step < len(places)
        other = places[number + step] if there else (0.0 if step < 0 else 1.0)
        # Two that look at each other share the room between them.
        share = 0.5 if there and (other > 0.5) != (at > 0.5) else 1.0
        letters = int((abs(other - at) * share * NARROWEST - 14) / LETTER)
        more = f" · + {len(group) - 1} more" if len(group) > 1 else ""
        # How many there are is worth more than a part of a word.
        short = f"{len(group)} notes" if more else ""
        fits = letters - len(more) >= FEWEST
        found.append(clip(group[0]["note"] or "", letters - len(more)) + more if fits
                     else short if len(short) <= letters else "")  # fmt: skip
    return found


def manage(database: Engine, zone: ZoneInfo, person: auth.Person, *, demo: bool = False) -> None:
    """The popover "Notes": add one at a moment, the last ones, delete. Demo data has notes of its own, which stay."""
    with st.popover("Notes", icon=":material/sticky_note_2:"):
        may = person.may("annotate") and not demo
        if may:
            _form(zone)
        draw_refusal(REFUSED)
        rows = notes.notes(database)
        if not rows:
            st.caption("A note marks a moment on every chart: what was changed, when.")
        for row in rows[:SHOWN]:
            _line(row, zone, may=may and person.may_change("annotate", row))
        if len(rows) > SHOWN:
            st.caption(f"{len(rows) - SHOWN:,} older notes are on the charts of their time.")


def _form(zone: ZoneInfo) -> None:
    with st.form("hx_note", clear_on_submit=True, border=False):
        st.text_input("Note", key="hx_note_text", placeholder="moved to Haiku", max_chars=notes.LONGEST)
        st.datetime_input(f"When ({zone.key})", key="hx_note_at", value=_local_now(zone))
        st.form_submit_button("Add note", icon=":material/add:", on_click=_add, args=(zone,))


def _local_now(zone: ZoneInfo) -> datetime:
    return datetime.now(zone).replace(tzinfo=None, second=0, microsecond=0)


def _add(zone: ZoneInfo) -> None:
    text, at = str(st.session_state.get("hx_note_text") or ""), st.session_state.get("hx_note_at")
    if not isinstance(at, datetime):
        at = _local_now(zone)
    moment = at.replace(tzinfo=zone).astimezone(UTC)
    attempt(REFUSED, lambda: auth.engine().history.add_note(moment, text))


def _line(row: dict[str, object], zone: ZoneInfo, *, may: bool) -> None:
    at = row["at"]
    assert isinstance(at, datetime)
    # Without wrapping, a long note takes a second line itself and its button stays beside it.
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        st.markdown(f"**{at.astimezone(zone):%-d %b %Y %H:%M}** {plain(clip(str(row['note']), LINE))}", width="stretch")
        if may:
            st.button(
                "Delete", key=f"hx_note_{row['id']}", icon=":material/delete:", type="tertiary", on_click=_delete,
                args=(str(row["id"]),), help=f"Written by {plain(row['person'])}",
            )  # fmt: skip


def _delete(note_id: str) -> None:
    attempt(REFUSED, lambda: auth.engine().history.delete_note(note_id))
