"""What an attack found: profiles that hang, hosts below AWS's domains that anybody can own, junk from containers."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from services.aws import credentials
from services.pricing.cost import check_price
from services.security.network import on_amazon
from services.types import PriceRef
from services.wire.framing import FramingError, SageMakerFramer
from tests.aws.frames import event


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tmp_path / "config"
    config.write_text(
        "[profile hangs]\ncredential_process = /bin/sleep 30\n"
        "[profile fine]\naws_access_key_id = AKIDEXAMPLE00\naws_secret_access_key = secret-of-the-tests-1234\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(credentials, "WAIT_S", 0.5)
    credentials.forget()


@pytest.mark.slow
async def test_a_profile_that_hangs_holds_up_no_other_and_is_named(profiles: None) -> None:
    hanging = asyncio.create_task(credentials.frozen_soon("hangs"))
    await asyncio.sleep(0.05)
    assert (await credentials.frozen_soon("fine")).access_key == "AKIDEXAMPLE00"
    assert not hanging.done(), "the other one did not wait for it"
    with pytest.raises(credentials.CredentialTrouble, match="“hangs” did not come within"):
        await hanging
    with pytest.raises(credentials.CredentialTrouble, match="“hangs” did not come within"):
        credentials.frozen("hangs")
    assert threading.active_count() < 60


@pytest.mark.parametrize(
    "url",
    [
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        "https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com",
        "https://bedrock-mantle.eu-west-1.api.aws/openai/v1",
        "https://runtime.sagemaker.us-east-1.amazonaws.com",
        "https://bedrock-runtime.cn-north-1.amazonaws.com.cn",
        "https://vpce-0ab12-3cd4.bedrock-runtime.us-east-1.vpce.amazonaws.com",
    ],
)
def test_the_services_own_hosts_may_be_signed_for(url: str) -> None:
    assert on_amazon(url)


@pytest.mark.parametrize(
    "url",
    [
        "https://abc.execute-api.us-east-1.amazonaws.com",
        "https://ec2-1-2-3-4.compute-1.amazonaws.com",
        "https://x.us-east-1.elb.amazonaws.com",
        "https://mybucket.s3.amazonaws.com",
        "https://x.amazonaws.com:8443",
        "http://bedrock-runtime.us-east-1.amazonaws.com",
        "https://bedrock-runtime.us-east-1.amazonaws.com.evil.test",
        "https://bedrock-runtime.us-east-1.amazonaws.com:8443",
        "https://evil.bedrock-runtime.us-east-1.amazonaws.com",
    ],
)
def test_hosts_that_anybody_can_own_are_not_signed_for(url: str) -> None:
    assert not on_amazon(url)


@pytest.mark.parametrize(
    "price",
    [
        PriceRef(per_hour="1", count=10**30),
        PriceRef(per_hour="600000", count=2),
        PriceRef(per_hour="1", count=0),
    ],
)
def test_a_price_that_no_record_could_hold_is_refused(price: PriceRef) -> None:
    with pytest.raises(ValueError, match="the price"):
        check_price(price)


@pytest.mark.parametrize("junk", [b"<html>Sign in</html>", b"\x00\x01\x02\xff", b"plain words"])
def test_a_container_that_writes_neither_events_nor_lines_is_no_empty_answer(junk: bytes) -> None:
    framer = SageMakerFramer()
    with pytest.raises(FramingError, match="neither server-sent events nor JSON lines"):
        framer.feed(event("PayloadPart", junk))
