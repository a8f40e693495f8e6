"""Sockets and requests that are there to hold something: each ends soon, and is one line in the log at most."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from tests.web.conftest import SILENT, SOCKETS, STRANGERS, UNASKED, Pages, Visitor, first_line

pytestmark = pytest.mark.slow

UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nOrigin: http://localhost\r\n\r\n"
)


async def end_of(ws: aiohttp.ClientWebSocketResponse) -> int | None:
    async with asyncio.timeout(20):
        while (message := await ws.receive()).type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
            pass
    return message.data if message.type is aiohttp.WSMsgType.CLOSE else None


async def test_a_bad_first_message_is_one_line_in_the_log_and_a_clean_close(pages: Pages) -> None:
    bad: dict[str, tuple[bytes, int, int]] = {  # what is sent, its opcode, how the board closes
        "binary": (b"\x00", 2, 4400),
        "empty": (b"", 1, 4400),
        "no JSON": (b"hello", 1, 4400),
        "deep": (b"[" * 60_000, 1, 4400),
        "numbers as keys": (b"{1:2}", 1, 4400),
        "a list": (b"[]", 1, 4400),
        "half a letter": (b'"\xff\xfe"', 1, 1007),
        "half a pair": (b'{"token":"\\ud800"}', 1, 4400),
        "large": (b"x" * 70_000, 1, 1009),
        "no token": (b"{}", 1, 4401),
        "an object as token": (b'{"token":{"a":[1]}}', 1, 4401),
        "odd letters": ('{"token":"é.ü"}'.encode(), 1, 4401),
        "a huge number": (b'{"token":"x","have":' + b"9" * 5000 + b"}", 1, 4400),
    }
    wrong = []
    async with aiohttp.ClientSession() as client:
        for name, (data, opcode, code) in bad.items():
            start = len(pages.log.read_text())
            ws = await client.ws_connect(f"{pages.base}/api/board/run-1", headers={"Origin": pages.base})
            await ws._writer.send_frame(data, opcode)  # type: ignore[attr-defined]
            if (got := await end_of(ws)) != code:
                wrong.append((name, got))
            logged = pages.logged_since(start)
            if "Traceback" in logged or logged.count("\n") > 1:
                wrong.append((name, logged))
        for data, opcode, code in ((b"text", 1, 1003), (b"\xff" * 99, 2, 1002)):
            start = len(pages.log.read_text())
            ws = await client.ws_connect(f"{pages.base}/_stcore/stream", headers={"Origin": pages.base})
            await ws._writer.send_frame(data, opcode)  # type: ignore[attr-defined]
            if (got := await end_of(ws)) != code:
                wrong.append((str(data), got))
            logged = pages.logged_since(start)
            if "Traceback" in logged or logged.count("\n") != 1:
                wrong.append((str(data), logged))
    assert not wrong


async def test_a_message_in_pieces_counts_as_one_and_one_without_end_is_cut(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        ws = await client.ws_connect(f"{pages.base}/api/board/run-1", headers={"Origin": pages.base})
        transport = ws._writer.transport  # type: ignore[attr-defined]
        mask = b"\0\0\0\0"
        transport.write(b"\x01\xfe" + (40_000).to_bytes(2, "big") + mask + b"x" * 40_000)
        transport.write(b"\x80\xfe" + (40_000).to_bytes(2, "big") + mask + b"x" * 40_000)
        assert await end_of(ws) == 1009
        ws = await client.ws_connect(f"{pages.base}/_stcore/stream", headers={"Origin": pages.base})
        transport = ws._writer.transport  # type: ignore[attr-defined]
        transport.write(b"\x02\x80" + mask + (b"\x00\x80" + mask) * 5_000)
        assert await end_of(ws) == 1009
        ws = await client.ws_connect(f"{pages.base}/_stcore/stream", headers={"Origin": pages.base})
        transport = ws._writer.transport  # type: ignore[attr-defined]
        transport.write(b"\x82\xff" + (21 * 2**20).to_bytes(8, "big") + mask)  # the size alone is enough
        assert await end_of(ws) == 1009


async def test_sockets_that_say_nothing_end_within_seconds(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        for path in ("/api/board/run-1", "/_stcore/stream"):
            ws = await client.ws_connect(pages.base + path, headers={"Origin": pages.base})
            assert await end_of(ws) in (4400, 1008), path


async def test_a_crowd_that_says_nothing_keeps_nobody_out(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        for path, few, gave_way, spoke in (
            ("/api/board/x", STRANGERS, 4400, 4401),
            ("/_stcore/stream", SILENT, 1008, 1003),
        ):
            crowd = [await client.ws_connect(pages.base + path, headers={"Origin": pages.base}) for _ in range(few + 3)]
            assert [await end_of(ws) for ws in crowd[:3]] == [gave_way] * 3
            # The newest had its place meanwhile: it is answered for what it says, not for its silence.
            await crowd[-1].send_str("{}")
            assert await end_of(crowd[-1]) == spoke
            for ws in crowd:
                await ws.close()
    idle = [await asyncio.open_connection("127.0.0.1", pages.port) for _ in range(UNASKED + 20)]
    answer = await first_line(pages, b"GET /_stcore/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for _, writer in idle:
        writer.close()
    assert answer == b"HTTP/1.1 200 OK"


async def test_sockets_are_bounded_in_all_and_room_comes_back(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        inside, refused = [], []
        for _ in range(SOCKETS + 5):
            try:
                inside.append((await Visitor(pages, client).come()).ws)
            except aiohttp.WSServerHandshakeError as error:
                refused.append(error.status)
        assert len(inside) <= SOCKETS
        assert set(refused) == {429}
        for ws in inside:
            await ws.close()
        async with asyncio.timeout(20):
            while True:
                try:
                    await (
                        await client.ws_connect(f"{pages.base}/_stcore/stream", headers={"Origin": pages.base})
                    ).close()
                    break
                except aiohttp.WSServerHandshakeError:
                    await asyncio.sleep(0.05)


@pytest.mark.parametrize("head", [b"GET / HT", b"", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: b\r\n"])
async def test_a_request_whose_head_does_not_end_is_given_up(pages: Pages, head: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
    writer.write(head)
    async with asyncio.timeout(20):
        assert await reader.read() == b""
    writer.close()


async def test_a_head_without_measure_and_a_body_that_nobody_reads_end(pages: Pages) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 200_000)
    async with asyncio.timeout(20):
        assert b" 400 " in await reader.readline()
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
    writer.write(b"POST /_stcore/agent/interact HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n")

    async def drip() -> None:
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(20):
        answer = await reader.read()
    dripping.cancel()
    await asyncio.gather(dripping, return_exceptions=True)
    assert answer.startswith(b"HTTP/1.1 ") and b" 200 " not in answer.splitlines()[0]


async def test_answers_to_pings_that_nobody_reads_do_not_pile_up(pages: Pages) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
    writer.write(UPGRADE.format(path="/_stcore/stream").encode())
    await reader.readuntil(b"\r\n\r\n")
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    ping = b"\x89\xfd\0\0\0\0" + b"p" * 125
    with pytest.raises((ConnectionError, TimeoutError)):
        async with asyncio.timeout(20):
            for _ in range(2_000):
                writer.write(ping * 200)
                await writer.drain()
    writer.close()


def test_the_process_may_open_as_many_files_as_the_machine_lets_it(pages: Pages) -> None:
    limits = Path(f"/proc/{pages.process.pid}/limits")
    if not limits.exists():
        pytest.skip("only Linux tells")
    line = next(line for line in limits.read_text().splitlines() if line.startswith("Max open files"))
    soft, hard = line.split()[3:5]
    assert soft == hard or int(soft) >= 65_536
