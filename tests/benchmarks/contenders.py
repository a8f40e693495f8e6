"""One contender in a process of its own: ``python -m tests.benchmarks.contenders NAME URL STREAMS MODEL``.

Prints one JSON line: ``{"streams": [{"seed", "t0", "deltas": [ns, …]}, …], "cpu_ns", "wall_ns"}``. Every stream is
known to the server by the ``seed`` in its body. Streams start eight at a time, as the columns of a run do.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from time import perf_counter_ns
from typing import Any

import uvloop

from services.processes.output import write_whole

TOGETHER = 8
BETWEEN_S = 0.033  # 13 ms modulo the 20 ms between tokens: the groups do not tick in step
WARM = "fake?tokens=3&ttft=1&itl=1"
Sent = tuple[int, int, list[int]]  # seed, t0, stamps of the deltas
One = Callable[[int, str], Awaitable[Sent]]


def body(seed: int, model: str) -> dict[str, Any]:
    """The same request for every contender."""
    return {
        "model": model,
        "messages": [{"role": "user", "content": "Count."}],
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def measured(one: One, streams: int, model: str, started: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Warm up with one call, then all streams; CPU and wall time of what came after the warming up."""
    await one(0, WARM)
    gc.collect()
    gc.freeze()
    started()
    cpu, wall = time.process_time_ns(), perf_counter_ns()

    async def later(index: int) -> Sent:
        await asyncio.sleep(index // TOGETHER * BETWEEN_S)
        return await one(index + 1, model)

    done = await asyncio.gather(*(later(i) for i in range(streams)))
    return {
        "cpu_ns": time.process_time_ns() - cpu,
        "wall_ns": perf_counter_ns() - wall,
        "streams": [{"seed": seed, "t0": t0, "deltas": deltas} for seed, t0, deltas in done],
    }


async def bare_aiohttp(url: str, streams: int, model: str) -> dict[str, Any]:
    """The yardstick: `iter_any`, split at newlines, orjson. No states, no usage, no errors, no rows."""
    import aiohttp
    import orjson

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(seed: int, model: str) -> Sent:
            deltas: list[int] = []
            text: list[str] = []
            t0 = perf_counter_ns()
            async with session.post(f"{url}/v1/chat/completions", json=body(seed, model)) as response:
                rest = b""
                async for data in response.content.iter_any():
                    now = perf_counter_ns()
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        if line.startswith(b"data: {"):
                            choices = orjson.loads(line[6:])["choices"]
                            if choices and (content := choices[0]["delta"].get("content")):
                                deltas.append(now)
                                text.append(content)
            return seed, t0, deltas

        return await measured(one, streams, model)


async def bare_httpx(url: str, streams: int, model: str) -> dict[str, Any]:
    """`aiter_lines` and json on one shared client, as most examples have it (the pool's limit lifted)."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=None, limits=limits) as client:

        async def one(seed: int, model: str) -> Sent:
            deltas: list[int] = []
            text: list[str] = []
            t0 = perf_counter_ns()
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body(seed, model)) as response:
                async for line in response.aiter_lines():
                    if line.startswith("data: {"):
                        choices = json.loads(line[6:])["choices"]
                        if choices and (content := choices[0]["delta"].get("content")):
                            deltas.append(perf_counter_ns())
                            text.append(content)
            return seed, t0, deltas

        return await measured(one, streams, model)


async def openai_sdk(url: str, streams: int, model: str) -> dict[str, Any]:
    """The SDK as its documentation shows it, without retries."""
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as client:

        async def one(seed: int, model: str) -> Sent:
            deltas: list[int] = []
            text: list[str] = []
            t0 = perf_counter_ns()
            stream: Any = await client.chat.completions.create(**body(seed, model))
            async for chunk in stream:
                if chunk.choices and (content := chunk.choices[0].delta.content):
                    deltas.append(perf_counter_ns())
                    text.append(content)
            return seed, t0, deltas

        return await measured(one, streams, model)


async def reader(url: str, streams: int, model: str) -> dict[str, Any]:
    """`services.calls.stream` alone: decoding, judging, stamps; no rows and no frames."""
    from dataclasses import replace

    import aiohttp

    from services.calls.stream import Progress, attempt, tracing
    from services.providers import kind_of
    from services.types import Ask, Deployment, Message
    from services.wire.stamps import stamped_connector

    deployment = Deployment("fake", "fake", "openai-compatible", model, f"{url}/v1")
    kind = kind_of(deployment)
    connector = stamped_connector(None, keepalive_s=15.0)
    session = aiohttp.ClientSession(connector=connector, trace_configs=[tracing()], read_bufsize=2**20)

    async def one(seed: int, model: str) -> Sent:
        progress = Progress(kind.decoder(deployment), deployment.limits)
        request = kind.request(
            replace(deployment, model=model), Ask((Message("user", "Count."),), None, {"seed": seed})
        )
        ending = await attempt(session, kind, request, None, progress)
        assert ending.outcome == "ok", ending
        return seed, progress.t0, progress.delta_ns.tolist()

    try:
        gc.disable()
        return await measured(one, streams, model)
    finally:
        await session.close()


async def ours(url: str, streams: int, model: str) -> dict[str, Any]:
    """The engine as it is in production: see `tests.benchmarks.ours`."""
    from tests.benchmarks.ours import measure

    return await measure(url, streams, model)


CONTENDERS: dict[str, Callable[[str, int, str], Awaitable[dict[str, Any]]]] = {
    "ours": ours,
    "our reader": reader,
    "bare aiohttp": bare_aiohttp,
    "bare httpx": bare_httpx,
    "openai SDK": openai_sdk,
}


def main() -> None:
    """Measure one contender and print what it found."""
    name, url, streams, model = sys.argv[1:5]
    write_whole()

    async def work() -> dict[str, Any]:
        return await CONTENDERS[name](url, int(streams), model)

    print(json.dumps(uvloop.run(work())), flush=True)


if __name__ == "__main__":
    main()
