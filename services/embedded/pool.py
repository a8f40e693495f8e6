"""Keeps the embedded servers alive: starts them, notices that one died, starts it again, and says so in words."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from services.embedded import life
from services.embedded.spec import DEFAULT_SPECS, KEY, ServerSpec, available_bytes, missing
from services.processes.vitals import vitals
from services.security import keys

log = logging.getLogger(__name__)
PoolState = Literal["starting", "ready", "restarting", "unavailable"]
WAIT_FOR_READY_S = 90.0
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 30.0
GIVE_UP_AFTER = 5  # deaths within a minute, or starts in a row that never answered
GIVE_UP_WITHIN_S = 60.0
LOADING = "The local model is being loaded."


class EmbeddedUnavailable(Exception):
    """The embedded server that was asked for does not run; the text says why, a sentence without its full stop."""


@dataclass(slots=True)
class _Server:
    spec: ServerSpec
    after: _Server | None  # the one that is loaded first: two at once would slow both and count memory twice
    state: PoolState = "starting"
    sentence: str = LOADING
    url: str | None = None
    process: Process | None = None
    restarts: int = 0
    deaths: deque[float] = field(default_factory=deque)
    in_a_row: int = 0  # deaths since the last steady life
    never_up: int = 0  # starts in a row that never answered
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    use: life.Use = field(default_factory=life.Use)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    keeper: asyncio.Task[None] | None = None


class EmbeddedPool:
    """The embedded servers of one engine. Everything runs on the engine's loop and never blocks it.

    ``available`` tells the bytes of free memory; tests give their own.
    """

    def __init__(
        self,
        specs: Sequence[ServerSpec] = DEFAULT_SPECS,
        *,
        log_dir: Path,
        available: Callable[[], int] = available_bytes,
    ) -> None:
        self._servers: dict[str, _Server] = {}
        before: _Server | None = None
        for spec in specs:
            before = self._servers[spec.name] = _Server(spec, before)
        self._log_dir = log_dir
        self._available = available
        self._key = os.environ.get(KEY) or secrets.token_urlsafe(32)
        keys.remember(self._key)

    async def start(self) -> None:
        """Begin to start every server, and return at once. Never raises: what is missing is told by `status`."""
        for server in self._servers.values():
            self._tend(server)

    async def url(self, name: str) -> str:
        """The address of a server, waiting until it is ready. Raises `EmbeddedUnavailable` in words."""
        server = self._servers.get(name)
        if server is None:
            raise EmbeddedUnavailable(f"there is no local server “{name}” here")
        stopped = bool(server.url and server.process and vitals(server.process.pid).stopped)
        if stopped:  # the watch, woken now, ends it: this call waits for the next life
            server.url = None
            self._say(server, "restarting", f"The local model is gone ({life.STOPPED}) and is being started again.")
        server.use.begin(stopped=stopped)
        end = time.monotonic() + WAIT_FOR_READY_S
        while server.url is None:
            if server.state == "unavailable":
                raise EmbeddedUnavailable(server.sentence.rstrip("."))
            server.changed.clear()
            try:
                await asyncio.wait_for(server.changed.wait(), max(end - time.monotonic(), 0.01))
            except TimeoutError:
                raise EmbeddedUnavailable(
                    f"the local model did not come up in {WAIT_FOR_READY_S:.0f} s; restart it on the Deployments page"
                ) from None
        return server.url

    @property
    def key(self) -> str:
        """What the servers want to see with every request but their health: LAB_EMBEDDED_KEY, else one of chance.

        Only on the wire to them, never shown; whoever wants to ask them with other programs sets the variable.
        """
        return self._key

    def status(self) -> dict[str, dict[str, Any]]:
        """Per server: state, one sentence, url, number of restarts, pid."""
        return {
            name: {
                "state": server.state,
                "sentence": server.sentence,
                "url": server.url,
                "restarts": server.restarts,
                "pid": server.process.pid if server.process and server.url else None,
            }
            for name, server in self._servers.items()
        }

    def lacks(self, name: str) -> str | None:
        """Why a server cannot answer and will not by itself, in a few words; None when it can or soon will."""
        server = self._servers.get(name)
        if server is None:
            return "lab run starts it"
        return server.sentence.rstrip(".") if server.state == "unavailable" else None

    async def restart(self, name: str) -> None:
        """Start a server again, also one that was given up. Raises ValueError for an unknown name."""
        server = self._servers.get(name)
        if server is None:
            raise ValueError(f"There is no local server “{name}” here.")
        async with server.turn:
            await self._end(server)
            server.deaths.clear()
            server.in_a_row = server.never_up = 0
            server.restarts += 1
            self._say(server, "restarting", "The local model is being started again.")
            self._tend(server)

    async def close(self) -> None:
        """End every server, and start none any more."""
        for server in self._servers.values():
            async with server.turn:
                await self._end(server)
                self._say(server, "unavailable", "The local model was stopped with the program.")

    def _tend(self, server: _Server) -> None:
        server.keeper = asyncio.get_running_loop().create_task(self._keep(server))

    async def _end(self, server: _Server) -> None:
        if server.keeper is not None:
            server.keeper.cancel()
            await asyncio.gather(server.keeper, return_exceptions=True)
        server.url = None
        if server.process is not None:
            await life.end(server.process)

    def _say(self, server: _Server, state: PoolState, sentence: str) -> None:
        server.state, server.sentence = state, sentence
        server.changed.set()

    async def _keep(self, server: _Server) -> None:
        """Start the server, wait for its end, and start it again, until it ends too often."""
        try:
            if server.after is not None:
                await server.after.tried.wait()
            while await self._one_life(server):
                pass
        except Exception as error:
            # Whatever it is (no more processes, a full disk): the program lives on without the local model.
            log.exception("the embedded server %s cannot be kept", server.spec.name)
            self._say(server, "unavailable", f"The local model cannot be started ({error}); see the engine's log.")
        finally:
            server.tried.set()

    async def _one_life(self, server: _Server) -> bool:
        """One life of the process and the pause after it. False when there is to be no other."""
        lack = missing(server.spec, available=self._available)
        if lack is not None:
            self._say(server, "unavailable", lack)
            return False
        born = time.monotonic()
        server.process = await life.begin(server.spec, self._log_dir, self._key)
        try:
            server.url = await life.first_words(server.process)
        except life.CannotRun as error:
            self._say(server, "unavailable", str(error))
            return False
        except life.Ended as error:
            reason = str(error)
            server.never_up += 1
        else:
            server.never_up = 0
            server.tried.set()
            self._say(server, "ready", _ready(server.spec))
            log.info("the embedded server %s answers at %s", server.spec.name, server.url)
            reason = await life.watch(server.process, server.url, server.use)
        server.url = None
        server.tried.set()
        return await self._after_death(server, reason, lived_s=time.monotonic() - born)

    async def _after_death(self, server: _Server, reason: str, *, lived_s: float) -> bool:
        log.warning("the embedded server %s is gone: %s", server.spec.name, reason)
        now = time.monotonic()
        server.deaths.append(now)
        while now - server.deaths[0] > GIVE_UP_WITHIN_S:
            server.deaths.popleft()
        server.in_a_row = 1 if lived_s > GIVE_UP_WITHIN_S else server.in_a_row + 1
        if max(len(server.deaths), server.never_up) >= GIVE_UP_AFTER:
            self._say(
                server,
                "unavailable",
                f"The local model ended {GIVE_UP_AFTER} times in a row ({reason}) and was given up; restart it on "
                "the Deployments page, its log is in the data directory under logs.",
            )
            return False
        server.restarts += 1
        self._say(server, "restarting", f"The local model is gone ({reason}) and is being started again.")
        await asyncio.sleep(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (server.in_a_row - 1)))
        return True


def _ready(spec: ServerSpec) -> str:
    threads = "one thread" if spec.threads == 1 else f"{spec.threads} threads"
    return f"The local model is ready ({threads}, {spec.slots} at a time)."
