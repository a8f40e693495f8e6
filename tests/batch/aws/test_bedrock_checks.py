"""What is found out about a Bedrock batch before it is sent: credentials, bucket, role, the account's quotas."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.aws import bedrock_ids, control
from services.batch.providers import bedrock as providers_bedrock
from services.batch.providers import get
from services.batch.types import UNSURE, Job, RouteTrouble, SubmitRefused
from tests.batch.aws import house
from tests.batch.aws.cloud import Cloud
from tests.batch.aws.house import AWS, Desk, bedrock, lines

ROUTE = get("bedrock")


def submit(desk: Desk, n: int = 120, token: str = "b1-0-abc") -> Job:
    return ROUTE.submit(bedrock(), house.job(n, token), lines(n), desk)


def test_a_sound_account_has_nothing_wrong(cloud: Cloud) -> None:
    assert ROUTE.check(bedrock()) == []


@pytest.mark.slow
def test_each_thing_that_is_wrong_with_bucket_and_role_is_a_sentence(cloud: Cloud) -> None:
    cloud.role("other", "sagemaker.amazonaws.com")
    cloud.s3.create_bucket(Bucket="in-frankfurt", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def said(**change: str) -> list[str]:
        return ROUTE.check(bedrock(aws=replace(AWS, **change)))

    assert said(batch_s3="s3://no-such-bucket-here/x") == [
        "There is no bucket no-such-bucket-here: make it in us-east-1, or correct batch_s3 in the AWS settings."
    ]
    assert said(batch_s3="s3://in-frankfurt/x") == [
        "The bucket in-frankfurt is in eu-central-1 and the jobs run in us-east-1: name one in us-east-1."
    ]
    assert "has no role nobody" in said(batch_role="arn:aws:iam::123456789012:role/nobody")[0]
    assert "belongs to the account 999999999999" in said(batch_role="arn:aws:iam::999999999999:role/x")[0]
    assert "does not let bedrock.amazonaws.com take it" in said(batch_role="arn:aws:iam::123456789012:role/other")[0]


def test_what_could_not_be_asked_is_said_as_not_checked(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_IAM", "http://127.0.0.1:9")
    control.forget()
    (said,) = ROUTE.check(bedrock())
    assert said.startswith(UNSURE) and "could not be checked" in said


def test_missing_credentials_are_one_sentence(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    control.forget()
    assert [said for said in ROUTE.check(bedrock()) if "no AWS credentials were found" in said]


def test_a_poll_that_cannot_ask_is_a_trouble_and_not_an_end(cloud: Cloud, desk: Desk) -> None:
    made = submit(desk)
    cloud.denied.add("model-invocation-job")
    with pytest.raises(RouteTrouble, match="needs bedrock:GetModelInvocationJob"):
        ROUTE.poll(bedrock(), made)


# --- quotas ----------------------------------------------------------------------------------------------------------


def test_the_accounts_own_quotas_for_exactly_this_model_are_the_limits(cloud: Cloud, desk: Desk) -> None:
    cloud.jobs.minimum = 7
    cloud.quotas = [
        ("Minimum number of records per batch inference job for Claude Haiku 4.5", 7.0),
        ("Minimum number of records per batch inference job for Claude Haiku 3.5", 900.0),
        ("Records per batch inference job for Claude Haiku 4.5", 20_000.0),
        ("Records per input file per batch inference job for Claude Haiku 4.5", 10_000.0),
        ("Batch inference input file size (in GB) for Claude Haiku 4.5", 2.0),
        ("Batch inference job size (in GB) for Claude Haiku 4.5", 5.0),
        ("On-demand model inference requests per minute for Claude Haiku 4.5", 50.0),
    ]
    limits = ROUTE.limits(bedrock(), ask=True)
    assert (limits.min_records, limits.max_records, limits.max_bytes) == (7, 10_000, 2_000_000_000)
    assert "Service Quotas" in limits.source
    assert ROUTE.limits(bedrock()).min_records == 100
    assert submit(desk, 8).vendor_id
    with pytest.raises(SubmitRefused, match="at least 7 records"):
        submit(desk, 6, token="other")


def test_quotas_that_may_not_be_read_leave_awss_defaults_and_say_so(cloud: Cloud) -> None:
    cloud.denied.add("ListServiceQuotas")
    limits = ROUTE.limits(bedrock(), ask=True)
    assert limits.min_records == 100 and "not read" in limits.source and "ListServiceQuotas" in limits.source


def test_quotas_of_other_models_are_not_taken(cloud: Cloud) -> None:
    cloud.quotas = [("Minimum number of records per batch inference job for Nova Pro", 5.0)]
    limits = ROUTE.limits(bedrock(), ask=True)
    assert limits.min_records == 100 and "name no limits for" in limits.source


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "Claude 3.5 Sonnet v2"),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", "Claude 3.5 Sonnet"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "Anthropic Claude Haiku 4.5"),
        ("us.amazon.nova-lite-v1:0", "Amazon Nova Lite"),
        ("meta.llama3-1-70b-instruct-v1:0", "Llama 3.1 70B Instruct"),
        ("openai.gpt-oss-120b-1:0", "OpenAI GPT OSS 120B 1"),
    ],
)
def test_a_quotas_words_and_a_models_id_are_one_model(model: str, words: str) -> None:
    known = bedrock_ids.parsed(model)
    assert known is not None
    assert providers_bedrock.words(known.model.partition(".")[2]) == providers_bedrock.words(words)
    assert providers_bedrock.words("Claude 3.5 Sonnet v2") != providers_bedrock.words("Claude 3.5 Sonnet")
