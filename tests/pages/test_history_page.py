"""The History page: nothing, one, thirty and three thousand calls; its address; what stands behind a mark."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.charts import theme
from app.charts.picture import picture
from app.charts.vega import standalone
from app.history import calls, latency, overview, panel, throughput
from app.history import cost as history_cost
from app.history import data as history_data
from app.history.filters import Source
from db import rollups, runs
from services.dashboard import figures
from services.dashboard.calls import behind, wanted_behind
from services.dashboard.figures import Data, Filter
from services.deployments.config import Config
from services.formatting import safe_cell
from services.types import Deployment, PriceRef
from tests.db.rows import call_row, run_row
from tests.pages.lab import ROOT, Lab, buttons, page, said
from tests.pages.test_prices_page import only

pytestmark = pytest.mark.slow

TEAM = {"blue": ("ada@example.org",)}
FORM = Deployment(
    id="d0",
    name="Name 0",
    kind="openai-compatible",
    model="m0",
    base_url="https://h.example/v1",
    price=PriceRef(override={"input": "1", "output": "5"}),
)


def fill(lab: Lab, n: int, deployments: int = 2, *, days: float = 6.0, seed: int = 4) -> None:
    """``n`` calls of some deployments over the last days, all rolled up."""
    dice = random.Random(seed)
    only(lab, *(replace(FORM, id=f"d{k}", name=f"Name {k}") for k in range(deployments)))
    now = datetime.now(UTC) - timedelta(seconds=5)
    for r in range(4):
        lab.write(runs.insert_run, values=run_row(f"r{r}", created_at=now, tags=["a", "b"][:r], prompt=f"Prompt {r}"))
    rows = []
    for number in range(n):
        state = dice.choice(["succeeded"] * 9 + ["throttled", "failed"])
        ok, first, cost = state == "succeeded", dice.lognormvariate(6, 0.5), dice.randrange(1, 10**8)
        rows.append(
            call_row(
                f"c{number}",
                f"r{dice.randrange(4)}",
                state=state,
                outcome="ok" if ok else state,
                kind="openai-compatible",
                deployment_id=f"d{number % deployments}",
                deployment=replace(FORM, id=f"d{number % deployments}").to_json(),
                request={"ask": {"messages": [], "system": None, "params": {}}, "url": "http://h/v1", "body": {}},
                model=f"m{number % deployments}",
                created_at=now - timedelta(days=days) * dice.random(),
                source=dice.choice(["playground", "batch"]),
                person=dice.choice(["ada@example.org", "bob@example.org"]),
                ttft_ms=first if ok else None,
                ttfat_ms=first if ok else None,
                ttlt_ms=first * 4 if ok else None,
                tpot_ms=12.0 if ok else None,
                decode_tps=80.0 if ok else None,
                e2e_tps=60.0 if ok else None,
                end_ms=first * 4,
                uncached_input=900,
                answer_output=300 if ok else 0,
                cache_read=dice.choice([None, 0, 400]),
                cost_state="exact",
                cost_nanousd=cost,
                plain_nanousd=cost,
                cost_drivers={"uncached_input": cost},
                usage_source="provider",
                lag_marked=False,
            )
        )
    for start in range(0, n, 500):
        lab.write(runs.insert_calls, rows=rows[start : start + 500])
    while lab.write(rollups.fold, limit=2000):
        pass


def load(lab: Lab, chosen: Filter | None = None) -> Data:
    return figures.load(lab.database(), chosen or Filter(), datetime.now(UTC), teams=TEAM)


def metrics(at: AppTest) -> dict[str, str]:
    return {one.label: one.value.replace("\\", "") for one in at.metric}


def charts(at: AppTest) -> list[str]:
    return [element.proto.id for element in at.get("vega_lite_chart")]


def text(at: AppTest) -> str:
    return said(at)


# --- how much there is ---------------------------------------------------------------------------------------------


def test_an_empty_history_says_what_will_be_there_and_sends_the_first_prompt(lab: Lab) -> None:
    at = page("history").run()
    assert not at.exception
    assert "Nothing was called yet" in text(at)
    assert {"Send the first prompt", "Look at demo data"} <= set(buttons(at))
    assert not at.metric and not charts(at)
    at.button(key="hs_first").click().run()
    assert not at.exception
    assert at.text_area(key="pg_prompt").value


def test_who_may_only_look_finds_no_button_that_sends(lab: Lab) -> None:
    lab.close_doors()
    at = page("history").run()
    assert "Send the first prompt" not in buttons(at)
    assert "Somebody who may send prompts has to make the first call" in text(at)


def test_one_call_shows_its_sums_and_says_why_there_is_no_p95(lab: Lab) -> None:
    fill(lab, 1, 1)
    at = page("history").run()
    assert not at.exception
    assert metrics(at)["Calls"] == "1"
    assert "needs 20 calls" in " ".join(str(one.delta) for one in at.metric)
    assert "1 call, each one read" in text(at)
    assert "A bubble needs 20 measured calls" in text(at)


def test_thirty_calls_of_two_deployments_are_two_facets(lab: Lab) -> None:
    fill(lab, 30, 2)
    at = page("history").run()
    assert not at.exception
    assert metrics(at)["Calls"] == "30"
    assert sum("hs_latency__d" in one for one in charts(at)) == 2


def test_three_thousand_calls_of_eight_deployments_send_aggregates_only(lab: Lab) -> None:
    fill(lab, 3000, 8)
    at = page("history").run()
    assert not at.exception
    assert metrics(at)["Calls"] == "3,000"
    assert sum("hs_latency__d" in one for one in charts(at)) == 8
    data, shown = load(lab), theme.LIGHT
    found = latency.over_time(data, figures.latency(data, "ttft"), "ttft")
    for chart in (
        latency.facet(data, found, "d1", shown, domain=(0.01, 10), notes=[], title="a", subtitle="b"),
        throughput.chart(
            data,
            throughput.stack(data, figures.throughput(data), "out_tok_s", "deployment_id", data.ids),
            "out_tok_s",
            shown,
            [],
        ),
    ):
        tables = standalone(chart, shown, "", "")["datasets"]
        assert sum(len(rows) for rows in tables.values()) < 5000


def test_a_selection_without_a_call_says_so_and_leads_back_to_everything(lab: Lab) -> None:
    fill(lab, 20, 1)
    at = page("history", range="custom", since="2020-01-01", until="2020-01-02").run()
    assert not at.exception
    assert "No call of this stretch of time" in text(at) or "No call of" in text(at)
    at.button(key="hs_all").click().run()
    assert metrics(at)["Calls"] == "20"
    assert at.query_params["range"] in ("all", ["all"])


# --- the address ---------------------------------------------------------------------------------------------------

LINK = {
    "range": "30d",
    "zone": "America/New_York",
    "deployments": "d1",
    "persons": "ada@example.org",
    "sources": "batch",
}
SAME = Filter(range="30d", deployments=("d1",), persons=("ada@example.org",), sources=("batch",))


def test_a_link_reopens_the_same_view_in_a_new_session_for_somebody_who_may_only_look(lab: Lab) -> None:
    fill(lab, 300, 2)
    first = page("history", **LINK).run()
    assert not first.exception
    lab.close_doors()
    second = page("history", **{name: _one(first.query_params[name]) for name in LINK}).run()
    assert not second.exception
    assert metrics(second) == metrics(first)
    assert int(metrics(first)["Calls"]) == load(lab, SAME).n
    assert "Times in America/New" in text(second)
    assert {name: _one(second.query_params[name]) for name in LINK} == LINK


def _one(value: Any) -> str:
    return value[0] if isinstance(value, list) else value


def test_a_filter_that_is_chosen_is_in_the_address(lab: Lab) -> None:
    fill(lab, 60, 2)
    at = page("history").run()
    at.multiselect(key="hs_deployments").set_value(["d1"]).run()
    assert not at.exception
    assert _one(at.query_params["deployments"]) == "d1"
    assert metrics(at)["Calls"] == "30"
    at.button(key="hs_clear").click().run()
    assert "deployments" not in at.query_params
    assert metrics(at)["Calls"] == "60"


def test_an_exact_moment_in_the_address_is_kept_to_the_second_across_summer_time(lab: Lab) -> None:
    fill(lab, 5, 1)
    asked = {
        "range": "custom",
        "since": "2026-10-25T00:30:07Z",
        "until": "2026-10-25T01:30:09Z",
        "zone": "Europe/Berlin",
    }
    at = page("history", **asked).run()
    at.run()
    assert {name: _one(at.query_params[name]) for name in asked} == asked


def test_what_an_address_holds_that_means_nothing_is_ignored_with_one_caption(lab: Lab) -> None:
    fill(lab, 10, 1)
    at = page("history", range="soon", zone="Mars/Base", deployments="nobody", caches="hot", by="<b>", metric="x").run()
    assert not at.exception
    (line,) = [one.value for one in at.caption if "There is no" in one.value]
    assert "soon" in line and "more were ignored" in line
    assert metrics(at)["Calls"] == "10"


def test_a_selection_is_still_there_after_a_visit_to_another_page(lab: Lab) -> None:
    fill(lab, 60, 2)
    at = page("history", deployments="d1").run()
    at.switch_page(str(ROOT / "pages" / "runs.py")).run()
    for name in list(at.query_params):
        del at.query_params[name]
    at.switch_page(str(ROOT / "pages" / "history.py")).run()
    assert not at.exception
    assert metrics(at)["Calls"] == "30"


# --- the calls behind ----------------------------------------------------------------------------------------------


def test_the_total_is_the_sum_of_the_listed_calls_and_of_the_csv(lab: Lab) -> None:
    fill(lab, 700, 3)
    for chosen in (Filter(), Filter(deployments=("d1",)), Filter(tags=("b",)), Filter(persons=("ada@example.org",))):
        data = load(lab, chosen)
        listed, total = behind(data, limit=5000)
        assert total == len(listed) == data.n
        spent = sum(row["cost_nanousd"] for row in listed)
        assert spent == figures.spend(data).total
        for by in figures.BYS:
            frame = figures.cost(data, by)
            exported = panel.to_csv(history_cost.table_of(data, frame, by))
            assert sum(Decimal(row["cost_usd"]) for row in csv.DictReader(io.StringIO(exported))) * 10**9 == spent, by


@pytest.mark.parametrize("by", figures.BYS)
def test_the_calls_behind_every_bar_cost_what_the_bar_shows(lab: Lab, by: str) -> None:
    from db.history import Behind, spent_behind

    fill(lab, 400, 3)
    data = load(lab)
    frame = figures.cost(data, by)
    for key, group in frame.groupby("key"):
        mark = history_cost.mark_of(data, by, {"key": key})
        assert mark is not None, (by, key)
        spent, _, _ = spent_behind(data.engine, wanted_behind(data, **mark.narrow), Behind(mark.states, (), mark.tags))
        assert spent == int(group["nanousd"].sum()), (by, key)


def test_the_calls_behind_every_bucket_and_hour_are_as_many_as_it_shows(lab: Lab) -> None:
    from db.history import Behind, calls_behind

    fill(lab, 900, 2)
    data = load(lab, Filter(zone="Asia/Kolkata"))
    labels = throughput.bucket_labels(data)
    edges = dict(zip(data.buckets.labels, theme.millis(data.buckets.edges[:-1]).tolist(), strict=True))
    for row in figures.latency(data, "ttft").to_dict("records"):
        mark = latency.opener(data, row["deployment_id"], labels)({"at": edges[row["bucket"]]})
        assert calls_behind(data.engine, wanted_behind(data, **mark.narrow), Behind(mark.states))[1] == row["n"]
    for row in figures.heatmap(data, "ttft").to_dict("records"):
        mark = latency.hour_mark(row)
        spans = calls.hours_of_week(data, data.wanted, *mark.hour_of_week)
        assert calls_behind(data.engine, data.wanted, Behind(mark.states, spans))[1] == row["n"], row


def test_a_clicked_mark_lists_its_calls_with_their_sum_and_opens_a_run(lab: Lab) -> None:
    fill(lab, 100, 2)
    at = page("history").run()
    at.session_state["hs_scatter_mark"] = (calls.Mark("Name 1", {"deployment_id": "d1"}), "another chart")
    at.run()
    assert not at.exception
    assert "Calls behind Name 1" in text(at)
    assert "50 calls · $" in text(at)
    at.session_state["hs_scatter_calls"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    at.run()
    at.button(key="hs_scatter_open").click().run()
    assert not at.exception
    assert at.session_state["pg_run"] in {f"r{n}" for n in range(4)}


# --- pictures and files --------------------------------------------------------------------------------------------


def test_a_missing_bucket_is_a_gap_and_a_lone_one_a_point(lab: Lab) -> None:
    fill(lab, 12, 1, days=6.5, seed=9)
    data = load(lab)
    frame = figures.latency(data, "ttft")
    assert frame["p50"].isna().any() and frame["p50"].notna().any()
    found = latency.over_time(data, frame, "ttft")
    there = frame["p50"].notna().tolist()
    lone = [here and not any(there[max(i - 1, 0) : i] + there[i + 1 : i + 2]) for i, here in enumerate(there)]
    assert found["p50_lone"].tolist() == lone
    assert found.loc[found["n"] < 20, "p95_words"].str.contains("needs 20 calls|no call").all()


def test_a_chart_becomes_a_picture_with_its_title_and_zone(lab: Lab) -> None:
    fill(lab, 80, 2)
    data, shown = load(lab, Filter(zone="Europe/Berlin")), theme.DARK
    spec = standalone(overview.chart(data, figures.scatter(data), shown), shown, "Speed", panel.span(data))
    drawn = picture(spec, "svg").decode()
    assert "Speed" in drawn and "Europe/Berlin" in drawn and theme.DARK.ground in drawn and "Name 1" in drawn
    assert picture(spec, "png").startswith(b"\x89PNG")


def test_a_cell_of_the_csv_is_never_a_formula(lab: Lab) -> None:
    import pandas as pd

    exported = panel.to_csv(pd.DataFrame({"name": ["=1+1", "@x", None], "cost": [1.5, float("nan"), 2]}))
    assert exported == f"name,cost\r\n{safe_cell('=1+1')},1.5\r\n'@x,\r\n,2.0\r\n"


def test_words_of_a_legend_cannot_leave_their_string() -> None:
    assert (
        theme.lookup({"a'}": "x'); drop\\"}) == "{'a\\u0027\\u007d': 'x\\u0027\\u0029\\u003b drop\\u005c'}[datum.value]"
    )


def test_an_hour_that_the_clock_shows_twice_has_one_tick_each_side_and_none_in_it() -> None:
    begin, end = datetime(2026, 10, 24, 22, tzinfo=UTC), datetime(2026, 10, 25, 8, tzinfo=UTC)
    marks = theme.ticks(begin, end, "Europe/Berlin", 12)
    assert "25 Oct" in marks.values() and "03:00" in marks.values()
    assert list(marks) == sorted(marks) and len(set(marks.values())) == len(marks)


def test_two_people_who_look_at_the_same_read_it_once_and_a_new_call_is_seen(lab: Lab) -> None:
    fill(lab, 20, 1)
    source = Source(lab.database(), False, datetime.now(UTC))
    first = history_data.load(source, Filter())
    assert history_data.load(source, Filter()) is first
    history_data._version.clear()
    lab.record(ids=["d0"])
    assert history_data.load(replace(source, now=datetime.now(UTC)), Filter()).n == 21


def test_config_without_teams_has_none() -> None:
    assert not Config().teams
