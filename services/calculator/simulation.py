"""Waits by simulation: a seeded discrete-event run of the continuous-batching scheduler.

What the closed form of ``queueing`` cannot know: how the lengths of prompts and answers, bursts and the KV cache's edge
make the slowest of a hundred requests. Held against M/D/1 where one request runs at a time.

Each step gives one token to every decoding sequence, then what is left of the token budget to prompts, oldest first
(chunked prefill). A waiting request is let in when its prompt's blocks are free; when a decoding sequence needs a
block and none is free, the youngest is thrown out and will be computed again (vLLM: v1/core/sched/scheduler.py,
recompute preemption). Steps in which nothing changes are taken together.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.calculator import memory
from services.calculator.roofline import CASES, cases
from services.calculator.types import Serving, Spread, Waits

# A larger fleet is simulated as so many replicas with their share of the requests: the shortest of 16 queues is hardly
# longer than the shortest of 1,000.
MOST_REPLICAS = 16


LOOK_EVERY = 256  # events between two looks at ``stopped``

LIFETIMES = 1.5  # of a request at the fullest batch pass before anything is measured


class Stopped(Exception):
    """The simulation was stopped by the person who started it; nothing is kept."""


def gaps(count: int, mean_s: float, burstiness: float, seed: np.random.SeedSequence) -> npt.NDArray[np.float64]:
    """Seconds between arrivals: gamma with this mean and squared coefficient of variation (1: Poisson, 0: even)."""
    if burstiness <= 0:
        return np.full(count, mean_s)
    return np.random.default_rng(seed).gamma(1.0 / burstiness, mean_s * burstiness, count)


def tokens(count: int, spread: Spread, limit: int, seed: np.random.SeedSequence) -> npt.NDArray[np.int64]:
    """Lengths: lognormal, whole, from 1 to ``limit``."""
    normal = np.random.default_rng(seed).standard_normal(count)
    drawn = spread.median * np.exp(spread.sigma * normal)
    return np.clip(np.rint(drawn), 1, limit).astype(np.int64)


def made(
    count: int,
    rpm: float,
    input: Spread,
    output: Spread,
    *,
    cached_share: float,
    burstiness: float,
    room: int,
    seed: int,
) -> Callable[[int], Request]:
    """The requests by number. Moments, inputs and outputs have random streams of their own, so that a change of one
    leaves the others; a request longer than ``room`` (what the context and the cache hold) is cut to it."""
    streams = np.random.SeedSequence(seed).spawn(3)
    moments = np.cumsum(gaps(count, 60.0 / rpm, burstiness, streams[0])).tolist()
    inputs = tokens(count, input, max(1, room - 1), streams[1]).tolist()
    outputs = tokens(count, output, room, streams[2]).tolist()

    def at(number: int) -> Request:
        input_tokens = inputs[number]
        # The last prompt token is always computed: it is the one that gives the first answer token.
        cached = min(int(cached_share * input_tokens), input_tokens - 1)
        return Request(number, moments[number], input_tokens, max(1, min(outputs[number], room - input_tokens)), cached)

    return at


@dataclass(slots=True, eq=False)
class Request:
    """One request on its way. ``cached``: leading prompt tokens that are in the prefix cache. Seconds are of the
    simulation's clock; NaN: not yet."""

    number: int
    arrival_s: float
    input: int
    output: int
    cached: int
    made: int = 0  # output tokens before the decoding under way, all of them at the end
    target: int = 0  # tokens to have in the KV cache before it decodes
    done: int = 0  # of them, in the cache
    since: int = 0  # the replica's step at which its decoding began
    until: int = -1  # and will end; -1: not decoding
    first_s: float = math.nan
    end_s: float = math.nan


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
    serving: Serving,
    rpm: float,
    input: Spread,
    output: Spread,
    *,
    cached_share: float = 0.0,
    burstiness: float = 1.0,
    replicas: int = 1,
    requests: int = 2000,
    seed: int = 1,
    progress: Callable[[float], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Waits:
    """Simulate ``requests`` requests (after a start that is not counted) and tell how long they took.

    ``rpm``: over all ``replicas``; each request goes to the one with the fewest. ``burstiness``: squared coefficient of
    variation of the gaps. ``utilisation``: share of the time in which a replica computes at all. ``tpot_p50_s`` is NaN
    where every answer is one token. ``progress``: called with 0 to 1. Times are the middle of the roofline's range.
    Raises ValueError with a sentence for what cannot be simulated, and `Stopped`.
    """
    done = trace(
        serving,
        rpm,
        input,
        output,
        cached_share=cached_share,
        burstiness=burstiness,
        replicas=replicas,
        requests=requests,
        seed=seed,
        progress=progress,
        stopped=stopped,
    )
    ttft = np.array([request.first_s - request.arrival_s for request in done.measured])
    ttlt = np.array([request.end_s - request.arrival_s for request in done.measured])
    tpot = [(request.end_s - request.first_s) / (request.output - 1) for request in done.measured if request.output > 1]
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
    serving: Serving,
    rpm: float,
    input: Spread,
    output: Spread,
    *,
    cached_share: float = 0.0,
    burstiness: float = 1.0,
    replicas: int = 1,
    requests: int = 2000,
    seed: int = 1,
    progress: Callable[[float], None] | None = None,
    stopped: Callable[[], bool] | None = None,
) -> Run:
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
    request = made(total, rpm, input, output, cached_share=cached_share, burstiness=burstiness, room=room, seed=seed)
    kind = Replica if serving.continuous else StaticReplica
    house = _House([kind(limits, steps) for _ in range(replicas)], request, warm, requests, total)
    house.go(progress, stopped)
    added_s = cases(serving)[1].request_s
    for one in house.measured:
        one.first_s += added_s
        one.end_s += added_s
    span = max(house.window[1] - house.window[0], 0.0)
    share = 1.0 / (span * replicas) if span > 0 else math.nan
    busy, running = (
        sum(replica.busy_s for replica in house.replicas),
        sum(replica.running_s for replica in house.replicas),
    )
    return Run(
        tuple(house.measured),
        busy * share,
        running * share,
        sum(replica.preempted for replica in house.replicas),
        (house.queued[0], house.queued[1], house.queued[2]),
        burstiness,
    )


