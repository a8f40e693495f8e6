"""One accepted connection: reads requests, plays compiled plans on their schedule, stamps every write.

Raw sockets instead of transports: a transport may keep bytes until the end of the loop's turn, and then a stamp
would be earlier than the bytes that it speaks of.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import socket
import struct
import time
from time import perf_counter_ns
from typing import TYPE_CHECKING

from tests.fake.http import BadRequest, Reader, plain_response
from tests.fake.plan import Compiled
from tests.fake.record import Record
from tests.fake.replies import RETRY_DATE
from tests.fake.scripts import Mark

if TYPE_CHECKING:
    from tests.fake.server import Core

EARLY_NS = 50_000  # a write may leave this much before its time, never more
MAX_WAITING = 8_000_000  # bytes that a client has not taken; above it, writes wait


class Connection:
    """Owned by `Core`; everything runs in its event loop."""

    def __init__(self, core: Core, sock: socket.socket, number: int) -> None:
        self.core, self.sock, self.number = core, sock, number
        self.loop = asyncio.get_running_loop()
        self.fd = sock.fileno()
        self.reader = Reader()
        self.waiting = bytearray()
        self.record: Record | None = None
        self.last: Record | None = None
        self.plan: Compiled | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.first_byte_ns = 0
        self.index = 0
        self.closing = self.closed = False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.loop.add_reader(self.fd, self._readable)

    # --- requests ---------------------------------------------------------------------------------------------

    def _readable(self) -> None:
        try:
            data = self.sock.recv(262_144)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        now = perf_counter_ns()
        if not data:
            self._gone(now)
            return
        self.first_byte_ns = self.first_byte_ns or now
        self.reader.feed(data)
        self._next(now)

    def _next(self, now: int) -> None:
        while self.record is None and not self.closing:
            try:
                request = self.reader.next()
            except (BadRequest, ValueError) as error:
                self.raw(plain_response(400, str(error).encode(), "text/plain", ("connection", "close")))
                self._finish_socket()
                return
            if request is None:
                if self.reader.wants_continue:
                    self.reader.wants_continue = False
                    self.raw(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            first, self.first_byte_ns = self.first_byte_ns or now, now if self.reader.buffer else 0
            self.core.handle(self, request, first, now)

    def raw(self, data: bytes) -> None:
        """Bytes that are not part of a plan (control answers, the canary)."""
        self._send(data)

    # --- the plan ---------------------------------------------------------------------------------------------

    def play(self, record: Record, plan: Compiled) -> None:
        """Play a plan; its times count from the moment the request was read."""
        self.record, self.plan, self.index = record, plan, -1 if plan.head_ns is not None else 0
        self._tick()

    def _tick(self) -> None:
        plan, record = self.plan, self.record
        assert plan is not None and record is not None
        self.timer = None
        writes, count = plan.writes, len(plan.writes)
        while True:
            at = self._due(plan, record, count)
            if at is None:
                self._over(plan, record)
                return
            now = perf_counter_ns()
            if at - now > EARLY_NS or len(self.waiting) > MAX_WAITING:
                # Whole milliseconds, rounded up: uvloop's timers round, and a write must not be early.
                delay = max(1, math.ceil((at - now) / 1e6)) / 1000
                self.timer = self.loop.call_later(delay, self._tick)
                return
            if self.index < 0:
                record.head_ns = now
                self._send(self._head(plan, record))
            else:
                mark, data = writes[self.index][1:] if self.index < count else self._again(plan, count)
                self._stamp(record, now, mark, data)
            self.index += 1
            if self.closed or self.plan is not plan:
                return

    def _due(self, plan: Compiled, record: Record, count: int) -> int | None:
        if self.index < 0:
            return record.received_ns + (plan.head_ns or 0)
        if self.index < count:
            return record.received_ns + plan.writes[self.index][0]
        if plan.repeat:
            base = plan.writes[-1][0] if count else plan.head_ns or 0
            return record.received_ns + base + (self.index - count + 1) * plan.repeat_ns
        return None

    def _again(self, plan: Compiled, count: int) -> tuple[Mark, bytes]:
        return plan.repeat[(self.index - count) % len(plan.repeat)]

    def _stamp(self, record: Record, now: int, mark: Mark, data: bytes) -> None:
        record.stamps.append(now)
        record.marks.append(mark)
        record.sizes.append(len(data))
        if mark == "terminal":
            record.terminal_ns = now
        self._send(data)

    def _head(self, plan: Compiled, record: Record) -> bytes:
        head = plan.head
        if RETRY_DATE.encode() in head:
            wait = record.script.retry_after if record.script else 0
            head = head.replace(RETRY_DATE.encode(), email.utils.formatdate(time.time() + wait, usegmt=True).encode())
        ids = f"request-id: req_fake_{record.id}\r\nx-request-id: req_fake_{record.id}\r\n\r\n"
        return head + ids.encode()

    def _over(self, plan: Compiled, record: Record) -> None:
        if plan.end == "hang":
            return
        self._forget(perf_counter_ns())
        if plan.end == "rst":
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()
        elif not plan.keep_alive or record.headers.get("connection", "").lower() == "close":
            self._finish_socket()
        else:
            self._next(perf_counter_ns())

    def _forget(self, end_ns: int) -> None:
        if self.record is not None:
            self.record.end_ns = end_ns
            self.last, self.record, self.plan = self.record, None, None
            self.core.over()

    # --- the socket -------------------------------------------------------------------------------------------

    def _send(self, data: bytes) -> None:
        if self.closed:
            return
        if self.waiting:
            self.waiting += data
            return
        try:
            sent = self.sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError:
            self._gone(perf_counter_ns())
            return
        if sent < len(data):
            self.waiting += memoryview(data)[sent:]
            self.loop.add_writer(self.fd, self._writable)

    def _writable(self) -> None:
        try:
            sent = self.sock.send(self.waiting)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._gone(perf_counter_ns())
            return
        del self.waiting[:sent]
        if not self.waiting:
            self.loop.remove_writer(self.fd)
            if self.closing:
                self._finish_socket()

    def _finish_socket(self) -> None:
        """FIN once everything is sent; the socket itself is closed when the client has closed too, to avoid a RST."""
        self.closing = True
        if not self.waiting and not self.closed:
            try:
                self.sock.shutdown(socket.SHUT_WR)
            except OSError:
                self.close()

    def _gone(self, now: int) -> None:
        if self.record is not None:
            self.record.disconnect_ns = now
            self.record.aborted = True
            self.last, self.record, self.plan = self.record, None, None
            self.core.over()
        elif self.last is not None and not self.last.disconnect_ns:
            self.last.disconnect_ns = now
        self.close()

    def close(self) -> None:
        """Close at once."""
        if self.closed:
            return
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
        self.loop.remove_reader(self.fd)
        self.loop.remove_writer(self.fd)
        self.sock.close()
        self.core.connections.discard(self)
