"""How the History page looks: names that tell apart, labels beside their bubbles, figures that are written alike."""

from __future__ import annotations

import math
import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from sqlalchemy import text as sql

from app import style
from app.charts import theme
from app.charts.picture import picture
from app.charts.vega import standalone
from app.history import alerts, calls, cost, latency, overview, throughput
from app.history.filters import Choices
from app.widgets.text import KIND_NAMES
from db import small_tables
from db.history import Behind, calls_behind
from db.models import Annotation
from services import formatting
from services.dashboard import figures
from services.dashboard.calls import wanted_behind
from services.providers import KINDS
from tests.pages.lab import Lab, page
from tests.pages.test_history_marks import rent
from tests.pages.test_history_page import fill, load, text

AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
NOTHING: dict[str, list[str]] = {name: [] for name in ("deployment_id", "model", "person", "tag", "source")}


def test_every_kind_has_a_short_name_of_its_own() -> None:
    chosen = Choices.made({**NOTHING, "kind": list(KINDS)}, {}, []).of["kinds"]
    assert len(set(chosen.values())) == len(KINDS) and chosen == KIND_NAMES
    assert "on demand" in chosen["bedrock"] and "provisioned" in chosen["bedrock-provisioned"]
    assert max(map(len, chosen.values())) <= 30


@pytest.mark.slow
def test_two_bars_that_are_called_alike_are_two_rows() -> None:
    frame = pd.DataFrame({"key": ["a", "b"], "driver": "output", "nanousd": [2 * 10**9, 10**9], "hatched": False})
    found, _ = cost.largest(frame, {"a": "Same name", "b": "Same name"})
    drawn = picture(standalone(cost.bars(found, theme.LIGHT), theme.LIGHT, "", ""), "svg").decode()
    assert drawn.count(">Same name</text>") == 2
    ys = [re.search(rf"translate\([^,]+,([\d.]+)\)[^>]*>\{amount}<", drawn) for amount in ("$2.00", "$1.00")]
    assert ys[0] and ys[1] and ys[0][1] != ys[1][1]


# --- speed against price -------------------------------------------------------------------------------------------


def spots(n: int, seed: int) -> pd.DataFrame:
    dice = random.Random(seed)
    return pd.DataFrame(
        {
            "usd": [10 ** (4 * dice.uniform(0.1, 0.9)) for _ in range(n)],
            "s": [10 ** (2 * dice.uniform(0.1, 0.9)) for _ in range(n)],
            "n": [dice.choice([20, 120, 400]) for _ in range(n)],
            "name": ["M" * dice.randrange(8, 28) for _ in range(n)],
        }
    )


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("wider", [1.0, 1.7])
def test_no_label_lies_on_a_bubble_of_another_or_on_another_label(seed: int, wider: float) -> None:
    found = spots(7, seed)
    overview.place_labels(found, (1.0, 1e4), (1.0, 1e2))
    wide, high = overview.PLOT
    px = [math.log10(one) / 4 * wide * wider for one in found["usd"]]
    py = [(1 - math.log10(one) / 2) * high for one in found["s"]]
    # As Vega has it: the area of a bubble goes with the square root of its calls.
    radius = [math.sqrt((60 + 840 * math.sqrt(one / found["n"].max())) / math.pi) for one in found["n"]]
    boxes = []
    for x, y, row in zip(px, py, found.itertuples(), strict=True):
        if row.named:
            size = len(row.name) * overview.LETTER
            left = x + row.dx - {"left": 0, "center": size / 2, "right": size}[row.align]
            boxes.append((row.Index, left, y + row.dy - 7, left + size, y + row.dy + 7))
    assert boxes
    for number, left, top, right, bottom in boxes:
        for other in range(len(found)):
            if other != number:
                dx = max(left - px[other], 0, px[other] - right)
                dy = max(top - py[other], 0, py[other] - bottom)
                assert math.hypot(dx, dy) >= radius[other], (number, other)
        for other, a, b, c, d in boxes:
            assert other == number or a >= right or c <= left or b >= bottom or d <= top


@pytest.mark.slow
def test_a_name_without_room_is_in_the_legend_of_page_and_picture(lab: Lab) -> None:
    fill(lab, 320, 14)
    data = load(lab)
    fit = figures.scatter(data).assign(p95_ttft=500.0, usd_per_1000=1.0)  # all in one place
    assert not overview.placed(data, fit).found["named"].all()
    drawn = picture(standalone(overview.chart(data, fit, theme.LIGHT), theme.LIGHT, "", ""), "svg").decode()
    assert all(f">Name {number}</text>" in drawn for number in range(14))


# --- latency -------------------------------------------------------------------------------------------------------


