"""Start the UI process: `python -m app.server --port 8501`, as `lab run` does, or `serve(8501)`."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import signal
import sys

from app import streamlit_config
from db.permissions import private_files
from services.paths import ROOT
from services.processes import lifetime
from services.security import listening
from services.security.listening import CannotListen

NICENESS = 5  # what draws lets what measures go first


def serve(
    port: int, address: str = "127.0.0.1", *, parent_pid: int | None = None, everyone_is_admin: bool = False
) -> None:
    """Serve the app on ``address``:``port`` (0: a free one) until SIGINT or SIGTERM, or until the parent is gone.

    The settings are those of `app.asgi.SETTINGS` and, for the look, of `.streamlit/config.toml`, wherever this is
    started from. Raises `CannotListen` for an address that others reach without signing in, SystemExit(1) when the
    port is taken and SystemExit(3) when the app does not start.
    """
    endpoint = listening.resolve(address)
    listening.refuse_open_door(endpoint, everyone_is_admin=everyone_is_admin)
    # `lab run` asks with it where each thread stands before it ends pages that hang.
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    if parent_pid is not None:
        lifetime.when_gone(parent_pid, lambda: os.kill(os.getpid(), signal.SIGTERM))
    # Streamlit looks for `.streamlit/` where it is started, and puts the folder of the started script on the path:
    # both have to be the root, or the settings are missed and our modules can be imported under two names.
    os.chdir(ROOT)
    private_files()  # uploads and the demo history are as private as what the engine writes
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    sys.argv = [str(ROOT / "lab")]
    streamlit_config.keep_from_streamlit()
    from app.access import sign_in

    sign_in.setup()  # before Streamlit could read the secrets by itself
    from app.asgi import app, run

    run(app, port, endpoint.host)


def main() -> None:
    """The command line of this process."""
    parser = argparse.ArgumentParser(prog="python -m app.server", description="Serve the pages of Inference Lab.")
    parser.add_argument("--port", type=int, default=8501)
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--parent-pid", type=int, default=None, help="end when this process is no longer our parent")
    parser.add_argument(
        "--everyone-is-admin", action="store_true", help="listen on a network although nobody has to sign in"
    )
    arguments = parser.parse_args()
    try:
        serve(
            arguments.port,
            arguments.address,
            parent_pid=arguments.parent_pid,
            everyone_is_admin=arguments.everyone_is_admin,
        )
    except CannotListen as error:
        print(str(error), file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
