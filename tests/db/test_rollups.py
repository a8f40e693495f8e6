"""The rollups hold every ended call exactly once, and reading them agrees with reading the calls."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from db import history as history_module
from db import rollups, runs, sketch
from db.engine import reader
from db.writer import Writer
from tests.db.rows import ask, call_row, do, run_row

START = datetime(2026, 10, 20, 21, 17, 5, tzinfo=UTC)  # a stretch across the end of October and of summer time
SPAN = timedelta(days=14)
STATES = ["succeeded"] * 8 + ["failed", "throttled", "cancelled"]


def make_calls(n: int, seed: int = 1) -> list[dict[str, Any]]:
    """``n`` ended calls of three deployments, four people and two sources, with costs, caches and late stamps."""
    dice = random.Random(seed)
    rows = []
    for number in range(n):
        state = dice.choice(STATES)
        cost = dice.randrange(10**7)
        rows.append(
            call_row(
                f"c{number}",
                f"r{number % 7}",
                state=state,
                outcome="ok" if state == "succeeded" else state,
                created_at=START + SPAN * dice.random(),
                deployment_id=dice.choice("abc"),
                model=dice.choice("mn"),
                person=dice.choice(["ada", "bob", "cyd", "dan"]),
                source=dice.choice(["playground", "batch"]),
                ttft_ms=dice.lognormvariate(5, 1),
                ttlt_ms=dice.lognormvariate(8, 1),
                tpot_ms=None,
                decode_tps=80.0,
                end_ms=dice.uniform(10, 9000),
                uncached_input=dice.randrange(3000),
                answer_output=dice.randrange(900),
                cache_read=dice.choice([None, 0, 500]),
                cost_state=dice.choice(["exact", "lower_bound", "no_price"]),
                cost_nanousd=dice.choice([None, cost, cost]),
                cost_drivers={"uncached_input": cost},
                usage_source="provider",
                lag_marked=dice.random() < 0.05,
            )
        )
    return rows


@pytest.fixture
def filled(url: str, open_writer: Any) -> tuple[str, Writer]:
    writer = open_writer(url)
    for number in range(7):
        run = run_row(f"r{number}", tags=["workshop"] if number == 3 else [])
        do(writer, runs.insert_run, values=run)
    rows = make_calls(900)
    for start in range(0, len(rows), 300):
        do(writer, runs.insert_calls, rows=rows[start : start + 300])
    return url, writer


def fold_all(writer: Writer, batch: int = 250) -> None:
    while do(writer, rollups.fold, limit=batch):
        pass


def totals(found: history_module.Pieces) -> dict[str, int]:
    both = pd.concat([found.cells[list(rollups.SUMS)], found.calls[list(rollups.SUMS)]])
    return {name: int(both[name].sum()) for name in rollups.SUMS}


def values(found: history_module.Pieces, name: str = "ttft") -> sketch.Sketch:
    loose = found.calls[name].dropna().to_numpy()
    return sketch.merged([*(sketch.unpack(one) for one in found.cells[name]), sketch.of_values(loose)])


def test_any_stretch_and_filter_read_from_rollups_equals_the_calls(
    filled: tuple[str, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, writer = filled
    dice = random.Random(7)
    do(writer, rollups.fold, limit=400)  # some are rolled up, some are not
    for round_ in range(20):
        if round_ == 12:
            fold_all(writer)
        a, b = sorted(START + SPAN * dice.random() for _ in range(2))
        chosen: dict[str, Any] = {
            name: some
            for name, some in (
                ("deployments", dice.sample("abc", 2)),
                ("sources", ["batch"]),
                ("models", ["m"]),
                ("caches", ["warm"]),
                ("persons", ["ada", "cyd"]),
                ("tags", ["workshop"]),
            )
            if dice.random() < 0.3
        }
        wanted = history_module.Wanted(a, b, **chosen)
        monkeypatch.setattr(history_module, "EXACT_UP_TO", 10**9)
        exact = history_module.pieces(reader(url), wanted, grain="h", sketches=["ttft"])
        assert exact.exact
        monkeypatch.setattr(history_module, "EXACT_UP_TO", -1)
        for grain in ("h", "d"):
            found = history_module.pieces(reader(url), wanted, grain=grain, sketches=["ttft"])
            assert totals(found) == totals(exact), (round_, grain, wanted)
            assert np.array_equal(values(found).count, values(exact).count)
        listed, n = history_module.calls_behind(reader(url), wanted, limit=2000)
        assert n == len(listed) == totals(exact)["n"]
        assert sum(row["cost_nanousd"] or 0 for row in listed) == totals(exact)["cost_nanousd"]


def test_a_second_fold_counts_nothing_twice_and_a_rebuilt_day_is_the_same(filled: tuple[str, Writer]) -> None:
    url, writer = filled
    fold_all(writer)
    before = cells(url)
    assert do(writer, rollups.fold) == 0
    days = sorted({rollups.day_of(row["created_at"]) for row in make_calls(900)})
    do(writer, rollups.unroll_days, days=days)
    assert cells(url) == []
    fold_all(writer, batch=77)
    assert cells(url) == before


@pytest.mark.parametrize("batch", [7, 199])
def test_a_few_calls_make_the_same_cells_as_many_at_once(
    filled: tuple[str, Writer], batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, writer = filled
    fold_all(writer, batch=batch)
    one_by_one = cells(url)
    do(writer, rollups.unroll_days, days=sorted({rollups.day_of(row["created_at"]) for row in make_calls(900)}))
    monkeypatch.setattr(rollups, "FEW", 0)
    fold_all(writer, batch=900)
    assert cells(url) == one_by_one


@given(st.floats(1e-6, 1e12))
def test_one_value_falls_into_the_bin_that_many_do(value: float) -> None:
    assert sketch.bin_of(value) == sketch.bins_of([value])[0]


def cells(url: str) -> list[Any]:
    names = ", ".join(f'"{name}"' for name in (*rollups.KEYS, *rollups.SUMS, *rollups.SKETCHES))
    return [
        tuple(bytes(value) if isinstance(value, memoryview) else value for value in row)
        for row in ask(url, f"SELECT {names} FROM rollup ORDER BY {', '.join(rollups.KEYS)}")
    ]


@given(st.lists(st.floats(0.01, 1e7), min_size=1, max_size=300), st.floats(0, 1))
def test_a_quantile_is_within_its_error_of_the_exact_one(data: list[float], q: float) -> None:
    found = sketch.of_values(data).quantile(q)
    true = float(np.quantile(data, q))
    assert found == pytest.approx(true, rel=sketch.RELATIVE_ERROR * 1.001)


@given(st.lists(st.lists(st.floats(0.01, 1e7), max_size=30), max_size=8))
def test_merging_is_the_sketch_of_all_values_in_any_order(parts: list[list[float]]) -> None:
    whole = sketch.of_values([value for part in parts for value in part])
    stored = [sketch.of_values(part).pack() or None for part in parts]
    for order in (stored, stored[::-1]):
        merged = sketch.merged(sketch.unpack(one) for one in order)
        assert np.array_equal(merged.index, whole.index) and np.array_equal(merged.count, whole.count)


def test_bins_are_those_of_the_library() -> None:
    from ddsketch.mapping import LogarithmicMapping

    mapping = LogarithmicMapping(sketch.RELATIVE_ERROR)
    values = np.random.default_rng(3).lognormal(4, 3, 5000)
    assert [mapping.key(float(value)) for value in values] == list(sketch.bins_of(values))


def test_forgotten_calls_stay_in_the_rollups_and_a_deletion_there_changes_nothing(filled: tuple[str, Writer]) -> None:
    url, writer = filled
    fold_all(writer)
    wanted = history_module.Wanted(START - timedelta(days=1), START + SPAN + timedelta(days=1))
    before = totals(history_module.pieces(reader(url), wanted, grain="d"))
    middle = rollups.day_of(START + SPAN / 2)
    while do(writer, runs.forget_calls, older_than=middle, limit=100):
        pass
    assert ask(url, "SELECT count(*) FROM call")[0][0] < 900
    found = history_module.pieces(reader(url), wanted, grain="d")
    assert totals(found) == before and not found.exact
    do(writer, runs.delete_runs, run_ids=["r1"])
    fold_all(writer)
    early = history_module.Wanted(START - timedelta(days=1), middle)
    assert totals(history_module.pieces(reader(url), early, grain="d"))["n"] == 900 - _made_since(middle)


def _made_since(moment: datetime) -> int:
    return sum(row["created_at"] >= moment for row in make_calls(900))


def test_a_deleted_run_leaves_the_rollups_as_if_it_had_never_been(filled: tuple[str, Writer]) -> None:
    url, writer = filled
    fold_all(writer)
    do(writer, runs.delete_runs, run_ids=["r2", "r5"])
    fold_all(writer)
    left = [row for row in make_calls(900) if row["run_id"] not in ("r2", "r5")]
    wanted = history_module.Wanted(START, START + SPAN)
    found = totals(history_module.pieces(reader(url), wanted, grain="h"))
    assert found["n"] == len(left)
    assert found["answer_output"] == sum(row["answer_output"] for row in left)
    assert ask(url, "SELECT sum(n) FROM rollup WHERE grain = 'd'")[0][0] == len(left)
