"""What holds for both vendors' batches, over their real SDKs and a real connection."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from services.batch.types import Line, ResultsGone, RouteTrouble, no_of
from services.pricing import cost
from services.providers import kind_of
from services.types import Ask, Message
from tests.batch.vendors.house import Vendor, lines, program


def _sent(vendor: Vendor) -> list[dict]:
    """The lines that the service holds of its first job."""
    if vendor.name == "anthropic":
        return [one["params"] for one in vendor.api.jobs["msgbatch_0001"].requests]
    return [one["body"] for one in vendor.api.jobs["batch_0001"].lines]


def test_every_line_comes_back_with_its_answer_whatever_the_order(any_vendor: Vendor) -> None:
    found = any_vendor.run(7)

    assert sorted(found) == [1, 2, 3, 4, 5, 6, 7]
    for no, one in found.items():
        assert (one.state, one.outcome) == ("succeeded", "ok")
        assert one.answer == f"Answer to: What is line {no}?"
        assert (one.usage.uncached_input, one.usage.answer_output, one.usage.source) == (4, 4, "provider")
        assert one.model_reported == any_vendor.deployment.model
        assert one.response_id


def test_a_batch_line_asks_exactly_what_a_live_call_asks_but_for_the_streaming(any_vendor: Vendor) -> None:
    given = lines(2, max_tokens=64)
    any_vendor.submit(any_vendor.job(2), given)

    for line, sent in zip(given, _sent(any_vendor), strict=True):
        live = dict(kind_of(any_vendor.deployment).request(any_vendor.deployment, line.ask).body)
        assert live.pop("stream") is True
        live.pop("stream_options", None)
        assert sent == live


def test_a_line_that_fails_is_told_with_the_reason_and_without_counts(any_vendor: Vendor) -> None:
    any_vendor.faults.errors = {1, 4}
    found = any_vendor.run(6)

    assert {no for no, one in found.items() if one.state == "failed"} == {2, 5}
    assert found[2].outcome == "http_error"
    assert found[2].message in ("Unsupported value: 'temperature'", "max_tokens: 200000 > 64000")
    assert found[2].usage.input_total is None


def test_missing_double_and_unknown_lines_are_given_on_as_they_came(any_vendor: Vendor) -> None:
    any_vendor.faults.missing, any_vendor.faults.double, any_vendor.faults.unknown = {0}, {2}, 1
    job, _ = any_vendor.to_end(any_vendor.submit())

    numbers = [no_of(one.wire_id) for one in any_vendor.results(job)]

    assert sorted(no for no in numbers if no) == [2, 3, 3, 4, 5, 6]
    assert numbers.count(None) == 1
    assert "nobody-0" in [one.wire_id for one in any_vendor.results(job)]


def test_a_truncated_last_line_costs_that_line_only_and_the_file_is_fetched_anew(any_vendor: Vendor) -> None:
    any_vendor.faults.cut = 40
    job, _ = any_vendor.to_end(any_vendor.submit())

    found = any_vendor.results(job)

    broken = [one for one in found if one.wire_id == ""]
    assert len(found) == 6 and len(broken) == 1
    assert broken[0].outcome == "protocol_error" and "ends in the middle" in (broken[0].message or "")
    assert list((any_vendor.bench.folder / "results").iterdir()) == []


def test_fetched_results_are_kept_and_read_again_without_the_service(any_vendor: Vendor) -> None:
    job, _ = any_vendor.to_end(any_vendor.submit())
    first = any_vendor.results(job)
    any_vendor.faults.gone = True

    assert any_vendor.results(job) == first


def test_results_that_the_service_has_deleted_are_said_to_be_gone_for_good(any_vendor: Vendor) -> None:
    any_vendor.faults.gone = True
    job, _ = any_vendor.to_end(any_vendor.submit())

    with pytest.raises(ResultsGone, match=r"keeps (them|results) for (29|30) days"):
        any_vendor.results(job)


def test_an_expired_batch_delivers_what_was_finished_and_names_the_rest_expired(any_vendor: Vendor) -> None:
    any_vendor.faults.expire_after = 4
    job, polled = any_vendor.to_end(any_vendor.submit())
    found = {no_of(one.wire_id): one for one in any_vendor.results(job)}

    assert (polled.state, polled.collectable) == ("expired", True)
    assert [found[no].state for no in range(1, 7)] == ["succeeded"] * 4 + ["expired"] * 2
    assert found[6].message and found[6].usage.input_total is None


def test_a_cancelled_batch_delivers_what_was_finished_and_names_the_rest_cancelled(any_vendor: Vendor) -> None:
    any_vendor.faults.cancel_after = 2
    job = any_vendor.submit()
    any_vendor.poll(job)
    any_vendor.route.cancel(any_vendor.deployment, job)
    assert any_vendor.poll(job).state in ("cancelling", "running")
    job, polled = any_vendor.to_end(job)
    found = {no_of(one.wire_id): one for one in any_vendor.results(job)}

    assert (polled.state, polled.collectable) == ("cancelled", True)
    assert [found[no].state for no in range(1, 7)] == ["succeeded"] * 2 + ["cancelled"] * 4


def test_cancelling_what_is_over_is_no_error(any_vendor: Vendor) -> None:
    job, _ = any_vendor.to_end(any_vendor.submit())
    any_vendor.route.cancel(any_vendor.deployment, job)


def test_a_poll_that_fails_is_trouble_in_words_and_the_next_one_works(any_vendor: Vendor) -> None:
    job = any_vendor.submit()
    any_vendor.faults.bad_polls = 1

    with pytest.raises(RouteTrouble, match=r"failed inside \(500: .*\)\. What was sent there is safe"):
        any_vendor.poll(job)
    assert not any_vendor.poll(job).over


def test_a_job_that_the_service_does_not_know_any_more_is_over(any_vendor: Vendor) -> None:
    job = any_vendor.submit()
    any_vendor.api.jobs.clear()
    polled = any_vendor.poll(job)

    assert (polled.state, polled.over, polled.collectable) == ("failed", True, False)
    assert "send its lines again" in polled.sentence


def test_all_results_can_be_failures(any_vendor: Vendor) -> None:
    any_vendor.faults.errors = set(range(6))
    job, polled = any_vendor.to_end(any_vendor.submit())

    assert (polled.state, polled.collectable) == ("ended", True)
    assert [one.state for one in any_vendor.results(job)] == ["failed"] * 6


def test_the_order_of_the_results_is_not_that_of_the_file(any_vendor: Vendor) -> None:
    numbers = list(any_vendor.run(7))
    assert numbers != sorted(numbers)  # or the emulator shuffles nothing, and no test here joins by id


# --- money and memory ------------------------------------------------------------------------------------------------


def test_counts_are_disjoint_and_cost_half_of_a_live_call(any_vendor: Vendor) -> None:
    any_vendor.faults.usage = {
        "anthropic": {
            "input_tokens": 100,
            "cache_read_input_tokens": 400,
            "cache_creation_input_tokens": 300,
            "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
            "output_tokens": 50,
            "output_tokens_details": {"thinking_tokens": 20},
            "service_tier": "batch",
        },
        "responses": {
            "input_tokens": 800,
            "input_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 300},
            "output_tokens": 50,
            "output_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 850,
        },
        "chat": {
            "prompt_tokens": 800,
            "prompt_tokens_details": {"cached_tokens": 400, "cache_write_tokens": 300},
            "completion_tokens": 50,
            "completion_tokens_details": {"reasoning_tokens": 20},
            "total_tokens": 850,
        },
    }[any_vendor.wire if any_vendor.name == "openai" else "anthropic"]
    usage = any_vendor.run(2)[1].usage

    writes = (200, 100) if any_vendor.name == "anthropic" else (300, None)
    assert (usage.uncached_input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h) == (100, 400, *writes)
    assert (usage.reasoning_output, usage.answer_output) == (20, 30)
    at = datetime(2026, 11, 24, tzinfo=UTC)
    batch = cost.cost(usage, cost.price_of(any_vendor.deployment, at, batch=True), complete=True)
    live = cost.cost(usage, cost.price_of(any_vendor.deployment, at), complete=True)
    # Both models, US dollars for 1M tokens: input 0.05, cache read 0.005, writes 0.0625 and 0.10, output 0.25.
    hour = writes[1] or 0
    golden = 100 * 50 + 400 * 5 + writes[0] * 62.5 + hour * 100 + 50 * 250
    assert (batch.state, batch.nanousd) == ("exact", golden)
    assert live.nanousd == 2 * golden


@pytest.mark.slow
def test_a_big_job_goes_up_and_comes_down_without_being_held_in_memory(any_vendor: Vendor) -> None:
    count, words = 3000, "x" * 6000  # 18 MB each way

    def given() -> Iterator[Line]:
        for line in lines(count):
            yield Line(line.no, Ask((Message("user", f"{words} {line.no}?"),)))

    any_vendor.run(2)  # what is imported is not counted
    with program() as url:  # in a process of its own: here only the route's memory is seen
        any_vendor.url = url
        tracemalloc.start()
        try:
            job = any_vendor.job(count, token="token-2")
            job = any_vendor.route.submit(any_vendor.deployment, job, given(), any_vendor.bench)
            job, _ = any_vendor.to_end(job)
            got = sum(1 for _ in any_vendor.route.results(any_vendor.deployment, job, any_vendor.bench))
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert got == count
    assert peak < 8_000_000


@pytest.mark.slow
def test_a_long_way_is_told_while_it_goes(any_vendor: Vendor) -> None:
    big = lines(20, "y" * 600_000)
    job, _ = any_vendor.to_end(any_vendor.submit(any_vendor.job(20), big))
    any_vendor.results(job)

    assert any(one.startswith("Sending the file to") and one.endswith("of 12 MB.") for one in any_vendor.bench.said)
    assert any(one.startswith("Fetching the results from") for one in any_vendor.bench.said)


def test_a_cancel_does_not_stop_what_was_answered_from_being_fetched(any_vendor: Vendor) -> None:
    job, _ = any_vendor.to_end(any_vendor.submit())
    any_vendor.bench.stop = True
    assert len(any_vendor.results(job)) == job.n_lines
