"""The live columns and the race of one run: one component, one WebSocket, no iframe and nothing from elsewhere.

The JavaScript is plain: the files below are joined in this order into one module, whose last file exports `render`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import streamlit as st

from app.charts.theme import DARK_COLOURS, LIGHT_COLOURS
from app.tickets import role_in
from services.runs.view import Snapshot

HERE = Path(__file__).parent
LEGEND = (
    "grey: waiting · hatched: reasoning · solid: answering · red ×: failed. Times from the first byte sent to the "
    "bytes' arrival on this machine."
)
SCRIPTS = ("format.js", "stream.js", "column.js", "race.js", "tooltip.js", "socket.js", "board.js")


def _read(*names: str) -> str:
    return "\n".join((HERE / name).read_text(encoding="utf-8") for name in names)


_mount = st.components.v2.component(
    "inference_lab_board",
    html='<div class="lab-board">\n</div>',
    css=_read("board.css"),
    js=_read(*SCRIPTS),
)


def _nothing() -> None:
    """Streamlit keeps a trigger in the result only when it has a callback."""


def board(
    *,
    key: str,
    snapshot: Snapshot | None,
    run_id: str,
    token: str,
    live: bool,
    legend: bool = True,
    on_finished: Callable[[], None] | None = None,
) -> str | None:
    """Draw a run. Returns the run's id in the one rerun that follows the end of a live run, else None.

    ``snapshot`` is a frame of the board (`services.runs.view.snapshot_from_rows`, or the engine's), drawn at once; None
    waits for the socket. ``live`` opens the socket; a rerun with the same ``key`` and ``run_id`` leaves it open and
    repaints nothing. ``token`` comes from `app.tickets.board_token`; its role decides whether stop and retry are
    shown. ``legend``: say what the bars mean; of several boards beside each other nobody needs it twice.
    """
    base = st.get_option("server.baseUrlPath").strip("/")
    result = _mount(
        key=key,
        data={
            "run_id": run_id,
            "snapshot": snapshot,
            "token": token,
            "may_act": role_in(token) in ("member", "admin"),
            "live": live,
            "legend": LEGEND if legend else "",
            "base": f"/{base}" if base else "",
            "palette": {"light": list(LIGHT_COLOURS), "dark": list(DARK_COLOURS)},
        },
        on_finished_change=on_finished or _nothing,
    )
    finished: str | None = result.finished
    return finished
