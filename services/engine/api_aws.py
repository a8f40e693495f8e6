"""The engine's door to AWS's control planes. The engine holds the credentials; the pages see accounts and names only.

Everything that asks AWS runs in a thread and is given up after `WAIT_S`, so that no page hangs on a region that does
not answer. Looking needs no more than being let in; what buys, renames or deletes needs the "deploy" action.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any, TypeVar, cast

from aiohttp import web

from services.aws import control, credentials, provisioned, sagemaker
from services.aws.control import AwsTrouble, Place
from services.engine.requests import answer, body_of, may
from services.request_fields import RequestFields

log = logging.getLogger(__name__)
T = TypeVar("T")
WAIT_S = 40.0
MOST_UNITS = 10_000  # of one purchase: more is a slip of the finger
# Its own, so that a region that does not answer never keeps a call waiting for its signature.
_THREADS = ThreadPoolExecutor(8, thread_name_prefix="aws-control")


def routes() -> list[web.RouteDef]:
    """All of them below /aws."""
    return [
        web.get("/aws/places", places),
        web.get("/aws/who", who),
        web.get("/aws/models", models),
        web.get("/aws/endpoints", endpoints),
        web.get("/aws/provisioned", list_provisioned),
        web.post("/aws/provisioned", create_provisioned),
        web.post("/aws/provisioned/rename", rename_provisioned),
        web.post("/aws/provisioned/delete", delete_provisioned),
        web.post("/aws/refresh", refresh),
    ]


async def _ask(use: Callable[[], T]) -> T:
    try:
        return await asyncio.wait_for(asyncio.get_running_loop().run_in_executor(_THREADS, use), WAIT_S)
    except TimeoutError:
        raise AwsTrouble(
            "timeout", f"AWS did not answer within {WAIT_S:g} s: check the network, then try again."
        ) from None


async def _place(request: web.Request, body: RequestFields | None = None) -> Place:
    given = RequestFields(request.query) if body is None else body
    profile, region = given.words("profile"), given.words("region")
    return await _ask(lambda: control.place(profile, region))


async def places(request: web.Request) -> web.Response:
    may(request, "look")

    def read() -> dict[str, Any]:
        named = control.profiles()
        try:
            region: str | None = control.place(request.query.get("profile"), None).region
        except AwsTrouble:
            region = None
        return {"profiles": named, "regions": control.regions(), "region": region}

    return answer(await _ask(read))


async def who(request: web.Request) -> web.Response:
    may(request, "look")
    place = await _place(request)
    return answer({**asdict(await _ask(lambda: control.identity(place))), "region": place.region})


async def models(request: web.Request) -> web.Response:
    may(request, "look")
    place = await _place(request)
    models, routed = await _ask(lambda: control.models(place))
    return answer({"models": [asdict(m) for m in models], "profiles": [asdict(m) for m in routed]})


async def endpoints(request: web.Request) -> web.Response:
    may(request, "look")
    place = await _place(request)
    endpoints, truncated = await _ask(lambda: sagemaker.listed(place))
    return answer({"items": [e.to_json() for e in endpoints], "more": truncated})


async def list_provisioned(request: web.Request) -> web.Response:
    may(request, "look")
    place = await _place(request)
    capacities, truncated = await _ask(lambda: provisioned.listed(place))
    return answer({"items": [p.to_json() for p in capacities], "more": truncated})


async def create_provisioned(request: web.Request) -> web.Response:
    person, body = may(request, "deploy"), await body_of(request)
    name, model, units = body.text("name").strip(), body.text("model").strip(), body.whole("units", 1, MOST_UNITS)
    commitment, token = cast(provisioned.Commitment, body.text("commitment")), body.text("token")
    _confirmed(body, f"create {name}")
    place = await _place(request, body)
    capacity = await _ask(
        lambda: provisioned.create(place, name=name, model=model, units=units, commitment=commitment, token=token)
    )
    log.info(
        "%s created the provisioned throughput %s: %d units, %s",
        person,
        capacity.arn,
        capacity.units,
        capacity.commitment,
    )
    return answer(capacity.to_json())


async def rename_provisioned(request: web.Request) -> web.Response:
    person, body = may(request, "deploy"), await body_of(request)
    arn, name = body.text("arn"), body.text("name").strip()
    place = await _place(request, body)
    capacity = await _ask(lambda: provisioned.rename(place, arn, name))
    log.info("%s renamed the provisioned throughput %s to %s", person, arn, name)
    return answer(capacity.to_json())


async def delete_provisioned(request: web.Request) -> web.Response:
    person, body = may(request, "deploy"), await body_of(request)
    arn, _ = body.text("arn"), body.words("confirm")
    place = await _place(request, body)
    found = await _ask(lambda: provisioned.fetch(place, arn))
    _confirmed(body, found.name)
    await _ask(lambda: provisioned.delete(place, arn))
    log.info("%s deleted the provisioned throughput %s", person, arn)
    return answer({"ok": True})


async def refresh(request: web.Request) -> web.Response:
    may(request, "send")
    await _ask(control.forget)
    credentials.look_again()
    return answer({"ok": True})


def _confirmed(body: RequestFields, name: str) -> None:
    """What costs or ends something is asked for twice: the page's typed words are checked here too."""
    if (body.words("confirm") or "").strip() != name:
        raise AwsTrouble("invalid", f"Nothing was done: to go on, type “{name}” exactly.")
