"""A server of known capacity: ``python -m tests.benchmarks.truth SLOTS SERVICE_S`` prints its URL.

Every request takes ``SERVICE_S`` seconds once it has one of the ``SLOTS``; the others wait in a line. So it answers
SLOTS ÷ SERVICE_S requests a second and not one more, however many ask.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import uvloop
from aiohttp import web

USAGE = {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6}


def made(slots: int, service_s: float) -> web.Application:
    """The application."""
    gate = asyncio.Semaphore(slots)

    async def answer(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        async with gate:
            await asyncio.sleep(service_s)
        if not asked.get("stream"):
            return web.json_response(_whole())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"".join(b"data: " + json.dumps(one).encode() + b"\n\n" for one in _chunks()))
        await response.write(b"data: [DONE]\n\n")
        return response

    app = web.Application(client_max_size=2**24)
    app.add_routes([web.post("/v1/chat/completions", answer)])
    return app


def _whole() -> dict[str, Any]:
    message = {"role": "assistant", "content": "ok"}
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "truth",
        "usage": USAGE,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def _chunks() -> list[dict[str, Any]]:
    base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "truth"}
    return [
        base | {"choices": [{"index": 0, "delta": {"role": "assistant", "content": "ok"}, "finish_reason": None}]},
        base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        base | {"choices": [], "usage": USAGE},
    ]


async def _serve() -> None:
    runner = web.AppRunner(made(int(sys.argv[1]), float(sys.argv[2])), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    assert site._server is not None
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
