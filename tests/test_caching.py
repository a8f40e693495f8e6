"""Cold and warm told apart, the arithmetic of when caching pays, and the sentence that says what happened."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services import caching as caching_module
from services.call_record import from_row, usage_of
from services.deployments.config import embedded_deployments
from services.runs import record as runs_record
from services.runs import view
from services.runs.compare import compare, difference
from services.types import Deployment

CLAUDE = Deployment("c", "Claude", "anthropic", "claude-haiku-4-5", "https://api.anthropic.com", "messages")
LOCAL = embedded_deployments()[0]
PRICE = {
    "source": "deployment",
    "date": "2026-11-24",
    "rates": {"input": "1", "cache_read": "0.1", "cache_write_5m": "1.25", "cache_write_1h": "2", "output": "5"},
}


def row(repetition: int = 1, to: Deployment = CLAUDE, **values: Any) -> dict[str, Any]:
    return {
        "id": f"call{repetition}",
        "run_id": "r",
        "column_no": 0,
        "repetition": repetition,
        "attempt_no": 1,
        "deployment_id": to.id,
        "deployment": to.to_json(),
        "kind": to.kind,
        "wire": to.wire,
        "model": to.model,
        "source": "caching",
        "person": "local",
        "state": "succeeded",
        "outcome": "ok",
        "cache_mode": "5m",
        "ttft_ms": 900.0,
        "ttlt_ms": 1500.0,
        "uncached_input": 20,
        "cache_read": 0,
        "cache_write_5m": 0,
        "cache_write_1h": None,
        "answer_output": 10,
        "reasoning_output": None,
        "usage_source": "provider",
        "cost_state": "no_price",
        "cost_nanousd": None,
        "price": None,
        "lag_marked": False,
    } | values


def priced(repetition: int, read: int = 0, written: int = 0, **values: Any) -> dict[str, Any]:
    nano = 20 * 1000 + read * 100 + written * 1250 + 10 * 5000
    return (
        row(repetition, cache_read=read, cache_write_5m=written, price=PRICE, cost_state="exact", cost_nanousd=nano)
        | values
    )


def cold_and_warm(warm: int = 4, **values: Any) -> list[dict[str, Any]]:
    first = priced(1, written=5000, ttft_ms=900.0)
    return [first, *(priced(n + 2, read=5000, ttft_ms=300.0 + n) for n in range(warm))]


def said(*rows: dict[str, Any]) -> str:
    return caching_module.conclusion(caching_module.measured(rows)[0])


# --- cold or warm --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counts", "state"),
    [
        ({"cache_read": None}, None),
        ({"cache_read": 0}, "cold"),
        ({"cache_read": 0, "cache_write_5m": 900}, "cold"),
        ({"cache_read": 900, "uncached_input": 100}, "warm"),
        ({"cache_read": 900, "cache_write_5m": 100}, "warm"),
        ({"cache_read": 3, "uncached_input": 997}, "cold"),
        ({"cache_read": 50, "uncached_input": 950}, "warm"),
    ],
)
def test_a_call_is_warm_when_a_twentieth_was_read_cold_when_less_and_unknown_when_nothing_is_said(
    counts: dict[str, Any], state: str | None
) -> None:
    assert view.state(usage_of(counts)) == state


def test_every_record_carries_the_state() -> None:
    call = row(cache_read=900)
    assert runs_record.of_call(from_row(call))["cache"] == {"asked": "5m", "state": "warm"}
    assert runs_record.in_words(from_row(call))["cache"] == "warm"
    assert runs_record.in_words(from_row(row(cache_read=None)))["cache"] == "not reported"
    header, line = runs_record.run_csv([call]).splitlines()[:2]
    assert dict(zip(header.split(","), line.split(","), strict=True))["prompt_cache"] == "warm"


def test_the_comparison_never_takes_one_median_over_cold_and_warm_calls() -> None:
    lines = compare([*cold_and_warm(), *(row(n, column_no=1, cache_read=None, ttft_ms=500.0) for n in (1, 2))])
    assert [line.name for line in lines] == ["Claude · cold", "Claude · warm", "Claude"]
    assert [line.cells["ttft"].value for line in lines] == [900.0, 301.5, 500.0]
    assert [line.note for line in lines] == ["1 cold prompt cache", "4 warm prompt cache", ""]
    assert [line.cache for line in lines] == ["cold", "warm", None]


def test_a_warm_line_is_not_the_best_of_cold_ones() -> None:
    lines = compare([row(1, ttft_ms=900.0), row(1, column_no=1, ttft_ms=300.0, cache_read=900)])
    assert not any(line.cells["ttft"].best for line in lines)
    lines = compare([row(1, ttft_ms=900.0), row(1, column_no=1, ttft_ms=300.0)])
    assert [line.cells["ttft"].best for line in lines] == [False, True]


def test_calls_that_failed_split_no_line() -> None:
    lines = compare([row(1), row(2, state="failed", cache_read=900)])
    assert [(line.name, line.succeeded) for line in lines] == [("Claude", "1 of 2, 1 failed")]


# --- when it pays --------------------------------------------------------------------------------------------------

multiples = st.decimals(Decimal("1.01"), Decimal(4), places=3)
reads = st.decimals(Decimal(0), Decimal("0.99"), places=3)


@given(write=multiples, read=reads)
def test_at_the_break_even_hit_rate_both_ways_cost_the_same(write: Decimal, read: Decimal) -> None:
    hits = caching_module.break_even_hits(write, read)
    assert hits is not None
    assert abs(hits * read + (1 - hits) * write - 1) < Decimal("1e-20")


@given(write=multiples, read=reads, lifetime=st.floats(1, 1000))
def test_at_the_break_even_gap_the_hit_rate_is_reached(write: Decimal, read: Decimal, lifetime: float) -> None:
    hits = caching_module.break_even_hits(write, read)
    assert hits is not None
    gap = caching_module.break_even_gap_min(hits, lifetime)
    assert gap is not None
    assert 1 - 2.718281828459045 ** (-lifetime / gap) == pytest.approx(float(hits), rel=1e-9)


@given(write=st.decimals(Decimal("0.5"), Decimal(4), places=3), read=reads)
def test_the_burst_that_pays_is_the_shortest_that_does(write: Decimal, read: Decimal) -> None:
    n = caching_module.burst_that_pays(write, read)
    if n is None:  # longer than anybody would send
        assert read > Decimal("0.9")
        return
    assert write + (n - 1) * read < n
    assert n == 1 or write + (n - 2) * read >= n - 1


def test_the_figures_of_the_calculator_come_out() -> None:
    five, hour = Decimal("1.25"), Decimal(2)
    assert float(caching_module.break_even_hits(five, Decimal("0.1")) or 0) == pytest.approx(0.217, abs=5e-4)
    assert float(caching_module.break_even_hits(hour, Decimal("0.1")) or 0) == pytest.approx(0.526, abs=5e-4)
    assert caching_module.break_even_gap_min(Decimal("0.2174"), 5) == pytest.approx(20, abs=0.5)
    assert caching_module.break_even_gap_min(Decimal("0.5263"), 60) == pytest.approx(80, abs=0.5)
    assert (
        caching_module.burst_that_pays(five, Decimal("0.1")),
        caching_module.burst_that_pays(hour, Decimal("0.1")),
    ) == (2, 3)
    assert caching_module.break_even_hits(Decimal("1.25"), Decimal(1)) is None
    assert caching_module.break_even_hits(Decimal(1), Decimal("0.5")) == 0


def test_the_cost_without_a_cache_is_the_same_counts_at_the_plain_price() -> None:
    found = caching_module.measured(cold_and_warm())[0]
    assert found.with_cache == 5 * (20_000 + 50_000) + 5000 * 1250 + 4 * 5000 * 100
    assert found.without == 5 * (20_000 + 50_000 + 5000 * 1000)
    assert found.prices is not None
    assert (found.prices.write, found.prices.read, found.prices.lifetime_min) == (Decimal("1.25"), Decimal("0.1"), 5)
    pays = caching_module.pays_when(found)
    assert "more than 21.7 %" in pays
    assert "from 2 on" in pays
    assert "one in 20 minutes" in pays


@given(read=st.integers(0, 10**6), written=st.integers(0, 10**6), plain=st.integers(1, 10**6))
def test_without_a_cache_no_token_is_lost_or_added(read: int, written: int, plain: int) -> None:
    call = priced(1, read, written, uncached_input=plain)
    assert caching_module.cost_without(call) == (read + written + plain) * 1000 + 10 * 5000


# --- the sentence --------------------------------------------------------------------------------------------------


def test_cold_and_warm_are_compared_with_time_and_money() -> None:
    sentence = said(*cold_and_warm())
    assert "0.30 s instead of 0.90 s (medians of 4 warm and 1 cold)" in sentence
    assert "% less)" in sentence
    assert sentence.endswith(".")
    found = caching_module.measured(cold_and_warm())[0]
    assert found.difference == difference([900.0], [300.0, 301, 302, 303])


def test_two_of_each_have_an_interval_and_a_difference_that_may_be_chance_reads_so() -> None:
    rows = [priced(n, written=5000, ttft_ms=300.0 + n) for n in (1, 2, 3)]
    rows += [priced(n, read=5000, ttft_ms=300.0 + n) for n in (4, 5, 6)] + [priced(7, read=5000, ttft_ms=300.0)]
    assert "no difference is seen" in said(*rows)


def test_below_the_minimum_it_says_how_many_tokens_are_needed() -> None:
    assert said(row(1, uncached_input=1900), row(2, uncached_input=1900)) == (
        "Claude: nothing was cached: this model needs 4,096 tokens and the prompt had 1,900."
    )


def test_nothing_cached_is_never_silence() -> None:
    unknown = replace(CLAUDE, model="claude-haiku-5-5")
    assert "the minimum of this model is not known to us" in said(row(1, unknown))
    assert "was off" in said(row(1, cache_mode="off"), row(2, cache_mode="off"))
    assert "caches only what it is asked to" in said(row(1, cache_mode=None), row(2, cache_mode=None))
    assert "although the prompt had 9,000 tokens" in said(*(row(n, uncached_input=9000) for n in (1, 2)))
    assert "has no minimum" in said(*(row(n, LOCAL, cache_mode="auto") for n in (1, 2)))


def test_what_is_not_reported_or_did_not_succeed_is_said() -> None:
    assert "does not report cached tokens" in said(row(1, cache_read=None), row(2, cache_read=None))
    failed = said(row(1, state="failed", cache_read=None), row(2, state="cancelled", cache_read=None))
    assert "no call succeeded (1 failed, 1 stopped)" in failed


def test_only_warm_or_only_written_calls_are_not_compared() -> None:
    assert "start cold" in said(priced(1, read=5000), priced(2, read=5000))
    assert "none was read back in 2 calls" in said(priced(1, written=5000), priced(2, written=5000))


def test_a_cache_that_costs_more_than_it_saves_is_told() -> None:
    rows = [priced(n, written=5000) for n in range(1, 9)] + [priced(9, read=5000, ttft_ms=300.0)]
    assert "more than the" in said(*rows)


def test_a_free_deployment_saves_only_time() -> None:
    free = {"price": {"source": "deployment", "date": "2026-11-24", "per_hour": "0"}, "cost_state": "free"}
    rows = [row(1, LOCAL, **free), row(2, LOCAL, cache_read=1400, ttft_ms=60.0, **free)]
    assert "the time is all that is saved" in said(*rows)
    assert caching_module.measured(rows)[0].prices is None


def test_calls_with_caching_off_are_cold_calls_of_the_same_deployment() -> None:
    rows = [*cold_and_warm(), *(row(n, column_no=1, cache_mode="off", ttft_ms=910.0 + n) for n in (1, 2, 3))]
    found = caching_module.measured(rows)
    assert len(found) == 1
    assert (len(found[0].cold), len(found[0].warm)) == (4, 4)
    assert found[0].difference.seen


# --- the facts it rests on -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "model", "tokens"),
    [
        ("anthropic", "claude-haiku-4-5", 4096),
        ("anthropic", "claude-haiku-4-5-20251001", 4096),
        ("anthropic", "claude-sonnet-4-5", 1024),
        ("anthropic", "claude-opus-5", 512),
        ("anthropic", "claude-opus-5-5", None),
        ("anthropic", "qwen3", None),
        ("openai", "gpt-6.2-sol", 1024),
        ("openai", "gpt-4.1", 1024),
        ("bedrock", "us.anthropic.claude-haiku-4-5-20251001-v1:0", 4096),
        ("bedrock", "us.amazon.nova-lite-v1:0", 1000),
        ("bedrock", "meta.llama3-8b-instruct-v1:0", None),
        ("openai-compatible", "gpt-4.1", None),
    ],
)
def test_the_minimum_is_the_one_of_exactly_that_model_or_unknown(kind: str, model: str, tokens: int | None) -> None:
    found = caching_module.minimum(replace(CLAUDE, kind=kind, model=model))
    assert (found.tokens if found else None) == tokens


def test_every_minimum_has_a_source_and_the_file_a_day() -> None:
    import json

    data = json.loads(caching_module.MINIMUMS_FILE.read_text(encoding="utf-8"))
    assert data["as_of"] >= "2026-11-01"
    assert all(entry["sources"] and entry["tokens"] > 0 for entry in data["entries"])


def test_the_samples_begin_alike_and_the_shorter_one_fits_the_local_model() -> None:
    books = caching_module.HANDBOOKS
    assert [b.text == books[-1].text[: len(b.text)] for b in books] == [True] * len(books)
    assert all(abs(caching_module.about(b.text) / b.tokens - 1) < 0.1 for b in books)
    assert caching_module.fitting(2048, 48).tokens == 1400
    assert caching_module.fitting(1024, 48).tokens < 1000
