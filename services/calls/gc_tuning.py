"""What keeps the interpreter itself from standing between an arriving byte and its stamp."""

from __future__ import annotations

import contextlib
import gc
import os
import sys

SWITCH_S = 0.0005  # by default a thread that computes, such as the writer's, may hold the interpreter for 5 ms
YOUNG = 10_000  # objects: collecting them takes about 1 ms
NICENESS = -10


def settle() -> None:
    """Call once when everything is imported: no automatic collections from here on, short turns for threads, and
    before others on the processor where this user may ask for that (root in a container; elsewhere nothing changes).
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    # Only the loop's own thread, and none of the processes it starts. A nice process still waits for the slice of
    # whoever computes at the moment, which is 3 ms and more.
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(SWITCH_S)


class Collector:
    """Collects by hand: a few young objects at a time while streams run, everything once nothing does."""

    def tick(self) -> None:
        """Call 20 times a second while anything runs."""
        if gc.get_count()[0] > YOUNG:
            gc.collect(0)

    def rest(self, *, everything: bool) -> None:
        """Call now and then while nothing runs. Not ``everything``: only if much has gathered."""
        if everything or gc.get_count()[0] > YOUNG:
            gc.collect()
