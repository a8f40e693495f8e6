"""The board's WebSocket route: a run's frames, read once from the engine and handed to every viewer.

A `Feed` follows one run and keeps a `Mirror` of it: its state as the frames have told it, so that a viewer who comes
late gets all of it. Positions in texts are counted in code points (Python's `len`), by both sides of the wire. A
`Viewer` has a short queue; one who cannot keep up loses the queue and gets a snapshot from where he was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from urllib.parse import quote

import aiohttp
import orjson
from starlette.websockets import WebSocket, WebSocketDisconnect

from app.access.connections import BOARD_LIMIT, Silent, Tally, address_of
from app.tickets import BadTicket, Ticket, board_token, check_token
from services import paths
from services.security import access
from services.types import Json, JsonMapping

if TYPE_CHECKING:
    from services.runs import view


# For each column index: (repetition, attempt, characters of answer, characters of reasoning) a viewer already has.
Cursor = tuple[int, int, int, int]
Have = Mapping[int, Cursor]

CURSOR_KEYS = ("i", "rep", "attempt", "answer", "reasoning")
# What says who answers. In a blind run it stays here: the page, which knows who has voted, gives the names.
# Notes too: they are sentences about a deployment by its name. And how its server is: an API has no such thing.
_WHO = {
    "deployment": "",
    "name": "",
    "badge": "",
    "kind": "",
    "model": "",
    "labels": [],
    "color": 0,
    "note": None,
    "gauge": None,
}
_HIDDEN = frozenset({"note", "gauge"})  # of these, what a delta can carry
_TEXT_KEYS = frozenset({"a", "r", "reset", "i", "answer", "reasoning", "answer_from", "reasoning_from"})


@dataclass(slots=True)
class Column:
    """One column: its last known fields, and its texts in the pieces they came in."""

    fields: Json
    answer: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    answer_len: int = 0
    reasoning_len: int = 0
    told_at: float = 0.0

    def add(self, answer: str, reasoning: str) -> None:
        """Append what arrived."""
        if answer:
            self.answer.append(answer)
            self.answer_len += len(answer)
        if reasoning:
            self.reasoning.append(reasoning)
            self.reasoning_len += len(reasoning)

    def empty(self) -> None:
        """Forget the texts: another repetition or attempt begins."""
        self.answer, self.reasoning = [], []
        self.answer_len = self.reasoning_len = 0

    @property
    def cursor(self) -> Cursor:
        """How far this column has come."""
        return (self.fields.get("rep", 1), self.fields.get("attempt", 1), self.answer_len, self.reasoning_len)

    def view(self, have: Cursor | None, now: float) -> Json:
        """The column's object for a snapshot; only the tails beyond ``have`` when it is of the same attempt."""
        mine = self.cursor
        answer_from = reasoning_from = 0
        if have and have[:2] == mine[:2] and 0 <= have[2] <= mine[2] and 0 <= have[3] <= mine[3]:
            answer_from, reasoning_from = have[2], have[3]
        shown = {**self.fields, "answer_from": answer_from, "reasoning_from": reasoning_from}
        shown["answer"] = "".join(self.answer)[answer_from:]
        shown["reasoning"] = "".join(self.reasoning)[reasoning_from:]
        if shown.get("phase") != "done":
            passed = (now - self.told_at) * 1000.0
            for clock in ("elapsed_ms", "idle_ms"):
                if isinstance(shown.get(clock), (int, float)):
                    shown[clock] += passed
        return shown


