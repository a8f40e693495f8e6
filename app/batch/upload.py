"""The first step: a file of one's own, the shipped sample, or a path on the server. An upload goes to disk at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import PurePath
from typing import BinaryIO

import streamlit as st

from app import auth
from app.batch import state as bt
from app.batch.state import Picked
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import clip, plain
from services import paths
from services.batch import server_files
from services.batch import text as words
from services.batch.files import spool
from services.batch.server_files import LONGEST
from services.batch.types import Options
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
    chosen = bt.picked()
    if chosen is not None and chosen.origin in ("path", "s3") and allowed(person) is None:
        bt.forget()
        chosen = None
    if chosen is not None:
        with st.container(horizontal=True, vertical_alignment="center"):
            size = f" · {words.size(chosen.n_bytes)}" if chosen.n_bytes else ""
            st.markdown(f":material/description: **{plain(clip(chosen.name, 100))}**{size}", width="stretch")
            st.button("Another file", key="bt_another", icon=":material/close:", type="tertiary", on_click=bt.forget)
        return chosen
    with st.container(border=True):
        uploaded = st.file_uploader(
            "A file with one prompt in each line", type=TYPES, key=f"bt_upload_{st.session_state.get(bt.UPLOAD, 0)}",
            max_upload_size=most_mb(),
            help="CSV, TSV, JSONL, Parquet or Excel; also OpenAI's, Anthropic's and Bedrock's own batch files. It is "
            "checked line by line first, and nothing is sent before you say so.",
        )  # fmt: skip
        with st.container(horizontal=True, vertical_alignment="center"):
            st.button("Use the sample of 200 lines", key="bt_sample", icon=":material/science:", on_click=_sample,
                      type="primary" if uploaded is None else "secondary")  # fmt: skip
            if person.may("deploy"):
                with st.popover("From a path", icon=":material/folder_open:", key="bt_from_path"):
                    st.text_input("A file on the server, or s3://…", key=PATH, placeholder="/data/prompts.parquet",
                                  width=420, max_chars=LONGEST)  # fmt: skip
                    st.button("Take it", key="bt_take_path", on_click=_path)
                    if folders := auth.sources.config().batch_folders:
                        st.caption(plain(f"Folders: {', '.join(folders)}"))
        draw_refusal(REFUSAL)
    if uploaded is not None and attempt(REFUSAL, lambda: bt.pick(_of_upload(uploaded), usual())):
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


def spooled(stream: BinaryIO, name: str, origin: bt.Origin) -> Picked:
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
                asked = Options(prompt=SAMPLE_PROMPT, params={"max_tokens": SAMPLE_TOKENS, "temperature": 0.0})
                bt.pick(spooled(stream, SAMPLE.name, "sample"), asked)
        except OSError as error:
            raise ValueError(f"The sample cannot be read ({error.strerror}); the installation is not whole.") from None

    attempt(REFUSAL, take)


def _path() -> None:
    """Callback: a file that lies on the server, or in S3."""
    asked = (st.session_state.get(PATH) or "").strip()
    rule = allowed(auth.person_and_role())
    attempt(REFUSAL, lambda: bt.pick(named(asked, rule), usual()))


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


def named(asked: str, rule: server_files.Allowed | None) -> Picked:
    """The file that a path names. Raises ValueError in words when there is none that this person may name."""
    if asked.startswith(S3):
        if rule is None:
            raise ValueError(server_files.NOT_YOURS)
        name = asked.rstrip("/").rpartition("/")[2] or "file"
        return Picked(asked, name, f"{asked} {time.time_ns()}", 0, "s3")
    if not asked:
        raise ValueError("Write the path of a file on the server, like /data/prompts.csv, or s3://bucket/file.csv.")
    file = server_files.named(asked, rule)
    return Picked(file.path, file.name, file.key, file.n_bytes, "path")