def spoiled(lab: Lab) -> None:
    """All of d0 succeeded; of its calls ten have no times, as batches have none, and three were stamped late."""

    def unit(*, session: Any) -> None:
        session.execute(sql("UPDATE call SET state = 'succeeded', ttft_ms = 400, source = 'playground'"))
        session.execute(
            sql(
                "UPDATE call SET ttft_ms = NULL, source = 'batch' WHERE id IN "
                "(SELECT id FROM call ORDER BY created_at DESC LIMIT 10)"
            )
        )
        session.execute(
            sql("UPDATE call SET lag_marked = true WHERE id IN (SELECT id FROM call ORDER BY created_at LIMIT 3)")
        )

    lab.write(unit)


@pytest.mark.slow
def test_behind_a_mark_of_latency_it_is_said_who_was_not_measured_and_the_measured_come_first(lab: Lab) -> None:
    fill(lab, 40, 1)
    spoiled(lab)
    data = load(lab)
    labels = throughput.bucket_labels(data)
    mark = latency.opener(data, "d0", labels, "ttft")({"at": next(iter(labels))})
    assert mark is not None and mark.figure == "ttft" and latency.hour_mark({"weekday": 1, "hour": 3}, "ttlt")
    at = page("history").run()
    every = calls.Mark("Name 0", {"deployment_id": "d0"}, ("succeeded",), figure="ttft")
    at.session_state["hs_scatter_mark"] = (every, "another chart")
    at.run()
    assert not at.exception
    said = "27 of 40 calls were measured; the others: 10 batch calls, which have no times of their own, 3 stamped late"
    assert said in text(at) and "measured first" in text(at)
    rows, _ = calls_behind(data.engine, wanted_behind(data), Behind(("succeeded",), figure="ttft"), limit=40)
    there = [row["ttft_ms"] is not None and not row["lag_marked"] for row in rows]
    assert there == [True] * 27 + [False] * 13


@pytest.mark.slow
def test_a_mark_whose_calls_were_all_measured_says_their_number_alone(lab: Lab) -> None:
    fill(lab, 20, 1)
    at = page("history").run()
    every = calls.Mark("Name 0", {"deployment_id": "d0"}, ("succeeded",), figure="ttft")
    at.session_state["hs_scatter_mark"] = (every, "another chart")
    at.run()
    assert "were measured" not in text(at) and "newest first" in text(at)


def test_below_a_facet_it_is_each_bucket_that_has_too_few_calls(lab: Lab) -> None:
    fill(lab, 900, 1)
    data = load(lab)
    found = latency.over_time(data, figures.latency(data, "ttft"), "ttft")
    (said,) = latency._middles(data, found, "ttft").values()
    assert said.endswith("no p99 line: fewer than 100 calls in each bucket")
    below = latency.below_titles({"a": said, "b": "p50 1.00 s · n 5,000"}, alone=False)
    assert " ".join(below["a"]) == said.replace(" · no", " no")
    assert len(below["a"]) == len(below["b"]) and max(map(len, below["a"])) <= 34


def test_a_bucket_that_the_window_cuts_at_its_beginning_is_as_pale_as_one_that_still_fills(lab: Lab) -> None:
    fill(lab, 60, 1)
    now = (datetime.now(UTC) + timedelta(days=1)).replace(hour=13, minute=30)
    data = figures.load(lab.database(), figures.Filter("7d"), now, teams={})
    assert data.buckets.is_partial[[0, -1]].all()
    found = latency.over_time(data, figures.latency(data, "ttft"), "ttft")
    assert found["whole"].tolist() == [False, *[True] * (len(found) - 2), False]
    assert found.index[found["pale_first"]].tolist() == [0, 1], "the step out of it"
    assert found.index[found["pale_last"]].tolist() == [len(found) - 2, len(found) - 1], "the step into it"
    facet = latency.facet
    chart = facet(data, found, "d0", theme.LIGHT, domain=(0.01, 10), notes=[], title="", subtitle="")
    assert {"datum.pale_first", "datum.pale_last"} <= set(re.findall(r"datum\.pale_\w+", str(chart)))


def test_the_file_of_calls_says_to_which_time_the_history_was_read(lab: Lab) -> None:
    fill(lab, 5, 1)
    data = load(lab)
    stamp = data.window.end.astimezone(ZoneInfo(data.window.zone)).strftime("%Y%m%d-%H%M")
    assert calls.file_name(data) == f"inference-lab-calls-{stamp}.csv"


# --- throughput ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_throughput_without_a_call_is_a_sentence_and_no_empty_chart(lab: Lab) -> None:
    fill(lab, 5, 1, days=1.0)
    rent(lab, "d0", 30)
    a_while_ago = {
        "range": "custom",
        "since": f"{datetime.now(UTC) - timedelta(hours=27):%Y-%m-%dT%H:%M:%SZ}",
        "until": f"{datetime.now(UTC) - timedelta(hours=25):%Y-%m-%dT%H:%M:%SZ}",
    }
    at = page("history", **a_while_ago).run()
    assert not at.exception
    assert "No call was made in this time." in text(at)
    assert not [one for one in at.get("vega_lite_chart") if "hs_throughput" in one.proto.id]


