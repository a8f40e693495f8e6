"""Watches the alerts: measures them in a thread when something can have changed, and tells whoever is to be told."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as SqlEngine

from db import history, run_queries, small_tables
from db.models import Alert as AlertRow
from db.small_tables import NewEvent
from db.writer import WriteFailed, Writer
from services import alerts as alerts_module
from services.alerts import Alert, Measured, Verdict
from services.pricing import hourly
from services.runs.spec import new_id

log = logging.getLogger(__name__)
TICK_S = 1.0
EVERY_S = 30.0
EVERY_BUSY_S = 60.0  # reading takes the interpreter from the stamps of calls that are under way
EVERY_IDLE_S = 600.0  # another engine on the same database may have changed an alert
BACKOFF_S = (10.0, 60.0, 300.0)
RESENT_WITHIN = timedelta(days=1)
TO_NOBODY = "shown here only: the alert has no target"
AGAIN = "will be tried again"


@dataclass(frozen=True, slots=True)
class Seen:
    """One evaluation of one alert (``row`` as it was read)."""

    row: AlertRow
    measured: Measured
    verdict: Verdict


def evaluate(reader: SqlEngine, now: datetime) -> list[Seen]:
    """Measure and judge every alert that is switched on. Takes milliseconds to seconds: call it in a thread."""
    rows = [row for row in small_tables.alerts(reader) if row.enabled]
    if not rows:
        return []
    names = {row.id: row.name for row in run_queries.deployment_rows(reader)}
    evaluations = []
    for row in rows:
        try:
            alert = Alert.of(row)
        except ValueError as error:
            log.warning("an alert cannot be watched: %s", error)
            continue
        measured = _measured(reader, alert, now)
        evaluations.append(Seen(row, measured, alerts_module.judge(alert, measured, names)))
    return evaluations


def _measured(reader: SqlEngine, alert: Alert, now: datetime) -> Measured:
    selection = alerts_module.wanted(alert, now)
    pieces = history.pieces(reader, selection, grain="h", sketches=alerts_module.sketches_of(alert.metric))
    hours = 0
    if alert.metric == "spend_day":
        on = hourly.accrued(reader, selection.start, selection.end, now)
        if alert.deployments:
            on = on[on["deployment_id"].isin(alert.deployments)]
        hours = int(on["nanousd"].sum())
    return alerts_module.measure(alert, pieces, hours)


class Alerting:
    """The alerts of one engine."""

    def __init__(
        self, writer: Writer, reader: SqlEngine, *, busy: Callable[[], bool], rolled: Callable[[], int]
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._busy = busy
        self._rolled = rolled
        self._seen_rolled = -1
        self._last = float("-inf")
        self._moving = True
        self._woken = asyncio.Event()
        self._sending: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """An alert was changed: look again as soon as that may be."""
        self._moving = True
        self._woken.set()

    def stir(self) -> None:
        """Calls were rolled up: what is shown may have changed."""
        self._woken.set()

    async def run(self) -> None:
        """Never returns; what cannot be read or written is tried again."""
        while True:
            await self._rest(self.pause_s(time.monotonic()))
            if not self.due(time.monotonic()):
                continue
            try:
                await self.once(datetime.now(UTC))
            except WriteFailed:
                self._moving = True
            except Exception:
                log.exception("the alerts could not be evaluated")
                self._moving = True

    async def _rest(self, seconds: float) -> None:
        self._woken.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        if seconds <= TICK_S:
            return
        await asyncio.sleep(TICK_S)  # whoever wakes us does so often

    def pause_s(self, clock: float) -> float:
        """Seconds until `due` can be true for another reason than that somebody wakes us."""
        if self._busy():
            return TICK_S
        wait = EVERY_S if self._moving or self._rolled() != self._seen_rolled else EVERY_IDLE_S
        return max(TICK_S, self._last + wait - clock)

    def due(self, clock: float) -> bool:
        """Whether to evaluate now: new calls were rolled up or a window that holds something moves on, not too often,
        and rarely while calls are under way. ``clock``: `time.monotonic`."""
        passed = clock - self._last
        if passed < (EVERY_BUSY_S if self._busy() else EVERY_S):
            return False
        return self._moving or self._rolled() != self._seen_rolled or passed >= EVERY_IDLE_S

    async def once(self, now: datetime) -> list[Seen]:
        """Evaluate every alert, keep the results and send the notices; what was seen."""
        self._last, self._seen_rolled = time.monotonic(), self._rolled()
        evaluations = await asyncio.to_thread(evaluate, self._reader, now)
        self._moving = any(
            evaluation.measured.n > 0 or evaluation.verdict.firing or evaluation.row.metric == "spend_day"
            for evaluation in evaluations
        )
        for evaluation in evaluations:
            await self._keep(evaluation, now)
        if evaluations:
            await self._resume(now)
        return evaluations

    async def _keep(self, evaluation: Seen, now: datetime) -> None:
        targets = tuple(evaluation.row.targets or ())
        event: NewEvent | None = None
        if evaluation.verdict.changed:
            delivered = None if targets else TO_NOBODY
            event = {"id": new_id(), "sentence": evaluation.verdict.sentence, "delivered": delivered}
        stored = await self._writer.write(partial(_checked, evaluation, now, event))
        if stored and event is not None and targets:
            self._send(event["id"], evaluation.verdict.sentence, targets)

    def _send(self, event_id: str, sentence: str, targets: tuple[str, ...], delivered: str = "") -> None:
        task = asyncio.get_running_loop().create_task(self._deliver(event_id, sentence, targets, delivered))
        self._sending[event_id] = task
        task.add_done_callback(lambda _: self._sending.pop(event_id, None))

    async def _resume(self, now: datetime) -> None:
        """Send what an engine that ended in between was about to try again."""
        tried_out = timedelta(seconds=sum(BACKOFF_S) + 60 * (len(BACKOFF_S) + 1))
        recent = await asyncio.to_thread(small_tables.events, self._reader, None, 50)
        waiting = [
            recent_event
            for recent_event in recent
            if recent_event.id not in self._sending
            and tried_out < now - recent_event.at < RESENT_WITHIN
            and (recent_event.delivered is None or AGAIN in recent_event.delivered)
        ]
        if not waiting:
            return
        targets = {row.id: row.targets or () for row in await asyncio.to_thread(small_tables.alerts, self._reader)}
        for event in waiting:
            delivered = event.delivered or ""
            done = [sentence for sentence in delivered.split("; ") if sentence and AGAIN not in sentence]
            undelivered = tuple(
                name
                for name in targets.get(event.alert_id, ())
                if not any(name in sentence.split() for sentence in done)
            )
            if undelivered:
                self._send(event.id, event.sentence or "", undelivered, "; ".join(done))

    async def _deliver(self, event_id: str, sentence: str, targets: tuple[str, ...], delivered: str) -> None:
        """Send to each target, the ones that fail again after a while, and keep in words what became of each."""
        done = [delivered] if delivered else []
        waiting = list(targets)
        for pause in (*BACKOFF_S, None):
            tries = [(name, await asyncio.to_thread(alerts_module.send, name, sentence)) for name in waiting]
            failed = [(name, delivery) for name, delivery in tries if delivery.again]
            done += [delivery.words for _, delivery in tries if not delivery.again]
            prospect = AGAIN if pause is not None else f"given up after {len(BACKOFF_S) + 1} tries"
            words = "; ".join([*done, *(f"{delivery.words}: {prospect}" for _, delivery in failed)])
            try:
                await self._writer.write(partial(_delivered, event_id, words))
            except WriteFailed:
                log.warning("what became of an alert's notice could not be written")
            if not failed or pause is None:
                return
            waiting = [name for name, _ in failed]
            await _pause(pause)

    async def close(self) -> None:
        """Let go of what is being sent; it is sent again by the next engine."""
        for task in list(self._sending.values()):
            task.cancel()


async def _pause(seconds: float) -> None:
    await asyncio.sleep(seconds)


def _checked(evaluation: Seen, now: datetime, event: NewEvent | None, session: Any) -> bool:
    return small_tables.checked(
        session=session,
        seen=evaluation.row,
        at=now,
        value=evaluation.measured.value,
        n=evaluation.measured.n,
        firing=evaluation.verdict.firing,
        event=event,
    )


def _delivered(event_id: str, words: str, session: Any) -> None:
    small_tables.delivered(session=session, event_id=event_id, words=words)
