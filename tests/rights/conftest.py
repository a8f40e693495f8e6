"""One engine and its door for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest_asyncio
from aiohttp import web

from tests.engine.house import House, table
from tests.rights.door import SENT, SLOW, Door


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with House(tmp_path) as house:
        await house.declare(table("quick", SENT, house.fake.url), table("slow", SLOW, house.fake.url))
        runner = web.AppRunner(house.app())
        await runner.setup()
        socket = tmp_path / "engine.sock"
        await web.UnixSite(runner, str(socket)).start()
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket), limit=0)) as session:
            yield Door(house, session)
        await runner.cleanup()
