"""Every line is accounted for, and the figures are those of the lines."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch import reconcile as batch_reconcile
from services.batch import stats
from services.batch.jobs import nothing_came
from services.batch.types import LineState
from services.types import Outcome
from tests.batch.results.rows import line, priced

STATES = get_args(LineState)
some_lines = st.lists(
    st.tuples(st.sampled_from(STATES), st.sampled_from([None, *get_args(Outcome), "odd"]), st.none() | st.text())
).map(
    lambda found: [
        line(no, state, outcome=outcome, message=message) for no, (state, outcome, message) in enumerate(found, 1)
    ]
)


@given(some_lines)
def test_the_states_always_sum_to_what_was_sent(rows: list[dict[str, Any]]) -> None:
    found = batch_reconcile.account(rows, name="One", n_recorded=len(rows))
    unanswered = [row for row in rows if row["state"] in batch_reconcile.RESENT]
    assert found.n == sum(found.counts.values()) == len(rows)
    assert found.even
    assert found.table[-1].lines == sum(one.lines for one in found.table[:-1]) == len(rows)
    assert sum(group.n for group in found.groups) == found.to_resend == len(unanswered)
    assert all(group.text.strip() for group in found.groups)
    hopeless = [row for row in unanswered if row["state"] == "failed" and row["outcome"] in batch_reconcile.SAME_AGAIN]
    assert found.same_again == len(hopeless)


@given(st.dictionaries(st.sampled_from(STATES), st.integers(0, 10**6)))
def test_counts_alone_give_the_same_equation(counts: dict[str, int]) -> None:
    found = batch_reconcile.by_counts(counts)
    assert found.n == sum(counts.values()) == found.table[-1].lines


def test_the_sentence_is_the_equation_and_what_does_not_fit() -> None:
    rows = [line(1), line(2, outcome="max_tokens"), line(3, "failed", outcome="throttled"), line(4, "missing")]
    found = batch_reconcile.account(
        rows, name="One", n_recorded=5, n_left_out=2, strays={"answers to unknown lines": 3}
    )
    assert found.sentence == (
        "4 sent = 2 succeeded + 1 failed + 1 missing. 1 of the answers stopped at their token limit. 5 lines were "
        "recorded at the submit: the figures do not agree. 2 lines of the file were not valid and left out "
        "before. The service also sent 3 answers to unknown lines. 2 can be sent again."
    )


def test_nothing_is_offered_to_be_sent_again_while_lines_are_under_way() -> None:
    assert "sent again" not in batch_reconcile.account([line(1, "running"), line(2, "failed")], name="One").sentence


def test_failures_are_grouped_by_reason_with_what_to_do_and_where_they_are() -> None:
    rows = [line(n, "failed", outcome="throttled", message="429 slow down") for n in range(1, 8)]
    rows += [line(9, "failed", outcome="unauthorised", message="bad key"), line(10, "expired")]
    found = batch_reconcile.account(rows, name="One")
    assert (found.groups[0].outcome, found.groups[0].n) == ("throttled", 7)
    assert "429 slow down" in found.groups[0].text
    assert "try again" in found.groups[0].text
    assert batch_reconcile.first_lines(found.groups[0]) == "lines 2, 3, 4, 5, 6 and 2 more"
    assert [group.same_again for group in found.groups if group.outcome == "unauthorised"] == [True]
    assert found.same_again == 1


def test_no_key_is_in_what_is_told_of_failures() -> None:
    found = batch_reconcile.account(
        [line(1, "failed", outcome="http_error", message="key sk-abcdefgh12345678")], name="One"
    )
    assert "sk-abc" not in found.groups[0].text + str(found.groups[0].message)


# --- statistics ----------------------------------------------------------------------------------------------------


def test_golden_sums_to_the_nano_dollar() -> None:
    rows = [priced(n, 54_399_000 + n, 108_798_000, reasoning_output=5) for n in range(1, 1001)]
    found = stats.summary(rows, seconds=120)
    assert found.cost_nanousd == 54_399_000 * 1000 + 500_500
    assert found.plain_nanousd == 108_798_000_000
    assert found.per_1000_nanousd == found.cost_nanousd
    assert (found.input_tokens, found.output_tokens) == (100_000, 25_000)
    assert found.tokens_per_s == pytest.approx(25_000 / 120)
    assert found.mark == ""


def test_a_line_without_a_price_makes_the_sum_a_lower_bound_and_never_adds_nothing() -> None:
    found = stats.summary([priced(1, 1000), line(2, cost_state="no_price"), line(3, "waiting", call_id=None)])
    assert (found.cost_nanousd, found.n_priced, found.n_unpriced, found.mark) == (1000, 1, 1, "≥")
    assert stats.summary([line(2, cost_state="no_price")]).cost_nanousd is None
    assert stats.summary([]).cost_nanousd is None
    assert stats.summary([]).input_tokens is None


def test_only_succeeded_lines_of_a_good_clock_enter_latency_and_each_percentile_needs_its_n() -> None:
    rows = [line(n, ttlt_ms=100.0 * n, ttft_ms=10.0) for n in range(1, 20)]
    rows += [line(20, "failed", ttlt_ms=9e9), line(21, ttlt_ms=9e9, lag_marked=True)]
    found = stats.summary(rows).times["ttlt_ms"]
    assert (found.n, found.p50, found.p95) == (19, 1000.0, None)
    assert found.why == "p95 needs 20 lines that succeeded, there are 19"
    assert stats.summary([*rows, line(22, ttlt_ms=2000.0)]).times["ttlt_ms"].p95 == pytest.approx(1905.0)


@pytest.mark.parametrize(
    ("late", "untold", "said"),
    [
        (0, 0, None),
        (65, 0, "Times are of 135 of 200 answers: for 65 our own machine was too busy to time them exactly."),
        (0, 2, "Times are of 198 of 200 answers: 2 came without a time."),
        (
            3,
            2,
            "Times are of 195 of 200 answers: for 3 our own machine was too busy to time them exactly and 2 came "
            "without a time.",
        ),
        (200, 0, "Times are of 0 of 200 answers: for 200 our own machine was too busy to time them exactly."),
        (0, 200, None),
    ],
)
def test_times_that_are_not_of_all_answers_say_why(late: int, untold: int, said: str | None) -> None:
    rows = [line(n, ttlt_ms=9.0, lag_marked=n < late) for n in range(200 - untold)]
    rows += [line(300 + n, lag_marked=False) for n in range(untold)] + [line(900, "failed", lag_marked=True)]
    assert stats.summary(rows).untimed == said


def test_lines_of_a_service_have_no_latency_and_say_so() -> None:
    assert "no times" in str(stats.summary([priced(1, 5)]).times["ttft_ms"].why)


def test_the_time_of_a_batch_runs_until_its_end_or_now() -> None:
    begun = datetime(2026, 11, 20, tzinfo=UTC)
    assert stats.duration({"started_at": None, "ended_at": None}, begun) is None
    assert stats.duration({"started_at": begun, "ended_at": None}, begun + timedelta(seconds=9)) == 9
    assert stats.duration({"started_at": begun, "ended_at": begun + timedelta(seconds=5)}) == 5


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    # From Newcombe 1998, table I (method 3), and Brown, Cai and DasGupta 2001.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_agrees_with_the_published_values(hits: int, n: int, low: float, high: float) -> None:
    found = stats.wilson(hits, n)
    assert found is not None
    assert found == pytest.approx((low, high), abs=5e-5)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_the_interval_holds_the_share_and_lies_within_0_and_1(hits: int, n: int) -> None:
    hits = min(hits, n)
    low, high = stats.wilson(hits, n) or (2.0, 2.0)
    assert 0 <= low <= hits / n <= high <= 1
    assert stats.wilson(0, 0) is None


def test_lines_are_summed_from_a_stream() -> None:
    one = priced(1, 5, ttlt_ms=3.0)
    found = stats.summary(itertools.repeat(one, 100_000))
    assert (found.n, found.cost_nanousd, found.times["ttlt_ms"].n) == (100_000, 500_000, 100_000)


def test_lines_that_went_into_another_batch_are_not_offered_again_in_words() -> None:
    found = batch_reconcile.by_counts({"succeeded": 3, "failed": 2})
    assert found.sentence.endswith("2 can be sent again.")
    assert "again" not in replace(found, resent=True).sentence


def test_lines_that_are_not_over_are_counted_as_what_they_become() -> None:
    counts = {"succeeded": 5, "cancelled": 1, "waiting": 2, "running": 3}
    assert batch_reconcile.closed(counts, "cancelled") == {"succeeded": 5, "cancelled": 6}
    assert batch_reconcile.closed({"succeeded": 5}, "missing") == {"succeeded": 5}
    assert (
        batch_reconcile.tally(batch_reconcile.closed(counts, "expired"))
        == "5 answered, 1 cancelled, 5 expired of 11 lines"
    )


def test_a_line_without_a_result_says_that_none_came_and_what_to_do() -> None:
    said = "Nothing came back for this line: send it again."
    assert nothing_came("OpenAI has finished.") == f"OpenAI has finished. {said}"
    assert nothing_came(None) == f"The service has ended the job. {said}"
