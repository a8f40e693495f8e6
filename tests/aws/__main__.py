"""``python -m tests.aws --port 0``: the emulator in a process of its own; prints its URL and the environment to use."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal

from tests.aws.fixture import environ
from tests.aws.server import AwsCore
from tests.fake.loop import run


async def serve(core: AwsCore, *, follow_parent: bool, shell: bool) -> None:
    """Serve until SIGTERM or SIGINT, or until the parent process is gone."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    core.open()
    names = environ(region=core.region)
    if shell:
        print(f"# the AWS emulator answers at {core.url}")
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in names.items()), flush=True)
    else:
        print(json.dumps({"url": core.url, "pid": os.getpid(), "environ": names}), flush=True)
    parent = os.getppid()
    while not stop.is_set() and (not follow_parent or os.getppid() == parent):
        try:
            await asyncio.wait_for(stop.wait(), 1.0)
        except TimeoutError:
            continue
    core.shut()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--region", default="us-east-1", help="the only region whose signatures are accepted")
    parser.add_argument("--default", help="what names without options do, e.g. 'tokens=200&itl=20'")
    parser.add_argument("--shell", action="store_true", help="print export lines instead of JSON")
    parser.add_argument("--stay", action="store_true", help="go on when the parent process ends")
    given = parser.parse_args()
    core = AwsCore(port=given.port, default=given.default, region=given.region)
    run(serve(core, follow_parent=not given.stay, shell=given.shell))


if __name__ == "__main__":
    main()
