"""The first step, a file of one's own, the sample or a path on the server; and what the page remembers of it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, BinaryIO, Literal

import streamlit as st
from streamlit.elements.arrow import DataframeSelectionState

from app import auth
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from services import paths
from services.batch import server_files
from services.batch import text as words
from services.batch.files import spool
from services.batch.server_files import LONGEST
from services.batch.types import Checked, Options
from services.params import PARAMS

MOST_MB = 200  # larger files are named by a path: an upload is held in memory until it is on the disk

SAMPLE = paths.ROOT / "services" / "data" / "batch_sample.csv"

SAMPLE_PROMPT = (
    "Which one of these is the message about: delivery, billing, complaint, account, technical, return, praise or "
    "question? Answer with one word.\n\nMessage: {{text}}"
)

SAMPLE_TOKENS = 16  # of an answer: enough for one word, and quick on the local model

TYPES = ["csv", "tsv", "tab", "txt", "jsonl", "ndjson", "json", "parquet", "pq", "xlsx", "xlsm", "gz"]

PATH, REFUSAL, BLOCK = "bt_path", "bt_file_refusal", 1 << 20

S3 = "s3://"


def draw(person: auth.Person) -> Picked | None:
    """The ways to choose a file; once one is chosen, its name and the way back."""
    chosen = picked()
    if chosen is not None and chosen.origin in ("path", "s3") and allowed(person) is None:
        forget()
        chosen = None
    if chosen is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            size = f" · {words.size(chosen.n_bytes)}" if chosen.n_bytes else ""
            st.markdown(f":material/description: **{plain(clip(chosen.name, 100))}**{size}", width="stretch")
            st.button("Another file", key="bt_another", icon=":material/close:", type="tertiary", on_click=forget)
        return chosen
    with st.container(border=True):
        uploaded = st.file_uploader(
            "A file with one prompt in each line",
            type=TYPES,
            key=f"bt_upload_{st.session_state.get(UPLOAD, 0)}",
            max_upload_size=most_mb(),
            help="CSV, TSV, JSONL, Parquet or Excel; also OpenAI's, Anthropic's and Bedrock's own batch files. It is "
            "checked line by line first, and nothing is sent before you say so.",
        )
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button(
                "Use the sample of 200 lines",
                key="bt_sample",
                icon=":material/science:",
                on_click=_sample,
                type="primary" if uploaded is None else "secondary",
            )
            if person.may("deploy"):
                with st.popover("From a path", icon=":material/folder_open:", key="bt_from_path"):
                    st.text_input(
                        "A file on the server, or s3://…",
                        key=PATH,
                        placeholder="/data/prompts.parquet",
                        width=420,
                        max_chars=LONGEST,
                    )
                    st.button("Take it", key="bt_take_path", on_click=_path)
                    if folders := auth.sources.config().batch_folders:
                        st.caption(plain(f"Folders: {', '.join(folders)}"))
        draw_refusal(REFUSAL)
    if uploaded is not None and attempt(REFUSAL, lambda: pick(_of_upload(uploaded), usual())):
        st.rerun()
    return None


def most_mb() -> int:
    """How large an upload may be. The server refuses what is above its own setting, whatever a widget promises."""
    return min(MOST_MB, int(st.get_option("server.maxUploadSize")))


def usual() -> Options:
    """What a file is asked with at first: a limit to each answer. Lines that bring their own keep it."""
    return Options(params={"max_tokens": PARAMS["max_tokens"].default})


def _of_upload(uploaded: BinaryIO) -> Picked:
    return spooled(uploaded, PurePath(str(uploaded.name)).name, "upload")


def spooled(stream: BinaryIO, name: str, origin: Origin) -> Picked:
    """A stream on the disk, under its hash. Raises ValueError in words when the disk does not take it."""
    stored = spool(_blocks(stream), paths.data_dir() / "uploads", name)
    sha256 = stored.parent.name
    return Picked(stored, name, sha256, stored.stat().st_size, origin, sha256)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    stream.seek(0)
    blocks: Iterable[bytes] = iter(lambda: stream.read(BLOCK), b"")
    yield from blocks


def _sample() -> None:
    """Callback: the shipped sample, with a question that its column "category" answers."""

    def take() -> None:
        try:
            with SAMPLE.open("rb") as stream:
                sample_options = Options(prompt=SAMPLE_PROMPT, params={"max_tokens": SAMPLE_TOKENS, "temperature": 0.0})
                pick(spooled(stream, SAMPLE.name, "sample"), sample_options)
        except OSError as error:
            raise ValueError(f"The sample cannot be read ({error.strerror}); the installation is not whole.") from None

    attempt(REFUSAL, take)


def _path() -> None:
    """Callback: a file that lies on the server, or in S3."""
    location = (st.session_state.get(PATH) or "").strip()
    rule = allowed(auth.person_and_role())
    attempt(REFUSAL, lambda: pick(named(location, rule), usual()))


def allowed(person: auth.Person) -> server_files.Allowed | None:
    """Which files of the server somebody may name: looked at again whenever one is read, for roles end."""
    listens = os.environ.get("LAB_ADDRESS") or st.get_option("server.address")
    config = auth.sources.config()
    return server_files.allowed(
        person=person.name,
        role=person.role,
        folders=config.batch_folders,
        address=listens,
        data=paths.data_dir(),
        file=paths.deployments_file(),
    )


def named(location: str, rule: server_files.Allowed | None) -> Picked:
    """The file that a path names. Raises ValueError in words when there is none that this person may name."""
    if location.startswith(S3):
        if rule is None:
            raise ValueError(server_files.NOT_YOURS)
        name = location.rstrip("/").rpartition("/")[2] or "file"
        return Picked(location, name, f"{location} {time.time_ns()}", 0, "s3")
    if not location:
        raise ValueError("Write the path of a file on the server, like /data/prompts.csv, or s3://bucket/file.csv.")
    file = server_files.named(location, rule)
    return Picked(file.path, file.name, file.key, file.n_bytes, "path")


FILE, OPTIONS, UPLOAD, TROUBLE = "bt_file", "bt_options", "bt_upload", "bt_trouble"

LANES, PER_MINUTE = "bt_lanes", "bt_per_minute"

PROMPT, SYSTEM, TARGET, ROUTE, NAME = "bt_prompt", "bt_system", "bt_target", "bt_route", "bt_name"

TAB, TABS = "bt_tabs", ("Results", "Figures", "Compare")  # of a batch that is over

SHEET, TRIED, SUBMIT_REFUSAL = "bt_sheet", "bt_tried", "bt_refusal"


# A click on any cell of a line takes the line: the boxes before the lines are small, and nobody looks for them.
ANY_CELL: Literal["single-cell"] = "single-cell"


OPTION_WIDGETS = ("format", "encoding", "delimiter", "id_column", "suffix_ids", "leave_out")

Origin = Literal["upload", "sample", "path", "s3"]


@dataclass(frozen=True, slots=True)
class Picked:
    """The file that the page is about. ``key`` changes with its content. ``path``: a text where it lies
    elsewhere, in S3 or in a folder of the server's, and is copied before it is read."""

    path: Path | str
    name: str
    key: str
    n_bytes: int
    origin: Origin
    sha256: str | None = None  # of a spooled upload


