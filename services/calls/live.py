"""Runs that are being lived: their columns, and the frames that tell a board what changed since the last one."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import perf_counter_ns

import orjson

from services.call_record import CallCost, CallRecord
from services.calls import record
from services.calls.stream import Progress
from services.pricing import cost as pricing_cost
from services.runs import view
from services.runs.spec import RunSpec
from services.servers import Gauge
from services.types import Ask, Deployment, Json, JsonMapping, Outcome
from services.wire import timing

MS = 1_000_000
FIGURES_EVERY = 5  # frames between two sets of running figures: text goes at 20 Hz, numbers are read at 4 Hz
COST_EVERY = 20  # and money at 1 Hz


@dataclass(slots=True, eq=False)
class LiveCall:
    """One attempt that is under way or has just ended. ``record`` is what was committed before it was sent, ``final``
    its record once it has ended."""

    record: CallRecord
    deployment: Deployment
    ask: Ask
    progress: Progress
    price: pricing_cost.Price | None = None
    waited_ms: float = 0.0
    task: asyncio.Task[CallRecord] | None = None
    final: CallRecord | None = None
    note: str | None = None
    lab_stopped: bool = False  # it was ended because our own process ends, not by a person
    sent_answer: int = 0
    sent_reasoning: int = 0
    announced: bool = False
    cost: tuple[str, str] = ("", "–")

    @property
    def id(self) -> str:
        """The id of its row."""
        return self.record.id

    def abort(self, outcome: Outcome, *, lab_stopped: bool = False) -> None:
        """End it with this outcome, unless it is over or is being ended already. For the loop that it lives on.

        A task that is cancelled before its first step never runs, and would never write its end: that step goes first.
        """
        if self.task is None or self.progress.over or self.progress.abort is not None:
            return
        self.progress.abort = outcome
        self.lab_stopped = self.lab_stopped or lab_stopped
        asyncio.get_running_loop().call_soon(self._cancel)

    def _cancel(self) -> None:
        if self.task is not None and not self.progress.over:
            self.task.cancel()


@dataclass(slots=True, eq=False)
class LiveColumn:
    """One column of a live run and the call that it shows."""

    index: int
    deployment: Deployment
    call: LiveCall | None = None
    task: asyncio.Task[None] | None = None
    stopped: bool = False
    last: JsonMapping = field(default_factory=dict)
    ticks: int = 0
    typical: tuple[float | None, int] = (None, 0)
    gauge: view.Gauge | None = None  # how its server is, while somebody watches (`services.engine.server_metrics`)
    gauge_first: Gauge | None = None
    gauge_told: view.Gauge | None = None

    @property
    def busy(self) -> bool:
        """True while the column still has something to do."""
        return self.task is not None and not self.task.done()


class LiveRun:
    """A run while at least one of its columns lives, and everybody who is watching it."""

    def __init__(self, run_id: str, spec: RunSpec, person: str, columns: list[LiveColumn]) -> None:
        self.id = run_id
        self.spec = spec
        self.person = person
        self.columns = columns
        self.watchers: set[asyncio.Queue[bytes | None]] = set()
        self.seq = 0
        self.ended = asyncio.Event()

    @property
    def live(self) -> bool:
        """True until every column is done."""
        return not self.ended.is_set()

    def snapshot(self) -> view.Snapshot:
        """Everything that a board needs to draw this run from nothing."""
        return {
            "type": "snapshot",
            "run": self.id,
            "seq": self.seq,
            "live": self.live,
            "blind": self.spec.blind,
            "columns": [self._column(column) for column in self.columns],
        }

    def _column(self, column: LiveColumn) -> view.LiveColumn:
        call = column.call
        typical, n = column.typical
        return {
            **view.identity(column.index, column.deployment, self.spec.repetitions),
            "typical_ttft_ms": typical,
            "typical_n": n,
            "answer_from": 0,
            "reasoning_from": 0,
            "gauge": column.gauge_told,
            **(_QUEUED if call is None else _changing(call)),
            "answer": "" if call is None else "".join(call.progress.answer[: call.sent_answer]),
            "reasoning": "" if call is None else "".join(call.progress.reasoning[: call.sent_reasoning]),
        }

    def watch(self) -> asyncio.Queue[bytes | None]:
        """A queue that begins with a snapshot and then gets every frame; None means that it was too slow."""
        self.tick()
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=400)
        queue.put_nowait(orjson.dumps(self.snapshot()))
        if self.live:
            self.watchers.add(queue)
        else:
            self._put(queue, orjson.dumps({"type": "end", "seq": self.seq}))
        return queue

    def tick(self) -> None:
        """Send what changed since the last tick to everybody who watches: one frame for all columns."""
        changes = [change for column in self.columns if (change := self._change(column))]
        if not changes:
            return
        self.seq += 1
        if self.watchers:
            self._send({"type": "delta", "seq": self.seq, "cols": changes})

    def end(self) -> None:
        """The run is over: last changes, then the end frame."""
        self.tick()
        self.seq += 1
        self.ended.set()
        self._send({"type": "end", "seq": self.seq})
        self.watchers.clear()

    def ping(self) -> None:
        """Tell watchers that the line is alive."""
        self._send({"type": "ping"})

    def _change(self, column: LiveColumn) -> Json | None:
        call = column.call
        if call is None:
            return None
        progress = call.progress
        change: Json = {}
        if not call.announced:
            call.announced = True
            column.last = {}
            change["reset"] = True
        if len(progress.answer) > call.sent_answer:
            change["a"] = "".join(progress.answer[call.sent_answer :])
            call.sent_answer = len(progress.answer)
        if len(progress.reasoning) > call.sent_reasoning:
            change["r"] = "".join(progress.reasoning[call.sent_reasoning :])
            call.sent_reasoning = len(progress.reasoning)
        if self._figures_due(column, call):
            if call.final is None and (column.ticks % COST_EVERY == 0 or not call.cost[0]):
                call.cost = _running_cost(call)
            typical, n = column.typical
            now: Json = {**_changing(call), "typical_ttft_ms": typical, "typical_n": n}
            last = column.last
            change |= {name: value for name, value in now.items() if last.get(name) != value}
            column.last = now
        if column.gauge != column.gauge_told:
            change["gauge"] = column.gauge_told = column.gauge
        return {"i": column.index, **change} if change else None

    def _figures_due(self, column: LiveColumn, call: LiveCall) -> bool:
        """At once when the phase has changed or the call has ended, every fifth frame between, never after the end."""
        column.ticks += 1
        drawn_phase = column.last.get("phase")
        if call.final is not None:
            return drawn_phase != "done"
        return drawn_phase != call.progress.phase or column.ticks % FIGURES_EVERY == 0

    def _send(self, frame: view.Delta | view.End | view.Ping) -> None:
        line = orjson.dumps(frame)
        for queue in list(self.watchers):
            self._put(queue, line)

    def _put(self, queue: asyncio.Queue[bytes | None], line: bytes) -> None:
        if queue.full():
            # A watcher that cannot keep up starts again from a snapshot; nobody waits for it.
            while not queue.empty():
                queue.get_nowait()
            queue.put_nowait(None)
            self.watchers.discard(queue)
            return
        queue.put_nowait(line)


_EMPTY_FIGURES: view.Figures = {
    "ttft_ms": None,
    "ttfat_ms": None,
    "ttlt_ms": None,
    "end_ms": None,
    "decode_tps": None,
    "decode_est": True,
    "decode_hidden": None,
    "e2e_tps": None,
    "e2e_est": True,
    "in": None,
    "in_est": True,
    "cached": None,
    "out": None,
    "out_est": True,
    "cost": "–",
    "cost_mark": "",
    "cost_share": None,
    "self_lag_ms": None,
    "lag_marked": False,
}
_NO_BAR: view.Bar = {"wait_end": None, "reason_end": None, "answer_end": None, "end": None}
_QUEUED: view.Progress = {
    "rep": 1,
    "attempt": 1,
    "phase": "queued",
    "state": "running",
    "words": "queued",
    "note": None,
    "elapsed_ms": 0.0,
    "idle_ms": 0.0,
    "fig": _EMPTY_FIGURES,
    "bar": _NO_BAR,
    "failed": False,
}


def _changing(call: LiveCall) -> view.Progress:
    """The part of a column that changes while its call lives."""
    if call.final is not None:
        drawn = view.final(call.final)
        drawn["note"] = drawn["note"] or call.note
        return drawn
    progress = call.progress
    now = perf_counter_ns()
    start = progress.t0 or progress.handed or progress.accepted
    return {
        "rep": call.record.repetition,
        "attempt": call.record.attempt,
        "phase": progress.phase if not progress.over else "answering",
        "state": "running",
        "words": view.PHASE_WORDS.get(progress.phase, "finishing"),
        "note": call.note,
        "elapsed_ms": round((now - start) / MS, 1),
        "idle_ms": round((now - progress.last) / MS, 1) if progress.last else 0.0,
        "fig": _running_figures(call, now),
        "bar": {
            "wait_end": _ms(progress.first, progress.t0),
            "reason_end": _ms(progress.first_answer, progress.t0),
            "answer_end": None,
            "end": None,
        },
        "failed": False,
    }


def _ms(stamp: int, t0: int) -> float | None:
    return round((stamp - t0) / MS, 3) if stamp and t0 else None


def _running_figures(call: LiveCall, now: int) -> view.Figures:
    progress = call.progress
    deltas = len(progress.delta_ns)
    out = record.estimated_tokens(progress.answer_chars + progress.reasoning_chars, deltas)
    running = timing.live_figures(
        t0=progress.t0 or None, now=now, first=progress.first or None, last=progress.last or None, tokens=out
    )
    usage = progress.decoder.usage if progress.decoder is not None else None
    known_in = usage.input_total if usage is not None else None
    mark, cost = call.cost
    return {
        **_EMPTY_FIGURES,
        "ttft_ms": _ms(progress.first, progress.t0),
        "ttfat_ms": _ms(progress.first_answer, progress.t0),
        "decode_tps": running.decode_tps,
        "e2e_tps": running.e2e_tps,
        "in": known_in if known_in is not None else record.estimated_input(call.ask),
        "in_est": known_in is None,
        "cached": usage.cache_read if usage is not None else None,
        "out": out,
        "cost": cost,
        "cost_mark": mark,
    }


def _running_cost(call: LiveCall) -> tuple[str, str]:
    usage = record.usage_so_far(call.progress, call.ask)
    cost = pricing_cost.cost(usage, call.price, complete=False)
    return view.cost_words(CallCost(cost.state, cost.nanousd, price=call.price.to_json() if call.price else None))
