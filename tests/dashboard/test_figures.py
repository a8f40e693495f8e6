"""Each figure against the same computed from the calls by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine

from db import history
from db.engine import reader
from db.models import Powered
from db.sketch import RELATIVE_ERROR
from db.writer import Writer
from services.dashboard import figures
from services.dashboard.figures import METRICS, Data, Filter
from tests.dashboard.calls import NOW, SPAN, START, TEAMS, ZONE, fill, fold_all, make_calls
from tests.db.rows import do

pytestmark = pytest.mark.slow

ALL = Filter(range="custom", start=START, end=NOW, zone=ZONE)


@pytest.fixture(params=[10**9, -1], ids=["each call read", "from rollups"])
def data(request: pytest.FixtureRequest, quick: tuple[Engine, Writer], monkeypatch: pytest.MonkeyPatch) -> Data:
    monkeypatch.setattr(history, "EXACT_UP_TO", request.param)
    return figures.load(quick[0], ALL, NOW, teams=TEAMS, metrics=METRICS)


def usable(deployment: str | None = None, start: datetime | None = None, end: datetime | None = None) -> np.ndarray:
    return np.array(
        [
            row["ttft_ms"]
            for row in make_calls()
            if row["state"] == "succeeded"
            and not row["lag_marked"]
            and deployment in (None, row["deployment_id"])
            and (start is None or start <= row["created_at"])
            and (end is None or row["created_at"] < end)
        ]
    )


def close(data: Data) -> float:
    # A rank instead of an interpolation between ranks makes a difference besides the sketch's own.
    return 1e-9 if data.period.exact else RELATIVE_ERROR + 0.05


def test_percentiles_over_time_are_those_of_the_calls_and_say_where_there_are_too_few(data: Data) -> None:
    table = figures.latency(data, "ttft")
    assert len(table) == 3 * len(data.buckets)
    edges = data.buckets.edges.tolist()
    for number in (3, 10, len(data.buckets) - 1):
        start, end = (edge.replace(tzinfo=UTC) for edge in edges[number : number + 2])
        line = table[table["deployment_id"] == "b"].iloc[number]
        values = usable("b", start, end)
        assert line["n"] == len(values) > 0
        assert np.isnan(line["p95"]) == (len(values) < 20) and np.isnan(line["p99"])
        if data.period.exact:
            assert line["p50"] == pytest.approx(np.quantile(values, 0.5))
    assert int(table["n"].sum()) == len(usable())
    assert table.groupby("deployment_id")["running"].sum().tolist() == [2, 2, 2], "the first and the last"


def test_kpis_carry_their_n_and_leave_late_calls_out_of_the_times_only(data: Data) -> None:
    found = {one.key: one for one in figures.kpis(data)}
    rows = make_calls()
    assert list(found) == [
        "calls",
        "success",
        "ttft_p50",
        "ttft_p95",
        "ttlt_p50",
        "ttlt_p95",
        "decode_p50",
        "spend",
        "spend_1000",
    ]
    assert found["calls"].value == len(rows) == 900
    judged = [row for row in rows if row["state"] != "cancelled"]
    assert found["success"].value == sum(row["state"] == "succeeded" for row in judged) / len(judged)
    assert found["success"].n == len(judged)
    assert "throttled" in found["success"].detail and "stopped" in found["success"].detail
    assert found["ttft_p95"].n == len(usable())
    assert found["ttft_p95"].value == pytest.approx(np.quantile(usable(), 0.95), rel=close(data))
    late = sum(row["lag_marked"] and row["state"] == "succeeded" for row in rows)
    assert any(note.startswith(f"{late} calls left out of the times") for note in data.notes)
    assert found["spend"].text.startswith("≥ $")
    assert found["calls"].change_text == "", "there is nothing before the first call"


def test_the_change_is_from_the_stretch_of_the_same_length_before(quick: tuple[Engine, Writer]) -> None:
    half = Filter(range="custom", start=START + SPAN / 2, end=NOW)
    found = figures.kpis(figures.load(quick[0], half, NOW))
    later = sum(row["created_at"] >= START + SPAN / 2 for row in make_calls())
    assert found[0].value == later
    assert found[0].change == pytest.approx(later / (900 - later) - 1)
    assert found[0].change_text.endswith(" %")


def test_throughput_is_zero_in_empty_buckets_and_latency_a_gap(quick: tuple[Engine, Writer]) -> None:
    empty = Filter(range="custom", start=START - timedelta(days=3), end=START + timedelta(days=1), zone=ZONE)
    data = figures.load(quick[0], empty, NOW)
    table, times = figures.throughput(data), figures.latency(data, "ttft")
    before = table["bucket"] < START - timedelta(hours=2)
    assert (table.loc[before, ["calls", "calls_per_min", "out_tok_s", "in_flight"]] == 0).all(axis=None)
    assert times.loc[before, ["p50", "p95", "p99"]].isna().all(axis=None)
    seconds = np.tile(data.buckets.seconds, 3)
    made = [row for row in make_calls() if row["created_at"] < empty.end]
    assert float((table["in_flight"] * seconds).sum()) == pytest.approx(sum(r["end_ms"] for r in made) / 1e3, rel=0.01)
    assert float((table["out_tok_s"] * seconds).sum()) == pytest.approx(sum(r["answer_output"] for r in made))


def test_distributions_rise_to_one_and_medians_lie_in_their_intervals(data: Data) -> None:
    curve = figures.distribution(data, "ttft")
    for deployment_id, part in curve.groupby("deployment_id"):
        assert len(part) <= 200 and part["share"].iloc[-1] == 1
        assert (np.diff(part["value"]) >= 0).all() and (np.diff(part["share"]) > 0).all()
        assert part["value"].iloc[-1] == pytest.approx(usable(str(deployment_id)).max(), rel=RELATIVE_ERROR * 1.01)
    middle = figures.medians(data, "ttft")
    assert (middle["low"] < middle["p50"]).all() and (middle["p50"] < middle["high"]).all()
    assert middle["n"].tolist() == [len(usable(one)) for one in "abc"]
    assert figures.distribution(data, "tpot").empty, "none of these calls has it"


def test_the_heat_map_is_by_the_clock_of_the_zone(data: Data) -> None:
    table = figures.heatmap(data, "ttft").set_index(["weekday", "hour"])
    counts: dict[tuple[int, int], int] = {}
    for row in make_calls():
        if row["state"] == "succeeded" and not row["lag_marked"]:
            at = row["created_at"].astimezone(ALL.timezone)
            counts[at.weekday(), at.hour] = counts.get((at.weekday(), at.hour), 0) + 1
    assert {key: n for key, n in table["n"].items() if n} == counts
    assert table["p50"].isna().equals(table["n"] == 0)


def test_the_ranking_is_of_deployments_in_their_own_order_and_money_is_of_calls_with_a_price(data: Data) -> None:
    table = figures.ranking(data)
    assert table["deployment_id"].tolist() == ["a", "b", "c"]
    mine = [row for row in make_calls() if row["deployment_id"] == "b"]
    line = table.iloc[1]
    priced = [row["cost_nanousd"] for row in mine if row["cost_nanousd"] is not None]
    assert line["n_unpriced"] == len(mine) - len(priced)
    assert line["usd_per_1000"] == pytest.approx(sum(priced) / len(priced) * 1000 / 1e9)
    assert figures.scatter(data).loc[1, "p95_ttft"] == line["ttft_p95"]


def test_a_wide_range_says_that_its_days_are_of_utc(quick: tuple[Engine, Writer], monkeypatch) -> None:
    monkeypatch.setattr(history, "EXACT_UP_TO", -1)
    data = figures.load(quick[0], Filter("90d", zone=ZONE), NOW)
    assert "UTC days" in data.said and "within 0.5 %" in data.said
    assert str(data.buckets.labels.tz) == "UTC"
    assert int(figures.heatmap(data, "ttft")["n"].sum()) == len(usable())
    assert "31 days" in figures.heatmap_said(data)
    assert int(figures.latency(data, "e2e")["n"].sum()) == 0, "a figure that was not read is read when asked for"


def test_nothing_at_all_gives_empty_panels_and_no_error(url: str) -> None:
    engine = reader(url)
    for range_ in ("1h", "7d", "90d", "all", "mtd"):
        data = figures.load(engine, Filter(range_), NOW)
        assert [one.text for one in figures.kpis(data)] == ["0", *["–"] * 8]
        for metric in METRICS:
            assert figures.latency(data, metric).empty and figures.distribution(data, metric).empty
            assert figures.medians(data, metric).empty and figures.heatmap(data, metric)["n"].sum() == 0
        for by in figures.BYS:
            assert figures.cost(data, by).empty
        assert figures.throughput(data).empty and figures.states(data).empty and figures.ranking(data).empty
        assert figures.pace(data, 10**9).spent == 0 == figures.repriced(data).today
    engine.dispose()


def test_the_pace_is_what_the_month_costs_if_it_goes_on_so(quick: tuple[Engine, Writer]) -> None:
    now = datetime(2026, 11, 3, tzinfo=UTC)
    data = figures.load(quick[0], Filter("mtd"), now)
    found = figures.pace(data, 50 * 10**9)
    assert found.spent == figures.spend(data).total > 0
    assert found.expected == round(found.spent * 15)
    assert found.days["spent"].is_monotonic_increasing and len(found.days) == 2
    assert found.days["budget"].iloc[1] == pytest.approx(50e9 / 15)
    assert "of $50.00" in found.text


@pytest.mark.parametrize("lean", [False, True])
def test_the_pace_takes_hours_that_are_left_of_what_is_on_and_the_last_week_of_the_calls(
    sqlite_url: str, open_writer: Any, lean: bool
) -> None:
    """$7 of calls on the 2nd, $14 on the 12th; $2 an hour since the 14th, $5 an hour on the 1st alone. On 16 November,
    with 15 of 30 days left: 21 + 240 + 96 were spent, 15 × 24 × $2 are left, and 15 days of $14 a week."""
    writer = open_writer(sqlite_url)
    calls = [
        make_calls(1)[0]
        | {
            "id": f"c{day}",
            "created_at": datetime(2026, 11, day, 12, tzinfo=UTC),
            "cost_drivers": {},
            "cost_nanousd": usd * 10**9,
            "plain_nanousd": None,
            "deployment_id": "b",
        }
        for day, usd in ((2, 7), (12, 14))
    ]
    fill(writer, calls)
    fold_all(writer)
    for name, on, off, usd in (("a", 14, None, "2"), ("c", 1, 3, "5")):
        row = Powered(
            deployment_id=name,
            on_at=datetime(2026, 11, on, tzinfo=UTC),
            usd_per_hour=usd,
            off_at=off and datetime(2026, 11, off, tzinfo=UTC),
        )
        do(writer, lambda *, session, row=row: session.add(row))
    engine, now = reader(sqlite_url), datetime(2026, 11, 16, tzinfo=UTC)
    found = figures.pace(figures.load(engine, Filter("mtd"), now, lean=lean))
    assert found.spent == (21 + 240 + 96) * 10**9
    assert found.expected == (21 + 240 + 96 + 15 * 24 * 2 + 15 * 2) * 10**9
    mine = figures.pace(figures.load(engine, Filter("mtd", deployments=("b",)), now, lean=lean))
    assert (mine.spent, mine.expected) == (21 * 10**9, (21 + 15 * 2) * 10**9)
    early = figures.pace(figures.load(engine, Filter("mtd", deployments=("b",)), datetime(2026, 11, 4, tzinfo=UTC)))
    assert early.expected == 70 * 10**9, "of a young month all of it"


@pytest.mark.parametrize("at_once", [-1, 5_000], ids=["cells", "calls"])
@pytest.mark.parametrize(
    "chosen", [Filter("mtd"), Filter("mtd", "Asia/Kolkata"), Filter("mtd").but(sources=("batch",))]
)
def test_the_lean_month_has_the_pace_of_the_whole_one(
    filled: tuple[Engine, Writer], chosen: Filter, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "EXACT_UP_TO", at_once)
    now = datetime(2026, 11, 9, 17, 23, tzinfo=UTC)
    whole, lean = (figures.load(filled[0], chosen, now, lean=lean) for lean in (False, True))
    one, other = figures.pace(whole, 10**10), figures.pace(lean, 10**10)
    assert one.spent == other.spent == figures.spend(whole).total
    assert one.expected == other.expected and one.text == other.text
    assert one.days.equals(other.days)
