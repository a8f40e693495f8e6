"""The engine as a process: its door, its roles, its lock, and what is left of it after kill −9."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from db.engine import make_engine, reader
from services import paths
from services.client import EngineClient, EngineDown, EngineError
from services.runs.spec import ColumnSpec, RunSpec
from services.types import Deployment
from tests.engine.house import KEY, KEY_NAME, table
from tests.engine.kill import kill_often
from tests.engine.process import EngineProcess, engine_process
from tests.fake.fixture import FakeServerThread
from tests.postgres import Server

pytestmark = pytest.mark.slow

HI = RunSpec("Hi", (ColumnSpec("quick"), ColumnSpec("slow")))


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServerThread]:
    with FakeServerThread() as server:
        yield server


def declared(folder: Path, fake: FakeServerThread) -> Path:
    file = folder / "deployments.toml"
    file.write_text(
        table("quick", "fake?tokens=5&itl=1&ttft=1", fake.url)
        + table("slow", "fake?tokens=400&itl=10", fake.url)
        + table("keyed", "fake?fault=http_401", fake.url, "messages")
    )
    return file


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory, fake: FakeServerThread) -> Iterator[EngineProcess]:
    data = tmp_path_factory.mktemp("data")
    with engine_process(data, declared(data, fake), {KEY_NAME: KEY}) as made:
        made.start().close()
        yield made


def over(client: EngineClient, run_id: str) -> None:
    end = time.monotonic() + 60
    while client.live(run_id):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_viewer_may_look_and_do_nothing_else(engine: EngineProcess) -> None:
    viewer, admin = engine.client("viewer"), engine.client("admin")
    run_id = admin.start_run(HI)
    deployment = Deployment("", "Mine", "openai-compatible", "m", "http://localhost:9/v1")
    for forbidden in (
        lambda: viewer.start_run(HI),
        lambda: viewer.stop(run_id),
        lambda: viewer.retry(run_id, 0),
        lambda: viewer.annotate(run_id, starred=True),
        lambda: viewer.delete_runs([run_id]),
        lambda: viewer.vote(run_id, {"choice": "best", "column_a": 0}),
        lambda: viewer.save_deployment(deployment),
        lambda: viewer.set_enabled("quick", False),
        lambda: viewer.remove_deployment("quick"),
        lambda: viewer.test_deployment("quick"),
        lambda: viewer.enable_catalogue("openai", True),
        lambda: engine.client("member").save_deployment(deployment),
        lambda: engine.client("emperor").start_run(HI),
    ):
        with pytest.raises(EngineError, match="You can look at everything here, but not"):
            forbidden()
    assert viewer.live(run_id)
    assert viewer.deployments()
    with viewer.stream(run_id) as frames:
        assert next(frames)["type"] == "snapshot"
    with pytest.raises(EngineError, match="still under way"):
        admin.delete_runs([run_id])
    admin.stop(run_id)
    over(admin, run_id)
    assert admin.delete_runs([run_id]) == 1


def test_the_door_is_for_this_user_only(engine: EngineProcess) -> None:
    mode = paths.socket_path(engine.data).stat().st_mode
    assert stat.S_IMODE(mode) == 0o600


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"prompt":1,"columns":[1]}', 422),
        (b'{"prompt":"x","columns":[]}', 422),
        (b"\xff\xfe", 422),
        (b'{"prompt":"' + b"x" * 17_000_000 + b'"}', 413),
    ],
)
def test_nonsense_at_the_door_gets_a_sentence(engine: EngineProcess, body: bytes, status: int) -> None:
    transport = httpx.HTTPTransport(uds=str(paths.socket_path(engine.data)))
    with httpx.Client(transport=transport, base_url="http://engine") as client:
        answer = client.post("/runs", content=body, headers={"x-lab-role": "admin"})
        assert answer.status_code == status
        if status == 422:
            assert answer.json()["error"].endswith(".")
        assert client.get("/health").json()["ok"]


def test_a_second_engine_on_the_same_data_is_refused(engine: EngineProcess) -> None:
    second = EngineProcess(engine.data, engine.file)
    with pytest.raises(EngineError, match="Another engine already works"):
        second.start()
    assert engine.client("viewer").health()["ok"]


def test_a_key_reaches_no_file_of_the_data_directory(engine: EngineProcess) -> None:
    admin = engine.client("admin")
    run_id = admin.start_run(RunSpec("Hi", (ColumnSpec("keyed"),)))
    over(admin, run_id)
    said = admin.test_deployment("keyed")
    assert (said["reachable"], said["authorised"]) == (True, False)
    for file in [path for path in engine.data.rglob("*") if path.is_file()]:
        assert KEY.encode() not in file.read_bytes(), file


def test_a_broken_file_is_told_and_what_was_known_goes_on(engine: EngineProcess) -> None:
    admin = engine.client("admin")
    good = engine.file.read_text()
    known = {status.deployment.id for status in admin.deployments()}
    engine.file.write_text(good + "\n[[deployment]\nname = ")
    assert {status.deployment.id for status in admin.deployments()} == known
    trouble = admin.health()["file_trouble"]
    assert "deployments.toml, line" in trouble
    run_id = admin.start_run(RunSpec("Hi", (ColumnSpec("quick"),)))
    over(admin, run_id)
    time.sleep(0.02)
    engine.file.write_text(good)
    admin.deployments()
    assert admin.health()["file_trouble"] is None


def test_without_an_engine_the_client_says_so_in_a_sentence(tmp_path: Path) -> None:
    client = EngineClient(tmp_path / "nobody.sock")
    with pytest.raises(EngineDown, match="does not answer"):
        client.health()


def test_an_engine_whose_starter_is_gone_ends(tmp_path: Path, fake: FakeServerThread) -> None:
    code = (
        "import sys, time; from pathlib import Path; from services.engine_process import spawn\n"
        "p = spawn.popen(Path(sys.argv[1]), Path(sys.argv[2]), embedded=False); spawn.first_words(p)\n"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path), str(declared(tmp_path, fake))]
    starter = subprocess.Popen(command, cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.kill()
    starter.wait(20)
    end = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and not _zombie(pid):
        assert time.monotonic() < end, "it stayed behind"
        time.sleep(0.05)


def _zombie(pid: int) -> bool:
    try:
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_after_kill_9_no_acknowledged_row_is_lost_and_none_is_stuck() -> None:
    tallies = kill_often(2, 64, seed=os.getpid())
    assert all(tally.held for tally in tallies), tallies
    assert all(tally.acknowledged for tally in tallies)


@pytest.mark.postgres
def test_the_engine_on_postgresql(server: Server, tmp_path: Path, fake: FakeServerThread) -> None:
    url = server.create("of_the_engine")
    with engine_process(tmp_path, declared(tmp_path, fake), {"DATABASE_URL": url}) as engine:
        client = engine.start()
        assert client.health()["db"] == "postgresql"
        run_id = client.start_run(RunSpec("Hi", (ColumnSpec("quick"),)))
        over(client, run_id)
        left = client.start_run(HI)
        time.sleep(0.3)
        engine.kill()
        # Its heartbeat is fresh, so another engine may not take it for dead yet; then it is made to look old.
        with reader(url).connect() as connection:
            states = dict(connection.exec_driver_sql("SELECT deployment_id, state FROM call").all())
            assert states["slow"] == "running"
            assert connection.exec_driver_sql(f"SELECT count(*) FROM call WHERE run_id = '{left}'").scalar() == 2
        with make_engine(url).begin() as connection:
            connection.exec_driver_sql("UPDATE owner SET heartbeat_at = heartbeat_at - interval '5 minutes'")
        assert engine.start().health()["lost_at_start"] >= 1
        with reader(url).connect() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM call WHERE state = 'running'").scalar() == 0
            ended = "SELECT state FROM call WHERE deployment_id = 'quick'"
            assert set(connection.exec_driver_sql(ended).scalars()) == {"succeeded"}
