"""What the Prices page reads: price rows in use, added up by both databases alike."""

from __future__ import annotations

import json

import pytest

from db.engine import reader
from db.history import PriceUse, price_uses
from db.writer import Writer
from tests.db.rows import START, later, put

OLD = {"source": "list", "date": "2026-01-01", "rates": {"input": "3", "output": "15"}, "context": {}}
NEW = OLD | {"rates": {"input": "2", "output": "10"}}


def call(price, known="exact", **values):
    cost = {"exact": 5_000, "lower_bound": 7_000, "not_billed": 0}.get(known)
    return {
        "state": "succeeded",
        "price": price,
        "cost_state": known,
        "cost_nanousd": cost,
        "uncached_input": 100,
        "cache_read": 0,
        "answer_output": 10,
    } | values


@pytest.fixture
def used(url, writer: Writer) -> str:
    put(writer, "a", call(OLD), call(OLD, "lower_bound", cache_read=900), call(OLD, "not_billed"))
    put(writer, "b", call(OLD, created_at=later(hours=1)), call(NEW, created_at=later(hours=2)))
    put(writer, "c", call(None, "no_price", deployment_id="two"), call(None, "unknown_usage", deployment_id="two"))
    put(writer, "d", call(NEW, None, deployment_id="two", state="running"))
    return url


def by_price(uses: list[PriceUse]) -> dict[tuple[str, str | None, int], PriceUse]:
    return {(use.deployment_id, use.price and json.loads(use.price)["rates"]["input"], use.band): use for use in uses}


def test_calls_are_added_up_by_deployment_and_stored_price(used):
    found = by_price(price_uses(reader(used)))
    assert set(found) == {("one", "3", 0), ("one", "2", 0), ("two", None, 0)}
    old = found["one", "3", 0]
    assert (old.n, old.n_billed, old.n_inexact, old.nanousd) == (4, 3, 1, 17_000)
    assert (old.first, old.last) == (START, later(hours=1))
    assert (old.counts["uncached_input"], old.counts["cache_read"], old.counts["answer_output"]) == (300, 900, 30)
    assert json.loads(old.price) == OLD


def test_calls_without_a_price_are_counted_with_their_tokens_but_no_money(used):
    none = by_price(price_uses(reader(used)))["two", None, 0]
    assert (none.n, none.n_billed, none.nanousd, none.counts["uncached_input"]) == (2, 1, 0, 100)


def test_bounds_tell_calls_apart_by_all_of_their_input_tokens(used):
    found = by_price(price_uses(reader(used), [100, 999]))
    assert (found["one", "3", 0].n, found["one", "3", 2].n) == (3, 1)
    assert ("one", "3", 1) not in found


def test_an_empty_database_has_no_price_in_use(url):
    assert price_uses(reader(url)) == []
