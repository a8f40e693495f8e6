"""`lab run`: the engine and the pages as two processes of their own, started together, watched and kept alive."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app import streamlit_config
from services import paths
from services.engine_connection import EngineError
from services.engine_process import spawn
from services.processes import health
from services.processes.health import Vitals, vitals
from services.security import keys, listening
from services.security.listening import Address, CannotListen, free_port

__all__ = ["CannotListen", "free_port", "run"]

Say = Callable[[str], None]
BACKOFF_S = (0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0)
STEADY_S = 30.0
MANY_DEATHS = 4  # in a row: then the log is pointed at
CHECK_EVERY_S = 3.0
ANSWER_S = 2.0
MISSES = 2
SAME_S = 0.5  # one Ctrl-C can arrive twice: from the terminal, and from whoever started us
LATE_S = 1.0  # our own clock was late by so much: it is the machine that stood still
ASLEEP_S = 12.0  # silent and without any work; a database may take 10 s to refuse a connection
AT_WORK_S = 90.0  # silent but at work
START_ASLEEP_S = 30.0
START_AT_WORK_S = 180.0
START_NAMED_AFTER_S = 8.0
HELD_S = 20.0
END_S = 15.0  # the engine may take 13 s to let go of its calls and of its worker
DUMP_S = 0.3


class Failed(Exception):
    """A process did not come up; the text is a sentence for the person."""


def run(
    *, port: int, address: str, data: Path, file: Path, browser: bool, say: Say, everyone_is_admin: bool = False
) -> int:
    """Start everything, print where the pages are, and stay until told to stop. Returns the exit code.

    Raises `EngineError` in words when the data directory cannot be used, a lab runs on it already, or the pages cannot
    or must not listen at the address.
    """
    if trouble := paths.data_trouble(data):
        raise EngineError(trouble)
    try:
        endpoint = listening.resolve(address)
        listening.refuse_open_door(endpoint, everyone_is_admin=everyone_is_admin)
        with _lock_data(data) as announce:
            chosen = listening.port_of(endpoint, port)
            announce(endpoint, chosen)
            if chosen != port:
                say(f"Port {port} is taken; using {chosen}.")
            os.environ |= {
                "LAB_DATA": str(data),
                "LAB_DEPLOYMENTS": str(file),
                "LAB_SOCKET": str(paths.new_socket_path(data)),
                "LAB_ADDRESS": endpoint.host,  # who may name files of this machine depends on who can reach it
            }
            for trouble in (keys.trouble(), streamlit_config.trouble()):
                if trouble:
                    say(trouble)
            if everyone_is_admin:
                os.environ[listening.EVERYONE] = "1"
            return asyncio.run(_Lab(endpoint, chosen, data, file, _quietly(say)).run(browser))
    except (CannotListen, paths.NoPlace) as error:
        raise EngineError(str(error)) from error


def _quietly(say: Say) -> Say:
    """A terminal that was closed, or a reader that went away, ends no server."""

    def say_or_drop(sentence: str) -> None:
        with contextlib.suppress(OSError):
            say(sentence)

    return say_or_drop


@contextmanager
def _lock_data(data: Path) -> Iterator[Callable[[Address, int], None]]:
    """Be the only `lab run` of a data directory. Raises `EngineError` with the address of the one that is."""
    try:
        note = (data / health.NOTE).open("a+", encoding="utf-8")
    except OSError as error:
        raise EngineError(f"{data / health.NOTE} cannot be opened ({error.strerror}); give another --data.") from error
    with note:
        try:
            fcntl.flock(note, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EngineError(_already_running(data)) from None
        except OSError:
            pass  # a file system without locks; the engine's own socket is then all that keeps two apart
        note.truncate(0)

        def announce(endpoint: Address, port: int) -> None:
            note.write(health.Lab(os.getpid(), endpoint.near, port, endpoint.url(port)).to_json())
            note.flush()

        try:
            yield announce
        finally:
            note.truncate(0)


def _already_running(data: Path) -> str:
    end = time.monotonic() + 2
    while (lab := health.noted_lab(data)) is None and time.monotonic() < end:
        time.sleep(0.05)  # it was started at this moment and has not chosen its port yet
    place = f" at {lab.url}" if lab else ""
    return f"Inference Lab already runs{place} with the data in {data}: use that one, stop it, or give another --data."


@dataclass(slots=True)
class _Child:
    """One of the two processes: how it is started, how it is seen to live, and how its lives went."""

    name: str
    log: Path
    start: Callable[[], subprocess.Popen[bytes]]
    up: Callable[[_Child], Awaitable[None]]
    answers: Callable[[], Awaitable[bool]]
    process: subprocess.Popen[bytes] | None = None
    ended: asyncio.Future[int] | None = None
    born: float = 0.0
    deaths: int = 0

    def begin(self) -> None:
        self.process = self.start()
        self.ended = asyncio.ensure_future(asyncio.to_thread(self.process.wait))
        self.born = time.monotonic()

    def vitals(self) -> Vitals:
        assert self.process is not None
        return vitals(self.process.pid)

    async def kill(self) -> None:
        """End it although it does not listen; its log then says where each of its threads stood."""
        assert self.process is not None and self.ended is not None
        if not self.vitals().stopped:
            self.process.send_signal(signal.SIGUSR1)
            await asyncio.wait({self.ended}, timeout=DUMP_S)
        self.process.kill()
        await asyncio.wait({self.ended}, timeout=END_S)


@dataclass(slots=True)
class _Lab:
    """Both processes, from their start to their end."""

    endpoint: Address
    port: int
    data: Path
    file: Path
    say: Say
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    at_once: asyncio.Event = field(default_factory=asyncio.Event)
    stop_signal_at: float = 0.0

    async def run(self, browser: bool) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGTERM:
                loop.add_signal_handler(number, self._on_stop_signal)
        logs = self.data / "logs"
        logs.mkdir(exist_ok=True)
        children = (
            _Child("engine", logs / "engine.log", self._start_engine, self._engine_up, self._engine_answers),
            _Child("pages", logs / "pages.log", self._start_pages, self._pages_up, self._pages_answer),
        )
        stopping: asyncio.Future[Any] = asyncio.ensure_future(self.stopping.wait())
        work: set[asyncio.Future[Any]] = set()
        try:
            for child in children:
                child.begin()
            work = {asyncio.ensure_future(child.up(child)) for child in children}
            while not stopping.done() and work:
                done, _ = await asyncio.wait({stopping, *work}, return_when=asyncio.FIRST_COMPLETED)
                for ended in done & work:
                    ended.result()
                work -= done
            if not stopping.done():
                self._welcome(browser)
                work = {asyncio.ensure_future(self._keep_alive(child)) for child in children}
                await asyncio.wait({stopping, *work}, return_when=asyncio.FIRST_COMPLETED)
            self.say("Stopping.")
        except (EngineError, Failed) as error:
            self.say(str(error))
            return 1
        finally:
            for task in (stopping, *work):
                task.cancel()
            await self._end(children)
        return 0

    def _on_stop_signal(self) -> None:
        if not self.stopping.is_set():
            self.stop_signal_at = time.monotonic()
        elif time.monotonic() - self.stop_signal_at > SAME_S:
            self.at_once.set()
        self.stopping.set()

    def _welcome(self, browser: bool) -> None:
        url = self.endpoint.url(self.port)
        self.say(f"Inference Lab is at {url}  (data in {self.data}; stop with Ctrl-C)")
        if not self.endpoint.loopback and not listening.sign_in_configured():
            self.say("Nobody has to sign in: whoever reaches this address is an administrator.")
        if browser:
            threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()

    # --- the engine --------------------------------------------------------------------------------------------------

    def _start_engine(self) -> subprocess.Popen[bytes]:
        return spawn.popen(self.data, self.file)

    async def _engine_up(self, child: _Child) -> None:
        """Raises `EngineError` when it does not come up."""
        until = child.born + HELD_S
        while True:
            assert child.process is not None
            try:
                await asyncio.to_thread(spawn.first_words, child.process, self.say, self.data)
                return
            except spawn.EngineHeld:
                # The engine of a lab that was killed lets go as soon as it has seen that.
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.5)
                child.begin()

    async def _engine_answers(self) -> bool:
        return await health.engine_answers(paths.socket_path(self.data), ANSWER_S)

    # --- the pages ---------------------------------------------------------------------------------------------------

    def _start_pages(self) -> subprocess.Popen[bytes]:
        command = [
            sys.executable,
            "-m",
            "app.server",
            "--port",
            str(self.port),
            "--address",
            self.endpoint.host,
            "--parent-pid",
            str(os.getpid()),
        ]
        try:
            out = (self.data / "logs" / "pages.log").open("ab")
        except OSError as error:
            raise Failed(
                f"The log {self.data / 'logs' / 'pages.log'} cannot be written ({error.strerror}): mend that, or give "
                "another --data."
            ) from error
        with out:
            return subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                command, cwd=paths.ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
            )

    async def _pages_answer(self) -> bool:
        return await health.pages_answer(self.endpoint.near, self.port, ANSWER_S)

    async def _pages_up(self, child: _Child) -> None:
        """Raises `Failed` when they do not come up."""
        assert child.ended is not None
        current, worked_at, named = Vitals(), child.born, False
        looked_at = child.born
        while not child.ended.done():
            if await health.pages_answer(self.endpoint.near, self.port, ANSWER_S, ready=True):
                return
            await asyncio.wait({child.ended}, timeout=0.05)
            now = time.monotonic()
            if now - looked_at < 1:
                continue
            looked_at, lasted_s, last = now, now - child.born, current
            current = child.vitals()
            if current.works_since(last):
                worked_at = now
            stuck = now - worked_at > START_ASLEEP_S or lasted_s > START_AT_WORK_S
            if lasted_s > START_NAMED_AFTER_S and (stuck or (current.stopped and last.stopped)):
                why = "their process was stopped from outside" if current.stopped else f"no answer for {lasted_s:.0f} s"
                await child.kill()
                raise Failed(f"The pages got stuck while starting ({why}) and were ended. {_log_hint(child)}")
            if lasted_s > START_NAMED_AFTER_S and not named:
                named = True
                self.say(f"The pages have been starting for {lasted_s:.0f} s; still waiting.")
        raise Failed(f"The pages did not start ({_exit_reason(child.ended.result())}). {_log_hint(child)}")

    # --- keeping both alive ------------------------------------------------------------------------------------------

    async def _keep_alive(self, child: _Child) -> None:
        """Start it again whenever it ends or hangs; wait longer each time that it lives shortly. Never returns."""
        while True:
            reason = await self._wait_for_end(child)
            steady = time.monotonic() - child.born > STEADY_S
            child.deaths = 1 if steady else child.deaths + 1
            while True:
                many = child.deaths >= MANY_DEATHS
                pause = BACKOFF_S[min(child.deaths, len(BACKOFF_S)) - 1]
                again = f"starting it again in {pause:.0f} s" if pause >= 1 else "starting it again"
                self.say(f"{reason.rstrip('.')}; {again}.")
                if many and child.deaths % MANY_DEATHS == 0:
                    self.say(f"That was the {child.deaths}th time in a row. {_log_hint(child)}")
                await asyncio.sleep(pause)
                try:
                    child.begin()
                    await child.up(child)
                    break
                except (EngineError, Failed, OSError) as error:
                    reason = str(error)
                    child.deaths += 1
            self.say(f"The {child.name} process answers again.")

    async def _wait_for_end(self, child: _Child) -> str:
        """Watch it until it ended, or did not answer for so long that it was ended; returns why, as a sentence."""
        assert child.ended is not None
        misses, silent_since, worked_at, current, named = 0, 0.0, 0.0, Vitals(), False
        pause = CHECK_EVERY_S
        while True:
            if (await asyncio.wait({child.ended}, timeout=pause))[0]:
                return f"The {child.name} process ended ({_exit_reason(child.ended.result())})"
            began = time.monotonic()
            answered = await child.answers()
            now = time.monotonic()
            if now - began > ANSWER_S + LATE_S:
                continue  # this machine, or this process, stood still itself: that says nothing about the other
            if answered:
                if named:
                    self.say(f"The {child.name} process answers again.")
                misses, named, pause = 0, False, CHECK_EVERY_S
                continue
            misses, pause = misses + 1, max(0.0, 1 - (now - began))
            last, current = current, child.vitals()
            if misses == 1:
                silent_since = worked_at = began
                continue
            if current.works_since(last):
                worked_at = now
            silent = now - silent_since
            if misses < MISSES:
                continue
            if current.stopped:
                why = "its process was stopped from outside"
            elif now - worked_at > ASLEEP_S:
                why = "its process hangs"
            elif silent > AT_WORK_S:
                why = "although its process is at work"
            else:
                if not named:
                    named = True
                    busy = "is at work" if worked_at == now else "does nothing"
                    self.say(
                        f"The {child.name} process has not answered for {silent:.0f} s and {busy}; it is started again "
                        "if that goes on."
                    )
                continue
            await child.kill()
            return f"The {child.name} process did not answer for {silent:.0f} s ({why}) and was ended"

    # --- the end -----------------------------------------------------------------------------------------------------

    async def _end(self, children: tuple[_Child, ...]) -> None:
        """End both in good order, or at once when a second signal asks for that."""
        living: dict[asyncio.Future[Any], _Child] = {
            child.ended: child for child in children if child.ended is not None and not child.ended.done()
        }
        for child in living.values():
            assert child.process is not None
            if child.vitals().stopped:
                child.process.kill()
            else:
                child.process.terminate()
        at_once: asyncio.Future[Any] = asyncio.ensure_future(self.at_once.wait())
        until = time.monotonic() + END_S
        while living and not at_once.done() and (remaining := until - time.monotonic()) > 0:
            done, _ = await asyncio.wait({at_once, *living}, timeout=remaining, return_when=asyncio.FIRST_COMPLETED)
            living = {ended: child for ended, child in living.items() if ended not in done}
        if living and at_once.done():
            self.say("Ending at once.")
        at_once.cancel()
        for child in living.values():
            assert child.process is not None
            child.process.kill()
        if living:
            await asyncio.wait(living, timeout=END_S)


def _exit_reason(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"ended by signal {-code}"


def _log_hint(child: _Child) -> str:
    """Where to look, with the last that was logged."""
    last = spawn.last_line(child.log)
    return f"See {child.log}" + (f"; its last line: {last}" if last else ".")
