"""Our own runner: sends the lines of one batch from one worker, within its budget, with retries.

A service that asks to wait (throttled, overloaded, its model loading) is waited for as it asks, by all lanes. While it
answers nobody that is no line's fault: no line uses up its tries on it. After `PATIENT_S` without one answer, or when
it asks for a longer wait, the batch is paused and says so, because somebody may have to do something about it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Engine
from sqlmodel import Session

from db import batches
from db.batch_rows import AskJson, BatchChange, BatchRow, LineChange, LineRow
from db.writer import WriteFailed, Writer
from services import paths
from services.batch.concurrency import MOST, Lanes, Spacing, Turns
from services.batch.text import short_span
from services.batch.types import (
    LEASE_S,
    SOURCE,
    LineState,
    ask_of_line,
)
from services.call_record import CallCost, CallOutcome, CallRecord
from services.calls.calls import Calls, CallSpec, beginning, end
from services.calls.live import LiveCall
from services.deployments.registry import Registry
from services.embedded import EmbeddedPool, EmbeddedUnavailable
from services.engine_connection import EngineConnection, EngineError
from services.pricing import cost as pricing_cost
from services.security import keys
from services.security.keys import scrub
from services.types import Ask, Deployment, Json, Usage

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 1.0

T = TypeVar("T")

FIRST_WRITE_WAIT_S, LONGEST_WRITE_WAIT_S = 0.2, 10.0

ASKED_EVERY_S = 2.0  # at most: for the address of a server whose calls fail

EMBEDDED = "embedded://"


async def written(writer: Writer, unit: Callable[[Session], T]) -> T:
    """Write, and go on trying while the database cannot: an answer that was paid for must not be dropped."""
    wait = FIRST_WRITE_WAIT_S
    while True:
        try:
            return await writer.write(unit)
        except WriteFailed as error:
            log.warning("not recorded yet: %s", error)
        await asyncio.sleep(wait)
        wait = min(LONGEST_WRITE_WAIT_S, wait * 2)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a line after a call: its columns, seconds until it is tried again (None: it is not), and why
    the whole batch is to be paused (None: it is not)."""

    line: LineChange
    wait_s: float | None = None
    pause: str | None = None


@dataclass(slots=True)
class Ends:
    """What a call's end means for its line: ``judge`` tells it by the outcome and the answer; ``verdict`` is there once
    it is written."""

    batch_id: str
    no: int
    judge: Callable[[CallOutcome, str], Verdict]
    verdict: Verdict | None = None


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
            asked_at, address = self._known.get(name, (0.0, ""))
            if address and (name not in self._doubted or time.monotonic() - asked_at < ASKED_EVERY_S):
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
        engine = EngineConnection(paths.socket_path(self._data), person="worker", role="member")
        try:
            address, self._key = engine.embedded_server(name)
            keys.remember(self._key)
            return address
        except EngineError as error:
            raise EmbeddedUnavailable(str(error).rstrip(".")) from None
        finally:
            engine.close()


class LineCalls:
    """The calls of a worker: the end of each is written together with what becomes of its line."""

    def __init__(self, calls: Calls, writer: Writer, pool: EnginePool) -> None:
        self._calls = calls
        self._writer = writer
        self._pool = pool

    def prepare(self, spec: CallSpec) -> LiveCall:
        """A call of a line; its row is committed as the line is claimed."""
        return self._calls.prepare(spec)

    async def execute(self, call: LiveCall, ends: Ends) -> CallRecord:
        """Send a call whose row is committed, and end its line with it."""
        return await self._calls.execute(call, partial(self._write_end, ends))

    async def _write_end(self, ends: Ends, call: LiveCall, final: CallRecord) -> None:
        values = end(final)
        # The line keeps its answer also where the call's row may keep no text.
        verdict = ends.judge(final.outcome, "".join(call.progress.answer))

        def write(session: Session) -> bool:
            return batches.end_call(
                session=session,
                batch_id=ends.batch_id,
                no=ends.no,
                call_id=call.id,
                call=values,
                line=verdict.line,
            )

        await written(self._writer, write)
        ends.verdict = verdict
        if not final.outcome.succeeded and is_embedded(call.deployment):
            self._pool.doubt(call.deployment.base_url.removeprefix(EMBEDDED).strip("/"))


def is_embedded(deployment: Deployment) -> bool:
    """Whether a deployment is a server of the engine on the same machine."""
    return deployment.base_url.startswith(EMBEDDED)


