"""From a file to its answers through the engine's door: submitted, recorded, worked on by the engine's own worker."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from db import batches, run_queries
from db.engine import reader
from services import paths
from services.batch.files import sha256_of, spool
from services.batch.service import BatchSpec
from services.batch.types import Options
from services.client import EngineClient, EngineError
from tests.engine.house import table
from tests.engine.process import EngineProcess, engine_process
from tests.fake.fixture import FakeServerThread

pytestmark = pytest.mark.slow

QUICK, SLOW = "fake?tokens=2&ttft=4&itl=1", "fake?tokens=2&ttft=100&itl=1"


class Lab:
    """An engine process, its database, and a fake server."""

    def __init__(self, folder: Path, prompts: Path, fake: FakeServerThread, engine: EngineProcess) -> None:
        self.folder, self.prompts, self.fake, self.engine = folder, prompts, fake, engine
        self.client = engine.start()
        self.reader = reader(f"sqlite:///{folder / 'lab.sqlite3'}")

    def upload(self, text: str, name: str = "file.csv") -> BatchSpec:
        """A spec for an upload of this text."""
        stored = spool([text.encode()], self.folder / "uploads", name)
        return BatchSpec("fake", stored.parent.name, name, options=Options(prompt="Say {{word}}"), name="words")

    def row(self, batch_id: str) -> dict[str, Any]:
        found = batches.batch(self.reader, batch_id)
        assert found is not None
        return found

    def until(self, true: Callable[[], Any], timeout_s: float = 40.0) -> None:
        end = time.monotonic() + timeout_s
        while not true():
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.05)

    def until_over(self, batch_id: str) -> dict[str, Any]:
        self.until(lambda: self.row(batch_id)["state"] in batches.OVER)
        return self.row(batch_id)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder, prompts = tmp_path_factory.mktemp("submit"), tmp_path_factory.mktemp("prompts")
    file = folder / "deployments.toml"
    with (
        pytest.MonkeyPatch.context() as patch,
        FakeServerThread() as fake,
        engine_process(folder, file) as engine,
    ):
        patch.delenv("DATABASE_URL", raising=False)
        file.write_text(table("fake", QUICK, fake.url) + f'[batch]\nfolders = ["{prompts}"]\n')
        lab = Lab(folder, prompts, fake, engine)
        yield lab
        lab.client.close()
        lab.reader.dispose()


@pytest.fixture
def lab(made: Lab) -> Lab:
    """One engine for all these tests: it and its worker take seconds to load."""
    made.fake.core.reset()
    return made


def words(n: int) -> str:
    return "id,word\n" + "".join(f"w{no},word {no}\n" for no in range(1, n + 1))


def refused(ask: Callable[[], object]) -> str:
    with pytest.raises(EngineError) as raised:
        ask()
    said = str(raised.value)
    assert said.endswith(".") and len(said) < 500
    return said


def test_a_file_is_submitted_answered_warned_about_sent_again_and_deleted(lab: Lab) -> None:
    spec = lab.upload(words(40))
    batch_id = lab.client.batches.submit(spec)
    row = lab.until_over(batch_id)
    assert (row["state"], row["n_lines"], row["columns"]) == ("ended", 40, ["id", "word"]), row
    assert row["estimate"] is not None and row["file_bytes"] == len(words(40))
    lines, total = batches.lines(lab.reader, batch_id, limit=2)
    assert total == 40
    assert (lines[0]["record_id"], lines[0]["original"]) == ("w1", {"id": "w1", "word": "word 1"})
    asked = [str(one.json["messages"][-1]["content"]) for one in lab.fake.requests if one.wire]
    assert sorted(asked) == sorted(f"Say word {no}" for no in range(1, 41))
    run = run_queries.run_by_id(lab.reader, row["run_id"])
    assert run is not None
    assert (run["source"], run["template"], run["n_calls"]) == ("batch", "Say {{word}}", 40)
    alive = [one for one in lab.client.batches.workers()["workers"] if one["alive"]]
    assert len(alive) == 1

    assert "was submitted just now as “words”" in refused(lambda: lab.client.batches.submit(spec))
    assert "nothing to send again" in refused(lambda: lab.client.batches.resend(batch_id))
    again = lab.client.batches.submit(replace(spec, again=True))
    lab.until_over(again)
    vote = lab.client.batches.vote
    assert "There is no line 41" in refused(lambda: vote(batch_id, again, 41, "a"))
    vote(batch_id, again, 40, "a")
    lab.client.batches.delete(again)
    assert batches.batch(lab.reader, again) is None
    assert not (lab.folder / "batches" / again).exists()
    assert batches.lines(lab.reader, again) == ([], 0)


def test_what_cannot_be_sent_is_refused_in_words_and_leaves_nothing(lab: Lab) -> None:
    spec, submit = lab.upload(words(3)), lab.client.batches.submit
    before = len(batches.batches(lab.reader))
    assert "no deployment called “nobody”" in refused(lambda: submit(replace(spec, deployment_id="nobody")))
    assert "has to be the name of a file" in refused(lambda: submit(replace(spec, file_name="../x")))
    assert "upload the file again" in refused(lambda: submit(replace(spec, sha256="0" * 64)))
    lacking = replace(spec, options=Options(prompt="Say {{wort}}"))
    assert "wort" in refused(lambda: submit(lacking))
    mixed = lab.upload("id,word\na,hello\nb,\n", "mixed.csv")
    mixed = replace(mixed, options=Options(prompt="{{word}}"))
    assert "valid ones" in refused(lambda: submit(mixed))
    costly = {"cost_high": 2_000_000_000}
    assert "above the budget" in refused(lambda: submit(replace(spec, budget_nanousd=1000, estimate=costly)))
    assert "OpenAI's own API" in refused(lambda: submit(replace(spec, route="openai")))

    path = lab.prompts / "named.csv"
    path.write_text(words(5))
    named = replace(spec, path=str(path), sha256=sha256_of(path))
    member = EngineClient(paths.socket_path(lab.folder), person="eve", role="member")
    with contextlib.closing(member):
        assert "upload the file instead" in refused(lambda: member.batches.submit(named))
    path.write_text(words(6))
    assert "changed since it was checked" in refused(lambda: submit(named))
    assert "no file" in refused(lambda: submit(replace(named, path=str(lab.prompts / "none.csv"))))
    for outside in ("/nowhere/at/all.csv", "/etc/passwd", str(lab.folder / "lab.sqlite3")):
        elsewhere = replace(named, path=outside)
        assert "only in the folders" in refused(partial(submit, elsewhere))
    (lab.prompts / "link.csv").symlink_to(lab.folder / "deployments.toml")
    assert "only in the folders" in refused(lambda: submit(replace(named, path=str(lab.prompts / "link.csv"))))
    viewer = EngineClient(paths.socket_path(lab.folder), person="eve", role="viewer")
    with contextlib.closing(viewer):
        refused(lambda: viewer.batches.submit(spec))
        refused(lambda: viewer.batches.cancel("x"))
    assert "not in the records" in refused(lambda: lab.client.batches.pause("nothing"))
    assert len(batches.batches(lab.reader)) == before, "nothing is left of it"
    row = lab.until_over(submit(replace(mixed, options=replace(mixed.options, leave_out=True))))
    assert (row["n_lines"], row["n_left_out"]) == (1, 1)


def test_the_engine_and_its_worker_may_both_die_and_the_batch_goes_on_at_the_next_start(lab: Lab) -> None:
    file = lab.folder / "deployments.toml"
    file.write_text(table("fake", SLOW, lab.fake.url))
    time.sleep(0.01)  # a clock of the file system that is coarser than that would hide the change
    batch_id = lab.client.batches.submit(replace(lab.upload(words(60)), max_lanes=4))
    lab.until(lambda: batches.counts(lab.reader, batch_id).get("succeeded", 0) >= 8)
    worker = next(one["pid"] for one in lab.client.batches.workers()["workers"] if one["alive"])
    lab.client.close()
    lab.engine.kill()
    lab.until(lambda: not _alive(worker), 15)
    file.write_text(table("fake", QUICK, lab.fake.url))
    lab.client = lab.engine.start()
    row = lab.until_over(batch_id)
    assert row["state"] == "ended"
    assert batches.counts(lab.reader, batch_id) == {"succeeded": 60}
    asked = [str(one.json["messages"][-1]["content"]) for one in lab.fake.requests if one.wire]
    assert len(asked) - len(set(asked)) <= 4

    paused = lab.client.batches.submit(replace(lab.upload(words(50)), per_minute=300))
    lab.until(lambda: batches.counts(lab.reader, paused).get("succeeded", 0) >= 2)
    assert "cancel it first" in refused(lambda: lab.client.batches.delete(paused))
    lab.client.batches.pause(paused)
    lab.until(lambda: lab.row(paused)["state"] == "paused")
    assert lab.row(paused)["said"] == "Paused by hand."
    lab.client.batches.cancel(paused)
    assert lab.until_over(paused)["state"] == "cancelled"
    again = lab.client.batches.resend(paused)
    assert lab.row(again)["parent_id"] == paused
    assert lab.row(again)["n_lines"] == batches.counts(lab.reader, paused)["cancelled"]
    lab.client.batches.cancel(again)
    lab.until_over(again)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
