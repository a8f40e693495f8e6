"""Reading one stream off a real socket: stamps where the bytes arrive, and an end only where the wire says so."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import perf_counter_ns
from typing import Any

import aiohttp
import pytest

from services.calls.stream import Ending, Progress, attempt, opened_session
from services.providers import kind_of
from services.types import Ask, Deployment, Message, Wire
from services.wire.stamps import StampedHandler
from tests.fake.fixture import FakeServer
from tests.fake.plan import golden
from tests.fake.scripts import WIRES, Script, truth

KINDS = {"messages": "anthropic", "responses": "openai", "chat": "openai-compatible"}
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
MS = 1_000_000


def deployment(url: str, wire: Wire = "chat", model: str = "fake") -> Deployment:
    return Deployment("d", "D", KINDS[wire], model, url if wire == "messages" else f"{url}/v1", wire)


async def read(session: aiohttp.ClientSession, to: Deployment, key: str | None = None) -> tuple[Ending, Progress]:
    kind = kind_of(to)
    progress = Progress(kind.decoder(to), to.limits)
    async with asyncio.timeout(30):
        ending = await attempt(session, kind, kind.request(to, Ask((Message("user", "Hi"),))), key, progress)
    return ending, progress


@asynccontextmanager
async def speaking(*parts: bytes | float, close: bool = True) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that writes those bytes to whoever asks, pausing for the numbers (seconds); with a stamp per write."""
    stamps: list[int] = []

    async def serve(incoming: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        await incoming.readuntil(b"\r\n\r\n")
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            stamps.append(perf_counter_ns())
            out.write(part)
            await out.drain()
        if close:
            out.close()
        else:
            await asyncio.sleep(60)

    server = await asyncio.start_server(serve, "127.0.0.1")
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", stamps


def chunk(text: str) -> bytes:
    return b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % text.encode()


END = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'


async def test_our_protocol_class_is_the_one_that_reads() -> None:
    """aiohttp has no public way to give one; if this fails, `stamped_connector` has to find another."""
    made: list[StampedHandler] = []
    original = StampedHandler.__init__

    def noted(self: StampedHandler, loop: object) -> None:
        made.append(self)
        original(self, loop)

    async with FakeServer() as fake, opened_session(None, 5) as session:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StampedHandler, "__init__", noted)
            ending, _ = await read(session, deployment(fake.url))
    assert ending.outcome == "ok"
    assert len(made) == 1
    assert made[0].headers_ns
    assert made[0].last_ns >= made[0].headers_ns


async def test_each_arrival_has_the_stamp_of_its_own_read() -> None:
    parts = (HEAD + b"\r\n", 0.05, chunk("a"), 0.05, chunk("b") + chunk("c"), 0.05, END)
    async with speaking(*parts) as (url, stamps), opened_session(None, 5) as session:
        ending, progress = await read(session, deployment(url))
    assert ending.outcome == "ok"
    a, b, c = progress.delta_ns
    assert b == c, "what came in one read has one stamp"
    assert a - stamps[1] >= 0
    assert b - a >= 40 * MS
    assert progress.headers >= stamps[0]
    assert progress.headers < stamps[1], "headers are stamped when they come, not when the reader wakes"
    assert progress.end >= stamps[3]


async def test_what_arrives_while_our_own_loop_is_busy_is_stamped_late_but_never_out_of_order() -> None:
    import time

    parts = (HEAD + b"\r\n" + chunk("a"), 0.02, chunk("b"), 0.02, chunk("c"), 0.02, END)
    async with speaking(*parts) as (url, _), opened_session(None, 5) as session:
        asking = asyncio.create_task(read(session, deployment(url)))
        for _ in range(20):
            await asyncio.sleep(0.005)
            time.sleep(0.01)
        ending, progress = await asking
    assert ending.outcome == "ok"
    order = [progress.handed, progress.t0, progress.headers, *progress.delta_ns, progress.end]
    assert order == sorted(order)


async def test_a_whole_answer_in_one_read_is_in_order_too() -> None:
    whole = HEAD + b"connection: close\r\n\r\n" + chunk("a") + chunk("b") + END
    for _ in range(30):
        async with speaking(whole) as (url, _), opened_session(None, 5) as session:
            ending, progress = await read(session, deployment(url))
        assert ending.outcome == "ok"
        order = [progress.t0, progress.headers, *progress.delta_ns, progress.end]
        assert order == sorted(order)