def picked() -> Picked | None:
    """The file that was chosen."""
    file: Picked | None = st.session_state.get(FILE)
    return file


def pick(file: Picked, options: Options | None = None) -> None:
    """Take a file; whatever was said about the one before is forgotten."""
    forget()
    st.session_state[FILE] = file
    set_options(options or Options())


def forget() -> None:
    """Callback: no file is chosen, and nothing that belonged to it is left."""
    n_uploads = st.session_state.get(UPLOAD, 0)
    for key in [key for key in st.session_state if str(key).startswith("bt_") and not str(key).startswith("bt_list")]:
        del st.session_state[key]
    st.session_state[UPLOAD] = n_uploads + 1  # a new key: the uploader is empty again


def options() -> Options:
    """How the file is read."""
    chosen_options: Options = st.session_state.get(OPTIONS) or Options()
    return chosen_options


def set_options(new_options: Options) -> None:
    """Read the file so from now on. The boxes follow."""
    state = st.session_state
    state[OPTIONS] = new_options
    for name in OPTION_WIDGETS:
        state[widget(name)] = getattr(new_options, name)
    for name, spec in PARAMS.items():
        value = new_options.params.get(name)
        state[parameter(name)] = list(value or []) if spec.kind == "list" else value
    state[PROMPT], state[SYSTEM], state[SHEET] = (
        new_options.prompt or "",
        new_options.system or "",
        new_options.sheet or "",
    )
    state.pop(TRIED, None)


def widget(name: str) -> str:
    """Session key of the widget of an option."""
    return f"bt_o_{name}"


def parameter(name: str) -> str:
    """Session key of the widget of a parameter."""
    return f"bt_p_{name}"


def change(**values: Any) -> None:
    """Callback: read the file with some options changed."""
    set_options(replace(options(), **values))


def leave_out(checked: Checked) -> Checked:
    """What was found, with the person's own word on leaving lines out."""
    return replace(checked, options=replace(checked.options, leave_out=options().leave_out))


def clicked(selection: DataframeSelectionState, n: int) -> int | None:
    """Which of a table's ``n`` lines the selected cell is in (`ANY_CELL`); None for none, or for one that is gone."""
    cells = selection.get("cells") or ()
    return int(cells[0][0]) if cells and 0 <= int(cells[0][0]) < n else None


def open_batch(batch_id: str | None) -> None:
    """Make a batch the one that the page shows, or none; the address follows."""
    if batch_id:
        st.query_params["batch"] = batch_id
    else:
        st.query_params.pop("batch", None)