class Mirror:
    """The state of one run, fed with frames; `snapshot` is what a viewer with the given cursors still lacks."""

    def __init__(self) -> None:
        self.seq = 0
        self._head: Json = {}
        self._columns: dict[int, Column] = {}

    @property
    def known(self) -> bool:
        """True once a snapshot has been seen."""
        return bool(self._head)

    @property
    def live(self) -> bool:
        """False once the run has ended."""
        return bool(self._head.get("live"))

    def apply(self, frame: JsonMapping, now: float | None = None) -> None:
        """Take in a snapshot, delta or end frame; other frames change nothing."""
        now = time.monotonic() if now is None else now
        kind = frame.get("type")
        if kind == "snapshot":
            self._take_snapshot(frame, now)
        elif kind == "delta":
            for change in frame["cols"]:
                self._take_change(change, now)
        elif kind == "end":
            self._head["live"] = False
        self.seq = int(frame.get("seq", self.seq))

    def _take_snapshot(self, frame: JsonMapping, now: float) -> None:
        self._head = {key: value for key, value in frame.items() if key != "columns"}
        self._columns = {}
        for shown in frame["columns"]:
            column = Column({k: v for k, v in shown.items() if k not in _TEXT_KEYS} | {"i": shown["i"]}, told_at=now)
            column.add(shown.get("answer", ""), shown.get("reasoning", ""))
            self._columns[shown["i"]] = column

    def _take_change(self, change: JsonMapping, now: float) -> None:
        column = self._columns.get(change["i"])
        if column is None:
            return
        if change.get("reset"):
            column.empty()
        fresh = {k: v for k, v in change.items() if k not in _TEXT_KEYS}
        text = bool(change.get("a") or change.get("r"))
        if column.fields.get("phase") != "done":
            passed = (now - column.told_at) * 1000.0
            for clock in ("elapsed_ms", "idle_ms"):
                if clock not in fresh and isinstance(column.fields.get(clock), (int, float)):
                    fresh[clock] = 0.0 if text and clock == "idle_ms" else column.fields[clock] + passed
        column.fields.update(fresh)
        column.told_at = now
        column.add(change.get("a", ""), change.get("r", ""))

    def line(self, frame: JsonMapping, line: bytes) -> str:
        """A frame as viewers are sent it: as it came, without what tells who answers while the run is blind."""
        if not self._head.get("blind") or not any(_HIDDEN & change.keys() for change in frame.get("cols", ())):
            return line.decode()
        columns = [{name: v for name, v in change.items() if name not in _HIDDEN} for change in frame["cols"]]
        return orjson.dumps({**frame, "cols": columns}).decode()

    def cursors(self) -> dict[int, Cursor]:
        """How far each column has come: what a viewer who got every frame has."""
        return {i: column.cursor for i, column in self._columns.items()}

    def snapshot(self, have: Have | None = None, now: float | None = None) -> str:
        """The snapshot frame as JSON text: only the tails beyond the cursors, and no names while the run is blind."""
        now = time.monotonic() if now is None else now
        have = have or {}
        columns = [column.view(have.get(i), now) for i, column in self._columns.items()]
        if self._head.get("blind"):
            columns = [{**column, **_WHO} for column in columns]
        return orjson.dumps({**self._head, "seq": self.seq, "columns": columns}).decode()


def read_have(told: object) -> dict[int, Cursor]:
    """The cursors a browser sent; whatever cannot be understood is left out, so that its column is sent in full."""
    have: dict[int, Cursor] = {}
    for entry in told if isinstance(told, Sequence) and not isinstance(told, str) else ():
        if not isinstance(entry, Mapping):
            continue
        numbers = [value for name in CURSOR_KEYS if type(value := entry.get(name)) is int]
        if len(numbers) == len(CURSOR_KEYS):
            i, rep, attempt, answer, reasoning = numbers
            have[i] = (rep, attempt, answer, reasoning)
    return have


__all__ = [
    "BACKOFF_S",
    "CHECK_S",
    "CLOSE_BAD_HELLO",
    "CLOSE_BAD_TOKEN",
    "CLOSE_TOO_MANY",
    "EXPIRED",
    "FRAME_LIMIT",
    "HELLO_S",
    "NOT_ALLOWED",
    "NOT_ALLOWED_NOW",
    "NOT_REACHED",
    "OVER",
    "QUEUE_FRAMES",
    "STRANGERS",
    "STRANGERS_PER_ADDRESS",
    "TROUBLE",
    "VIEWERS_PER_PERSON",
    "VIEWERS_PER_RUN",
    "Feed",
    "Frames",
    "Relay",
    "Viewer",
    "board_token",
    "frame_text",
    "log",
    "same_origin",
]


log = logging.getLogger(__name__)

HELLO_S = 5.0

STRANGERS_PER_ADDRESS = 64  # sockets that have not said who they are

STRANGERS = 512


# Without sign-in everybody is the same person, so this is for forty people with several tabs each.
VIEWERS_PER_PERSON = 400


VIEWERS_PER_RUN = 1_000

FRAME_LIMIT = 64 * 2**20  # a snapshot of eight columns of very long text

CHECK_S = 60.0

CLOSE_BAD_TOKEN = 4401

CLOSE_BAD_HELLO = 4400

CLOSE_TOO_MANY = 4429

NOT_ALLOWED = "Your role may look at this run, not stop or retry it. Nothing was changed."

