"""The relay between one engine stream and many browsers, with real sockets at both ends."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

from app.live.websocket import (
    EXPIRED,
    NOT_ALLOWED,
    NOT_ALLOWED_NOW,
    OVER,
    QUEUE_FRAMES,
    TROUBLE,
    Mirror,
    Relay,
    Viewer,
    read_have,
    same_origin,
)
from app.tickets import LIFETIME_S, STEADY_S, Ticket, board_token
from services.security import access
from tests.board_fakes import FakeEngine, Screen
from tests.e2e.board_snapshots import answering

RUN = "run-1"
COLUMNS = [answering(i, f"deployment {i}", answer="", reasoning="") for i in range(4)]


class House:
    """A fake engine, a real relay behind a real server, and a client."""

    def __init__(self, engine: FakeEngine, relay: Relay, port: int, client: aiohttp.ClientSession) -> None:
        self.engine, self.relay, self.port, self.client = engine, relay, port, client

    async def open(
        self, have: Any = (), *, token: str | None = None, origin: str | None = "same", run_id: str = RUN, **more: Any
    ) -> aiohttp.ClientWebSocketResponse:
        headers = {} if origin is None else {"Origin": f"http://127.0.0.1:{self.port}" if origin == "same" else origin}
        url = f"http://127.0.0.1:{self.port}/api/board/{run_id}"
        ws = await self.client.ws_connect(url, headers=headers, max_msg_size=0)
        hello = {"token": token or board_token(run_id, "ada", "member"), "have": list(have), **more}
        await ws.send_str(json.dumps(hello))
        return ws


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    engine = FakeEngine(tmp_path / "e.sock")
    await engine.start()
    relay = Relay(engine.socket)
    app = Starlette(routes=[WebSocketRoute("/api/board/{run_id}", relay.endpoint)])
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, ws="websockets-sansio", lifespan="off", log_level="error", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    async with aiohttp.ClientSession() as client:
        yield House(engine, relay, listening.getsockname()[1], client)
    await relay.close()
    await engine.stop()
    server.should_exit = True
    await serving


async def watch(ws: aiohttp.ClientWebSocketResponse, screen: Screen, until: Callable[[Screen], bool]) -> None:
    async with asyncio.timeout(20):
        while not until(screen):
            message = await ws.receive()
            assert message.type is aiohttp.WSMsgType.TEXT, message
            screen.take(message.data)


async def settle(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def test_forty_viewers_all_get_every_character_from_one_engine_stream(house: House) -> None:
    run = house.engine.run(RUN, COLUMNS)
    sockets = [await house.open() for _ in range(40)]
    screens = [Screen() for _ in sockets]
    watching = [asyncio.create_task(watch(w, s, lambda s: s.ended)) for w, s in zip(sockets, screens, strict=True)]
    rng = random.Random(7)
    for n in range(200):
        run.write(rng.randrange(4), f"wört{n} 🙂 ", reasoning=f"r{n}" if n % 9 == 0 else "")
        if n % 20 == 0:
            await asyncio.sleep(0)
    run.end()
    await asyncio.gather(*watching)
    for screen in screens:
        for i, column in enumerate(run.columns):
            assert screen.columns[i]["answer"] == column["answer"]
            assert screen.columns[i]["reasoning"] == column["reasoning"]
    assert house.engine.streams_opened == 1


async def test_a_viewer_who_returns_gets_only_the_tail_and_has_the_exact_text(house: House) -> None:
    run = house.engine.run(RUN, COLUMNS)
    first = await house.open()
    screen = Screen()
    await watch(first, screen, lambda s: s.snapshots == 1)
    run.write(0, "one 🙂 ")
    run.write(1, "uno ", reasoning="hm")
    await watch(first, screen, lambda s: s.columns[1]["answer"] == "uno ")
    other = await house.open()  # keeps the feed alive while the first one is away
    await first.close()
    run.write(0, "two")
    run.write(1, reset=True, attempt=2)
    run.write(1, "due")
    back = await house.open(screen.have())
    await watch(back, screen, lambda s: s.snapshots == 2 and s.columns[1]["answer"] == "due")
    assert screen.columns[0]["answer"] == "one 🙂 two"
    assert screen.columns[1]["reasoning"] == ""
    assert screen.sent_again == len("uno hm"), "only the text of the attempt that was given up may be replaced"
    await other.close()


def test_a_late_viewer_gets_the_elapsed_time_of_now(house: House) -> None:
    mirror = Mirror()
    mirror.apply({"type": "snapshot", "seq": 1, "live": True, "columns": [answering(0)]}, now=100.0)
    told = json.loads(mirror.snapshot(now=101.5))["columns"][0]
    assert told["elapsed_ms"] == pytest.approx(2310.0 + 1500.0)
    assert told["idle_ms"] == pytest.approx(20.0 + 1500.0)
    mirror.apply({"type": "delta", "seq": 2, "cols": [{"i": 0, "a": "x"}]}, now=102.0)
    assert json.loads(mirror.snapshot(now=102.0))["columns"][0]["idle_ms"] == 0.0


class BlockedSocket:
    """A browser that does not read until it is let."""

    def __init__(self) -> None:
        self.may_read = asyncio.Event()
        self.screen = Screen()

    async def send_text(self, text: str) -> None:
        await self.may_read.wait()
        self.screen.take(text)


async def test_a_slow_viewer_is_bounded_and_then_has_the_exact_text() -> None:
    mirror, slow = Mirror(), BlockedSocket()
    viewer = Viewer(slow, Ticket(RUN, "ada", "viewer", 2**40), {})  # type: ignore[arg-type]
    mirror.apply({"type": "snapshot", "seq": 0, "live": True, "columns": [answering(0, answer="", reasoning="")]})
    viewer.catch_up()
    sending = asyncio.create_task(viewer.send_forever(mirror))
    await asyncio.sleep(0)
    text = ""
    for n in range(QUEUE_FRAMES * 5 + 3):
        text += f"{n} "
        frame = {"type": "delta", "seq": n, "cols": [{"i": 0, "a": f"{n} "}]}
        mirror.apply(frame)
        viewer.give(json.dumps(frame), mirror.cursors())
        assert viewer.waiting <= QUEUE_FRAMES
    slow.may_read.set()
    await settle(lambda: viewer.waiting == 0 and slow.screen.columns[0]["answer"] == text)
    assert slow.screen.snapshots == 2
    sending.cancel()


async def test_stop_and_retry_reach_the_engine_with_person_and_role(house: House) -> None:
    run = house.engine.run(RUN, COLUMNS)
    ws = await house.open()
    for message in ({"stop": 2}, {"stop": "all"}, {"stop": True}, {"retry": "all"}, {"retry": 1}):
        await ws.send_str(json.dumps(message))
    await settle(lambda: len(house.engine.posts) == 3)
    assert house.engine.posts == [
        ("stop", {"column": 2}, "ada", "member"),
        ("stop", {"column": None}, "ada", "member"),
        ("retry", {"column": 1}, "ada", "member"),
    ]
    assert run.columns[1]["attempt"] == 2


async def test_a_person_reaches_the_engine_under_their_own_name(house: House) -> None:
    house.engine.run(RUN, COLUMNS)
    people = ["ä@example.com", "ö@example.com", "ada (https://id.example/?a=1)"]
    for person in people:
        ws = await house.open(token=board_token(RUN, person, "member"))
        await ws.send_str('{"stop": 0}')
        await settle(lambda: len(house.engine.posts) == people.index(person) + 1)  # noqa: B023 - awaited in this round
    assert [access.person_in(post[2]) for post in house.engine.posts] == people


async def test_an_open_socket_ends_with_its_role_and_its_time_while_nobody_presses_anything(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_DEPLOYMENTS", str(tmp_path / "deployments.toml"))
    house.relay.check_every_s = 0.05
    house.engine.run(RUN, COLUMNS)
    ws, screen = await house.open(), Screen()
    await watch(ws, screen, lambda s: s.snapshots == 1)
    (tmp_path / "deployments.toml").write_text('[access]\nmode = "closed"')
    with pytest.raises(AssertionError, match="4401"):
        await watch(ws, screen, lambda s: False)
    assert screen.sentences == [NOT_ALLOWED_NOW]
    await settle(lambda: not house.relay.feeds)
    house.relay.check_every_s = 60
    soon = int(time.time()) + 2
    ws, screen = await house.open(token=board_token(RUN, "ada", "viewer", until=soon, mark="m")), Screen()
    with pytest.raises(AssertionError, match="4401"):
        await watch(ws, screen, lambda s: False)
    assert screen.sentences == [OVER] and time.time() >= soon


async def test_a_finished_run_goes_live_again_when_a_column_is_retried(house: House) -> None:
    run = house.engine.run(RUN, COLUMNS)
    run.end()
    ws, screen = await house.open(retry=1), Screen()
    await watch(ws, screen, lambda s: s.snapshots == 1)
    run.write(1, "again")
    run.end()
    await watch(ws, screen, lambda s: s.ended)
    assert screen.columns[1]["answer"] == "again"


async def test_a_viewer_may_look_but_not_stop(house: House) -> None:
    house.engine.run(RUN, COLUMNS)
    ws, screen = await house.open(token=board_token(RUN, "bob", "viewer")), Screen()
    await ws.send_str('{"stop": "all"}')
    await watch(ws, screen, lambda s: bool(s.sentences) and s.snapshots == 1)
    assert screen.sentences == [NOT_ALLOWED]
    assert house.engine.posts == []


async def test_an_expired_ticket_may_not_stop_even_on_an_open_socket(house: House) -> None:
    assert await house.relay.act(Ticket(RUN, "ada", "admin", int(time.time()) - 1), "stop", None) == EXPIRED
    assert house.engine.posts == []


async def test_a_run_that_is_not_live_ends_at_once(house: House) -> None:
    screen = Screen()
    await watch(await house.open(), screen, lambda s: s.ended)
    assert screen.snapshots == 0


async def test_when_the_engine_dies_viewers_are_told_and_go_on_when_it_is_back(house: House) -> None:
    run = house.engine.run(RUN, COLUMNS)
    ws, screen = await house.open(), Screen()
    await watch(ws, screen, lambda s: s.snapshots == 1)
    run.write(0, "before ")
    await watch(ws, screen, lambda s: s.columns[0]["answer"] == "before ")
    await house.engine.stop()
    await watch(ws, screen, lambda s: s.sentences == [TROUBLE])
    run.columns[0]["answer"] += "meanwhile "
    house.engine.socket.unlink(missing_ok=True)
    await house.engine.start()
    await watch(ws, screen, lambda s: s.snapshots == 2)
    run.write(0, "after")
    run.end()
    await watch(ws, screen, lambda s: s.ended)
    assert screen.columns[0]["answer"] == "before meanwhile after"


async def test_the_feed_is_dropped_with_its_last_viewer(house: House) -> None:
    run = house.engine.run(RUN, COLUMNS)
    ws, screen = await house.open(), Screen()
    await watch(ws, screen, lambda s: s.snapshots == 1)
    await ws.close()
    await settle(lambda: not house.relay.feeds and not run.followers)


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1"])
async def test_a_foreign_origin_is_refused(house: House, origin: str | None) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await house.open(origin=origin)
    assert refused.value.status == 403


@pytest.mark.parametrize("flaw", ["forged", "other run", "expired", "nonsense"])
async def test_a_bad_token_is_refused(house: House, flaw: str) -> None:
    house.engine.run(RUN, COLUMNS)
    good = board_token(RUN, "ada", "viewer")
    body, _, signature = board_token(RUN, "ada", "admin").partition(".")
    token = {
        "forged": body + "." + good.partition(".")[2],
        "other run": board_token("run-2", "ada", "admin"),
        "expired": board_token(RUN, "ada", "admin", now=time.time() - LIFETIME_S - STEADY_S),
        "nonsense": "é" + signature,
    }[flaw]
    ws = await house.open(token=token)
    message = await ws.receive()
    assert message.type is aiohttp.WSMsgType.CLOSE
    assert message.data == 4401
    assert house.engine.streams_opened == 0


@pytest.mark.parametrize("hello", ["[]", "not json", '"' + "x" * 70_000 + '"'])
async def test_a_hello_that_is_none_closes_the_socket(house: House, hello: str) -> None:
    headers = {"Origin": f"http://127.0.0.1:{house.port}"}
    ws = await house.client.ws_connect(f"http://127.0.0.1:{house.port}/api/board/{RUN}", headers=headers)
    await ws.send_str(hello)
    assert (await ws.receive()).data == 4400


async def test_boards_of_one_person_and_of_one_run_are_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.engine.run(RUN, COLUMNS)
    monkeypatch.setattr(house.relay.viewers_by_person, "each", 3)
    monkeypatch.setattr("app.live.websocket.VIEWERS_PER_RUN", 4)
    sockets = [await house.open() for _ in range(4)]
    assert (await sockets[3].receive()).data == 4429
    screens = [Screen() for _ in range(4)]
    for ws, screen in zip(sockets[:3], screens, strict=False):
        await watch(ws, screen, lambda s: s.snapshots == 1)
    bob = await house.open(token=board_token(RUN, "bob", "viewer"))
    await watch(bob, screens[3], lambda s: s.snapshots == 1)
    cyd = await house.open(token=board_token(RUN, "cyd", "viewer"))
    assert (await cyd.receive()).data == 4429, "the run has its four"
    await sockets[0].close()
    await settle(lambda: house.relay.viewers_by_person.sum == 3)
    again = await house.open()
    await watch(again, Screen(), lambda s: s.snapshots == 1)


def test_cursors_that_make_no_sense_are_left_out() -> None:
    good = {"i": 1, "rep": 1, "attempt": 1, "answer": 3, "reasoning": 0}
    assert read_have([good, {"i": 2}, 7, {**good, "i": "0"}, {**good, "answer": True}]) == {1: (1, 1, 3, 0)}
    assert read_have("text") == read_have(None) == {}
    mirror = Mirror()
    mirror.apply({"type": "snapshot", "seq": 1, "live": True, "columns": [answering(0, answer="abc", reasoning="")]})
    for bad in ((1, 1, 4, 0), (1, 1, -1, 0), (2, 1, 1, 0)):
        told = json.loads(mirror.snapshot({0: bad}))["columns"][0]
        assert (told["answer_from"], told["answer"]) == (0, "abc")


def test_in_a_blind_run_sentences_do_not_leave_the_server_either() -> None:
    mirror = Mirror()
    named = [{**column, "note": "SmolLM2 was stopped by hand."} for column in COLUMNS]
    mirror.apply({"type": "snapshot", "seq": 1, "live": True, "blind": True, "columns": named})
    assert "SmolLM2 was" not in mirror.snapshot()
    frame = {"type": "delta", "seq": 2, "cols": [{"i": 0, "a": "word", "note": "SmolLM2 was stopped by hand."}]}
    sent = mirror.line(frame, orjson.dumps(frame))
    assert "SmolLM2" not in sent
    assert orjson.loads(sent)["cols"] == [{"i": 0, "a": "word"}]


def test_in_a_blind_run_how_servers_are_does_not_leave_the_server() -> None:
    mirror = Mirror()
    gauge = {"running": 3, "waiting": 0, "kv": 0.4, "hit": None}
    told = [{**column, "gauge": gauge} for column in COLUMNS]
    mirror.apply({"type": "snapshot", "seq": 1, "live": True, "blind": True, "columns": told})
    assert 'running":3' not in mirror.snapshot()
    frame = {"type": "delta", "seq": 2, "cols": [{"i": 0, "a": "word", "gauge": gauge}]}
    mirror.apply(frame)
    assert "gauge" not in mirror.line(frame, orjson.dumps(frame))
    assert 'running":3' not in mirror.snapshot()


def test_in_a_blind_run_names_do_not_leave_the_server() -> None:
    mirror = Mirror()
    mirror.apply({"type": "snapshot", "seq": 1, "live": True, "blind": True, "columns": COLUMNS})
    told = mirror.snapshot()
    assert not any(word in told for word in ("deployment 0", "haiku", "managed API"))


def test_origin_and_host_are_compared_as_browsers_write_them() -> None:
    assert same_origin("https://Lab.example:8501", "lab.example:8501")
    assert not same_origin("https://lab.example.evil.test", "lab.example") and not same_origin("", "")
