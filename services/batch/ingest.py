"""A batch recorded line by line: its file taken over, checked once more, and read as a stream into the database.

Until the last line is there a batch has ``n_lines`` 0, and no worker touches it. What a crash broke off is gone on with
at the next start, from the first line that is missing.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from db import batches, runs
from db.writer import Writer
from services.batch import budget, files
from services.batch.types import Checked, Record, ask_to_json, options_of_json, options_to_json
from services.security.keys import scrub

log = logging.getLogger(__name__)
Row = dict[str, Any]
AT_ONCE = 1000  # lines in one transaction
BREATH_S = 0.005  # between two of them: the writer has others waiting
TELL_EVERY_S = 1.0
CHANGED = "The file changed since it was checked: check it again, then submit it."


class Dropped(Exception):
    """The batch was cancelled, or its recording is to be gone on with later."""


def keep_file(source: Path, folder: Path, *, linked: bool) -> Path:
    """The file as ``folder/input.<ext>``, whole or not at all. ``linked``: it is ours and nobody changes it.

    Raises ValueError in words when the disk does not take it.
    """
    target = _target(source, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return target
        if linked:
            try:
                os.link(source, target)
            except OSError:  # another disk
                pass
            else:
                return target
        part = folder / ".part"
        shutil.copyfile(source, part)
        part.replace(target)
    except OSError as error:
        raise _not_stored(source, error) from None
    return target


def _target(source: Path, folder: Path) -> Path:
    return folder / f"input{''.join(source.suffixes[-2:])[:16] or '.txt'}"


def _not_stored(source: Path, error: OSError) -> ValueError:
    return ValueError(f"{source.name} could not be stored ({error.strerror}); make room, then submit again.")


def kept_file(folder: Path) -> Path | None:
    """The file that `keep_file` made; None where it never came to that."""
    return next(iter(sorted(folder.glob("input.*"))), None)


def refusal(checked: Checked) -> str | None:
    """Why the lines of a checked file cannot be sent as things stand, in a sentence; None when they can."""
    if checked.refused is not None:
        return checked.refused
    if checked.n_valid == 0:
        return checked.faults[0].text if checked.faults else "No line of this file can be sent."
    if not checked.sendable:
        first = f" The first: {checked.faults[0].text}" if checked.faults else ""
        return (
            f"{checked.n_faults:,} of {checked.n_records:,} lines cannot be sent: mend them, or choose to send the "
            f"{checked.n_valid:,} valid ones.{first}"
        )
    return None


class Recording:
    """Records the lines of batches; everything here blocks and is called in threads. ``estimate``: of a batch whose
    file was checked only now."""

    def __init__(
        self, writer: Writer, reader: Engine, stopped: Callable[[], bool],
        estimate: Callable[[Row, Checked], Row | None],
    ) -> None:  # fmt: skip
        self._writer = writer
        self._reader = reader
        self._stopped = stopped
        self._estimate = estimate

    def record(self, batch: Row, path: Path, *, checked: Checked | None) -> int:
        """Record every line of ``path``; returns how many there are. ``checked`` None: it is checked first.

        Raises ValueError in words for a file that cannot be sent, `Dropped` when there is no need to go on.
        """
        estimate: Row | None = None
        if checked is None:
            self._say(batch["id"], "The file is being checked.")
            checked = self._check(batch, path)
            estimate = self._estimate(batch, checked)
        last = batches.last_no(self._reader, batch["id"])
        told = time.monotonic()
        coming: Iterator[Record] = (one for one in files.records(path, checked.options) if one.no > last)
        n = last
        while part := list(islice(coming, AT_ONCE)):
            self._go_on(batch["id"])
            self._writer.submit(partial(_insert, [_line(batch["id"], one) for one in part])).result()
            n = part[-1].no
            if time.monotonic() - told > TELL_EVERY_S:
                self._say(batch["id"], f"Recording: {n:,} of {checked.n_valid:,} lines.")
                told = time.monotonic()
            time.sleep(BREATH_S)
        if n == 0:
            raise ValueError("No line of this file can be sent.")
        self._writer.submit(partial(_complete, batch, n, checked, estimate)).result()
        return n

    def _check(self, batch: Row, path: Path) -> Checked:
        checked = files.check(
            path, options_of_json(batch["options"] or {}), file_name=batch["file_name"], stopped=self._stopped
        )
        if checked.sha256 and checked.sha256 != batch["file_sha256"]:
            raise ValueError(CHANGED)
        if (why := refusal(checked)) is not None:
            raise ValueError(why)
        return checked

    def _go_on(self, batch_id: str) -> None:
        if self._stopped():
            raise Dropped
        row = batches.batch(self._reader, batch_id)
        if row is None or row["wanted"] == "cancel" or row["state"] in batches.OVER:
            raise Dropped

    def _say(self, batch_id: str, said: str) -> None:
        self._writer.submit(partial(_say, batch_id, said)).result()

    def fail(self, batch_id: str, said: str) -> None:
        """The batch cannot be recorded, and so it is over."""
        self._writer.submit(partial(_fail, batch_id, scrub(said))).result()


def _line(batch_id: str, one: Record) -> Row:
    return {
        "batch_id": batch_id, "no": one.no, "line": one.line, "record_id": one.id, "state": "waiting", "attempts": 0,
        "request": ask_to_json(one.ask), "original": dict(one.original),
    }  # fmt: skip


def _insert(rows: list[Row], session: Session) -> None:
    batches.insert_lines(session=session, rows=rows)


def _say(batch_id: str, said: str, session: Session) -> None:
    batches.set_batch(session=session, batch_id=batch_id, said=said)


def _complete(batch: Row, n: int, checked: Checked, estimate: Row | None, session: Session) -> None:
    """Every line is there. Of a file that was too large to be checked at the submit, the question of the budget is
    asked now: the batch waits, and whoever resumes it has answered."""
    told: Row = {} if estimate is None else {"estimate": estimate}
    batches.set_batch(
        session=session, batch_id=batch["id"], n_lines=n, n_left_out=max(0, checked.n_records - checked.n_valid),
        columns=list(checked.columns), options=options_to_json(checked.options), said=None, **told,
    )  # fmt: skip
    runs.set_run_calls(session=session, run_id=batch["run_id"], n_calls=n)
    dear = budget.above(estimate, batch["budget_nanousd"])
    if dear is None or budget.confirmed(estimate):
        return
    said = f"Paused before the first line. {dear}. {budget.ASK}"
    waits = partial(batches.move, session=session, batch_id=batch["id"], said=said)
    # One that was paused by hand meanwhile is paused for this reason too.
    _ = waits(states=["queued"], wanted="pause", state="paused") or waits(states=["paused"], while_wanted="pause")


def _fail(batch_id: str, said: str, session: Session) -> None:
    batches.end_batch(session=session, batch_id=batch_id, state="failed", said=said, left="failed")
