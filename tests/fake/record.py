"""What the fake server remembers of each request: when each byte left, and when the client went away."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from services.types import Wire
from tests.fake.scripts import CONTENT, Mark, Script


@dataclass(slots=True)
class Record:
    """One request. Every time is `perf_counter_ns` (CLOCK_MONOTONIC: the same in every process); 0 = not yet.

    ``marks[i]`` and ``sizes[i]`` belong to the write stamped ``stamps[i]``, taken just before the bytes are handed
    to the kernel. ``aborted``: the client went away before the response was over.
    """

    id: int
    connection: int
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    json: dict[str, Any]
    wire: Wire | None = None
    script: Script | None = None
    status: int = 0
    first_byte_ns: int = 0
    received_ns: int = 0
    head_ns: int = 0
    stamps: list[int] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    terminal_ns: int = 0
    end_ns: int = 0
    disconnect_ns: int = 0
    aborted: bool = False
    concurrent: int = 0  # model requests under way when this one came, itself included

    @property
    def done(self) -> bool:
        """The response is over, whoever ended it."""
        return bool(self.end_ns or self.disconnect_ns)

    @property
    def content_ns(self) -> list[int]:
        """Stamps of the writes that completed a content delta."""
        return [ns for ns, mark in zip(self.stamps, self.marks, strict=True) if mark in CONTENT]

    def to_json(self) -> dict[str, Any]:
        """For the control endpoint: the same names, ``writes`` as [ns, mark, size]."""
        return {
            "id": self.id,
            "connection": self.connection,
            "method": self.method,
            "path": self.path,
            "headers": self.headers,
            "json": self.json,
            "body_bytes": len(self.body),
            "wire": self.wire,
            "model": self.script.model() if self.script else None,
            "status": self.status,
            "first_byte_ns": self.first_byte_ns,
            "received_ns": self.received_ns,
            "head_ns": self.head_ns,
            "writes": list(zip(self.stamps, self.marks, self.sizes, strict=True)),
            "terminal_ns": self.terminal_ns,
            "end_ns": self.end_ns,
            "disconnect_ns": self.disconnect_ns,
            "aborted": self.aborted,
            "done": self.done,
            "concurrent": self.concurrent,
        }


@dataclass(frozen=True, slots=True)
class CanaryHit:
    """Somebody fetched something that nobody should have."""

    ns: int
    method: str
    path: str
    headers: dict[str, str]
