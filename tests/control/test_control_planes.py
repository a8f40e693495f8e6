"""Bedrock's and STS's control planes by the real boto3: against the emulator, and a few lines of wire."""

from __future__ import annotations

import json
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.aws import control, credentials, provisioned
from services.aws.control import AwsTrouble, Place
from services.aws.provisioned import provisioned_from
from tests.aws.fixture import AwsEmulator
from tests.aws.sigv4 import EXPIRED, SESSION, VALID, Key
from tests.control.stub import Stub, refused

HERE = Place(None, "us-east-1")
CLAUDE = "anthropic.claude-fake-v1:0"


def buy(name: str = "units", *, units: int = 1, term: Any = "none", token: str | None = None) -> Any:
    return provisioned.create(
        HERE, name=name, model=CLAUDE, units=units, commitment=term, token=token or uuid.uuid4().hex
    )


# --- Bedrock -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_it_says_whose_credentials_these_are(aws: AwsEmulator) -> None:
    assert control.identity(HERE) == control.Identity("123456789012", "arn:aws:iam::123456789012:user/emulated")
    assert aws.verdicts[-1].error is None and aws.verdicts[-1].service == "sts"


def test_what_is_bought_is_listed_with_its_term(aws: AwsEmulator) -> None:
    made = buy("committed", units=3, term="6-month")
    found, more = provisioned.listed(HERE)
    assert [one.name for one in found] == ["committed"] and not more
    assert (found[0].units, found[0].commitment, found[0].foundation) == (3, "6-month", CLAUDE)
    assert found[0].arn == made.arn
    assert found[0].committed(datetime.now(UTC)) and found[0].commitment_ends is not None
    assert found[0].rate is None  # of a model that no file of prices knows
    assert all(verdict.error is None for verdict in aws.verdicts)


def test_a_throughput_survives_the_way_to_the_page(aws: AwsEmulator) -> None:
    made = buy(term="1-month")
    assert provisioned_from(json.loads(json.dumps(made.to_json()))) == made


def test_more_than_one_page_is_read_and_a_limit_is_said(aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.account.quota_units = 1000
    for number in range(120):
        aws.account.create(f"unit-{number}", CLAUDE, 1)
    found, more = provisioned.listed(HERE)
    assert len(found) == 120 and not more
    monkeypatch.setattr(control, "MOST", 50)
    found, more = provisioned.listed(HERE)
    assert len(found) == 50 and more


def test_a_committed_one_is_not_deleted_before_its_term_ends(aws: AwsEmulator) -> None:
    made = buy("held", term="1-month")
    with pytest.raises(AwsTrouble) as caught:
        provisioned.delete(HERE, made.arn)
    assert caught.value.what == "conflict"
    assert str(caught.value) == (
        "held was not deleted: it is committed, and AWS deletes a committed one only after its term ends on "
        f"{made.commitment_ends:%Y-%m-%d}; until then it is paid for."
    )
    aws.account.later(days=31)
    provisioned.delete(HERE, made.arn)
    assert provisioned.listed(HERE) == ([], False)


def test_asking_twice_with_one_token_buys_once(aws: AwsEmulator) -> None:
    first, second = buy(token="order-1"), buy(token="order-1")
    assert first.arn == second.arn and len(provisioned.listed(HERE)[0]) == 1


def test_renaming_keeps_arn_and_units(aws: AwsEmulator) -> None:
    aws.account.creating_s = 0
    made = buy("before")
    after = provisioned.rename(HERE, made.arn, "after")
    assert (after.name, after.arn, after.units) == ("after", made.arn, 1)


@pytest.mark.parametrize("name", ["", "a b", "-a", "x" * 64, "a--b", "é"])
def test_a_name_that_aws_would_refuse_is_refused_before_it_is_sent(aws: AwsEmulator, name: str) -> None:
    with pytest.raises(AwsTrouble, match="letters, digits"):
        buy(name)
    assert not aws.requests


def test_a_quota_says_that_model_units_need_a_support_request(aws: AwsEmulator) -> None:
    aws.account.quota_units = 0
    with pytest.raises(AwsTrouble, match="model units need a support request first") as caught:
        buy()
    assert caught.value.what == "quota"


def test_models_and_profiles_of_the_region_are_listed(aws: AwsEmulator) -> None:
    models, routed = control.models(HERE)
    sold = [m.id for m in models if m.provisioned]
    assert sold == [CLAUDE, "amazon.titan-text-fake-v1"]
    assert f"us.{CLAUDE}" in [m.id for m in routed]


# --- what can go wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "what", "words"),
    [
        (EXPIRED, "expired", "has expired: sign in again"),
        (Key("AKIAEMULATEDUNKNOWN0", VALID.secret), "credentials", "does not accept the credentials"),
        (Key(VALID.access, "emulated/wrong/secret/000000000000000000"), "credentials", "does not accept the signature"),
    ],
)
def test_credentials_that_aws_refuses_are_told_apart(
    aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch, key: Key, what: str, words: str
) -> None:
    aws.apply(monkeypatch, key)
    control.forget()
    for ask in (lambda: control.identity(HERE), lambda: provisioned.listed(HERE)):
        with pytest.raises(AwsTrouble, match=words) as caught:
            ask()
        assert caught.value.what == what
        assert key.secret not in str(caught.value) and key.access not in str(caught.value)


