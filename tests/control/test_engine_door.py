"""The engine's door to AWS: an engine process with real boto3 against emulator and moto, and who may do what."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.client import EngineError
from services.engine import api_aws
from tests.aws.fixture import AwsEmulator, environ
from tests.engine.process import EngineProcess, engine_process

CLAUDE = "anthropic.claude-fake-v1:0"
ORDER: dict[str, Any] = {"name": "units", "model": CLAUDE, "units": 2, "commitment": "1-month", "token": "order-1"}


@pytest.fixture(scope="module")
def emulator() -> Iterator[AwsEmulator]:
    with AwsEmulator() as made:
        yield made


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, emulator: AwsEmulator, moto: str) -> Iterator[EngineProcess]:
    data = tmp_path_factory.mktemp("data")
    file = data / "deployments.toml"
    file.write_text(
        f'[[deployment]]\nname = "Here"\nkind = "bedrock"\nmodel = "{CLAUDE}"\nendpoint_url = "{emulator.url}"\n'
        'region = "us-east-1"\n[[deployment]]\nname = "Nobody"\nkind = "bedrock"\nmodel = "m"\nregion = "us-east-1"\n'
        f'endpoint_url = "{emulator.url}"\naws = {{ profile = "nobody" }}\n'
    )
    extra = {
        **environ(),
        "AWS_ENDPOINT_URL_BEDROCK": emulator.url,
        "AWS_ENDPOINT_URL_STS": emulator.url,
        "AWS_ENDPOINT_URL_SAGEMAKER": moto,
    }
    with engine_process(data, file, extra) as made:
        made.start().close()
        yield made


@pytest.mark.slow
def test_whoever_may_look_sees_account_units_and_endpoints(engine: EngineProcess, emulator: AwsEmulator) -> None:
    emulator.account.provisioned.clear()
    aws = engine.client("viewer").aws(None, "us-east-1")
    assert aws.places().region == "us-east-1" and "eu-west-1" in aws.places().regions
    assert aws.who().account == "123456789012"
    assert aws.provisioned() == ([], False)
    assert CLAUDE in [m.id for m in aws.models()[0]]
    assert isinstance(aws.endpoints()[0], list)


@pytest.mark.parametrize("role", ["viewer", "member"])
def test_only_an_administrator_buys_renames_and_deletes(
    engine: EngineProcess, emulator: AwsEmulator, role: str
) -> None:
    made = emulator.account.create(f"kept-{role}", CLAUDE, 1)
    aws = engine.client(role).aws(None, "us-east-1")
    for forbidden in (
        lambda: aws.create(**ORDER, confirm="create units"),
        lambda: aws.rename(made.arn, "other"),
        lambda: aws.delete(made.arn, made.name),
    ):
        with pytest.raises(EngineError, match="not change deployments"):
            forbidden()
    assert emulator.account.find(made.arn).name == f"kept-{role}"


def test_the_engine_checks_the_typed_words_itself(engine: EngineProcess, emulator: AwsEmulator) -> None:
    emulator.account.provisioned.clear()
    aws = engine.client("admin").aws(None, "us-east-1")
    with pytest.raises(EngineError, match="type “create units” exactly"):
        aws.create(**ORDER, confirm="yes")
    assert not emulator.account.provisioned
    made = aws.create(**ORDER, confirm="create units")
    assert (made.units, made.commitment) == (2, "1-month")
    with pytest.raises(EngineError, match="type “units” exactly"):
        aws.delete(made.arn, "unit")
    with pytest.raises(EngineError, match="only after its term ends on"):
        aws.delete(made.arn, "units")
    emulator.account.later(days=31)
    aws.delete(made.arn, "units")
    assert not emulator.account.provisioned


def test_a_region_that_is_none_is_one_sentence(engine: EngineProcess) -> None:
    with pytest.raises(EngineError, match="not the name of a region"):
        engine.client("viewer").aws(None, "nowhere").provisioned()
    with pytest.raises(EngineError, match="There is no profile “nobody”"):
        engine.client("viewer").aws("nobody", "us-east-1").provisioned()


def test_a_deployment_without_credentials_is_listed_with_what_it_needs(engine: EngineProcess) -> None:
    client, end = engine.client("viewer"), time.monotonic() + 20
    while True:
        found = {s.deployment.name: s for s in client.deployments()}
        if found["Nobody"].needs or time.monotonic() > end:
            break
        time.sleep(0.05)
    assert found["Here"].ready
    assert not found["Nobody"].ready
    assert "needs AWS credentials (the profile “nobody” is not in the AWS configuration" in str(found["Nobody"].needs)


def test_no_answer_of_the_engine_holds_a_secret(engine: EngineProcess, emulator: AwsEmulator, tmp_path: Path) -> None:
    said = str([engine.client("admin").aws(None, "us-east-1").who(), engine.client("viewer").health()])
    assert environ()["AWS_SECRET_ACCESS_KEY"] not in said and environ()["AWS_ACCESS_KEY_ID"] not in said


async def test_a_region_that_hangs_is_given_up_and_does_not_hold_the_threads_of_the_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    release = threading.Event()
    monkeypatch.setattr(api_aws, "WAIT_S", 0.1)
    try:
        asked = [api_aws._ask(release.wait) for _ in range(20)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        assert {str(one) for one in ended} == {"AWS did not answer within 0.1 s: check the network, then try again."}
        assert await asyncio.to_thread(lambda: "free") == "free"
    finally:
        release.set()
