"""What a process of ours asks of the operating system when it starts."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import select
import sys
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)

MANY_FILES = 65_536


def file_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY_FILES if soft == resource.RLIM_INFINITY else soft


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have, up to `MANY_FILES`: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < limit:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    log.debug("The limit of open files was %s.", soft)


LOOK_EVERY_S = 5.0  # only where the kernel cannot tell us

LAST_RESORT_S = 30.0


def when_gone(parent: int, act: Callable[[], None], *, then_exit: bool = True) -> None:
    """Call ``act`` from a thread as soon as the process ``parent`` is no longer our parent: at once if it is not now.

    With ``then_exit`` this process ends by itself if it is still here `LAST_RESORT_S` later: what hangs must not stay
    behind.
    """

    def wait() -> None:
        _wait(parent)
        act()
        if then_exit:
            time.sleep(LAST_RESORT_S)
            os._exit(1)

    threading.Thread(target=wait, daemon=True, name="parent watch").start()


def _wait(parent: int) -> None:
    with contextlib.suppress(OSError):  # it is gone already, or this kernel cannot tell: looked at below
        _wait_for_kernel(parent)
    while os.getppid() == parent:
        time.sleep(LOOK_EVERY_S)


def _wait_for_kernel(parent: int) -> None:
    """Sleep until the process ends. Raises OSError when it has, or when the kernel has no such means."""
    if sys.platform == "linux":
        handle = os.pidfd_open(parent)
        try:
            # Its number could belong to somebody else by now, for whom we would wait for ever.
            if os.getppid() == parent:
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll()
        finally:
            os.close(handle)
    elif sys.platform == "darwin":
        queue = select.kqueue()
        try:
            exit_of_parent = select.kevent(
                parent, filter=select.KQ_FILTER_PROC, flags=select.KQ_EV_ADD, fflags=select.KQ_NOTE_EXIT
            )
            queue.control([exit_of_parent], 0)
            if os.getppid() == parent:
                queue.control(None, 1)
        finally:
            queue.close()
