"""Alerts on the History page: what fires now, and the popover in which they are added, switched and deleted."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import streamlit as st
from sqlalchemy import Engine

from app import auth
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from db import small_tables as store
from services import alerts
from services.alerts import METRICS, Alert, Metric

REFUSED, REFUSED_NEW = "hx_alert_refused", "hx_alert_refused_new"
WINDOWS = {"5 min": 300, "15 min": 900, "1 hour": 3600, "6 hours": 21_600, "24 hours": 86_400}
# What is typed for each figure: its unit, how much of the stored unit one of it is, and a step of the field's buttons.
UNITS: Mapping[Metric, tuple[str, float, float]] = {
    "p95_ttft": ("seconds", 1000.0, 0.1), "error_rate": ("%", 0.01, 0.1), "spend_day": ("US dollars", 1.0, 1.0),
}  # fmt: skip
EVENTS = 8
TOLD = 3  # alerts in the banner
TARGETS, ASK_AGAIN_S = "hx_alert_known_targets", 10.0


def banner(database: Engine, names: Mapping[str, str], zone: ZoneInfo) -> None:
    """One banner: what was measured by each alert that fires, and since when. Above `TOLD` of them it says how many
    there are and the first, and the others can be unfolded. Nothing when none fires."""
    said = [_fires(row, names, zone) for row in store.firing(database)]
    if not said:
        return
    if len(said) == 1:
        st.warning(said[0], icon=":material/notifications_active:")
        return
    lines = "\n".join(f"- {one}" for one in said[:TOLD])
    st.warning(f"**{len(said)} alerts fire.**\n\n{lines}", icon=":material/notifications_active:")
    if rest := said[TOLD:]:
        with st.expander(f"{len(rest)} more {'alert fires' if len(rest) == 1 else 'alerts fire'}"):
            st.markdown("\n".join(f"- {one}" for one in rest))


def _fires(row: Mapping[str, Any], names: Mapping[str, str], zone: ZoneInfo) -> str:
    since = row["since"]
    when = f" Since {since.astimezone(zone):%-d %b %H:%M} ({zone.key})." if since else ""
    return plain(f"{row['sentence'] or _title(row, names)}{when}{_now(row)}")


def _now(row: Mapping[str, Any]) -> str:
    alert = Alert.from_row(row)
    if row["value"] is None:
        return f" Just now: {alerts.NOT_ENOUGH}."
    return f" Just now: {alerts.amount(alert.metric, row['value'])}."


def _title(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """ "p95 time to first token of Haiku above 2 s over 15 min"."""
    alert = Alert.from_row(row)
    whose = f" of {', '.join(names.get(one, one) for one in alert.deployments)}" if alert.deployments else ""
    limit = alerts.amount(alert.metric, alert.threshold)
    return f"{METRICS[alert.metric]}{whose} above {limit} over {alerts.span(alert.window_s)}"


def manage(
    database: Engine, names: Mapping[str, str], zone: ZoneInfo, person: auth.Person, *, demo: bool = False
) -> None:  # fmt: skip
    """The popover "Alerts": those there are with their switch, a form for another, and the last events. Demo data has
    an alert of its own, which stays as it is. ``names``: deployment ids to names that tell them apart."""
    rows = store.alerts(database)
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
        _events(database, {row["id"]: _name(row, names) for row in rows}, zone)


def _name(row: Mapping[str, Any], names: Mapping[str, str]) -> str:
    return str(row["name"] or _title(row, names))


def _line(row: Mapping[str, Any], names: Mapping[str, str], *, may: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        state = "fires" if row["firing"] else "quiet" if row["checked_at"] else "not looked at yet"
        if row["checked_at"] and row["value"] is None:
            state = f"{state}, {alerts.NOT_ENOUGH} ({row['n'] or 0})"
        state = state if row["enabled"] else "switched off"
        named = f"**{plain(row['name'])}** " if row["name"] else ""
        to = f" · to {', '.join(row['targets'])}" if row["targets"] else ""
        st.markdown(f"{named}{plain(_title(row, names) + to)} · {plain(state)}", width="stretch")
        if may:
            st.button(
                "Switch off" if row["enabled"] else "Switch on", key=f"hx_alert_on_{row['id']}", type="tertiary",
                icon=":material/notifications_off:" if row["enabled"] else ":material/notifications:",
                on_click=_switch, args=(dict(row),),
            )  # fmt: skip
            st.button(
                "Delete", key=f"hx_alert_del_{row['id']}", icon=":material/delete:", type="tertiary",
                on_click=_delete, args=(str(row["id"]),),
            )  # fmt: skip


def _form(names: Mapping[str, str]) -> None:
    metric = st.selectbox("Figure", list(METRICS), key="hx_alert_metric", format_func=METRICS.__getitem__)
    unit, _, step = UNITS[metric]
    # No least value here: the field would keep a smaller one to itself, and nothing would say why. The format shows all
    # digits that were typed.
    st.number_input(
        f"Fires above ({unit})", key=f"hx_alert_limit_{metric}", value=None, placeholder=unit, step=step, format="%.12g"
    )  # fmt: skip
    if metric != "spend_day":
        st.selectbox("Over the last", list(WINDOWS), index=1, key="hx_alert_window")
    st.multiselect(
        "Deployments", list(names), key="hx_alert_deployments", placeholder="All together",
        format_func=lambda one: names.get(one, one),
    )  # fmt: skip
    targets = _targets()
    st.multiselect(
        "Send to", targets, key="hx_alert_targets",
        placeholder="this page only" if targets else "no address is set on this server",
        help="Addresses are kept out of this page: they are variables of the server (environment or secrets.toml) "
        "whose names begin with ALERT_, like ALERT_WEBHOOK = json://host/path or ALERT_MAIL = mailto://….",
    )  # fmt: skip
    st.text_input("Name (optional)", key="hx_alert_name", max_chars=alerts.LONGEST_NAME)
    st.button("Add alert", key="hx_alert_add", type="primary", icon=":material/add_alert:", on_click=_add)
    draw_refusal(REFUSED_NEW)


def _targets() -> list[str]:
    """Where an alert can be sent to. The page is drawn with every click on it, and this list changes with the server's
    own settings only: it is asked for once in `ASK_AGAIN_S`, and again at once where there was no answer."""
    asked, found = st.session_state.get(TARGETS, (-math.inf, []))
    if time.monotonic() - asked < ASK_AGAIN_S:
        return list(found)
    try:
        found = auth.engine().history.alerts()[1]
    except auth.EngineError:
        return []
    st.session_state[TARGETS] = (time.monotonic(), found)
    return list(found)


def _add() -> None:
    held = st.session_state
    metric = cast(Metric, held.get("hx_alert_metric") or "p95_ttft")
    limit = held.get(f"hx_alert_limit_{metric}")

    def save() -> None:
        if limit is None:
            raise ValueError("Write above which value the alert fires.")
        threshold = float(limit) * UNITS[metric][1]
        alerts.check_limit(metric, threshold)
        row = {
            "metric": metric, "threshold": threshold,
            "window_s": WINDOWS.get(str(held.get("hx_alert_window")), 900), "name": held.get("hx_alert_name") or "",
            "deployments": list(held.get("hx_alert_deployments") or ()),
            "targets": list(held.get("hx_alert_targets") or ()),
        }  # fmt: skip
        auth.engine().history.save_alert(Alert.from_row(row))

    if attempt(REFUSED_NEW, save):
        # A value that is only forgotten here stays in the field of the browser.
        held[f"hx_alert_limit_{metric}"], held["hx_alert_name"] = None, ""
        held["hx_alert_deployments"], held["hx_alert_targets"] = [], []


def _switch(row: Mapping[str, Any]) -> None:
    changed = replace(Alert.from_row(row), enabled=not row["enabled"])
    attempt(REFUSED, lambda: auth.engine().history.save_alert(changed))


def _delete(alert_id: str) -> None:
    attempt(REFUSED, lambda: auth.engine().history.delete_alert(alert_id))


def _events(database: Engine, named: Mapping[str, str], zone: ZoneInfo) -> None:
    rows = store.events(database, limit=EVENTS)
    if not rows:
        return
    st.caption("Last events")
    for row in rows:
        at = cast(datetime, row["at"]).astimezone(zone)
        told = f" {row['delivered'][0].upper()}{row['delivered'][1:]}." if row["delivered"] else " Being sent."
        said = row["sentence"] or f"{named.get(row['alert_id'], 'An alert')} {'began' if row['firing'] else 'ended'}."
        st.caption(f"{at:%-d %b %H:%M} · {plain(said + told)}")
