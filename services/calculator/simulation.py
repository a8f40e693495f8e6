"""Waits by simulation: a seeded discrete-event run of the continuous-batching scheduler (calculator.md D 8).

What the closed form of ``queueing`` cannot know: how the lengths of prompts and answers, bursts and the KV cache's edge
make the slowest of a hundred requests. Held against M/D/1 where one request runs at a time (``md1_wait``).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from services.calculator import memory
from services.calculator.sim_replica import Limits, Replica, StaticReplica
from services.calculator.sim_requests import Request, Steps, made, mean
from services.calculator.steps import cases
from services.calculator.types import Serving, Spread, Waits

# A larger fleet is simulated as so many replicas with their share of the requests: the shortest of 16 queues is hardly
# longer than the shortest of 1,000.
MOST_REPLICAS = 16
LOOK_EVERY = 256  # events between two looks at ``stopped``
LIFETIMES = 1.5  # of a request at the fullest batch pass before anything is measured


class Stopped(Exception):
    """The simulation was stopped by the person who started it; nothing is kept."""


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run: the requests that were measured, and what the replicas did meanwhile."""

    measured: tuple[Request, ...]
    busy: float  # share of the replicas' time
    running: float  # mean over time, of one replica
    preempted: int
    queued: tuple[int, int, int]  # waiting at the first, middle and last measured arrival
    burstiness: float


