"""What every request to the engine has in common: who asks and in which role, the JSON they send, the JSON they get."""

from __future__ import annotations

from typing import Any

import orjson
from aiohttp import web

from services.request_fields import RequestFields
from services.security import access


def answer(value: Any, status: int = 200) -> web.Response:
    """A JSON answer; what JSON does not know is written as text."""
    return web.Response(body=orjson.dumps(value, default=str), status=status, content_type="application/json")


async def body_of(request: web.Request) -> RequestFields:
    """The JSON object of a request, to be read field by field. Raises ValueError in words when it is none."""
    try:
        value = orjson.loads(await request.read() or b"{}")
    except orjson.JSONDecodeError as error:
        raise ValueError("The request to the engine was not JSON.") from error
    if not isinstance(value, dict):
        raise ValueError("The request to the engine was not a JSON object.")
    return RequestFields(value)


def may(request: web.Request, action: access.Action) -> str:
    """The person asking, once their role allows the action. Raises `access.Denied`."""
    access.require(request.headers.get("x-lab-role", "viewer"), action)
    return access.person_in(request.headers.get(access.PERSON_HEADER))


def own(request: web.Request, action: access.Action, owner: str | None, noun: str) -> str:
    """`may`, for a ``noun`` ("run") that ``owner`` recorded: members change only their own. Raises `access.Denied`."""
    person = may(request, action)
    access.require_own(request.headers.get("x-lab-role", "viewer"), person, owner, noun)
    return person
