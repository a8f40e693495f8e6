"""Find an OpenMP runtime on a Debian that has none, without root.

xllamacpp's Linux wheel expects the system's ``libgomp.so.1``. Debian installs it with a compiler, not with Python, so a
fresh machine may lack it. The wheel of pykdtree carries the same library under another name; a link with the name that
the loader looks for, on ``LD_LIBRARY_PATH``, is enough. That path is read only when a process starts, hence the exec.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

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
