"""The pause between the repetitions of a sequential run."""

from __future__ import annotations

import asyncio

from services.calls.live import LiveRun

STEP_S = 0.1


async def pause(run: LiveRun) -> None:
    """Wait as long as the run wants between two repetitions, to a tenth of a second; stopping every column ends it."""
    for _ in range(round(run.spec.pause_s / STEP_S)):
        if all(column.stopped for column in run.columns):
            return
        await asyncio.sleep(STEP_S)
