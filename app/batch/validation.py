"""Reading a file in a thread of its own: how far it has come, how to stop it, and what was found, kept for everybody.

A page never waits for a reading. The same file read in the same way is read once, whoever asks.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import streamlit as st

from services import paths
from services.aws.explain import AwsTrouble
from services.batch import server_files
from services.batch.fetch import fetch
from services.batch.server_files import Allowed
from services.batch.types import Checked, Options, Progress, options_to_json
from services.security import keys

KEPT = 60  # readings; each holds a few examples, never the file
AT_ONCE = 2  # further ones wait: a reading keeps a processor busy
FAILED = "The file could not be read to its end; nothing was sent. Read it again, and see the log if that is in vain."
Check = Callable[..., Checked]


def same(file_key: str, options: Options) -> str:
    """What makes two readings the same. Leaving lines out changes what is sent, not what is found."""
    return json.dumps([file_key, options_to_json(replace(options, leave_out=False))], sort_keys=True, default=str)


class Checking:
    """One reading. ``found`` or ``trouble`` is there once it is ``over``; neither when it was stopped."""

    def __init__(
        self, file: Callable[[Checking], Path], options: Options, check: Check, turn: threading.Semaphore
    ) -> None:  # fmt: skip
        self.found: Checked | None = None
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
                    found = self._check(path, self._options, told=self.told, stopped=lambda: self.stopped)
                    self.found = None if self.stopped else found
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

    def told(self, progress: Progress) -> None:
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
        at = same(file_key, options)
        with self._lock:
            if at not in self._known:
                file = partial(self._file, path, file_key, rule)
                self._known[at] = Checking(file, options, self._check or _check(), self._turn)
            self._known.move_to_end(at)
            while len(self._known) > KEPT:
                self._known.popitem(last=False)[1].stop()
            return self._known[at]

    def _file(self, path: Path | str, file_key: str, rule: Allowed | None, reading: Checking) -> Path:
        if isinstance(path, Path):
            return path
        if rule is None:
            raise ValueError(server_files.NOT_YOURS)
        if file_key not in self._fetched or not self._fetched[file_key].exists():
            reading.fetching = True
            uploads = paths.data_dir() / "uploads"
            if path.startswith("s3://"):
                got = fetch(path, uploads, told=reading.told, stopped=lambda: reading.stopped)
            else:
                got = server_files.copied(path, rule, uploads, told=reading.told, stopped=lambda: reading.stopped)
            self._fetched[file_key] = got
            reading.fetching = False
        return self._fetched[file_key]

    def forget(self, file_key: str, options: Options) -> None:
        """Read it anew when it is asked for next."""
        with self._lock:
            if known := self._known.pop(same(file_key, options), None):
                known.stop()


def _check() -> Check:
    from services.batch.reading_options import check

    return check


@st.cache_resource
def readings() -> Readings:
    """The readings of this process."""
    return Readings()


def rate_words(done: int, whole: int, began: float) -> str:
    """How long the rest takes at the speed so far: "about 12 s more"; nothing in the first second."""
    passed = time.monotonic() - began
    if passed < 1 or not done:
        return ""
    left = passed * (whole - done) / done
    return f"about {left:,.0f} s more" if left >= 1 else "nearly done"
