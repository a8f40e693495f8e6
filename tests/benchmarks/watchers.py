"""Headless browsers: ``python -m tests.benchmarks.watchers board|fragment URL RUN VIEWERS COLUMNS``.

Prints "there" when all have joined, and at the end ``{"seen": [[[column, characters so far, ns], …], …]}``.
Each does what a browser does on the wire, and no more: nothing is laid out or painted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from time import perf_counter_ns
from typing import Any

import aiohttp
import uvloop

from services.processes.output import write_whole

Seen = list[tuple[int, int, int]]
GONE_S = 8.0


async def board(session: aiohttp.ClientSession, url: str, run_id: str, there: asyncio.Event, columns: int) -> Seen:
    """One viewer of the board's own WebSocket."""
    from app.tickets import board_token

    seen: Seen = []
    chars = dict.fromkeys(range(columns), 0)
    async with session.ws_connect(f"{url}/api/board/{run_id}", origin=url, max_msg_size=0) as socket:
        await socket.send_json({"token": board_token(run_id, "bench", "viewer"), "have": []})
        async for message in socket:
            now = perf_counter_ns()
            frame = json.loads(message.data)
            there.set()
            for column in frame.get("columns", []):
                chars[column["i"]] = column["answer_from"] + len(column["answer"])
                seen.append((column["i"], chars[column["i"]], now))
            for change in frame.get("cols", []):
                if text := change.get("a"):
                    chars[change["i"]] += len(text)
                    seen.append((change["i"], chars[change["i"]], now))
            if frame["type"] == "end":
                break
    return seen


async def fragment(session: aiohttp.ClientSession, url: str, run_id: str, there: asyncio.Event, columns: int) -> Seen:
    """One Streamlit session whose fragment reruns by itself, as the frontend makes it do."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

    seen: Seen = []
    total = 0
    tickers: list[asyncio.Task[None]] = []
    socket_url = f"{url}/_stcore/stream"
    async with session.ws_connect(socket_url, origin=url, protocols=["streamlit"], max_msg_size=0) as socket:

        async def rerun(fragment_id: str = "", every: float = 0.0) -> None:
            while True:
                await asyncio.sleep(every)
                ask = BackMsg()
                ask.rerun_script.query_string = f"run={run_id}"
                if fragment_id:
                    ask.rerun_script.fragment_id = fragment_id
                    ask.rerun_script.is_auto_rerun = True
                await socket.send_bytes(ask.SerializeToString())
                if not every:
                    return

        await rerun()
        with contextlib.suppress(TimeoutError):
            while True:
                message = await socket.receive(timeout=GONE_S)
                now = perf_counter_ns()
                if message.type is not aiohttp.WSMsgType.BINARY:
                    break
                told: Any = ForwardMsg.FromString(message.data)
                kind = told.WhichOneof("type")
                if kind == "auto_rerun":
                    there.set()
                    tickers.append(asyncio.create_task(rerun(told.auto_rerun.fragment_id, told.auto_rerun.interval)))
                elif kind == "delta" and told.delta.new_element.WhichOneof("type") == "markdown":
                    name, _, text = told.delta.new_element.markdown.body.partition("\n")
                    if name.startswith("column "):
                        seen.append((int(name[7:]), len(text), now))
                        total += 1
                    elif name == "over":
                        break
        for ticker in tickers:
            ticker.cancel()
    return seen


async def main() -> None:
    """Join all viewers, then wait for the end of the run."""
    way, url, run_id, viewers, columns = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
    watch = {"board": board, "fragment": fragment}[way]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        there = [asyncio.Event() for _ in range(viewers)]
        work = [asyncio.create_task(watch(session, url, run_id, event, columns)) for event in there]
        await asyncio.gather(*(event.wait() for event in there))
        print("there", flush=True)
        seen = await asyncio.gather(*work)
    print(json.dumps({"seen": seen}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("LAB_BOARD_SECRET", "of the benchmark")
    write_whole()
    uvloop.run(main())