LONGEST_STRETCH = 64  # steps taken at once: their time is that of the middle one

RESERVE = 0.01  # share of the blocks that stays free when one is let in beside others (vLLM's watermark)


@dataclass(frozen=True, slots=True)
class Limits:
    """``blocks`` of ``block`` tokens; at most ``seqs`` at once; ``step_tokens`` a step."""

    blocks: int
    block: int
    seqs: int
    step_tokens: int

    def blocks_of(self, tokens_held: int) -> int:
        return -(-tokens_held // self.block)


class Replica:
    """Continuous batching. ``plan`` decides what the next steps are, ``apply`` lets them have happened."""

    def __init__(self, limits: Limits, steps: Steps) -> None:
        self.limits, self.steps = limits, steps
        self.waiting: deque[Request] = deque()
        self.filling: list[Request] = []
        self.decoding: dict[int, Request] = {}  # by number, in the order they were let in
        self.free = limits.blocks
        self.preempted = 0
        self.start_s = self.step_s = 0.0
        self.count = 0  # steps planned; 0: idle
        self.busy_s = self.running_s = 0.0  # inside the window
        self.window = (math.inf, math.inf)
        self._step = 0
        self._held = 0  # tokens in the cache of all that decode
        self._phase = [0] * limits.block  # sequences that need a block when the step modulo block is this
        self._ends: list[tuple[int, int, Request]] = []
        self._chunks: list[tuple[Request, int]] = []

    @property
    def present(self) -> int:
        """Requests that are here, waiting ones too."""
        return len(self.waiting) + len(self.filling) + len(self.decoding)

    @property
    def end_s(self) -> float:
        """When the planned steps end."""
        return self.start_s + self.count * self.step_s

    def add(self, request: Request) -> bool:
        """Take a request. True: what was planned is to be ended by ``cut``, because it may come in earlier."""
        request.target, request.done = request.input, request.cached
        self.waiting.append(request)
        return len(self.waiting) == 1 and self.count > 1

    def cut(self, now_s: float) -> None:
        """End the planned steps with the one under way."""
        gone = (now_s - self.start_s) / self.step_s
        self.count = min(self.count, max(1, math.ceil(gone)))

    def plan(self, now_s: float) -> None:
        """Decide what happens next; ``count`` stays 0 when there is nothing to do."""
        thrown = self._make_room()
        self._chunks = self._fill(self.limits.step_tokens - len(self.decoding), admit=not thrown)
        batch = len(self.decoding)
        context = self._held / batch if batch else 0.0
        self.start_s, self.count = now_s, 0
        if self._chunks:
            prompt = sum(take for _, take in self._chunks)
            self.count = 1
            self.step_s = self.steps.seconds(prompt, _before(self._chunks, prompt), batch, context)
        elif batch:
            self.count = self._stretch(batch)
            self.step_s = self.steps.seconds(0, 0.0, batch, context + self.count / 2)

    def apply(self) -> list[Request]:
        """The planned steps have happened; returns the requests that are complete."""
        count, now_s, batch = self.count, self.end_s, len(self.decoding)
        self._watch(now_s, batch + len(self.filling))
        self.free -= self._needed(count)
        self._held += batch * count
        self._step += count
        complete = []
        for request, take in self._chunks:
            request.done += take
            if request.done == request.target and self._begin(request, now_s):
                complete.append(request)
        if self._chunks:
            self.filling = [request for request in self.filling if request.done < request.target]
        complete += self._ended(now_s)
        self.count = 0
        return complete

    def _begin(self, request: Request, now_s: float) -> bool:
        """The prompt is through and has given a token; True when that was all."""
        request.made += 1
        if math.isnan(request.first_s):
            request.first_s = now_s
        if request.made >= request.output:
            request.end_s = now_s
            self.free += self.limits.blocks_of(request.target)
            return True
        request.since, request.until = self._step, self._step + request.output - request.made
        self.decoding[request.number] = request
        self._held += request.target
        self._phase[(request.since - request.target) % self.limits.block] += 1
        heapq.heappush(self._ends, (request.until, request.number, request))
        return False

    def _ended(self, now_s: float) -> list[Request]:
        ended = []
        while self._ends and self._ends[0][0] <= self._step:
            until, _, request = heapq.heappop(self._ends)
            if request.until == until and request.number in self.decoding:
                self._leave(request)
                request.made, request.end_s = request.output, now_s
                ended.append(request)
        return ended

    def _leave(self, request: Request) -> None:
        """Free what a decoding sequence holds."""
        del self.decoding[request.number]
        tokens_held = request.target + self._step - request.since
        self._held -= tokens_held
        self.free += self.limits.blocks_of(tokens_held)
        self._phase[(request.since - request.target) % self.limits.block] -= 1
        request.until = -1

    def _make_room(self) -> bool:
        """Throw out the youngest until the next step's blocks are free; True if any was."""
        thrown = False
        while self._needed(1) > self.free:
            thrown = True
            self.preempted += 1
            if self.filling:
                request = self.filling.pop()
                self.free += self.limits.blocks_of(request.target)
            else:
                request = self.decoding[next(reversed(self.decoding))]
                written = self._step - request.since
                self._leave(request)
                request.made += written
            request.target, request.done = request.input + request.made, request.cached
            self.waiting.appendleft(request)
        return thrown

    def _fill(self, budget: int, *, admit: bool) -> list[tuple[Request, int]]:
        """Share the token budget among the prompts, and let in who waits."""
        chunks: list[tuple[Request, int]] = []
        for request in self.filling:
            if budget <= 0:
                return chunks
            chunks.append((request, min(budget, request.target - request.done)))
            budget -= chunks[-1][1]
        while admit and self.waiting and budget > 0 and self._fits(self.waiting[0]):
            request = self.waiting.popleft()
            self.free -= self.limits.blocks_of(request.target)
            self.filling.append(request)
            chunks.append((request, min(budget, request.target - request.done)))
            budget -= chunks[-1][1]
        return chunks

    def _fits(self, request: Request) -> bool:
        running = len(self.decoding) + len(self.filling)
        if running >= self.limits.seqs:
            return False
        blocks_needed = self._needed(1) + math.ceil(RESERVE * self.limits.blocks) if running else 0
        return self.limits.blocks_of(request.target) + blocks_needed <= self.free

    def _needed(self, count: int) -> int:
        """Blocks that the decoding sequences need for their next ``count`` steps."""
        full_blocks, tokens_over = divmod(count, self.limits.block)
        block, step = self.limits.block, self._step
        return full_blocks * len(self.decoding) + sum(
            self._phase[(step + offset) % block] for offset in range(tokens_over)
        )

    def _stretch(self, batch: int) -> int:
        """Decode steps until something changes."""
        while self._ends[0][2].until != self._ends[0][0]:
            heapq.heappop(self._ends)
        count = min(LONGEST_STRETCH, self._ends[0][0] - self._step)
        if self._needed(count) > self.free:
            fitting = 1
            while fitting < count and self._needed(fitting + 1) <= self.free:
                fitting += 1
            count = fitting
        return count

    def _watch(self, now_s: float, running: int) -> None:
        inside = min(now_s, self.window[1]) - max(self.start_s, self.window[0])
        if inside > 0:
            self.busy_s += inside
            self.running_s += inside * running


def _before(chunks: list[tuple[Request, int]], prompt: int) -> float:
    """The context after which one chunk of ``prompt`` tokens would have as many attention pairs as these chunks have
    (below zero for many short ones)."""
    pairs = sum(take * (request.done + take / 2) for request, take in chunks)
    return pairs / prompt - prompt / 2


EXACT_BELOW = 64  # prompt tokens

PROMPT_GRAIN, CONTEXT_GRAIN, BEFORE_GRAIN = 16, 32, 128  # tokens


@dataclass(slots=True)
class Steps:
    """Seconds of a scheduler step, asked of the roofline once for each (rounded) kind of step.

    A prompt is rounded to 16 tokens, contexts to 32 and 128: far inside the range of the roofline's own factors.
    """

    serving: Serving
    which: str = "mid"
    known: dict[tuple[int, int, int, int], float] = field(default_factory=dict)

    def seconds(self, prompt: int, cached: float, batch: int, context: float) -> float:
        """Of one step: ``prompt`` tokens after ``cached`` ones, beside ``batch`` decoding ones of ``context`` each.

        Several prompts in one step have fewer pairs than one as long as all of them: ``cached`` may be below zero.
        """
        key = (
            prompt if prompt < EXACT_BELOW else PROMPT_GRAIN * round(prompt / PROMPT_GRAIN),
            BEFORE_GRAIN * round(cached / BEFORE_GRAIN) if prompt else 0,
            batch,
            CONTEXT_GRAIN * round(context / CONTEXT_GRAIN) if batch else 0,
        )
        took = self.known.get(key)
        if took is None:
            took = self.known[key] = self._asked(*key)
        return took

    def _asked(self, prompt: int, cached: int, batch: int, context: int) -> float:
        case = cases(self.serving)[CASES.index(self.which)]
        read = batch * memory.kv_read_bytes(self.serving, context) if batch else 0.0
        if cached > 0:
            read += memory.kv_read_bytes(self.serving, cached)
        return case.step(prompt, case.pairs(prompt, cached) if prompt else 0.0, batch, read)


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
        for finished in self.replicas[which].apply():
            self.left += 1
            if self.warm <= finished.number < self.warm + self.requests:
                self.measured.append(finished)
        self._plan(which, now_s)

    def _arrive(self, request: Request) -> None:
        if self.came - self.warm in (0, self.requests // 2, self.requests - 1):
            self.queued.append(sum(len(replica.waiting) for replica in self.replicas))
        self.came += 1
        which = min(range(len(self.replicas)), key=lambda number: self.replicas[number].present)
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
    input_tokens, answer = math.ceil(mean(input)), math.ceil(mean(output))
    space = memory.of(serving, input_tokens, answer)
    name = f"{serving.llm.name} on {serving.tp} × {serving.gpu.name}"
    if not space.fits:
        raise ValueError(
            f"{name} has no room for a request of {input_tokens + answer} tokens, so there is nothing to simulate."
        )
    blocks_each = -(-(input_tokens + answer) // serving.block)
    blocks = max(space.slots // serving.block, space.sequences * blocks_each)
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
    input_tokens, answer = mean(input), mean(output)
    batch = max(1, min(limits.seqs, int(limits.blocks * limits.block / (input_tokens + answer))))
    life_s = answer * steps.seconds(0, 0.0, batch, input_tokens + answer / 2) + steps.seconds(
        int(input_tokens) + 1, 0.0, 0, 0.0
    )
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


class StaticReplica(Replica):
    """A batch is taken from the queue, prefilled and decoded to its longest answer; all are handed back then."""

    def plan(self, now_s: float) -> None:
        self.start_s, self.count = now_s, 0
        taken = self._take()
        if not taken:
            return
        prompt = sum(request.input - request.cached for request in taken)
        longest = max(request.output for request in taken)
        batch = len(taken)
        context = sum(request.input for request in taken) / batch + longest / 2
        chunks = [(request, request.input - request.cached) for request in taken]
        fill_s = self.steps.seconds(prompt, _before(chunks, prompt), 0, 0.0)
        decode_s = (longest - 1) * self.steps.seconds(0, 0.0, batch, context) if longest > 1 else 0.0
        self.filling, self.count, self.step_s = taken, 1, fill_s + decode_s
        for request in taken:
            request.first_s = now_s + fill_s

    def _take(self) -> list[Request]:
        taken: list[Request] = []
        blocks = self.limits.blocks
        while self.waiting and len(taken) < self.limits.seqs:
            needed = self.limits.blocks_of(self.waiting[0].input + self.waiting[0].output)
            if needed > blocks:
                break
            blocks -= needed
            taken.append(self.waiting.popleft())
        return taken

    def apply(self) -> list[Request]:
        now_s, complete = self.end_s, self.filling
        self._watch(now_s, len(complete))
        for request in complete:
            request.made, request.end_s = request.output, now_s
        self.filling, self.count = [], 0
        return complete


def mean(spread: Spread) -> float:
    """The mean of a lognormal with this median."""
    return spread.median * math.exp(spread.sigma**2 / 2)