def run(
    serving: Serving, rpm: float, input: Spread, output: Spread, *, cached_share: float = 0.0, burstiness: float = 1.0,
    replicas: int = 1, requests: int = 2000, seed: int = 1, progress: Callable[[float], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Waits:  # fmt: skip
    """Simulate ``requests`` requests (after a start that is not counted) and tell how long they took.

    ``rpm``: over all ``replicas``; each request goes to the one with the fewest. ``burstiness``: squared coefficient of
    variation of the gaps. ``utilisation``: share of the time in which a replica computes at all. ``tpot_p50_s`` is NaN
    where every answer is one token. ``progress``: called with 0 to 1. Times are the middle of the roofline's range.
    Raises ValueError with a sentence for what cannot be simulated, and `Stopped`.
    """
    done = trace(
        serving, rpm, input, output, cached_share=cached_share, burstiness=burstiness, replicas=replicas,
        requests=requests, seed=seed, progress=progress, stopped=stopped,
    )  # fmt: skip
    ttft = np.array([one.first_s - one.arrival_s for one in done.measured])
    ttlt = np.array([one.end_s - one.arrival_s for one in done.measured])
    tpot = [(one.end_s - one.first_s) / (one.output - 1) for one in done.measured if one.output > 1]
    first, last = np.quantile(ttft, (0.5, 0.95, 0.99)).tolist(), np.quantile(ttlt, (0.5, 0.95, 0.99)).tolist()
    return Waits(
        ttft_p50_s=first[0],
        ttft_p95_s=first[1],
        ttft_p99_s=first[2],
        ttlt_p50_s=last[0],
        ttlt_p95_s=last[1],
        ttlt_p99_s=last[2],
        tpot_p50_s=float(np.median(tpot)) if tpot else math.nan,
        utilisation=min(1.0, done.busy),
        mean_running=done.running,
        preempted=done.preempted,
        overloaded=_overloaded(done),
        requests=requests,
        seed=seed,
    )


def trace(
    serving: Serving, rpm: float, input: Spread, output: Spread, *, cached_share: float = 0.0, burstiness: float = 1.0,
    replicas: int = 1, requests: int = 2000, seed: int = 1, progress: Callable[[float], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Run:  # fmt: skip
    """As ``run``, with every measured request."""
    _check(rpm, input, output, cached_share, burstiness, replicas, requests)
    if replicas > MOST_REPLICAS:
        rpm, replicas = rpm * MOST_REPLICAS / replicas, MOST_REPLICAS
    limits = _limits(serving, input, output)
    steps = Steps(serving)
    warm = _warm(steps, limits, rpm, input, output, requests)
    room = min(limits.blocks * limits.block, max(2, serving.llm.max_context))
    # Arrivals go on after the last measured one, so that it does not run in an emptying house.
    total = warm + 2 * requests
    request = made(
        total, rpm, input, output, cached_share=cached_share, burstiness=burstiness, room=room, seed=seed
    )  # fmt: skip
    kind = Replica if serving.continuous else StaticReplica
    house = _House([kind(limits, steps) for _ in range(replicas)], request, warm, requests, total)
    house.go(progress, stopped)
    added_s = cases(serving)[1].request_s
    for one in house.measured:
        one.first_s += added_s
        one.end_s += added_s
    span = max(house.window[1] - house.window[0], 0.0)
    share = 1.0 / (span * replicas) if span > 0 else math.nan
    busy, running = sum(one.busy_s for one in house.replicas), sum(one.running_s for one in house.replicas)
    return Run(
        tuple(house.measured), busy * share, running * share, sum(one.preempted for one in house.replicas),
        (house.queued[0], house.queued[1], house.queued[2]), burstiness,
    )  # fmt: skip


def md1_wait(rpm: float, service_s: float, *, burstiness: float = 1.0, quantile: float | None = None) -> float:
    """Seconds of waiting before one server whose every service takes ``service_s``; infinite at or past its capacity.

    The mean, ``ρT/(2(1−ρ))`` (Pollaczek and Khinchine; times ``(1 + burstiness)/2``, Kingman's bound for other
    gaps), or a ``quantile`` (0 to 1) of Erlang's distribution for Poisson arrivals,
    ``P(W ≤ t) = (1−ρ) Σ_k (λ(kT−t))^k e^(−λ(kT−t)) / k!`` over k ≤ t/T; its terms cancel, so not for ρ above 0.9.
    """
    rate = rpm / 60.0
    load = rate * service_s
    if load >= 1.0:
        return math.inf
    if quantile is None:
        return load * service_s / (2.0 * (1.0 - load)) * (1.0 + burstiness) / 2.0

    def below(wait_s: float) -> float:
        ahead = [rate * (k * service_s - wait_s) for k in range(int(wait_s / service_s) + 1)]
        return (1.0 - load) * math.fsum(one**k * math.exp(-one) / math.factorial(k) for k, one in enumerate(ahead))

    low, high = 0.0, service_s
    while below(high) < quantile:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2.0
        low, high = (middle, high) if below(middle) < quantile else (low, middle)
    return high


@dataclass(slots=True)
class _House:
    """The replicas, the line of requests that come, and the clock."""

    replicas: list[Replica]
    request: Callable[[int], Request]
    warm: int
    requests: int
    total: int
    measured: list[Request] = field(default_factory=list)
    queued: list[int] = field(default_factory=list)
    window: tuple[float, float] = (0.0, 0.0)
    came: int = 0
    left: int = 0  # requests that are complete
    ends: list[tuple[float, int, int]] = field(default_factory=list)  # when, which replica, its plan's number
    plans: list[int] = field(default_factory=list)

    def go(self, progress: Callable[[float], None] | None, stopped: Callable[[], bool] | None) -> None:
        self.plans = [0] * len(self.replicas)
        self.window = (self.request(self.warm).arrival_s, self.request(self.warm + self.requests - 1).arrival_s)
        for replica in self.replicas:
            replica.window = self.window
        coming = self.request(0)
        events = 0
        while len(self.measured) < self.requests:
            events += 1
            if events % LOOK_EVERY == 0:
                _look(min(1.0, self.left / (self.warm + self.requests)), progress, stopped)
            if self.ends and (self.came == self.total or self.ends[0][0] <= coming.arrival_s):
                self._happen()
            else:
                self._arrive(coming)
                if self.came < self.total:
                    coming = self.request(self.came)
        if progress is not None:
            progress(1.0)

    def _happen(self) -> None:
        now_s, which, plan = heapq.heappop(self.ends)
        if plan != self.plans[which]:
            return
        for one in self.replicas[which].apply():
            self.left += 1
            if self.warm <= one.number < self.warm + self.requests:
                self.measured.append(one)
        self._plan(which, now_s)

    def _arrive(self, request: Request) -> None:
        if self.came - self.warm in (0, self.requests // 2, self.requests - 1):
            self.queued.append(sum(len(one.waiting) for one in self.replicas))
        self.came += 1
        which = min(range(len(self.replicas)), key=lambda one: self.replicas[one].present)
        replica = self.replicas[which]
        idle = replica.count == 0
        cut = replica.add(request)
        if idle:
            self._plan(which, request.arrival_s)
        elif cut:
            replica.cut(request.arrival_s)
            self._push(which)

    def _plan(self, which: int, now_s: float) -> None:
        self.replicas[which].plan(now_s)
        if self.replicas[which].count:
            self._push(which)

    def _push(self, which: int) -> None:
        self.plans[which] += 1
        heapq.heappush(self.ends, (self.replicas[which].end_s, which, self.plans[which]))


def _look(share: float, progress: Callable[[float], None] | None, stopped: Callable[[], bool] | None) -> None:
    if stopped is not None and stopped():
        raise Stopped
    if progress is not None:
        progress(share)


def _limits(serving: Serving, input: Spread, output: Spread) -> Limits:
    """What the replica can hold. Blocks are of whole tokens; where a sliding window lets a sequence hold less than its
    tokens, there are as many blocks as the mean sequence then needs for as many of them to fit."""
    given, answer = math.ceil(mean(input)), math.ceil(mean(output))
    space = memory.of(serving, given, answer)
    name = f"{serving.llm.name} on {serving.tp} × {serving.gpu.name}"
    if not space.fits:
        raise ValueError(
            f"{name} has no room for a request of {given + answer} tokens, so there is nothing to simulate."
        )
    each = -(-(given + answer) // serving.block)
    blocks = max(space.slots // serving.block, space.sequences * each)
    if input.median + output.median > serving.llm.max_context:
        raise ValueError(
            f"A request of {input.median + output.median:,.0f} tokens is longer than the context of {serving.llm.name} "
            f"({serving.llm.max_context:,} tokens)."
        )
    return Limits(blocks, serving.block, max(1, serving.max_seqs), max(1, serving.step_tokens, serving.max_seqs + 1))


def _warm(steps: Steps, limits: Limits, rpm: float, input: Spread, output: Spread, requests: int) -> int:
    """Requests before the first measured one: those that come while one lives through at the fullest batch, within a
    fifth and twice of what is measured. The same for any number of replicas, so that they are compared on the same
    requests."""
    given, answer = mean(input), mean(output)
    batch = max(1, min(limits.seqs, int(limits.blocks * limits.block / (given + answer))))
    life_s = answer * steps.seconds(0, 0.0, batch, given + answer / 2) + steps.seconds(int(given) + 1, 0.0, 0, 0.0)
    return int(min(max(requests // 5, LIFETIMES * rpm / 60.0 * life_s), 2 * requests))


def _overloaded(done: Run) -> bool:
    """The line grew all the time, and by more than chance lets it (a random walk of as many steps)."""
    first, middle, last = done.queued
    chance = 2.0 * math.sqrt((1.0 + done.burstiness) * len(done.measured))
    return first <= middle <= last and last - first > chance


def _check(
    rpm: float, input: Spread, output: Spread, cached_share: float, burstiness: float, replicas: int, requests: int
) -> None:
    wrong = [
        sentence
        for bad, sentence in (
            (not (math.isfinite(rpm) and rpm > 0), "The rate has to be above 0 requests a minute."),
            (not (input.median >= 1 and output.median >= 1), "A request has at least one token in and one out."),
            (not (0 <= input.sigma <= 3 and 0 <= output.sigma <= 3), "The spread of the lengths is from 0 to 3."),
            (not 0 <= cached_share <= 1, "The cached share of the prompt is from 0 to 1."),
            (not 0 <= burstiness <= 1000, "The burstiness is from 0 to 1,000."),
            (replicas < 1, "There is at least one replica."),
            (requests < 10, "A simulation takes at least 10 requests."),
        )
        if bad
    ]
    if wrong:
        raise ValueError(" ".join(wrong))
