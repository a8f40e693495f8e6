"""The places that tests of the control planes ask: the emulator with its credentials, moto for SageMaker."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from moto.server import ThreadedMotoServer

from services.aws import control
from tests.aws.fixture import AwsEmulator
from tests.control.stub import Stub


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEmulator]:
    """The emulator behind Bedrock's and STS's control planes, for every SDK of this process."""
    with AwsEmulator() as emulator:
        emulator.apply(monkeypatch)
        for service in ("BEDROCK", "STS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", emulator.url)
        control.forget()
        yield emulator
        control.forget()


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """moto's server, for SageMaker."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def endpoints(aws: AwsEmulator, moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two endpoints in moto, "chat" on two instances whose price is known and "odd"; gives moto's own state."""
    import boto3
    from moto.sagemaker.models import sagemaker_backends

    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", moto)
    boto = boto3.client("sagemaker", region_name="us-east-1")
    boto.create_model(
        ModelName="m", ExecutionRoleArn="arn:aws:iam::123456789012:role/x", PrimaryContainer={"Image": "i"}
    )
    for name, instance, count in (("chat", "ml.g4dn.xlarge", 2), ("odd", "ml.m4.xlarge", 1)):
        variant = {
            "VariantName": "AllTraffic",
            "ModelName": "m",
            "InitialInstanceCount": count,
            "InstanceType": instance,
            "InitialVariantWeight": 1.0,
        }
        boto.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        boto.create_endpoint(EndpointName=name, EndpointConfigName=name)
    backend = sagemaker_backends["123456789012"]["us-east-1"]
    yield backend
    backend.reset()


@pytest.fixture
def stub(aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    """A server of a few lines behind every control plane."""
    with Stub() as server:
        for service in ("BEDROCK", "SAGEMAKER", "STS"):
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", server.url)
        yield server
