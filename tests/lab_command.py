"""`lab` inside the test's own process: starting a Python for each command cost a minute of the suite.

What only a process of its own can show (Ctrl-C, a full disk, its first line of output) starts one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

from app.cli import main as cli_main


@contextlib.contextmanager
def _as_a_process(arguments: list[str], stdin: bytes, cwd: Path | str, env: Mapping[str, str]) -> Iterator[None]:
    """The program's arguments, input, folder and environment; signals and handlers as they were afterwards."""
    folder, handlers = Path.cwd(), list(logging.getLogger().handlers)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.chdir(cwd)
    try:
        with (
            mock.patch.object(sys, "argv", ["lab", *arguments]),
            mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")),
            mock.patch.dict(os.environ, env),
        ):
            yield
    finally:
        os.chdir(folder)
        logging.getLogger().handlers[:] = handlers
        for number, handler in signals.items():
            signal.signal(number, handler)


def run_lab(
    *arguments: str | Path, stdin: bytes = b"", cwd: Path | str = "/", env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `lab` with these arguments to its end; no local model is started unless ``env`` says so."""
    words = [str(argument) for argument in arguments]
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    err.reconfigure(errors="backslashreplace")
    code = 0
    with (
        _as_a_process(words, stdin, cwd, {"LAB_EMBEDDED": "0", **(env or {})}),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli_main.main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    texts = [stream.buffer.getvalue().decode() for stream in (out, err)]  # type: ignore[attr-defined]  # a BytesIO
    assert "Traceback" not in texts[1], texts[1]
    return subprocess.CompletedProcess(["lab", *words], code, *texts)
