"""A file is read and checked in a thread of its own, once for everybody: how far that is, and what came of it.

A page never waits for a reading. The same file read in the same way is read once, whoever asks.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import streamlit as st

from app.batch import upload
from app.widgets.text import plain
from services import paths
from services.aws.control import AwsTrouble
from services.batch import server_files
from services.batch.ingest import fetch
from services.batch.server_files import Allowed
from services.batch.text import FORMATS, line
from services.batch.types import Checked, Fault, Options, Progress, options_to_json
from services.security import keys

QUICK_S, POLL_S = 0.6, 0.5  # a file that is read within the first is never seen being read

BEGAN = "bt_check_began"

T = TypeVar("T", bound=str)


def draw(file: upload.Picked, rule: Allowed | None) -> Checked | None:
    """What the file holds, once it has been read as it is to be read now. ``rule``: which of the server's."""
    reading = readings().of(file.path, file.key, upload.options(), rule)
    if not reading.wait(QUICK_S):
        st.session_state.setdefault(BEGAN, time.monotonic())
        with st.container(border=True):
            _watch(file, rule)
        return None
    st.session_state.pop(BEGAN, None)
    if reading.checked is None:
        _ended(reading, file)
        return None
    checked = upload.leave_out(reading.checked)
    with st.container(border=True):
        st.markdown("**What was found**")
        draw_report(checked)
        draw_reading_options(checked)
    return checked


@st.fragment(run_every=POLL_S, key="bt_check")
def _watch(file: upload.Picked, rule: Allowed | None) -> None:
    reading = readings().of(file.path, file.key, upload.options(), rule)
    if reading.over:
        st.rerun()
    progress = reading.progress
    with st.container(horizontal=True, vertical_alignment="center"):
        if progress is None:
            st.progress(0.0, text="Waiting for its turn: other files are being read.")
        else:
            share = progress.done_bytes / progress.all_bytes if progress.all_bytes else 0.0
            time_left = rate_words(
                progress.done_bytes, progress.all_bytes, st.session_state.get(BEGAN, time.monotonic())
            )
            activity = "Copying it" if reading.fetching else f"Reading every line: {progress.n_records:,} so far"
            st.progress(min(share, 1.0), text=f"{activity} · {time_left}" if time_left else activity)
        st.button("Stop", key="bt_check_stop", icon=":material/stop:", on_click=reading.stop)


def _ended(reading: Checking, file: upload.Picked) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        reason = reading.trouble or "The check was stopped; nothing was sent."
        st.caption(f":red[:material/error: {plain(reason)}]" if reading.trouble else plain(reason), width="stretch")
        st.button(
            "Read it again",
            key="bt_check_again",
            icon=":material/refresh:",
            on_click=readings().forget,
            args=(file.key, upload.options()),
        )


DELIMITERS = {",": "comma  ,", ";": "semicolon  ;", "\t": "tab", "|": "bar  |"}

ENCODINGS = {"utf-8": "UTF-8", "cp1252": "Windows-1252"}

LINE = "Where the record begins in the file: a text with line breaks takes several of its lines."

_LINE = re.compile(r"((?:Line|Row) [\d,]+(?:, (?:column|byte) [\d,]+)?)(?:: |, )")


def draw_report(checked: Checked) -> None:
    """What was found."""
    if checked.refused:
        st.caption(f":red[:material/error: {plain(checked.refused)}]")
        choices(checked)
        return
    st.markdown(plain(line(checked)))
    for notice in checked.notices:
        st.caption(f":material/info: {plain(notice)}")
    if checked.n_faults:
        faults(checked)
    choices(checked)
    if checked.n_faults:
        _leave_out(checked)


def faults(checked: Checked) -> None:
    """The table of what is wrong, its first lines, and how many there are."""
    listed, bad = checked.faults, checked.n_records - checked.n_valid
    of = f"{bad:,} of {checked.n_records:,} lines cannot be sent" if bad > 0 else "This cannot be sent yet"
    truncation = f"; the first {len(listed)} of {checked.n_faults:,} faults" if checked.n_faults > len(listed) else ""
    st.markdown(f":red[:material/error:] **{of}**{truncation}", help=LINE)
    file_faults = [fault for fault in listed if fault.line is None]
    for fault in file_faults:
        st.caption(f":red[{plain(fault.text)}]")
    if rows := [fault for fault in listed if fault.line is not None]:
        # No table: its cells cut a sentence, and what to do stands at the end of it.
        with st.container(gap="xsmall", key="bt_faults"):
            for fault in rows:
                st.markdown(sentence(fault))


