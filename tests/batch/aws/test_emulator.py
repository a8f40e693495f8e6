"""The emulator itself: botocore's shapes allow what it answers, and it refuses what AWS refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.aws import shapes
from tests.aws.sigv4 import VALID
from tests.batch.aws import answers
from tests.batch.aws.cloud import BUCKET, ROLE, Cloud
from tests.fake.fixture import ROOT

ASKS: dict[str, Any] = {
    "jobName": "a-job",
    "clientRequestToken": "t1",
    "roleArn": f"arn:aws:iam::123456789012:role/{ROLE}",
    "modelId": "us.amazon.nova-pro-v1:0",
    "modelInvocationType": "Converse",
    "inputDataConfig": {"s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": f"s3://{BUCKET}/in.jsonl"}},
    "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"s3://{BUCKET}/out/"}},
}
# Timestamps of the JSON protocol are numbers, which `shapes` does not know; boto3 reads them.
_NUMBERS = ("is no ISO 8601 time",)


def client(cloud: Cloud, service: str) -> Any:
    """A client that holds every reply against botocore's shapes."""
    made = boto3.client(
        service,
        endpoint_url=cloud.url,
        region_name="us-east-1",
        aws_access_key_id=VALID.access,
        aws_secret_access_key=VALID.secret,
        config=Config(retries={"total_max_attempts": 1}),
    )

    def check(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
        headers = dict(response_dict["headers"].items())
        if response_dict["status_code"] >= 300:
            return  # errors of the JSON protocol have no header to tell them by
        said = shapes.reply_problems(operation_model, response_dict["status_code"], headers, response_dict["body"])
        assert [one for one in said if not one.endswith(_NUMBERS)] == []

    made.meta.events.register(f"before-parse.{made.meta.service_model.service_id.hyphenize()}.*", check)
    return made


def records(n: int) -> bytes:
    body = {"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": 5}}
    return b"".join(answers.line({"recordId": f"RECORD{number:05d}", "modelInput": body}) for number in range(n))


def test_a_job_of_bedrocks_is_what_botocore_expects_in_every_state(cloud: Cloud) -> None:
    bedrock = client(cloud, "bedrock")
    cloud.s3.put_object(Bucket=BUCKET, Key="in.jsonl", Body=records(100))
    arn = bedrock.create_model_invocation_job(**ASKS)["jobArn"]
    seen = [bedrock.get_model_invocation_job(jobIdentifier=arn)["status"] for _ in range(5)]
    assert seen == ["Submitted", "Validating", "Scheduled", "InProgress", "Completed"]
    assert bedrock.get_model_invocation_job(jobIdentifier=arn)["endTime"]
    assert [row["jobName"] for row in bedrock.list_model_invocation_jobs()["invocationJobSummaries"]] == ["a-job"]
    out = cloud.s3.get_object(Bucket=BUCKET, Key=f"out/{arn.rpartition('/')[2]}/lines.jsonl.out")["Body"].read()
    first = json.loads(out.splitlines()[0])
    assert set(first) == {"recordId", "modelInput", "modelOutput"}
    shape = shapes.operation("bedrock-runtime", "Converse").output_shape
    assert list(shapes.problems(first["modelOutput"], shape)) == []


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"jobName": "not legal!"}, "ValidationException"),
        ({"jobName": "x" * 64}, "ValidationException"),
        ({"timeoutDurationInHours": 24}, "ConflictException"),
        ({"clientRequestToken": "t2"}, "ConflictException"),
        ({"modelId": "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefabcdef"}, "ValidationException"),
        ({"roleArn": "arn:aws:iam::123:role/x"}, "ValidationException"),
    ],
)
def test_what_bedrock_refuses_is_refused(cloud: Cloud, change: dict[str, Any], code: str) -> None:
    bedrock = client(cloud, "bedrock")
    bedrock.create_model_invocation_job(**ASKS)
    with pytest.raises(ClientError) as caught:
        bedrock.create_model_invocation_job(**{**ASKS, **change})
    assert caught.value.response["Error"]["Code"] == code
    assert len(cloud.jobs.made) == 1


def test_the_same_token_with_the_same_wish_is_the_same_job(cloud: Cloud) -> None:
    bedrock = client(cloud, "bedrock")
    assert bedrock.create_model_invocation_job(**ASKS) | {"ResponseMetadata": 0} == (
        bedrock.create_model_invocation_job(**ASKS) | {"ResponseMetadata": 0}
    )


@pytest.mark.parametrize("key", ["AKIAEMULATEDSTRANGER", VALID.access])
def test_a_wrong_signature_is_refused(cloud: Cloud, key: str) -> None:
    made = boto3.client(
        "bedrock", endpoint_url=cloud.url, region_name="us-east-1", aws_access_key_id=key, aws_secret_access_key="wrong"
    )
    with pytest.raises(ClientError, match=r"token included|signature"):
        made.list_model_invocation_jobs()


@pytest.mark.slow
def test_sagemaker_and_quotas_answer_as_botocore_expects(cloud: Cloud) -> None:
    cloud.sagemaker.endpoint("later", answers=f"s3://{BUCKET}/answers")
    cloud.quotas = [("Records per batch inference job for Nova Pro", 5.0)]
    sagemaker = client(cloud, "sagemaker")
    assert sagemaker.describe_endpoint(EndpointName="later")["AsyncInferenceConfig"]
    assert sagemaker.describe_endpoint_config(EndpointConfigName="later-config")["ProductionVariants"]
    request = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
    cloud.s3.put_object(Bucket=BUCKET, Key="in/a.jsonl", Body=b'{"id":"A","request":%s}\n' % request)
    sagemaker.create_transform_job(
        TransformJobName="t",
        ModelName="m",
        MaxConcurrentTransforms=1,
        MaxPayloadInMB=6,
        TransformInput={"DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"s3://{BUCKET}/in/"}}},
        TransformOutput={"S3OutputPath": f"s3://{BUCKET}/out/"},
        TransformResources={"InstanceType": "ml.g5.xlarge", "InstanceCount": 1},
        DataProcessing={"InputFilter": "$.request", "JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"},
    )
    seen = [sagemaker.describe_transform_job(TransformJobName="t")["TransformJobStatus"] for _ in range(3)]
    assert seen == ["InProgress", "InProgress", "Completed"]
    out = cloud.s3.get_object(Bucket=BUCKET, Key="out/in/a.jsonl.out")["Body"].read()
    assert json.loads(out)["SageMakerOutput"]["choices"][0]["message"]["content"] == "echo hi"
    asked = client(cloud, "sagemaker-runtime").invoke_endpoint_async(
        EndpointName="later", Body=request, InferenceId="A", ContentType="application/json"
    )
    assert asked["OutputLocation"] == f"s3://{BUCKET}/answers/A.out" and asked["InferenceId"] == "A"
    assert client(cloud, "service-quotas").list_service_quotas(ServiceCode="bedrock")["Quotas"][0]["Value"] == 5.0


@pytest.mark.slow
def test_the_emulator_runs_in_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "tests.batch.aws", "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdout is not None
    try:
        first = process.stdout.readline()
        assert httpx.get(first.split(" at ")[1].split(",")[0], timeout=10).status_code == 400
        rest = [process.stdout.readline() for _ in range(4)]
        assert any(line.startswith("export AWS_") for line in rest)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()
