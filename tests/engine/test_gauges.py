"""Servers that are asked how they are: rarely, only while somebody looks, and never on a call's connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
import pytest_asyncio
from aiohttp import web

from services.client import EngineClient, EngineError
from services.embedded import EmbeddedPool, ServerSpec
from services.engine import server_metrics
from services.engine.api import probe
from tests.engine.house import KEY, KEY_NAME, House, frames_of, table

pytestmark = pytest.mark.slow

SERVERS = Path(__file__).parents[1] / "servers"
SLOW = "fake?tokens=500&itl=5&ttft=5"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"


class Inference:
    """A server of one's own that tells of itself; a test can change what it answers."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, int]] = []
        self.answers: dict[str, Callable[[web.Request], Any]] = {
            "/metrics": lambda _: web.Response(body=(SERVERS / "vllm.txt").read_bytes()),
            "/v1/models": lambda _: web.Response(body=(SERVERS / "vllm_models.json").read_bytes()),
            "/version": lambda _: web.Response(body=(SERVERS / "vllm_version.json").read_bytes()),
        }

    def count(self, path: str) -> int:
        return sum(asked == path for asked, *_ in self.asked)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        port = request.transport.get_extra_info("peername")[1]
        self.asked.append((request.path, request.headers.get("authorization"), port))
        if request.path not in self.answers:
            return web.Response(status=404)
        said = self.answers[request.path](request)
        return await said if asyncio.iscoroutine(said) else said  # type: ignore[no-any-return]  # a response either way

    async def __aenter__(self) -> Inference:
        app = web.Application()
        app.router.add_route("*", "/{any:.*}", self.answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Inference]:
    async with Inference() as made:
        yield made


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest_asyncio.fixture
async def clock(house: House) -> AsyncIterator[Clock]:
    made = Clock()
    house.engine.gauges._now = made
    yield made


async def test_a_server_tells_what_it_is_and_how_it_is(house: House, server: Inference) -> None:
    await house.declare(table("a", LLAMA, server.url, key_env=KEY_NAME))
    said = await house.engine.gauges.server("a")
    assert said["supported"] is True
    assert (said["trouble"], said["facts_trouble"]) == (None, None)
    assert (said["gauge"]["running"], said["gauge"]["waiting"], said["gauge"]["kv_used"]) == (
        3,
        1,
        pytest.approx(0.42, abs=0.01),
    )
    assert (said["facts"]["software"], said["facts"]["version"], said["facts"]["context_tokens"]) == (
        "vLLM",
        "0.11.2",
        131072,
    )
    assert {key for _, key, _ in server.asked} == {f"Bearer {KEY}"}


async def test_however_many_look_a_server_is_asked_once_a_second(house: House, server: Inference, clock: Clock) -> None:
    await house.declare(table("a", LLAMA, server.url), table("b", LLAMA, server.url + "/v1/"))
    looks = [house.engine.gauges.server(name) for name in "ab" * 20]
    assert len({orjson.dumps(said["gauge"]) for said in await asyncio.gather(*looks)}) == 1
    assert (server.count("/metrics"), server.count("/v1/models")) == (1, 1), "two deployments, one server"
    clock.now += 0.9
    await house.engine.gauges.server("a")
    assert server.count("/metrics") == 1
    clock.now += 0.2
    await asyncio.gather(*(house.engine.gauges.server("b") for _ in range(9)))
    assert (server.count("/metrics"), server.count("/v1/models")) == (2, 1)


async def test_a_server_without_metrics_is_left_alone_for_a_while(
    house: House, server: Inference, clock: Clock
) -> None:
    del server.answers["/metrics"]
    await house.declare(table("a", LLAMA, server.url))
    for _ in range(14):
        said = await house.engine.gauges.server("a")
        assert said["trouble"] == "There is no /metrics at this address (404)."
        clock.now += 1.0
    assert server.count("/metrics") == 1
    assert said["facts"]["software"] == "vLLM", "what it is can be known all the same"
    clock.now += 2.0
    await house.engine.gauges.server("a")
    assert server.count("/metrics") == 2


async def slowly(_: web.Request) -> web.Response:
    await asyncio.sleep(30)
    return web.Response()


