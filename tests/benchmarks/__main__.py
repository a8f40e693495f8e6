"""``python -m tests.benchmarks [streams click viewers writer startup history crowd batch calculator] [--quick]``."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import sys

from services.processes.output import write_whole

NAMES = ("streams", "click", "viewers", "writer", "startup", "history", "crowd", "batch", "calculator")


def main() -> None:
    """Run the named benchmarks one after the other; all of them when none is named."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which ones; all when none is named")
    parser.add_argument("--quick", action="store_true", help="short runs, to see that they work")
    given = parser.parse_args()
    write_whole()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    with contextlib.suppress(PermissionError, ValueError):
        os.setpriority(os.PRIO_PROCESS, 0, int(os.environ.get("LAB_BENCH_NICE", "0")))
    for name in given.names or NAMES:
        importlib.import_module(f"tests.benchmarks.{name}").main(quick=given.quick)


if __name__ == "__main__":
    main()
