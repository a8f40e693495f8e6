"""Frames of ``application/vnd.amazon.eventstream``, written by hand: botocore has only the reading half."""

from __future__ import annotations

import base64
from binascii import crc32
from collections.abc import Mapping
from typing import Any

from tests.fake.wires import dumps

EVENT_STREAM = ("content-type", "application/vnd.amazon.eventstream")
_STRING = b"\x07"
PADDING = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def _word(number: int) -> bytes:
    return number.to_bytes(4, "big")


def message(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame: lengths and their checksum, string headers, payload, checksum of it all."""
    block = b"".join(
        bytes([len(name.encode())]) + name.encode() + _STRING + len(value.encode()).to_bytes(2, "big") + value.encode()
        for name, value in headers.items()
    )
    prelude = _word(16 + len(block) + len(payload)) + _word(len(block))
    data = prelude + _word(crc32(prelude)) + block + payload
    return data + _word(crc32(data))


def event(name: str, payload: bytes, content_type: str = "application/json") -> bytes:
    """An event of that name, with its headers in AWS's order."""
    return message({":event-type": name, ":content-type": content_type, ":message-type": "event"}, payload)


def exception(name: str, value: Mapping[str, Any]) -> bytes:
    """A modelled exception inside the stream."""
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return message(headers, dumps(value).encode())


def unmodelled(code: str, text: str) -> bytes:
    """An error that the service's model does not know: no payload, all of it in headers."""
    return message({":error-code": code, ":error-message": text, ":message-type": "error"}, b"")


def json_event(name: str, value: Mapping[str, Any], *, pad: bool = True) -> bytes:
    """An event with a JSON payload; ``pad`` adds the ``p`` with which Bedrock hides the length of a token."""
    filled = {**value, "p": PADDING[: 4 + (7 * len(dumps(value))) % 50]} if pad else value
    return event(name, dumps(filled).encode())


def chunk(inner: bytes, *, pad: bool = True) -> bytes:
    """A ``chunk`` event of InvokeModelWithResponseStream around the model's own bytes."""
    return json_event("chunk", {"bytes": base64.b64encode(inner).decode()}, pad=pad)


def payload_part(inner: bytes) -> bytes:
    """A ``PayloadPart`` event of SageMaker around a piece of what the container wrote."""
    return event("PayloadPart", inner, "application/octet-stream")


def with_bad_crc(frame: bytes) -> bytes:
    """The frame with its last checksum off by one bit."""
    return frame[:-1] + bytes([frame[-1] ^ 1])


def with_bad_prelude(frame: bytes) -> bytes:
    """The frame with the checksum of its lengths off by one bit."""
    return frame[:11] + bytes([frame[11] ^ 1]) + frame[12:]


def with_bad_body(frame: bytes) -> bytes:
    """The frame with one bit of its payload turned, as a broken proxy would."""
    return frame[:-6] + bytes([frame[-6] ^ 1]) + frame[-5:]
