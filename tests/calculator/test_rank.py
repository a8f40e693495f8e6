"""The ranking: who is first, who cannot be, and what the others would need."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import pytest

from services.calculator import rank
from services.calculator.assumptions import ApiSpeed, Assumptions, Instance, Own
from services.calculator.types import Objectives, Range, Spread, Way, Workload
from tests.calculator.options import machine, option

DAY = date(2026, 11, 24)
LOAD = Workload(100, Spread(1000), Spread(300))
LIMITS = Objectives(ttft_s=1.0, ttlt_s=6.0, models=("a",))
EIGHT = Objectives(ttft_s=2.0, models=("Llama-3.1-8B",))


def answer(*options, limits=LIMITS):
    return rank.answer(options, LOAD, limits, DAY)


def test_the_cheapest_that_meets_the_limits_is_chosen():
    assert answer(option("dear", 20.0), option("cheap", 10.0)).chosen == "cheap"


def test_an_option_that_misses_a_limit_is_never_chosen_however_cheap():
    made = answer(option("misses", 1.0, misses=("too slow",)), option("meets", 10.0))
    assert made.chosen == "meets" and made.options[-1].id == "misses"


def test_an_option_of_unknown_latency_is_no_choice_while_a_limit_is_set():
    silent = option("silent", 1.0, ttft_p95_s=None, ttlt_p95_s=None)
    assert answer(silent, option("known", 10.0)).chosen == "known"
    assert answer(silent).chosen is None
    assert answer(silent, limits=Objectives(None, None)).chosen == "silent"


def test_the_order_is_meets_then_unknown_then_misses_then_no_price_then_infeasible():
    made = answer(
        option("infeasible", 1.0, infeasible="no"),
        option("unpriced", None),
        option("misses", 2.0, misses=("m",)),
        option("unknown", 3.0, ttft_p95_s=None),
        option("meets", 9.0),
    )
    assert [one.id for one in made.options] == ["meets", "unknown", "misses", "unpriced", "infeasible"]


def test_a_choice_that_another_may_undercut_inside_its_range_is_not_stable():
    wide, other = machine("wide", 1.0, 100, monthly_usd=Range(5.0, 10.0, 30.0)), option("other", 20.0)
    wide = replace(wide, serving=None)
    made = answer(wide, other)
    assert not made.stable and made.unstable_because is not None and "other" in made.unstable_because
    assert answer(option("sure", 10.0), other).stable


def test_a_choice_whose_slow_end_misses_the_limit_is_not_stable():
    made = answer(option("edge", 10.0, ttft_p95_s=Range(0.5, 0.9, 1.4)))
    assert made.chosen == "edge" and not made.stable


def test_each_other_option_says_what_would_make_it_win():
    made = answer(
        option("best", 100.0),
        option("tokens", 400.0),
        machine("box", 1.0, 300),
        option("silent", 50.0, ttft_p95_s=None),
        option("slow", 50.0, misses=("s",), ttlt_p95_s=Range(8, 9, 10)),
    )
    said = {one.id: one.would_win for one in made.options}
    assert said["best"] is None
    assert said["tokens"] == "token prices 75% lower"
    assert (
        said["box"] is not None and "$0.137 an hour instead of $1" in said["box"] and "requests/min" not in said["box"]
    )
    assert said["silent"] == "its first token measured within the limit"
    assert said["slow"] is not None and "9 s for the last token" in said["slow"]


@pytest.fixture(scope="module")
def eight():
    return rank.calculate(LOAD, EIGHT, today=DAY)


def test_the_same_weights_are_ranked_on_machines_and_by_the_token(eight):
    ways = {one.way for one in eight.options}
    assert {Way.EC2, Way.SAGEMAKER, Way.BEDROCK} <= ways
    assert {one.model for one in eight.options} == {"Llama-3.1-8B"}
    assert eight.chosen is not None and len(eight.sentences) == 3


def test_every_range_is_in_order_and_every_option_without_a_price_says_why(eight):
    for one in eight.options:
        for value in (one.monthly_usd, one.per_1000_usd, one.ttft_p95_s, one.ttlt_p95_s, one.utilisation):
            assert value is None or value.low <= value.mid <= value.high, one.id
        assert one.monthly_usd is not None or one.infeasible or one.missing, one.id
        assert one.replicas is None or len(one.replicas) == 24


def test_an_hour_priced_month_is_its_replicas_times_730_hours(eight):
    box = next(one for one in eight.options if one.way is Way.EC2 and one.monthly_usd is not None)
    assert box.monthly_usd is not None and box.replicas is not None and box.hourly_usd is not None
    assert box.monthly_usd.mid == pytest.approx(box.replicas[0] * box.hourly_usd * 730)
    assert box.per_1000_usd is not None
    assert box.per_1000_usd.mid == pytest.approx(box.monthly_usd.mid / (100 * 60 * 730) * 1000)


def test_a_model_that_fits_nowhere_stays_listed_with_what_it_needs_and_what_there_is():
    small = Own(instances=(Instance("toy", Way.CONTAINER, "T4", 1, 0.1, "yours", "2026-11-24"),))
    made = rank.calculate(
        LOAD,
        replace(EIGHT, models=("Llama-3.1-70B",)),
        today=DAY,
        assumptions=Assumptions(own=small, ways=("container",)),
    )
    assert made.chosen is None
    assert made.options[0].infeasible is not None and "GiB" in made.options[0].infeasible


def test_lengths_beyond_the_context_are_refused_in_words():
    made = rank.calculate(replace(LOAD, input_tokens=Spread(900_000)), EIGHT, today=DAY)
    machines = [one for one in made.options if one.way in (Way.EC2, Way.SAGEMAKER)]
    assert machines and all(one.infeasible and "context" in one.infeasible for one in machines)


def test_own_prices_and_discounts_change_what_a_machine_costs(eight):
    box = next(one for one in eight.options if one.way is Way.EC2 and one.infeasible is None and not one.misses)
    name = box.id.split("/")[1]
    free = rank.calculate(LOAD, EIGHT, today=DAY, assumptions=Assumptions(instance_prices={name: 0.01}))
    assert free.chosen == box.id
    half = rank.calculate(LOAD, EIGHT, today=DAY, assumptions=Assumptions(spot_discount={name: 0.5}))
    found = next(one for one in half.options if one.id == box.id)
    assert found.monthly_usd is not None and box.monthly_usd is not None
    assert found.monthly_usd.mid == pytest.approx(box.monthly_usd.mid / 2) and "spot" in found.title


def test_a_savings_plan_counts_only_for_who_may_commit_so_long():
    plans = Assumptions(savings_discount={"*": {12: 0.3, 36: 0.5}}, ways=("ec2",))

    def cheapest(months):
        made = rank.calculate(replace(LOAD, months=months), EIGHT, today=DAY, assumptions=plans)
        assert made.options[0].monthly_usd is not None
        return made.options[0].monthly_usd.mid

    assert cheapest(12) == pytest.approx(0.7 * cheapest(6))
    assert cheapest(36) == pytest.approx(0.5 * cheapest(6))


def test_a_speed_of_ones_own_makes_a_service_choosable():
    bedrock = Assumptions(ways=("bedrock",))
    before = rank.calculate(LOAD, EIGHT, today=DAY, assumptions=bedrock)
    quick = ApiSpeed(0.3, 0.6, 100.0, 60.0)
    ref = before.options[0].id.split("/", 1)[1].split("+")[0]
    after = rank.calculate(LOAD, EIGHT, today=DAY, assumptions=replace(bedrock, api_speeds={ref: quick}))
    assert after.chosen is not None and after.options[0].ttft_p95_s is not None


def test_where_everything_may_wait_no_time_has_to_be_held():
    made = rank.calculate(replace(LOAD, batch_share=1.0), replace(EIGHT, ttft_s=1e-6), today=DAY)
    assert made.chosen is not None


def test_times_measured_on_a_machine_take_the_place_of_the_estimate(eight):
    box = next(one for one in eight.options if one.id == eight.chosen)
    seen = ApiSpeed(5.0, 9.0, 40.0, 30.0, kind="measured", n=212)
    made = rank.calculate(LOAD, EIGHT, today=DAY, measured={box.id: seen})
    found = next(one for one in made.options if one.id == box.id)
    assert found.timed == "measured, n 212" and found.ttft_p95_s == Range(9.0, 9.0, 9.0)
    assert found.misses and made.chosen != box.id


def test_what_makes_a_choice_unstable_names_the_factor_and_the_gpu(eight):
    unsure = rank.calculate(LOAD, replace(EIGHT, ttlt_s=17.0), today=DAY)
    because = [one.unstable_because or "" for one in (eight, unsure) if not one.stable]
    assert because and all("reached" in why or "time of" in why for why in because)
