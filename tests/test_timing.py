"""From stamps to figures, against numbers worked out by hand and against what must hold for any stamps."""

from __future__ import annotations

from dataclasses import asdict
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.wire.timing import Stamps, figures, live_figures, pack_deltas, unpack_deltas

MS = 1_000_000


def stamps(*arrivals_ms: float, kinds: str = "", end_ms: float | None = None, **values: object) -> Stamps:
    """A call that was accepted at 0, handed on at 2 ms and sent at 10 ms; arrivals count from t0."""
    names = {"a": "answer", "r": "reasoning", "t": "tool"}
    given = kinds or "a" * len(arrivals_ms)
    deltas = [(10 * MS + round(ms * MS), names[kind]) for ms, kind in zip(arrivals_ms, given, strict=True)]
    end = 10 * MS + round((arrivals_ms[-1] if end_ms is None else end_ms) * MS)
    fields = {"accepted": 0, "handed": 2 * MS, "t0": 10 * MS, "end": end, "deltas": deltas} | values
    return Stamps(**fields)  # type: ignore[arg-type]


def test_every_time_of_an_ordinary_call() -> None:
    # 21 tokens, one each 50 ms, the first after 200 ms: 200, 250, …, 1200.
    call = stamps(
        *[200 + 50 * i for i in range(21)],
        end_ms=1210,
        connect_start=3 * MS,
        connect_end=9 * MS,
        headers=150 * MS,
        self_lag_ns=300_000,
        server_ms=1100.0,
    )
    got = figures(call, output_tokens=21)
    assert got.queued_ms == 2
    assert got.connect_ms == 6
    assert not got.reused
    assert got.ttfb_ms == 140
    assert (got.ttft_ms, got.ttfat_ms, got.ttlt_ms, got.end_ms) == (200, 200, 1200, 1210)
    assert (got.itl_p50_ms, got.itl_p95_ms, got.itl_max_ms) == (50, 50, 50)
    assert got.itl_p99_ms is None, "20 gaps are too few"
    assert got.tpot_ms == pytest.approx(1000 / 20)
    assert got.decode_tps == pytest.approx(20 / 1.0)
    assert got.e2e_tps == pytest.approx(21 / 1.2)
    assert (got.self_lag_ms, got.lag_marked) == (0.3, False)
    assert got.server_ms == 1100
    assert got.n_deltas == 21
    assert not got.buffered_suspect


def test_reasoning_stops_the_first_clock_and_the_answer_the_second() -> None:
    got = figures(stamps(100, 300, 700, 900, kinds="rraa"), output_tokens=4)
    assert (got.ttft_ms, got.ttfat_ms, got.ttlt_ms) == (100, 700, 900)


def test_tool_arguments_stop_the_first_clock_too() -> None:
    got = figures(stamps(100, 300, kinds="ta"), output_tokens=2)
    assert (got.ttft_ms, got.ttfat_ms) == (100, 300)


def test_nothing_that_was_not_measured_is_a_number() -> None:
    got = figures(stamps(end_ms=500), output_tokens=None)
    unknown = (
        "ttft_ms",
        "ttfat_ms",
        "ttlt_ms",
        "itl_p50_ms",
        "itl_max_ms",
        "tpot_ms",
        "decode_tps",
        "e2e_tps",
        "ttfb_ms",
        "self_lag_ms",
        "server_ms",
        "connect_ms",
    )
    assert [getattr(got, name) for name in unknown] == [None] * len(unknown)
    assert got.end_ms == 500
    assert got.decode_hidden == "no token arrived"


@pytest.mark.parametrize(
    ("arrivals", "tokens", "why"),
    [
        ((100, 900), None, "the number of tokens is not known"),
        ((100, 900), 9, "9 tokens, at least 10"),
        ((100, 500), 50, "400 ms of writing, at least 500"),
    ],
)
def test_a_speed_that_would_mean_nothing_is_not_shown_and_says_why(
    arrivals: tuple[float, ...], tokens: int | None, why: str
) -> None:
    got = figures(stamps(*arrivals), output_tokens=tokens)
    assert got.decode_tps is None
    assert why in (got.decode_hidden or "")


def test_several_tokens_in_one_read_are_no_gap_of_zero_speed() -> None:
    got = figures(stamps(100, 100, 100, 1100), output_tokens=40)
    assert got.itl_p50_ms == 0
    assert got.decode_tps == pytest.approx(39.0)
    assert got.tpot_ms == pytest.approx(1000 / 39)


