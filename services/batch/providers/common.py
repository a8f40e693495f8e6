"""What the batch services share: limits, the meaning of errors, the submit journal, and complete answers.

A journal is one small file for each token beside the batch's files. `SubmitJournal.doubt` says that a try was begun
and that its end is not known: the service is then asked for the job before another one is made, and for `SETTLE_S`
after that try nothing is sent even if it is not found, because a service can list a job a little after it took it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict
from urllib.parse import urlsplit

import orjson

from services.batch.providers.http import ThroughProxy
from services.batch.types import (
    Job,
    LineResult,
    LineState,
    Place,
    RouteLimits,
    RouteTrouble,
    SubmitLater,
    SubmitRefused,
    SubmitStopped,
)
from services.outcomes import STATE_OF, judge
from services.paths import ROOT
from services.providers.anthropic import MessagesDecoder
from services.providers.decoder import WireDecoder, loads, text
from services.providers.errors import http_error, plain, stated_error
from services.providers.openai import ChatDecoder, ResponsesDecoder
from services.providers.usage import obj
from services.security import keys
from services.security.network import Forbidden
from services.types import Json, JsonMapping, Outcome, Usage, Wire, WireError
from services.wire.framing import ServerEvent


def answered(wire_id: str, wire: Wire, body: JsonMapping, http_status: int | None = 200) -> LineResult:
    """The result of a line whose answer is ``body``, a whole response of the "messages", "chat" or "responses" wire."""
    decoder, events = _WIRES[wire]
    reader = decoder()
    texts: dict[str, list[str]] = {"answer": [], "reasoning": [], "tool": []}
    for event in events(body):
        for delta in reader.feed(ServerEvent("", b"[DONE]" if event is None else _dumps(event))):
            texts[delta.kind].append(delta.text)
    outcome, detail = judge(reader, saw_content=reader.spoke, eof=True)
    error = reader.error or WireError(outcome)
    return LineResult(
        wire_id,
        _state(outcome),
        outcome,
        "".join(texts["answer"] or texts["tool"]),
        "".join(texts["reasoning"]),
        keys.scrub(detail) if detail else None,
        reader.usage or Usage(),
        reader.finish_raw,
        reader.model_reported,
        reader.response_id,
        http_status,
        error.type,
        error.code,
        reader.server_ms,
        reader.served_tier,
    )


def refused(
    wire_id: str, body: JsonMapping, *, status: int | None, means: int | None, request_id: str | None
) -> LineResult:
    """The result of a line that the service answered with an error; ``body``: as a live call would have got it.

    ``means``: the HTTP status that a live call would have had, where the service tells none for the line.
    """
    judged = status or means
    outcome = http_error(judged, {}, _dumps(body)) if judged and judged >= 400 else stated_error(body)
    return LineResult(
        wire_id,
        "failed",
        outcome.outcome,
        message=clean(outcome.message) or None,
        response_id=request_id,
        http_status=status,
        error_type=outcome.type,
        error_code=outcome.code,
    )


def not_run(wire_id: str, state: LineState, message: str) -> LineResult:
    """The result of a line that the service did not get to: "cancelled" or "expired"."""
    outcome: Outcome = "cancelled" if state == "cancelled" else "timeout_total"
    return LineResult(wire_id, state, outcome, message=message)


def _dumps(value: JsonMapping) -> bytes:
    """JSON; of what is nested too deeply to be written, something that every decoder calls a protocol error."""
    try:
        return orjson.dumps(dict(value))
    except TypeError:
        return b"null"


def _state(outcome: Outcome) -> LineState:
    return "succeeded" if STATE_OF[outcome] == "succeeded" else "failed"


# --- a whole answer, told as the events of its wire; None is the chat wire's [DONE] ----------------------------------
_Event = JsonMapping | None


def _chat(body: JsonMapping) -> Iterator[_Event]:
    yield body
    yield None


def _messages(body: JsonMapping) -> Iterator[_Event]:
    usage = obj(body.get("usage"))
    yield {"type": "message_start", "message": {"id": body.get("id"), "model": body.get("model"), "usage": usage}}
    for block in _items(body.get("content")):
        yield {"type": "content_block_start", "content_block": block}
        if text(block.get("type")).endswith("tool_use"):
            arguments = orjson.dumps(block.get("input")).decode()
            yield {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": arguments}}
    stop = {name: body.get(name) for name in ("stop_reason", "stop_sequence", "stop_details")}
    yield {"type": "message_delta", "delta": stop, "usage": usage}
    yield {"type": "message_stop"}


def _responses(body: JsonMapping) -> Iterator[_Event]:
    for item in _items(body.get("output")):
        kind = text(item.get("type"))
        if kind.endswith("_call"):
            yield {"type": "response.output_item.added", "item": item}
            yield {"type": "response.function_call_arguments.delta", "delta": text(item.get("arguments"))}
        for block in [*_items(item.get("summary")), *_items(item.get("content"))]:
            block_text = text(block.get("text")) or text(block.get("refusal"))
            yield {"type": _PARTS.get(text(block.get("type")), ""), "delta": block_text}
    yield {"type": f"response.{text(body.get('status')) or 'completed'}", "response": body}


_PARTS = {
    "output_text": "response.output_text.delta",
    "refusal": "response.refusal.delta",
    "summary_text": "response.reasoning_summary_text.delta",
    "reasoning_text": "response.reasoning_text.delta",
}


def _items(value: Any) -> list[JsonMapping]:
    return [obj(entry) for entry in value] if isinstance(value, list) else []


_WIRES: Mapping[str, tuple[Callable[[], WireDecoder], Callable[[JsonMapping], Iterator[_Event]]]] = {
    "chat": (ChatDecoder, _chat),
    "messages": (MessagesDecoder, _messages),
    "responses": (ResponsesDecoder, _responses),
}

SETTLE_S = 60.0


def id_of(job: Job) -> str:
    """What the service calls a job that was submitted. Raises ValueError for another."""
    if not job.vendor_id:
        raise ValueError("this job was not submitted yet")
    return job.vendor_id


def tag_of(token: str) -> str:
    """A token in 12 hexadecimal digits, for names of files and ids on the wire."""
    return hashlib.sha256(token.encode()).hexdigest()[:12]


@dataclass(slots=True)
class SubmitJournal:
    """``tried_at``: Unix seconds of the first and ``last_try_at`` of the last try. ``before``: ids of jobs that were
    there before the first one (None: not looked). ``lines``: how many were written (None: not counted). ``foreign``:
    jobs that proved not to be ours. ``sure``: ``vendor_id`` was told us or proved ours, and is no guess by time and
    length."""

    path: Path
    tag: str
    doubt: bool = False
    tried_at: float | None = None
    last_try_at: float | None = None
    before: list[str] | None = None
    vendor_id: str | None = None
    file_id: str | None = None
    lines: int | None = None
    foreign: list[str] = field(default_factory=list)
    sure: bool = True

    def trying(self) -> None:
        """A try begins now; on disk before it does."""
        now = time.time()
        self.doubt, self.last_try_at, self.tried_at = True, now, self.tried_at or now
        self.save()

    def settled(self, vendor_id: str | None = None, *, sure: bool = True) -> None:
        """The last try's end is known: this job, or none."""
        self.doubt, self.vendor_id, self.sure = False, vendor_id, sure
        self.save()

    def wait(self, service: str, settle_s: float) -> None:
        """Raises `SubmitLater` while a job that was not found may still turn up."""
        remaining_s = (self.last_try_at or 0.0) + settle_s - time.time()
        if remaining_s > 0:
            raise SubmitLater(
                f"The answer of {service} to our request was lost, and it does not list the job (yet). So that nothing "
                f"is paid twice, it is asked once more in {remaining_s:,.0f} s before the file is sent again.",
                remaining_s,
            )

    def save(self) -> None:
        """Write it, whole or not at all."""
        values = {name: value for name, value in asdict(self).items() if name not in ("path", "tag")}
        write_atomically(self.path, [json.dumps(values).encode()])


