"""The types that every module of `services.batch` shares, and their JSON.

The way of a batch: a file is spooled to disk and checked as a stream (`files`), a route is chosen (`providers`), its
cost and time are estimated (`estimate`), its valid lines are recorded (`ingest`), and a worker (`worker`) sends them,
through a batch service (`jobs`) or one by one with our own runner (`runner`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from db import batch_rows
from db.batch_rows import AskJson, JobFacts, LineRow, OptionsJson
from services.types import Ask, Deployment, JsonMapping, Message, Outcome, Usage

# queued: recorded, no worker has begun. sending: files go to the service. checking: the service looks at them.
# waiting_for_quota: the service will take it later. running, pausing → paused. cancelling. collecting: results come.
# ended: every line is accounted for. cancelled, expired: the same, with lines that were not answered for that reason.
# failed: the service refused the whole batch, nothing was answered.
BatchState = batch_rows.BatchState
OVER: tuple[BatchState, ...] = ("ended", "cancelled", "expired", "failed")
# missing: the service ended the job and said nothing of this line.
LineState = batch_rows.LineState
LINES_OVER: tuple[LineState, ...] = ("succeeded", "failed", "cancelled", "expired", "missing")
# runner: our own, line by line, for every deployment. The others are batch services.
# Lines that are over without an answer: they can be sent again.
RESENT: tuple[LineState, ...] = ("failed", "cancelled", "expired", "missing")

RouteName = batch_rows.RouteName
Format = batch_rows.Format
SOURCE = "batch"
UNSURE = "Not checked: "  # how `Route.check` begins a sentence about what could not be found out: it need not be wrong
# The most that a submission may ask of our own runner, and the largest budget.
MOST_LANES = 1024
MOST_PER_MINUTE = 1_000_000
MOST_NANOUSD = 10**15  # a million dollars
# How long a worker has a line in hand, how often its heart beats, and when others take it for dead.
LEASE_S = max(1.0, float(os.environ.get("LAB_WORKER_LEASE", "60")))  # the same for all workers and the engine
BEAT_S = LEASE_S / 12
STALE_S = LEASE_S / 2  # a worker whose heart has not beaten for so long is dead


def wire_id(no: int) -> str:
    """What a line is called on every wire: letters and digits, at least 11 of them, whatever the person's id is."""
    return f"r{no:010d}"


def no_of(wire: str) -> int | None:
    """The line that a `wire_id` names; None for anything else."""
    digits = wire[1:]
    return int(digits) if wire[:1] == "r" and len(digits) >= 10 and digits.isascii() and digits.isdigit() else None


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is read and what is made of a record. ``None`` means "recognise it".

    ``prompt``, ``system``: templates with ``{{column}}``; of a file of messages (a vendor's or our own JSONL with
    "messages") they are not used. ``id_column``: whose value the person knows a record by; None takes a column "id"
    (or custom_id, recordId) where there is one, else the line's number. ``params``: the product's own parameters
    (`services.params`), which a record's own win over. ``suffix_ids``: make double ids different instead of refusing
    them. ``sheet``: of an Excel file, None the first. ``leave_out``: send the valid lines although others are not.
    ``only_model``: of a vendor's file whose lines name several models, only the lines that name this one.
    """

    format: Format | None = None
    encoding: Literal["utf-8", "cp1252"] = "utf-8"
    delimiter: str | None = None
    id_column: str | None = None
    prompt: str | None = None
    system: str | None = None
    params: JsonMapping = field(default_factory=dict)
    suffix_ids: bool = False
    sheet: str | None = None
    leave_out: bool = False
    only_model: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One valid record: ``no`` from 1 among the valid ones, ``line`` where it begins in the file (1-based)."""

    no: int
    line: int
    id: str
    original: JsonMapping
    ask: Ask


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one record, or with the file (``line`` None). ``found``: at most 80 characters, escaped.

    ``text`` is the whole sentence: what was found and what to do. ``record``: its number in the file, from 1, faulty
    ones counted (``line`` is the physical one).
    """

    line: int | None
    code: str
    text: str
    field: str = ""
    found: str = ""
    record: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A way out that the page offers as a button: the same file read with other options."""

    label: str
    options: Options


