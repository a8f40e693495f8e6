"""A service that refuses everything, through the worker as the process that it is; and the local model's address."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from db import batches
from services.batch import runner
from services.batch.runner import EnginePool
from services.embedded import EmbeddedUnavailable
from tests.batch.runner.desk import FAST, Desk


def paused(desk: Desk, batch_id: str) -> str:
    desk.until(lambda: desk.row(batch_id)["state"] == "paused")
    return str(desk.row(batch_id)["said"])


@pytest.mark.slow
def test_a_storm_of_refusals_pauses_the_batch_and_a_resume_answers_every_line(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_BATCH_PATIENCE", "2")
    desk.deploy("fake?fault=http_429_plain")
    refused = desk.batch(30, max_lanes=2)
    desk.worker()
    said = paused(desk, refused)
    assert said.startswith("Paused: fake ") and "429" in said and said.endswith("Resume when it is well again.")
    assert batches.counts(desk.reader, refused) == {"waiting": 30}, "no line is given up for it"
    desk.deploy("fake?fault=http_429&retry_after=3600")
    later = desk.batch(30, max_lanes=2)
    assert "asks for a wait of 60 min" in paused(desk, later)
    desk.deploy(FAST)
    for batch_id in (refused, later):
        desk.do(batches.set_batch, batch_id=batch_id, wanted="run", state="queued")
        row = desk.until_over(batch_id)
        assert (row["state"], row["said"]) == ("ended", "30 answered of 30 lines.")


# --- the address of the local model --------------------------------------------------------------------------------


class Pool(EnginePool):
    """Asks nobody; ``answers``: what the engine would say, one after the other."""

    def __init__(self, folder: Path, answers: list[str]) -> None:
        super().__init__(folder)
        self.answers, self.asked, self.threads = answers, 0, set[int]()

    def _ask(self, name: str) -> str:
        self.asked += 1
        self.threads.add(threading.get_ident())
        answer = self.answers[min(self.asked, len(self.answers)) - 1]
        if not answer:
            raise EmbeddedUnavailable("the engine does not answer")
        return answer


def test_the_engine_is_asked_for_the_local_model_once_until_a_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "ASKED_EVERY_S", 0.0)
    pool = Pool(tmp_path, ["http://127.0.0.1:1", "http://127.0.0.1:2"])

    async def calls() -> list[str]:
        found = [await pool.url("main") for _ in range(50)]
        assert pool.asked == 1
        pool.doubt("main")
        return found + list(await asyncio.gather(*(pool.url("main") for _ in range(50))))

    found = asyncio.run(calls())
    assert pool.asked == 2
    assert set(found[:50]) == {"http://127.0.0.1:1"} and set(found[50:]) == {"http://127.0.0.1:2"}


def test_many_failing_calls_ask_no_more_often_than_before_and_a_missing_engine_is_asked_again(tmp_path: Path) -> None:
    pool = Pool(tmp_path, ["", "http://127.0.0.1:1"])

    async def calls() -> None:
        with pytest.raises(EmbeddedUnavailable):
            await pool.url("main")
        for _ in range(50):
            assert await pool.url("main") == "http://127.0.0.1:1"
            pool.doubt("main")

    asyncio.run(calls())
    assert pool.asked == 2
