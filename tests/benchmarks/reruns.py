"""Beside the measurement: reruns the real playground page over and over, ``python -m tests.benchmarks.reruns``.

Prints "ready" once it is warm, and at SIGTERM how many reruns there were and how long they took.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
import time
from pathlib import Path

from services.processes.output import write_whole

PER_SECOND = 2.0


def main() -> None:
    """Rerun a page that shows a finished run, `PER_SECOND` times a second, until told to stop."""
    logging.disable(logging.WARNING)
    write_whole()
    from app import auth
    from tests.pages.lab import Lab, page

    stop: list[int] = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    with tempfile.TemporaryDirectory(prefix="lab-bench-") as folder:
        lab = Lab(Path(folder))
        auth.sources = lab
        run_id = lab.record("Why is the sky blue?")
        at = page("playground", run=run_id)
        for _ in range(3):
            at.run()
        assert not at.exception and at.title[0].value == "Playground"
        print("ready", flush=True)
        took: list[float] = []
        while not stop:
            begin = time.perf_counter()
            at.run()
            took.append(time.perf_counter() - begin)
            time.sleep(max(0.0, 1 / PER_SECOND - took[-1]))
    print(json.dumps({"reruns": len(took), "mean_ms": 1000 * sum(took) / max(1, len(took))}), flush=True)
    sys.exit(0)


if __name__ == "__main__":
    main()
