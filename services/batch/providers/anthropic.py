"""Anthropic's Message Batches: one request holds the whole job, and its results come as JSON lines.

No second job: the service has neither idempotency keys nor metadata. What it gives back of a line is its custom_id, and
only when the job has ended, so the custom_id is our own (`wire_id`) with a digest of the token behind it
(``r0000000001-3f2a…``), which proves a job ours. Until then a job whose answer was lost is recognised by three things:
it is newer than the newest one before our first try, it holds as many lines, and no other submit of ours has claimed
it. If there is one such job it is taken for ours (facts ``{"adopted": True}``) and proved at its end; if it proves to
be somebody else's, `poll` says "waiting_for_quota" with ``{"resubmit": True}``. If there are several, nothing is sent,
and they are looked at again until the proof can be read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from db.batch_rows import JobFacts
from services.batch.providers import common as providers_common
from services.batch.providers import http as providers_http
from services.batch.providers.common import (
    SETTLE_S,
    SubmitJournal,
    answered,
    asking,
    claimed,
    clean,
    explain,
    id_of,
    journal_of,
    not_run,
    refused,
    results_path,
    submitting,
    tag_of,
)
from services.batch.types import (
    BatchState,
    Job,
    Line,
    LineResult,
    Place,
    Polled,
    ResultsGone,
    RouteLimits,
    RouteName,
    RouteTrouble,
    SubmitLater,
    no_of,
    wire_id,
)
from services.batch.types import SubmitRefused as Refused
from services.providers import kind_of
from services.providers.decoder import loads
from services.providers.usage import obj
from services.types import Deployment, JsonMapping

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types.messages import MessageBatch


NAME = "Anthropic"

SKEW_S = 600.0  # how far our clock and the service's may differ

UNSURE_WAIT_S = 900.0

LOOK_AT_MOST = 2000

LIVE_ONLY = ("stream", "service_tier")  # a batch is a tier of its own

TAG_BYTES = 13  # "-" and the digest, in every custom_id

AROUND = len(b'{"requests":[]}\n')

_HEAD = b'{"custom_id":"'


# One at a time in this process: two jobs of equal length under way together could be taken for one another.
_one_by_one = threading.Lock()


class AnthropicRoute:
    """Anthropic's batches, over the SDK. ``settle_s``: see `SubmitJournal.wait`."""

    name: RouteName = "anthropic"
    title = "Anthropic Message Batches"
    counts = False

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self.settle_s = settle_s

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to Anthropic's batches; None: it can."""
        if deployment.base_url.startswith("embedded://"):
            return "It runs on this machine, which has no batch service; our own runner sends its lines one by one."
        if deployment.kind != "anthropic":
            return "Anthropic's Message Batches take models of Anthropic's own API."
        if deployment.aws is not None:
            return "It is reached through AWS, which does not offer Anthropic's Message Batches; Bedrock has its own."
        return None

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold, less the digest that every line gets."""
        limits = providers_common.limits_of("anthropic")
        if limits.max_bytes is None:
            return limits
        return replace(limits, max_bytes=limits.max_bytes - AROUND - (TAG_BYTES + 1) * (limits.max_records or 0))

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """The line: the body of a live call, without streaming and tier. Raises ValueError in words."""
        request = kind_of(deployment).request(deployment, line.ask)
        params = {name: value for name, value in request.body.items() if name not in LIVE_ONLY}
        return providers_common.json_line({"custom_id": wire_id(line.no), "params": params})

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail: the key, the model, the right to batches. Two short requests.

        Parameters are checked by the service only when it works on a line, so a wrong one fails all of them.
        """
        try:
            with self._client(deployment) as client:
                client.models.retrieve(deployment.model)
                client.messages.batches.list(limit=1)
        except Exception as error:
            sentence = explain(error, NAME, deployment.key_env)
            if sentence.outcome == "not_found":
                return [f"{NAME} has no model “{clean(deployment.model, 80)}” for this key: check its name."]
            return [sentence.text]
        return []

    # --- submit ------------------------------------------------------------------------------------------------------

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Write the request, send it from disk. A job that an earlier try made is found and taken instead."""
        journal = journal_of(place.folder, job)
        facts: JobFacts = {**job.facts}
        with submitting(NAME, deployment.key_env), self._client(deployment) as client, _one_by_one:
            vendor_id = journal.vendor_id
            if (
                vendor_id is None
                and journal.doubt
                and (vendor_id := self._find(client, job, journal, place.folder, facts)) is None
            ):
                journal.wait(NAME, self.settle_s)
            path = _path(place.folder, job, journal)
            if vendor_id is None:
                providers_common.halt(place, "it was to be sent", doubt=journal.doubt)
                self._write(deployment, job, lines, place, path, journal)
                if journal.before is None:
                    journal.before = [batch.id for batch in client.messages.batches.list(limit=1).data]
                vendor_id = self._create(client, job, path, place, journal, facts)
            journal.settled(vendor_id, sure=bool(facts.get("proven")) or not facts.get("adopted"))
            path.unlink(missing_ok=True)  # the service has it; the lines themselves are in our tables
        return replace(job, vendor_id=vendor_id, facts=facts)

    def _write(
        self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place, path: Path, journal: SubmitJournal
    ) -> None:
        if path.exists():
            return
        place.say(f"Writing the request of job {job.no}.")
        limits = providers_common.limits_of("anthropic")

        def pieces() -> Iterator[bytes]:
            size = AROUND
            yield b'{"requests":['
            for count, line in enumerate(lines, 1):
                piece = self._marked(deployment, line, journal.tag)
                journal.lines = count
                size += len(piece) + 1
                if count > (limits.max_records or count) or size > (limits.max_bytes or size):
                    raise Refused(f"Job {job.no} is larger than {NAME} takes at once: split it into more jobs.")
                if count % 1000 == 0:
                    providers_common.halt(place, "its request was written", doubt=journal.doubt)
                yield piece if count == 1 else b"," + piece
            yield b"]}\n"

        providers_common.write_atomically(path, pieces())

    def _marked(self, deployment: Deployment, line: Line, tag: str) -> bytes:
        try:
            piece = self.body(deployment, line)
        except ValueError as error:
            raise Refused(f"Line {line.no} cannot be sent: {clean(error, 300)}") from None
        end = len(_HEAD) + len(wire_id(line.no))
        return piece[:end] + f"-{tag}".encode() + piece[end:]

    def _create(
        self, client: Anthropic, job: Job, path: Path, place: Place, journal: SubmitJournal, facts: JobFacts
    ) -> str:
        from anthropic.types.messages import MessageBatch

        journal.trying()
        file = providers_common.Upload(path, place, NAME)
        try:
            with file:
                # What `messages.batches.create` does, but from disk: it would hold 256 MB of objects in memory.
                batch = client.post("/v1/messages/batches", cast_to=MessageBatch, content=file)
        except Exception as error:
            sentence = explain(error, NAME)
            if file.halted:  # the request was not whole, so there is no job
                journal.settled()
                providers_common.halt(place, "its request was sent")
            if not sentence.maybe:
                journal.settled()
                raise
            vendor_id = self._find(client, job, journal, place.folder, facts)
            if vendor_id is None:
                journal.wait(NAME, self.settle_s)
                raise SubmitLater(f"{sentence.text} It is asked again.") from None
            return vendor_id
        facts["expires_at"] = batch.expires_at.timestamp()
        return batch.id

    def _find(self, client: Anthropic, job: Job, journal: SubmitJournal, folder: Path, facts: JobFacts) -> str | None:
        """The job that an earlier try made. Raises `SubmitLater` when several could be it."""
        ours = claimed(folder, journal)
        unsure: list[str] = []
        for batch in self._since(client, journal):
            if batch.id in ours or batch.id in journal.foreign or total(batch) != (journal.lines or job.n_lines):
                continue
            proof = self._proof(client, batch, journal.tag)
            if proof:
                facts["proven"] = True
                return batch.id
            if proof is None:
                unsure.append(batch.id)
            else:
                journal.foreign.append(batch.id)
        if not unsure:
            return None
        if len(unsure) > 1:
            raise SubmitLater(
                f"The answer of {NAME} to our request was lost, and {len(unsure)} jobs with as many lines were begun "
                "since; which one is ours shows when they have ended. Nothing is sent twice meanwhile; cancel this "
                "batch to leave it at that.",
                UNSURE_WAIT_S,
                leave=True,
            )
        facts["adopted"] = True
        return unsure[0]

    def _since(self, client: Anthropic, journal: SubmitJournal) -> Iterator[MessageBatch]:
        """The jobs of the workspace that are newer than our first try, newest first."""
        oldest = (journal.tried_at or 0.0) - SKEW_S
        for count, batch in enumerate(client.messages.batches.list(limit=100), 1):
            if batch.id in (journal.before or ()) or count > LOOK_AT_MOST:
                return
            if journal.before is None and batch.created_at.timestamp() < oldest:
                return
            yield batch

    def _proof(self, client: Anthropic, batch: MessageBatch, tag: str) -> bool | None:
        """Whether the first line of its results carries the digest of our token; None while that cannot be read."""
        if batch.processing_status != "ended" or not batch.results_url:
            return None
        with client.messages.batches.with_streaming_response.results(batch.id) as response:
            for line in response.iter_lines():
                if line.strip():
                    return carries(line, tag)
        return None

    # --- afterwards --------------------------------------------------------------------------------------------------

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How the job stands."""
        with asking(NAME, deployment.key_env), self._client(deployment) as client:
            try:
                batch = client.messages.batches.retrieve(id_of(job))
            except Exception as error:
                if explain(error, NAME).status == 404:
                    return unknown(job)
                raise
            status = polled(batch, datetime.now(UTC))
            if not _unproven(job):
                return status
            if not status.over:
                return replace(status, sentence=f"{status.sentence} {TAKEN}")
            proof = self._proof(client, batch, tag_of(job.token))
            return replace(status, facts={**status.facts, "proven": True}) if proof else foreign(status, proof)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask Anthropic to stop it; lines under way may still be answered.

        A job that was only taken for ours could be somebody else's and is left alone; `poll` says so.
        """
        if _unproven(job):
            return
        with asking(NAME, deployment.key_env), self._client(deployment) as client:
            try:
                client.messages.batches.cancel(id_of(job))
            except Exception as error:
                if explain(error, NAME).status not in (400, 409):  # it is over already, which `poll` tells
                    raise

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """Every line of the results, in whatever order they come. Raises `ResultsGone` after 29 days."""
        path = results_path(place.folder, job, id_of(job))
        if not path.exists():
            with asking(NAME, deployment.key_env), self._client(deployment) as client:
                self._fetch(client, id_of(job), path, place)
        yield from read(path, tag_of(job.token))

    def _fetch(self, client: Anthropic, vendor_id: str, path: Path, place: Place) -> None:
        try:
            batch = client.messages.batches.retrieve(vendor_id)
            if batch.processing_status != "ended":
                raise RouteTrouble(f"{NAME} has not ended this job yet, so that there are no results to fetch.")
            if batch.archived_at is not None or not batch.results_url:
                raise ResultsGone(gone(batch))
            with client.messages.batches.with_streaming_response.results(vendor_id) as response:
                providers_common.download(response.iter_bytes(providers_common.STEP), path, place, NAME)
        except RouteTrouble:
            raise
        except Exception as error:
            if explain(error, NAME).status in (404, 410):
                raise ResultsGone(f"{NAME} has deleted the results: it keeps them for 29 days.") from None
            raise

    def _client(self, deployment: Deployment) -> Anthropic:
        """A client of the SDK that makes one try for each request. Raises `Forbidden` in words."""
        base = deployment.base_url.rstrip("/").removesuffix("/messages").removesuffix("/v1")
        key = providers_http.access(deployment, base).key
        from anthropic import Anthropic

        return Anthropic(
            api_key=key,
            base_url=base,
            max_retries=0,
            default_headers=dict(deployment.headers),
            http_client=providers_http.http_client(deployment, "x-api-key", key),
        )


def _unproven(job: Job) -> bool:
    return bool(job.facts.get("adopted")) and not job.facts.get("proven")


def _path(folder: Path, job: Job, journal: SubmitJournal) -> Path:
    return folder / "jobs" / f"lab-{job.no:04d}-{journal.tag}.json"


KEPT_S = 29 * 24 * 3600.0

RESUBMIT_AFTER_S = 60.0

TAKEN = (
    "The answer to our submit was lost, and this job was found by its time and length: that it is ours is proved when "
    "it ends. Until then it is not stopped from here; stop it in Anthropic's console if you want that."
)


# The HTTP status that a live call would have had with an error of this type.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def total(batch: MessageBatch) -> int:
    """All requests of a batch."""
    counts = batch.request_counts
    return counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired


def polled(batch: MessageBatch, now: datetime) -> Polled:
    """What a retrieved batch says. It counts nothing before its end; then it does."""
    created = batch.created_at.timestamp()
    facts: JobFacts = {"results_until": created + KEPT_S}
    word, expires = str(batch.processing_status), batch.expires_at.timestamp()
    if word == "in_progress":
        sentence = f"Anthropic is working on {total(batch):,} lines; it counts none of them before all have ended."
        return Polled("running", word, sentence, False, False, None, expires, facts)
    if word == "canceling":
        sentence = "Anthropic is stopping it; what is under way there may still be answered."
        return Polled("cancelling", word, sentence, False, False, None, expires, facts)
    if word != "ended":
        sentence = f"Anthropic calls its state “{clean(word, 40)}”, which is not known here; it is watched on."
        return Polled("running", word, sentence, False, False, None, expires, facts)
    counts = batch.request_counts
    tally = {
        "total": total(batch),
        "succeeded": counts.succeeded,
        "failed": counts.errored,
        "cancelled": counts.canceled,
        "expired": counts.expired,
    }
    collectable = batch.archived_at is None and bool(batch.results_url) and now.timestamp() < created + KEPT_S
    state, sentence = _end(batch)
    if not collectable:
        sentence = f"{sentence} {gone(batch)}"
    return Polled(state, word, sentence, True, collectable, tally, expires, facts)


def _end(batch: MessageBatch) -> tuple[BatchState, str]:
    counts = batch.request_counts
    parts = [
        f"{number:,} {word}"
        for number, word in (
            (counts.succeeded, "answered"),
            (counts.errored, "not answered for an error"),
            (counts.canceled, "not begun because it was stopped"),
            (counts.expired, "not reached within 24 hours"),
        )
        if number
    ]
    sentence = f"Anthropic has ended it: {', '.join(parts) or 'no lines'}."
    if counts.canceled:
        return "cancelled", sentence
    return ("expired", sentence) if counts.expired else ("ended", sentence)


def gone(batch: MessageBatch) -> str:
    """That the results cannot be had any more."""
    return (
        f"Its results cannot be had any more: Anthropic keeps them for 29 days after {batch.created_at:%d %B %Y}, when "
        "the job was made; send its lines again if they are still wanted."
    )


def unknown(job: Job) -> Polled:
    """A job that the service does not know (any more)."""
    sentence = (
        f"Anthropic knows no job {clean(job.vendor_id, 80)} (any more): its results are lost; send its lines again."
    )
    return Polled("failed", "not found", sentence, over=True, collectable=False)


def foreign(status: Polled, proof: bool | None) -> Polled:
    """A job that was taken for ours and is not (``proof`` False), or whose results cannot prove it."""
    if proof is None:
        sentence = (
            "The answer to our submit was lost, and the job that was found by its time and length has no results that "
            "could prove it ours; look at Anthropic's console before its lines are sent again."
        )
        return Polled("failed", status.vendor_state, sentence, True, False, None, status.expires_at, status.facts)
    sentence = (
        "The answer to our submit was lost, and the job that was found by its time and length proved to be somebody "
        "else's; ours was never made, and is submitted again."
    )
    facts: JobFacts = {**status.facts, "resubmit": True, "resubmit_after_s": RESUBMIT_AFTER_S}
    return Polled("waiting_for_quota", status.vendor_state, sentence, True, False, None, None, facts)


def carries(line: str, tag: str) -> bool | None:
    """Whether a line of results has the digest of our token in its custom_id; None when it cannot be read."""
    row = loads(line.encode())
    name = obj(row).get("custom_id")
    return name.endswith(f"-{tag}") and no_of(name[: -len(tag) - 1]) is not None if isinstance(name, str) else None


def read(path: Path, tag: str) -> Iterator[LineResult]:
    """Each line of the results. A file that ends in the middle is not kept, so that it is fetched anew next time."""
    complete = True
    for number, row, ended in providers_common.read_lines(path):
        if row is None:
            complete = complete and ended
            yield providers_common.broken_line(f"Line {number} of Anthropic's results", ended)
        else:
            yield _result(row, tag)
    if not complete:
        path.unlink(missing_ok=True)


def _result(row: JsonMapping, tag: str) -> LineResult:
    name = row.get("custom_id")
    called = name.removesuffix(f"-{tag}") if isinstance(name, str) else ""
    result = obj(row.get("result"))
    kind = result.get("type")
    if kind == "succeeded":
        return answered(called, "messages", obj(result.get("message")), None)
    if kind == "errored":
        error = obj(result.get("error"))
        request_id = error.get("request_id")
        means = _STATUS.get(str(obj(error.get("error")).get("type")))
        shown_id = clean(request_id, 80) if isinstance(request_id, str) else None
        return refused(called, error, status=None, means=means, request_id=shown_id)
    if kind == "canceled":
        return not_run(called, "cancelled", "The batch was stopped before Anthropic began this line; it costs nothing.")
    if kind == "expired":
        return not_run(called, "expired", "Anthropic did not reach this line within 24 hours; it costs nothing.")
    words = f"Anthropic calls the result of this line “{clean(kind, 40)}”, which is not known here."
    return LineResult(called, "failed", "protocol_error", message=words)