@dataclass(frozen=True, slots=True)
class Checked:
    """What is known of a file after reading all of it. ``faults``: the first 20 of ``n_faults``; ``notices``: what was
    accepted but changed or left aside, in sentences. ``preview``: the first valid records. ``refused``: the file as a
    whole cannot be read (one sentence); then nothing else is known.

    ``chars_in``: characters of all prompts and system prompts of valid records; ``max_tokens``: the sum of the records'
    limits where each has one, else None; ``longest``: characters of the longest record.
    """

    sha256: str
    n_bytes: int
    format: Format | None
    options: Options
    columns: tuple[str, ...] = ()
    n_records: int = 0
    n_valid: int = 0
    n_blank: int = 0
    faults: tuple[Fault, ...] = ()
    n_faults: int = 0
    notices: tuple[str, ...] = ()
    choices: tuple[Choice, ...] = ()
    preview: tuple[Record, ...] = ()
    refused: str | None = None
    chars_in: int = 0
    longest: int = 0
    max_tokens: int | None = None
    models: Mapping[str, int] = field(default_factory=dict)

    @property
    def sendable(self) -> bool:
        """Whether lines may be sent as things stand."""
        return self.refused is None and self.n_valid > 0 and (self.n_faults == 0 or self.options.leave_out)


class Progress(NamedTuple):
    """How far a check has come: bytes read of all, and records so far."""

    done_bytes: int
    all_bytes: int
    n_records: int


# --- routes --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RouteLimits:
    """What one job of a service may hold; None: no limit is known. Bytes are of the file that is uploaded."""

    min_records: int = 1
    max_records: int | None = None
    max_bytes: int | None = None
    max_record_bytes: int | None = None
    window_h: float | None = None
    results_days: int | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """One line as a route is given it."""

    no: int
    ask: Ask


@dataclass(frozen=True, slots=True)
class Job:
    """One job as a route knows it. ``token`` is the same at every try to submit it; ``facts`` are the route's own."""

    batch_id: str
    no: int
    token: str
    n_lines: int
    vendor_id: str | None = None
    facts: JobFacts = field(default_factory=JobFacts)


@dataclass(frozen=True, slots=True)
class Polled:
    """What a service says of a job. ``counts``: total, succeeded, failed (and others) where it counts while it runs.

    ``vendor_state`` is the service's own word, ``state`` ours, ``sentence`` the same in words; ``over``: it will not
    change any more; ``collectable``: there are results to read, complete or not.
    """

    state: BatchState
    vendor_state: str
    sentence: str
    over: bool
    collectable: bool
    counts: Mapping[str, int] | None = None
    expires_at: float | None = None  # Unix seconds
    facts: JobFacts = field(default_factory=JobFacts)  # what the job's facts are from now on, merged


@dataclass(frozen=True, slots=True)
class LineResult:
    """What a service answered to one line. ``wire_id`` as it came back: it can be unknown, or come twice."""

    wire_id: str
    state: LineState
    outcome: Outcome
    answer: str = ""
    reasoning: str = ""
    message: str | None = None  # what the service said went wrong, without keys
    usage: Usage = field(default_factory=Usage)
    finish_raw: str | None = None
    model_reported: str | None = None
    response_id: str | None = None
    http_status: int | None = None
    error_type: str | None = None
    error_code: str | None = None
    server_ms: float | None = None
    tier_served: str | None = None


class SubmitRefused(Exception):
    """The service will never take this job as it is; the text is a sentence for the person."""


class SubmitLater(Exception):
    """The service cannot take it now (throttled, quota, another job of this name is being made); the text says why.

    ``retry_after_s``: when the service said so. ``leave``: whoever cancels now leaves it at that, because what an
    earlier try left at the service cannot be told yet.
    """

    def __init__(self, text: str, retry_after_s: float | None = None, *, leave: bool = False) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s
        self.leave = leave


class SubmitStopped(SubmitLater):
    """The person cancelled before anything was submitted, and it is certain that the service has nothing of the job."""