EXPIRED = "This page was opened more than twelve hours ago, so nothing was changed. Reload it and try again."

OVER = "Your sign-in has ended, so nothing was changed. Reload this page to sign in again."

NOT_ALLOWED_NOW = "Your role has changed, so nothing was changed. Reload this page to see what you may do now."

NOT_REACHED = "The engine could not be reached, so nothing was changed. Try again in a moment."


class Relay:
    """The WebSocket route of the board. ``socket`` is the engine's Unix socket (default: `services.paths`)."""

    def __init__(self, socket: Path | None = None) -> None:
        self._socket = socket
        self._session: aiohttp.ClientSession | None = None
        self.feeds: dict[str, Feed] = {}
        self.strangers = Silent(STRANGERS_PER_ADDRESS, STRANGERS)
        self.viewers_by_person = Tally(VIEWERS_PER_PERSON, VIEWERS_PER_PERSON * VIEWERS_PER_RUN)
        self.check_every_s = CHECK_S

    def _engine(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            path = self._socket or paths.socket_path(paths.data_dir())
            self._session = aiohttp.ClientSession(
                connector=aiohttp.UnixConnector(str(path), limit=0),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),
                read_bufsize=2**20,
            )
        return self._session

    async def close(self) -> None:
        """Stop every feed and close the connections to the engine."""
        for feed in self.feeds.values():
            feed.close()
        self.feeds.clear()
        if self._session:
            await self._session.close()

    async def frames(self, run_id: str) -> AsyncGenerator[bytes, None]:
        """The engine's frames of a run, one JSON text each; a single end frame when the run is not live."""
        url = f"http://engine/runs/{quote(run_id, safe='')}/stream"
        quiet = aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=20)  # pings come every 5 s
        async with self._engine().get(url, timeout=quiet) as response:
            if response.status == 404:
                yield b'{"type":"end","seq":0}'
                return
            response.raise_for_status()
            rest = b""
            async for chunk in response.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                if len(rest) > FRAME_LIMIT:
                    raise ValueError("a frame has no end")
                for line in lines:
                    if line.strip():
                        yield line

    async def act(self, ticket: Ticket, verb: str, column: int | None) -> str | None:
        """Ask the engine to stop or retry; a sentence when it did not, else None."""
        if not ticket.may_act:
            return NOT_ALLOWED
        if ticket.expires <= time.time():
            return EXPIRED
        headers = {access.PERSON_HEADER: access.person_header(ticket.person), "X-Lab-Role": ticket.role}
        url = f"http://engine/runs/{quote(ticket.run_id, safe='')}/{verb}"
        limit = aiohttp.ClientTimeout(total=10)
        try:
            async with self._engine().post(url, json={"column": column}, headers=headers, timeout=limit) as response:
                if response.ok:
                    return None
                body = await response.json(content_type=None)
                return str(body["error"]) if isinstance(body, dict) and "error" in body else NOT_REACHED
        except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
            return NOT_REACHED

    async def endpoint(self, websocket: WebSocket) -> None:
        """`/api/board/{run_id}`: the first message is {"token", "have"}; later {"stop": i or "all"}, {"retry": i}."""
        if not same_origin(websocket.headers.get("origin"), websocket.headers.get("host")):
            await websocket.close(4403)
            return
        run_id = websocket.path_params["run_id"]
        ticket, hello = await self._hello(websocket, run_id)
        if ticket is None:
            return
        with self.viewers_by_person.held(ticket.person) as inside:
            feed = self.feeds.get(run_id)
            if not inside or (feed is not None and len(feed.viewers) >= VIEWERS_PER_RUN):
                log.warning("A board of run %s was refused: too many are open.", run_id)
                await websocket.close(CLOSE_TOO_MANY)
                return
            await self._watch(websocket, ticket, hello)

    async def _hello(self, websocket: WebSocket, run_id: str) -> tuple[Ticket | None, Json]:
        """Who is there, and their first message. None for one who does not say it in time, or cannot."""
        await websocket.accept()
        code, why = CLOSE_BAD_HELLO, ""
        try:
            async with self.strangers.patience(websocket.client, HELLO_S):
                hello = await _receive(websocket)
            return self._holds(check_token(str(hello.get("token", "")), run_id), websocket), hello
        except WebSocketDisconnect:
            return None, {}
        except BadTicket as error:
            code, why = CLOSE_BAD_TOKEN, str(error)
        except TimeoutError:
            pass  # no line for it: a crowd of them would fill the log
        except ValueError as error:
            why = str(error)
        if why:
            log.warning("A board's socket of %s was closed: %s", address_of(websocket.client)[0], why)
        await _quietly(websocket.close(code))
        return None, {}

    async def _watch(self, websocket: WebSocket, ticket: Ticket, hello: JsonMapping) -> None:
        run_id = ticket.run_id
        viewer = Viewer(websocket, ticket, read_have(hello.get("have")))
        # A finished run is asked to go on before its feed is looked for, else the feed would find nothing live.
        await self._obey(viewer, hello)
        feed = self.feeds.setdefault(run_id, Feed(self.frames, run_id))
        feed.join(viewer)
        sender = asyncio.create_task(_quietly(viewer.send_forever(feed.mirror)))
        guard = asyncio.create_task(_quietly(self._guard(viewer)))
        try:
            while True:
                message = await _receive(websocket)
                await self._obey(viewer, message)
                if "retry" in message:
                    feed.follow()
        except ValueError as error:
            log.warning("A board of run %s was closed: %s", run_id, error)
            await _quietly(websocket.close(CLOSE_BAD_HELLO))
        except (WebSocketDisconnect, RuntimeError):
            pass
        finally:
            sender.cancel()
            guard.cancel()
            feed.viewers.discard(viewer)
            if not feed.viewers and self.feeds.get(run_id) is feed:
                feed.close()
                del self.feeds[run_id]

    def _holds(self, ticket: Ticket, websocket: WebSocket) -> Ticket:
        from app import auth  # it brings the database's library, which takes longer than the first answer may

        return auth.holds(ticket, websocket.cookies, websocket.headers.get("origin"))

    async def _still_holds(self, viewer: Viewer) -> bool:
        """Whether the viewer may go on as the ticket says; if not, they are told so and the socket is closed."""
        try:
            now = self._holds(viewer.ticket, viewer.websocket)
        except BadTicket:
            old = not viewer.ticket.mark and viewer.ticket.expires <= time.time()
            sentence = EXPIRED if old else OVER
        else:
            if now.role == viewer.ticket.role:
                return True
            sentence = NOT_ALLOWED_NOW
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # they may have left meanwhile
            await viewer.websocket.send_text(frame_text({"type": "notice", "sentence": sentence}))
            await viewer.websocket.close(CLOSE_BAD_TOKEN)
        return False

    async def _guard(self, viewer: Viewer) -> None:
        """A ticket ends with the sign-in and the role that it was made in, also while nobody presses anything."""
        while True:
            await asyncio.sleep(min(self.check_every_s, max(0.0, viewer.ticket.expires - time.time()) + 0.01))
            if not await self._still_holds(viewer):
                return

    async def _obey(self, viewer: Viewer, message: JsonMapping) -> None:
        for verb in ("stop", "retry"):
            column = message.get(verb)
            if type(column) is int or (verb == "stop" and column == "all"):
                if not await self._still_holds(viewer):
                    return
                sentence = await self.act(viewer.ticket, verb, column if isinstance(column, int) else None)
                if sentence:
                    viewer.give(frame_text({"type": "notice", "sentence": sentence}))