def sentence(fault: Fault) -> str:
    """A fault of a line as markdown: which line, what is wrong and what to do, and what was found where the sentence
    does not show it."""
    place, problem = _parted(fault)
    evidence = f" :gray[Found: {plain(fault.found)}]" if fault.found and fault.found not in problem else ""
    return f"**{plain(place or f'Line {fault.line:,}')}** · {plain(problem)}{evidence}"


def _parted(fault: Fault) -> tuple[str, str]:
    """("Line 12, column 17", "Not JSON …") of the whole sentence; nothing for the first where it names no line."""
    match = _LINE.match(fault.text)
    place, problem = ("", fault.text) if match is None else (match[1], fault.text[match.end() :])
    named = fault.field and problem.startswith(fault.field)  # its name in the file is not ours to write
    return place, problem if named else f"{problem[:1].upper()}{problem[1:]}"


def choices(checked: Checked) -> None:
    """The ways out that the check offers."""
    if checked.choices:
        with st.container(horizontal=True):
            for n, choice in enumerate(checked.choices):
                st.button(
                    plain(choice.label),
                    key=f"bt_choice_{n}",
                    icon=":material/auto_fix_high:",
                    on_click=upload.set_options,
                    args=(choice.options,),
                )


def _leave_out(checked: Checked) -> None:
    bad = checked.n_records - checked.n_valid
    if not checked.n_valid or bad <= 0:
        return
    st.toggle(
        leave_out_label(bad),
        key=upload.widget("leave_out"),
        on_change=_set,
        args=("leave_out",),
        help="Or mend the file and choose it again: nothing has been sent.",
    )


def leave_out_label(bad: int) -> str:
    """What the switch says that leaves ``bad`` lines out."""
    return f"Leave out the {bad:,} that cannot be sent"


def draw_reading_options(checked: Checked) -> None:
    """How the file is read, for whoever knows better than the recognition."""
    kind = upload.options().format or checked.format
    with st.expander("How the file is read", icon=":material/tune:", key="bt_reading"):
        with st.grid(4, gap="small"):
            recognised = f"recognised: {FORMATS[checked.format]}" if checked.format else "recognised"
            _select("Format", "format", list(FORMATS), FORMATS.__getitem__, recognised)
            if kind in ("csv", "tsv", None):
                mark = DELIMITERS.get(checked.options.delimiter or "")
                _select(
                    "Delimiter",
                    "delimiter",
                    list(DELIMITERS),
                    DELIMITERS.__getitem__,
                    f"recognised: {mark}" if mark else "recognised",
                )
            if kind not in ("parquet", "excel"):
                st.selectbox(
                    "Encoding",
                    list(ENCODINGS),
                    key=upload.widget("encoding"),
                    on_change=_set,
                    format_func=ENCODINGS.__getitem__,
                    args=("encoding",),
                )
            _select(
                "Column of ids",
                "id_column",
                list(checked.columns),
                str,
                "id, else the line's number",
                "What you know a line by. Results stay in the order of the file.",
            )
            if kind == "excel":
                st.text_input(
                    "Sheet", key=upload.SHEET, placeholder="the first", on_change=_set, args=("sheet", upload.SHEET)
                )
        st.toggle(
            "Number double ids instead of refusing them",
            key=upload.widget("suffix_ids"),
            on_change=_set,
            args=("suffix_ids",),
        )


def _select(
    label: str, name: str, values: Sequence[T], words: Callable[[T], str], placeholder: str, help: str | None = None
) -> None:
    key = upload.widget(name)
    if st.session_state.get(key) not in (None, *values):  # a widget refuses what is not among its options any more
        st.session_state[key] = None
    st.selectbox(
        label,
        values,
        index=None,
        key=key,
        format_func=words,
        placeholder=placeholder,
        on_change=_set,
        args=(name,),
        help=help,
    )


def _set(name: str, key: str | None = None) -> None:
    value = st.session_state.get(key or upload.widget(name))
    upload.change(**{name: value if isinstance(value, bool) else value or None})


KEPT = 60  # readings; each holds a few examples, never the file

AT_ONCE = 2  # further ones wait: a reading keeps a processor busy

FAILED = "The file could not be read to its end; nothing was sent. Read it again, and see the log if that is in vain."

