"""A file becomes the fewest jobs that a service takes, in order, and the sentences say so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batch.ingest import over_context, split, too_large, why_mixed, why_split, why_too_few
from services.batch.types import Record, RouteLimits
from services.types import Ask, Message

OPENAI = RouteLimits(max_records=50_000, max_bytes=200_000_000)
BEDROCK = RouteLimits(min_records=100, max_records=50_000, max_bytes=1_000_000_000)


def test_a_file_within_the_limits_is_one_job():
    assert split(3, [10, 20, 30], OPENAI) == [(1, 3, 3, 60)]
    assert split(0, [], OPENAI) == []
    assert split(2, [1, 2], RouteLimits()) == [(1, 2, 2, 3)]


def test_too_many_records_become_several_jobs():
    parts = split(120_000, [100] * 120_000, OPENAI)
    assert [(part.first_no, part.last_no, part.n) for part in parts] == [
        (1, 50_000, 50_000),
        (50_001, 100_000, 50_000),
        (100_001, 120_000, 20_000),
    ]
    assert why_split(parts, OPENAI, "OpenAI") == (
        "120,000 records in 12 MB are more than one OpenAI job takes (50,000 records or 200 MB): they are sent as 3 "
        "jobs, of 50,000, 50,000, 20,000 records."
    )
    assert why_split(parts[:1], OPENAI, "OpenAI") is None


def test_too_many_bytes_become_several_jobs():
    parts = split(5, [90, 20, 80, 100, 1], RouteLimits(max_bytes=110))
    assert [(part.n, part.n_bytes) for part in parts] == [(2, 110), (1, 80), (2, 101)]


def test_a_last_job_below_the_minimum_is_filled_up_from_the_one_before():
    parts = split(50_030, [100] * 50_030, BEDROCK)
    assert [part.n for part in parts] == [49_930, 100]
    assert parts[0].last_no + 1 == parts[1].first_no


def test_where_no_division_keeps_to_the_limits_it_is_said():
    with pytest.raises(ValueError, match="fewer than 100 records; there are 37"):
        split(37, [100] * 37, BEDROCK)
    with pytest.raises(ValueError, match=r"Record 2 is 300 MB as a request, and the service takes 200 MB\."):
        split(3, [100, 300_000_000, 100], OPENAI)
    with pytest.raises(ValueError, match="cannot be divided"):
        split(4, [10, 10, 10, 100], RouteLimits(min_records=2, max_bytes=100))
    with pytest.raises(ValueError, match="3 records were announced and 2 came"):
        split(3, [1, 2], OPENAI)


LIMITS = st.builds(
    RouteLimits,
    min_records=st.integers(1, 4),
    max_records=st.none() | st.integers(1, 8),
    max_bytes=st.none() | st.integers(5, 60),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=60), LIMITS)
def test_every_record_is_in_one_job_and_every_job_keeps_to_the_limits(sizes, limits):
    try:
        parts = split(len(sizes), iter(sizes), limits)
    except ValueError:
        return
    at = 0
    for part in parts:
        assert part.first_no == at + 1
        assert part.n == part.last_no - at >= limits.min_records
        assert part.n_bytes == sum(sizes[at : part.last_no])
        assert limits.max_records is None or part.n <= limits.max_records
        assert limits.max_bytes is None or part.n_bytes <= limits.max_bytes
        at = part.last_no
    assert at == len(sizes)


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 500), st.integers(1, 50))
def test_equal_records_take_as_few_jobs_as_can_be(n, most):
    assert len(split(n, [1] * n, RouteLimits(max_records=most))) == -(-n // most)


def test_sentences_on_too_few_and_mixed_models():
    assert why_too_few(37, BEDROCK, "Bedrock") == (
        "Bedrock needs ≥100 records for this model, you have 37. Run through the on-demand queue instead?"
    )
    assert why_too_few(100, BEDROCK, "Bedrock") is None
    assert why_mixed({"gpt-a": 90, "gpt-b": 30}, "OpenAI") == (
        "gpt-a 90 lines, gpt-b 30 lines: an OpenAI file takes one model. Split into 2?"
    )
    assert why_mixed({"gpt-a": 90}, "OpenAI") is None


def test_records_that_are_too_large_are_listed_by_line():
    limits = RouteLimits(max_record_bytes=6_291_456)
    faults, n = too_large([(2, 100), *((line, 7_000_000) for line in range(3, 33))], limits, "SageMaker")
    assert (len(faults), n) == (20, 30)
    assert faults[0].text == "Line 3: 7 MB as a request; SageMaker takes 6.291 MB. Shorten it."
    assert too_large([(1, 10**12)], RouteLimits(), "x") == ([], 0)


def test_records_over_the_context_are_listed_by_line():
    def record(line: int, chars: int, **params) -> Record:
        return Record(line, line, str(line), {}, Ask((Message("user", "x" * chars),), "", params))

    faults, n = over_context([record(2, 400), record(3, 4_000), record(5, 400, max_tokens=950)], 1_000)
    assert n == 1
    assert faults[0].line == 5
    assert "about 100 tokens and up to 950 of answer; the model's context is 1,000" in faults[0].text