def same_origin(origin: str | None, host: str | None) -> bool:
    """True when a browser's Origin names the host it is talking to. No Origin is no browser of ours."""
    return bool(origin and host) and (origin or "").partition("://")[2].lower() == (host or "").lower()


async def _receive(websocket: WebSocket) -> Json:
    """One message. Raises ValueError in words for what is none of ours, WebSocketDisconnect at the end."""
    event = await websocket.receive()
    if event["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(event.get("code", 1005), event.get("reason"))
    text = event.get("text")
    if text is None:
        raise ValueError("It sent binary data where only text is understood.")
    # Where `app.access.connections.BoundedWebSocket` serves, nothing longer comes this far.
    if len(text) > BOARD_LIMIT:
        raise ValueError("It sent a message that is too long.")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        message = None
    if not isinstance(message, dict):
        raise ValueError("It sent what is no JSON object.")
    return message


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    with contextlib.suppress(WebSocketDisconnect, RuntimeError):
        await work


QUEUE_FRAMES = 64  # about three seconds of frames

BACKOFF_S = (0.2, 0.5, 1.0, 2.0)

TROUBLE = "The engine is not answering. The board goes on by itself when it is back."

Frames = Callable[[str], AsyncGenerator[bytes, None]]  # run id → the engine's frames, one JSON text each


class Notice(TypedDict):
    """A sentence for a viewer."""

    type: Literal["notice", "trouble"]
    sentence: str


def frame_text(frame: Notice | view.Ping | view.End) -> str:
    """A frame as it is sent."""
    return orjson.dumps(frame).decode()


_TROUBLE = frame_text({"type": "trouble", "sentence": TROUBLE})

_PING = frame_text({"type": "ping"})


class Viewer:
    """One browser's end: a bounded queue of frame texts with the cursors that hold after each."""

    def __init__(self, websocket: WebSocket, ticket: Ticket, have: Have) -> None:
        self.websocket = websocket
        self.ticket = ticket
        self.have = have
        self.behind = False  # the next thing to send is a snapshot
        self._queue: asyncio.Queue[tuple[str, Have | None]] = asyncio.Queue(QUEUE_FRAMES)

    @property
    def waiting(self) -> int:
        """Frames not sent yet."""
        return self._queue.qsize()

    def give(self, text: str, after: Have | None = None) -> None:
        """Queue a frame. A full queue is emptied; the viewer then gets a snapshot instead."""
        if self._queue.full():
            self.catch_up()
        if after is not None and self.behind:
            return  # the snapshot to come will hold it
        self._queue.put_nowait((text, after))

    def catch_up(self) -> None:
        """Forget what is queued and send a snapshot next."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self.behind = True
        self._queue.put_nowait(("", None))

    async def send_forever(self, mirror: Mirror) -> None:
        """Send queued frames until the socket closes."""
        while True:
            text, after = await self._queue.get()
            if self.behind and mirror.known:
                self.behind = False
                self.have, before = mirror.cursors(), self.have
                await self.websocket.send_text(mirror.snapshot(before))
                if not mirror.live:
                    await self.websocket.send_text(frame_text({"type": "end", "seq": mirror.seq}))
            if text:
                await self.websocket.send_text(text)
                if after is not None:
                    self.have = after


class Feed:
    """One run's frames, read once from the engine for all of its viewers."""

    def __init__(self, frames: Frames, run_id: str) -> None:
        self.mirror = Mirror()
        self.viewers: set[Viewer] = set()
        self.in_trouble = False
        self._frames = frames
        self._run_id = run_id
        self._task: asyncio.Task[None] | None = None

    def join(self, viewer: Viewer) -> None:
        """Add a viewer; he gets a snapshot at once when one is known, else with the engine's first frame."""
        self.viewers.add(viewer)
        if self.mirror.known and self.running:
            viewer.catch_up()
        if self.in_trouble:
            viewer.give(_TROUBLE)
        self.follow()

    @property
    def running(self) -> bool:
        """True while the engine's stream is being followed."""
        return self._task is not None and not self._task.done()

    def follow(self) -> None:
        """Follow the engine's stream unless that is being done already."""
        if not self.running:
            self._task = asyncio.create_task(self._follow(), name=f"board feed {self._run_id}")

    def close(self) -> None:
        """Stop following."""
        if self._task:
            self._task.cancel()

    async def _follow(self) -> None:
        failures = 0
        while True:
            cut_short = True
            try:
                async with contextlib.aclosing(self._frames(self._run_id)) as frames:
                    async for line in frames:
                        failures = 0
                        if self._take(line):
                            return
                # The engine lets go of a watcher that was too slow: no trouble, come back for a snapshot.
                cut_short = False
            except Exception as error:  # whatever a broken stream or frame raises, the viewers must not be left alone
                log.info("The stream of run %s broke: %s", self._run_id, type(error).__name__)
            # Told once; after that a sign of life is enough to keep browsers from looking for a better connection.
            if cut_short:
                self._tell_all(_PING if self.in_trouble else _TROUBLE)
                self.in_trouble = True
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1

    def _take(self, line: bytes) -> bool:
        """Take one frame in and hand it on; True when it was the last one."""
        frame = orjson.loads(line)
        self.in_trouble = False
        self.mirror.apply(frame)
        kind = frame.get("type")
        if kind == "snapshot":
            for viewer in self.viewers:
                viewer.catch_up()
        elif kind == "delta":
            text, after = self.mirror.line(frame, line), self.mirror.cursors()
            for viewer in self.viewers:
                viewer.give(text, after)
        else:
            self._tell_all(line.decode())
        return bool(kind == "end")

    def _tell_all(self, text: str) -> None:
        for viewer in self.viewers:
            viewer.give(text)
