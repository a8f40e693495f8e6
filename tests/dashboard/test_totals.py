"""Totals of the dashboard are the sums of the calls behind them, to the nano-dollar, whatever the filter."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from db import history
from db.engine import reader
from db.models import Powered
from db.writer import Writer
from services.dashboard import figures
from services.dashboard.figures import BYS, Filter
from services.pricing.cost import Price, cost
from services.types import Usage
from tests.dashboard.calls import NOW, SPAN, START, TEAMS, ZONE, fill, fold_all, make_calls
from tests.db.rows import do

pytestmark = pytest.mark.slow

CHOICES: dict[str, Any] = {
    "deployments": ("a", "c"),
    "sources": ("batch",),
    "models": ("model b", "model c"),
    "caches": ("warm", "unknown"),
    "persons": ("ada", "cyd"),
    "tags": ("workshop",),
    "teams": ("search",),
    "kinds": ("openai",),
}


def any_filter(dice: random.Random) -> Filter:
    chosen = {name: some for name, some in CHOICES.items() if dice.random() < 0.3}
    if dice.random() < 0.4:
        return Filter(range=dice.choice(["24h", "7d", "30d", "90d", "mtd", "all"]), zone=ZONE, **chosen)
    a, b = sorted(START - timedelta(days=1) + (SPAN + timedelta(days=2)) * dice.random() for _ in range(2))
    return Filter(range="custom", start=a, end=b, zone=dice.choice([ZONE, "Asia/Kolkata", "UTC"]), **chosen)


@pytest.mark.parametrize("up_to", [10**9, -1], ids=["each call read", "from rollups"])
def test_every_total_is_the_sum_of_the_calls_behind_it(
    filled: tuple[Engine, Writer], monkeypatch: pytest.MonkeyPatch, up_to: int
) -> None:
    engine, writer = filled
    monkeypatch.setattr(history, "EXACT_UP_TO", up_to)
    dice = random.Random(11)
    for round_ in range(20):
        if round_ == 10:
            fold_all(writer)
        chosen = any_filter(dice)
        data = figures.load(engine, chosen, NOW, teams=TEAMS)
        listed, n = figures.behind(data, limit=2000)
        spent = sum(row["cost_nanousd"] or 0 for row in listed)
        assert figures.spend(data).calls == figures.spend(data).total == spent, (round_, chosen)
        assert len(listed) == n == data.n == int(figures.throughput(data)["calls"].sum())
        assert n == int(figures.states(data)["n"].sum())
        for by in BYS:
            table = figures.cost(data, by)
            assert int(table["nanousd"].sum()) == spent, (round_, by, chosen)
        plain = sum(row["plain_nanousd"] or row["cost_nanousd"] or 0 for row in listed)
        saved = figures.savings(data)
        assert (saved.plain, saved.paid) == (plain, spent)
        assert saved.caching + saved.batch == plain - spent
        if data.buckets.is_running[-1] and n:
            last = figures.behind(data, bucket=data.buckets.labels[-1].to_pydatetime())[1]
            drawn = figures.throughput(data)
            assert last == int(drawn.loc[drawn["bucket"] == data.buckets.labels[-1], "calls"].sum())


def test_costs_by_tag_person_and_team_are_those_of_the_calls(quick: tuple[Engine, Writer]) -> None:
    engine, _ = quick
    data = figures.load(engine, Filter(range="all"), NOW, teams=TEAMS)
    rows = make_calls()
    for by, key, mine in (
        ("tag", "haiku + workshop", lambda row: row["run_id"] == "r5"),
        ("tag", "no tag", lambda row: row["run_id"] not in ("r3", "r5")),
        ("person", "dan", lambda row: row["person"] == "dan"),
        ("team", "search", lambda row: row["person"] in ("ada", "bob")),
        ("team", "no team", lambda row: row["person"] == "dan"),
        ("day", "2026-10-25", lambda row: row["created_at"].date().isoformat() == "2026-10-25"),
    ):
        table = figures.cost(data, by)
        wanted = sum(row["cost_nanousd"] or 0 for row in rows if mine(row))
        assert int(table.loc[table["key"] == key, "nanousd"].sum()) == wanted > 0, (by, key)


@pytest.mark.parametrize("up_to", [10**9, -1], ids=["each call read", "from rollups"])
def test_golden_costs_come_out_to_the_nano_dollar(
    url: str, open_writer: Any, monkeypatch: pytest.MonkeyPatch, up_to: int
) -> None:
    """3 uncached input, 12,304 cache write and 550 output at $3, $3.75 and $15 are $0.054399; the next call reads
    the cache at $0.30; a batch costs half."""
    monkeypatch.setattr(history, "EXACT_UP_TO", up_to)
    rates = {"input": "3", "cache_write_5m": "3.75", "cache_read": "0.30", "output": "15"}
    half = {name: str(float(rate) / 2) for name, rate in rates.items()}
    calls = []
    for number, (usage, price, source) in enumerate(
        (
            (Usage(3, 0, 12_304, 0, None, 550, source="provider"), rates, "playground"),
            (Usage(3, 12_304, 0, 0, None, 550, source="provider"), rates, "playground"),
            (Usage(3, 0, 12_304, 0, None, 550, source="provider"), half, "batch"),
        )
    ):
        made = cost(usage, Price("test", "2026-10-01", rates=price), complete=True)
        plain = cost(
            Usage(12_307, 0, 0, 0, None, 550, source="provider"), Price("test", "x", rates=rates), complete=True
        )
        row = make_calls(1)[0] | {
            "id": f"golden{number}",
            "cost_state": made.state,
            "cost_nanousd": made.nanousd,
            "source": source,
            "cost_drivers": made.drivers,
            "plain_nanousd": plain.nanousd,
            "created_at": NOW - timedelta(hours=30),
        }
        calls.append(row)
    writer = open_writer(url)
    fill(writer, calls)
    fold_all(writer)
    data = figures.load(reader(url), Filter(range="7d", sources=("playground",)), NOW)
    table = figures.cost(data, "deployment").set_index("driver")["nanousd"]
    assert figures.spend(data).total == 54_399_000 + 11_950_200
    assert dict(table) == {
        "uncached input": 18_000,
        "cache read": 3_691_200,
        "cache write": 46_140_000,
        "output": 16_500_000,
    }
    everything = figures.load(reader(url), Filter(range="7d"), NOW)
    saved = figures.savings(everything)
    assert figures.spend(everything).total == 54_399_000 + 11_950_200 + 27_199_500
    assert saved.plain == 3 * 45_171_000
    assert (saved.caching, saved.batch) == (2 * 45_171_000 - 66_349_200, 45_171_000 - 27_199_500)


def test_hours_are_paid_used_or_not_and_a_day_of_25_hours_costs_25(quick: tuple[Engine, Writer]) -> None:
    engine, writer = quick
    on = Powered(deployment_id="a", on_at=START - timedelta(days=3), off_at=None, usd_per_hour="2.5")
    do(writer, lambda *, session: session.add(on))
    long = Filter(range="custom", start=START, end=START + timedelta(days=10), zone=ZONE)
    data = figures.load(engine, long, NOW)
    spent = figures.spend(data)
    assert spent.used + spent.idle == round(2.5e9 * 240)
    by_driver = figures.cost(data, "deployment").groupby("driver")["nanousd"].sum()
    assert (by_driver["hours used"], by_driver["hours idle"]) == pytest.approx((spent.used, spent.idle), abs=10)
    by_day = figures.cost(data, "day")
    hours = by_day[by_day["driver"].str.startswith("hours")].groupby("key")["nanousd"].sum()
    assert (hours["2026-10-24"], hours["2026-10-25"]) == (60_000_000_000, 62_500_000_000)
    for by in BYS:
        assert int(figures.cost(data, by)["nanousd"].sum()) == spent.total
    busy = sum(row["end_ms"] for row in make_calls() if row["deployment_id"] == "a" and row["created_at"] < long.end)
    assert spent.used == pytest.approx(busy / 3.6e6 * 2.5e9, rel=0.01)
    line = figures.ranking(data).set_index("deployment_id").loc["a"]
    tokens = sum(
        row["answer_output"] for row in make_calls() if row["deployment_id"] == "a" and row["created_at"] < long.end
    )
    assert line["usd_per_1m_output"] == pytest.approx(line["nanousd"] / 1e9 / tokens * 1e6)
    assert 0 < line["utilisation"] < 0.01
    others = figures.load(engine, long.but(persons=("ada",)), NOW)
    assert figures.spend(others).idle == 0 < figures.spend(others).used
    assert figures.spend(figures.load(engine, long.but(deployments=("b",)), NOW)).used == 0
