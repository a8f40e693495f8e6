"""What the simulation is given: requests with their moments and lengths, and the seconds of a scheduler step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.calculator import kv
from services.calculator.steps import CASES, cases
from services.calculator.types import Serving, Spread

EXACT_BELOW = 64  # prompt tokens
PROMPT_GRAIN, CONTEXT_GRAIN, BEFORE_GRAIN = 16, 32, 128  # tokens


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


@dataclass(slots=True)
class Steps:
    """Seconds of a scheduler step, asked of the roofline once for each (rounded) kind of step.

    A prompt is rounded to 16 tokens, contexts to 32 and 128: far inside the range of the roofline's own factors.
    """

    serving: Serving
    which: str = "mid"
    known: dict[tuple[int, int, int, int], float] = field(default_factory=dict)

    def seconds(self, prompt: int, before: float, batch: int, context: float) -> float:
        """As ``roofline.mixed_s``: ``prompt`` tokens after ``before`` ones, beside ``batch`` of ``context`` each.

        Several prompts in one step have fewer pairs than one as long as all of them: ``before`` may be below zero.
        """
        key = (
            prompt if prompt < EXACT_BELOW else PROMPT_GRAIN * round(prompt / PROMPT_GRAIN),
            BEFORE_GRAIN * round(before / BEFORE_GRAIN) if prompt else 0,
            batch,
            CONTEXT_GRAIN * round(context / CONTEXT_GRAIN) if batch else 0,
        )
        took = self.known.get(key)
        if took is None:
            took = self.known[key] = self._asked(*key)
        return took

    def _asked(self, prompt: int, before: int, batch: int, context: int) -> float:
        case = cases(self.serving)[CASES.index(self.which)]
        read = batch * kv.read_bytes(self.serving, context) if batch else 0.0
        if before > 0:
            read += kv.read_bytes(self.serving, before)
        return case.step(prompt, case.pairs(prompt, before) if prompt else 0.0, batch, read)


def gaps(count: int, mean_s: float, burstiness: float, seed: np.random.SeedSequence) -> npt.NDArray[np.float64]:
    """Seconds between arrivals: gamma with this mean and squared coefficient of variation (1: Poisson, 0: even)."""
    if burstiness <= 0:
        return np.full(count, mean_s)
    return np.random.default_rng(seed).gamma(1.0 / burstiness, mean_s * burstiness, count)


def tokens(count: int, spread: Spread, most: int, seed: np.random.SeedSequence) -> npt.NDArray[np.int64]:
    """Lengths: lognormal, whole, from 1 to ``most``."""
    normal = np.random.default_rng(seed).standard_normal(count)
    drawn = spread.median * np.exp(spread.sigma * normal)
    return np.clip(np.rint(drawn), 1, most).astype(np.int64)


def made(
    count: int, rpm: float, input: Spread, output: Spread, *, cached_share: float, burstiness: float,
    room: int, seed: int,
) -> Callable[[int], Request]:  # fmt: skip
    """The requests by number. Moments, inputs and outputs have random streams of their own, so that a change of one
    leaves the others; a request longer than ``room`` (what the context and the cache hold) is cut to it."""
    streams = np.random.SeedSequence(seed).spawn(3)
    moments = np.cumsum(gaps(count, 60.0 / rpm, burstiness, streams[0])).tolist()
    inputs = tokens(count, input, max(1, room - 1), streams[1]).tolist()
    outputs = tokens(count, output, room, streams[2]).tolist()

    def at(number: int) -> Request:
        given = inputs[number]
        # The last prompt token is always computed: it is the one that gives the first answer token.
        cached = min(int(cached_share * given), given - 1)
        return Request(number, moments[number], given, max(1, min(outputs[number], room - given)), cached)

    return at


def mean(spread: Spread) -> float:
    """The mean of a lognormal with this median."""
    return spread.median * math.exp(spread.sigma**2 / 2)
