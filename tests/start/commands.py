"""`lab` commands in a child of this process: nothing is loaded twice, and whatever a command ends is its own."""

from __future__ import annotations

import ctypes
import importlib
import os
import select
import signal
import struct
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from typing import Any

from tests import every_module

PR_SET_SECUREBITS, SECBIT_NOROOT, CAPABILITIES_V3 = 28, 1, 0x20080522
WITHIN_S = 40.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code (None: it hung and was killed) and all that it printed."""

    code: int | None
    text: str

    @property
    def flaw(self) -> str | None:
        """What a person should never meet."""
        if self.code is None:
            return "it hung"
        if "Traceback" in self.text or "Error:" in self.text:
            return "it printed a traceback"
        ends = (".", "│", ")")
        spoken = "FIX " in self.text or any(line.rstrip().endswith(ends) for line in self.text.splitlines())
        if self.code and not spoken:
            return "it gave no sentence"
        if "could not be done" in self.text:
            return "it did not know what was wrong"
        return None


def lab(*words: str, environment: dict[str, str | None], nobody: bool = False) -> Outcome:
    """Run one command. ``nobody``: as a user without rights."""
    cli = _loaded()

    with tempfile.TemporaryFile() as out:
        pid = os.fork()
        if pid == 0:
            _child(cli, words, environment, out.fileno(), nobody)
        code = _ended(pid)
        out.seek(0)
        return Outcome(code, out.read().decode("utf-8", "replace"))


@cache
def _loaded() -> Any:
    """The command line with all that its commands load: once, before the forks."""
    every_module.load()
    return importlib.import_module("app.cli.main")


def _child(cli: Any, words: tuple[str, ...], environment: dict[str, str | None], out: int, nobody: bool) -> None:
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for name, value in environment.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        tempfile.tempdir = None
        if nobody:
            without_rights()
        sys.stdout = sys.__stdout__ = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = sys.__stderr__ = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.argv = ["lab", *words]
        cli.main()
    except SystemExit as error:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(error.code if isinstance(error.code, int) else 1)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(99)
    os._exit(0)


def _ended(pid: int) -> int | None:
    handle = os.pidfd_open(pid)
    try:
        done, _, _ = select.select([handle], [], [], WITHIN_S)
        if not done:
            os.killpg(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        return os.waitstatus_to_exitcode(status) if done else None
    finally:
        os.close(handle)


def without_rights() -> None:
    """From now on root is a user like any other, whom other people's files are closed to; also for what it starts."""
    if os.getuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = struct.pack("=II", CAPABILITIES_V3, 0)
    if libc.prctl(PR_SET_SECUREBITS, SECBIT_NOROOT, 0, 0, 0) or libc.capset(header, struct.pack("=6I", *[0] * 6)):
        raise OSError(ctypes.get_errno(), "the rights of root could not be laid down")
