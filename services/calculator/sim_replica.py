"""One replica in the simulation: the scheduler of vLLM V1 step by step, or static batches.

Each step gives one token to every decoding sequence, then what is left of the token budget to prompts, oldest first
(chunked prefill). A waiting request is let in when its prompt's blocks are free; when a decoding sequence needs a
block and none is free, the youngest is thrown out and will be computed again (vLLM: v1/core/sched/scheduler.py,
recompute preemption). Steps in which nothing changes are taken together.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from dataclasses import dataclass

from services.calculator.sim_requests import Request, Steps

LONGEST_STRETCH = 64  # steps taken at once: their time is that of the middle one
RESERVE = 0.01  # share of the blocks that stays free when one is let in beside others (vLLM's watermark)


@dataclass(frozen=True, slots=True)
class Limits:
    """``blocks`` of ``block`` tokens; at most ``seqs`` at once; ``step_tokens`` a step."""

    blocks: int
    block: int
    seqs: int
    step_tokens: int

    def blocks_of(self, held: int) -> int:
        return -(-held // self.block)


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
            self.filling = [one for one in self.filling if one.done < one.target]
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
        held = request.target + self._step - request.since
        self._held -= held
        self.free += self.limits.blocks_of(held)
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
        kept = self._needed(1) + math.ceil(RESERVE * self.limits.blocks) if running else 0
        return self.limits.blocks_of(request.target) + kept <= self.free

    def _needed(self, count: int) -> int:
        """Blocks that the decoding sequences need for their next ``count`` steps."""
        whole, rest = divmod(count, self.limits.block)
        block, step = self.limits.block, self._step
        return whole * len(self.decoding) + sum(self._phase[(step + one) % block] for one in range(rest))

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


class StaticReplica(Replica):
    """A batch is taken from the queue, prefilled and decoded to its longest answer; all are handed back then."""

    def plan(self, now_s: float) -> None:
        self.start_s, self.count = now_s, 0
        taken = self._take()
        if not taken:
            return
        prompt = sum(one.input - one.cached for one in taken)
        longest = max(one.output for one in taken)
        batch = len(taken)
        context = sum(one.input for one in taken) / batch + longest / 2
        chunks = [(one, one.input - one.cached) for one in taken]
        fill_s = self.steps.seconds(prompt, _before(chunks, prompt), 0, 0.0)
        decode_s = (longest - 1) * self.steps.seconds(0, 0.0, batch, context) if longest > 1 else 0.0
        self.filling, self.count, self.step_s = taken, 1, fill_s + decode_s
        for one in taken:
            one.first_s = now_s + fill_s

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
        for one in complete:
            one.made, one.end_s = one.output, now_s
        self.filling, self.count = [], 0
        return complete


def _before(chunks: list[tuple[Request, int]], prompt: int) -> float:
    """The context after which one chunk of ``prompt`` tokens would have as many attention pairs as these chunks have
    (below zero for many short ones)."""
    pairs = sum(take * (one.done + take / 2) for one, take in chunks)
    return pairs / prompt - prompt / 2
