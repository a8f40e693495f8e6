"""The simulated scheduler: against M/D/1 where one request runs at a time, and against itself elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest

from services.calculator import roofline, simulation
from services.calculator.roofline import cases
from services.calculator.simulation import Limits, Replica, Request, Steps, gaps, mean, tokens
from services.calculator.types import Efficiency, Gpu, Llm, Precision, Range, Serving, Spread
from tests.calculator.formulas import md1_wait, mixed_s

LLAMA = Llm("Llama-3.1-8B", 8.03, 8.03, 32, 4096, 32, 8, 128, 131072, 128256, ffn=14336)
H100 = Gpu("H100 SXM", 79.1, 3350, 989, 1979, None, "NVLink", 450, "a data sheet", "2026-01-01")
# Given, so that better defaults for this GPU change no test of the scheduler.
FACTORS = Efficiency(
    bandwidth=Range(0.7, 0.7, 0.7),
    prefill=Range(0.47, 0.47, 0.47),
    decode_compute=Range(0.3, 0.3, 0.3),
    layer_s=Range(5e-6, 5e-6, 5e-6),
    step_s=Range(1e-3, 1e-3, 1e-3),
    request_s=Range(15e-3, 15e-3, 15e-3),
)
SERVING = Serving(LLAMA, H100, precision=Precision.FP8, efficiency=FACTORS)
ALONE = replace(SERVING, max_seqs=1)
IN, OUT = Spread(1000, 0.5), Spread(300, 0.5)
OVERHEAD_S = cases(SERVING)[1].request_s


def service_s() -> float:
    """Seconds of a request of 1,000 and 100 tokens that has the replica for itself."""
    one = simulation.trace(ALONE, 0.01, Spread(1000), Spread(100), requests=10).measured[0]
    return one.end_s - one.arrival_s - OVERHEAD_S


def test_a_request_alone_takes_its_prefill_and_a_step_for_each_further_token() -> None:
    steps = sum(mixed_s(ALONE, 0, 0, 1, 1000 + made) for made in range(99))
    assert service_s() == pytest.approx(roofline.prefill_s(ALONE, 1000).mid + steps, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_one_at_a_time_waits_as_an_m_d_1_queue_does(load: float) -> None:
    each_s = service_s()
    rpm = load * 60 / each_s
    run = simulation.trace(ALONE, rpm, Spread(1000), Spread(100), requests=12_000)
    waits = sorted(one.end_s - one.arrival_s - OVERHEAD_S - each_s for one in run.measured)
    assert sum(waits) / len(waits) == pytest.approx(md1_wait(rpm, each_s), rel=0.08)
    assert waits[round(0.95 * len(waits))] == pytest.approx(md1_wait(rpm, each_s, quantile=0.95), rel=0.08)
    assert run.busy == pytest.approx(load, rel=0.03)


def test_the_closed_form_of_m_d_1_has_the_values_of_the_text_books() -> None:
    assert md1_wait(30, 1.0) == pytest.approx(0.5)  # ρ 0.5: half a service
    assert md1_wait(30, 1.0, burstiness=3.0) == pytest.approx(1.0)
    assert md1_wait(30, 1.0, quantile=0.4) == pytest.approx(0.0, abs=1e-6)  # half of them wait not at all
    assert md1_wait(60, 1.0) == math.inf == md1_wait(90, 1.0, quantile=0.95)


def test_past_its_capacity_the_wait_grows_with_every_request_and_the_run_says_so() -> None:
    below = [simulation.run(SERVING, 800, IN, OUT, requests=requests) for requests in (500, 2000)]
    past = [simulation.run(SERVING, 4000, IN, OUT, requests=requests) for requests in (500, 2000)]
    assert [one.overloaded for one in below + past] == [False, False, True, True]
    assert below[1].ttft_p95_s < 1.5 * below[0].ttft_p95_s < 1
    assert past[1].ttft_p95_s > 2 * past[0].ttft_p95_s > 10


def test_a_thousand_million_requests_a_minute_end_in_an_answer() -> None:
    waits = simulation.run(SERVING, 1e9, IN, OUT, requests=300)
    assert waits.overloaded and math.isfinite(waits.ttlt_p99_s)


@pytest.mark.slow
@pytest.mark.parametrize("rpm", [60, 900, 3000])
@pytest.mark.parametrize("seed", [1, 2])
def test_more_replicas_never_raise_the_slow_times(rpm: float, seed: int) -> None:
    runs = [simulation.run(SERVING, rpm, IN, OUT, replicas=count, requests=600, seed=seed) for count in (1, 2, 3, 5, 9)]
    for fewer, more in pairwise(runs):
        assert more.ttft_p95_s <= fewer.ttft_p95_s * 1.005
        assert more.ttlt_p95_s <= fewer.ttlt_p95_s * 1.005


def test_a_large_fleet_takes_its_share_on_sixteen_replicas() -> None:
    sixteen = simulation.run(SERVING, 1600, IN, OUT, replicas=16, requests=300)
    assert simulation.run(SERVING, 100_000, IN, OUT, replicas=1000, requests=300) == sixteen


def test_a_seed_repeats_and_another_one_differs() -> None:
    first, again, other = (simulation.run(SERVING, 300, IN, OUT, requests=300, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert first.ttft_p95_s != other.ttft_p95_s


def test_bursts_raise_the_slow_times() -> None:
    even, poisson, bursts = (
        simulation.run(SERVING, 800, IN, OUT, burstiness=burstiness, requests=1500) for burstiness in (0.0, 1.0, 20.0)
    )
    assert even.ttft_p95_s < poisson.ttft_p95_s < bursts.ttft_p95_s


def test_a_cached_prefix_shortens_the_first_token() -> None:
    cold, warm = (simulation.run(SERVING, 300, IN, OUT, cached_share=share, requests=300) for share in (0.0, 0.9))
    assert warm.ttft_p50_s < cold.ttft_p50_s
    assert simulation.run(SERVING, 300, IN, OUT, cached_share=1.0, requests=300).ttft_p50_s > OVERHEAD_S


def test_static_batches_are_slower_than_continuous_ones() -> None:
    static = replace(SERVING, continuous=False)
    ours, theirs = (simulation.run(one, 300, IN, OUT, requests=600) for one in (SERVING, static))
    assert theirs.ttft_p95_s > 5 * ours.ttft_p95_s
    assert theirs.ttlt_p50_s > 2 * ours.ttlt_p50_s


def test_little_s_law_holds_for_what_runs() -> None:
    run = simulation.trace(SERVING, 600, IN, OUT, requests=3000)
    life = sum(one.end_s - one.arrival_s - OVERHEAD_S for one in run.measured) / len(run.measured)
    assert run.running == pytest.approx(600 / 60 * life, rel=0.05)


def tight() -> Serving:
    """So little KV cache that sequences that grow push others out."""
    return replace(SERVING, memory_share=0.145)


def test_a_full_cache_throws_out_and_every_answer_is_complete_all_the_same() -> None:
    run = simulation.trace(tight(), 150, IN, Spread(600, 0.5), requests=500)
    assert run.preempted > 0
    assert all(one.made == one.output for one in run.measured)
    assert all(one.arrival_s < one.first_s <= one.end_s for one in run.measured)


def test_no_block_is_lost_and_none_is_given_twice() -> None:
    limits = Limits(blocks=60, block=16, seqs=8, step_tokens=256)
    replica = Replica(limits, Steps(SERVING))
    for number in range(40):
        replica.add(Request(number, 0.0, 50 + 13 * number % 300, 20 + 29 * number % 200, 0))
    complete, now_s = 0, 0.0
    while complete < 40:
        replica.plan(now_s)
        assert replica.count > 0 and replica.free >= 0
        held = [one.target + replica._step - one.since for one in replica.decoding.values()]
        used = sum(map(limits.blocks_of, held)) + sum(limits.blocks_of(one.target) for one in replica.filling)
        assert replica.free + used == limits.blocks
        assert replica._held == sum(held) and len(held) + len(replica.filling) <= limits.seqs
        assert sum(take for _, take in replica._chunks) + len(held) <= limits.step_tokens
        now_s = replica.end_s
        complete += len(replica.apply())
    assert replica.free == limits.blocks and replica.present == 0 and replica.preempted > 0


def test_who_comes_while_others_decode_is_served_at_the_next_step() -> None:
    replica = Replica(Limits(1000, 16, 8, 4096), Steps(SERVING))
    replica.add(Request(0, 0.0, 100, 60, 0))
    replica.plan(0.0)
    replica.apply()
    replica.plan(1.0)
    assert replica.count == 59
    assert replica.add(Request(1, 0.0, 100, 60, 0))
    replica.cut(1.0 + 2.5 * replica.step_s)
    assert replica.count == 3
    assert not replica.add(Request(2, 0.0, 100, 60, 0))  # behind one that waits: nothing changes for it


def test_progress_runs_from_nought_to_one_and_a_stop_is_heard() -> None:
    shares: list[float] = []
    simulation.run(SERVING, 300, IN, OUT, requests=300, progress=shares.append)
    assert shares == sorted(shares) and shares[-1] == 1.0 and len(shares) > 3
    with pytest.raises(simulation.Stopped):
        simulation.run(SERVING, 300, IN, OUT, requests=300, stopped=lambda: len(shares) > 0)


def test_lengths_and_gaps_have_the_moments_they_were_asked_for() -> None:
    import numpy as np

    seed = np.random.SeedSequence(3)
    drawn = tokens(40_000, Spread(500, 0.8), 10**6, seed)
    assert float(np.median(drawn)) == pytest.approx(500, rel=0.03)
    assert float(drawn.mean()) == pytest.approx(mean(Spread(500, 0.8)), rel=0.03)
    assert set(tokens(50, Spread(500), 10**6, seed).tolist()) == {500}
    between = gaps(40_000, 2.0, 4.0, seed)
    assert float(between.mean()) == pytest.approx(2.0, rel=0.05)
    assert float(between.var() / between.mean() ** 2) == pytest.approx(4.0, rel=0.1)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rpm": 0}, "rate"),
        ({"rpm": -1}, "rate"),
        ({"rpm": math.nan}, "rate"),
        ({"rpm": math.inf}, "rate"),
        ({"input": Spread(0)}, "one token"),
        ({"output": Spread(math.nan)}, "one token"),
        ({"input": Spread(10, -1)}, "spread"),
        ({"cached_share": 1.5}, "cached share"),
        ({"burstiness": math.inf}, "burstiness"),
        ({"replicas": 0}, "replica"),
        ({"requests": 1}, "10 requests"),
        ({"output": Spread(131_000)}, "longer than the context"),
        ({"serving": replace(SERVING, gpu=replace(H100, memory_gib=8))}, "no room"),
    ],
)
def test_what_cannot_be_simulated_is_said_in_a_sentence(changed: dict[str, object], said: str) -> None:
    given = {"serving": SERVING, "rpm": 60, "input": IN, "output": OUT} | changed
    with pytest.raises(ValueError, match=said):
        simulation.run(**given)  # type: ignore[arg-type]
