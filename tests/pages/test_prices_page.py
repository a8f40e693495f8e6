"""The Prices page: nothing, one and many deployments; what is missing; what changed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlmodel import col, select

from db import runs
from db.models import Run
from services.types import Deployment, PriceRef
from tests.pages.lab import Lab, page, said

pytestmark = pytest.mark.slow

OWN = Deployment(
    id="own",
    name="*Own*",
    kind="openai-compatible",
    model="m",
    base_url="https://h.example/v1",
    color_slot=9,
    price=PriceRef(override={"input": "2", "output": "10"}),
)


def only(lab: Lab, *listed: Deployment) -> None:
    lab.listed = list(listed)
    for d in listed:
        lab.write(runs.upsert_deployment, deployment_id=d.id, spec=d.to_json(), origin=d.origin, enabled=d.enabled)


def record(lab: Lab, d: Deployment, **call: object) -> None:
    run = lab.record(ids=[d.id])
    price = {"source": "deployment", "date": "2026-10-01", "rates": {"input": "3", "output": "15"}, "context": {}}
    lab.write(_price, run_id=run, values={"price": price, "cost_state": "exact", "cost_nanousd": 960_000} | call)


def _price(session, run_id, values):
    from sqlmodel import col, update

    from db.models import Call

    session.exec(update(Call).where(col(Call.run_id) == run_id).values(**values))


def test_without_a_deployment_the_page_says_what_will_be_there_and_how_to_get_it(lab: Lab) -> None:
    only(lab)
    at = page("prices").run()
    assert not at.exception
    assert "Every deployment that is switched on is listed here" in said(at)
    assert [b.label for b in at.button] == ["Go to the deployments"]
    assert not at.dataframe


def test_one_deployment_with_a_price_of_its_own_is_one_line(lab: Lab) -> None:
    only(lab, OWN)
    at = page("prices").run()
    assert not at.exception
    (row,) = at.dataframe[0].value.to_dict("records")
    assert (row["name"], row["price"], row["input"], row["output"]) == ("*Own*", "$2 / $10", "$2", "$10")
    assert (row["source"], row["batch"], row["spent"], row["calls"]) == ("own price", "–", "–", 0)
    assert "1 deployment ·" in said(at)
    assert "every recorded call has the price that a call would have today" in said(at)


def test_many_deployments_show_free_hourly_listed_and_missing_prices_in_words(lab: Lab) -> None:
    rented = replace(OWN, id="rented", name="Rented", price=PriceRef(instance="ml.g5.12xlarge", count=2))
    listed = replace(OWN, id="listed", name="Listed", model="gpt-6.1-sol", price=PriceRef(provider="openai"))
    free = replace(OWN, id="free", name="Free", price=PriceRef(per_hour="0"))
    without = replace(OWN, id="without", name="<b>Without</b>", price=PriceRef())
    off = replace(OWN, id="off", name="Off", enabled=False)
    only(lab, OWN, rented, listed, free, without, off)
    at = page("prices").run()
    assert not at.exception
    rows = {row["name"]: row for row in at.dataframe[0].value.to_dict("records")}
    assert "Off" not in rows
    assert (rows["Rented"]["price"], rows["Rented"]["machines"]) == ("$14.18 an hour", "2 × ml.g5.12xlarge")
    assert (rows["Free"]["price"], rows["<b>Without</b>"]["price"]) == ("free", "no price")
    assert rows["Listed"]["tiers"] == "above 272,000 tokens $4 / $15"
    assert rows["Listed"]["batch"] == "$1 / $5"
    assert "It names no price" in said(at) and "<b>" not in "".join(
        e.value for e in at.markdown if "Without" in e.value
    )


def test_what_changed_since_the_calls_is_told_and_nothing_is_written(lab: Lab) -> None:
    only(lab, OWN)
    record(lab, OWN)
    at = page("prices").run()
    assert not at.exception
    assert "was $3 / $15 until" in said(at)
    assert "today $2 / $10: 1 call, −$0.00032 if re-priced" in said(at)
    assert at.dataframe[0].value["spent"][0] == "$0.00096"
    assert at.dataframe[0].value["calls"][0] == 1


def test_the_filter_narrows_both_parts_of_the_page(lab: Lab) -> None:
    other = replace(OWN, id="other", name="Other")
    only(lab, OWN, other)
    record(lab, OWN)
    at = page("prices", deployment="Other").run()
    assert list(at.dataframe[0].value["name"]) == ["Other"]
    assert "was $3" not in said(at)


def test_without_the_engine_the_page_still_shows_the_records(lab: Lab) -> None:
    only(lab, OWN)
    record(lab, OWN)
    lab.down = True
    at = page("prices").run()
    assert not at.exception
    assert "The engine does not answer" in said(at)
    assert "*Own*" in list(at.dataframe[0].value["name"])
    assert "was $3 / $15 until" in said(at)


@pytest.mark.parametrize(
    "stored", [[1], "text", {"source": "x", "date": "d", "rates": {"input": "abc"}}, {"per_hour": []}]
)
def test_a_damaged_price_row_takes_no_page_down(lab: Lab, stored: object) -> None:
    only(lab, OWN)
    record(lab, OWN, price=stored, cost_nanousd=10**9)
    at = page("prices").run()
    assert not at.exception
    assert "price not readable until" in said(at) and "$1.00 as recorded" in said(at)
    with lab.database().connect() as connection:
        (run_id,) = connection.execute(select(col(Run.id))).scalars()
    run = page(run=run_id)
    run.session_state["pg_details"] = True
    run.run()
    assert not run.exception
    assert "Price not readable" in said(run)
    history = page("history", today="true", range="all").run()
    assert not history.exception
