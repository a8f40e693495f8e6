"""The emulated control plane: boto3 reads it, botocore's shapes allow it, and it refuses what AWS refuses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.aws import shapes
from tests.aws.clients import USER, client
from tests.aws.fixture import AwsEmulator, aws

__all__ = ["aws"]  # a fixture, used by name
MODEL = "anthropic.claude-fake-v1:0"


@pytest.fixture
def bedrock(aws: AwsEmulator) -> Any:
    """A control client that checks every reply against the service model, as it arrives."""
    found = client(aws.url, "bedrock")

    def check(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        headers = dict(response_dict["headers"].items())
        said = shapes.reply_problems(operation_model, response_dict["status_code"], headers, response_dict["body"])
        assert list(said) == []

    found.meta.events.register("before-parse.bedrock.*", check)
    return found


def refused(call: Callable[..., Any], **given: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**given)
    return str(caught.value.response["Error"]["Code"])


def in_service(bedrock: Any, arn: str) -> dict[str, Any]:
    end = time.monotonic() + 5
    while (found := bedrock.get_provisioned_model_throughput(provisionedModelId=arn))["status"] != "InService":
        assert time.monotonic() < end
        time.sleep(0.02)
    return dict(found)


def buy(bedrock: Any, name: str, units: int = 1, **more: Any) -> str:
    made = bedrock.create_provisioned_model_throughput(
        modelUnits=units, provisionedModelName=name, modelId=MODEL, **more
    )
    assert made["ResponseMetadata"]["HTTPStatusCode"] == 201
    return str(made["provisionedModelArn"])


def test_throughput_is_created_used_renamed_and_deleted(aws: AwsEmulator, bedrock: Any) -> None:
    aws.account.creating_s = 3600.0
    arn = buy(bedrock, "mine", 2)
    runtime = client(aws.url, "bedrock-runtime")
    assert bedrock.get_provisioned_model_throughput(provisionedModelId="mine")["status"] == "Creating"
    assert refused(runtime.converse, modelId=arn, messages=USER) == "ModelNotReadyException"
    aws.account.later(seconds=3600)
    found = in_service(bedrock, arn)
    assert found["modelUnits"] == 2 and "commitmentDuration" not in found and found["modelArn"].endswith(MODEL)
    assert runtime.converse(modelId=arn, messages=USER)["stopReason"] == "end_turn"
    bedrock.update_provisioned_model_throughput(provisionedModelId=arn, desiredProvisionedModelName="ours")
    assert in_service(bedrock, arn)["provisionedModelName"] == "ours"
    bedrock.update_provisioned_model_throughput(provisionedModelId=arn, desiredModelId="amazon.titan-text-fake-v1")
    assert bedrock.get_provisioned_model_throughput(provisionedModelId=arn)["status"] == "Updating"
    bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    assert bedrock.list_provisioned_model_throughputs()["provisionedModelSummaries"] == []
    assert refused(bedrock.get_provisioned_model_throughput, provisionedModelId=arn) == "ResourceNotFoundException"
    assert refused(runtime.converse, modelId=arn, messages=USER) == "ResourceNotFoundException"


@pytest.mark.parametrize(("term", "days"), [("OneMonth", 30), ("SixMonths", 182)])
def test_committed_throughput_is_kept_until_its_term_is_over(
    aws: AwsEmulator, bedrock: Any, term: str, days: int
) -> None:
    arn = buy(bedrock, "committed", commitmentDuration=term)
    found = in_service(bedrock, arn)
    assert (found["commitmentExpirationTime"] - found["creationTime"]).days == days
    assert refused(bedrock.delete_provisioned_model_throughput, provisionedModelId=arn) == "ConflictException"
    assert len(bedrock.list_provisioned_model_throughputs()["provisionedModelSummaries"]) == 1
    aws.account.later(days=days)
    bedrock.delete_provisioned_model_throughput(provisionedModelId=arn)
    assert aws.account.provisioned == {}


def test_the_same_token_buys_once(aws: AwsEmulator, bedrock: Any) -> None:
    first = buy(bedrock, "once", clientRequestToken="token-1")
    assert buy(bedrock, "once", clientRequestToken="token-1") == first and len(aws.account.provisioned) == 1
    again = {"modelId": MODEL, "clientRequestToken": "token-1", "provisionedModelName": "once", "modelUnits": 3}
    with pytest.raises(AssertionError, match="no error of CreateProvisionedModelThroughput"):
        bedrock.create_provisioned_model_throughput(**again)  # ConflictException, which this operation does not list


def test_what_cannot_be_bought_is_refused(bedrock: Any) -> None:
    create = bedrock.create_provisioned_model_throughput
    good: dict[str, Any] = {"modelUnits": 1, "provisionedModelName": "a", "modelId": MODEL}
    assert refused(create, **{**good, "modelUnits": 11}) == "ServiceQuotaExceededException"
    assert refused(create, **{**good, "modelId": "no.such-model"}) == "ResourceNotFoundException"
    assert refused(create, **good, commitmentDuration="Forever") == "ValidationException"
    create(**good)
    assert refused(create, **good) == "ValidationException"


@pytest.mark.slow
def test_throughput_is_listed_by_page_status_and_name(bedrock: Any) -> None:
    for name in ("a1", "a2", "b1"):
        in_service(bedrock, buy(bedrock, name))
    listed = bedrock.list_provisioned_model_throughputs
    pages = bedrock.get_paginator("list_provisioned_model_throughputs").paginate(PaginationConfig={"PageSize": 2})
    assert sorted(s["provisionedModelName"] for p in pages for s in p["provisionedModelSummaries"]) == [
        "a1",
        "a2",
        "b1",
    ]
    assert len(listed(nameContains="a")["provisionedModelSummaries"]) == 2
    assert listed(statusEquals="Failed")["provisionedModelSummaries"] == []


def test_models_and_profiles_are_listed_and_described(bedrock: Any) -> None:
    models = bedrock.list_foundation_models(byProvider="anthropic")["modelSummaries"]
    assert [m["modelId"] for m in models] == [MODEL, "anthropic.claude-profile-v1:0"]
    assert bedrock.get_foundation_model(modelIdentifier=MODEL)["modelDetails"]["responseStreamingSupported"]
    assert refused(bedrock.get_foundation_model, modelIdentifier="no.such-model") == "ResourceNotFoundException"
    profiles = bedrock.list_inference_profiles()["inferenceProfileSummaries"]
    assert f"us.{MODEL}" in [p["inferenceProfileId"] for p in profiles]
    one = bedrock.get_inference_profile(inferenceProfileIdentifier=profiles[0]["inferenceProfileArn"])
    assert one["inferenceProfileId"] == profiles[0]["inferenceProfileId"]
    assert bedrock.list_inference_profiles(typeEquals="APPLICATION")["inferenceProfileSummaries"] == []
