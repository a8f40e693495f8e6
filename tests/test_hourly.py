"""What hours cost at their use: arithmetic that holds whatever the calls were."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.call_record import CallRecord, from_row
from services.formatting import percent
from services.pricing.hourly import CallSpan, Use, share_nanousd, span_of_call, union, use_of, window_of, words
from services.runs import view

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = (NOW - timedelta(hours=24), NOW)
moments = st.integers(-200_000, 100_000).map(lambda s: NOW + timedelta(seconds=s / 2))
calls = st.lists(
    st.builds(
        lambda start, long, tokens: CallSpan(start, start + timedelta(milliseconds=long), tokens),
        moments,
        st.integers(0, 9_000_000),
        st.none() | st.integers(0, 5000),
    ),
    max_size=30,
)


@pytest.mark.slow
@given(calls, st.randoms(use_true_random=False))
def test_busy_time_fits_its_window_and_does_not_depend_on_the_order(held: list[CallSpan], order: object) -> None:
    use = use_of(held, DAY, Decimal("1.41"))
    assert 0 <= use.busy_s <= use.window_s
    assert use.busy_s <= use.held_s + 1e-6
    assert use.idle_s + use.busy_s == pytest.approx(use.window_s)
    assert use.idle_cost <= use.cost
    assert use.cost == Decimal("1.41") * 24
    assert use.concurrency is None or use.concurrency >= 1 - 1e-9
    shuffled = list(held)
    order.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random
    again = use_of(shuffled, DAY, Decimal("1.41"))
    assert (again.busy_s, again.calls, again.output_tokens) == (use.busy_s, use.calls, use.output_tokens)
    assert again.held_s == pytest.approx(use.held_s)


@given(calls)
def test_a_call_that_lies_within_others_adds_nothing_to_busy_time(held: list[CallSpan]) -> None:
    spans = [(one.start, one.end) for one in held]
    assert union(spans + spans) == union(spans)
    if spans:
        assert union(spans) <= max(end for _, end in spans) - min(start for start, _ in spans)


def at(minutes: float, long: float, tokens: int | None = 100, exact: bool = True) -> CallSpan:
    start = NOW - timedelta(minutes=minutes)
    return CallSpan(start, start + timedelta(minutes=long), tokens, exact)


def test_a_day_with_four_calls_is_worked_out() -> None:
    # 60–30 and 45–20 overlap: 40 minutes; 10–5 adds 5; one began before the window and counts from its start.
    early = CallSpan(DAY[0] - timedelta(minutes=5), DAY[0] + timedelta(minutes=3), 100)
    use = use_of([at(60, 30), at(45, 25), at(10, 5), early], DAY, Decimal(2))
    assert use == Use(Decimal(2), 86_400.0, 48 * 60.0, 63 * 60.0, 4, 400, exact=True)
    assert use.utilisation == pytest.approx(48 / 1440)
    assert use.cost == 48
    assert use.idle_cost == pytest.approx(Decimal("46.4"))
    assert use.per_1000_calls == 12_000
    assert use.per_1m_output == 120_000
    assert words(use) == (
        "$2.00 an hour · busy 3 % of the last 24 h, counting the calls from here, 1.3 at once · $46.40 of $48.00 paid "
        "for idle time · at that use $12,000.00 per 1,000 calls · $120,000.00 per 1M output tokens"
    )


def test_counts_of_ours_and_counts_that_are_missing_are_marked() -> None:
    assert "~$" in words(use_of([at(9, 1, exact=False)], DAY, Decimal(1)))
    assert "~$" in words(use_of([at(9, 1), at(8, 1, None)], DAY, Decimal(1)))
    without = words(use_of([at(9, 1, None)], DAY, Decimal(1)))
    assert "per 1,000 calls" in without
    assert "output" not in without, "unknown tokens give no price for them"


def test_an_idle_machine_costs_all_of_its_hours() -> None:
    window = window_of(NOW - timedelta(minutes=90), NOW)
    use = use_of([], window, Decimal("39.6"))
    assert words(use) == (
        "$39.60 an hour · no call from here in the 1.5 h since it was declared: $59.40 paid for idle time"
    )
    assert (use.per_1000_calls, use.per_1m_output, use.concurrency) == (None, None, None)


def test_the_window_begins_no_sooner_than_the_deployment() -> None:
    assert window_of(NOW - timedelta(days=9), NOW) == DAY
    assert window_of(NOW - timedelta(hours=1), NOW)[0] == NOW - timedelta(hours=1)
    assert window_of(NOW + timedelta(hours=1), NOW) == (NOW, NOW), "clocks that disagree make no negative time"
    assert use_of([], (NOW, NOW), Decimal(1)).utilisation is None


def row(**values: object) -> dict[str, object]:
    base = {
        "created_at": NOW - timedelta(seconds=9),
        "started_at": NOW - timedelta(seconds=8),
        "end_ms": 2000.0,
        "state": "succeeded",
        "usage_source": "provider",
        "output": 50,
    }
    return base | values


def test_a_row_holds_the_machine_from_its_first_byte_to_its_end() -> None:
    held = span_of_call(row(), NOW)
    assert held == CallSpan(NOW - timedelta(seconds=8), NOW - timedelta(seconds=6), 50)
    assert span_of_call(row(usage_source="estimated"), NOW) == CallSpan(held.start, held.end, 50, exact=False)  # type: ignore[union-attr]
    assert span_of_call(row(started_at=None, state="failed"), NOW) is None, "it was never sent"
    assert span_of_call(row(end_ms=None, state="lost"), NOW) is None, "nobody knows when it ended"
    running = span_of_call(row(started_at=None, end_ms=None, state="running", output=None), NOW)
    assert running is not None
    use = use_of([running], DAY, Decimal(1))
    assert (use.busy_s, use.calls) == (pytest.approx(9.0), 0)


def test_a_calls_share_of_the_hour_is_its_time() -> None:
    assert share_nanousd("36", 1000.0) == 10_000_000
    assert share_nanousd("39.60", 560.0) == 6_160_000
    for price, ms in (("0", 10.0), (None, 10.0), ("36", None), ("x", 1.0), ("NaN", 1.0), ("36", -1.0)):
        assert share_nanousd(price, ms) is None


def test_a_little_is_not_nothing() -> None:
    assert (percent(0.0), percent(0.004), percent(0.034), percent(1.0)) == ("0 %", "under 1 %", "3 %", "100 %")


def paid(**values: object) -> CallRecord:
    base = {
        "state": "succeeded",
        "cost_state": "by_the_hour",
        "end_ms": 1000.0,
        "price": {"source": "deployment", "date": "2026-11-24", "per_hour": "36"},
    }
    return from_row(base | values)


def test_a_call_that_is_paid_by_the_hour_says_its_share_beside_the_price_of_the_hour() -> None:
    assert view.figures(paid())["cost"] == "$36 / h"
    assert view.figures(paid())["cost_share"] == "~$0.01"
    assert view.cost_of_1000([paid(), paid(end_ms=3000.0), paid(end_ms=2000.0)]) == "$36 / h · ~$20.00 at full use"
    assert view.cost_of_1000([paid(state="failed"), paid(end_ms=None)]) == "$36 / h"
    assert view.figures(paid(cost_state="exact", cost_nanousd=5))["cost_share"] is None
    assert view.cost_of_1000([paid(cost_state="free")]) == "free"
