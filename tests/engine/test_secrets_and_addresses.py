"""Keys stay where they belong, and requests go only where they may."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from services.engine.api import probe
from tests.engine.house import KEY, KEY_NAME, House, frames_of, table
from tests.test_reader import speaking

QUICK = "fake?tokens=3&itl=1&ttft=1"


BEFORE = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n"
INSIDE = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"


def echoes() -> dict[str, bytes]:
    """Answers of a careless service that repeats the key it was given."""
    error = orjson.dumps({"error": {"message": f"bad key {KEY}", "type": KEY, "code": f"x-{KEY}"}})
    chunk = orjson.dumps({"id": KEY, "model": f"m-{KEY}", "choices": [{"index": 0, "delta": {"content": "a"}}]})
    usage = orjson.dumps({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 5, "note": KEY}})
    done = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: ' + usage + b"\n\n"
    return {
        "before": BEFORE + error,
        "inside": INSIDE + b"data: " + chunk + b"\n\ndata: " + error + b"\n\n",
        "finish": INSIDE + b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"' + KEY.encode() + b'"}]}\n\n',
        "answer": INSIDE + b"".join(_said(piece) for piece in ("it is ", KEY[:7], KEY[7:], " indeed", KEY[:10])) + done,
        "not json": INSIDE + b"data: " + KEY.encode() + b"\n\n",
    }


def _said(piece: str) -> bytes:
    return b"data: " + orjson.dumps({"choices": [{"index": 0, "delta": {"content": piece}}]}) + b"\n\n"


@pytest.mark.parametrize("where", sorted(echoes()))
async def test_a_key_that_the_service_repeats_reaches_no_row_no_frame_and_no_log(
    house: House, where: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level("DEBUG")
    async with speaking(echoes()[where]) as (url, _):
        await house.declare(table("a", QUICK, url, key_env=KEY_NAME))
        run = await house.start("a")
        frames = await frames_of(run)
        row = (await house.over(run))[0]
    assert row["state"] in ("succeeded" if where == "answer" else "failed", "cut_off", "refused")
    if where == "answer":
        assert row["answer"] == "it is [hidden] indeed[hidden]"
    assert KEY not in orjson.dumps(frames).decode()
    assert KEY not in orjson.dumps(row, default=repr).decode()
    assert KEY not in caplog.text
    await house.close()
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    await house.open()


async def test_the_key_is_in_no_byte_of_the_records(tmp_path: Path) -> None:
    async with House(tmp_path) as house:
        await house.declare(
            table("a", QUICK, house.fake.url, "messages"),
            table("b", "fake?fault=http_401", house.fake.url, "responses"),
        )
        await house.ask("ab")
        assert KEY in "".join(house.fake.requests[0].headers.values()), "it was sent"
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes(), file.name


async def test_a_missing_key_is_told_by_its_name_and_nothing_is_sent(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOBODY_SET_THIS_KEY", raising=False)
    await house.declare(table("a", QUICK, house.fake.url, "messages", key_env="NOBODY_SET_THIS_KEY"))
    row = (await house.ask("a"))[0]
    assert row["outcome"] == "config_error"
    assert "NOBODY_SET_THIS_KEY" in row["message"]
    assert not house.fake.requests
    status = house.engine.registry.status(house.engine.registry.find("a"))  # type: ignore[arg-type]
    assert (status.ready, status.needs) == (False, "needs NOBODY_SET_THIS_KEY")


async def test_a_key_goes_to_no_host_that_it_is_not_bound_to(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-of-this-test-only-0123456789")
    await house.declare(table("a", QUICK, "http://localhost:9", "messages", key_env="ANTHROPIC_API_KEY"))
    # Added on the page, where a person could otherwise point somebody else's key at a host of their own.
    found = house.engine.registry.find("a")
    assert found is not None
    with pytest.raises(ValueError, match="ANTHROPIC_API_KEY"):
        await house.engine.registry.save(replace(found, id="", name="thief", base_url=house.fake.url, origin="page"))
    assert not house.fake.requests


@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    [
        "http://169.254.169.254",
        "http://[fe80::1]",
        "http://[::ffff:169.254.169.254]",
        "http://2852039166",
        "http://metadata.google.internal",
        "http://100.100.100.200",
    ],
)
async def test_metadata_addresses_are_refused_in_a_sentence(house: House, address: str) -> None:
    house.file.write_text(table("a", QUICK, address))
    house.engine.registry._stamp = -1.0
    await house.engine.registry.refresh()
    if house.engine.registry.trouble is not None:
        assert house.engine.registry.trouble.endswith(".")
        return
    row = (await house.ask("a"))[0]
    assert row["outcome"] in ("config_error", "unreachable")
    assert row["t0_ms" if "t0_ms" in row else "ttfb_ms"] is None
    assert row["message"].endswith(".")


async def test_a_name_that_leads_to_a_private_address_is_refused(house: House) -> None:
    # localtest-like names resolve to loopback; "localhost" by another spelling is one that every machine has.
    house.file.write_text("[network]\nallow_private_hosts = []\n\n" + table("a", QUICK, "http://localhost.:9"))
    house.engine.registry._stamp = -1.0
    await house.engine.registry.refresh()
    if house.engine.registry.find("a") is not None:
        row = (await house.ask("a"))[0]
        assert row["state"] == "failed"
        assert row["message"].endswith(".")


async def test_the_connection_test_answers_its_four_questions(house: House) -> None:
    await house.declare(
        table("good", "fake?tokens=3&cached=4", house.fake.url, "messages"),
        table("wrong-key", "fake?fault=http_401", house.fake.url, "messages"),
        table("no-model", "fake?fault=http_404", house.fake.url),
        table("nowhere", QUICK, "http://127.0.0.1:9"),
    )
    said = {name: await probe(house.engine, name, "ada") for name in ("good", "wrong-key", "no-model", "nowhere")}
    good = said["good"]
    assert (good["ok"], good["reachable"], good["authorised"], good["model_exists"]) == (True, True, True, True)
    assert good["capabilities"]["streams"]
    assert good["capabilities"]["reports_cached_tokens"]
    assert (said["wrong-key"]["reachable"], said["wrong-key"]["authorised"]) == (True, False)
    assert (said["no-model"]["authorised"], said["no-model"]["model_exists"]) == (True, False)
    assert (said["nowhere"]["ok"], said["nowhere"]["reachable"]) == (False, False)
    assert all(verdict["sentence"].endswith(".") for verdict in said.values())
    with pytest.raises(ValueError, match="not known"):
        await probe(house.engine, "nobody", "ada")
    rows = house.calls(good["run_id"])
    assert [row["source"] for row in rows] == ["test"]


async def test_a_model_that_is_still_thinking_when_the_test_ends_is_there(house: House) -> None:
    await house.declare(table("thinking", "fake?fault=all_reasoning", house.fake.url))
    said = await probe(house.engine, "thinking", "ada")
    assert said["ok"], said
    assert said["model_exists"]
