"""The upper half of the playground: the conversation so far, prompt, variables, files, deployments, and the bar with
Send."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import auth
from app.live import run_view as runs
from app.playground import state
from app.playground import state as playground_state
from app.widgets import parameters as settings
from app.widgets import playground_inputs
from app.widgets.text import clip, plain
from db.run_rows import CallRow, RunRow
from services.call_record import from_row
from services.deployments.registry import DeploymentStatus
from services.runs import spec, view
from services.runs.spec import MAX_COLUMNS, MAX_REPETITIONS, Attachment

FILE_TYPES = [
    "txt",
    "md",
    "json",
    "jsonl",
    "csv",
    "tsv",
    "py",
    "js",
    "ts",
    "html",
    "xml",
    "yaml",
    "yml",
    "toml",
    "sql",
    "sh",
    "log",
    "rst",
    "tex",
    "java",
    "go",
    "rs",
    "c",
    "h",
    "cpp",
]
MAX_FILES = 10
MAX_FILE_MB = 1
START_WORDS = {"together": "All at once", "staggered": "One after a pause", "sequential": "One after the other"}


def draw(statuses: Sequence[DeploymentStatus], *, live: bool) -> None:
    """Everything that decides what is sent."""
    st.text_area(
        "Prompt",
        key=playground_inputs.PROMPT,
        height=92,
        label_visibility="collapsed",
        placeholder="Continue the conversation" if st.session_state[playground_inputs.CONTINUE] else "Write a prompt",
        help="`{{name}}` makes a variable: an input for it appears below. Ctrl or Cmd + Enter sends.",
        persist_state="session",
    )
    _variables()
    _file_chips()
    _deployments(statuses)
    settings.not_sent(playground_state.chosen())
    _bar(live=live)


def _variables() -> None:
    names = spec.variables(st.session_state[playground_inputs.PROMPT] or "")
    if not names:
        return
    with st.grid(min(len(names), 4)):
        for name in names:
            st.text_input(plain(name), key=playground_state.variable_key(name), persist_state="session")


def _samples() -> None:
    prompts = {sample.title: sample for sample in (*spec.SAMPLES, *spec.TEMPLATES)}
    st.menu_button(
        "Samples",
        list(prompts),
        key="pg_sample",
        icon=":material/lightbulb:",
        format_func=lambda title: f"{title}: {prompts[title].shows}",
        on_click=playground_state.take_sample,
        args=("pg_sample", prompts),
    )


def _system() -> None:
    filled = bool((st.session_state[playground_inputs.SYSTEM] or "").strip())
    with st.popover("System ·" if filled else "System", help="System prompt", icon=":material/person_edit:"):
        st.text_area(
            "System prompt",
            key=playground_inputs.SYSTEM,
            height=140,
            help="Sent before the conversation to every deployment, in the way of its own wire.",
            persist_state="session",
        )


def _files() -> None:
    kept: list[Attachment] = st.session_state[playground_state.FILES]
    with st.popover(f"Files · {len(kept)}" if kept else "Files", icon=":material/attach_file:"):
        uploads = st.file_uploader(
            "Text files to send with the prompt",
            type=FILE_TYPES,
            accept_multiple_files=True,
            max_upload_size=MAX_FILE_MB,
            key=f"pg_files_{st.session_state[playground_state.UPLOADS]}",
            help=f"At most {MAX_FILES} text files of {MAX_FILE_MB} MB each; their text is added after the prompt.",
        )
        if uploads:
            taken, refused = read_files([(f.name, f.getvalue()) for f in uploads], kept)
            st.session_state[playground_state.FILES] = taken
            st.session_state["pg_refused_files"] = refused
            # A fresh uploader, so that the list of chips is the one place where files are shown and removed.
            st.session_state[playground_state.UPLOADS] += 1
            st.rerun()


def read_files(uploads: Sequence[tuple[str, bytes]], kept: Sequence[Attachment]) -> tuple[list[Attachment], list[str]]:
    """The attachments after an upload, and one sentence for each file that was left out."""
    taken, refused = {a.name: a for a in kept}, []
    for name, content in uploads:
        if name not in taken and len(taken) >= MAX_FILES:
            refused.append(f"{name} was left out: {MAX_FILES} files are attached already.")
            continue
        try:
            taken[name] = Attachment(name, spec.decode_file(name, content))
        except ValueError as error:
            refused.append(str(error))
    return list(taken.values()), refused


def _file_chips() -> None:
    for sentence in st.session_state.pop("pg_refused_files", []):
        st.caption(f":red[:material/error: {plain(sentence)}]")
    kept: list[Attachment] = st.session_state[playground_state.FILES]
    if not kept:
        return
    with st.container(horizontal=True):
        for position, file in enumerate(kept):
            st.button(
                f"{plain(clip(file.name, 40))} · {len(file.text):,} characters",
                key=f"pg_drop_{position}",
                icon=":material/close:",
                help="Take this file off the prompt",
                on_click=playground_state.drop_file,
                args=(position,),
            )


def _deployments(statuses: Sequence[DeploymentStatus]) -> None:
    known = {s.deployment.id: s for s in statuses}
    st.session_state[playground_inputs.CHOSEN] = [d for d in st.session_state[playground_inputs.CHOSEN] if d in known][
        :MAX_COLUMNS
    ]
    st.multiselect(
        "Deployments",
        list(known),
        key=playground_inputs.CHOSEN,
        format_func=lambda d: label(known[d]) if d in known else str(d),
        max_selections=MAX_COLUMNS,
        label_visibility="collapsed",
        placeholder="Choose 1 to 8 deployments",
        on_change=playground_state.remember_choice,
        select_all=False,
        wrap=True,
        persist_state="session",
    )


def label(status: DeploymentStatus) -> str:
    """A deployment's name as a choice, with what it needs before it can be called."""
    name = status.deployment.name
    if status.ready:
        return name
    return f"{name} · {'switched off' if status.needs == 'disabled' else status.needs}"


