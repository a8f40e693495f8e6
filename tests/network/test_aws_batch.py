"""A batch of Bedrock through a company's proxy: its file in S3, its job and its results, by unpatched boto3."""

from __future__ import annotations

import pytest

from services.aws import control
from services.batch.providers import get
from tests.batch.aws import house
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.conftest import cloud, desk, moto  # noqa: F401 - fixtures
from tests.batch.aws.house import Desk, bedrock, by_no, finish, lines
from tests.network.company import Company

pytestmark = pytest.mark.slow

S3 = ("s3.amazonaws.com", "s3.us-east-1.amazonaws.com")


def test_a_batch_of_bedrock_goes_through_the_proxy_with_its_files(
    cloud: Cloud,  # noqa: F811
    moto: str,  # noqa: F811
    company: Company,
    desk: Desk,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = [name for name in cloud.environ if name.startswith("AWS_ENDPOINT_URL")]
    for name in own:
        monkeypatch.delenv(name)
    control.forget()
    company.hosts = {f"{bucket}{host}": moto for host in S3 for bucket in ("", f"{BUCKET}.")}
    company.hosts |= {"bedrock.us-east-1.amazonaws.com": cloud.environ["AWS_ENDPOINT_URL_BEDROCK"]}
    route, deployment = get("bedrock"), bedrock()
    made = finish(route, deployment, route.submit(deployment, house.job(120), lines(120), desk))
    assert sorted(by_no(route.results(deployment, made, desk))) == list(range(1, 121))
    asked = set(company.connects)
    assert "bedrock.us-east-1.amazonaws.com" in asked and any("s3" in host for host in asked)