def test_the_axes_of_a_single_call_are_in_readable_numbers_and_its_bar_can_be_seen(lab: Lab) -> None:
    fill(lab, 1, 1)
    data = load(lab)
    frame = figures.throughput(data).assign(in_flight=lambda f: f["calls"] * 8e-7)
    found = throughput.stack(data, frame, "in_flight", "deployment_id", data.ids)
    spec = throughput.chart(data, found, "in_flight", theme.LIGHT, [])
    (drawn,) = [one for one in spec["layer"] if one["mark"]["type"] == "rect"]
    top = drawn["encoding"]["y"]["scale"]["domain"][1]
    assert top >= 0.001
    assert drawn["data"]["to"].max() / top * throughput.HEIGHT >= 1.9


# --- notes ---------------------------------------------------------------------------------------------------------


def test_notes_of_one_minute_share_a_sign_that_tells_all_of_them() -> None:
    low, high = (int(one) for one in theme.millis([AT, AT + timedelta(hours=10)]))
    axis = {"scale": {"domain": [low, high]}, "axis": {}}
    made = [
        Annotation(at=AT + timedelta(hours=1, seconds=k), note=f"note {k}" if k else "moved to Haiku", person="ada")
        for k in range(5)
    ]
    _, front = alerts.rules(made, theme.LIGHT, axis)
    rows = front[0]["data"]
    assert rows["words"].tolist() == ["moved to Haiku · + 4 more"]
    assert rows["note"][0].startswith("moved to Haiku · note 1") and "note 4" in rows["note"][0]
    assert rows["who"].tolist() == ["ada"]
    narrow = [*made, Annotation(at=AT + timedelta(hours=4), note="another", person="bob")]
    _, front = alerts.rules(narrow, theme.LIGHT, axis)
    assert front[0]["data"]["words"].tolist()[0] == "5 notes"


def test_of_notes_of_one_moment_the_last_written_is_listed_first(lab: Lab) -> None:
    for number, name in enumerate("zay"):
        lab.write(small_tables.add, note_id=name, at=AT, note=f"note {number}", person="ada")
    assert [row.note for row in small_tables.notes(lab.database())] == ["note 2", "note 1", "note 0"]


# --- figures -------------------------------------------------------------------------------------------------------


def test_the_deployments_are_written_like_the_figures_above_them_and_ranked_as_numbers(lab: Lab) -> None:
    fill(lab, 40, 1)
    data = load(lab)
    table = figures.ranking(data).assign(ttft_p50=5.8, ttft_p95=float("nan"), nanousd=4_054_120_000_000)
    made = overview.styled(data, table, theme.LIGHT)
    drawn = made.to_html()
    assert f">{formatting.seconds(5.8)}<" in drawn and ">5.8 ms<" in drawn
    assert ">$4,054.12<" in drawn and f">{formatting.DASH}<" in drawn and "nan" not in drawn.lower()
    assert made.data["usd"].dtype == float and list(made.data)[:5] == ["color", "name", "n", "success", "usd"]
    columns = overview._columns()
    assert not [name for name in ("usd", "ttft_p50") if (columns[name]["type_config"] or {}).get("format")]


def test_the_rules_of_style_are_on_every_page_and_let_small_print_wrap(lab: Lab) -> None:
    at = page("history").run()
    assert any("stMetricValue" in str(one.proto) for one in at.get("html"))
    assert "white-space: normal" in style.RULES and "segmented_control" in style.RULES


@pytest.mark.slow
def test_the_price_s_reason_stands_beside_the_name(lab: Lab) -> None:
    fill(lab, 40, 2)

    lab.write(lambda *, session: session.execute(sql("UPDATE call SET price = NULL, cost_nanousd = NULL")) and None)
    at = page("history", today="true").run()
    assert not at.exception
    (found,) = [one.value for one in at.dataframe if "difference" in one.value]
    assert list(found)[:2] == ["name", "reason"] and set(found["reason"]) == {"no price then"}


def test_the_distribution_of_a_single_call_is_a_step_that_can_be_seen(lab: Lab) -> None:
    fill(lab, 1, 1)
    data = load(lab)
    frame = figures.distribution(data, "ttft")
    assert len(frame) == 1
    spec = latency.ecdf(data, frame, "ttft", theme.look())
    drawn = spec["layer"][0]["data"]
    assert drawn["percent"].tolist() == [0, 100]
    assert drawn["shown"].nunique() == 1
