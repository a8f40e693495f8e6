"""Bounds on uploads: for a visitor and in all, in time, and freed when the visitor has left.

Streamlit keeps uploads in memory until their session ends. It looks for sessions that have ended only when another one
comes or goes, so the files of the last visitors would stay; a file that is still coming in when its session ends would
stay for ever.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import Counter
from typing import Any, cast

import streamlit as st
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from app.access.connections import STREAM_PATH, header_values, refuse
from services.embedded.pool import available_bytes

log = logging.getLogger(__name__)

MB = 2**20
FILE_MB = 200  # server.maxUploadSize
VISITOR_BYTES = 400 * MB
VISITOR_FILES = 200
FRAMING_BYTES = MB  # what a form adds around its file
TOTAL_SHARE = 4  # of the memory that is free at the first upload, one part in so many
LEAST_TOTAL_BYTES = VISITOR_BYTES
LOOKS_PER_TTL = 8  # how often it is looked again while sessions wait for their end
PAUSE_S = 30.0  # the longest silence within an upload
SLOW_AFTER_S = 60.0
SLOW_BYTES_PER_S = 2_048

_PATH = re.compile(r".*/_stcore/upload_file/([^/]+)/[^/]+")
NO_SESSION = "This page is no longer connected, so the file was not kept. Reload the page and choose the file again.\n"
TOO_LARGE = f"A file may have up to {FILE_MB} MB. Split it, and upload the parts one after another.\n"
TOO_MANY_AT_ONCE = f"Files that come in at once may have {VISITOR_BYTES // MB} MB together. Wait for the others.\n"
NO_ROOM = "The server has no memory left for uploads now. Nothing was kept; try again in a few minutes.\n"
BAD_LENGTH = "The request does not say how long it is in a way that can be read.\n"
TOO_SLOW = "The file came in too slowly and was given up. Nothing was kept; try again.\n"


class _GivenUp(Exception):
    """An upload that drips, or that is longer than it may be; with the answer to it."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status, self.sentence = status, sentence


class Uploads:
    """ASGI middleware around Streamlit's upload route; also frees what sessions that are over leave behind."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._total_bytes: int | None = None
        self._coming: Counter[str] = Counter()  # bytes of uploads under way, by session
        self._sweep: asyncio.TimerHandle | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and scope["path"].endswith(STREAM_PATH):
            try:
                await self.app(scope, receive, send)
            finally:
                self._sweep_later()
            return
        match = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" and scope["method"] == "PUT" else None
        if match is None or not runtime.exists():
            await self.app(scope, receive, send)
            return
        await self._upload(match[1], scope, receive, send)

    async def _upload(self, session: str, scope: Scope, receive: Receive, send: Send) -> None:
        length = _length(scope)
        problem: tuple[int, str] | None = None
        if not runtime.get_instance().is_active_session(session):
            problem = 400, NO_SESSION
        elif length is None:
            problem = 400, BAD_LENGTH
        elif length > FILE_MB * MB + FRAMING_BYTES:
            problem = 413, TOO_LARGE
        else:
            problem = self._make_room(session, length)
        if problem is not None or length is None:
            await refuse(scope, receive, send, *(problem or (400, BAD_LENGTH)))
            return
        started = False

        async def send_and_note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._coming[session] += length
        try:
            await self.app(scope, _bounded(receive, length), send_and_note)
        except _GivenUp as reason:
            log.warning("An upload was given up: %s", reason.sentence.rstrip())
            if not started:
                await refuse(scope, receive, send, reason.status, reason.sentence)
        except ClientDisconnect:
            pass  # whoever sent it has gone
        finally:
            self._coming[session] -= length
            if not self._coming[session]:
                del self._coming[session]
            if not runtime.get_instance().is_active_session(session):
                self._sweep_later()

    def _make_room(self, session: str, length: int) -> tuple[int, str] | None:
        """Room for one more file, by dropping the oldest ones of this visitor and those of visitors who have left.

        A browser does not say that it no longer shows a file (another page, another choice), so the oldest is what
        nobody misses. Status and sentence where there is no room.
        """
        if self._total_bytes is None:
            self._total_bytes = max(available_bytes() // TOTAL_SHARE, LEAST_TOTAL_BYTES)
        files = _files()
        coming = self._coming[session]
        if coming + length > VISITOR_BYTES:
            return 413, TOO_MANY_AT_ONCE
        own = {file_id: len(file.data) for file_id, file in files.file_storage.get(session, {}).items()}
        while own and (sum(own.values()) + coming + length > VISITOR_BYTES or len(own) >= VISITOR_FILES):
            oldest = next(iter(own))
            del own[oldest]
            files.remove_file(session, oldest)
        instance = runtime.get_instance()
        left = [other for other in list(files.file_storage) if not instance.is_active_session(other)]
        while _stored(files) + sum(self._coming.values()) + length > self._total_bytes:
            if not left:
                log.warning("An upload was refused: %d MB are kept for uploads already.", self._total_bytes // MB)
                return 507, NO_ROOM
            files.remove_session_files(left.pop(0))
        return None

    def _sweep_later(self, share: int = 1) -> None:
        if self._sweep is None and runtime.exists():
            ttl_s = float(st.get_option("server.disconnectedSessionTTL"))
            self._sweep = asyncio.get_running_loop().call_later(ttl_s / share + 1, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep = None
        if runtime.exists() and forget_sessions_that_are_over():
            self._sweep_later(LOOKS_PER_TTL)


def forget_sessions_that_are_over() -> bool:
    """End the disconnected sessions whose time is over and free their uploads. True while others wait for theirs.

    Streamlit offers no way to ask for this; the two fields are watched by tests/web/test_uploads.py.
    """
    manager = cast(Any, runtime.get_instance())._session_mgr
    stored = manager._session_storage._cache
    for _, ended in stored.expire():
        ended.session.shutdown()
    files = _files()
    for session in list(files.file_storage):
        if not manager.is_active_session(session) and session not in stored:
            files.remove_session_files(session)
    return bool(stored)


def _files() -> MemoryUploadedFileManager:
    return cast(MemoryUploadedFileManager, runtime.get_instance().uploaded_file_mgr)


def _stored(files: MemoryUploadedFileManager) -> int:
    return sum(len(file.data) for kept in list(files.file_storage.values()) for file in list(kept.values()))


def _bounded(receive: Receive, length: int) -> Receive:
    """``receive`` for a body of at most ``length`` bytes that comes in steadily. It raises `_GivenUp`."""
    clock = asyncio.get_running_loop().time
    began, received = clock(), 0

    async def bounded() -> Message:
        nonlocal received
        try:
            async with asyncio.timeout(PAUSE_S):
                message = await receive()
        except TimeoutError:
            raise _GivenUp(408, TOO_SLOW) from None
        received += len(message.get("body", b""))
        took = clock() - began
        if received > length:
            raise _GivenUp(413, TOO_LARGE)
        if message.get("more_body") and took > SLOW_AFTER_S and received < took * SLOW_BYTES_PER_S:
            raise _GivenUp(408, TOO_SLOW)
        return message

    return bounded


def _length(scope: Scope) -> int | None:
    """Bytes of a body, or the most that they may be where it comes in pieces of its own. None: it cannot be read."""
    lengths = header_values(scope, b"content-length")
    if not lengths and header_values(scope, b"transfer-encoding"):
        return min(FILE_MB * MB, VISITOR_BYTES)
    if len(lengths) != 1 or not re.fullmatch(rb"[0-9]{1,15}", lengths[0]):
        return None
    return int(lengths[0])
