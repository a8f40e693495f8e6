"""What a process of ours asks of the operating system when it starts."""

from __future__ import annotations

import contextlib
import logging
import resource

log = logging.getLogger(__name__)

MANY_FILES = 65_536


def file_limit() -> int:
    """How many files this process may have open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MANY_FILES if soft == resource.RLIM_INFINITY else soft


def raise_file_limit() -> None:
    """Allow this process as many open files as it may have, up to `MANY_FILES`: every connection is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    log.debug("The limit of open files was %s.", soft)
