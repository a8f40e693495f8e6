"""What a job on instances of its own costs is shared out to its lines without a nano-dollar left over or made up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch import jobs
from services.batch.jobs import share
from services.batch.providers.aws import instance_cost_nanousd
from services.batch.types import LineResult, RouteTrouble, wire_id
from services.types import Usage
from tests.batch.results.rows import deployment

BATCH = {"id": "b", "run_id": "r", "route": "transform", "person": "ada"}


class Kept:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def submit(self, unit: Any) -> Kept:
        self.calls += [call for _no, call, _line in unit.args[2]]
        return self

    def result(self) -> None:
        """It is written."""


def job(first: int, last: int, seconds: float = 77.7) -> dict[str, Any]:
    facts = {"instance_count": 3, "usd_per_hour": "1.4084", "started_at": 0.0, "ended_at": seconds}
    return {
        "no": 1,
        "first_no": first,
        "last_no": last,
        "n_lines": last - first + 1,
        "submitted_at": None,
        "facts": facts,
    }


def result(no: int) -> LineResult:
    return LineResult(wire_id(no), "succeeded", "ok", answer="yes", usage=Usage())


@given(st.integers(0, 10**13), st.integers(1, 300))
def test_shares_are_the_whole_and_no_two_differ_by_more_than_a_nano_dollar(whole: int, n: int) -> None:
    parts = [share(whole, n, rank) for rank in range(n)]
    assert sum(parts) == whole
    assert max(parts) - min(parts) <= 1


@pytest.mark.slow
@given(st.sets(st.integers(5, 60), min_size=1), st.floats(0, 10**6, allow_nan=False), st.randoms())
def test_the_lines_that_came_back_cost_what_the_job_cost_whichever_were_refused_or_went_missing(
    numbers: set[int], seconds: float, chance: Any
) -> None:
    order = list(numbers)
    chance.shuffle(order)
    kept, one = Kept(), job(5, 60, seconds)
    strange = [*order, order[0], 99]  # one that comes twice, and one of no line of this job
    strays = jobs.record(kept, BATCH, one, deployment(), lambda: map(result, strange))  # type: ignore[arg-type]
    assert sum(strays.values()) == 2
    assert sum(call["cost_nanousd"] for call in kept.calls) == instance_cost_nanousd(one["facts"])
    assert {call["repetition"] for call in kept.calls} == numbers


def test_shares_of_results_that_cannot_all_be_read_are_never_more_than_the_whole() -> None:
    def broken() -> Iterator[LineResult]:
        yield from map(result, (1, 2))
        raise RouteTrouble("The rest cannot be read.")

    kept, one = Kept(), job(1, 4)
    whole = instance_cost_nanousd(one["facts"])
    assert whole is not None
    with pytest.raises(RouteTrouble):
        jobs.record(kept, BATCH, one, deployment(), broken)  # type: ignore[arg-type]
    assert [call["cost_nanousd"] for call in kept.calls] == [share(whole, 4, rank) for rank in (0, 1)]
