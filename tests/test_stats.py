"""Few values compared honestly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runs.compare import compare, difference, median_interval, percentile


def row(column: int, repetition: int = 1, **values: Any) -> dict[str, Any]:
    return {
        "column_no": column,
        "repetition": repetition,
        "attempt_no": 1,
        "deployment_id": f"d{column}",
        "deployment": {"name": f"D{column}"},
        "state": "succeeded",
        "outcome": "ok",
        "ttft_ms": 200.0,
        "ttlt_ms": 1000.0,
        "decode_tps": 50.0,
        "answer_output": 40,
        "reasoning_output": None,
        "cost_state": "exact",
        "cost_nanousd": 1_000_000,
        "lag_marked": False,
        "decode_hidden": None,
    } | values


def cells(calls: list[dict[str, Any]], key: str) -> list[tuple[str, str]]:
    return [(line.cells[key].text, line.cells[key].beside) for line in compare(calls)]


def test_the_median_of_few_values_has_an_interval_and_of_one_none() -> None:
    assert median_interval([]) == median_interval(())
    assert median_interval([]).median is None
    one = median_interval([5.0])
    assert (one.n, one.median, one.low) == (1, 5.0, None)
    several = median_interval([1.0, 2.0, 3.0, 4.0, 100.0])
    assert several.median == 3.0
    assert several.low is not None
    assert several.high is not None
    assert several.low <= 3.0 <= several.high


@pytest.mark.slow
def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    chance = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        found = median_interval(list(chance.normal(10, 2, size=30)))
        hits += bool(found.low is not None and found.high is not None and found.low <= 10 <= found.high)
    assert hits >= 180


@given(st.lists(st.floats(0.1, 1e6), min_size=2, max_size=30))
def test_the_same_values_give_the_same_interval_and_no_difference_from_themselves(values: list[float]) -> None:
    assert median_interval(values) == median_interval(values)
    assert not difference(values, values).seen


def test_a_difference_is_seen_only_where_it_cannot_be_chance() -> None:
    near, far = [100.0, 101, 99, 100, 102, 98] * 3, [150.0, 151, 149, 150, 152, 148] * 3
    assert difference(near, far).seen
    assert not difference(near, [v + 0.3 for v in near]).seen
    assert not difference([1.0], far).seen


@pytest.mark.parametrize(
    ("n", "q", "known"),
    [(19, 0.95, False), (20, 0.95, True), (99, 0.99, False), (100, 0.99, True), (1, 0.5, True), (0, 0.5, False)],
)
def test_a_percentile_needs_enough_values(n: int, q: float, known: bool) -> None:
    assert (percentile([1.0] * n, q) is not None) is known


def test_the_best_is_marked_and_the_others_say_how_far_they_are() -> None:
    calls = [row(0, ttft_ms=200.0), row(1, ttft_ms=282.0), row(2, ttft_ms=1000.0)]
    assert cells(calls, "ttft") == [("0.20 s", ""), ("0.28 s", "+41 %"), ("1.00 s", "5.0 ×")]
    assert [line.cells["ttft"].best for line in compare(calls)] == [True, False, False]


def test_a_tie_has_no_best() -> None:
    assert not any(line.cells["ttft"].best for line in compare([row(0), row(1)]))


def test_only_calls_that_succeeded_and_were_stamped_in_time_are_compared() -> None:
    calls = [
        row(0, 1, state="cut_off", ttft_ms=1.0),
        row(0, 2),
        row(0, 3, lag_marked=True, ttft_ms=9999.0),
        row(1, 1, state="failed"),
        row(1, 2, state="throttled"),
        row(1, 3, state="failed"),
    ]
    first, second = compare(calls)
    assert first.cells["ttft"].text == "0.20 s"
    assert first.succeeded == "2 of 3, 1 cut off"
    assert first.note == "1 left out: our own clock was late"
    assert second.succeeded == "0 of 3, 2 failed, 1 throttled"
    assert (second.cells["ttft"].text, second.cells["ttft"].beside) == ("–", "no call succeeded")
    assert first.cells["out"].text.startswith("40"), "counts do not rest on the clock"


def test_the_last_attempt_counts() -> None:
    calls = [row(0, state="failed"), row(0, attempt_no=2, ttft_ms=300.0)]
    assert compare(calls)[0].cells["ttft"].text == "0.30 s"
    assert compare(calls)[0].succeeded == "1 of 1"


def test_a_difference_that_may_be_chance_reads_so() -> None:
    calls = [row(0, r, ttft_ms=200.0 + r) for r in range(1, 7)] + [row(1, r, ttft_ms=200.4 + r) for r in range(1, 7)]
    assert cells(calls, "ttft")[1][1] == "no difference seen"
    assert "(" in cells(calls, "ttft")[0][0], "medians carry their interval"


def test_an_unknown_price_is_no_price_and_never_zero() -> None:
    calls = [row(0, cost_state="no_price", cost_nanousd=None), row(1, cost_state="free", cost_nanousd=0), row(2)]
    texts = cells(calls, "cost")
    assert texts[0] == ("–", "no price")
    assert texts[1] == ("–", "free")
    assert texts[2][0] == "$1"
