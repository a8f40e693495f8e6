"""The fake server has to be right before anything is judged by it: raw sockets, and its own stamps."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, get_args
from urllib.parse import quote

import httpx
import pytest

from services.types import Outcome, State
from tests.fake.client import PATH, body_of, raw, unchunked
from tests.fake.fixture import (
    FakeServer,
    FakeServerProcess,
    closed_address,
    fake_server,
    hanging_address,
)
from tests.fake.plan import golden, plan_for
from tests.fake.scripts import CONTENT, WIRES, Script, parse, truth, with_fault

__all__ = ["fake_server"]  # a fixture, used by name


@pytest.fixture(scope="module")
def process() -> Iterator[FakeServerProcess]:
    with FakeServerProcess() as running:
        yield running


# --- bytes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_whatever_cuts_or_dresses_the_bytes_leaves_the_body_as_named(fake_server: FakeServer, wire: Any) -> None:
    plain = golden(with_fault("ok", text="utf8"), wire)
    for fault, wanted in {
        "one_byte": plain,
        "split_utf8": plain,
        "crlf": plain.replace(b"\n", b"\r\n"),
        "cr": plain.replace(b"\n", b"\r"),
        "bom": b"\xef\xbb\xbf" + plain,
        "no_last_newline": plain.rstrip(b"\n"),
    }.items():
        response = await raw(fake_server, wire, with_fault(fault, text="utf8").model())
        assert unchunked(response) == (wanted, True), fault
    assert max(fake_server.requests[0].sizes[:-1]) == len(b"1\r\nx\r\n")


@pytest.mark.parametrize("wire", WIRES)
async def test_streams_that_break_off_break_off_as_named(fake_server: FakeServer, wire: Any) -> None:
    whole = golden(with_fault("ok"), wire)
    for fault, ended in (("clean_eof", True), ("fin", False), ("drop", False)):
        response = await raw(fake_server, wire, with_fault(fault).model())
        head, _, rest = response.partition(b"\r\n\r\n")
        assert b"200" in head and rest.endswith(b"0\r\n\r\n") is ended
        got = b"".join(s.data for s in plan_for(with_fault(fault), wire).steps)
        assert whole.startswith(got) and 0 < len(got) < len(whole)
        assert sum(1 for m in fake_server.requests[-1].marks if m in CONTENT) == 5
    with pytest.raises(ConnectionResetError):
        await raw(fake_server, wire, with_fault("rst").model())


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_can_be_cut_after_any_byte(fake_server: FakeServer, wire: Any) -> None:
    script = Script(tokens=2, ttft=0, itl=0, text="utf8")
    whole = golden(script, wire)
    for cut in (0, 1, len(whole) // 2, len(whole) - 1, len(whole)):
        response = await raw(fake_server, wire, f"{script.model()}&cut={cut}")
        assert unchunked(response) == (whole[:cut], False)
    assert truth(f"{script.model()}&cut={len(whole) - 40}", wire).states == ("cut_off", "failed")


async def test_gzip_is_used_only_when_the_client_takes_it(fake_server: FakeServer) -> None:
    model, expected = with_fault("gzip").model(), golden(with_fault("ok"), "chat")
    squeezed = await raw(fake_server, "chat", model, "accept-encoding: gzip")
    assert b"content-encoding: gzip" in squeezed
    body = gzip.decompress(unchunked(squeezed)[0])
    assert body.startswith(b"data: ") and body.endswith(b"data: [DONE]\n\n")
    assert unchunked(await raw(fake_server, "chat", model, "accept-encoding: identity"))[0] == expected


async def test_retry_after_comes_as_seconds_and_as_a_date_and_quota_has_none(fake_server: FakeServer) -> None:
    async with httpx.AsyncClient(base_url=fake_server.url) as client:

        async def post(model: str) -> httpx.Response:
            return await client.post("/v1/responses", json=body_of(model))

        assert (await post(with_fault("http_429", retry_after=3).model())).headers["retry-after"] == "3"
        assert (await post(with_fault("http_429_date").model())).headers["retry-after"].endswith("GMT")
        quota = await post(with_fault("quota_429").model())
        assert "retry-after" not in quota.headers and quota.json()["error"]["code"] == "insufficient_quota"


async def test_usage_comes_in_chat_only_when_it_was_asked_for(fake_server: FakeServer) -> None:
    async with httpx.AsyncClient(base_url=fake_server.url) as client:
        without = await client.post(PATH["chat"], json={"model": "fake", "stream": True})
        refused = await client.post(PATH["chat"], json=body_of(with_fault("stream_options_400").model()))
        spared = await client.post(
            PATH["chat"], json={"model": with_fault("stream_options_400").model(), "stream": True}
        )
    assert spared.status_code == 200 and spared.content.endswith(b"data: [DONE]\n\n")
    assert b"usage" not in without.content and without.content.endswith(b"data: [DONE]\n\n")
    assert refused.status_code == 400


# --- time ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
async def test_every_write_is_stamped_in_order_and_never_before_its_time(fake_server: FakeServer, wire: Any) -> None:
    script = Script(tokens=6, reasoning=3, ttft=6.0, itl=3.0, late_usage=8.0, headers=2.0)
    before = time.perf_counter_ns()
    await raw(fake_server, wire, script.model())
    after = time.perf_counter_ns()
    record, expected = fake_server.requests[0], truth(script, wire)
    stamps = [before, record.first_byte_ns, record.received_ns, record.head_ns, *record.stamps, record.end_ns, after]
    assert stamps == sorted(stamps)
    assert len(record.content_ns) == len(expected.deltas) == 9
    for stamp, delta in zip(record.content_ns, expected.deltas, strict=True):
        assert stamp - record.received_ns >= delta.at_ms * 1e6 - 50_000
    assert expected.ttft_ms == 6.0 and expected.ttfat_ms == 15.0 and expected.ttlt_ms == 30.0
    assert record.terminal_ns - record.received_ns >= 38e6 - 50_000
    assert expected.gaps_ms == (3.0,) * 8


async def test_a_client_that_leaves_is_stamped_at_once_and_nothing_is_sent_after(fake_server: FakeServer) -> None:
    asked = body_of(with_fault("endless").model())
    async with (
        httpx.AsyncClient(base_url=fake_server.url) as client,
        client.stream("POST", PATH["chat"], json=asked) as response,
    ):
        async for _ in response.aiter_raw():
            break
        assert fake_server.live == 1
    await fake_server.until(lambda: fake_server.requests[0].done)
    record = fake_server.requests[0]
    assert record.aborted and record.disconnect_ns >= record.stamps[-1] and not record.terminal_ns
    written = len(record.stamps)
    await asyncio.sleep(0.02)
    assert len(record.stamps) == written and fake_server.live == 0


@pytest.mark.slow
async def test_a_stall_and_a_drip_keep_the_connection_open_without_content(fake_server: FakeServer) -> None:
    for fault, silent in (("stall", True), ("drip", False), ("header_stall", True), ("first_token_stall", True)):
        with pytest.raises(httpx.ReadTimeout if silent else TimeoutError):
            async with asyncio.timeout(0.3), httpx.AsyncClient(timeout=0.1) as client:
                await client.post(fake_server.url + PATH["messages"], json=body_of(with_fault(fault).model()))
        await fake_server.until(lambda: fake_server.requests[-1].done)
        record = fake_server.requests[-1]
        assert record.aborted and len(record.content_ns) == (5 if fault in {"stall", "drip"} else 0)
        assert (record.head_ns == 0) is (fault == "header_stall")
    assert fake_server.requests[1].marks.count("keepalive") > 5


async def test_a_slow_reader_delays_only_itself(fake_server: FakeServer) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", fake_server.port, limit=1024)
    body = json.dumps(body_of("fake?fault=huge_line")).encode()
    writer.write(f"POST /v1/messages HTTP/1.1\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    other = await raw(fake_server, "chat", with_fault("ok").model())
    assert unchunked(other)[1]
    received = 0
    while received < 2_000_000:
        received += len(await reader.read(65536))
    writer.close()


# --- addresses, log, control -----------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_one_address_never_connects_and_one_refuses() -> None:
    with hanging_address() as url, pytest.raises(httpx.ConnectTimeout):
        async with httpx.AsyncClient(timeout=0.2) as client:
            await client.get(url)
    with closed_address() as url, pytest.raises(httpx.ConnectError):
        async with httpx.AsyncClient(timeout=0.2) as client:
            await client.get(url)


async def test_a_followed_redirect_and_a_fetched_image_are_canary_hits(fake_server: FakeServer) -> None:
    async with httpx.AsyncClient(base_url=fake_server.url) as client:
        response = await client.post(PATH["chat"], json=body_of(with_fault("redirect_302").model()))
        assert response.status_code == 302 and fake_server.canary_hits == []
        await client.post(PATH["chat"], json=body_of(with_fault("redirect_307").model()), follow_redirects=True)
        await client.get("/steal.png?d=secret")
    assert [(h.method, h.path) for h in fake_server.canary_hits] == [
        ("POST", "/canary/redirect"),
        ("GET", "/steal.png?d=secret"),
    ]


async def test_connections_are_kept_and_chunked_request_bodies_are_read(fake_server: FakeServer) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b'{"model":"fake","str'
        yield b'eam":true}'

    async with httpx.AsyncClient(base_url=fake_server.url) as client:
        for _ in range(3):
            await client.post(PATH["chat"], content=parts())
    assert fake_server.accepted == 1 and [r.connection for r in fake_server.requests] == [1, 1, 1]


async def test_a_queued_script_and_a_key_overrule_the_model_name(fake_server: FakeServer) -> None:
    fake_server.enqueue(Script(text="exactly this, once", ttft=0, itl=0), wire="chat")
    first = await raw(fake_server, "messages", "fake?tokens=1")
    second = await raw(fake_server, "chat", "whatever")
    third = await raw(fake_server, "chat", "whatever")
    assert b'"the"' in first and b"exactly" in second and third.startswith(b"HTTP/1.1 404")
    fake_server.key = "right"
    assert (await raw(fake_server, "chat", "fake")).startswith(b"HTTP/1.1 401")
    assert (await raw(fake_server, "chat", "fake", "authorization: Bearer right")).startswith(b"HTTP/1.1 200")


@pytest.mark.slow
def test_its_own_process_serves_reports_and_resets(process: FakeServerProcess) -> None:
    before = time.perf_counter_ns()
    httpx.post(process.url + PATH["responses"], json=body_of("fake?tokens=3&itl=1"))
    httpx.get(f"{process.url}/pixel.gif")
    log = process.control("requests?since=0")
    (record,) = log["requests"]
    assert before <= record["received_ns"] <= record["writes"][0][0] <= log["now_ns"] <= time.perf_counter_ns()
    assert [mark for _, mark, _ in record["writes"]].count("answer") == 3 and record["done"]
    assert [hit["path"] for hit in process.control("canary")] == ["/pixel.gif"]
    assert process.control("enqueue", {"models": ["fake?status=503"]}) == {"queued": 1}
    assert httpx.post(process.url + PATH["chat"], json=body_of("fake")).status_code == 503
    process.control("reset", {})
    assert process.control("stats")["hits"] == 0 and process.control("canary") == []


def test_its_process_ends_when_told() -> None:
    with FakeServerProcess() as running:
        os.kill(running.process.pid, signal.SIGTERM)
        assert running.process.wait(10) == 0


# --- the registry ----------------------------------------------------------------------------------------------------


def test_every_fault_builds_on_each_of_its_wires_and_speaks_our_vocabulary() -> None:
    from tests.fake.faults import FAULTS

    for name, spec in FAULTS.items():
        assert spec.wires and set(spec.wires) <= set(WIRES)
        for wire in spec.wires:
            assert set(spec.outcomes_on(wire)) <= set(get_args(Outcome)), name
            assert set(spec.states_on(wire)) <= set(get_args(State)), name
            expected, healthy = truth(spec.model(), wire), truth(with_fault("ok"), wire)
            kept = expected.answer + expected.reasoning + expected.tool
            if spec.address == "server" and spec.change and spec.text == "partial":
                assert 0 < len(kept) <= len(healthy.answer), name
            if spec.text == "none" and spec.reply:
                assert kept == "", name


def test_a_model_name_says_all_of_a_script_and_rejects_what_it_does_not_know() -> None:
    script = Script(fault="stall", at=5, tokens=40, ttft=100.5, text="a b?&=%", chunk="3-1", cut=7, end="rst")
    assert parse(script.model()) == script
    assert parse("fake?text=" + quote("one two")).words() == ["one", " two"]
    with pytest.raises(ValueError, match="no option"):
        parse("fake?tokans=3")
