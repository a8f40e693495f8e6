"""What the same lines would have cost and taken interactively, from what was recorded and from nothing else."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from services.batch.stats import against, of_history, summary
from tests.batch.results.past import put_calls
from tests.batch.results.rows import line, priced

BATCH = {"deployment_id": "one", "route": "anthropic"}
TIMED = [{"ttlt_ms": ms} for ms in (1000.0, 2000.0, 2000.0, 2000.0, 9000.0)]


def test_the_saving_is_the_plain_price_of_the_same_counts_less_what_was_paid() -> None:
    # 1,000 lines at $0.054399 instead of $0.108798.
    lines = summary(priced(n, 54_399_000, 108_798_000) for n in range(1000))
    found = of_history(TIMED, BATCH, lines, seconds=600, concurrency=8)
    assert (found.cost_nanousd, found.plain_nanousd, found.saved_nanousd) == (
        54_399_000_000,
        108_798_000_000,
        54_399_000_000,
    )
    assert found.saved_share == pytest.approx(0.5)
    assert found.cost_sentence == "$54.40 instead of $108.80: $54.40 (50%) saved."
    assert (found.one_by_one_s, found.at_once_s, found.median_ms) == (2000, 250, 2000)
    assert found.time_sentence == (
        "The batch took 10 min; 1,000 calls of 2 s (the median of 5 recorded) one after the other take 33 min, 8 at "
        "once 4 min if that slows none of them down."
    )


def test_lines_without_one_of_the_prices_are_in_neither_sum() -> None:
    found = of_history([], BATCH, summary([priced(1, 10, 20), priced(2, 1000, None), line(3)]), seconds=None)
    assert (found.cost_nanousd, found.plain_nanousd, found.n_priced) == (10, 20, 1)
    assert "over the 1 of 3 lines" in found.cost_sentence


def test_without_prices_or_history_it_says_so_and_tells_no_figure() -> None:
    found = of_history([{"ttlt_ms": 5.0}], BATCH, summary([line(1)]), seconds=None)
    assert found.saved_nanousd is None
    assert found.one_by_one_s is None
    assert "not known" in found.cost_sentence
    assert found.time_sentence == (
        "The batch has not ended yet; how long the lines would have taken interactively is not known: 1 interactive "
        "call is among the latest recorded of this deployment."
    )
    assert "no interactive calls are among" in of_history([], BATCH, summary([]), seconds=1).time_sentence


def test_our_own_runner_saves_nothing_and_says_why() -> None:
    found = of_history([], BATCH | {"route": "runner"}, summary([priced(1, 10, 10)]), seconds=1)
    assert found.cost_sentence.endswith("they were sent one by one at the ordinary price.")


def test_only_interactive_calls_of_that_deployment_are_its_history(engine: Engine) -> None:
    put_calls(engine, *({"ttlt_ms": 100.0} for _ in range(5)), *({"ttlt_ms": 9e6, "source": "batch"} for _ in range(9)))
    put_calls(engine, *({"ttlt_ms": 7e6} for _ in range(9)), deployment_id="other")
    found = against(engine, BATCH, summary([priced(1, 1, 2)] * 10), seconds=1)
    assert (found.n_history, found.median_ms, found.one_by_one_s) == (5, 100.0, 1.0)


def test_fewer_lines_than_lanes_are_not_divided_by_more_than_there_are() -> None:
    assert of_history(TIMED, BATCH, summary([line(1), line(2)]), seconds=1).at_once_s == 2.0
