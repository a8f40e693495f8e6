"""``python -m tests.fake --port 0``: the fake server in a process of its own; prints one JSON line with its URL."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import signal

from tests.fake.loop import run
from tests.fake.scripts import parse
from tests.fake.server import Core


async def serve(core: Core, *, follow_parent: bool) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent process is gone."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    core.open()
    # A pause of the collector would be a gap in every stream.
    gc.collect()
    gc.freeze()
    gc.disable()
    print(json.dumps({"url": core.url, "pid": os.getpid()}), flush=True)
    parent = os.getppid()
    while not stop.is_set() and (not follow_parent or os.getppid() == parent):
        with_timeout = asyncio.wait_for(stop.wait(), 1.0)
        try:
            await with_timeout
        except TimeoutError:
            continue
    core.shut()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.fake", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--default", default="", help='what the model "fake" does, e.g. "fake?tokens=200&itl=20"')
    parser.add_argument("--key", help="the only key that is accepted; without it any key or none is")
    parser.add_argument("--stay", action="store_true", help="go on when the parent process ends")
    given = parser.parse_args()
    default = parse(given.default) if given.default else None
    run(serve(Core(port=given.port, default=default, key=given.key), follow_parent=not given.stay))


if __name__ == "__main__":
    main()
