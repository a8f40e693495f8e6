"""The estimate: golden costs, ranges that hold, and nothing that is made up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, event

from services.batch import estimate, text
from services.batch.estimate import Estimate, estimates, tokens_nanousd
from services.pricing.cost import Price, PriceTier
from services.types import PriceRef
from tests.batch.results.past import NOW, Vendor, put_batches, put_calls
from tests.batch.results.rows import checked, deployment

SONNET = PriceRef(override={"input": "3", "output": "15"})


def only(found: list[Estimate]) -> Estimate:
    assert len(found) == 1
    return found[0]


def test_without_history_the_golden_file_costs_what_four_characters_a_token_and_its_limits_say(engine: Engine) -> None:
    # 1,000 lines of 400 characters, at most 200 tokens: 100 tokens of text and 17 around it a line at $3 (80 and 6, to
    # 133.3 and 50), 0 to 200,000 out at $15.
    found = only(estimates(engine, checked(1000, 400_000, max_tokens=200), [deployment(price=SONNET)], NOW))
    assert (found.input_low, found.input_tokens, found.input_high) == (86_000, 117_000, 183_333)
    assert (found.output_low, found.output_mid, found.output_high) == (0, 100_000, 200_000)
    assert found.cost_mid == 351_000_000 + 1_500_000_000  # $1.851, to the nano-dollar
    assert found.cost_low == 258_000_000
    assert found.cost_high == 549_999_000 + 3_000_000_000
    assert (found.plain_low, found.plain_mid, found.plain_high) == (found.cost_low, found.cost_mid, found.cost_high)
    assert found.seconds_mid is None
    said = " ".join(found.notes)
    assert "4 characters per token" in said
    assert "a guess" in said
    assert "this deployment has no recorded times" in said


def test_history_gives_the_deployments_own_tokens_and_their_range(engine: Engine) -> None:
    # 400 characters were 160 tokens: 2.5 characters each. Answers of 10 to 109 tokens: 59.5 on average.
    put_calls(engine, *({"chars": 400, "uncached_input": 160, "answer_output": 10 + n} for n in range(100)))
    found = only(estimates(engine, checked(1000, 400_000, max_tokens=1000), [deployment(price=SONNET)], NOW))
    assert found.input_tokens == 160_000
    assert found.output_mid == 59_500
    assert (found.output_low, found.output_high) == (19_900, 99_100)  # p10 and p90
    assert found.cost_mid == 160 * 3_000_000 + 59_500 * 15_000
    assert any("2.5 characters per token" in note for note in found.notes)


def test_a_limit_below_the_recorded_answers_caps_them_line_by_line(engine: Engine) -> None:
    put_calls(engine, *({"answer_output": 10 if n % 2 else 500} for n in range(20)))
    found = only(estimates(engine, checked(10, 4000, max_tokens=100), [deployment(price=SONNET)], NOW))
    assert found.output_mid == 10 * 55
    assert found.output_high == 1000


def test_reasoning_is_counted_as_output_because_it_is_billed_as_output(engine: Engine) -> None:
    put_calls(engine, *({"reasoning_output": 400, "answer_output": 100} for _ in range(10)))
    assert only(estimates(engine, checked(10, 4000), [deployment(price=SONNET)], NOW)).output_mid == 5000


def test_what_surrounds_short_prompts_is_not_taken_for_the_density_of_long_ones() -> None:
    # 20 tokens around each prompt of 10 characters: 0.4 characters per token would make 8 times too much.
    past = [{"chars": 10, "uncached_input": 22, "usage_source": "provider"} for _ in range(50)]
    found = estimate.inputs(past, 100_000, 10)
    assert found.mid is not None
    assert 25_000 <= found.mid <= 26_000


def test_prompts_of_different_lengths_tell_what_surrounds_them() -> None:
    past = [{"chars": n, "uncached_input": 20 + n // 5, "usage_source": "provider"} for n in range(10, 2000, 50)]
    found = estimate.inputs(past, 100_000, 10)
    assert found.mid == pytest.approx(20_200, rel=0.02)


def test_prompts_of_one_length_leave_open_what_surrounds_them_and_the_range_of_shorter_lines_holds_it() -> None:
    # The shipped sample on the embedded model: 28 tokens around each prompt and 0.24 for each of its 177 to 222
    # characters. Lines of 60 characters are then 42 tokens each; the plain ratio would say 23.
    past = [{"chars": n, "uncached_input": round(28 + 0.24 * n), "usage_source": "provider"} for n in range(177, 223)]
    found = estimate.inputs(past, 60 * 100, 100)
    assert found.low is not None
    assert found.mid is not None
    assert found.high is not None
    assert found.low <= 4240 <= found.high
    assert found.mid == pytest.approx(4240, rel=0.15)
    alike = estimate.inputs(past, 200 * 100, 100)
    assert alike.low is not None
    assert alike.high is not None
    assert alike.high - alike.low < 0.25 * 7600
    assert alike.low <= 7600 <= alike.high


def test_a_file_of_somewhat_denser_or_looser_text_than_was_recorded_is_within_the_range() -> None:
    past = [{"chars": n, "uncached_input": round(25 + n / 3.8), "usage_source": "provider"} for n in range(20, 900, 30)]
    for per in (3.5, 4.1):
        found = estimate.inputs(past, 40_000, 200)
        assert found.low is not None
        assert found.high is not None
        assert found.low <= 200 * 25 + 40_000 / per <= found.high


def test_dense_texts_of_one_length_are_not_taken_for_long_templates() -> None:
    # 0.75 tokens per character and 8 around: a line of 2,000 characters is 1,508 tokens.
    past = [{"chars": 200, "uncached_input": 158, "usage_source": "provider"} for _ in range(20)]
    found = estimate.inputs(past, 2000 * 10, 10)
    assert found.mid is not None
    assert found.mid > 10_000
    assert found.high is not None
    assert found.high >= 15_080


def test_without_history_the_range_holds_what_the_shipped_sample_really_is_on_the_embedded_model() -> None:
    # Measured: 200 lines of 40,055 characters together were 15,165 input tokens.
    found = estimate.inputs([], 40_055, 200)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 15_165 < found.high


@given(st.integers(1, 20), st.booleans(), st.booleans())
def test_every_message_adds_its_marks_and_a_system_prompt_keeps_the_templates_own_out(
    turns: int, with_system: bool, known: bool
) -> None:
    past = [{"chars": 400, "uncached_input": 130, "usage_source": "provider"}] * 10 if known else []
    one, more = (estimate.inputs(past, 4000, 10, estimate.Talk(n, float(with_system))) for n in (turns, turns + 1))
    for less, plus, marks in zip(
        (one.low, one.mid, one.high), (more.low, more.mid, more.high), estimate.MARKS, strict=True
    ):
        assert less is not None
        assert plus is not None
        assert abs(plus - less - 10 * marks) <= 1
    if not known:
        bare, given_ = (estimate.Talk(turns, share).around for share in (0.0, 1.0))
        assert given_[2] < bare[2]
        assert given_[0] > bare[0]


def test_calls_whose_text_was_not_kept_tell_no_density(engine: Engine) -> None:
    put_calls(engine, *({"request": None} for _ in range(20)))
    found = only(estimates(engine, checked(10, 4000), [deployment()], NOW))
    assert found.input_tokens == 1000 + 10 * 17
    assert any("4 characters" in note for note in found.notes)


@pytest.mark.parametrize("off", [{"state": "failed"}, {"source": "load"}, {"source": "cli"}])
def test_only_succeeded_calls_of_the_playground_and_of_batches_count(engine: Engine, off: dict[str, Any]) -> None:
    put_calls(engine, *({"uncached_input": 999} | off for _ in range(20)))
    assert only(estimates(engine, checked(10, 4000), [deployment()], NOW)).input_tokens == 1000 + 10 * 17


def test_no_limit_and_no_history_leave_the_cost_open_above_and_say_what_to_do(engine: Engine) -> None:
    found = only(estimates(engine, checked(10, 4000), [deployment(price=SONNET)], NOW))
    assert found.cost_low is not None
    assert found.cost_mid is None
    assert found.cost_high is None
    assert any("Max output tokens" in note for note in found.notes)


def test_a_limit_that_the_kind_sends_by_itself_bounds_the_cost(engine: Engine) -> None:
    claude = deployment(
        price=SONNET, kind="anthropic", model="claude-haiku-4-5", base_url="https://api.anthropic.com", wire="messages"
    )
    assert only(estimates(engine, checked(10, 4000), [claude], NOW)).output_high is not None


def test_no_price_is_not_known_and_never_nothing(engine: Engine) -> None:
    found = only(estimates(engine, checked(10, 4000, max_tokens=5), [deployment()], NOW))
    assert found.cost_mid is None
    assert any("No price is known" in note for note in found.notes)
    assert found.unpriced == "No price is known for this deployment."
    priced, no_batch = estimates(engine, checked(10, 4000), [deployment(price=SONNET)], NOW, [Vendor()])
    assert priced.unpriced is None, "its least is known"
    assert no_batch.unpriced is not None
    assert "No batch price is known" in no_batch.unpriced


def test_a_batch_costs_the_batch_price_and_says_what_it_costs_interactively(engine: Engine) -> None:
    listed = deployment(
        price=PriceRef(provider="anthropic", model="claude-haiku-4-5"),
        kind="anthropic",
        model="claude-haiku-4-5",
        base_url="https://api.anthropic.com",
        wire="messages",
    )
    own, batch = estimates(engine, checked(1000, 400_000, max_tokens=200), [listed], NOW, [Vendor()])
    assert own.route == "runner"
    assert own.cost_mid == 117_000_000 + 500_000_000  # $1 and $5 per million
    assert batch.route == "anthropic"
    assert batch.cost_mid == 58_500_000 + 250_000_000
    assert batch.plain_mid == own.cost_mid


def test_a_missing_batch_price_is_missing_and_not_the_standard_one(engine: Engine) -> None:
    _own, batch = estimates(engine, checked(10, 4000, max_tokens=5), [deployment(price=SONNET)], NOW, [Vendor()])
    assert (batch.cost_low, batch.cost_mid, batch.cost_high) == (None, None, None)
    assert batch.plain_mid is not None
    assert any("No batch price is known" in note for note in batch.notes)


def test_long_lines_cost_the_tier_of_their_own_length_and_not_that_of_the_file() -> None:
    price = Price(
        "t", "2026", rates={"input": "1", "output": "2"}, tiers=(PriceTier(200_000, {"input": "10", "output": "20"}),)
    )
    assert tokens_nanousd(price, 1_000_000, 0, 1000) == 1_000_000_000
    assert tokens_nanousd(price, 1_000_000, 0, 2) == 10_000_000_000


@given(st.integers(0, 10**12), st.integers(0, 10**12), st.integers(1, 10**6))
def test_a_cost_is_the_sum_of_its_sides_to_a_nano_dollar(given_: int, made: int, n: int) -> None:
    price = Price("t", "2026", rates={"input": "0.05", "output": "0.25"})
    assert tokens_nanousd(price, given_, made, n) == (given_ * 50 + made * 250)


def test_an_hour_is_paid_for_the_time_that_the_file_takes(engine: Engine) -> None:
    put_batches(engine, {"n_lines": 100, "seconds": 100})
    one = deployment(price=PriceRef(per_hour="3.60"))
    found = only(estimates(engine, checked(1000, 4000), [one], NOW))
    assert found.seconds_mid == 1000
    assert found.cost_mid == 1_000_000_000
    assert (found.cost_low, found.cost_high) == (500_000_000, 2_000_000_000)


def test_an_hour_of_which_the_time_is_not_known_has_no_cost_and_a_free_one_costs_nothing(engine: Engine) -> None:
    paid, free = (deployment(name, price=PriceRef(per_hour=hour)) for name, hour in (("paid", "1"), ("free", "0")))
    first, second = estimates(engine, checked(10, 4000), [paid, free], NOW)
    assert first.cost_mid is None
    assert any("paid by the hour" in note for note in first.notes)
    assert (second.cost_low, second.cost_mid, second.cost_high) == (0, 0, 0)


def test_our_runner_takes_the_recorded_time_of_a_line_divided_by_its_lanes(engine: Engine) -> None:
    # First token after 100 ms and 49 more of 10 ms each: 0.59 s a line.
    put_calls(engine, *({"ttft_ms": 100.0, "ttlt_ms": 590.0, "tpot_ms": 10.0} for _ in range(20)))
    found = only(estimates(engine, checked(100, 40_000), [deployment()], NOW, lanes=2))
    assert found.seconds_mid == pytest.approx(29.5)
    assert found.seconds_high == pytest.approx(59.0)
    assert found.seconds_low == pytest.approx(29.5)
    assumed = only(estimates(engine, checked(100, 40_000), [deployment()], NOW))
    assert any("an assumption" in note for note in assumed.notes)


def test_a_limit_of_lines_a_minute_makes_it_no_quicker_than_that(engine: Engine) -> None:
    put_calls(engine, *({"ttlt_ms": 10.0} for _ in range(20)))
    found = only(estimates(engine, checked(600, 40_000), [deployment()], NOW, per_minute=60))
    assert found.seconds_low == found.seconds_mid == 600


def test_a_service_takes_up_to_its_window_and_what_its_batches_took(engine: Engine) -> None:
    put_batches(engine, *({"route": "anthropic", "deployment_id": "other", "seconds": s} for s in (600, 1200, 1800)))
    _own, batch = estimates(engine, checked(10, 4000), [deployment()], NOW, [Vendor()])
    assert (batch.seconds_low, batch.seconds_mid, batch.seconds_high) == (600, 1200, 86_400)
    assert any("20 min" in note for note in batch.notes)


def test_a_service_without_history_has_its_window_and_no_guess(engine: Engine) -> None:
    _own, batch = estimates(engine, checked(10, 4000), [deployment()], NOW, [Vendor()])
    assert (batch.seconds_low, batch.seconds_mid, batch.seconds_high) == (None, None, 86_400)


@pytest.mark.parametrize(
    ("limits", "jobs"),
    [({"max_records": 300}, 4), ({"max_records": 1000}, 1), ({"max_bytes": 250_000}, 2), ({"max_bytes": 500_000}, 1)],
)
def test_limits_split_a_file_into_jobs(engine: Engine, limits: dict[str, Any], jobs: int) -> None:
    _own, batch = estimates(engine, checked(1000, 400_000), [deployment()], NOW, [Vendor(**limits)])
    assert batch.n_jobs == jobs


def test_too_few_lines_for_a_service_are_told_with_the_way_out(engine: Engine) -> None:
    _own, batch = estimates(engine, checked(37, 4000), [deployment()], NOW, [Vendor(min_records=100)])
    assert batch.why_not is not None
    assert "at least 100" in batch.why_not
    assert "37" in batch.why_not
    assert batch.cost_mid is None


def test_a_route_that_refuses_a_deployment_says_why_and_nothing_else(engine: Engine) -> None:
    _own, batch = estimates(engine, checked(10, 4000), [deployment()], NOW, [Vendor("It has no bucket.")])
    assert batch == Estimate("one", "anthropic", why_not="It has no bucket.")


def test_a_line_longer_than_the_context_is_told(engine: Engine) -> None:
    found = only(estimates(engine, checked(1, 40_000), [deployment(context_tokens=4096)], NOW))
    assert any("will fail" in note for note in found.notes)


def test_an_empty_file_and_a_damaged_price_are_told_and_break_nothing(engine: Engine) -> None:
    assert only(estimates(engine, checked(0, 0), [deployment()], NOW)).why_not is not None
    wrong = deployment(price=PriceRef(override={"input": "x"}))
    assert only(estimates(engine, checked(10, 40, max_tokens=1), [wrong], NOW)).cost_mid is None


@pytest.mark.slow
@given(
    n=st.integers(1, 10**6),
    chars=st.integers(0, 10**9),
    limit=st.none() | st.integers(1, 10**5),
    past=st.lists(
        st.fixed_dictionaries(
            {
                "chars": st.none() | st.integers(0, 10**5),
                "uncached_input": st.none() | st.integers(0, 10**5),
                "answer_output": st.none() | st.integers(0, 10**5),
                "usage_source": st.sampled_from(["provider", "estimated"]),
            }
        ),
        max_size=30,
    ),
)
def test_low_is_never_above_the_middle_nor_the_middle_above_high(
    n: int, chars: int, limit: int | None, past: list[dict[str, Any]]
) -> None:
    for found in (estimate.inputs(past, chars, n), estimate.outputs(past, n, limit)):
        known = [one for one in (found.low, found.mid, found.high) if one is not None]
        assert known == sorted(known)
        assert all(one >= 0 for one in known)


def test_twelve_deployments_are_estimated_in_two_statements(engine: Engine) -> None:
    several = [deployment(f"d{n}", price=SONNET) for n in range(12)]
    for one in several[:4]:
        put_calls(engine, *({} for _ in range(100)), deployment_id=one.id)
    estimates(engine, checked(10, 4000, max_tokens=5), several[:1], NOW)  # what is imported late
    asked: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    found = estimates(engine, checked(10, 4000, max_tokens=5), several, NOW, [Vendor()])
    assert len(found) == 24
    assert len([one for one in asked if one.lstrip().upper().startswith("SELECT")]) == 2


def test_an_estimate_is_kept_as_plain_json(engine: Engine) -> None:
    found = only(estimates(engine, checked(10, 4000), [deployment()], NOW)).to_json()
    assert found["route"] == "runner"
    assert isinstance(found["notes"], list)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.59, "0.59 s"), (40, "40 s"), (600, "10 min"), (12_600, "3.5 h"), (181_440, "2.1 days")],
)
def test_times_are_told_in_words(seconds: float, words: str) -> None:
    assert text.short_span(seconds) == words
