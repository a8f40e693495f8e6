"""What a batch may still spend: lines that are under way count as long as their cost is not known."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import pytest

from db import batches
from db.engine import reader
from services.batch.runner import BudgetGuard, worst
from services.pricing.cost import price_of
from services.types import Deployment, PriceRef


async def test_lines_under_way_count_against_the_budget_until_they_are_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batches, "spent", lambda _reader, _batch: 0)
    deployment = Deployment(
        "d", "D", "openai-compatible", "m", "http://h/v1", price=PriceRef(override={"input": "1", "output": "2"})
    )
    rows = [{"no": no, "request": {"messages": [{"text": "x" * 40}], "params": {"max_tokens": 4}}} for no in range(3)]
    price = price_of(deployment, datetime.now(UTC))
    assert price is not None
    guard = BudgetGuard(
        {"id": "b", "budget_nanousd": 2 * worst(rows[0], price)}, deployment, reader("sqlite://"), Counter(alive=1)
    )
    assert await guard.take(rows[0]) and await guard.take(rows[1])
    third = asyncio.ensure_future(guard.take(rows[2]))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(third), 0.2)
    guard.give_back(rows[0])
    assert await third
