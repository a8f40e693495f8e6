"""A person's name on its way to the engine: whole, on one line, and nobody else's."""

from __future__ import annotations

import asyncio
import unicodedata
from pathlib import Path

from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from services.client import EngineClient
from services.engine import requests
from services.security import access

ADA = [
    "ada@example.com",
    "äda@example.com",
    "öda@example.com",
    "\u0430da@example.com",
    "アダ@example.com",
    "ada+x@e.org",
]
ODD = ["a\nb@x", "%41@x", "a b (https://x/?a=1&b=2)", "é" * 500, "x" * 199 + "y", "x" * 199 + "zz", "x" * 199 + "zy"]


async def test_the_engine_knows_each_person_by_a_name_of_their_own(tmp_path: Path) -> None:
    async def who(request: web.Request) -> web.Response:
        return requests.answer({"person": requests.may(request, "look")})

    app = web.Application()
    app.router.add_get("/who", who)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "e.sock")).start()
    try:
        names = []
        for name in (*ADA, *ODD):
            client = EngineClient(tmp_path / "e.sock", person=name)
            names.append((await _in_thread(client))["person"])
            client.close()
    finally:
        await runner.cleanup()
    assert names[: len(ADA)] == ADA
    assert len(set(names)) == len(names), "two people became one"
    assert all(len(name) <= 200 and "\n" not in name for name in names)


async def _in_thread(client: EngineClient) -> dict[str, str]:
    answer: dict[str, str] = await asyncio.to_thread(client._call, "GET", "/who")
    return answer


@given(st.text(st.characters(), min_size=1))
def test_any_name_is_a_header_of_ascii_and_comes_back_without_what_no_line_holds(name: str) -> None:
    header = access.person_header(name)
    assert header.isascii() and header.isprintable()
    back = access.person_in(header)
    assert len(back) <= access.LONGEST_NAME
    assert not [letter for letter in back if unicodedata.category(letter) in ("Cc", "Cs")]
    assert access.person_in(access.person_header(back)) == back


def test_a_header_that_is_none_or_odd_is_somebody_and_never_an_error() -> None:
    assert access.person_in(None) == access.person_in("") == access.person_in("%0A") == "local"
    assert access.person_in("%ff%fe") and access.person_in("%") == "%"
    assert access.person_in("ada%40example.com") == "ada@example.com"


def test_a_ticket_never_allows_more_than_either_of_two_roles() -> None:
    order: list[access.Role] = ["viewer", "member", "admin"]
    for low in range(3):
        for high in range(low, 3):
            assert access.lesser(order[low], order[high]) == access.lesser(order[high], order[low]) == order[low]