def saying(text: str) -> Callable[[web.Request], web.Response]:
    return lambda _: web.Response(text=text)


def huge(_: web.Request) -> web.Response:
    return web.Response(body=b"vllm:num_requests_running 1\n" * 100_000)


def elsewhere(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"location": f"http://{request.host}/version"})


def packed(_: web.Request) -> web.Response:
    return web.Response(body=b"\x1f\x8b", headers={"content-encoding": "gzip"})


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (lambda _: web.Response(status=401), "This server does not show its /metrics without another key (401)."),
        (lambda _: web.Response(status=503), "This server answered /metrics with 503."),
        (elsewhere, "This server answered /metrics with 302."),
        (saying("<html>hello</html>"), "What this address answers at /metrics is not a metrics page."),
        (saying("up 1\n"), "This server's /metrics holds none of the figures of vLLM, SGLang, TGI or llama.cpp."),
        (huge, "The /metrics of this server is larger than 2 MB, so it was not read."),
        (packed, "This server compresses its /metrics although it was asked not to, so it was not read."),
        (slowly, "This server did not answer /metrics within 2 s."),
    ],
)
async def test_a_server_that_does_not_say_is_described_in_words(
    house: House, server: Inference, answer: Any, sentence: str
) -> None:
    server.answers["/metrics"] = answer
    await house.declare(table("a", LLAMA, server.url))
    said = await house.engine.gauges.server("a")
    assert (said["gauge"], said["trouble"]) == (None, sentence)