def journal_of(folder: Path, job: Job) -> SubmitJournal:
    """What is remembered of this job's token; of a try on another machine ``job.facts["tried_at"]`` tells."""
    tag = tag_of(job.token)
    path = folder / "jobs" / f"{job.no:04d}-{tag}.mark"
    values = _read(path)
    journal = SubmitJournal(path, tag, **{name: values[name] for name in SubmitJournal.__slots__ if name in values})
    tried = job.facts.get("tried_at")
    if not values and isinstance(tried, int | float):
        journal.doubt, journal.tried_at, journal.last_try_at = True, float(tried), float(tried)
    return journal


def results_path(folder: Path, job: Job, vendor_id: str) -> Path:
    """Where the results that the service calls ``vendor_id`` are kept. Its word is hashed: it is not ours, and could be
    a path."""
    return folder / "results" / f"{job.no:04d}-{tag_of(job.token)}-{tag_of(vendor_id)}.jsonl"


def claimed(folder: Path, but: SubmitJournal) -> set[str]:
    """Ids of jobs that belong to other submits of ours: of this batch and of those beside it. One that was only guessed
    hides nothing: its owner may be the one who looks for it."""
    return set(_ids(folder.parent, but.path))


def _ids(root: Path, but: Path) -> Iterator[str]:
    for path in root.glob("*/jobs/*.mark"):
        values = _read(path) if path != but else {}
        if isinstance(vendor_id := values.get("vendor_id"), str) and values.get("sure", True):
            yield vendor_id