@dataclass(frozen=True, slots=True)
class Around:
    """What a worker has for all of its batches. ``workers``: how many workers are alive, this one included."""

    worker: str
    writer: Writer
    reader: Engine
    registry: Registry
    calls: LineCalls
    workers: Counter[str]


class Sender:
    """Everything of one batch that is under way in this worker. Made and used on the worker's loop."""

    def __init__(self, around: Around, batch: BatchRow, deployment: Deployment) -> None:
        self._around = around
        self.batch = batch
        self.id = batch["id"]
        self.deployment = deployment
        self.lanes = Lanes(max_limit=self._share(batch["max_lanes"]) or MOST, objective_ms=batch["objective_ms"])
        self.turns = Turns(self.lanes, Spacing(self._share(batch["per_minute"])))
        self.purse = BudgetGuard(batch, deployment, around.reader, around.workers)
        self.stopping: asyncio.Future[bool] | None = None
        self._cancelled = False
        self._patience = RetryPolicy(deployment.name, self.turns)
        self._live: set[LiveCall] = set()
        self._last_lanes: int | None = None
        self._last_said: str | None = None

    # --- what the worker tells it ----------------------------------------------------------------------------------

    def look(self, batch: BatchRow | None) -> None:
        """The batch as it is in the records now; None when it is not there any more, or over."""
        target = "cancel" if batch is None else batch["wanted"]
        if batch is not None:
            self.batch = batch
            self.lanes.bound(self._share(batch["max_lanes"]) or MOST)
            self.turns.spacing.limit(self._share(batch["per_minute"]))
            self.purse.look(batch)
        if target != "run":
            self.turns.close()
        if target == "cancel" and not self._cancelled:
            self._cancelled = True
            self.abort()

    def abort(self, *, lab_stopped: bool = False) -> None:
        """End the calls under way. ``lab_stopped``: because the worker ends, not because a person wants it."""
        for call in list(self._live):
            call.abort("cancelled", lab_stopped=lab_stopped)

    def news(self) -> BatchChange:
        """What is another than the last time: ``lanes``, how many there are; ``said``, whether the service is waited
        for."""
        changed: BatchChange = {}
        lanes, said = self.lanes.limit, self._patience.said
        if lanes != self._last_lanes:
            self._last_lanes = changed["lanes"] = lanes
        if said != self._last_said:
            self._last_said = changed["said"] = said
        return changed

    @property
    def busy(self) -> bool:
        """Whether a line is under way."""
        return self.turns.in_use > 0

    def _share(self, allowed: int | None) -> int | None:
        """A worker's part of what was allowed for the batch."""
        return max(1, allowed // max(1, self._around.workers["alive"])) if allowed else None

    # --- lines -----------------------------------------------------------------------------------------------------

    async def send(self, first: int, last: int) -> None:
        """Send the lines ``first`` to ``last`` that are not over. Returns when they are, or when sending was stopped.

        Lines that another worker has in hand are waited for: it may be dead, and its lease runs out.
        """
        open_lines = await self._some(first, last, batches.OPEN)
        while open_lines and not self.turns.closed:
            tasks: list[asyncio.Task[bool]] = []
            try:
                for row in open_lines:
                    if not await self.turns.take():
                        break
                    if not await self._afford(row):
                        self.turns.release()
                        break
                    tasks.append(asyncio.create_task(self._line(row)))
                ours = await asyncio.gather(*tasks)
            except BaseException:
                for task in tasks:
                    task.cancel()
                raise
            if all(ours) or self.turns.closed:
                open_lines = [] if self.turns.closed else await self._some(first, last, batches.OPEN)
                continue
            await self.turns.sleep(LOOK_AGAIN_S)
            open_lines = await self._some(first, last, batches.OPEN)

    async def _some(self, first: int, last: int, states: tuple[str, ...]) -> deque[LineRow]:
        return deque(await asyncio.to_thread(batches.lines_between, self._around.reader, self.id, first, last, states))

    async def _afford(self, row: LineRow) -> bool:
        if await self.purse.take(row):
            return True
        await self.stop(self.purse.sentence())
        return False

    async def _line(self, row: LineRow) -> bool:
        """Send one line until it is over; it has a turn. False when another worker has it in hand."""
        tries = Tries()
        has_turn = True
        try:
            while True:
                verdict = await self._attempt(row, ask_of_line(row), tries)
                if verdict is None or verdict.wait_s is None:
                    return verdict is not None
                self.turns.release()
                has_turn = False
                await self.turns.sleep(verdict.wait_s)
                has_turn = await self.turns.take()
                if not has_turn:
                    return True
        finally:
            self.purse.give_back(row)
            if has_turn:
                self.turns.release()

    async def _attempt(self, row: LineRow, ask: Ask, tries: Tries) -> Verdict | None:
        """One call, and what becomes of the line. None when the line could not be claimed."""
        if self.turns.closed:
            return Verdict(WAITS)
        around = self._around
        call = around.calls.prepare(
            CallSpec(
                run_id=self.batch["run_id"],
                deployment=self.deployment,
                ask=ask,
                repetition=row["no"],
                person=self.batch["person"],
                source=SOURCE,
                retry_of=row["call_id"],
            )
        )
        values = beginning(call)

        def claim(session: Session) -> Json | None:
            return batches.claim(
                session=session, batch_id=self.id, no=row["no"], worker=around.worker, lease_s=LEASE_S, call=values
            )

        claimed = await written(around.writer, claim)
        if claimed is None:
            return None
        call.record = replace(call.record, attempt=claimed["attempt_no"], retry_of=claimed["retry_of"])
        row["call_id"] = call.id  # what the next attempt is a retry of
        refused = bool(values["request"]["refused"])
        ends = Ends(
            self.id,
            row["no"],
            lambda outcome, answer: self._patience.verdict(
                outcome, answer, tries, refused=refused, cancelled=self._cancelled
            ),
        )
        began = time.monotonic()
        self._live.add(call)
        try:
            call.task = asyncio.create_task(around.calls.execute(call, ends))
            if self._cancelled:
                self.abort()
            final = await call.task
        finally:
            self._live.discard(call)
        self.purse.paid(final.cost)
        timing = final.timing
        self.turns.ended(
            began=began,
            latency_ms=(timing.ttlt_ms or timing.end_ms) if final.outcome.succeeded else None,
            throttled=final.outcome.name == "throttled",
        )
        if ends.verdict is not None and ends.verdict.pause is not None:
            await self.stop(ends.verdict.pause)
        return ends.verdict

    async def stop(self, reason: str) -> None:
        """Pause the batch for a reason of ours; what is under way ends, nothing else is begun, in any worker."""
        if self.turns.closed:
            return
        self.turns.close()
        log.warning("batch %s: %s", self.id, scrub(reason))
        writing = written(self._around.writer, partial(_pause, self.id, scrub(reason)))
        self.stopping = asyncio.ensure_future(writing)
        await self.stopping

    async def settled(self) -> None:
        """Wait until a pause of ours stands in the records."""
        if self.stopping is not None:
            await self.stopping


def _pause(batch_id: str, reason: str, session: Session) -> bool:
    return batches.move(
        session=session, batch_id=batch_id, states=("queued", "running"), wanted="pause", state="pausing", said=reason
    )


CHARS_PER_TOKEN = 2.0  # of the dearest text there is: this is a bound and no estimate

OVERHEAD_TOKENS = 50  # around a request (`services.batch.estimate.Talk`), its first message included

MARKS_TOKENS = 6  # around each further message

OUTPUT_TOKENS = 4096  # where neither the line nor the service is told a limit

REFRESH_S = 5.0


class BudgetGuard:
    """What a batch may still spend in this worker. Without a budget, or without a price by the token, anything.

    Several workers share what is left evenly, from one look at the records to the next.
    """

    def __init__(self, batch: BatchRow, deployment: Deployment, reader: Engine, workers: Counter[str]) -> None:
        self._id = batch["id"]
        self._budget = batch["budget_nanousd"]
        self._reader = reader
        self._workers = workers
        price = pricing_cost.price_of(deployment, datetime.now(UTC))
        self._price = price if price is not None and price.per_hour is None else None
        self._spent: int | None = None  # of the records, at the last look
        self._looked = 0.0
        self._since = 0  # our own, since then
        self._in_hand: dict[int, int] = {}
        self._freed = asyncio.Event()

    def look(self, batch: BatchRow) -> None:
        """The batch as it is in the records now: its budget may be another."""
        self._budget = batch["budget_nanousd"]

    async def take(self, row: LineRow) -> bool:
        """Set aside the most that a line can cost; waits for lines in hand whose cost is not known yet.

        False when it does not fit although nothing is in hand any more.
        """
        if self._budget is None or self._price is None:
            return True
        cost = worst(row, self._price)
        while not await self._fits(cost):
            if not self._in_hand:
                return False
            self._freed.clear()
            await self._freed.wait()
        self._in_hand[row["no"]] = cost
        return True

    async def _fits(self, cost: int) -> bool:
        n = max(1, self._workers["alive"])
        if self._spent is None or (n > 1 and time.monotonic() - self._looked > REFRESH_S):
            self._spent = await asyncio.to_thread(batches.spent, self._reader, self._id) or 0
            self._looked, self._since = time.monotonic(), 0
        budget_left = (self._budget or 0) - self._spent
        return self._since + sum(self._in_hand.values()) + cost <= budget_left // n

    def give_back(self, row: LineRow) -> None:
        """The line is over, or is not sent after all."""
        if self._in_hand.pop(row["no"], None) is not None:
            self._freed.set()

    def paid(self, cost: CallCost) -> None:
        """What a call has cost, at most."""
        self._since += cost.high_nanousd or cost.nanousd or 0

    def sentence(self) -> str:
        """Why nothing more is sent."""
        spent = (self._spent or 0) + self._since
        return (
            f"Paused: {pricing_cost.money(spent)} of the budget of {pricing_cost.money(self._budget)} are spent, and "
            "the next "
            "line could pass it. Raise the budget and resume, or cancel; what was answered is kept."
        )


def worst(row: LineRow, price: pricing_cost.Price) -> int:
    """The most that a line can cost, in nano-dollars."""
    request: AskJson = row["request"] or {"messages": []}
    turns = request["messages"]
    chars = len(request.get("system") or "") + sum(len(message["text"]) for message in turns)
    max_tokens = request.get("params", {}).get("max_tokens")
    usage = Usage(
        uncached_input=round(chars / CHARS_PER_TOKEN) + OVERHEAD_TOKENS + MARKS_TOKENS * max(len(turns) - 1, 0),
        answer_output=max_tokens if isinstance(max_tokens, int) else OUTPUT_TOKENS,
        source="estimated",
    )
    return pricing_cost.cost(usage, price, complete=True).nanousd or 0


# How often a line is tried once more after each of these. What is not here ends the line at once.
AGAIN: Mapping[str, int] = {
    "throttled": 5,
    "overloaded": 5,
    "not_ready": 5,
    "unreachable": 5,
    "proxy_error": 5,
    "stream_error": 2,
    "truncated": 2,
    "timeout_connect": 2,
    "timeout_headers": 2,
    "timeout_first_token": 2,
    "timeout_idle": 2,
    "timeout_total": 1,
    "http_error": 2,
}


UNREACHED = frozenset({"unreachable", "proxy_error"})

ASKS_TO_WAIT = frozenset({"throttled", "overloaded", "not_ready"})  # nobody is sent for a while


# The same for every line: the batch is paused until somebody has seen to it.
BLOCKING = frozenset({"unauthorised", "quota_exhausted", "not_found", "config_error"})


# Calls that fail one after the other, none succeeding in between, before the batch is paused. Less where nothing can be
# reached at all: a line must not use up its tries on that.
MOST_FAILED, MOST_UNREACHABLE = 12, 6


FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 20.0

PATIENT_S = max(0.1, float(os.environ.get("LAB_BATCH_PATIENCE", "300")))

SAID_AFTER_S = 5.0  # shorter refusals are a part of finding the right number of lanes

RESUME = "Resume when it is well again."

WAITS: LineChange = {"state": "waiting", "worker": None, "lease_until": None}


@dataclass(slots=True)
class Tries:
    """How often a line has failed in this worker, by outcome. ``answered``: how many others had been answered when it
    was asked to wait last."""

    counts: Counter[str] = field(default_factory=Counter)
    answered: int | None = None

    def one_more(self, outcome: str) -> bool:
        """Count a failure; whether the line may be tried once more."""
        self.counts[outcome] += 1
        return self.counts[outcome] <= AGAIN[outcome] and self.counts.total() <= max(AGAIN.values())


class RetryPolicy:
    """The judgement of one batch in one worker. ``name``: of the deployment. Call `verdict` for every call that ended;
    ``patient_s``: so long nothing need be answered."""

    def __init__(self, name: str, turns: Turns, patient_s: float = PATIENT_S) -> None:
        self._name = name
        self._turns = turns
        self._patient_s = patient_s
        self._answered = 0
        self._failed_in_a_row = 0
        self._refused_at: float | None = None  # since then the service has asked everybody to wait
        self._said = ""

    @property
    def said(self) -> str | None:
        """That the service is waited for, in a sentence; None while it is not, or not for long."""
        if self._refused_at is None or time.monotonic() - self._refused_at < SAID_AFTER_S:
            return None
        return self._said

    def verdict(self, ended: CallOutcome, answer: str, tries: Tries, *, refused: bool, cancelled: bool) -> Verdict:
        """What the end of a call means for its line, which had this ``answer``. ``refused``: the request could not even
        be made; ``cancelled``: the person has cancelled the batch."""
        outcome = str(ended.name)
        if ended.succeeded:
            self._answered += 1
            self._failed_in_a_row, self._refused_at = 0, None
            return Verdict(over(ended, answer, "succeeded"))
        if outcome == "cancelled":
            # By the person: the line is cancelled. Because the worker is stopped: somebody else sends it.
            return Verdict(over(ended, answer, "cancelled") if cancelled else WAITS)
        if outcome in ASKS_TO_WAIT:
            return self._asked_to_wait(ended, answer, outcome, tries)
        if not refused:
            self._failed_in_a_row += 1
        if outcome in BLOCKING and not refused and (not self._answered or self._failed_in_a_row > 1):
            return Verdict(WAITS, pause=f"Paused: {ended.message} Then resume.")
        if outcome not in AGAIN or (outcome == "http_error" and (ended.http_status or 0) < 500):
            self._refused_at = None  # it does answer
            return Verdict(over(ended, answer, "failed"))
        return self._failed(ended, answer, outcome, tries)

    def _failed(self, ended: CallOutcome, answer: str, outcome: str, tries: Tries) -> Verdict:
        lanes = self._turns.lanes.limit
        max_failures = MOST_UNREACHABLE if outcome in UNREACHED else MOST_FAILED
        if self._failed_in_a_row >= max(max_failures, 2 * lanes if lanes > 1 else 0):
            sentence = f"Paused: {self._failed_in_a_row} calls in a row failed. The last one: {ended.message}"
            return Verdict(WAITS, pause=f"{sentence} {RESUME}")
        if not tries.one_more(outcome):
            return Verdict(over(ended, answer, "failed"))
        retry_after_s = ended.retry_after_s
        if outcome in UNREACHED:
            return Verdict(WAITS, wait_s=self._turns.pause(retry_after_s))
        wait = retry_after_s or min(LONGEST_WAIT_S, FIRST_WAIT_S * 4 ** (tries.counts[outcome] - 1))
        return Verdict(WAITS, wait_s=wait)

    def _asked_to_wait(self, ended: CallOutcome, answer: str, outcome: str, tries: Tries) -> Verdict:
        # A line counts it only when others were answered meanwhile: then it may be too large for what is allowed.
        if tries.answered != self._answered:
            tries.answered = self._answered
            if not tries.one_more(outcome):
                return Verdict(over(ended, answer, "failed"))
        now = time.monotonic()
        if self._refused_at is None:
            self._refused_at = now
            since = f"{datetime.now(UTC):%H:%M} UTC"
            self._said = (
                f"Waiting since {since}: {ended.message} If nothing is answered for "
                f"{short_span(self._patient_s)}, the batch is paused."
            )
        wait = self._turns.pause(ended.retry_after_s)
        if now + wait - self._refused_at <= self._patient_s:
            return Verdict(WAITS, wait_s=wait)
        lasted, retry_after_s = now - self._refused_at, ended.retry_after_s
        long = f"has answered nothing for {short_span(lasted)}" if lasted >= 1 else "answers nothing"
        asks = f" and asks for a wait of {short_span(retry_after_s)}" if retry_after_s else ""
        sentence = f"Paused: {self._name} {long}{asks}. The last one: {ended.message} No line was given up for it."
        return Verdict(WAITS, pause=f"{sentence} {RESUME}")


def over(ended: CallOutcome, answer: str, state: LineState) -> LineChange:
    """A line that is over after this call."""
    return {
        "state": state,
        "outcome": ended.name,
        "message": ended.message,
        "answer": answer or None,
        "lease_until": None,
        "ended_at": datetime.now(UTC),
    }
