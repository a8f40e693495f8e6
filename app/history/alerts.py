"""Alerts and notes on the History page: what fires now, and the popovers in which both are made and deleted."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import cast
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.charts import theme
from app.charts.theme import Look
from app.charts.vega import Spec, q, tips, view, word
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from db import small_tables
from db.models import Alert as AlertRow
from db.models import Annotation
from services import alerts
from services.alerts import METRICS, Alert, Metric
from services.security import access

SHOWN = 20

ROOM = 1.14  # how much higher than its highest mark a chart with notes is


# Pixels of the narrowest chart with notes and of a letter, and the letters below which no words are written.
NARROWEST, LETTER, LETTERS, FEWEST = 240.0, 5.2, 10, 5


NEAR = 4.0  # pixels of the narrowest chart: notes that are nearer than this share one sign

NOTES_SHOWN, LINE = 6, 80  # notes in the tooltip of a sign, and letters of a line in the popover

NOTE_REFUSED = "hx_note_refused"


def marks(database: Engine, start: datetime, end: datetime) -> pd.DataFrame:
    """The notes from ``start`` to ``end`` as rules on a chart: ``at`` (aware UTC) and ``note``, oldest first."""
    notes = small_tables.notes(database, start, end)[::-1]
    frame = pd.DataFrame({"at": [note.at for note in notes], "note": [note.note or "" for note in notes]})
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame.astype({"note": "object"})


def rules(notes: Sequence[Annotation], look: Look, x: Spec) -> tuple[list[Spec], list[Spec]]:
    """The notes as layers for a chart over time: thin rules, to be drawn behind its marks, so that none is hidden by
    a note; and in front, above the marks (`ROOM`), a sign with the first words. Notes that share a place share a sign,
    which tells all of them on hovering. ``x``: `theme.time_x`."""
    if not notes:
        return [], []
    low, high = x["scale"]["domain"]
    groups = _together(notes, [int(moment) for moment in theme.millis([note.at for note in notes])], high - low)
    moments = [moment for moment, _ in groups]
    rows = pd.DataFrame(
        {
            "moment": moments,
            "note": [_all_of(group) for _, group in groups],
            "who": [", ".join(dict.fromkeys(note.person for note in group)) for _, group in groups],
            "words": _first_words(
                [(moment - low) / max(high - low, 1) for moment in moments], [group for _, group in groups]
            ),
            "side": ["right" if moment - low > high - moment else "left" for moment in moments],
        }
    )
    encoding = {"x": q("moment", **x), "tooltip": tips(("note", "Note"), ("who", "By"))}
    front = [
        view(
            "point",
            rows,
            {**encoding, "y": {"value": 4}},
            shape="triangle-down",
            filled=True,
            color=look.ink,
            size=45,
            opacity=0.9,
        )
    ]
    front += [
        view(
            "text",
            rows,
            {**encoding, "y": {"value": 4}, "text": word("words")},
            only=f"datum.side === '{side}'",
            align=side,
            dx=dx,
            baseline="middle",
            color=look.muted,
            fontSize=LETTERS,
        )
        for side, dx in (("left", 7), ("right", -7))
        if side in set(rows["side"])
    ]
    return [view("rule", rows, encoding, color=look.ink, strokeDash=[3, 3], strokeWidth=1, opacity=0.5)], front


def _together(notes: Sequence[Annotation], moments: Sequence[int], span: int) -> list[tuple[int, list[Annotation]]]:
    """The notes by place: where the first of each place is, and those of it, oldest first."""
    groups: list[tuple[int, list[Annotation]]] = []
    for note, place in zip(notes, moments, strict=True):
        if not groups or place - groups[-1][0] >= NEAR / NARROWEST * span:
            groups.append((place, []))
        groups[-1][1].append(note)
    return groups


def _all_of(group: Sequence[Annotation]) -> str:
    texts = [note.note or "" for note in group]
    suffix = f" · + {len(texts) - NOTES_SHOWN} more" if len(texts) > NOTES_SHOWN else ""
    return " · ".join(texts[:NOTES_SHOWN]) + suffix


def _first_words(places: Sequence[float], groups: Sequence[Sequence[Annotation]]) -> list[str]:
    """As much of each place's first note as there is room for beside its rule, towards the middle, and how many more
    notes there are; ``places``: 0 to 1, ascending."""
    rows = []
    for number, (place, group) in enumerate(zip(places, groups, strict=True)):
        step = -1 if place > 0.5 else 1
        there = 0 <= number + step < len(places)
        other = places[number + step] if there else (0.0 if step < 0 else 1.0)
        # Two that look at each other share the room between them.
        share = 0.5 if there and (other > 0.5) != (place > 0.5) else 1.0
        letters = int((abs(other - place) * share * NARROWEST - 14) / LETTER)
        suffix = f" · + {len(group) - 1} more" if len(group) > 1 else ""
        # How many there are is worth more than a part of a word.
        short = f"{len(group)} notes" if suffix else ""
        fits = letters - len(suffix) >= FEWEST
        rows.append(
            clip(group[0].note or "", letters - len(suffix)) + suffix
            if fits
            else short
            if len(short) <= letters
            else ""
        )
    return rows


def manage_notes(database: Engine, zone: ZoneInfo, person: auth.Person, *, demo: bool = False) -> None:
    """The popover "Notes": add one at a moment, the last ones, delete. Demo data has notes of its own, which stay."""
    with st.popover("Notes", icon=":material/sticky_note_2:"):
        may = person.may("annotate") and not demo
        if may:
            _note_form(zone)
        draw_refusal(NOTE_REFUSED)
        notes = small_tables.notes(database)
        if not notes:
            st.caption("A note marks a moment on every chart: what was changed, when.")
        for note in notes[:SHOWN]:
            own = access.owns(person.role, person.name, note.person)
            _note_line(note, zone, may=may and own)
        if len(notes) > SHOWN:
            st.caption(f"{len(notes) - SHOWN:,} older notes are on the charts of their time.")


def _note_form(zone: ZoneInfo) -> None:
    with st.form("hx_note", clear_on_submit=True, border=False):
        st.text_input("Note", key="hx_note_text", placeholder="moved to Haiku", max_chars=small_tables.LONGEST)
        st.datetime_input(f"When ({zone.key})", key="hx_note_at", value=_local_now(zone))
        st.form_submit_button("Add note", icon=":material/add:", on_click=_add_note, args=(zone,))


def _local_now(zone: ZoneInfo) -> datetime:
    return datetime.now(zone).replace(tzinfo=None, second=0, microsecond=0)


def _add_note(zone: ZoneInfo) -> None:
    text, at = str(st.session_state.get("hx_note_text") or ""), st.session_state.get("hx_note_at")
    if not isinstance(at, datetime):
        at = _local_now(zone)
    moment = at.replace(tzinfo=zone).astimezone(UTC)
    attempt(NOTE_REFUSED, lambda: auth.engine().history.add_note(moment, text))


def _note_line(note: Annotation, zone: ZoneInfo, *, may: bool) -> None:
    # Without wrapping, a long note takes a second line itself and its button stays beside it.
    with st.container(horizontal=True, vertical_alignment="center", wrap=False):
        st.markdown(
            f"**{note.at.astimezone(zone):%-d %b %Y %H:%M}** {plain(clip(str(note.note), LINE))}", width="stretch"
        )
        if may:
            st.button(
                "Delete",
                key=f"hx_note_{note.id}",
                icon=":material/delete:",
                type="tertiary",
                on_click=_delete_note,
                args=(note.id,),
                help=f"Written by {plain(note.person)}",
            )


def _delete_note(note_id: str) -> None:
    attempt(NOTE_REFUSED, lambda: auth.engine().history.delete_note(note_id))


REFUSED, REFUSED_NEW = "hx_alert_refused", "hx_alert_refused_new"

WINDOWS = {"5 min": 300, "15 min": 900, "1 hour": 3600, "6 hours": 21_600, "24 hours": 86_400}


# What is typed for each figure: its unit, how much of the stored unit one of it is, and a step of the field's buttons.
UNITS: Mapping[Metric, tuple[str, float, float]] = {
    "p95_ttft": ("seconds", 1000.0, 0.1),
    "error_rate": ("%", 0.01, 0.1),
    "spend_day": ("US dollars", 1.0, 1.0),
}


EVENTS = 8

TOLD = 3  # alerts in the banner

TARGETS, ASK_AGAIN_S = "hx_alert_known_targets", 10.0


def banner(database: Engine, names: Mapping[str, str], zone: ZoneInfo) -> None:
    """One banner: what was measured by each alert that fires, and since when. Above `TOLD` of them it says how many
    there are and the first, and the others can be unfolded. Nothing when none fires."""
    sentences = [_fires(firing, names, zone) for firing in small_tables.firing(database)]
    if not sentences:
        return
    if len(sentences) == 1:
        st.warning(sentences[0], icon=":material/notifications_active:")
        return
    lines = "\n".join(f"- {sentence}" for sentence in sentences[:TOLD])
    st.warning(f"**{len(sentences)} alerts fire.**\n\n{lines}", icon=":material/notifications_active:")
    if further := sentences[TOLD:]:
        with st.expander(f"{len(further)} more {'alert fires' if len(further) == 1 else 'alerts fire'}"):
            st.markdown("\n".join(f"- {sentence}" for sentence in further))


def _fires(firing: small_tables.Firing, names: Mapping[str, str], zone: ZoneInfo) -> str:
    row, since = firing.alert, firing.since
    when = f" Since {since.astimezone(zone):%-d %b %H:%M} ({zone.key})." if since else ""
    return plain(f"{firing.sentence or _title(row, names)}{when}{_now(row)}")


def _now(row: AlertRow) -> str:
    alert = Alert.of(row)
    if row.value is None:
        return f" Just now: {alerts.NOT_ENOUGH}."
    return f" Just now: {alerts.amount(alert.metric, row.value)}."


def _title(row: AlertRow, names: Mapping[str, str]) -> str:
    """ "p95 time to first token of Haiku above 2 s over 15 min"."""
    alert = Alert.of(row)
    whose = (
        f" of {', '.join(names.get(deployment_id, deployment_id) for deployment_id in alert.deployments)}"
        if alert.deployments
        else ""
    )
    limit = alerts.amount(alert.metric, alert.threshold)
    return f"{METRICS[alert.metric]}{whose} above {limit} over {alerts.span(alert.window_s)}"


def manage(
    database: Engine, names: Mapping[str, str], zone: ZoneInfo, person: auth.Person, *, demo: bool = False
) -> None:
    """The popover "Alerts": those there are with their switch, a form for another, and the last events. Demo data has
    an alert of its own, which stays as it is. ``names``: deployment ids to names that tell them apart."""
    rows = small_tables.alerts(database)
    with st.popover("Alerts", icon=":material/notifications:"):
        may = person.may("deploy") and not demo
        if not rows:
            st.caption("An alert watches a figure and tells you, here and by webhook or e-mail, when it is too high.")
        for row in rows:
            _line(row, names, may=may)
        draw_refusal(REFUSED)
        if may:
            # A refusal is told in it, at its end: one written above it would close it. By its key the browser knows it
            # again when a line is added above it.
            with st.expander("Add an alert", icon=":material/add:", expanded=not rows, key="hx_alert_new"):
                _form(names)
        elif not demo:
            st.caption("Whoever runs this server can add and change alerts.")
        _events(database, {row.id: _name(row, names) for row in rows}, zone)


def _name(row: AlertRow, names: Mapping[str, str]) -> str:
    return row.name or _title(row, names)


def _line(row: AlertRow, names: Mapping[str, str], *, may: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        state = "fires" if row.firing else "quiet" if row.checked_at else "not looked at yet"
        if row.checked_at and row.value is None:
            state = f"{state}, {alerts.NOT_ENOUGH} ({row.n or 0})"
        state = state if row.enabled else "switched off"
        named = f"**{plain(row.name)}** " if row.name else ""
        to = f" · to {', '.join(row.targets)}" if row.targets else ""
        st.markdown(f"{named}{plain(_title(row, names) + to)} · {plain(state)}", width="stretch")
        if may:
            st.button(
                "Switch off" if row.enabled else "Switch on",
                key=f"hx_alert_on_{row.id}",
                type="tertiary",
                icon=":material/notifications_off:" if row.enabled else ":material/notifications:",
                on_click=_switch,
                args=(row,),
            )
            st.button(
                "Delete",
                key=f"hx_alert_del_{row.id}",
                icon=":material/delete:",
                type="tertiary",
                on_click=_delete,
                args=(row.id,),
            )


def _form(names: Mapping[str, str]) -> None:
    metric = st.selectbox("Figure", list(METRICS), key="hx_alert_metric", format_func=METRICS.__getitem__)
    unit, _, step = UNITS[metric]
    # No least value here: the field would keep a smaller one to itself, and nothing would say why. The format shows all
    # digits that were typed.
    st.number_input(
        f"Fires above ({unit})", key=f"hx_alert_limit_{metric}", value=None, placeholder=unit, step=step, format="%.12g"
    )
    if metric != "spend_day":
        st.selectbox("Over the last", list(WINDOWS), index=1, key="hx_alert_window")
    st.multiselect(
        "Deployments",
        list(names),
        key="hx_alert_deployments",
        placeholder="All together",
        format_func=lambda deployment_id: names.get(deployment_id, deployment_id),
    )
    targets = _targets()
    st.multiselect(
        "Send to",
        targets,
        key="hx_alert_targets",
        placeholder="this page only" if targets else "no address is set on this server",
        help="Addresses are kept out of this page: they are variables of the server (environment or secrets.toml) "
        "whose names begin with ALERT_, like ALERT_WEBHOOK = json://host/path or ALERT_MAIL = mailto://….",
    )
    st.text_input("Name (optional)", key="hx_alert_name", max_chars=alerts.LONGEST_NAME)
    st.button("Add alert", key="hx_alert_add", type="primary", icon=":material/add_alert:", on_click=_add)
    draw_refusal(REFUSED_NEW)


def _targets() -> list[str]:
    """Where an alert can be sent to. The page is drawn with every click on it, and this list changes with the server's
    own settings only: it is asked for once in `ASK_AGAIN_S`, and again at once where there was no answer."""
    read_at, targets = st.session_state.get(TARGETS, (-math.inf, []))
    if time.monotonic() - read_at < ASK_AGAIN_S:
        return list(targets)
    try:
        targets = auth.engine().history.alerts()[1]
    except auth.EngineError:
        return []
    st.session_state[TARGETS] = (time.monotonic(), targets)
    return list(targets)


def _add() -> None:
    state = st.session_state
    metric = cast(Metric, state.get("hx_alert_metric") or "p95_ttft")
    limit = state.get(f"hx_alert_limit_{metric}")

    def save() -> None:
        if limit is None:
            raise ValueError("Write above which value the alert fires.")
        threshold = float(limit) * UNITS[metric][1]
        alerts.check_limit(metric, threshold)
        row = {
            "metric": metric,
            "threshold": threshold,
            "window_s": WINDOWS.get(str(state.get("hx_alert_window")), 900),
            "name": state.get("hx_alert_name") or "",
            "deployments": list(state.get("hx_alert_deployments") or ()),
            "targets": list(state.get("hx_alert_targets") or ()),
        }
        auth.engine().history.save_alert(Alert.from_row(row))

    if attempt(REFUSED_NEW, save):
        # A value that is only forgotten here stays in the field of the browser.
        state[f"hx_alert_limit_{metric}"], state["hx_alert_name"] = None, ""
        state["hx_alert_deployments"], state["hx_alert_targets"] = [], []


def _switch(row: AlertRow) -> None:
    changed = replace(Alert.of(row), enabled=not row.enabled)
    attempt(REFUSED, lambda: auth.engine().history.save_alert(changed))


def _delete(alert_id: str) -> None:
    attempt(REFUSED, lambda: auth.engine().history.delete_alert(alert_id))


def _events(database: Engine, named: Mapping[str, str], zone: ZoneInfo) -> None:
    rows = small_tables.events(database, limit=EVENTS)
    if not rows:
        return
    st.caption("Last events")
    for row in rows:
        moment = row.at.astimezone(zone)
        delivery = f" {row.delivered[0].upper()}{row.delivered[1:]}." if row.delivered else " Being sent."
        sentence = row.sentence or f"{named.get(row.alert_id, 'An alert')} {'began' if row.firing else 'ended'}."
        st.caption(f"{moment:%-d %b %H:%M} · {plain(sentence + delivery)}")
