"""What was sent to an asynchronous endpoint, line by line: a file that is only ever appended to.

A record is ``{"no": 7}`` before a line is sent, ``{"no": 7, "out": "s3://…", "fail": "s3://…"}`` when SageMaker took
it, ``{"no": 7, "refused": "…"}`` when it did not, ``{"no": 7, "free": true}`` when it did not for now. A record that a
killed process left half written is no record.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import orjson

from services.batch.types import Job
from services.providers.decoder import loads


class Sent(NamedTuple):
    """Where a line's answer comes, and where what went wrong with it would; None: SageMaker has not said."""

    out: str
    fail: str | None


class Ledger:
    """The ledger of one job. Open it with ``with`` to write; reading needs no more than `read`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: dict[int, Sent] = {}
        self.refused: dict[int, str] = {}
        self.tried: set[int] = set()
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None

    @staticmethod
    def of(job: Job) -> Path | None:
        """Where a job's ledger is, as its facts say."""
        known = job.facts.get("ledger")
        return Path(known) if isinstance(known, str) else None

    @property
    def doubtful(self) -> set[int]:
        """Lines that were on their way when the last try ended."""
        return self.tried - self.sent.keys() - self.refused.keys()

    def read(self) -> Self:
        """Take in what the file holds. Raises OSError when it cannot be read."""
        for raw in self.path.read_bytes().splitlines():
            row = loads(raw)
            if isinstance(row, dict) and isinstance(row.get("no"), int):
                self._take(row)
        return self

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")
        if self.path.exists():
            self.read()
        self._file = self.path.open("ab")
        if not whole:
            self._file.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add_try(self, no: int) -> None:
        """A line is about to be sent."""
        self._add({"no": no})

    def add_sent(self, no: int, sent: Sent) -> None:
        """SageMaker took a line."""
        self._add({"no": no, "out": sent.out, **({"fail": sent.fail} if sent.fail else {})})

    def add_refused(self, no: int, why: str) -> None:
        """SageMaker did not take a line."""
        self._add({"no": no, "refused": why})

    def add_free(self, no: int) -> None:
        """SageMaker said that it takes a line not now: it is as if it had never been sent."""
        self._add({"no": no, "free": True})

    def _add(self, row: dict[str, Any]) -> None:
        with self._lock:
            if self._file is None:
                raise RuntimeError("the ledger is not open")
            self._file.write(orjson.dumps(row) + b"\n")
            self._file.flush()
            self._take(row)

    def _take(self, row: dict[str, Any]) -> None:
        no: int = row["no"]
        self.tried.add(no)
        if row.get("free") is True:
            self.tried.discard(no)
        elif isinstance(row.get("out"), str):
            fail = row.get("fail")
            self.sent[no] = Sent(row["out"], fail if isinstance(fail, str) else None)
        elif isinstance(row.get("refused"), str):
            self.refused[no] = row["refused"]
