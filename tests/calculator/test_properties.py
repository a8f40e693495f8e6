"""What has to hold for every workload."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.calculator import catalog, options_hourly, queueing, rank
from services.calculator.assumptions import Assumptions
from services.calculator.types import Objectives, Precision, Serving, Spread, Way, Workload
from tests.calculator.options import machine, option

DAY = date(2026, 11, 24)
ASSUMED = Assumptions(ways=("ec2", "bedrock"))
LIMITS = Objectives(ttft_s=3.0, models=("Llama-3.1-8B",))
QUICK = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

shapes = st.lists(st.floats(0.0, 5.0), min_size=24, max_size=24).filter(lambda day: sum(day) > 0.5).map(tuple)
workloads = st.builds(
    Workload,
    rpm=st.floats(0.1, 2000),
    input_tokens=st.builds(Spread, st.floats(10, 8000), st.floats(0, 0.8)),
    output_tokens=st.builds(Spread, st.floats(2, 1000), st.floats(0, 0.8)),
    shape=shapes,
    batch_share=st.floats(0, 1),
)


def costs(workload):
    made = rank.calculate(workload, LIMITS, assumptions=ASSUMED, today=DAY)
    return {one.id: one.monthly_usd.mid for one in made.options if one.monthly_usd is not None}


@QUICK
@given(workloads, st.floats(1.0, 10.0))
def test_no_option_costs_less_when_more_is_asked_of_it(workload, more):
    before, after = costs(workload), costs(replace(workload, rpm=workload.rpm * more))
    for name in before.keys() & after.keys():
        assert after[name] >= before[name] * (1 - 1e-9), name


@QUICK
@given(workloads)
def test_the_capacity_of_a_replica_is_never_negative_and_its_range_is_in_order(workload):
    for gpu in ("T4", "L40S", "H100-SXM"):
        serving = Serving(catalog.llm("Llama-3.1-8B"), catalog.gpu(gpu), precision=Precision.BF16)
        sized = options_hourly.size(serving, workload, LIMITS, ASSUMED)
        if sized is not None:
            assert 0 <= sized.capacity.low <= sized.capacity.mid <= sized.capacity.high
            assert 0 < sized.full.low <= sized.full.high


@QUICK
@given(workloads, st.integers(1, 20))
def test_more_replicas_never_answer_later(workload, replicas):
    serving = Serving(catalog.llm("Llama-3.1-8B"), catalog.gpu("L40S"), precision=Precision.FP8)

    def times(count):
        found = queueing.quantiles(serving, workload.rpm / count, workload.input_tokens, workload.output_tokens)
        assert found is not None
        return found.ttft_p95_s, found.ttlt_p95_s

    for fewer, more in zip(times(replicas), times(replicas + 1), strict=True):
        assert more.mid <= fewer.mid * (1 + 1e-6) and more.high <= fewer.high * (1 + 1e-6)


@QUICK
@given(st.floats(1, 1000), st.floats(0.01, 0.99), st.lists(st.floats(1, 1000), max_size=6))
def test_a_cheaper_price_alone_never_loses_a_rank(usd, part, others):
    load, limits = Workload(100, Spread(1000), Spread(300)), Objectives(1.0, 6.0)
    rest = [option(f"other{at}", price) for at, price in enumerate(others)]

    def place(price):
        made = rank.answer([option("mine", price), *rest], load, limits, DAY)
        return [one.id for one in made.options].index("mine")

    assert place(usd * part) <= place(usd)


def test_a_cheaper_hour_never_costs_a_real_machine_its_rank():
    load = Workload(200, Spread(1000, 0.4), Spread(300, 0.6))
    made = rank.calculate(load, LIMITS, assumptions=ASSUMED, today=DAY)
    for at, one in enumerate(made.options):
        if one.way is Way.EC2 and one.hourly_usd is not None:
            name = one.id.split("/")[1]
            price = one.hourly_usd * one.replicas_a_machine * 0.7
            cheap = rank.calculate(load, LIMITS, assumptions=replace(ASSUMED, instance_prices={name: price}), today=DAY)
            assert [x.id for x in cheap.options].index(one.id) <= at, one.id


@QUICK
@given(workloads)
def test_the_fleet_carries_every_hour_with_its_headroom(workload):
    rates = queueing.sized_rates(workload)
    counts = queueing.replicas(rates, 50.0, headroom=0.2, fewest=1, autoscale=True)
    assert counts is not None
    assert all(count * 50.0 >= rate * 1.2 * (1 - 1e-6) for count, rate in zip(counts, rates, strict=True))
    assert sum(rates) / 24 <= max(queueing.rates(workload)) * (1 + 1e-9)


def test_a_fleet_twice_as_large_is_full_at_twice_the_rate():
    one, two = machine("a", 1.0, 100, replicas=1), machine("b", 1.0, 100, replicas=2)
    assert two.full_at_rpm == 2 * (one.full_at_rpm or 0)
