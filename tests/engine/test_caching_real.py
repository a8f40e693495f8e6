"""Prompt caching on the real embedded model: off is off, automatic hits, and the page's figures are the rows'."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from app.caching.form import unique
from services import caching
from services.call_record import usage_of
from services.embedded import EmbeddedPool
from services.embedded.pool import DEFAULT_SPECS
from services.runs import compare, view
from services.runs.spec import ColumnSpec, RunSpec
from tests.engine.house import House

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]
MAIN = replace(DEFAULT_SPECS[0], threads=1)
SHORT = caching.HANDBOOKS[0].text[:900]  # about 190 tokens: a cold call takes a second on one core


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("caching")
    async with House(folder) as made:
        await made.engine.pool.close()
        pool = EmbeddedPool((MAIN,), log_dir=folder)
        made.engine.pool = made.engine.calls._pool = pool
        made.engine.registry.local_lacks = pool.lacks
        await pool.start()
        await pool.url("main")
        yield made
        await pool.close()


async def run(house: House, *columns: ColumnSpec, k: int) -> list[dict[str, object]]:
    spec = RunSpec(
        caching.QUESTION,
        columns,
        system=unique(SHORT),
        params={"max_tokens": 4},
        repetitions=k,
        start="sequential",
        source="caching",
    )
    live = house.engine.runs[await house.engine.start_run(spec, "ada")]
    async with asyncio.timeout(240):
        await live.ended.wait()
    return house.calls(live.id)


async def test_of_four_calls_with_one_long_prompt_the_first_is_cold_and_the_rest_are_warm(house: House) -> None:
    rows = await run(house, ColumnSpec("local-chat", cache="auto"), k=4)
    assert [row["state"] for row in rows] == ["succeeded"] * 4, [row["message"] for row in rows]
    assert [view.state(usage_of(row)) for row in rows] == ["cold", "warm", "warm", "warm"]
    assert all(int(str(row["cache_read"])) > 150 for row in rows[1:])
    (found,) = caching.measured(rows)
    usable = [row for row in rows if not row["lag_marked"]]
    assert found.cold == tuple(row["ttft_ms"] for row in usable if row["repetition"] == 1)
    assert found.warm == tuple(row["ttft_ms"] for row in usable if row["repetition"] != 1)
    assert found.total("cache_read") == sum(int(str(row["cache_read"])) for row in rows)
    assert (found.cost_words, found.with_cache) == ("free", None)
    if found.cold and found.warm:
        assert max(found.warm) < found.cold[0], "a prefix that is read is not worked through again"
        assert "instead of" in caching.conclusion(found)
    cold, warm = compare.compare(rows)
    # Before it may stand how many stamps came late on a busy machine.
    assert cold.note.endswith("1 cold prompt cache")
    assert warm.note.endswith("3 warm prompt cache")


@pytest.mark.parametrize("name", ["local-chat", "local-responses"])
async def test_off_reads_nothing_even_from_a_prompt_that_was_just_sent(house: House, name: str) -> None:
    rows = await run(house, ColumnSpec(name, cache="auto"), ColumnSpec(name, cache="off"), k=2)
    assert {row["state"] for row in rows} == {"succeeded"}, [(row["outcome"], row["message"]) for row in rows]
    read = {(row["cache_mode"], row["repetition"]): row["cache_read"] for row in rows}
    assert (read["off", 1], read["off", 2]) == (0, 0)
    assert int(str(read["auto", 2])) > 150


async def test_the_messages_wire_of_the_local_model_hits_and_has_no_off(house: House) -> None:
    rows = await run(house, ColumnSpec("local-messages", cache="off"), k=2)
    assert [view.state(usage_of(row)) for row in rows] == ["cold", "warm"]
    assert all("cache" in (row["dropped_params"] or {}) for row in rows)  # type: ignore[operator]