def _bar(*, live: bool) -> None:
    state = st.session_state
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        _samples()
        _system()
        _files()
        st.space("stretch")
        settings.draw(playground_state.chosen())
        with st.popover(f"{state[playground_state.REPETITIONS]} ×", icon=":material/repeat:"):
            _how_often()
        st.toggle(
            "Blind",
            key=playground_state.BLIND,
            persist_state="session",
            help="Names, figures and cost are hidden and the sides are shuffled until you have voted; the texts still "
            "stream as they come.",
        )
        st.button(
            "Stop all",
            key="pg_stop",
            icon=":material/stop:",
            on_click=playground_state.stop_all,
            disabled=not live,
            help="Stops everything that was sent in this visit and is still under way.",
        )
        st.button(
            "Send",
            key="pg_send",
            type="primary",
            icon=":material/send:",
            shortcut="Mod+Enter",
            on_click=playground_state.send,
        )
    if state[playground_state.TROUBLE]:
        st.caption(f":red[:material/error: {plain(state[playground_state.TROUBLE])}]", text_alignment="right")


def _how_often() -> None:
    st.number_input(
        "Repetitions",
        min_value=1,
        max_value=MAX_REPETITIONS,
        step=1,
        key=playground_state.REPETITIONS,
        persist_state="session",
        help="Each deployment is asked this many times, one after the other; the table then shows medians with "
        "95 % intervals.",
    )
    st.segmented_control(
        "Start of the columns",
        list(START_WORDS),
        key=playground_state.START,
        required=True,
        format_func=START_WORDS.__getitem__,
        persist_state="session",
        help="Deployments that share one machine slow each other down when they start together.",
    )
    if st.session_state[playground_state.START] == "staggered":
        st.number_input(
            "Pause in seconds",
            min_value=0.0,
            max_value=60.0,
            step=0.5,
            key=playground_state.STAGGER,
            persist_state="session",
        )


def draw_conversation(shown: runs.Shown, *, masked: bool) -> None:
    """Earlier turns, each folded; and, while the conversation goes on, the way out of it."""
    for number, turn in enumerate(runs.ancestors(shown.run), 1):
        _turn(turn, number, masked=masked)


def _turn(turn: RunRow, number: int, *, masked: bool) -> None:
    title = clip(str(turn.get("prompt") or "text not stored"), 90)
    folded = st.expander(
        f"Turn {number}: {plain(title)}", icon=":material/forum:", key=f"pg_turn_{turn['id']}", on_change="rerun"
    )
    if not folded.open:
        return
    with folded:
        asked(turn)
        answers(view.shown_calls(runs.calls_of(auth.database(), turn).calls), masked=masked)


def asked(run: RunRow) -> None:
    """What a run asked, as plain text."""
    if run.get("system"):
        st.caption("System prompt")
        st.text(str(run["system"]))
    st.caption("Prompt")
    st.text(str(run.get("prompt") or "The text was not stored."))


def answers(calls: Sequence[CallRow], *, masked: bool) -> None:
    """The answers of a turn side by side, as plain text."""
    with st.grid(min(max(len(calls), 1), 4), border=True) as grid:
        for row in calls:
            with grid.cell():
                st.caption(f"{plain(runs.name_of(row, masked=masked))} · {view.words(from_row(row))}")
                st.text(str(row.get("answer") or "No answer was kept."))


def draw_mode(shown: runs.Shown) -> None:
    """Below the board: go on with this conversation, or begin another."""
    going_on = st.session_state[playground_inputs.CONTINUE]
    with st.container(horizontal=True, vertical_alignment="center"):
        if going_on:
            st.caption(f":material/forum: {plain(continuing(shown))}", width="stretch")
        else:
            st.button(
                "Continue",
                key="pg_continue_button",
                icon=":material/reply:",
                on_click=state.continue_run,
                disabled=shown.live is not None or shown.found.batch is not None,
                help="The next prompt goes on from here; each deployment is sent its own answers, no other's "
                "and never an error text.",
            )
        st.button("New conversation", key="pg_new", icon=":material/add_comment:", on_click=state.new_conversation)


def continuing(shown: runs.Shown) -> str:
    """Who goes on with what, in one or two sentences."""
    had = {row["deployment_id"] for row in shown.columns}
    fresh = [s.deployment.name for s in state.chosen() if s.deployment.id not in had]
    said = "The next prompt continues this conversation: each deployment sees its own answers."
    return f"{said} {', '.join(fresh)} was not in it and begins anew." if fresh else said


def draw_current(shown: runs.Shown, *, typed: str | None) -> None:
    """What the shown run asked, where the prompt box does not say the same."""
    sent = shown.run.get("template") if shown.run.get("template") is not None else shown.run.get("prompt")
    if typed is not None and typed == sent and not shown.run.get("variables"):
        return
    text = str(shown.run.get("prompt") or "The text of this run was not stored.")
    with st.container(border=True):
        if shown.run.get("system"):
            st.caption("System prompt")
            st.text(str(shown.run["system"]))
            st.caption("Prompt")
        if len(text) > 1200:
            st.text(text[:1200].rstrip() + "…")
            with st.expander("The whole prompt"):
                st.text(text)
        else:
            st.text(text)
