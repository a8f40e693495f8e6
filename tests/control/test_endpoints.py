"""SageMaker's endpoints by the real boto3: against moto, and a few lines of wire for what moto does not say."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from services.aws import sagemaker
from services.aws.control import AwsTrouble, Place
from services.aws.sagemaker import Component, endpoint_from
from tests.control.stub import Stub, refused

HERE = Place(None, "us-east-1")


def test_endpoints_are_listed_with_instances_and_price(endpoints: Any) -> None:
    found = {one.name: one for one in sagemaker.listed(HERE)[0]}
    chat = found["chat"].variants[0]
    assert (chat.instance, chat.current, chat.desired, chat.weight) == ("ml.g4dn.xlarge", 2, 2, 1.0)
    assert found["chat"].per_hour == 2 * Decimal("0.7364")
    assert found["chat"].status_words == "in service"
    assert found["odd"].per_hour is None  # an instance that no file of prices knows is not free
    assert found["chat"].components is None  # moto cannot list them, which is not the same as none
    assert endpoint_from(json.loads(json.dumps(found["chat"].to_json(), default=str))) == found["chat"]


def test_a_failed_endpoint_says_why(endpoints: Any) -> None:
    broken = next(iter(endpoints.endpoints.values()))
    broken.endpoint_status, broken.failure_reason = "Failed", "The container did not pass its health check."
    found = sagemaker.fetch(HERE, broken.endpoint_name)
    assert (found.status_words, found.failure) == ("failed", "The container did not pass its health check.")


def test_an_endpoint_that_the_region_does_not_have_is_not_found(endpoints: Any) -> None:
    with pytest.raises(AwsTrouble, match="does not know it in us-east-1: Could not find endpoint") as caught:
        sagemaker.fetch(HERE, "elsewhere")
    assert caught.value.what == "not_found"


def _described(body: dict[str, Any]) -> Any:
    if body["EndpointName"] == "hidden":
        return refused("AccessDeniedException", "no", 403)
    return 200, {
        "EndpointName": "many",
        "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/many",
        "EndpointConfigName": "c",
        "EndpointStatus": "Updating",
        "CreationTime": 1.0,
        "LastModifiedTime": 1.0,
        "ProductionVariants": [
            {"VariantName": "a", "CurrentInstanceCount": 1, "DesiredInstanceCount": 3, "CurrentWeight": 0.5},
            {
                "VariantName": "b",
                "CurrentWeight": 0.5,
                "CurrentServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1},
            },
        ],
    }


@pytest.mark.slow
def test_components_variants_and_what_may_not_be_described(stub: Stub) -> None:
    row = {
        "EndpointArn": "arn:x:endpoint/x",
        "CreationTime": 1.0,
        "LastModifiedTime": 1.0,
        "EndpointStatus": "Updating",
    }
    stub.answers |= {
        "ListEndpoints": lambda body: (
            (200, {"Endpoints": [{"EndpointName": "hidden", **row}]})
            if "NextToken" in body
            else (200, {"Endpoints": [{"EndpointName": "many", **row}], "NextToken": "2"})
        ),
        "ListInferenceComponents": (
            200,
            {
                "InferenceComponents": [
                    {
                        "InferenceComponentName": "llama",
                        "InferenceComponentArn": "arn:x",
                        "EndpointName": "many",
                        "EndpointArn": "arn:x",
                        "VariantName": "a",
                        "InferenceComponentStatus": "InService",
                        "CreationTime": 1.0,
                        "LastModifiedTime": 1.0,
                    }
                ]
            },
        ),
        "DescribeEndpoint": _described,
        "DescribeEndpointConfig": (
            200,
            {
                "EndpointConfigName": "c",
                "EndpointConfigArn": "arn:x",
                "CreationTime": 1.0,
                "ProductionVariants": [
                    {"VariantName": "a", "InstanceType": "ml.g5.xlarge", "InitialInstanceCount": 1},
                    {"VariantName": "b", "ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1}},
                ],
            },
        ),
    }
    many, hidden = sagemaker.listed(HERE)[0]
    assert many.components == (Component("llama", "a", "InService"),)
    assert [(v.name, v.instance, v.current, v.desired, v.serverless) for v in many.variants] == [
        ("a", "ml.g5.xlarge", 1, 3, False),
        ("b", None, None, None, True),
    ]
    assert many.per_hour is None  # serverless is not paid by the hour
    assert many.status_words == "being changed"
    assert hidden.variants == () and "sagemaker:DescribeEndpoint" in (hidden.trouble or "")