async def test_t0_is_after_the_connection_and_a_second_call_reuses_it() -> None:
    async with FakeServer() as fake, opened_session(None, 5) as session:
        _, first = await read(session, deployment(fake.url))
        _, second = await read(session, deployment(fake.url))
    assert first.connect_start <= first.connect_end <= first.t0
    assert not first.reused
    assert second.reused
    assert not second.connect_start
    assert fake.accepted == 1


async def test_times_agree_with_the_servers_own_stamps() -> None:
    script = Script(tokens=20, ttft=60.0, itl=15.0)
    for wire in WIRES:
        async with FakeServer() as fake, opened_session(None, 5) as session:
            ending, progress = await read(session, deployment(fake.url, wire, script.model()))
            written = fake.requests[0].content_ns
        assert ending.outcome == "ok"
        assert len(progress.delta_ns) == len(written) == len(truth(script, wire).deltas)
        assert all(mine >= theirs for mine, theirs in zip(progress.delta_ns, written, strict=True)), (
            "nothing is stamped before it was written"
        )


async def test_redirects_are_not_followed() -> None:
    async with FakeServer() as fake, opened_session(None, 5) as session:
        away = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: %s/v1/chat/completions\r\ncontent-length: 0\r\n\r\n"
        async with speaking(away % fake.url.encode()) as (url, _):
            ending, _ = await read(session, deployment(url), key="secret")
    assert ending.outcome not in ("ok", "max_tokens")
    assert not fake.requests


async def test_no_proxy_cookie_or_netrc_of_the_environment_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    async with FakeServer() as fake, opened_session(None, 5) as session:
        ending, _ = await read(session, deployment(fake.url))
    assert ending.outcome == "ok"
    assert "authorization" not in {name.lower() for name in fake.requests[0].headers}


async def test_a_body_compressed_against_our_wish_is_read() -> None:
    body = gzip.compress(chunk("Grüße 🙂") + END)
    head = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with speaking(head + body[:20], 0.02, body[20:]) as (url, _), opened_session(None, 5) as session:
        ending, progress = await read(session, deployment(url))
    assert (ending.outcome, "".join(progress.answer)) == ("ok", "Grüße 🙂")


async def test_an_answer_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.calls.stream.MAX_STREAM_BYTES", 50_000)
    parts = [HEAD + b"\r\n", *[chunk("x" * 900)] * 80]
    async with speaking(*parts, close=False) as (url, _), opened_session(None, 5) as session:
        ending, progress = await read(session, deployment(url))
    assert ending.outcome == "protocol_error"
    assert "50,000 bytes" in (ending.detail or "")
    assert progress.answer, "what came before is kept"


async def cut_everywhere(wire: Wire, close: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> None:
    """A server that cuts the stream at byte n of the n-th request."""
    script = Script(tokens=3, reasoning=2 if wire != "chat" else 0)
    raw, whole = golden(script, wire), truth(script, wire)
    cuts = iter(range(len(raw) + 1))

    async def serve(incoming: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
        head = await incoming.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await incoming.readexactly(length)
        out.write(HEAD + b"connection: close\r\n\r\n" + raw[: next(cuts)])
        await close(out)

    server = await asyncio.start_server(serve, "127.0.0.1")
    to = deployment(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", wire)
    succeeded_at: list[int] = []
    async with server, opened_session(None, 5) as session:
        for cut in range(len(raw) + 1):
            ending, progress = await read(session, to)
            answer = "".join(progress.answer)
            assert whole.answer.startswith(answer), f"cut at {cut}: {answer!r}"
            if ending.outcome in ("ok", "max_tokens"):
                succeeded_at.append(cut)
                assert answer == whole.answer
    assert succeeded_at, "the whole stream has to succeed"
    assert succeeded_at == list(range(succeeded_at[0], len(raw) + 1)), "once whole, always whole"
    seen = raw[: succeeded_at[0]]
    last = {"messages": b"message_stop", "responses": b"response.completed", "chat": b"[DONE]"}[wire]
    assert last in seen or (wire == "chat" and b'"finish_reason":"stop"' in seen and b'"usage":{' in seen)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_stream_cut_at_any_byte_is_never_taken_for_a_whole_one(wire: Wire) -> None:
    async def cleanly(out: asyncio.StreamWriter) -> None:
        await out.drain()
        out.close()

    await cut_everywhere(wire, cleanly)
