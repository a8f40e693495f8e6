"""Whose turn it is: a line waits here for a free lane, for the end of a pause that the service asked for, and for the
rate limit. In order of coming."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from services.batch.concurrency import Lanes, Spacing

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
BELIEVED_S = 8.0  # a service that goes on refusing after waits as short as it asked for is not believed any more


class Turns:
    """The turns of one batch in one worker. Everything runs on the worker's loop."""

    def __init__(self, lanes: Lanes, spacing: Spacing) -> None:
        self.lanes = lanes
        self.spacing = spacing
        self.in_use = 0
        self.closed = False
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._open_at = 0.0  # nobody is sent before, because the service asked for a pause
        self._pause_s = FIRST_PAUSE_S
        self._shut = asyncio.Event()
        self._free = asyncio.Event()

    async def take(self) -> bool:
        """Wait for a turn; False when there are none any more. Whoever got one gives it back with `release`."""
        if not self.closed and (self.in_use >= self.lanes.limit or self._waiting):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release()
                raise
        else:
            self.in_use += 1
        if not self.closed:
            await self._until(self.spacing.turn(time.monotonic()))
        while not self.closed and self._open_at > time.monotonic():
            await self._until(self._open_at)
        if self.closed:
            self.release()
            return False
        return True

    def release(self) -> None:
        """Give a turn back."""
        self.in_use -= 1
        self.wake()
        if self.closed and not self.in_use:
            self._free.set()

    def wake(self) -> None:
        """Give turns to those who wait, as many as there are."""
        while self._waiting and (self.in_use < self.lanes.limit or self.closed):
            turn = self._waiting.popleft()
            if not turn.done():
                self.in_use += 1
                turn.set_result(None)

    def ended(self, *, began: float, latency_ms: float | None, throttled: bool = False) -> None:
        """Tell the lanes how a line ended that was sent at ``began`` (`time.monotonic`); before its `release`."""
        changed = self.lanes.ended(
            began=began, now=time.monotonic(), latency_ms=latency_ms, in_use=self.in_use, throttled=throttled
        )
        if changed:
            self.wake()
        if latency_ms is not None:
            self._pause_s = FIRST_PAUSE_S

    def pause(self, asked_s: float | None) -> float:
        """Nobody is sent for ``asked_s`` seconds, or for longer each time where the service named none; how long."""
        now = time.monotonic()
        same_burst = self._open_at > now
        if same_burst and not asked_s:  # the other lines of the same moment tell the same
            return self._open_at - now
        own = 0.0
        if not same_burst:
            own, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, self._pause_s * 2)
        wait = own if not asked_s else max(asked_s, own if own > BELIEVED_S else 0.0)
        self._open_at = max(self._open_at, now + wait)
        return self._open_at - now

    @property
    def paused(self) -> bool:
        """Whether nobody is sent just now."""
        return self._open_at > time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait, but not beyond `close`."""
        await self._until(time.monotonic() + seconds)

    def close(self) -> None:
        """No turns any more: everybody who waits is told so."""
        self.closed = True
        self._shut.set()
        self.wake()
        if not self.in_use:
            self._free.set()

    async def all_free(self) -> None:
        """Once it is closed: wait until the last turn is given back."""
        await self._free.wait()

    async def _until(self, moment: float) -> None:
        left = moment - time.monotonic()
        if left <= 0 or self.closed:
            return
        try:
            await asyncio.wait_for(self._shut.wait(), left)
        except TimeoutError:
            return
