"""The width that our runner finds: against a server of known capacity, simulated in a time of its own."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from services.batch.concurrency import FIRST, Lanes, Spacing


@dataclass
class Truth:
    """A server: ``k`` at once, each for ``service_s`` (or as ``service`` says for so many), the others wait.

    Above ``throttle`` requests under way it refuses at once.
    """

    k: int
    service_s: float = 0.05
    noise: float = 0.0
    throttle: int | None = None
    service: Callable[[int], float] | None = None
    seed: int = 1
    widths: list[int] = field(default_factory=list)
    cuts: int = 0

    def run(self, lanes: Lanes, n: int) -> float:
        """Send ``n`` lines; returns the seconds that it took."""
        rnd = random.Random(self.seed)
        events: list[tuple[float, int, bool, float]] = []
        queue: deque[float] = deque()
        now, under_way, serving, begun, done, number = 0.0, 0, 0, 0, 0, 0

        def length() -> float:
            base = self.service_s if self.service is None else self.service(serving)
            return base * (1 + rnd.uniform(-self.noise, self.noise))

        while done < n:
            while begun < n and under_way < lanes.limit:
                under_way, begun, number = under_way + 1, begun + 1, number + 1
                if self.throttle is not None and under_way > self.throttle:
                    heapq.heappush(events, (now + 0.002, number, False, now))
                elif serving < self.k:
                    serving += 1
                    heapq.heappush(events, (now + length(), number, True, now))
                else:
                    queue.append(now)
            now, _, good, began = heapq.heappop(events)
            in_use, under_way = under_way, under_way - 1
            if good:
                done, serving = done + 1, serving - 1
                lanes.ended(began=began, now=now, latency_ms=(now - began) * 1000, in_use=in_use)
                if queue:
                    serving, number = serving + 1, number + 1
                    heapq.heappush(events, (now + length(), number, True, queue.popleft()))
            else:
                begun -= 1
                self.cuts += lanes.ended(began=began, now=now, latency_ms=None, in_use=in_use, throttled=True)
            self.widths.append(lanes.limit)
        return now


def settled(widths: list[int]) -> list[int]:
    return widths[len(widths) // 2 :]


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("k", [1, 4, 16, 64])
def test_without_being_told_it_keeps_a_server_of_any_capacity_busy(k: int, noise: float) -> None:
    n, truth = 400 * k + 400, Truth(k, noise=noise)
    took = truth.run(Lanes(), n)
    assert n * truth.service_s / k / took >= 0.95, truth.widths[-1]
    assert max(settled(truth.widths)) <= max(3 * FIRST, 2.5 * k), "it must not pile up lines that only wait"


def test_a_server_that_gets_slower_but_does_more_is_used_more_widely() -> None:
    truth = Truth(10_000, service=lambda serving: 0.5 * (1 + serving / 64))
    took = truth.run(Lanes(), 20_000)
    assert 20_000 / took > 0.65 * 64 / 0.5
    assert truth.widths[-1] > 100


def test_throttling_halves_it_once_in_a_round_trip_and_it_comes_back_to_just_below() -> None:
    truth = Truth(1000, throttle=40)
    truth.run(Lanes(), 6000)
    late = settled(truth.widths)
    assert 20 <= sum(late) / len(late) <= 40
    assert min(late) >= 15, "one burst of refusals is one cut"
    assert truth.cuts < 40


@pytest.mark.parametrize("objective_ms", [60.0, 110.0])
def test_an_objective_is_kept_by_95_of_100_lines(objective_ms: float) -> None:
    truth = Truth(24)
    lanes = Lanes(objective_ms=objective_ms)
    truth.run(lanes, 6000)
    late = settled(truth.widths)
    fits = 24 * objective_ms / 50
    assert 0.75 * fits <= sum(late) / len(late) <= 1.1 * fits


def test_an_objective_that_cannot_be_kept_leaves_one_lane() -> None:
    truth = Truth(24)
    lanes = Lanes(objective_ms=10.0)
    truth.run(lanes, 600)
    assert lanes.limit == 1


def test_it_never_goes_above_what_is_allowed_nor_below_one() -> None:
    truth = Truth(64)
    truth.run(Lanes(max_limit=7), 3000)
    assert max(truth.widths) <= 7
    lanes = Lanes(max_limit=5)
    for moment in range(100):
        lanes.ended(began=moment - 0.001, now=float(moment), latency_ms=None, in_use=1, throttled=True)
    assert lanes.limit == 1


def test_a_bound_that_comes_later_holds_at_once() -> None:
    lanes = Lanes(first=50)
    lanes.bound(3)
    assert lanes.limit == 3


def test_lanes_that_are_not_used_teach_nothing() -> None:
    lanes = Lanes(first=10)
    for at in range(500):
        lanes.ended(began=at / 10, now=at / 10 + 0.05, latency_ms=50.0, in_use=1)
    assert lanes.limit == 10


def _turns(spacing: Spacing, n: int, now: float = 100.0) -> Iterator[float]:
    return (spacing.turn(now) for _ in range(n))


def test_a_rate_limit_holds_in_every_minute_from_the_first_line_on() -> None:
    at = list(_turns(Spacing(120), 400))
    assert at == sorted(at)
    assert all(sum(start <= one < start + 60 for one in at) <= 120 for start in at)
    assert at[119] - at[0] < 60


def test_without_a_rate_limit_every_turn_is_now() -> None:
    assert set(_turns(Spacing(None), 50)) == {100.0}


def test_a_burst_of_refusals_halves_the_lanes_and_does_so_once() -> None:
    lanes = Lanes(first=40)
    lanes.ended(began=0.0, now=1.0, latency_ms=None, in_use=40, throttled=True)
    assert lanes.limit == 20
    for n in range(9):
        lanes.ended(began=0.0, now=1.0 + n / 1000, latency_ms=None, in_use=40, throttled=True)
    assert lanes.limit == 20
