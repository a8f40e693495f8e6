"""`lab doctor` names what is wrong on AWS, by real boto3 calls that only look: the six usual things, and the rest."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from app.cli import doctor
from app.cli.doctor import examine
from services.aws import control
from services.aws.health import Finding
from tests.aws.fixture import AwsEmulator
from tests.aws.sigv4 import EXPIRED
from tests.control.stub import Stub, refused

CLAUDE = "anthropic.claude-fake-v1:0"
ACCOUNT = "AWS default chain in us-east-1"


def table(name: str, kind: str, model: str, url: str, region: str = "us-east-1", **settings: str) -> str:
    given = ", ".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
    return (
        f'[[deployment]]\nname = "{name}"\nkind = "{kind}"\nmodel = {json.dumps(model)}\nregion = "{region}"\n'
        f'endpoint_url = "{url}"\naws = {{ {given} }}\n'
    )


def look(folder: Path, *tables: str) -> dict[str, Finding]:
    file = folder / "deployments.toml"
    file.write_text("\n".join(tables))
    return dict(doctor.aws_findings(folder / "data", file))


def test_a_sound_deployment_is_ok_and_no_model_is_run(aws: AwsEmulator, tmp_path: Path) -> None:
    found = look(
        tmp_path, table("Claude", "bedrock", CLAUDE, aws.url), table("By profile", "bedrock", f"us.{CLAUDE}", aws.url)
    )
    assert found[ACCOUNT].grade == "ok" and "account 123456789012" in found[ACCOUNT].says
    assert found["Claude"] == Finding("ok", f"{CLAUDE} is offered in us-east-1 and the account may use it")
    assert found["By profile"].grade == "ok"
    asked = [f"{one.method} {one.path}" for one in aws.requests]
    assert asked and not [one for one in asked if "/model/" in one or "invoke" in one or "converse" in one]


def test_no_credentials_is_said_once_for_all(aws: AwsEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    control.forget()
    found = look(tmp_path, *(table(name, "bedrock", CLAUDE, aws.url) for name in ("A", "B")))
    assert found[ACCOUNT].grade == "wrong" and "no AWS credentials were found: set AWS_PROFILE" in found[ACCOUNT].says
    assert {found["A"], found["B"]} == {Finding("note", "not looked at, because of the account above")}
    assert not aws.requests


def test_an_expired_token_is_named(aws: AwsEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.apply(monkeypatch, EXPIRED)
    control.forget()
    found = look(tmp_path, table("A", "bedrock", CLAUDE, aws.url))
    assert found[ACCOUNT].grade == "wrong" and "has expired: sign in again" in found[ACCOUNT].says


def test_no_model_access_is_named(aws: AwsEmulator, tmp_path: Path) -> None:
    aws.account.denied.add(CLAUDE)
    found = look(tmp_path, table("A", "bedrock", CLAUDE, aws.url))["A"]
    assert found.grade == "wrong" and found.says.startswith("no model access:") and CLAUDE in found.says


def test_a_model_that_the_region_does_not_have_is_named(aws: AwsEmulator, tmp_path: Path) -> None:
    found = look(tmp_path, table("A", "bedrock", "anthropic.claude-elsewhere-v1:0", aws.url))["A"]
    assert found == Finding(
        "wrong",
        "anthropic.claude-elsewhere-v1:0 is not offered in us-east-1: set the deployment's region to one that offers "
        "it, or its model to a name that us-east-1 offers, such as an inference profile",
    )


def test_an_arn_of_another_region_is_named_without_a_call(aws: AwsEmulator, tmp_path: Path) -> None:
    arn = "arn:aws:bedrock:eu-west-1:123456789012:provisioned-model/abcdefabcdef"
    found = look(tmp_path, table("A", "bedrock-provisioned", arn, aws.url))["A"]
    assert found == Finding(
        "wrong", "its ARN belongs to eu-west-1 but its region is us-east-1: set its region to eu-west-1"
    )


@pytest.mark.slow
def test_an_endpoint_that_is_not_in_service_says_its_state_and_why(
    aws: AwsEmulator, endpoints: Any, tmp_path: Path
) -> None:
    odd = next(one for one in endpoints.endpoints.values() if one.endpoint_name == "odd")
    odd.endpoint_status, odd.failure_reason = "Failed", "no capacity for the instance type"
    found = look(
        tmp_path,
        table("Odd", "sagemaker", "odd", aws.url),
        table("Chat", "sagemaker", "chat", aws.url),
        table("Gone", "sagemaker", "gone", aws.url),
        table("Part", "sagemaker", "chat", aws.url, variant="Blue"),
    )
    assert found["Odd"] == Finding("wrong", "the endpoint odd is failed (Failed): no capacity for the instance type")
    assert found["Chat"] == Finding("ok", "the endpoint chat is in service")
    assert found["Gone"] == Finding(
        "wrong",
        "the account of the default profile has no endpoint gone in us-east-1: set the deployment's region to the one "
        "that it is in, or correct its name",
    )
    assert found["Part"] == Finding("wrong", "the endpoint chat has no variant Blue; it has AllTraffic")


def test_a_host_that_does_not_answer_is_named(aws: AwsEmulator, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = look(
        tmp_path,
        table("Down", "bedrock", CLAUDE, f"http://127.0.0.1:{port}"),
        table("Nowhere", "bedrock", CLAUDE, "http://no-such-host.invalid"),
    )
    assert found["Down"].grade == "wrong" and f"nothing answers at 127.0.0.1:{port}" in found["Down"].says
    assert "the host no-such-host.invalid has no address" in found["Nowhere"].says


def test_units_that_are_being_made_are_not_called_sound(aws: AwsEmulator, tmp_path: Path) -> None:
    aws.account.creating_s = 60
    made = aws.account.create("units", CLAUDE, 2)
    found = look(tmp_path, table("A", "bedrock-provisioned", made.arn, aws.url))
    assert found["A"] == Finding("wrong", "units is being created")
    aws.account.later(minutes=2)
    found = look(tmp_path, table("A", "bedrock-provisioned", made.arn, aws.url))
    assert found["A"] == Finding("ok", f"units is in service, 2 model units of {CLAUDE}")


@pytest.mark.slow
def test_a_component_elsewhere_and_a_failed_one_are_named(
    aws: AwsEmulator, endpoints: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    described = {
        "EndpointName": "chat",
        "EndpointArn": "arn:x:endpoint/chat",
        "EndpointConfigName": "c",
        "EndpointStatus": "InService",
        "CreationTime": 1.0,
        "LastModifiedTime": 1.0,
    }
    component = {
        "InferenceComponentName": "llama",
        "InferenceComponentArn": "arn:x",
        "EndpointArn": "arn:x",
        "EndpointName": "chat",
        "InferenceComponentStatus": "Failed",
        "FailureReason": "out of memory",
        "CreationTime": 1.0,
        "LastModifiedTime": 1.0,
    }
    with Stub(
        DescribeEndpoint=(200, described),
        DescribeInferenceComponent=(200, component),
        DescribeEndpointConfig=(
            200,
            {"EndpointConfigName": "c", "EndpointConfigArn": "a", "CreationTime": 1.0, "ProductionVariants": []},
        ),
    ) as stub:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", stub.url)
        here = table("A", "sagemaker", "chat", aws.url, component="llama")
        assert look(tmp_path, here)["A"] == Finding("wrong", "the component llama is Failed: out of memory")
        component["EndpointName"] = "other"
        assert "is on the endpoint other, not on chat" in look(tmp_path, here)["A"].says


@pytest.mark.slow
def test_a_role_that_may_not_look_is_a_note_with_the_action_it_needs(
    aws: AwsEmulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Stub() as stub:
        stub.refusal = refused("AccessDeniedException", "not authorized", 403)
        monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", stub.url)
        found = look(tmp_path, table("A", "bedrock", CLAUDE, aws.url))["A"]
    assert found.grade == "note" and "bedrock:GetFoundationModel" in found.says


def test_nothing_is_asked_where_no_deployment_is_on_aws(aws: AwsEmulator, tmp_path: Path) -> None:
    assert look(tmp_path, "") == {}
    assert look(tmp_path, table("Off", "bedrock", CLAUDE, aws.url) + "enabled = false\n") == {}
    assert not aws.requests


def test_the_command_prints_it_and_ends_with_1(
    aws: AwsEmulator, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    aws.account.denied.add(CLAUDE)
    file = tmp_path / "deployments.toml"
    file.write_text(table("Claude", "bedrock", CLAUDE, aws.url))
    assert examine(tmp_path / "data", file, as_json=False) == 1
    said = capsys.readouterr().out
    assert re.search(r"FIX   Claude: no model access:", said)
    assert re.search(rf"ok    {ACCOUNT}: account 123456789012", said)
