"""Uploads are for visitors who are there, are bounded for each and in all, and go when the visitor goes."""

from __future__ import annotations

import asyncio
import uuid

import aiohttp
import pytest

from tests.web.conftest import TOTAL_BYTES, VISITOR_BYTES, Pages, Visitor, kept_bytes

pytestmark = pytest.mark.slow

MB = 1_000_000


async def until_kept(pages: Pages, client: aiohttp.ClientSession, wanted: int) -> None:
    async with asyncio.timeout(30):
        while await kept_bytes(pages, client) != wanted:
            await asyncio.sleep(0.2)


async def test_nobody_uploads_for_a_session_that_is_not_there(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        visitor = await Visitor(pages, client).come()
        statuses = [
            await visitor.upload(1000, "a", session=session)
            for session in (str(uuid.uuid4()), "x", "..%2f..", visitor.session.upper())
        ]
        assert statuses == [400] * 4
        await visitor.ws.close()
        async with asyncio.timeout(10):
            while await visitor.upload(1000, "a") != 400:
                await asyncio.sleep(0.05)
        await until_kept(pages, client, 0)


async def test_a_visitor_keeps_the_newest_files_up_to_a_limit(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        visitor = await Visitor(pages, client).come()
        for number in range(6):
            assert await visitor.upload(MB, f"file-{number}") == 204
        assert 2 * MB < await kept_bytes(pages, client) <= VISITOR_BYTES
        assert await visitor.upload(VISITOR_BYTES + MB, "too-large") == 413
        for number in range(300):
            assert await visitor.upload(0, f"empty-{number}") == 204
        await visitor.ws.close()
        await until_kept(pages, client, 0)


async def test_all_visitors_together_are_bounded_and_those_who_left_make_room(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        first, second, third = [await Visitor(pages, client).come() for _ in range(3)]
        assert await first.upload(3 * MB, "a") == 204
        assert await second.upload(3 * MB, "b") == 204
        assert TOTAL_BYTES < 9 * MB
        assert await third.upload(3 * MB, "c") == 507
        await second.ws.close()
        async with asyncio.timeout(10):
            while await third.upload(3 * MB, "c") != 204:
                await asyncio.sleep(0.05)
        await first.ws.close()
        await third.ws.close()
        await until_kept(pages, client, 0)


async def test_a_file_that_was_still_coming_in_when_its_visitor_left_goes_too(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        visitor = await Visitor(pages, client).come()
        reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
        first = b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n' + b"x" * 1000
        last = b"\r\n--b--\r\n"
        length = len(first + last)
        expect = {"Expect": "100-continue", "Content-Type": "multipart/form-data; boundary=b"}
        writer.write(put(pages, visitor, expect | {"Content-Length": str(length)}))
        async with asyncio.timeout(10):
            assert b" 100 " in await reader.readline()  # it is being read
            await reader.readline()
            await visitor.ws.close()
            writer.write(first)
            while await visitor.upload(10, "later") != 400:
                await asyncio.sleep(0.05)
            writer.write(last)
            assert b" 204 " in await reader.readline()
            assert await kept_bytes(pages, client) >= 1000
        writer.close()
        await until_kept(pages, client, 0)


def put(pages: Pages, visitor: Visitor, headers: dict[str, str]) -> bytes:
    """The head of an upload."""
    lines = [f"PUT /_stcore/upload_file/{visitor.session}/x HTTP/1.1", f"Host: 127.0.0.1:{pages.port}"]
    lines += [f"{name}: {value}" for name, value in (visitor.headers | headers).items()]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_what_is_refused_is_refused_before_its_body(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        visitor = await Visitor(pages, client).come()
        lengths = (("300000000", 413), (str(VISITOR_BYTES + 1), 413), ("-1", 400), ("1e3", 400), ("5, 6", 400))
        for length, status in lengths:
            reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
            writer.write(put(pages, visitor, {"Content-Length": length}))
            async with asyncio.timeout(10):
                assert f" {status} ".encode() in await reader.readline(), length
            writer.close()
        # One that does not say how long it is may be as long as any other, and is cut there.
        for size, status in ((1000, 204), (6 * MB, 413)):
            reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
            chunked = {"Transfer-Encoding": "chunked", "Content-Type": "multipart/form-data; boundary=b"}
            body = (
                b'--b\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n'
                + b"x" * size
                + b"\r\n--b--\r\n"
            )
            writer.write(put(pages, visitor, chunked))
            writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n")
            async with asyncio.timeout(10):
                assert f" {status} ".encode() in await reader.readline(), size
            writer.close()
        await visitor.ws.close()


async def test_an_upload_that_drips_or_stops_is_given_up(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        visitor = await Visitor(pages, client).come()
        form = {"Content-Type": "multipart/form-data; boundary=b", "Content-Length": "100000"}
        head = put(pages, visitor, form)
        head += b'--b\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\n\r\n'
        for pause_s in (0.1, 60.0):
            start = len(pages.log.read_text())
            reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
            writer.write(head)

            async def drip(writer: asyncio.StreamWriter = writer, pause_s: float = pause_s) -> None:
                while True:
                    writer.write(b"x")
                    await asyncio.sleep(pause_s)

            dripping = asyncio.create_task(drip())
            async with asyncio.timeout(20):
                assert b" 408 " in await reader.readline()
            dripping.cancel()
            writer.close()
            assert "Traceback" not in pages.logged_since(start)
        # One whose sender goes in the middle is no fault of ours either.
        start = len(pages.log.read_text())
        reader, writer = await asyncio.open_connection("127.0.0.1", pages.port)
        writer.write(head)
        await writer.drain()
        writer.transport.abort()
        assert await visitor.upload(1000, "fine") == 204
        assert "Traceback" not in pages.logged_since(start)
        await visitor.ws.close()
