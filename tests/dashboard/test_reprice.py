"""Pricing anew is a view of the calls of the filter: tokens × today's rates."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from db.engine import reader
from services.dashboard import figures
from services.dashboard.cost import NO_PRICE_THEN
from services.dashboard.figures import Filter
from services.pricing.cost import Price, cost
from services.types import Deployment, PriceRef, Usage
from tests.dashboard.calls import NOW, declare, fill, fold_all, make_calls
from tests.db.rows import ask

pytestmark = pytest.mark.slow

RATES = {"input": "3", "cache_read": "3", "cache_write_5m": "3", "cache_write_1h": "3", "output": "15"}


@pytest.mark.slow
def test_the_same_tokens_at_twice_the_price_cost_twice_as_much_and_no_call_changes(url: str, open_writer: Any) -> None:
    usage, price = Usage(1000, 0, 0, 0, None, 500, source="provider"), Price("deployment", "2026-10-01", rates=RATES)
    made = cost(usage, price, complete=True)
    rows = [
        make_calls(1)[0]
        | {
            "id": f"p{number}",
            "deployment_id": "ab"[number % 2],
            "created_at": NOW - timedelta(hours=30 + number),
            "state": "succeeded",
            "price": price.to_json(),
            "cost_state": made.state,
            "cost_nanousd": made.nanousd,
            "cost_drivers": made.drivers,
            "uncached_input": 1000,
            "cache_read": 0,
            "cache_write_5m": 0,
            "cache_write_1h": 0,
            "reasoning_output": None,
            "answer_output": 500,
        }
        for number in range(6)
    ]
    writer = open_writer(url)
    fill(writer, rows)
    fold_all(writer)
    twice = {name: str(2 * int(rate)) for name, rate in RATES.items()}
    base = Deployment(
        id="", name="", kind="openai", model="m", base_url="http://localhost:1", wire="chat", key_env=None
    )
    for slot, (name, rates) in enumerate((("a", twice), ("b", RATES))):
        declare(writer, replace(base, id=name, name=name, price=PriceRef(override=rates)), slot)
    engine = reader(url)
    found = figures.repriced(figures.load(engine, Filter("7d"), NOW))
    assert (found.was, found.today) == (6 * 10_500_000, 9 * 10_500_000)
    lines = found.table.set_index("deployment_id")
    assert (lines.loc["a", "difference"], lines.loc["b", "difference"]) == (3 * 10_500_000, 0)
    only = figures.repriced(figures.load(engine, Filter("7d", deployments=("b",)), NOW))
    assert only.was == only.today == 3 * 10_500_000
    early = figures.repriced(figures.load(engine, Filter("24h"), NOW))
    assert early.was == early.today == 0 and early.table.empty
    assert ask(url, "SELECT sum(cost_nanousd) FROM call")[0][0] == 6 * 10_500_000


def test_a_deployment_with_several_prices_is_one_line_and_a_second_only_with_its_reason(
    sqlite_url: str, open_writer: Any
) -> None:
    usage = Usage(1000, 0, 0, 0, None, 500, source="provider")
    prices = [None, *(Price("deployment", "2026-10-01", rates=RATES | {"output": out}) for out in ("15", "20", "30"))]
    rows = []
    for number in range(8):
        price = prices[number % 4]
        made = cost(usage, price, complete=True)
        rows.append(
            make_calls(1)[0]
            | {
                "id": f"p{number}",
                "deployment_id": "a",
                "created_at": NOW - timedelta(hours=30 + number),
                "state": "succeeded",
                "price": price.to_json() if price else None,
                "cost_state": made.state,
                "cost_nanousd": made.nanousd,
                "cost_drivers": made.drivers,
                "uncached_input": 1000,
                "cache_read": 0,
                "cache_write_5m": 0,
                "cache_write_1h": 0,
                "reasoning_output": None,
                "answer_output": 500,
            }
        )
    writer = open_writer(sqlite_url)
    fill(writer, rows)
    fold_all(writer)
    known = Deployment(
        id="a",
        name="a",
        kind="openai",
        model="m",
        base_url="http://localhost:1",
        wire="chat",
        key_env=None,
        price=PriceRef(override=RATES | {"output": "20"}),
    )
    declare(writer, known, 0)
    found = figures.repriced(figures.load(reader(sqlite_url), Filter("7d"), NOW))
    lines = found.table.set_index("reason")
    assert list(found.table["deployment_id"]) == ["a", "a"] and list(lines.index) == ["", NO_PRICE_THEN]
    each = {out: (3 * 1000 + out * 500) * 1000 for out in (15, 20, 30)}
    paid, today = 2 * sum(each.values()), 6 * each[20]
    assert tuple(lines.loc["", ["n", "was_nanousd", "today_nanousd", "difference"]]) == (6, paid, today, today - paid)
    assert lines.loc[NO_PRICE_THEN, "n"] == 2 and lines.loc[NO_PRICE_THEN, "was_nanousd"] is None
    assert (found.was, found.today) == (paid, today)