def _read(path: Path) -> Json:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}


LIMITS_FILE = ROOT / "services" / "data" / "batch_limits.json"

STEP = 1 << 20  # bytes between two words on how far a transfer has come


# What passes by itself, or once somebody has paid: the job is submitted again, it is not refused.
PASSES: frozenset[Outcome] = frozenset(
    {
        "throttled",
        "overloaded",
        "not_ready",
        "quota_exhausted",
        "unreachable",
        "proxy_error",
        "timeout_connect",
        "timeout_headers",
        "lost",
    }
)


MONEY_WAIT_S = 900.0


def limits_of(service: str) -> RouteLimits:
    """The dated limits of one service (a key of batch_limits.json). Raises KeyError for one that is not there."""
    row = _limits()[service]
    return RouteLimits(
        row.get("min_records") or 1,
        row.get("max_records"),
        row.get("max_bytes"),
        row.get("max_record_bytes"),
        row.get("window_h"),
        row.get("results_days"),
        f"{row['source']} (looked up {row['date']})",
    )


class _ServiceLimits(TypedDict):
    """One service in batch_limits.json; None: no limit is known."""

    min_records: int | None
    max_records: int | None
    max_bytes: int | None
    max_record_bytes: int | None
    window_h: float | None
    results_days: int | None
    source: str
    date: str


@functools.cache
def _limits() -> dict[str, _ServiceLimits]:
    limits: dict[str, _ServiceLimits] = json.loads(LIMITS_FILE.read_text(encoding="utf-8"))
    return limits


def clean(text: Any, limit: int = 200) -> str:
    """What a service said, on one line, without keys."""
    return plain(keys.scrub(text if isinstance(text, str) else "" if text is None else str(text)), limit)


# --- errors ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ServiceError:
    """What an error of an SDK means. ``maybe``: the service may have done what was asked of it all the same."""

    outcome: Outcome
    text: str
    maybe: bool = False
    retry_after_s: float | None = None
    status: int | None = None


def explain(error: BaseException, service: str, key_env: str | None = None) -> ServiceError:
    """The meaning of whatever an SDK (or the HTTP client under it) raised. ``text`` is a sentence without keys."""
    if isinstance(error, Forbidden):
        return ServiceError("config_error", clean(error, 300))
    cause = error.__cause__
    if isinstance(cause, Forbidden):
        return ServiceError("config_error", clean(cause, 300))
    for exception in (error, cause, getattr(cause, "__cause__", None)):
        if isinstance(exception, ThroughProxy):
            return ServiceError("proxy_error", clean(exception, 400))
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None)
    if response is None or not isinstance(status, int):
        return _unanswered(error, cause, service)
    stated = http_error(status, dict(response.headers), _body(response))
    sentence = clean(stated.message).rstrip(" .;:,")
    number = f" ({status}: {sentence})" if sentence else f" ({status})"
    wait = f" It says to wait {stated.retry_after_s:,.0f} s." if stated.retry_after_s else ""
    words: dict[Outcome, str] = {
        "throttled": f"{service} takes no more requests for now{number}.{wait}",
        "overloaded": f"{service} is overloaded{number}.{wait}",
        "quota_exhausted": f"The account at {service} is out of credit or over its spending limit{number}: top it up "
        "or raise the limit at the provider.",
        "unauthorised": f"{service} did not accept the key{number}: check {key_env or 'the key'} and what it may use.",
        "not_found": f"{service} does not know what was asked for{number}.",
    }
    broken = f"{service} failed inside{number}." if status >= 500 else f"{service} refused it{number}."
    text = words.get(stated.outcome, broken)
    maybe = (status >= 500 and status != 529) or status == 408
    return ServiceError(stated.outcome, text, maybe, stated.retry_after_s, status)


def _unanswered(error: BaseException, cause: BaseException | None, service: str) -> ServiceError:
    name = type(cause or error).__name__
    if name in ("ConnectError", "ConnectTimeout"):
        outcome: Outcome = "timeout_connect" if name == "ConnectTimeout" else "unreachable"
        return ServiceError(outcome, f"{service} could not be reached: check its address and the network.")
    if "Timeout" in name:
        return ServiceError("timeout_headers", f"{service} did not answer in time.", maybe=True)
    why = clean(cause or error, 120).rstrip(" .")
    return ServiceError(
        "lost", f"The connection to {service} broke before its answer came ({why or name}).", maybe=True
    )