def test_a_session_token_is_passed_on(aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.apply(monkeypatch, SESSION)
    control.forget()
    assert control.identity(HERE).account == "123456789012"


def test_no_credentials_is_one_sentence_and_nothing_is_sent(aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    control.forget()
    with pytest.raises(AwsTrouble, match="AWS was not asked: no AWS credentials were found: set AWS_PROFILE"):
        provisioned.listed(HERE)
    assert not aws.requests


def test_a_profile_that_is_not_there_is_named(
    aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config"
    config.write_text("[default]\nregion = eu-west-1\n[profile team]\nregion = us-west-2\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    control.forget()
    assert control.profiles() == ["default", "team"]
    assert control.place("team", None) == Place("team", "us-west-2")
    assert control.place(None, "") == Place(None, "eu-west-1")
    with pytest.raises(AwsTrouble, match="no profile “teem”"):
        control.place("teem", None)
    with pytest.raises(AwsTrouble, match="not the name of a region"):
        control.place(None, "us-east-1.evil.example/")


@pytest.mark.parametrize(
    ("answer", "what", "words"),
    [
        (
            refused("AccessDeniedException", "User is not authorized", 403),
            "denied",
            "its role needs bedrock:ListProvisionedModelThroughputs",
        ),
        (refused("ThrottlingException", "Rate exceeded", 429), "throttled", "slow down"),
        (refused("ValidationException", "nextToken is bad"), "invalid", "nextToken is bad."),
        (refused("ResourceNotFoundException", "no such thing", 404), "not_found", "does not know it in us-east-1"),
        (refused("InternalServerException", "", 500), "failed", "InternalServerException"),
        ((502, {}), "failed", "502"),
    ],
)
def test_every_refusal_is_one_sentence(stub: Stub, answer: Any, what: str, words: str) -> None:
    stub.refusal = answer
    with pytest.raises(AwsTrouble, match=words) as caught:
        provisioned.listed(HERE)
    assert caught.value.what == what
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_a_host_that_does_not_answer_is_named(aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_BEDROCK", f"http://127.0.0.1:{port}")
    with pytest.raises(AwsTrouble, match=f"no answer at http://127.0.0.1:{port}.*check the region") as caught:
        provisioned.listed(HERE)
    assert caught.value.what == "unreachable"


def test_a_server_that_stays_silent_is_given_up(aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "READ_S", 0.2)
    monkeypatch.setattr(control, "ATTEMPTS", 1)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(AwsTrouble, match="no answer in time") as caught:
            control.identity(HERE)
    assert caught.value.what == "timeout"


def test_whether_credentials_are_there_is_known_without_waiting(
    aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    control.forget()
    monkeypatch.setattr(credentials, "_seen", {})
    assert credentials.last_trouble(None) is None  # nobody has looked yet
    aws.until(lambda: "no AWS credentials were found" in (credentials.last_trouble(None) or ""))
    aws.apply(monkeypatch)
    control.forget()
    credentials.look_again()
    aws.until(lambda: credentials.last_trouble(None) is None)
