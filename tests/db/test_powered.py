"""When hour-priced deployments were on: through restarts, switches and changes of price, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from db import runs
from db.engine import reader
from db.writer import Writer
from services.deployments.registry import Registry
from services.pricing import hourly
from services.types import Deployment, PriceRef
from tests.db.rows import ask, do

DAY = datetime(2026, 11, 2, tzinfo=UTC)
GPU = Deployment(
    id="gpu",
    name="GPU",
    kind="openai-compatible",
    model="m",
    base_url="http://127.0.0.1:8000/v1",
    origin="page",
    price=PriceRef(per_hour="1.50", count=2),
)


def declare(writer: Writer, deployment: Deployment, at: datetime) -> None:
    do(
        writer,
        runs.upsert_deployment,
        deployment_id=deployment.id,
        spec=deployment.to_json(),
        origin="page",
        enabled=deployment.enabled,
    )
    do(writer, hourly.settle, moment=at)


def stretches(url: str, start: datetime = DAY, end: datetime = DAY + timedelta(days=30), **more: Any) -> list[Any]:
    frame = hourly.accrued(reader(url), start, end, more.get("now", end))
    return [tuple(row) for row in frame[["on_at", "off_at", "usd_per_hour", "nanousd"]].itertuples(index=False)]


def at(hours: float) -> pd.Timestamp:
    return pd.Timestamp(DAY + timedelta(hours=hours))


@pytest.fixture
def gpu(url: str, writer: Writer) -> str:
    declare(writer, GPU, DAY + timedelta(hours=1))
    # Declared in the past of this test, not at the moment it runs.
    writer.submit(lambda session: session.execute(_update(DAY + timedelta(hours=1)))).result(60)
    return url


def _update(moment: datetime) -> Any:
    from sqlalchemy import update

    from db.models import Powered

    return update(Powered).values(on_at=moment)


def test_a_deployment_accrues_from_its_declaration_for_all_of_its_machines(gpu: str) -> None:
    assert stretches(gpu, now=DAY + timedelta(hours=5)) == [(at(1), at(5), 3.0, 12_000_000_000)]


def test_a_window_cuts_a_stretch_and_nothing_accrues_in_the_future(gpu: str) -> None:
    window = (DAY + timedelta(hours=2), DAY + timedelta(hours=9))
    assert stretches(gpu, *window, now=DAY + timedelta(hours=3)) == [(at(2), at(3), 3.0, 3_000_000_000)]
    assert stretches(gpu, DAY - timedelta(days=2), DAY) == []


def test_settling_again_as_a_new_engine_does_changes_nothing(gpu: str, writer: Writer) -> None:
    assert do(writer, hourly.settle, moment=DAY + timedelta(hours=4)) == 0
    assert len(ask(gpu, "SELECT 1 FROM powered")) == 1


def test_another_price_ends_a_stretch_and_begins_one_but_the_same_price_in_other_digits_does_not(
    gpu: str, writer: Writer
) -> None:
    declare(writer, replace(GPU, price=PriceRef(per_hour="1.5", count=2)), DAY + timedelta(hours=2))
    declare(writer, replace(GPU, price=PriceRef(per_hour="4")), DAY + timedelta(hours=3))
    end = DAY + timedelta(hours=4)
    assert stretches(gpu, end=end) == [(at(1), at(3), 3.0, 6_000_000_000), (at(3), at(4), 4.0, 4_000_000_000)]


def test_a_switch_ends_and_begins_a_stretch_and_the_hours_between_cost_nothing(gpu: str, writer: Writer) -> None:
    for hour, on in ((2, False), (6, True)):
        do(writer, runs.set_deployment_enabled, deployment_id="gpu", enabled=on)
        do(writer, hourly.settle, moment=DAY + timedelta(hours=hour))
    end = DAY + timedelta(hours=7)
    assert stretches(gpu, end=end) == [(at(1), at(2), 3.0, 3_000_000_000), (at(6), at(7), 3.0, 3_000_000_000)]


def test_a_deployment_that_is_taken_off_the_list_or_paid_by_the_token_accrues_no_more(gpu: str, writer: Writer) -> None:
    declare(writer, replace(GPU, id="other", name="Other"), DAY + timedelta(hours=1))
    do(writer, runs.archive_deployment, deployment_id="other")
    declare(writer, replace(GPU, price=PriceRef(override={"input": "1", "output": "2"})), DAY + timedelta(hours=2))
    assert ask(gpu, "SELECT count(*) FROM powered WHERE off_at IS NULL")[0][0] == 0


def test_free_and_unpriced_deployments_are_never_on_the_meter(url: str, writer: Writer) -> None:
    for number, price in enumerate((PriceRef(per_hour="0"), PriceRef(), PriceRef(instance="no.such.instance"))):
        declare(writer, replace(GPU, id=f"d{number}", price=price), DAY)
    assert ask(url, "SELECT count(*) FROM powered")[0][0] == 0
    assert list(hourly.accrued(reader(url), DAY, DAY + timedelta(days=1)).columns) == list(hourly.COLUMNS)


def test_what_was_on_before_this_was_recorded_counts_since_its_declaration_last_changed(
    url: str, writer: Writer
) -> None:
    before = datetime.now(UTC)
    do(writer, runs.upsert_deployment, deployment_id="gpu", spec=GPU.to_json(), origin="page", enabled=True)
    do(writer, hourly.settle, moment=before + timedelta(days=3))
    frame = hourly.accrued(reader(url), before - timedelta(days=1), before + timedelta(days=9), before + DAYS_4)
    assert abs(frame["on_at"][0] - pd.Timestamp(before)) < timedelta(minutes=1)


DAYS_4 = timedelta(days=4)


def test_sums_of_stretches_are_exact_to_the_nano_dollar() -> None:
    third = DAY + timedelta(microseconds=1)
    assert hourly.nanousd("3600", DAY, third) == 1000
    assert hourly.nanousd("1.21", DAY, DAY + timedelta(days=365)) == 10_599_600_000_000
    assert hourly.nanousd(1.21, third, DAY) == 0


async def test_the_registry_turns_the_meter_with_every_change_and_a_restart_leaves_it_running(
    url: str, writer: Writer, tmp_path: Path
) -> None:
    file = tmp_path / "deployments.toml"
    table = (
        '[[deployment]]\nname = "Own"\nkind = "openai-compatible"\nmodel = "m"\nbase_url = "http://gpu.internal/v1"\n'
    )
    file.write_text(f"{table}price = {{ per_hour = 2.5 }}\n")

    def rows() -> list[tuple[Any, ...]]:
        said = "SELECT deployment_id, usd_per_hour, off_at IS NULL FROM powered ORDER BY id"
        return [(name, usd, bool(on)) for name, usd, on in ask(url, said)]

    async def engine() -> Registry:
        made = Registry(writer, reader(url), file)
        await made.refresh()
        assert made.trouble is None
        return made

    registry = await engine()
    assert rows() == [("own", "2.5", True)]
    registry = await engine()  # a new process on the same records
    assert rows() == [("own", "2.5", True)]
    await registry.set_enabled("own", False)
    assert rows() == [("own", "2.5", False)]
    await registry.set_enabled("own", True)
    saved = await registry.save(replace(GPU, id="", name="Page"))
    assert rows()[1:] == [("own", "2.5", True), (saved.id, "3.00", True)]
    await registry.save(replace(saved, price=PriceRef(per_hour="9")))
    assert rows()[2:] == [(saved.id, "3.00", False), (saved.id, "9", True)]
    await registry.remove(saved.id)
    assert rows()[3] == (saved.id, "9", False)
    file.write_text("")
    await engine()
    assert not any(on for *_, on in rows())
