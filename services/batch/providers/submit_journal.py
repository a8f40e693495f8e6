"""What is remembered of a submit, on disk and before it is tried, so that a lost answer or a killed process makes no
second job.

A mark is one small file for each token beside the batch's files. `Mark.doubt` says that a try was begun whose end is
not known: the service is then asked for the job before another one is made, and for `SETTLE_S` after that try nothing
is sent even if it is not found, because a service can list a job a little after it took it.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from services.batch.providers.common import write_atomically
from services.batch.types import Job, SubmitLater

SETTLE_S = 60.0


def id_of(job: Job) -> str:
    """What the service calls a job that was submitted. Raises ValueError for another."""
    if not job.vendor_id:
        raise ValueError("this job was not submitted yet")
    return job.vendor_id


def tag_of(token: str) -> str:
    """A token in 12 hexadecimal digits, for names of files and ids on the wire."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


@dataclass(slots=True)
class Mark:
    """``tried_at``: Unix seconds of the first and ``last_try_at`` of the last try. ``before``: ids of jobs that were
    there before the first one (None: not looked). ``lines``: how many were written (None: not counted). ``foreign``:
    jobs that proved not to be ours. ``sure``: ``vendor_id`` was told us or proved ours, and is no guess by time and
    length."""

    path: Path
    tag: str
    doubt: bool = False
    tried_at: float | None = None
    last_try_at: float | None = None
    before: list[str] | None = None
    vendor_id: str | None = None
    file_id: str | None = None
    lines: int | None = None
    foreign: list[str] = field(default_factory=list)
    sure: bool = True

    def trying(self) -> None:
        """A try begins now; on disk before it does."""
        now = time.time()
        self.doubt, self.last_try_at, self.tried_at = True, now, self.tried_at or now
        self.save()

    def settled(self, vendor_id: str | None = None, *, sure: bool = True) -> None:
        """The last try's end is known: this job, or none."""
        self.doubt, self.vendor_id, self.sure = False, vendor_id, sure
        self.save()

    def wait(self, service: str, settle_s: float) -> None:
        """Raises `SubmitLater` while a job that was not found may still turn up."""
        left = (self.last_try_at or 0.0) + settle_s - time.time()
        if left > 0:
            raise SubmitLater(
                f"The answer of {service} to our request was lost, and it does not list the job (yet). So that nothing "
                f"is paid twice, it is asked once more in {left:,.0f} s before the file is sent again.",
                left,
            )

    def save(self) -> None:
        """Write it, whole or not at all."""
        values = {name: value for name, value in asdict(self).items() if name not in ("path", "tag")}
        write_atomically(self.path, [json.dumps(values).encode()])


def mark_of(folder: Path, job: Job) -> Mark:
    """What is remembered of this job's token; of a try on another machine ``job.facts["tried_at"]`` tells."""
    tag = tag_of(job.token)
    path = folder / "jobs" / f"{job.no:04d}-{tag}.mark"
    values = _read(path)
    mark = Mark(path, tag, **{name: values[name] for name in Mark.__slots__ if name in values})
    tried = job.facts.get("tried_at")
    if not values and isinstance(tried, int | float):
        mark.doubt, mark.tried_at, mark.last_try_at = True, float(tried), float(tried)
    return mark


def results_path(folder: Path, job: Job, vendor_id: str) -> Path:
    """Where the results that the service calls ``vendor_id`` are kept. Its word is hashed: it is not ours, and could be
    a path."""
    return folder / "results" / f"{job.no:04d}-{tag_of(job.token)}-{tag_of(vendor_id)}.jsonl"


def claimed(folder: Path, but: Mark) -> set[str]:
    """Ids of jobs that belong to other submits of ours: of this batch and of those beside it. One that was only guessed
    hides nothing: its owner may be the one who looks for it."""
    return set(_ids(folder.parent, but.path))


def _ids(root: Path, but: Path) -> Iterator[str]:
    for path in root.glob("*/jobs/*.mark"):
        values = _read(path) if path != but else {}
        if isinstance(known := values.get("vendor_id"), str) and values.get("sure", True):
            yield known


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
