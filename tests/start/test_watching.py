"""What dies, is frozen or hangs is named and started again; what is only slow is left alone."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from app import launcher
from app.launcher import _Child, _Lab
from services import paths
from services.client import EngineClient, EngineError
from services.engine_process import spawn
from services.processes import health
from services.processes.health import Vitals
from services.security import listening
from services.security.listening import Address
from tests.start.running import Running, gone, running, until

pytestmark = pytest.mark.slow

SENTENCE = re.compile(r"did not answer for (\d+) s \(its process was stopped from outside\) and was ended; starting it")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory):
    with running(tmp_path_factory.mktemp("lab")) as made:
        yield made.up()


@pytest.mark.parametrize(("name", "module"), [("engine", "services.engine_process"), ("pages", "app.server")])
def test_what_is_frozen_is_named_within_ten_seconds_and_started_again(lab: Running, name: str, module: str) -> None:
    before, lines = lab.child(module), len(lab.lines)
    os.kill(before, signal.SIGSTOP)
    frozen = time.monotonic()
    line = lab.says(f"The {name} process did not answer", after=lines)
    # Generous towards a machine that runs other suites; on its own it takes four to seven seconds.
    assert time.monotonic() - frozen < 20
    assert SENTENCE.search(line), line
    lab.says(f"The {name} process answers again.", after=lines)
    assert gone(before)
    assert lab.child(module) not in (0, before)
    EngineClient(paths.socket_path(lab.data)).health()


def test_what_dies_is_started_again_and_its_end_is_told(lab: Running) -> None:
    before, lines = lab.child("services.engine_process"), len(lab.lines)
    os.kill(before, signal.SIGKILL)
    assert lab.says("engine process ended (ended by SIGKILL); starting it again", after=lines)
    lab.says("answers again", after=lines)


def test_a_second_start_on_the_same_data_says_where_the_first_is(lab: Running) -> None:
    port = a_port_of(lab)
    second = Running(lab.data.parent)
    assert second.process.wait(60) == 2
    second.end()
    assert f"Inference Lab already runs at http://localhost:{port}" in second.text
    assert len(second.lines) == 1


def a_port_of(lab: Running) -> int:
    noted = health.noted_lab(lab.data)
    assert noted is not None
    return noted.port


def test_the_container_s_health_check_asks_that_address_and_no_proxy(lab: Running) -> None:
    proxied = {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", "LAB_DATA": str(lab.data)}
    command = [sys.executable, "-P", "-m", "services.processes.health"]
    environment = {**os.environ, "PYTHONPATH": str(paths.ROOT), **proxied}
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    environment |= {"LAB_DATA": str(lab.data / "none"), "LAB_PORT": "9"}
    assert subprocess.run(command, env=environment, check=False, capture_output=True).returncode == 1


def test_the_supervisor_sleeps_between_its_looks(lab: Running) -> None:
    def switches() -> int:
        tasks = Path(f"/proc/{lab.process.pid}/task")
        texts = [(task / "status").read_text() for task in tasks.iterdir()]
        return sum(map(int, re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", "".join(texts), re.MULTILINE)))

    before = switches()
    time.sleep(6)
    assert switches() - before < 40, "6 seconds hold two looks at two processes; polling would be 30 and more for each"


def test_after_kill_9_nothing_stays_behind_and_the_next_start_waits_for_the_last_end(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        first.up()
        children = [first.child("services.engine_process"), first.child("app.server")]
        first.process.kill()
        with running(tmp_path) as second:
            second.up()
            until(lambda: gone(*children))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_signal_while_it_stops_ends_it_at_once_and_leaves_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path) as lab:
        lab.up()
        children = [lab.child("services.engine_process"), lab.child("app.server")]
        lab.process.send_signal(number)
        lab.process.send_signal(number)
        lab.process.send_signal(signal.SIGINT)
        lab.process.wait(40)
        until(lambda: gone(*children))
        assert lab.process.returncode in (0, 130)
        assert lab.lines[1] == "Stopping."


def child_of(code: str, answers: list[bool]) -> _Child:
    async def answer() -> bool:
        return answers.pop(0) if answers else False

    async def up(_child: _Child) -> None:
        pass

    made = _Child("engine", Path("/nowhere"), lambda: subprocess.Popen([sys.executable, "-c", code]), up, answer)
    made.begin()
    return made


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("CHECK_EVERY_S", 0.05), ("ASLEEP_S", 1.5), ("AT_WORK_S", 6.0), ("DUMP_S", 0.05)):
        monkeypatch.setattr(launcher, name, value)


def house(folder: Path, told: list[str]) -> _Lab:
    return _Lab(Address("127.0.0.1"), 1, folder, folder / "deployments.toml", told.append)


async def test_what_hangs_without_any_work_is_named_and_ended(tmp_path: Path, quick_looks: None) -> None:
    told: list[str] = []
    reason = await house(tmp_path, told)._wait_for_end(child_of("import time; time.sleep(600)", [True, True]))
    assert "(its process hangs) and was ended" in reason
    assert len(told) <= 1


async def test_what_is_at_work_is_named_and_left_alone_for_longer(tmp_path: Path, quick_looks: None) -> None:
    told: list[str] = []
    busy = child_of("while True: pass", [True])
    reason = await house(tmp_path, told)._wait_for_end(busy)
    assert "at work; it is started again if that goes on" in told[0]
    assert "(although its process is at work)" in reason
    told.clear()
    slow = child_of("while True: pass", [False, False, True, True, False, True, False, False, True] + [True] * 9999)
    watch = asyncio.ensure_future(house(tmp_path, told)._wait_for_end(slow))
    while len(told) < 4:
        await asyncio.sleep(0.05)
    assert ["answers again" in line for line in told] == [False, True, False, True], "one miss alone says nothing"
    assert slow.process is not None and slow.process.poll() is None
    slow.process.kill()
    assert "ended by SIGKILL" in await watch


def test_a_start_that_stands_still_is_ended_and_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "LOOK_S", 0.05)
    monkeypatch.setattr(spawn, "NAMED_AFTER_S", 0.2)
    monkeypatch.setattr(spawn, "ASLEEP_S", 0.6)
    told: list[str] = []
    with pytest.raises(EngineError, match=r"stuck reading the records \(nothing has happened for \d+ s\)"):
        spawn.first_words(script("reading the records", long=False), told.append)
    assert told == ["The engine has been reading the records for 0 s; still waiting."]
    stopped = script("loading", long=False)
    os.kill(stopped.pid, signal.SIGSTOP)
    with pytest.raises(EngineError, match="stopped from outside"):
        spawn.first_words(stopped, told.append)


def test_a_migration_is_waited_for_and_said_to_be_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "LOOK_S", 0.05)
    monkeypatch.setattr(spawn, "NAMED_AFTER_S", 0.1)
    monkeypatch.setattr(spawn, "ASLEEP_S", 0.2)
    told: list[str] = []
    process = script("bringing it up to date", long=True, then='time.sleep(2); print(\'{"socket": "/x"}\', flush=True)')
    assert spawn.first_words(process, told.append) == Path("/x")
    assert told == ["The engine is bringing it up to date; with many records this takes minutes. Leave it at work."]
    process.wait(20)


def script(doing: str, *, long: bool, then: str = "time.sleep(600)") -> subprocess.Popen[bytes]:
    code = f'import time; print(\'{{"doing": "{doing}", "long": {str(long).lower()}}}\', flush=True); {then}'
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


def test_a_process_that_waits_for_a_processor_or_a_disk_counts_as_at_work() -> None:
    idle = Vitals(1.0, psutil.STATUS_SLEEPING)
    assert not Vitals(1.0, psutil.STATUS_SLEEPING).works_since(idle)
    assert not Vitals(1.0, psutil.STATUS_STOPPED).works_since(idle)
    assert Vitals(1.0, psutil.STATUS_RUNNING).works_since(idle)
    assert Vitals(1.0, psutil.STATUS_DISK_SLEEP).works_since(idle)
    assert Vitals(1.2, psutil.STATUS_SLEEPING).works_since(idle)
    assert health.vitals(2**22 + 1) == Vitals()


def test_one_ctrl_c_that_arrives_twice_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = launcher._Lab(listening.Address("127.0.0.1"), 1, tmp_path, tmp_path, print)
    lab._on_stop_signal()
    lab._on_stop_signal()
    assert lab.stopping.is_set() and not lab.at_once.is_set()
    lab.stop_signal_at -= 2 * launcher.SAME_S
    lab._on_stop_signal()
    assert lab.at_once.is_set()
