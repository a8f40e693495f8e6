"""A notice really arrives, at a web server and at a mail server, and what is said about it holds no address."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from services import alerts
from services.security import keys
from tests.sinks import Mailbox, Webhook

SENTENCE = "Error rate was 12 % over the last 15 min (40 calls): above 5 %."


async def send(target: str) -> alerts.Delivery:
    return await asyncio.to_thread(alerts.send, target, SENTENCE)


async def test_a_webhook_receives_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Webhook() as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        found = await send("ALERT_WEBHOOK")
        assert found == alerts.Delivery(True, "sent to ALERT_WEBHOOK")
        assert [(one["title"], one["message"]) for one in hook.received] == [("Inference Lab", SENTENCE)]


async def test_a_mailbox_receives_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Mailbox() as box:
        monkeypatch.setenv("ALERT_MAIL", box.address)
        found = await send("ALERT_MAIL")
        assert found.ok, found
        assert box.to == ["ops@example.org"]
        mail = box.received[0]
        texts = [part.get_payload(decode=True) for part in mail.walk() if not part.is_multipart()]
        assert mail["Subject"] == "Inference Lab"
        assert any(SENTENCE.encode() in text for text in texts if isinstance(text, bytes))


async def test_a_refusal_says_its_number_and_nothing_of_the_address(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # A handler like the engine's: pytest's own also listens to loggers that hand nothing on.
    log = logging.FileHandler(tmp_path / "engine.log")
    monkeypatch.setattr(logging.getLogger(), "handlers", [log])
    monkeypatch.setattr(logging.getLogger(), "level", logging.DEBUG)
    async with Webhook(500) as hook:
        monkeypatch.setenv("ALERT_WEBHOOK", hook.address)
        found = await send("ALERT_WEBHOOK")
        port = hook.address.rsplit(":", 1)[1].partition("/")[0]
    assert found == alerts.Delivery(False, "ALERT_WEBHOOK did not accept it (500)", again=True)
    gone = await send("ALERT_WEBHOOK")
    assert gone == alerts.Delivery(False, "ALERT_WEBHOOK did not accept it (no connection)", again=True)
    logging.getLogger("lab").warning("it is written")
    said = (tmp_path / "engine.log").read_text()
    assert "it is written" in said and "a-secret-path" not in said and f":{port}" not in said


@pytest.mark.parametrize("value", ["sk-not-an-address-1234567", "postgresql://lab@host/db", "http://169.254.169.254/"])
async def test_what_is_no_address_is_not_sent_to_and_not_repeated(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("ALERT_ODD", value)
    found = await send("ALERT_ODD")
    assert found == alerts.Delivery(False, "ALERT_ODD does not hold an address that can be sent to")


async def test_a_variable_that_is_not_an_alert_s_is_never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Webhook() as hook:
        monkeypatch.setenv("MY_HOOK", hook.address)
        found = await send("MY_HOOK")
        assert not found.ok and not found.again and not hook.received
    monkeypatch.delenv("ALERT_WEBHOOK", raising=False)
    assert (await send("ALERT_WEBHOOK")).words == "ALERT_WEBHOOK is not set any more, so nothing was sent to it"


def test_targets_are_names_and_their_values_are_kept_out_of_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALERT_B", "json://host.example/secret-b-path")
    monkeypatch.setenv("ALERT_A", "json://host.example/secret-a-path")
    monkeypatch.setenv("ALERT_EMPTY", " ")
    assert [name for name in alerts.targets() if name != "ALERT_WEBHOOK"] == ["ALERT_A", "ALERT_B"]
    assert keys.scrub("to json://host.example/secret-a-path") == "to [hidden]"
