"""Is a reply one that botocore's own service model allows? Walks the shapes; independent of botocore's lax parser."""

from __future__ import annotations

import base64
import binascii
import datetime
import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

import botocore.session
from botocore.eventstream import EventStreamBuffer
from botocore.model import OperationModel, Shape

# Bedrock pads every event with "p"; the models do not speak of it.
PADDING = "p"
# Seen in ModelError's bodies, and not in its shape.
UNMODELLED = frozenset({("ModelError", "ErrorCode")})
# Errors that any service may answer and no operation lists.
COMMON: Mapping[str, int] = {
    "ExpiredTokenException": 403,
    "UnrecognizedClientException": 403,
    "InvalidSignatureException": 403,
    "MissingAuthenticationTokenException": 403,
    "IncompleteSignatureException": 403,
    "AccessDeniedException": 403,
    "ThrottlingException": 400,
}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
    "list": (list,),
    "map": (dict,),
    "structure": (dict,),
}


@lru_cache(maxsize=64)
def operation(service: str, name: str) -> OperationModel:
    """botocore's model of an operation."""
    return botocore.session.get_session().get_service_model(service).operation_model(name)


def problems(value: Any, shape: Any, path: str = "$") -> Iterator[str]:
    """Everything in a parsed JSON value that its shape does not allow."""
    kind = shape.type_name
    if getattr(shape, "is_document_type", False):
        return
    if kind == "blob":
        yield from _blob(value, path)
    elif kind == "timestamp":
        yield from _timestamp(value, path)
    elif not _is_a(value, kind):
        yield f"{path}: {value!r} is no {kind}"
    elif kind == "structure":
        yield from _structure(value, shape, path)
    elif kind == "list":
        yield from _size(len(value), shape, path)
        for index, item in enumerate(value):
            yield from problems(item, shape.member, f"{path}[{index}]")
    elif kind == "map":
        for key, item in value.items():
            yield from problems(item, shape.value, f"{path}.{key}")
    else:
        yield from _scalar(value, shape, path)


def _is_a(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


def _structure(value: dict[str, Any], shape: Any, path: str) -> Iterator[str]:
    known = {m.serialization.get("name", n): m for n, m in shape.members.items() if "location" not in m.serialization}
    known |= {n: m for n, m in shape.members.items() if "location" not in m.serialization}
    required = {n for n in shape.required_members if "location" not in shape.members[n].serialization}
    for name in required - set(value):
        yield f"{path}: {name} is missing"
    if getattr(shape, "is_tagged_union", False) and len(value) != 1:
        yield f"{path}: a union with {len(value)} members"
    for name, item in value.items():
        if (shape.name, name) in UNMODELLED:
            continue
        if name not in known:
            yield f"{path}: {name} is not in {shape.name}"
        elif item is None:
            yield f"{path}.{name}: null"
        else:
            yield from problems(item, known[name], f"{path}.{name}")


def _size(size: float, shape: Any, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and size < low) or (high is not None and size > high):
        yield f"{path}: {size} is not within {low} and {high}"


def _scalar(value: Any, shape: Any, path: str) -> Iterator[str]:
    yield from _size(len(value) if isinstance(value, str) else value, shape, path)
    enum = getattr(shape, "enum", None)
    if enum and value not in enum:
        yield f"{path}: {value!r} is none of {enum}"
    pattern = shape.metadata.get("pattern", "").replace(r"\p{ASCII}", r"[\x00-\x7f]")
    if pattern and isinstance(value, str) and not re.fullmatch(pattern, value, re.DOTALL):
        yield f"{path}: {value!r} does not match {pattern}"


def _blob(value: Any, path: str) -> Iterator[str]:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, TypeError, ValueError):
        yield f"{path}: {value!r} is no base64"


def _timestamp(value: Any, path: str) -> Iterator[str]:
    try:
        datetime.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        yield f"{path}: {value!r} is no ISO 8601 time"


# --- replies -------------------------------------------------------------------------------------------------------


def reply_problems(model: OperationModel, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    """Everything in one whole HTTP reply (after its transfer coding) that the operation does not allow."""
    lowered = {name.lower(): value for name, value in headers.items()}
    if status >= 300:
        yield from _error(model, status, lowered, body)
        return
    expected = model.http.get("responseCode", 200)
    if status != expected:
        yield f"status {status} in place of {expected}"
    shape = model.output_shape
    if shape is None:
        return
    yield from _located(shape, lowered)
    stream = model.get_event_stream_output()
    payload = shape.serialization.get("payload")
    if stream is not None:
        if lowered.get("content-type") != "application/vnd.amazon.eventstream":
            yield f"content-type {lowered.get('content-type')}"
        yield from stream_problems(stream, body)
    elif payload is None or shape.members[payload].type_name != "blob":  # a blob is the model's own bytes
        yield from _json(body, shape)


def _json(body: bytes, shape: Shape) -> Iterator[str]:
    try:
        value = json.loads(body or b"{}")
    except ValueError:
        yield f"no JSON: {body[:80]!r}"
        return
    yield from problems(value, shape)


def _located(shape: Any, headers: Mapping[str, str]) -> Iterator[str]:
    for name, member in shape.members.items():
        if member.serialization.get("location") != "header":
            continue
        value = headers.get(member.serialization["name"].lower())
        if value is None and name in shape.required_members:
            yield f"the header {member.serialization['name']} is missing"
        elif value is not None:
            yield from problems(value, member, name)


def _error(model: OperationModel, status: int, headers: Mapping[str, str], body: bytes) -> Iterator[str]:
    name = headers.get("x-amzn-errortype", "").partition(":")[0]
    found = next((s for s in model.error_shapes if name in {s.name, s.metadata.get("error", {}).get("code")}), None)
    if found is None:
        if COMMON.get(name) != status:
            yield f"{name or 'an unnamed error'} with {status} is no error of {model.name}"
        return
    wanted = found.metadata.get("error", {}).get("httpStatusCode", status)
    if status != wanted:
        yield f"{name} with {status} in place of {wanted}"
    yield from _json(body, found)


def stream_problems(stream: Any, body: bytes) -> Iterator[str]:
    """Everything in an event stream's bytes that its union of events does not allow, rests of frames included."""
    buffer = EventStreamBuffer()
    buffer.add_data(body)
    length = 0
    try:
        for message in buffer:
            length += message.prelude.total_length
            yield from _message(stream, message)
    except Exception as error:  # botocore's parser errors share no base class
        yield f"damaged: {type(error).__name__}"
        return
    if length != len(body):
        yield f"{len(body) - length} bytes of an unfinished frame"


def _message(stream: Any, message: Any) -> Iterator[str]:
    headers = message.headers
    kind = headers.get(":message-type")
    name = headers.get(":event-type" if kind == "event" else ":exception-type")
    if kind not in {"event", "exception"} or name not in stream.members:
        yield f"a message of the type {kind} and the name {name}"
        return
    shape = stream.members[name]
    if (kind == "exception") != bool(shape.metadata.get("exception")):
        yield f"{name} sent as {kind}"
    raw = next((m for m in shape.members.values() if m.serialization.get("eventpayload")), None)
    if raw is not None and raw.type_name == "blob":
        if headers.get(":content-type") != "application/octet-stream":
            yield f"{name}: {headers.get(':content-type')}"
        return
    try:
        value = json.loads(message.payload)
    except ValueError:
        yield f"{name}: no JSON"
        return
    value.pop(PADDING, None)
    yield from problems(value, shape, name)
