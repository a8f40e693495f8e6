"""The engine's HTTP app on a Unix socket, as the pages reach it, for tests that speak as several people."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import aiohttp

from tests.engine.house import House

SENT, SLOW = "fake?tokens=2&ttft=1&itl=1", "fake?tokens=400&ttft=20&itl=20"


class Door:
    """The engine's HTTP app on a Unix socket, and a client of it."""

    def __init__(self, house: House, session: aiohttp.ClientSession) -> None:
        self.house, self.session = house, session

    async def ask(
        self, person: str, role: str, method: str, path: str, body: dict[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        head = {"x-lab-person": person, "x-lab-role": role}
        async with self.session.request(method, f"http://engine{path}", json=body or {}, headers=head) as answer:
            said = await answer.json()
            return answer.status, said if isinstance(said, dict) else {}

    async def write(self, unit: Callable[..., Any], **values: Any) -> Any:
        return await self.house.engine.writer.write(lambda session: unit(session=session, **values))
