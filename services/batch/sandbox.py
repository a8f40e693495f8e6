"""A sandbox process (`sandbox_process`) for patterns and schemas, which is ended when it does not answer in time."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

PROGRAM = Path(__file__).with_name("sandbox_process.py")
SECONDS = 1.0  # for one text
GRACE_S = 3.0  # then the process is ended
START_S = 20.0
MOST_SLOW = 3  # texts that took too long, until the rest is not tried


class Sandbox:
    """Verdicts of one pattern or one schema on many texts, each within ``seconds``. To be used with ``with``.

    Entering raises ValueError in words for a pattern or a schema that cannot be used.
    """

    def __init__(
        self, kind: Literal["regex", "schema"], pattern: str | None, *, flags: int = 0, seconds: float = SECONDS
    ) -> None:
        self._first = {"kind": kind, "what": pattern, "flags": flags, "seconds": seconds}
        self._seconds = seconds
        self._name = "pattern" if kind == "regex" else "schema"
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self._due: float | None = None
        self._closed = threading.Event()
        self.slow = 0

    def __enter__(self) -> Sandbox:
        """Start the process and have it look at the pattern."""
        threading.Thread(target=self._watch, name="checks-watch", daemon=True).start()
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def ask(self, text: str, pattern: str | None = None) -> tuple[bool | None, str]:
        """The verdict on one text and why; None: not known. ``pattern``: a pattern or schema for this text alone."""
        if self.slow >= MOST_SLOW:
            return None, f"not checked: the {self._name} took more than {self._seconds:g} s on {self.slow} lines"
        if self._process is None:
            self._start()
        answer = self._exchange([pattern, text], self._seconds + GRACE_S)
        if answer is None or answer[1] == "slow":
            self.slow += 1
            return None, f"not checked: the {self._name} took more than {self._seconds:g} s on this answer"
        return answer[0], answer[1]

    def close(self) -> None:
        """End the process."""
        self._closed.set()
        self._end()

    def _start(self) -> None:
        # Isolated (-I): neither the working directory nor variables of Python's decide what it imports.
        self._process = subprocess.Popen(  # noqa: S603  # our own program, the pattern goes through its input
            [sys.executable, "-I", str(PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
        )
        answer = self._exchange(self._first, START_S)
        if answer is None:
            raise ValueError(f"The {self._name} is too much to be looked at: make it simpler.")
        if not answer["ok"]:
            raise ValueError(f"The {self._name} cannot be used: {answer['why']}.")

    def _exchange(self, message: object, seconds: float) -> Any:
        """One question and its answer; None when the process had to be ended or ended by itself."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        self._due = time.monotonic() + seconds
        try:
            process.stdin.write(json.dumps(message) + "\n")  # ASCII: no character of a text ends the line
            process.stdin.flush()
            line = process.stdout.readline()
        except (OSError, ValueError):
            line = ""
        finally:
            self._due = None
        if not line:
            self._end()
            return None
        return json.loads(line)

    def _watch(self) -> None:
        while not self._closed.wait(0.25):
            due, process = self._due, self._process
            if due is not None and process is not None and time.monotonic() > due:
                process.kill()

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
