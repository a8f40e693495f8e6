"""The catalogue names models that exist, at prices that are known or said not to be."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import get_args

from anthropic.types.model_param import ModelParam
from openai.types.shared.chat_model import ChatModel

from services.deployments.config import CATALOGUE, Config, embedded_deployments, validate
from services.pricing.cost import price_of
from services.providers import KINDS
from services.types import Deployment

NOW = datetime(2026, 11, 20, tzinfo=UTC)
EVERYTHING = (*embedded_deployments(), *CATALOGUE)


def test_every_model_of_the_catalogue_is_in_the_sdks_own_list() -> None:
    known = {*get_args(get_args(ModelParam)[0]), *get_args(ChatModel)}
    assert {one.model for one in CATALOGUE} <= known
    assert len(CATALOGUE) == 10


def test_every_deployment_that_comes_with_the_program_is_valid_and_survives_json() -> None:
    for one in EVERYTHING:
        validate(one, Config())
        assert Deployment.from_json(one.to_json()) == one


def test_identifiers_names_and_colours_are_each_ones_own() -> None:
    for field in ("id", "name", "color_slot"):
        assert len({getattr(one, field) for one in EVERYTHING}) == len(EVERYTHING)


def test_the_catalogue_is_off_until_it_is_switched_on_and_uses_the_kinds_own_addresses() -> None:
    for one in CATALOGUE:
        kind = KINDS[one.kind]
        assert (one.base_url, one.key_env) == (kind.default_base_url, kind.default_key_env)
        assert not one.enabled and one.origin == "catalogue" and one.wire in kind.wires


def test_only_models_that_the_price_list_does_not_know_yet_have_no_price() -> None:
    unknown = [one.model for one in CATALOGUE if price_of(one, NOW) is None]
    assert unknown == ["gpt-6.2-sol", "gpt-6.2-astra"]


def test_the_local_deployments_are_free_and_need_no_key() -> None:
    local = embedded_deployments()
    assert [one.id for one in local] == ["local-chat", "local-messages", "local-one-thread", "local-responses"]
    for one in local:
        price = price_of(one, NOW)
        assert price is not None and price.per_hour == "0"
        assert one.key_env is None and one.enabled and one.labels == ("local",)
    assert {one.wire for one in local} == {"chat", "messages", "responses"}
    assert {one.base_url for one in local} == {"embedded://main", "embedded://single"}