def ask_to_json(ask: Ask) -> AskJson:
    """An ask as a line keeps it."""
    values: AskJson = {"messages": [{"role": message.role, "text": message.text} for message in ask.messages]}
    if ask.system is not None:
        values["system"] = ask.system
    if ask.params:
        values["params"] = dict(ask.params)
    if ask.cache is not None:
        values["cache"] = ask.cache
    return values


def ask_of_line(row: LineRow) -> Ask:
    """What a line asks, as `ask_to_json` keeps it. Only what a batch that is over has asked is ever forgotten."""
    stored = row["request"]
    assert stored is not None
    messages = tuple(Message(message["role"], message["text"]) for message in stored["messages"])
    return Ask(messages, stored.get("system"), stored.get("params") or {}, stored.get("cache"))


def options_to_json(options: Options) -> OptionsJson:
    """Options as a batch keeps them."""
    values: OptionsJson = {}
    if options.format is not None:
        values["format"] = options.format
    values["encoding"] = options.encoding
    if options.delimiter is not None:
        values["delimiter"] = options.delimiter
    if options.id_column is not None:
        values["id_column"] = options.id_column
    if options.prompt is not None:
        values["prompt"] = options.prompt
    if options.system is not None:
        values["system"] = options.system
    if options.params:
        values["params"] = dict(options.params)
    if options.suffix_ids:
        values["suffix_ids"] = True
    if options.sheet is not None:
        values["sheet"] = options.sheet
    if options.leave_out:
        values["leave_out"] = True
    if options.only_model is not None:
        values["only_model"] = options.only_model
    return values


def options_of_json(value: OptionsJson) -> Options:
    """The options of `options_to_json`; what is not known is left aside."""
    return Options(
        format=value.get("format"),
        encoding=value.get("encoding", "utf-8"),
        delimiter=value.get("delimiter"),
        id_column=value.get("id_column"),
        prompt=value.get("prompt"),
        system=value.get("system"),
        params=value.get("params", {}),
        suffix_ids=value.get("suffix_ids", False),
        sheet=value.get("sheet"),
        leave_out=value.get("leave_out", False),
        only_model=value.get("only_model"),
    )


# --- the interface of a batch service --------------------------------------------------------------------------------
# Each service has one file in `providers`; our own runner is not one of them. Everything here blocks (the SDKs do): the
# worker calls it in threads. Every function may raise `SubmitLater` or `SubmitRefused` at submit, and `RouteTrouble`
# elsewhere; no other error may come out, and no text may hold a key.
class RouteTrouble(Exception):
    """The service could not be asked just now; what was sent is safe there. The text is a sentence for the person."""


class Place(Protocol):
    """What the worker lends a route: a folder of the batch for its files, and a word on how far it has come."""

    folder: Path

    def say(self, text: str) -> None:
        """Show this sentence on the page, until there is another."""

    def note(self, text: str) -> None:
        """Show this sentence, and keep it with what is said of the job when it is over."""

    def stopped(self) -> bool:
        """Whether the person cancelled: long uploads and downloads should end."""


class Route(Protocol):
    """One batch service."""

    name: RouteName
    title: str
    # Whether `poll` tells counts while a job runs; Anthropic's do not move until it ends.
    counts: bool

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to this service, in a sentence; None: it can."""

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold. ``ask``: ask the account's own quotas too, where the service tells them."""

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """The line as it stands in the uploaded file, with its end of line. Raises ValueError in words for a line that
        this service cannot take."""

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail (no key, no bucket, no role …), each in a sentence; asks the service."""

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Send one job; returns it with its ``vendor_id`` and facts. Never makes a second one for the same token: it
        looks for the first where the service has no idempotency of its own. Of a batch that was cancelled (``place``
        says so) nothing more is sent: what an earlier try left at the service is returned, and `SubmitStopped` is
        raised when that is nothing."""

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How it stands."""

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask the service to stop it; `poll` tells what became of that."""

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """Every line that the service answered, in any order, from success and error files alike. A line that cannot
        be read (truncated, no JSON) is told as a `LineResult` with an empty ``wire_id``, outcome "protocol_error"."""


Get = Callable[[RouteName], Route]


class ResultsGone(RouteTrouble):
    """The service keeps the results no longer, so that asking again is of no use; what it gave before stands."""
