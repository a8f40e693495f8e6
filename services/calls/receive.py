"""The bytes of one response become deltas of its progress, decoded in the transport's own callback."""

from __future__ import annotations

import asyncio

import aiohttp

from services.calls.key_filter import Echo
from services.calls.progress import Progress
from services.providers.base import Decoder
from services.wire.framing import Framer, FramingError
from services.wire.sse import ServerEvent, StreamTooLarge

MAX_STREAM_BYTES = 20_000_000
_KIND_CODE = {"answer": 97, "reasoning": 114, "tool": 116}


class Intake:
    """Bytes in, progress out: decodes each read where it arrives. ``over`` is done when there is nothing to await."""

    __slots__ = ("decoder", "eof", "framer", "over", "progress", "unkeyed_answer", "unkeyed_reasoning")

    def __init__(self, progress: Progress, framer: Framer, secret: str, over: asyncio.Future[None]) -> None:
        assert progress.decoder is not None
        self.progress = progress
        self.decoder: Decoder = progress.decoder
        self.over = over
        self.framer = framer
        self.unkeyed_answer, self.unkeyed_reasoning = Echo(secret), Echo(secret)
        self.eof = False

    def feed(self, data: bytes, stamp: int) -> None:
        """Decode one read. Runs inside the transport's callback, so whatever goes wrong ends up in ``over``."""
        if self.over.done():
            return
        progress = self.progress
        try:
            progress.n_bytes += len(data)
            self.take(self._events(data, stamp), stamp)
            progress.keepalives = self.framer.keepalives
            if progress.n_bytes > MAX_STREAM_BYTES:
                raise StreamTooLarge(f"more than {MAX_STREAM_BYTES:,} bytes came in one answer")
        except Exception as error:
            self.over.set_exception(error)
            return
        if self.decoder.terminal or self.decoder.error is not None:
            self.over.set_result(None)

    def _events(self, data: bytes, stamp: int) -> list[ServerEvent]:
        """The events that ``data`` completes. What was whole before a damage is taken first: it may be the end."""
        try:
            return self.framer.feed(data)
        except FramingError as damage:
            self.take(damage.events, stamp)
            if self.decoder.terminal or self.decoder.error is not None:
                return []
            raise

    def ended(self, content: aiohttp.StreamReader) -> None:
        """The body is at its end: cleanly, or with the exception that the transport left."""
        if self.over.done():
            return
        # Later in this turn of the loop: the last bytes are handed over after the end of the body is announced.
        self.over.get_loop().call_soon(self._ended, content)

    def _ended(self, content: aiohttp.StreamReader) -> None:
        if self.over.done():
            return
        broken = content.exception()
        if broken is not None:
            self.over.set_exception(broken)
        else:
            self.eof = True
            self.over.set_result(None)

    def take(self, events: list[ServerEvent], stamp: int) -> None:
        """Decode events that arrived at ``stamp`` and write what they carried into the progress."""
        decoder, progress = self.decoder, self.progress
        for event in events:
            progress.n_events += 1
            for kind, text in decoder.feed(event):
                progress.delta_ns.append(stamp)
                progress.delta_kinds.append(_KIND_CODE[kind])
                progress.last = stamp
                if not progress.first:
                    progress.first = stamp
                if kind == "answer":
                    if not progress.first_answer:
                        progress.first_answer = stamp
                        progress.phase = "answering"
                    progress.answer.append(self.unkeyed_answer.feed(text))
                    progress.answer_chars += len(text)
                else:
                    if not progress.first_answer:
                        progress.phase = "reasoning"
                    if kind == "reasoning":
                        progress.reasoning.append(self.unkeyed_reasoning.feed(text))
                        progress.reasoning_chars += len(text)
            if decoder.error is not None or decoder.terminal:
                return

    def let_go(self) -> None:
        """Give back the texts' last characters, which could have been the beginning of the key."""
        for texts, unkeyed in (
            (self.progress.answer, self.unkeyed_answer), (self.progress.reasoning, self.unkeyed_reasoning),
        ):  # fmt: skip
            if rest := unkeyed.rest():
                texts.append(rest)