def _body(response: Any) -> bytes:
    try:
        return bytes(response.content)
    except Exception:  # of a streamed answer that was not read
        return b""


@contextmanager
def asking(service: str, key_env: str | None) -> Iterator[None]:
    """Whatever goes wrong inside comes out as `RouteTrouble`, a sentence without keys."""
    try:
        yield
    except (RouteTrouble, SubmitLater, SubmitRefused):
        raise
    except Exception as error:
        text = explain(error, service, key_env).text
        raise RouteTrouble(f"{text} What was sent there is safe; it is asked again.") from None


@contextmanager
def submitting(service: str, key_env: str | None) -> Iterator[None]:
    """Whatever goes wrong inside comes out as `SubmitLater` when it can pass by itself, else as `SubmitRefused`."""
    try:
        yield
    except (SubmitLater, SubmitRefused):
        raise
    except RouteTrouble as error:
        raise SubmitLater(str(error)) from None
    except Exception as error:
        raise refusal(explain(error, service, key_env)) from None


def refusal(error: ServiceError) -> SubmitLater | SubmitRefused:
    """What an error at submit means for the job."""
    if error.outcome in PASSES or error.maybe:
        wait = error.retry_after_s or (MONEY_WAIT_S if error.outcome == "quota_exhausted" else None)
        return SubmitLater(error.text, wait)
    return SubmitRefused(error.text)


# --- files -----------------------------------------------------------------------------------------------------------
def json_line(value: Any) -> bytes:
    """``value`` as one line of JSON with its end of line. Raises ValueError in words."""
    try:
        return orjson.dumps(value, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError as error:
        raise ValueError(f"This line cannot be written as JSON ({clean(error)}).") from None


def host_of(url: str) -> str:
    """The host of an address for a sentence, "" when it has none."""
    return urlsplit(url).hostname or ""


def halt(place: Place, done: str, *, doubt: bool = False) -> None:
    """Raises `SubmitStopped` when the person has stopped the batch. ``doubt``: an earlier request got no answer."""
    if not place.stopped():
        return
    if doubt:
        raise SubmitStopped(
            f"Stopped by hand while {done}. An earlier request got no answer, and the service lists no job of it "
            "(yet): look at the service's own console before these lines are sent again."
        )
    raise SubmitStopped(f"Stopped by hand while {done}; nothing was submitted.")


def write_atomically(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file that is either whole or not there; returns its bytes. What ``pieces`` raises leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial_file = path.with_name(f"{path.name}.part")
    size = 0
    try:
        with partial_file.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        partial_file.replace(path)
    finally:
        partial_file.unlink(missing_ok=True)
    return size


def download(chunks: Iterable[bytes], path: Path, place: Place, service: str) -> None:
    """Stream a download to ``path``. It is not broken off by a cancel: what a cancelled job did answer is paid for."""
    write_atomically(path, _watched(chunks, place, service))


def _watched(chunks: Iterable[bytes], place: Place, service: str) -> Iterator[bytes]:
    done = reported = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if done - reported >= 8 * STEP:
            reported = done
            place.say(f"Fetching the results from {service}: {done / 1e6:,.0f} MB so far.")


class Upload(io.FileIO):
    """A file that tells how far it has been read, and ends with `SubmitStopped` when the person stops the batch."""

    def __init__(self, path: Path, place: Place, service: str) -> None:
        super().__init__(path, "rb")
        self._place, self._service = place, service
        self._size, self._done, self._reported = path.stat().st_size, 0, 0
        self.halted = False

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. What it raises comes out of an SDK as that one's own error, so that `halted` is kept too."""
        self.halted = self._place.stopped()
        halt(self._place, "its file was uploaded")
        data = super().read(-1 if size is None else size) or b""
        self._done += len(data)
        if self._done - self._reported >= 8 * STEP:
            self._reported = self._done
            done, total = self._done / 1e6, self._size / 1e6
            self._place.say(f"Sending the file to {self._service}: {done:,.0f} of {total:,.0f} MB.")
        return data


def broken_line(location: str, ended: bool) -> LineResult:
    """What is told of a line of a results file that is no JSON object."""
    why = "is not a JSON object" if ended else "ends in the middle"
    return LineResult("", "failed", "protocol_error", message=f"{location} {why}, so that its answer cannot be read.")


def read_lines(path: Path) -> Iterator[tuple[int, JsonMapping | None, bool]]:
    """The lines of a JSONL file as (number, object, whether it has its end of line); object None: it is none."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            value = loads(raw)
            yield number, value if isinstance(value, dict) else None, raw.endswith(b"\n")
