"""The form of a deployment for AWS: its fields follow the kind, and what is opened for editing comes back unchanged."""

from __future__ import annotations

from typing import Any

import pytest

from app.deployments import detail, form
from app.deployments.form import price_of
from services.deployments import config
from services.types import Aws, Deployment, PriceRef
from tests.pages.lab import Lab, page, said

pytestmark = pytest.mark.slow

ARN = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefabcdef"


@pytest.fixture(autouse=True)
def no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent/config")


def _add(lab: Lab, kind: str, **fields: str) -> Any:
    at = page("deployments").run()
    at.selectbox(key="dp_add_kind").set_value(kind).run()
    for name, value in fields.items():
        at.text_input(key=f"dp_add_{name}").set_value(value)
    return at


def test_bedrock_is_added_with_region_tier_and_guardrail(lab: Lab) -> None:
    at = _add(
        lab,
        "bedrock",
        name="Claude",
        model="anthropic.claude-x",
        region="eu-west-1",
        profile="team",
        guardrail="abc123:1",
    )
    at.selectbox(key="dp_add_service_tier").set_value("flex")
    at.button(key="dp_add_save").click().run()
    assert not at.exception and "Claude is saved" in said(at)
    made = lab.listed[-1]
    assert made.base_url == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    assert made.aws == Aws(profile="team", service_tier="flex", guardrail="abc123:1")
    assert (made.region, made.wire, made.price) == ("eu-west-1", "converse", PriceRef("aws", "anthropic.claude-x"))


def test_the_place_and_the_role_for_batches_are_added(lab: Lab) -> None:
    at = _add(
        lab,
        "bedrock",
        name="Claude",
        model="anthropic.claude-x",
        region="eu-west-1",
        batch_s3="s3://bucket/lab",
        batch_role="arn:aws:iam::123456789012:role/batch",
    )
    at.button(key="dp_add_save").click().run()
    assert not at.exception and "Claude is saved" in said(at)
    assert lab.listed[-1].aws == Aws(batch_s3="s3://bucket/lab", batch_role="arn:aws:iam::123456789012:role/batch")


def test_units_are_added_with_an_own_price_an_hour(lab: Lab) -> None:
    at = _add(
        lab,
        "bedrock-provisioned",
        name="Units",
        model=ARN,
        region="us-east-1",
        per_hour="39.60",
        serves="anthropic.claude-x",
    )
    at.number_input(key="dp_add_count").set_value(3)
    at.button(key="dp_add_save").click().run()
    assert lab.listed[-1].price == PriceRef(per_hour="39.60", count=3)
    assert lab.listed[-1].aws == Aws(serves="anthropic.claude-x")


def test_an_endpoint_is_added_with_instance_and_component(lab: Lab) -> None:
    at = _add(
        lab,
        "sagemaker",
        name="Own",
        model="my-endpoint",
        region="us-east-1",
        instance="ml.g5.xlarge",
        component="llama",
    )
    at.button(key="dp_add_save").click().run()
    made = lab.listed[-1]
    assert (made.price, made.wire) == (PriceRef(instance="ml.g5.xlarge"), "chat")
    assert made.aws == Aws(component="llama")


def test_a_general_kind_can_be_signed_for(lab: Lab) -> None:
    at = _add(
        lab,
        "openai-compatible",
        name="Mantle",
        model="openai.gpt-oss",
        base_url="https://bedrock-mantle.us-east-1.api.aws/v1",
        key_env="",
    )
    at.toggle(key="dp_add_signed").set_value(True).run()
    at.text_input(key="dp_add_region").set_value("us-east-1")
    at.button(key="dp_add_save").click().run()
    assert not at.exception and "Mantle is saved" in said(at)
    assert (lab.listed[-1].aws, lab.listed[-1].region) == (Aws(), "us-east-1")


