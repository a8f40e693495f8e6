"""The emulator accepts a request only when AWS would: its own check of the signature, and of the credentials."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import boto3
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.aws.clients import NAMES, USER, client, streamed
from tests.aws.fixture import AwsEmulator, aws
from tests.aws.sigv4 import BEARER, EXPIRED, SESSION, VALID, Key, verify
from tests.fake.http import Request

__all__ = ["aws"]  # a fixture, used by name
BODY = b'{"messages":[{"role":"user","content":[{"text":"h\xc3\xa9"}]}]}'
PATH = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A%3Afoundation-model%2Fanthropic.claude-fake-v1%3A0/converse"


def signed(url: str, key: Key = VALID, *, region: str = "us-east-1", service: str = "bedrock") -> dict[str, str]:
    """Headers of a POST of BODY, signed now."""
    request = AWSRequest(method="POST", url=url, data=BODY, headers={"content-type": "application/json"})
    SigV4Auth(Credentials(key.access, key.secret, key.token), service, region).add_auth(request)
    return dict(request.headers.items())


def send(url: str, headers: Mapping[str, str], body: bytes = BODY) -> tuple[int, str]:
    reply = httpx.post(url, headers=dict(headers), content=body)
    return reply.status_code, reply.headers.get("x-amzn-errortype", "").partition(":")[0]


@pytest.mark.parametrize("key", [VALID, SESSION])
@pytest.mark.parametrize("route", ["converse", "invoke:llama", "sagemaker:chat"])
def test_what_boto3_signs_is_accepted(aws: AwsEmulator, key: Key, route: str) -> None:
    assert list(streamed(aws.url, route, f"{NAMES[route]}?tokens=1&text=a%20b%2Fc", key)[1])
    assert [(v.error, v.access, v.region) for v in aws.verdicts] == [(None, key.access, "us-east-1")]
    assert aws.verdicts[0].service == route.partition(":")[0].replace("converse", "bedrock").replace(
        "invoke", "bedrock"
    )


@pytest.mark.parametrize(
    ("key", "region", "code", "of_sts"),
    [
        (Key(VALID.access, "another secret"), "us-east-1", "InvalidSignatureException", "SignatureDoesNotMatch"),
        (VALID, "eu-west-1", "InvalidSignatureException", "SignatureDoesNotMatch"),
        (EXPIRED, "us-east-1", "ExpiredTokenException", "ExpiredToken"),
        (Key("AKIANOBODY", "x"), "us-east-1", "UnrecognizedClientException", "InvalidClientTokenId"),
        (
            Key(SESSION.access, SESSION.secret, "made up"),
            "us-east-1",
            "UnrecognizedClientException",
            "InvalidClientTokenId",
        ),
        (Key(SESSION.access, SESSION.secret), "us-east-1", "UnrecognizedClientException", "InvalidClientTokenId"),
    ],
)
def test_credentials_that_are_no_good_are_refused_by_name(
    aws: AwsEmulator, key: Key, region: str, code: str, of_sts: str
) -> None:
    def refusal(service: str, operation: str, **given: Any) -> tuple[str, int]:
        with pytest.raises(ClientError) as caught:
            getattr(client(aws.url, service, key, region=region), operation)(**given)
        answer = caught.value.response
        return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]

    assert refusal("bedrock-runtime", "converse_stream", modelId="fake", messages=USER) == (code, 403)
    assert refusal("sagemaker-runtime", "invoke_endpoint", EndpointName="e", Body=b"{}") == (code, 403)
    assert refusal("bedrock", "list_foundation_models") == (code, 403)
    assert refusal("sts", "get_caller_identity") == (of_sts, 403)
    assert {v.error for v in aws.verdicts} == {code} and len(aws.requests) == 4


def test_good_credentials_name_their_account(aws: AwsEmulator) -> None:
    for key in (VALID, SESSION):
        assert client(aws.url, "sts", key).get_caller_identity()["Account"] == "123456789012"


@pytest.mark.slow
def test_anything_changed_after_signing_is_refused(aws: AwsEmulator) -> None:
    url = f"{aws.url}{PATH}"
    headers = signed(url)
    assert send(url, headers) == (200, "")
    assert send(url, {**headers, "x-not-signed": "may be added"}) == (200, "")
    wrong = (403, "InvalidSignatureException")
    assert send(url, headers, BODY.replace(b"h", b"H")) == wrong
    assert send(f"{url}-stream", headers) == wrong
    assert send(f"{url}?extra=1", headers) == wrong
    assert send(url, {**headers, "content-type": "text/plain"}) == wrong
    assert send(url, {**headers, "x-amz-added": "1"}) == wrong
    assert send(url, {**headers, "x-amz-content-sha256": "0" * 64}) == wrong
    assert send(url, {**headers, "Authorization": headers["Authorization"][:-1] + "x"})[0] == 403
    assert send(url, signed(url, service="sagemaker")) == wrong
    assert send(url, {**headers, "Authorization": "AWS4-HMAC-SHA256 Credential=x"})[1] == "IncompleteSignatureException"
    without = {n: v for n, v in headers.items() if n != "Authorization"}
    assert send(url, without) == (403, "MissingAuthenticationTokenException")


def test_a_signature_holds_for_five_minutes(aws: AwsEmulator) -> None:
    url = f"{aws.url}{PATH}"
    headers = {n.lower(): v for n, v in signed(url).items()} | {"host": url.split("/")[2]}
    request = Request("POST", PATH, headers, BODY)
    now = datetime.datetime.now(datetime.UTC)
    for minutes, code in ((0, None), (4, None), (6, "InvalidSignatureException"), (-6, "InvalidSignatureException")):
        at = now + datetime.timedelta(minutes=minutes)
        verdict = verify(request, [VALID], regions={"us-east-1"}, services={"bedrock"}, now=at)
        assert verdict.error == code, verdict.message


def test_the_check_agrees_with_the_example_in_the_documentation_of_aws() -> None:
    headers = {
        "host": "iam.amazonaws.com",
        "content-type": "application/x-www-form-urlencoded; charset=utf-8",
        "x-amz-date": "20150830T123600Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, "
        "SignedHeaders=content-type;host;x-amz-date, "
        "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
    }
    request = Request("GET", "/?Action=ListUsers&Version=2010-05-08", headers)
    key = Key("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
    at = datetime.datetime(2015, 8, 30, 12, 36, tzinfo=datetime.UTC)
    assert verify(request, [key], regions={"us-east-1"}, services={"iam"}, now=at).error is None
    request.path = "/?Action=ListRoles&Version=2010-05-08"
    assert verify(request, [key], regions={"us-east-1"}, services={"iam"}, now=at).error == "InvalidSignatureException"


def test_a_bearer_token_opens_bedrock_and_nothing_else(aws: AwsEmulator) -> None:
    # Sent by hand: botocore sends a bearer token over HTTPS only.
    good = {"Authorization": f"Bearer {BEARER}"}
    assert send(f"{aws.url}{PATH}", good) == (200, "") and aws.verdicts[0].by == "bearer"
    assert send(f"{aws.url}{PATH}", {"Authorization": "Bearer wrong"}) == (403, "AccessDeniedException")
    assert send(f"{aws.url}/anthropic/v1/messages", good, b'{"model":"fake"}')[0] == 200
    assert send(f"{aws.url}/endpoints/e/invocations", good)[0] == 403
    assert send(f"{aws.url}/", good)[0] == 403


def test_the_environment_leads_any_client_to_the_emulated_credentials(
    aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "somebody's")
    for key, error in ((VALID, None), (SESSION, None), (EXPIRED, "ExpiredTokenException")):
        aws.apply(monkeypatch, key)
        found = boto3.session.Session().get_credentials().get_frozen_credentials()
        assert (found.access_key, found.secret_key, found.token) == (key.access, key.secret, key.token)
        url = f"{aws.url}{PATH}"
        send(url, signed(url, Key(found.access_key, found.secret_key, found.token)))
        assert aws.verdicts[-1].error == error
    assert set(aws.environ) >= {"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_EC2_METADATA_DISABLED"}
