"""What the system knows of a process that does not answer: whether it is stopped, works, or waits for ever."""

from __future__ import annotations

from dataclasses import dataclass

import psutil

A_LITTLE_S = 0.01


@dataclass(frozen=True, slots=True)
class Vitals:
    """A moment of a process: its processor time in seconds, and its state as psutil names it."""

    cpu_s: float = 0.0
    state: str = ""

    @property
    def stopped(self) -> bool:
        """Whether a signal stopped it. One that a debugger holds is not meant."""
        return bool(self.state == psutil.STATUS_STOPPED)

    def works_since(self, before: Vitals) -> bool:
        """Whether it did something since, or would if the machine let it: it waits for a processor or for a disk."""
        waits = self.state in (psutil.STATUS_RUNNING, psutil.STATUS_DISK_SLEEP, psutil.STATUS_TRACING_STOP)
        return waits or self.cpu_s - before.cpu_s >= A_LITTLE_S


def vitals(pid: int) -> Vitals:
    """How a process is now; nothing is known of one that is gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return Vitals(float(times.user + times.system), str(process.status()))
    except psutil.Error:
        return Vitals()
