"""What the batch services share: their limits, what their errors mean, and how big files are written and read."""

from __future__ import annotations

import functools
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from services.batch.providers.base import Place, RouteTrouble
from services.batch.providers.http import ThroughProxy
from services.batch.types import LineResult, RouteLimits, SubmitLater, SubmitRefused, SubmitStopped
from services.paths import ROOT
from services.providers.decoder import loads
from services.providers.errors import http_error, plain
from services.security import keys
from services.security.network import Forbidden
from services.types import Outcome

LIMITS_FILE = ROOT / "services" / "data" / "batch_limits.json"
STEP = 1 << 20  # bytes between two words on how far a transfer has come
# What passes by itself, or once somebody has paid: the job is submitted again, it is not refused.
PASSES: frozenset[Outcome] = frozenset({"throttled", "overloaded", "not_ready", "quota_exhausted", "unreachable",
                                        "proxy_error", "timeout_connect", "timeout_headers", "lost"})  # fmt: skip
MONEY_WAIT_S = 900.0


def limits_of(service: str) -> RouteLimits:
    """The dated limits of one service (a key of batch_limits.json). Raises KeyError for one that is not there."""
    row = _limits()[service]
    return RouteLimits(
        row.get("min_records") or 1, row.get("max_records"), row.get("max_bytes"), row.get("max_record_bytes"),
        row.get("window_h"), row.get("results_days"), f"{row['source']} (looked up {row['date']})",
    )  # fmt: skip


@functools.cache
def _limits() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(LIMITS_FILE.read_text(encoding="utf-8"))
    return found


def clean(text: Any, limit: int = 200) -> str:
    """What a service said, on one line, without keys."""
    return plain(keys.scrub(text if isinstance(text, str) else "" if text is None else str(text)), limit)


# --- errors ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Said:
    """What an error of an SDK means. ``maybe``: the service may have done what was asked of it all the same."""

    outcome: Outcome
    text: str
    maybe: bool = False
    retry_after_s: float | None = None
    status: int | None = None


def explain(error: BaseException, service: str, key_env: str | None = None) -> Said:
    """The meaning of whatever an SDK (or the HTTP client under it) raised. ``text`` is a sentence without keys."""
    if isinstance(error, Forbidden):
        return Said("config_error", clean(error, 300))
    cause = error.__cause__
    if isinstance(cause, Forbidden):
        return Said("config_error", clean(cause, 300))
    for one in (error, cause, getattr(cause, "__cause__", None)):
        if isinstance(one, ThroughProxy):
            return Said("proxy_error", clean(one, 400))
    response = getattr(error, "response", None)
    status = getattr(error, "status_code", None)
    if response is None or not isinstance(status, int):
        return _unanswered(error, cause, service)
    stated = http_error(status, dict(response.headers), _body(response))
    said = clean(stated.message).rstrip(" .;:,")
    number = f" ({status}: {said})" if said else f" ({status})"
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
    return Said(stated.outcome, text, maybe, stated.retry_after_s, status)


def _unanswered(error: BaseException, cause: BaseException | None, service: str) -> Said:
    name = type(cause or error).__name__
    if name in ("ConnectError", "ConnectTimeout"):
        outcome: Outcome = "timeout_connect" if name == "ConnectTimeout" else "unreachable"
        return Said(outcome, f"{service} could not be reached: check its address and the network.")
    if "Timeout" in name:
        return Said("timeout_headers", f"{service} did not answer in time.", maybe=True)
    why = clean(cause or error, 120).rstrip(" .")
    return Said("lost", f"The connection to {service} broke before its answer came ({why or name}).", maybe=True)


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


def refusal(said: Said) -> SubmitLater | SubmitRefused:
    """What an error at submit means for the job."""
    if said.outcome in PASSES or said.maybe:
        wait = said.retry_after_s or (MONEY_WAIT_S if said.outcome == "quota_exhausted" else None)
        return SubmitLater(said.text, wait)
    return SubmitRefused(said.text)


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


def halt(place: Place, what: str, *, doubt: bool = False) -> None:
    """Raises `SubmitStopped` when the person has stopped the batch. ``doubt``: an earlier request got no answer."""
    if not place.stopped():
        return
    if doubt:
        raise SubmitStopped(
            f"Stopped by hand while {what}. An earlier request got no answer, and the service lists no job of it "
            "(yet): look at the service's own console before these lines are sent again."
        )
    raise SubmitStopped(f"Stopped by hand while {what}; nothing was submitted.")


def write_atomically(path: Path, pieces: Iterable[bytes]) -> int:
    """Write a file that is either whole or not there; returns its bytes. What ``pieces`` raises leaves nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    size = 0
    try:
        with part.open("wb") as file:
            for piece in pieces:
                size += file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return size


def download(chunks: Iterable[bytes], path: Path, place: Place, service: str) -> None:
    """Stream a download to ``path``. It is not broken off by a cancel: what a cancelled job did answer is paid for."""
    write_atomically(path, _watched(chunks, place, service))


def _watched(chunks: Iterable[bytes], place: Place, service: str) -> Iterator[bytes]:
    done = told = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if done - told >= 8 * STEP:
            told = done
            place.say(f"Fetching the results from {service}: {done / 1e6:,.0f} MB so far.")


class Upload(io.FileIO):
    """A file that tells how far it has been read, and ends with `SubmitStopped` when the person stops the batch."""

    def __init__(self, path: Path, place: Place, service: str) -> None:
        super().__init__(path, "rb")
        self._place, self._service = place, service
        self._size, self._done, self._told = path.stat().st_size, 0, 0
        self.halted = False

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes. What it raises comes out of an SDK as that one's own error, so that `halted` is kept too."""
        self.halted = self._place.stopped()
        halt(self._place, "its file was uploaded")
        found = super().read(-1 if size is None else size) or b""
        self._done += len(found)
        if self._done - self._told >= 8 * STEP:
            self._told = self._done
            done, whole = self._done / 1e6, self._size / 1e6
            self._place.say(f"Sending the file to {self._service}: {done:,.0f} of {whole:,.0f} MB.")
        return found


def broken_line(where: str, ended: bool) -> LineResult:
    """What is told of a line of a results file that is no JSON object."""
    why = "is not a JSON object" if ended else "ends in the middle"
    return LineResult("", "failed", "protocol_error", message=f"{where} {why}, so that its answer cannot be read.")


def read_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | None, bool]]:
    """The lines of a JSONL file as (number, object, whether it has its end of line); object None: it is none."""
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            if not raw.strip():
                continue
            value = loads(raw)
            yield number, value if isinstance(value, dict) else None, raw.endswith(b"\n")
