"""The sentence about a bar with hours in it: its amounts, as they are written, add up to the bar."""

from __future__ import annotations

import re
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.dashboard.cost import Paid, paid_words

AMOUNT = st.integers(1, 10**14)


def bar(n: int, calls: int, used: int, idle: int, hours: float = 2.6, narrowed: bool = False) -> Paid:
    return Paid(n, calls, used, idle, hours, "$1.21/h", narrowed)


def test_calls_and_hours_are_told_in_one_sentence() -> None:
    assert paid_words(bar(12, 420_000_000, 922_200_000, 2_257_800_000)) == (
        "$3.60 in this bar: $0.42 are 12 calls, $3.18 are 2.6 h at $1.21/h, of which 71 % idle: no call stands behind "
        "them."
    )
    assert paid_words(bar(1, 0, 3_000_000_000, 0, 0.5)) == (
        "$3.00 in this bar: $0 is 1 call, $3.00 are 30 min at $1.21/h, of which 0 % idle: no call stands behind them."
    )


@given(AMOUNT, AMOUNT, st.integers(0, 10**14))
def test_the_amounts_add_up_to_the_bar(calls: int, used: int, idle: int) -> None:
    words = paid_words(bar(3, calls, used, idle))
    whole, by_calls, by_hours = (
        Decimal(one.replace(",", "")) for one in re.findall(r"\$([\d,.]+\d|\d)(?= (?:in|are))", words)
    )
    assert whole == by_calls + by_hours and by_calls > 0 and by_hours > 0
    assert abs(whole * 10**9 - calls - used - idle) <= Decimal("5e6")


@pytest.mark.parametrize(("idle", "said"), [(999_999, "over 99 %"), (1, "under 1 %"), (0, "0 %"), (500_000, "50 %")])
def test_a_share_is_never_rounded_to_all_or_nothing(idle: int, said: str) -> None:
    assert f"of which {said} idle" in paid_words(bar(0, 0, 1_000_000 - idle, idle))


def test_a_selection_that_leaves_idle_time_out_says_so() -> None:
    words = paid_words(bar(4, 0, 10**9, 0, narrowed=True))
    assert "2.6 h in use at $1.21/h" in words and "idle time is in no bar of a selection as narrow as this" in words