def test_a_call_is_marked_when_our_own_lag_exceeds_its_share() -> None:
    close = [200 + 10 * i for i in range(30)]
    assert not figures(stamps(*close, self_lag_ns=2 * MS), output_tokens=30).lag_marked
    assert figures(stamps(*close, self_lag_ns=2 * MS + 100_000), output_tokens=30).lag_marked
    apart = [200 + 100 * i for i in range(30)]  # 5 % of 100 ms
    assert not figures(stamps(*apart, self_lag_ns=5 * MS), output_tokens=30).lag_marked
    assert figures(stamps(*apart, self_lag_ns=6 * MS), output_tokens=30).lag_marked


def test_a_stream_that_came_all_at_once_at_the_end_is_suspected_to_be_buffered() -> None:
    assert figures(stamps(*[2000 + i * 0.1 for i in range(40)]), output_tokens=40).buffered_suspect
    assert not figures(stamps(*[200 + i * 50 for i in range(40)]), output_tokens=40).buffered_suspect
    assert not figures(stamps(2000, 2000.1), output_tokens=2).buffered_suspect, "too few to say"


def test_a_reused_connection_took_no_time() -> None:
    got = figures(stamps(100, reused=True), output_tokens=1)
    assert (got.connect_ms, got.reused) == (0.0, True)


def test_stamps_that_run_backwards_are_refused() -> None:
    with pytest.raises(ValueError, match="run backwards"):
        figures(stamps(300, 200), output_tokens=2)
    with pytest.raises(ValueError, match="run backwards"):
        figures(stamps(300, headers=400 * MS), output_tokens=1)


def test_live_speeds_agree_with_the_final_ones() -> None:
    call = stamps(*[200 + 50 * i for i in range(21)])
    final = figures(call, output_tokens=21)
    first, last = call.deltas[0][0], call.deltas[-1][0]
    live = live_figures(t0=call.t0, now=last, first=first, last=last, tokens=21)
    assert live.decode_tps == pytest.approx(final.decode_tps)
    assert live.e2e_tps == pytest.approx(final.e2e_tps)
    assert live_figures(t0=call.t0, now=last, first=first, last=last, tokens=9).decode_tps is None
    assert live_figures(t0=None, now=1, first=None, last=None, tokens=100).e2e_tps is None


arrivals = st.lists(st.integers(0, 10**10), max_size=60).map(sorted)


@given(arrivals, st.one_of(st.none(), st.integers(0, 10_000)), st.text("art", min_size=60, max_size=60))
def test_whatever_the_stamps_the_figures_are_in_order_and_never_negative(
    times: list[int], tokens: int | None, kinds: str
) -> None:
    names = {"a": "answer", "r": "reasoning", "t": "tool"}
    deltas = [(10 + ns, names[kind]) for ns, kind in zip(times, kinds, strict=False)]
    call = Stamps(accepted=0, handed=5, t0=10, end=10 + (times[-1] if times else 0), deltas=deltas)
    got = figures(call, output_tokens=tokens)
    numbers = [value for value in asdict(got).values() if isinstance(value, float)]
    assert all(value >= 0 for value in numbers)
    if times:
        assert got.ttft_ms is not None
        assert got.ttlt_ms is not None
        assert got.end_ms is not None
        assert got.ttft_ms <= got.ttlt_ms <= got.end_ms
        if got.ttfat_ms is not None:
            assert got.ttft_ms <= got.ttfat_ms <= got.ttlt_ms
        for share in (got.itl_p50_ms, got.itl_p95_ms, got.itl_p99_ms):
            assert share is None or share <= (got.itl_max_ms or 0)
    packed = unpack_deltas(*pack_deltas(call))
    assert packed == [(ns // 1000, names[kind]) for ns, kind in zip(times, kinds, strict=False)]


def test_percentiles_of_gaps_are_those_of_their_definition() -> None:
    twenty = figures(stamps(*accumulate([100, *range(1, 21)])), output_tokens=21)
    assert (twenty.itl_p50_ms, twenty.itl_p95_ms, twenty.itl_max_ms) == pytest.approx((10.5, 19.05, 20))
    hundred = figures(stamps(*accumulate([100, *range(1, 101)])), output_tokens=101)
    assert (hundred.itl_p50_ms, hundred.itl_p95_ms, hundred.itl_p99_ms) == pytest.approx((50.5, 95.05, 99.01))