Check = Callable[..., Checked]


def same(file_key: str, options: Options) -> str:
    """What makes two readings the same. Leaving lines out changes what is sent, not what is found."""
    return json.dumps([file_key, options_to_json(replace(options, leave_out=False))], sort_keys=True, default=str)


class Checking:
    """One reading. ``checked`` or ``trouble`` is there once it is ``over``; neither when it was stopped."""

    def __init__(
        self, file: Callable[[Checking], Path], options: Options, check: Check, turn: threading.Semaphore
    ) -> None:
        self.checked: Checked | None = None
        self.trouble: str | None = None
        self.progress: Progress | None = None
        self.stopped = False
        self.fetching = False
        self._file, self._options, self._check, self._turn = file, options, check, turn
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True, name="batch check")
        self._thread.start()

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._over.is_set()

    def wait(self, seconds: float) -> bool:
        """Whether it ends within so many seconds."""
        return self._over.wait(seconds)

    def stop(self) -> None:
        """Ask it to end at the next record."""
        self.stopped = True

    def _read(self) -> None:
        try:
            while not self._turn.acquire(timeout=0.1):
                if self.stopped:
                    return
            try:
                path = self._file(self)
                if not self.stopped:
                    checked = self._check(
                        path, self._options, on_progress=self.set_progress, stopped=lambda: self.stopped
                    )
                    self.checked = None if self.stopped else checked
            finally:
                self._turn.release()
        except (AwsTrouble, ValueError) as error:
            self.trouble = str(error)
        except Exception as error:
            if self.stopped:  # which is how the reading ends itself then
                return
            logging.getLogger(__name__).warning("A file could not be checked: %s", keys.scrub(repr(error)))
            self.trouble = FAILED
        finally:
            self._over.set()

    def set_progress(self, progress: Progress) -> None:
        """How far it has come."""
        self.progress = progress


class Readings:
    """The readings that are under way and the newest that are over."""

    def __init__(self, check: Check | None = None) -> None:
        self._check = check
        self._lock = threading.Lock()
        self._turn = threading.Semaphore(AT_ONCE)
        self._known: OrderedDict[str, Checking] = OrderedDict()
        self._fetched: dict[str, Path] = {}

    def of(self, path: Path | str, file_key: str, options: Options, rule: Allowed | None = None) -> Checking:
        """The reading of a file with these options: the one that there is, or a new one. A stopped or failed one is
        begun again only after `forget`. A path that is a text lies in S3 or in a folder of the server's: what
        ``rule`` allows of that is copied first, once."""
        reading_key = same(file_key, options)
        with self._lock:
            if reading_key not in self._known:
                file = partial(self._file, path, file_key, rule)
                self._known[reading_key] = Checking(file, options, self._check or _check(), self._turn)
            self._known.move_to_end(reading_key)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)[1].stop()
            return self._known[reading_key]

    def _file(self, path: Path | str, file_key: str, rule: Allowed | None, reading: Checking) -> Path:
        if isinstance(path, Path):
            return path
        if rule is None:
            raise ValueError(server_files.NOT_YOURS)
        if file_key not in self._fetched or not self._fetched[file_key].exists():
            reading.fetching = True
            uploads = paths.data_dir() / "uploads"
            if path.startswith("s3://"):
                got = fetch(path, uploads, on_progress=reading.set_progress, stopped=lambda: reading.stopped)
            else:
                got = server_files.copied(
                    path, rule, uploads, on_progress=reading.set_progress, stopped=lambda: reading.stopped
                )
            self._fetched[file_key] = got
            reading.fetching = False
        return self._fetched[file_key]

    def forget(self, file_key: str, options: Options) -> None:
        """Read it anew when it is asked for next."""
        with self._lock:
            if reading := self._known.pop(same(file_key, options), None):
                reading.stop()


def _check() -> Check:
    from services.batch.files import check_settled

    return check_settled


@st.cache_resource
def readings() -> Readings:
    """The readings of this process."""
    return Readings()


def rate_words(done: int, total: int, began: float) -> str:
    """How long the rest takes at the speed so far: "about 12 s more"; nothing in the first second."""
    passed = time.monotonic() - began
    if passed < 1 or not done:
        return ""
    seconds_left = passed * (total - done) / done
    return f"about {seconds_left:,.0f} s more" if seconds_left >= 1 else "nearly done"