@pytest.mark.parametrize(
    ("kind", "fields", "words"),
    [
        ("bedrock", {"name": "A", "model": "m"}, "The region is missing"),
        ("bedrock", {"name": "A", "model": "m", "region": "Europe"}, "needs a 'region' of AWS"),
        ("bedrock", {"name": "A", "model": "m", "region": "us-east-1", "guardrail": "abc"}, "identifier:version"),
        ("bedrock", {"name": "A", "model": "m", "region": "us-east-1", "batch_s3": "bucket/x"}, "s3://bucket/prefix"),
        ("bedrock", {"name": "A", "model": "m", "region": "us-east-1", "batch_role": "admin"}, "not a role's ARN"),
        ("sagemaker", {"name": "A", "region": "us-east-1"}, "The endpoint name is missing"),
        (
            "sagemaker",
            {"name": "A", "model": "e", "region": "us-east-1", "instance": "ml.g5.xlarge", "per_hour": "1"},
            "The price is given twice",
        ),
        (
            "bedrock",
            {"name": "A", "model": "m", "region": "us-east-1", "base_url": "https://proxy.example.com"},
            "host that is not AWS's: an administrator can allow it",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_one_sentence(lab: Lab, kind: str, fields: dict[str, str], words: str) -> None:
    before = list(lab.listed)
    at = _add(lab, kind, **fields)
    at.button(key="dp_add_save").click().run()
    assert not at.exception and words in said(at)
    assert lab.listed == before
    assert at.text_input(key="dp_add_name").value == "A"


EDITED = [
    Deployment(
        "a",
        "A",
        "bedrock",
        "anthropic.claude-x",
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "converse",
        region="us-east-1",
        aws=Aws(
            "team",
            "priority",
            "optimized",
            "abc:DRAFT",
            batch_role="arn:aws:iam::123456789012:role/batch",
            batch_s3="s3://bkt/lab",
        ),
        price=PriceRef("aws", "anthropic.claude-x"),
        origin="page",
    ),
    Deployment(
        "b",
        "B",
        "bedrock",
        "anthropic.claude-x",
        "https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com",
        "invoke",
        region="us-east-1",
        aws=Aws(),
        key_env="AWS_BEARER_TOKEN_BEDROCK",
        origin="page",
    ),
    Deployment(
        "c",
        "C",
        "bedrock-provisioned",
        ARN,
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "converse",
        region="us-east-1",
        aws=Aws(serves="anthropic.claude-x"),
        price=PriceRef(per_hour="39.60", count=4),
        origin="page",
    ),
    Deployment(
        "d",
        "D",
        "sagemaker",
        "ep",
        "https://runtime.sagemaker.eu-west-1.amazonaws.com",
        "tgi",
        region="eu-west-1",
        aws=Aws(component="x", variant="y", batch_s3="s3://bkt"),
        price=PriceRef(instance="ml.g5.xlarge", count=2),
        origin="page",
    ),
    Deployment(
        "e",
        "E",
        "openai-compatible",
        "m",
        "http://localhost:8000/v1",
        price=PriceRef(instance="g5.xlarge"),
        origin="page",
    ),
    Deployment(
        "f",
        "F",
        "openai-compatible",
        "m",
        "http://localhost:8000/v1",
        region="here",
        price=PriceRef(provider="openai"),
        params=("temperature",),
        context_tokens=8,
        origin="page",
    ),
]


@pytest.mark.parametrize("one", EDITED, ids=lambda one: one.kind)
def test_what_is_opened_and_saved_untouched_comes_back_unchanged(one: Deployment) -> None:
    fields = {"kind": one.kind, **form._fields_of(one)}
    made = form.build(fields, one)
    if one.price.provider and not one.price.model:
        made = form.replace(made, price=PriceRef(one.price.provider, None))
    assert made == one


@pytest.mark.parametrize("one", EDITED[:5], ids=lambda one: one.kind)
def test_the_page_itself_shows_and_saves_it_unchanged(lab: Lab, one: Deployment) -> None:
    lab.listed.insert(0, one)
    at = page("deployments").run()
    at.session_state["dp_table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
    at.run()
    at.button(key=f"dp_edit_{one.id}").click().run()
    if one.key_env:  # bound to no host in this lab; the form refuses it in words and keeps it
        return
    at.button(key=f"dp_edit_{one.id}_save").click().run()
    assert not at.exception
    assert next(d for d in lab.listed if d.id == one.id) == one


@pytest.mark.parametrize("one", EDITED[:5], ids=lambda one: one.kind)
def test_what_the_form_makes_passes_the_rules_of_the_file(one: Deployment) -> None:
    if one.key_env is None:
        config.validate(one, config.Config())


@pytest.mark.parametrize(
    ("fields", "price"),
    [
        ({"per_hour": "1.5", "count": 2}, PriceRef(per_hour="1.5", count=2)),
        ({"instance": "ml.g5.xlarge", "count": 3}, PriceRef(instance="ml.g5.xlarge", count=3)),
        ({"per_hour": "0"}, PriceRef(per_hour="0")),
    ],
)
def test_an_hourly_price_is_an_own_figure_or_an_instance(fields: dict[str, Any], price: PriceRef) -> None:
    assert price_of({"price": "hour", **fields}, kind_name="sagemaker", model="e") == price


def test_the_list_and_the_panel_say_region_credentials_and_price_of_aws(lab: Lab) -> None:
    lab.listed[:0] = [EDITED[3], EDITED[1]]
    at = page("deployments").run()
    table = at.dataframe[0].value.set_index("name")
    assert table.loc["D", "host"] == "AWS eu-west-1"
    assert detail.facts(EDITED[3]) | {"Region": "eu\\-west\\-1", "Inference component": "x", "Variant": "y"} == (
        detail.facts(EDITED[3])
    )
    assert detail.facts(EDITED[0])["Credentials"] == "AWS profile team"
    assert "AWS\\_BEARER\\_TOKEN\\_BEDROCK" in detail.facts(EDITED[1])["Credentials"]
    assert detail.price_words(EDITED[3].price).startswith("2 × ml.g5.xlarge, by the hour")
    assert detail.price_words(EDITED[2].price) == "4 × $39.60 per hour of being on"
