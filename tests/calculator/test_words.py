"""Three sentences, with the numbers that decide."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date

import pytest

from services.calculator import breakeven, presets, rank, sentences
from services.calculator.types import Objectives, Range, Spread, Workload
from tests.calculator.options import machine, option

LOAD = Workload(120, Spread(1000), Spread(300))
JUDGED = Objectives(ttft_s=1.0, ttlt_s=6.0, models=("a",))


def said(*options, limits=JUDGED):
    return rank.answer(options, LOAD, limits, date(2026, 11, 24)).sentences


def test_the_sentences_name_the_choice_its_cost_the_rival_and_where_it_turns():
    first, second, third = said(machine("Box", 1.861, 690), option("Haiku", 5760.0))
    assert first.startswith("Choose Box: $1,359 a month against $5,760 for Haiku")
    assert "0.50 s at p95 (limit 1 s)" in first and "up to 690 requests/min" in first
    assert second == "Below 28 requests/min Haiku costs less."
    assert third == "The choice holds everywhere inside the assumed ranges."


def test_without_a_judgement_of_the_models_nothing_is_called_a_choice_outright():
    first, _, _ = said(option("Haiku", 10.0), limits=Objectives(1.0, 6.0))
    assert first.startswith("If its answers are good enough, choose Haiku")


def test_an_unsettled_choice_says_what_decides():
    wide = machine("Box", 1.0, 690, monthly_usd=Range(600.0, 730.0, 2000.0))
    third = said(wide, option("Haiku", 900.0))[2]
    assert third.startswith("The choice is not settled: ") and "Haiku" in third


def test_an_option_of_unknown_latency_is_never_recommended():
    silent = option("Silent", 1.0, ttft_p95_s=None, ttlt_p95_s=None)
    first, second, third = said(silent)
    assert first.startswith("No option is known to meet the limits")
    assert "Silent" in second and "Measure it in the playground" in third
    assert said(silent, option("Known", 50.0))[1].startswith("Silent would cost $1.00, but its latency is not known")


def test_when_all_miss_the_cheapest_is_named_with_what_it_misses():
    slow = option("Slow", 5.0, misses=("last token: 9 s at p95, the limit is 6 s",), ttlt_p95_s=Range(9, 9, 9))
    first, second, third = said(slow)
    assert "none is recommended" in first and "9 s at p95" in second and "a limit of 9 s" in third


def test_nothing_to_compare_is_said_too():
    assert said()[1] == "Nothing is left to compare."


@pytest.mark.parametrize(("value", "text"), [(0.5, "$0.50"), (9.994, "$9.99"), (1358.6, "$1,359")])
def test_money_has_cents_only_where_they_matter(value, text):
    assert sentences.usd(value) == text


def test_a_range_is_shown_unless_it_is_nothing():
    assert sentences.amount(Range(10, 10, 10)) == "$10"
    assert sentences.amount(Range(1200, 1359, 2000)) == "about $1,359 ($1,200–$2,000)"


@pytest.mark.parametrize("one", presets.PRESETS, ids=lambda one: one.id)
@pytest.mark.parametrize("rpm", [3.0, 60.0, 700.0])
def test_what_is_said_to_cost_less_below_or_above_a_rate_does_so_and_not_at_the_rate_of_now(one, rpm):
    answer = rank.calculate(replace(one.workload, rpm=rpm), replace(one.objectives, models=("Llama-3.1-8B",)))
    found = re.match(
        r"(Below|Above) ([\d.,]+) requests/min (.+?)(?: \(latency not known\))? costs less", answer.sentences[1]
    )
    if found is None:
        return
    side, rate, title = found[1], float(found[2].replace(",", "")), found[3]
    chosen = next(each for each in answer.options if each.id == answer.chosen)
    others = [each for each in answer.options if each.title == title]

    def cheaper(at: float) -> bool:
        mine = breakeven.mid_at(chosen, at, answer.workload)
        return any(
            mine is not None and (theirs := breakeven.mid_at(each, at, answer.workload)) is not None and theirs < mine
            for each in others
        )

    assert (rate < rpm) == (side == "Below")
    assert cheaper(rate * (0.95 if side == "Below" else 1.05)) and not cheaper(rpm)