async def test_only_what_may_be_called_is_asked(
    house: House, server: Inference, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.declare(
        table("gone", LLAMA, "http://127.0.0.1:1"),
        table("api", "gpt", server.url, "responses"),
        table("off", LLAMA, server.url),
        table("keyless", LLAMA, server.url, key_env="NOT_SET_HERE"),
        '[keys.BOUND]\nhosts = ["elsewhere.example"]\n',
        table("public", LLAMA, "http://gpu.example:8000").replace("gpu.example", "192.0.2.1"),
    )
    await house.engine.registry.set_enabled("off", False)
    ask = house.engine.gauges.server
    assert (await ask("gone"))["trouble"] == "This server could not be reached at /metrics."
    assert await ask("api") == {
        "supported": False,
        "facts": None,
        "facts_trouble": None,
        "gauge": None,
        "trouble": None,
    }
    assert "switched off" in (await ask("off"))["trouble"]
    assert "needs NOT_SET_HERE" in (await ask("keyless"))["trouble"]
    with pytest.raises(ValueError, match="is not known any more"):
        await ask("http://127.0.0.1/")
    assert server.asked == []
    monkeypatch.setattr(house.engine.registry, "allowed_private", lambda _: frozenset())
    await house.engine.registry.set_enabled("off", True)
    assert "private network or on this machine" in (await ask("off"))["trouble"]
    assert server.asked == []


async def test_the_boards_columns_are_told_while_somebody_watches_and_no_longer(
    house: House, server: Inference, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.declare(table("a", SLOW, house.fake.url))
    monkeypatch.setattr(server_metrics, "EVERY_S", 0.05)
    monkeypatch.setattr(server_metrics.servers, "root_of", lambda _: server.url)
    run = await house.start("a")
    await asyncio.sleep(1.2)  # more than the second of the engine's first turn
    assert server.asked == [], "nobody watches"
    watching = [asyncio.create_task(frames_of(run)) for _ in range(5)]
    frames = (await asyncio.gather(*watching))[0]
    gauge = {"running": 3, "waiting": 1, "kv": 0.4196301564722617, "hit": None}
    changes = [change["gauge"] for frame in frames for change in frame.get("cols", ()) if "gauge" in change]
    assert changes[0] == gauge
    assert len(changes) <= 2, "what has not changed is not sent again"
    assert 0 < server.count("/metrics") < 80, "once for all watchers"
    ports = {port for _, _, port in server.asked}
    assert len(ports) == 1, "one connection of its own"
    after = server.count("/metrics")
    await asyncio.sleep(0.2)
    assert server.count("/metrics") == after


async def test_a_blind_run_asks_nobody(house: House, server: Inference, monkeypatch: pytest.MonkeyPatch) -> None:
    await house.declare(table("a", "fake?tokens=60&itl=5", house.fake.url), table("b", SLOW, house.fake.url))
    monkeypatch.setattr(server_metrics, "EVERY_S", 0.02)
    monkeypatch.setattr(server_metrics.servers, "root_of", lambda _: server.url)
    following = asyncio.create_task(house.engine.gauges.follow(lambda: house.engine.runs.values()))
    run = await house.start("ab", blind=True)
    frames = await frames_of(run)
    following.cancel()
    assert not any(change.get("gauge") for frame in frames for change in frame.get("cols", ()))
    assert server.asked == []


async def test_the_engines_door_shows_a_server_to_whoever_may_look(house: House, server: Inference) -> None:
    await house.declare(table("a", LLAMA, server.url))
    runner = web.AppRunner(house.app(), shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(house.folder / "s")).start()
    client = EngineClient(house.folder / "s", role="viewer")
    said = await asyncio.to_thread(client.server, "a")
    assert said["gauge"]["software"] == "vLLM"
    with pytest.raises(EngineError, match="not known"):
        await asyncio.to_thread(client.server, "127.0.0.1")
    client.close()
    await runner.cleanup()


@pytest.mark.model
async def test_the_embedded_server_is_read_for_real(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = EmbeddedPool((ServerSpec("main", threads=1, slots=2, context=2048),), log_dir=house.folder)
    await pool.start()
    url = await pool.url("main")
    monkeypatch.setattr(house.engine.gauges, "_pool", pool)
    monkeypatch.setattr(house.engine.registry, "local_lacks", pool.lacks)
    said = await house.engine.gauges.server("local-chat")
    assert said["facts"]["software"] == "llama.cpp"
    assert (said["facts"]["context_tokens"], said["facts"]["slots"]) == (1024, 2)
    assert said["gauge"] | {"kv_used": None} == said["gauge"], "this llama.cpp does not report its KV cache"
    assert (said["gauge"]["running"], said["gauge"]["waiting"]) == (0, 0)
    ask = {"max_tokens": 900, "ignore_eos": True, "messages": [{"role": "user", "content": "Count to a hundred."}]}
    key = {"Authorization": f"Bearer {pool.key}"}
    async with aiohttp.ClientSession(headers=key) as session, asyncio.timeout(60):
        calls = [asyncio.create_task(session.post(f"{url}/v1/chat/completions", json=ask)) for _ in range(3)]
        while True:
            gauge = (await house.engine.gauges.server("local-chat"))["gauge"]
            if gauge and (gauge["running"], gauge["waiting"]) == (2, 1):
                break
            await asyncio.sleep(0.1)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    await pool.close()


async def test_the_connection_test_finds_out_what_a_server_refuses_and_calls_leave_it_out(house: House) -> None:
    await house.declare(table("strict", "fake?fault=stream_options_400", house.fake.url))
    first = (await house.ask(["strict"]))[0]
    assert (first["state"], first["http_status"]) == ("failed", 400)
    result = await probe(house.engine, "strict", "ada")
    assert result["ok"] is True
    assert result["sentence"] == "strict answers, but refuses stream_options: calls leave it out from now on."
    assert result["capabilities"]["refuses"] == ["stream_options"]
    before = len(house.fake.requests)
    row = (await house.ask(["strict"]))[0]
    assert row["state"] == "succeeded"
    assert len(house.fake.requests) == before + 1, "a run asks once and finds nothing out"
    assert house.engine.registry.find("strict").extra_body == {}, "the deployment itself stays as it was declared"
    await house.declare(table("strict", "fake?fault=stream_options_400", house.fake.url + "/other"))
    assert house.engine.registry.calling("strict").extra_body == {}, "another address is another server"


async def test_a_server_that_takes_everything_is_tested_with_one_call(house: House) -> None:
    await house.declare(table("easy", "fake?tokens=4", house.fake.url))
    result = await probe(house.engine, "easy", "ada")
    assert (result["ok"], "refuses" in result["capabilities"]) == (True, False)
    assert len(house.fake.requests) == 1
