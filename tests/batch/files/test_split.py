"""A file becomes the fewest jobs that a service takes, in order."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batch.ingest import split
from services.batch.types import RouteLimits

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


@pytest.mark.slow
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
