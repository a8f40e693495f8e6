"""Calls whose end is written together with the end of the line they were made for, in one transaction."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlmodel import Session

from db import batches
from db.writer import WriteFailed, Writer
from services import paths
from services.calls.calls import Calls
from services.calls.live import LiveCall
from services.client import EngineClient, EngineError
from services.embedded import EmbeddedPool, EmbeddedUnavailable
from services.security import keys
from services.types import Deployment

log = logging.getLogger(__name__)
T = TypeVar("T")
Row = dict[str, Any]
FIRST_WAIT_S, LONGEST_WAIT_S = 0.2, 10.0
ASKED_EVERY_S = 2.0  # at most: for the address of a server whose calls fail
EMBEDDED = "embedded://"


async def written(writer: Writer, unit: Callable[[Session], T]) -> T:
    """Write, and go on trying while the database cannot: an answer that was paid for must not be dropped."""
    wait = FIRST_WAIT_S
    while True:
        try:
            return await writer.write(unit)
        except WriteFailed as error:
            log.warning("not recorded yet: %s", error)
        await asyncio.sleep(wait)
        wait = min(LONGEST_WAIT_S, wait * 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a line after a call: its columns, seconds until it is tried again (None: it is not), and why
    the whole batch is to be paused (None: it is not)."""

    line: Row
    wait_s: float | None = None
    pause: str | None = None


@dataclass(slots=True)
class Ends:
    """What a call's end means for its line; ``verdict`` is there once it is written."""

    batch_id: str
    no: int
    judge: Callable[[Row], Verdict]
    verdict: Verdict | None = None


class LineCalls(Calls):
    """The calls of a worker."""

    _ends: dict[str, Ends]
    _pool: EnginePool

    def follow(self) -> None:
        """Begin with no call under way."""
        self._ends = {}

    async def live_line(self, call: LiveCall, ends: Ends) -> None:
        """Live through a call whose row is committed, and end its line with it."""
        self._ends[call.id] = ends
        try:
            await self.live_through(call)
        finally:
            del self._ends[call.id]

    async def _finish(self, call: LiveCall, values: Row) -> None:
        ends = self._ends[call.id]
        told = values | {"answer": "".join(call.progress.answer)}  # also where the call's row may keep no text
        verdict = ends.judge(told)
        await written(self._writer, partial(_end, ends, call.id, values, verdict.line))
        ends.verdict = verdict
        if values.get("state") != "succeeded" and is_embedded(call.deployment):
            self._pool.doubt(call.deployment.base_url.removeprefix(EMBEDDED).strip("/"))
        call.final = values | {
            "repetition": call.repetition, "attempt_no": call.attempt, "column_no": call.column, "id": call.id,
        }  # fmt: skip


def _end(ends: Ends, call_id: str, values: Row, line: Row, session: Session) -> bool:
    return batches.end_call(
        session=session, batch_id=ends.batch_id, no=ends.no, call_id=call_id, call=values, line=line
    )


class EnginePool(EmbeddedPool):
    """The embedded servers as a worker sees them: those of the engine on the same data directory.

    An address is kept until a call to it does not succeed (`doubt`): a server that is started again has another.
    """

    def __init__(self, data: Path) -> None:
        super().__init__((), log_dir=data / "logs")
        self._data = data
        self._known: dict[str, tuple[float, str]] = {}  # when it was asked for, and what it is
        self._doubted: set[str] = set()
        self._asking = asyncio.Lock()

    def lacks(self, name: str) -> str | None:
        """Whether the engine has it is found out when it is asked for its address."""
        return None

    async def url(self, name: str) -> str:
        """The address of a server, asked of the engine. Raises `EmbeddedUnavailable` in words."""
        async with self._asking:
            asked, address = self._known.get(name, (0.0, ""))
            if address and (name not in self._doubted or time.monotonic() - asked < ASKED_EVERY_S):
                return address
            address = await asyncio.to_thread(self._ask, name)
            self._known[name] = time.monotonic(), address
            self._doubted.discard(name)
            return address

    def doubt(self, name: str) -> None:
        """A call to this server did not succeed."""
        self._doubted.add(name)

    @property
    def key(self) -> str:
        """The key of the engine's servers, once one of them was asked for its address."""
        return self._key

    def _ask(self, name: str) -> str:
        client = EngineClient(paths.socket_path(self._data), person="worker", role="member")
        try:
            address, self._key = client.batches.embedded_server(name)
            keys.remember(self._key)
            return address
        except EngineError as error:
            raise EmbeddedUnavailable(str(error).rstrip(".")) from None
        finally:
            client.close()


def is_embedded(deployment: Deployment) -> bool:
    """Whether a deployment is a server of the engine on the same machine."""
    return deployment.base_url.startswith(EMBEDDED)
