"""A call's record and its row hold the same."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from db.rollups import CALL
from services.call_record import BEGINNING, END, from_row, to_row
from services.runs.record import of_call
from tests.db.rows import call_row

WHOLE = tuple(dict.fromkeys((*BEGINNING, *END)))


def test_every_column_of_a_call_comes_from_its_record_but_the_mark_of_the_rollups() -> None:
    assert {column.name for column in CALL.columns} - set(WHOLE) == {"rolled"}
    assert set(WHOLE) <= {column.name for column in CALL.columns}


def test_a_row_is_the_same_after_its_record() -> None:
    row: dict[str, Any] = {name: f"the {name}" for name in WHOLE}  # each value is found in its own place only
    row |= {"deployment": {"name": "One", "labels": ["local"]}, "created_at": datetime(2026, 11, 24, tzinfo=UTC)}
    call = from_row(row)
    assert to_row(call, WHOLE) == row
    assert (call.deployment.name, call.deployment.labels) == ("One", ["local"])


def test_what_a_row_leaves_out_is_not_known() -> None:
    row = to_row(from_row({"id": "c"}), END)
    assert {name: value for name, value in row.items() if value is not None} == {"state": "running"}


def test_the_json_of_a_call_adds_its_tokens_up_and_says_its_cost_in_dollars() -> None:
    row = call_row("c", "r", state="succeeded", outcome="ok", cost_state="range", cost_nanousd=1_250_000)
    row |= {"uncached_input": 1, "cache_read": 20, "cache_write_5m": 300, "cache_write_1h": 4_000}
    row |= {"reasoning_output": 50_000, "answer_output": 600_000, "cost_high_nanousd": 2_500_000}
    call = of_call(from_row(row))
    assert (call["usage"]["input"], call["usage"]["output"]) == (4_321, 650_000)
    assert (call["cost"]["usd"], call["cost"]["high_usd"]) == ("0.00125", "0.0025")
