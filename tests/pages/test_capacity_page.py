"""The AWS capacity page: what an account has, what it costs, and that nothing is bought or ended by a slip."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from streamlit.testing.v1 import AppTest

from app.capacity import account
from services.types import PriceRef
from tests.pages.fake_aws import CLAUDE, COMPONENTS, Account, endpoint, unit
from tests.pages.lab import Lab, buttons, page, said

pytestmark = pytest.mark.slow

UNITS, ENDPOINTS = "cap_provisioned_None_us-east-1", "cap_endpoints_None_us-east-1"


def _select(at: AppTest, table: str, row: int) -> AppTest:
    at.session_state[table] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return at.run()


@pytest.mark.slow
def test_an_account_is_shown_by_its_number_and_role_and_never_by_a_key(lab: Lab) -> None:
    at = page("capacity").run()
    assert not at.exception
    assert "Account 123456789012 · arn:aws:iam::123456789012:user/*ada*" in said(at)
    assert r"user\/\*ada\*" in at.caption[1].value


@pytest.mark.slow
def test_provisioned_throughput_is_listed_with_its_price_an_hour_and_a_month(lab: Lab) -> None:
    lab.account.units.append(unit("quoted", rate=None))
    table = page("capacity").run().dataframe[0].value.set_index("name")
    assert table.loc["held", "hour"] == "$126.00"
    assert table.loc["held", "month"] == "$91,980"
    assert table.loc["held", "commitment"].startswith("1 month, until 20")
    assert table.loc["quoted", "hour"] == "AWS quotes it"
    assert table.loc["quoted", "month"] == "–"


def test_endpoints_are_listed_with_instances_and_price(lab: Lab) -> None:
    lab.account.ends.append(endpoint("broken", status="Failed", failure="no capacity", variants=()))
    at = page("capacity").run()
    table = at.dataframe[1].value.set_index("name")
    assert table.loc["chat", "instances"] == "2 × ml.g5.xlarge"
    assert table.loc["chat", "hour"] == "$2.82"
    assert (table.loc["broken", "status"], table.loc["broken", "hour"]) == ("failed", "–")
    assert "no capacity" in said(_select(at, ENDPOINTS, 1))


@pytest.mark.slow
def test_an_empty_account_says_what_will_be_here(lab: Lab) -> None:
    lab.account = Account(units=[], ends=[])
    text = said(page("capacity").run())
    assert text.count("This account has none in us-east-1") == 2


def test_profile_and_region_are_part_of_the_address(lab: Lab) -> None:
    at = page("capacity", profile="team", region="eu-west-1").run()
    assert ("provisioned", "team", "eu-west-1") in lab.account.asked
    assert not at.exception


def test_a_failure_is_said_once_and_the_rest_of_the_page_stays(lab: Lab) -> None:
    why = "AWS was not asked: no AWS credentials were found."
    lab.account.refuses = dict.fromkeys(("who", "provisioned", "endpoints", "models"), why)
    at = page("capacity").run()
    assert not at.exception
    assert said(at).count(why) == 1
    assert "Not known, for the reason above" in said(at)
    lab.account.refuses = {}
    at.button(key="cap_again").click().run()
    assert ("refresh", None, None) in lab.account.asked
    assert len(at.dataframe) == 2


def test_one_part_that_is_denied_does_not_hide_the_other(lab: Lab) -> None:
    lab.account.refuses = {"endpoints": "Its role needs sagemaker:ListEndpoints."}
    at = page("capacity").run()
    assert len(at.dataframe) == 1 and "sagemaker:ListEndpoints" in said(at)


@pytest.mark.slow
def test_aws_is_asked_once_and_not_with_every_click(lab: Lab) -> None:
    at = page("capacity").run()
    at = _select(at, UNITS, 0)
    assert sum(1 for asked in lab.account.asked if asked[0] == "provisioned") == 1


@pytest.mark.slow
def test_a_committed_one_cannot_be_deleted_and_says_until_when(lab: Lab) -> None:
    at = _select(page("capacity").run(), UNITS, 1)
    assert at.button(key="cap_delete").disabled
    assert "AWS refuses to delete it before its term ends on 20" in said(at)


@pytest.mark.slow
def test_deleting_takes_the_typed_name(lab: Lab) -> None:
    at = _select(page("capacity").run(), UNITS, 0)
    at.button(key="cap_delete").click().run()
    assert "nothing more is paid" in said(at)
    at.text_input(key="cap_delete_typed").set_value("fre")
    at.button(key="cap_delete_now").click().run()
    assert [u.name for u in lab.account.units] == ["free", "held"]
    assert "Nothing was done" in said(at)
    at.text_input(key="cap_delete_typed").set_value("free")
    at.button(key="cap_delete_now").click().run()
    assert [u.name for u in lab.account.units] == ["held"]


@pytest.mark.slow
def test_renaming_keeps_the_arn(lab: Lab) -> None:
    arn = lab.account.units[0].arn
    at = _select(page("capacity").run(), UNITS, 0)
    at.button(key="cap_rename").click().run()
    at.text_input(key="cap_new_name").set_value("team-units")
    at.button(key="cap_rename_now").click().run()
    assert not at.exception
    assert (lab.account.units[0].name, lab.account.units[0].arn) == ("team-units", arn)


def _order(at: AppTest, term: str = "1-month") -> AppTest:
    at.button(key="cap_buy").click().run()
    at.selectbox(key="cap_buy_model").set_value(CLAUDE)
    at.text_input(key="cap_buy_name").set_value("mine")
    at.number_input(key="cap_buy_units").set_value(2)
    return at.selectbox(key="cap_buy_term").set_value(term).run()


def test_buying_spells_out_hour_month_and_the_whole_term(lab: Lab) -> None:
    text = said(_order(page("capacity").run()))
    assert "$126.00 an hour, about $91,980 a month (730 h), committed until 20" in text
    assert " in all." in text


def test_a_price_that_aws_quotes_is_unknown_until_one_is_given(lab: Lab) -> None:
    at = _order(page("capacity").run(), "none")
    assert "Price unknown: AWS quotes it" in said(at)
    at.text_input(key="cap_buy_own").set_value("50").run()
    assert "$100.00 an hour, about $73,000 a month" in said(at)
    assert "your own figure" in said(at)


def test_nothing_is_bought_without_the_typed_words(lab: Lab) -> None:
    at = _order(page("capacity").run())
    at.button(key="cap_buy_now").click().run()
    assert "Nothing was bought: to go on, type “create mine” exactly" in said(at)
    assert not [a for a in lab.account.asked if a[0] == "create"]


def test_an_order_that_is_repeated_after_a_failure_carries_the_same_token(lab: Lab) -> None:
    lab.account.refuses = {"create": "AWS did not answer within 40 s."}
    at = _order(page("capacity").run())
    at.text_input(key="cap_buy_typed").set_value("create mine")
    at.button(key="cap_buy_now").click().run()
    assert "did not answer" in said(at)
    lab.account.refuses = {}
    at.button(key="cap_buy_now").click().run()
    first, second = [a[-1] for a in lab.account.asked if a[0] == "create"]
    assert first["token"] == second["token"]
    assert (second["model"], second["units"], second["commitment"]) == (CLAUDE, 2, "1-month")
    assert "mine is bought and being created" in said(at)
    assert "AWS is asked again every 10 s" in said(at)


def test_units_become_a_deployment_with_their_price(lab: Lab) -> None:
    at = _select(page("capacity").run(), UNITS, 1)
    at.button(key="cap_add").click().run()
    at.button(key="cap_add_now").click().run()
    assert not at.exception
    made = lab.listed[-1]
    assert (made.kind, made.model, made.region) == ("bedrock-provisioned", lab.account.units[1].arn, "us-east-1")
    assert made.price == PriceRef(per_hour="63.0", count=2)
    assert made.aws is not None and made.aws.serves == CLAUDE
    assert "held is a deployment now" in said(at)


@pytest.mark.slow
def test_an_endpoint_becomes_a_deployment_with_instance_and_count(lab: Lab) -> None:
    at = _select(page("capacity").run(), ENDPOINTS, 0)
    at.button(key="cap_add_endpoint").click().run()
    at.button(key="cap_add_now").click().run()
    assert not at.exception
    made = lab.listed[-1]
    assert (made.kind, made.model, made.wire) == ("sagemaker", "chat", "chat")
    assert made.price == PriceRef(instance="ml.g5.xlarge", count=2)


@pytest.mark.slow
def test_an_endpoint_with_components_asks_which_one(lab: Lab) -> None:
    lab.account.ends = [endpoint("many", components=COMPONENTS)]
    at = _select(page("capacity").run(), ENDPOINTS, 0)
    at.button(key="cap_add_endpoint").click().run()
    at.selectbox(key="cap_add_component").set_value("qwen").run()
    at.text_input(key="cap_add_price").set_value("$1.10")
    at.button(key="cap_add_now").click().run()
    made = lab.listed[-1]
    assert made.aws is not None and made.aws.component == "qwen"
    assert made.price == PriceRef(per_hour="1.10", count=2)


@pytest.mark.slow
def test_somebody_who_may_not_deploy_sees_everything_and_no_button(lab: Lab) -> None:
    lab.close_doors("ada@example.com")
    at = _select(page("capacity").run(), UNITS, 0)
    assert not at.exception
    assert not set(buttons(at)) & {"Add as deployment", "Rename", "Delete", "Buy model units"}
    assert "You can look" in said(at)


@pytest.mark.slow
def test_an_engine_that_is_down_is_one_sentence(lab: Lab) -> None:
    lab.down = True
    at = page("capacity").run()
    assert not at.exception
    assert "The engine does not answer" in said(at)


@pytest.mark.parametrize(
    ("term", "start", "end"),
    [
        ("1-month", datetime(2026, 1, 31, tzinfo=UTC), "2026-02-28"),
        ("6-month", datetime(2026, 11, 24, tzinfo=UTC), "2027-05-24"),
    ],
)
def test_a_term_ends_on_the_same_day_of_a_later_month(term: str, start: datetime, end: str) -> None:
    found = account.ends(term, start)  # type: ignore[arg-type]
    assert found is not None and f"{found:%Y-%m-%d}" == end


def test_a_bill_counts_every_hour_of_its_term() -> None:
    start = datetime(2026, 11, 24, tzinfo=UTC)
    assert account.bill(Decimal("10"), "1-month", start) == (
        "$10.00 an hour, about $7,300 a month (730 h), committed until 2026-12-24: $7,200 in all."
    )
    assert "until it is deleted" in account.bill(Decimal("10"), "none", start)
    assert account.bill(None, "1-month", start).startswith("Price unknown: AWS quotes it")
