"""What the product writes is for its owner alone, whatever the umask; what lies open already is closed at a start."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from db.migrate import backup, upgrade
from db.permissions import private_directory
from services.batch.files import spool
from services.paths import ROOT
from tests.engine.house import table
from tests.engine.process import engine_process
from tests.fake.fixture import FakeServerThread

pytestmark = pytest.mark.slow

QUICK = "fake?tokens=2&ttft=1&itl=1"


def open_to_others(folder: Path) -> list[str]:
    """Every path, the folder's own too, that somebody else may do anything with."""
    paths = [folder, *folder.rglob("*")]
    return [
        f"{stat.S_IMODE(path.lstat().st_mode):o} {path.relative_to(folder.parent)}"
        for path in paths
        if not path.is_symlink() and path.lstat().st_mode & 0o077
    ]


def lab(umask: int, *arguments: str) -> str:
    """What a command prints that was started with a umask of its own, as a service may be."""
    program = f"import os; os.umask({umask}); from app.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=os.environ | {"LAB_EMBEDDED": "0"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_whatever_the_umask_nobody_else_may_read_what_is_recorded(
    umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine, its worker, a call, a batch, an export, the demo history and a backup, one after the other."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("LAB_EMBEDDED", "0")
    data, config = tmp_path / "new" / "data", tmp_path / "config"
    config.mkdir()
    prompts = config / "words.csv"
    prompts.write_text("word\none\ntwo\n")
    file = config / "deployments.toml"
    with FakeServerThread() as fake:
        file.write_text(table("fake", QUICK, fake.url))
        before = os.umask(umask if umask == 0 else 0o022)
        try:
            with engine_process(data, file) as engine:
                engine.start().close()
                here = ("--data", str(data), "--deployments", str(file))
                lab(umask, "send", "Hello", "-d", "fake", *here)
                asked = ("-d", "fake", "--template", "{{word}}", "--wait", "--json")
                batch_id = json.loads(lab(umask, "batch", "submit", str(prompts), *asked, *here))["id"]
                out = tmp_path / "new" / "out.jsonl"
                out.touch()
                out.chmod(0o666)  # what was there before is closed to others too
                lab(umask, "batch", "results", batch_id, "--to", str(out), "--data", str(data))
                lab(umask, "runs", "--data", str(data))
                assert open_to_others(data) == []
            assert stat.S_IMODE(out.stat().st_mode) == 0o600
            assert {one.name for one in data.iterdir()} >= {"lab.sqlite3", "logs", "uploads", "batches", "engine.lock"}
        finally:
            os.umask(before)
    other = tmp_path / "new" / "other"
    lab(umask, "demo", "--calls", "50", "--data", str(other))
    backup(data / "lab.sqlite3", other / "backups")
    spool([b"x"], other / "uploads", "x.csv")
    private_directory(other, everything=True)
    assert open_to_others(other) == []


def test_what_lies_open_already_is_closed_and_nothing_else_is_touched(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    upgrade(f"sqlite:///{data / 'lab.sqlite3'}", data)
    outside.mkdir()
    for name in (
        "logs/engine.log",
        "backups/lab-1.sqlite3",
        "uploads/x/words.csv",
        "batches/b/input.csv",
        "batches/b/mark/j.json",
        "demo.sqlite3",
        "demo.sqlite3-wal",
        "lab.sqlite3-shm",
        "engine.lock",
        "mine/script.sh",
        "notes.txt",
    ):
        made = data / name
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text("x")
        made.chmod(0o755)
    for folder in (data, *(one for one in data.rglob("*") if one.is_dir())):
        folder.chmod(0o777)
    (outside / "file.sqlite3").write_text("x")
    (outside / "file.sqlite3").chmod(0o644)
    outside.chmod(0o755)
    (data / "uploads" / "link").symlink_to(outside)
    (data / "logs" / "link.log").symlink_to(outside / "file.sqlite3")
    (data / "link.sqlite3").symlink_to(outside / "file.sqlite3")
    os.mkfifo(data / "logs" / "pipe")

    private_directory(data)

    mine = {"data/mine", "data/mine/script.sh", "data/notes.txt"}
    assert {one.partition(" ")[2] for one in open_to_others(data)} - {"data/logs/pipe"} == mine
    assert stat.S_IMODE((data / "mine" / "script.sh").stat().st_mode) == 0o755, "it is not ours"
    assert stat.S_IMODE((outside / "file.sqlite3").stat().st_mode) == 0o644, "behind a link nothing is changed"
    assert stat.S_IMODE(outside.stat().st_mode) == 0o755
    late = data / "logs" / "late.log"
    late.write_text("x")
    late.chmod(0o644)
    private_directory(data, everything=True)
    assert stat.S_IMODE(late.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_a_directory_of_somebody_elses_is_left_alone_and_said() -> None:
    # Not below pytest's own folder, which is closed to other users.
    with tempfile.TemporaryDirectory(prefix="lab-foreign-") as folder:
        Path(folder).chmod(0o755)
        _left_alone(Path(folder))


def _left_alone(folder: Path) -> None:
    foreign = folder / "foreign"
    foreign.mkdir()
    foreign.chmod(0o777)
    said = []
    argument = f"'--data', '{foreign}'"
    engine = f"from services.engine_process.__main__ import main; import sys; sys.argv = ['x', {argument}]; main()"
    commands = ("'send', 'Hi', '-d', 'x'", "'deployments'", "'demo', '--calls', '5'", "'doctor'", "'worker'")
    calls = [
        f"from app.cli.main import main; import sys; sys.argv = ['lab', {one}, {argument}]; main()" for one in commands
    ]
    for call in (engine, *calls):
        # The modules are loaded first: another user may not be allowed to read them here.
        program = (
            "from tests import every_module; every_module.load(); "
            "import services.engine_process.__main__, app.cli.main, os; "
            f"os.setuid(65534); {call}"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env=os.environ | {"LAB_EMBEDDED": "0", "LAB_SOCKET": str(folder / "none.sock"), "HOME": "/nonexistent"},
        )
        text = done.stdout + done.stderr
        if "belongs to somebody else" not in text or "Traceback" in text or done.returncode == 0:
            said.append((call, done.returncode, text[-600:]))
    assert not said, "\n".join(map(str, said))
    assert list(foreign.iterdir()) == []
    assert stat.S_IMODE(foreign.stat().st_mode) == 0o777
