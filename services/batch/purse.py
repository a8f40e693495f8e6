"""The budget of one batch, as our own runner keeps it: a line is taken only when the most it can cost still fits."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine

from db import batches
from services.pricing import cost as pricing_cost
from services.types import Deployment, Usage

CHARS_PER_TOKEN = 2.0  # of the dearest text there is: this is a bound and no estimate
OVERHEAD_TOKENS = 50  # around a request (`services.batch.tokens.Talk`), its first message included
MARKS_TOKENS = 6  # around each further message
OUTPUT_TOKENS = 4096  # where neither the line nor the service is told a limit
REFRESH_S = 5.0

Row = Mapping[str, Any]


class Purse:
    """What a batch may still spend in this worker. Without a budget, or without a price by the token, anything.

    Several workers share what is left evenly, from one look at the records to the next.
    """

    def __init__(self, batch: Row, deployment: Deployment, reader: Engine, workers: Counter[str]) -> None:
        self._id: str = batch["id"]
        self._budget: int | None = batch["budget_nanousd"]
        self._reader = reader
        self._workers = workers
        price = pricing_cost.price_of(deployment, datetime.now(UTC))
        self._price = price if price is not None and price.per_hour is None else None
        self._spent: int | None = None  # of the records, at the last look
        self._looked = 0.0
        self._since = 0  # our own, since then
        self._in_hand: dict[int, int] = {}
        self._freed = asyncio.Event()

    def look(self, batch: Row) -> None:
        """The batch as it is in the records now: its budget may be another."""
        self._budget = batch["budget_nanousd"]

    async def take(self, row: Row) -> bool:
        """Set aside the most that a line can cost; waits for lines in hand whose cost is not known yet.

        False when it does not fit although nothing is in hand any more.
        """
        if self._budget is None or self._price is None:
            return True
        cost = worst(row, self._price)
        while not await self._fits(cost):
            if not self._in_hand:
                return False
            self._freed.clear()
            await self._freed.wait()
        self._in_hand[row["no"]] = cost
        return True

    async def _fits(self, cost: int) -> bool:
        n = max(1, self._workers["alive"])
        if self._spent is None or (n > 1 and time.monotonic() - self._looked > REFRESH_S):
            self._spent = await asyncio.to_thread(batches.spent, self._reader, self._id) or 0
            self._looked, self._since = time.monotonic(), 0
        left = (self._budget or 0) - self._spent
        return self._since + sum(self._in_hand.values()) + cost <= left // n

    def give_back(self, row: Row) -> None:
        """The line is over, or is not sent after all."""
        if self._in_hand.pop(row["no"], None) is not None:
            self._freed.set()

    def paid(self, call: Row) -> None:
        """What a call has cost, at most."""
        self._since += call.get("cost_high_nanousd") or call.get("cost_nanousd") or 0

    def sentence(self) -> str:
        """Why nothing more is sent."""
        spent = (self._spent or 0) + self._since
        return (
            f"Paused: {pricing_cost.money(spent)} of the budget of {pricing_cost.money(self._budget)} are spent, and "
            "the next "
            "line could pass it. Raise the budget and resume, or cancel; what was answered is kept."
        )


def worst(row: Row, price: pricing_cost.Price) -> int:
    """The most that a line can cost, in nano-dollars."""
    request = row["request"] or {}
    turns = request.get("messages") or ()
    chars = len(request.get("system") or "") + sum(len(one["text"]) for one in turns)
    most = (request.get("params") or {}).get("max_tokens")
    usage = Usage(
        uncached_input=round(chars / CHARS_PER_TOKEN) + OVERHEAD_TOKENS + MARKS_TOKENS * max(len(turns) - 1, 0),
        answer_output=most if isinstance(most, int) else OUTPUT_TOKENS, source="estimated",
    )  # fmt: skip
    return pricing_cost.cost(usage, price, complete=True).nanousd or 0
