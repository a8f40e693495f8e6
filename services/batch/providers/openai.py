"""OpenAI's Batch API: a file is uploaded, a job made of it, and an output and an error file read back.

No second job: a job carries our token in its metadata, and the list of jobs is searched for it before one is made. A
job that failed because too many tokens wait already (``token_limit_exceeded``) is polled as "waiting_for_quota" with
``over`` and the facts ``{"resubmit": True, "resubmit_after_s": …}``: it is submitted again with a new token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.batch_rows import JobFacts
from services.batch.providers import common as providers_common
from services.batch.providers import http as providers_http
from services.batch.providers.common import (
    SETTLE_S,
    SubmitJournal,
    answered,
    asking,
    clean,
    explain,
    id_of,
    journal_of,
    not_run,
    refused,
    results_path,
    submitting,
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
    SubmitLater,
    wire_id,
)
from services.batch.types import SubmitRefused as Refused
from services.providers import kind_of
from services.providers.base import endpoint
from services.providers.usage import obj
from services.types import Deployment, JsonMapping

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch


NAME = "OpenAI"

URLS = {"chat": "/v1/chat/completions", "responses": "/v1/responses"}

LOOK_BACK_S = 24 * 3600.0

LOOK_AT_MOST = 1000  # jobs of the account that are looked through for ours

SKEW_S = 600.0  # how far our clock and the service's may differ

LIVE_ONLY = ("stream", "stream_options", "service_tier")  # a batch is a tier of its own

CODES = {"batch_expired": "expired", "batch_cancelled": "cancelled"}


class OpenAIRoute:
    """OpenAI's batches, over the SDK. ``settle_s``: see `SubmitJournal.wait`."""

    name: RouteName = "openai"
    title = "OpenAI Batch"
    counts = True

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self.settle_s = settle_s

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to OpenAI's batches; None: it can."""
        if deployment.base_url.startswith("embedded://"):
            return "It runs on this machine, which has no batch service; our own runner sends its lines one by one."
        if deployment.kind != "openai":
            return "OpenAI's Batch API takes models of OpenAI's own API; other servers need not have it."
        if deployment.aws is not None:
            return "It is reached through AWS, which does not offer OpenAI's Batch API."
        return None

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one file may hold. The limit of waiting tokens for each model is told by no API."""
        return providers_common.limits_of("openai")

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """The line of the file: the body of a live call, without streaming and tier. Raises ValueError in words."""
        request = kind_of(deployment).request(deployment, line.ask)
        body = {name: value for name, value in request.body.items() if name not in LIVE_ONLY}
        return providers_common.json_line(
            {"custom_id": wire_id(line.no), "method": "POST", "url": URLS[deployment.wire], "body": body}
        )

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail: the key, the model, the right to batches. Two short requests."""
        troubles: list[str] = []
        try:
            with self._client(deployment) as client:
                checks: list[tuple[str, Callable[[], Any]]] = [
                    (
                        f"{NAME} has no model “{clean(deployment.model, 80)}” for this key: check its name.",
                        lambda: client.models.retrieve(deployment.model),
                    ),
                    (f"{NAME} lets this key use no batches.", lambda: client.batches.list(limit=1)),
                ]
                for missing, look in checks:
                    try:
                        look()
                    except Exception as error:
                        sentence = explain(error, NAME, deployment.key_env)
                        troubles.append(missing if sentence.outcome == "not_found" else sentence.text)
                        if sentence.outcome != "not_found":
                            break
        except Exception as error:
            troubles.append(explain(error, NAME, deployment.key_env).text)
        return troubles

    # --- submit ------------------------------------------------------------------------------------------------------

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Write the file, upload it, make the job. A job with our token is found and taken instead."""
        journal = journal_of(place.folder, job)
        url = URLS[deployment.wire]
        with submitting(NAME, deployment.key_env), self._client(deployment) as client:
            vendor_id = journal.vendor_id or self._find(client, job.token, journal)
            if vendor_id is None and journal.doubt:
                journal.wait(NAME, self.settle_s)
            if vendor_id is None:
                providers_common.halt(place, "it was to be sent", doubt=journal.doubt)
                path = self._write(deployment, job, lines, place, journal)
                file_id = journal.file_id or self._upload(client, path, place, journal)
                vendor_id = self._create(client, job, url, file_id, journal)
            journal.settled(vendor_id)
            path = _path(place.folder, job, journal)
            path.unlink(missing_ok=True)  # the service has it; the lines themselves are in our tables
        facts: JobFacts = {**job.facts, "endpoint": url}
        if journal.file_id is not None:
            facts["input_file_id"] = journal.file_id
        return replace(job, vendor_id=vendor_id, facts=facts)

    def _write(
        self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place, journal: SubmitJournal
    ) -> Path:
        path = _path(place.folder, job, journal)
        if path.exists():
            return path
        place.say(f"Writing the file of job {job.no}.")
        limits = self.limits(deployment)

        def pieces() -> Iterator[bytes]:
            size = 0
            for count, line in enumerate(lines, 1):
                piece = _piece(self.body, deployment, line)
                size += len(piece)
                if count > (limits.max_records or count) or size > (limits.max_bytes or size):
                    raise Refused(f"Job {job.no} is larger than {NAME} takes in one file: split it into more jobs.")
                if count % 1000 == 0:
                    providers_common.halt(place, "its file was written", doubt=journal.doubt)
                yield piece

        providers_common.write_atomically(path, pieces())
        return path

    def _upload(self, client: OpenAI, path: Path, place: Place, journal: SubmitJournal) -> str:
        """Upload the file, or find the one that an earlier try uploaded."""
        if journal.tried_at is not None:
            size = path.stat().st_size
            for listed in client.files.list(purpose="batch", order="desc", limit=1000):
                if listed.created_at < journal.tried_at - SKEW_S:
                    break
                if listed.filename == path.name and listed.bytes == size:
                    journal.file_id = listed.id
                    return listed.id
        journal.tried_at = journal.tried_at or time.time()
        journal.save()
        with providers_common.Upload(path, place, NAME) as file:
            try:
                uploaded = client.files.create(file=(path.name, file, "application/jsonl"), purpose="batch")
            except Exception:
                if file.halted:
                    providers_common.halt(place, "its file was uploaded", doubt=journal.doubt)
                raise
        journal.file_id = uploaded.id
        journal.save()
        return uploaded.id

    def _create(self, client: OpenAI, job: Job, url: str, file_id: str, journal: SubmitJournal) -> str:
        journal.trying()
        try:
            batch = client.batches.create(
                completion_window="24h",
                endpoint=url,  # type: ignore[arg-type]  # one of URLS
                input_file_id=file_id,
                metadata={"lab_token": job.token[:512], "lab_job": str(job.no)},
            )
        except Exception as error:
            sentence = explain(error, NAME)
            if not sentence.maybe:
                journal.file_id = None if sentence.status in (400, 404) else journal.file_id
                journal.settled()
                raise
            vendor_id = self._find(client, job.token, journal)
            if vendor_id is None:
                journal.wait(NAME, self.settle_s)
                raise SubmitLater(f"{sentence.text} It is asked again.") from None
            return vendor_id
        return batch.id

    def _find(self, client: OpenAI, token: str, journal: SubmitJournal) -> str | None:
        """The job with our token. Newest first, no further back than the first try can lie."""
        since = (journal.tried_at - SKEW_S) if journal.tried_at else time.time() - LOOK_BACK_S
        for count, batch in enumerate(client.batches.list(limit=100), 1):
            if (batch.metadata or {}).get("lab_token") == token[:512]:
                journal.file_id = journal.file_id or batch.input_file_id
                return batch.id
            if batch.created_at < since or count >= LOOK_AT_MOST:
                return None
        return None

    # --- afterwards --------------------------------------------------------------------------------------------------

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How the job stands."""
        with asking(NAME, deployment.key_env), self._client(deployment) as client:
            try:
                batch = client.batches.retrieve(id_of(job))
            except Exception as error:
                if explain(error, NAME).status == 404:
                    return unknown(job)
                raise
            return polled(batch)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask OpenAI to stop it; lines under way may still be answered, and are delivered and charged."""
        with asking(NAME, deployment.key_env), self._client(deployment) as client:
            try:
                client.batches.cancel(id_of(job))
            except Exception as error:
                if explain(error, NAME).status not in (400, 409):  # it is over already, which `poll` tells
                    raise

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """The lines of the output file, then those of the error file. Raises `ResultsGone` after what is still there"""
        gone: list[str] = []
        paths: list[tuple[str, Path]] = []
        with asking(NAME, deployment.key_env), self._client(deployment) as client:
            batch: Batch = client.batches.retrieve(id_of(job))
            for kind, file_id in (("output", batch.output_file_id), ("error", batch.error_file_id)):
                if file_id and self._fetch(client, file_id, results_path(place.folder, job, file_id), place, gone):
                    paths.append((kind, results_path(place.folder, job, file_id)))
        for kind, path in paths:
            yield from _read(kind, path, deployment)
        if gone:
            raise ResultsGone(f"{NAME} has deleted {' and '.join(gone)}: it keeps results for 30 days.")

    def _fetch(self, client: OpenAI, file_id: str, path: Path, place: Place, gone: list[str]) -> bool:
        """Whether the file is here now. One that the service has deleted is put into ``gone``."""
        if path.exists():
            return True
        try:
            with client.files.with_streaming_response.content(file_id) as response:
                providers_common.download(response.iter_bytes(providers_common.STEP), path, place, NAME)
        except Exception as error:
            if explain(error, NAME).status not in (404, 410):
                raise
            gone.append(f"the results file {clean(file_id, 80)}")
            return False
        return True

    def _client(self, deployment: Deployment) -> OpenAI:
        """A client of the SDK that makes one try for each request. Raises `Forbidden` in words."""
        base = endpoint(deployment.base_url, "/models").removesuffix("/models")
        key = providers_http.access(deployment, base).key
        from openai import OpenAI

        client = OpenAI(
            api_key=key,
            base_url=base,
            max_retries=0,
            default_headers=dict(deployment.headers),
            http_client=providers_http.http_client(deployment, "authorization", f"Bearer {key}"),
        )
        # Read from the environment by the SDK, but never sent with a live call: a batch goes to the same place.
        client.organization = client.project = None
        return client


def _path(folder: Path, job: Job, journal: SubmitJournal) -> Path:
    return folder / "jobs" / f"lab-{job.no:04d}-{journal.tag}.jsonl"


def _piece(body: Callable[[Deployment, Line], bytes], deployment: Deployment, line: Line) -> bytes:
    try:
        return body(deployment, line)
    except ValueError as error:
        raise Refused(f"Line {line.no} cannot be sent: {clean(error, 300)}") from None


def _read(kind: str, path: Path, deployment: Deployment) -> Iterator[LineResult]:
    """Each line of a results file. A file that ends in the middle is not kept, so that it is fetched anew next time."""
    complete = True
    for number, row, ended in providers_common.read_lines(path):
        if row is None:
            complete = complete and ended
            yield providers_common.broken_line(f"Line {number} of OpenAI's {kind} file", ended)
        else:
            yield _result(row, deployment)
    if not complete:
        path.unlink(missing_ok=True)


def _result(row: JsonMapping, deployment: Deployment) -> LineResult:
    name = row.get("custom_id")
    called = name if isinstance(name, str) else ""
    response, error = obj(row.get("response")), obj(row.get("error"))
    status, body = response.get("status_code"), obj(response.get("body"))
    request_id = response.get("request_id")
    shown_id = clean(request_id, 80) if isinstance(request_id, str) and request_id else None
    state = CODES.get(str(error.get("code")))
    if state is not None:
        words = clean(error.get("message")) or f"{NAME} did not get to this line."
        return not_run(called, "expired" if state == "expired" else "cancelled", words)
    status = status if isinstance(status, int) and not isinstance(status, bool) else None
    if error or status is None or status >= 400:
        return refused(called, body or {"error": dict(error)}, status=status, means=400, request_id=shown_id)
    return answered(called, deployment.wire, body, status)


KEPT_S = 30 * 24 * 3600.0

QUOTA_WAIT_S = 900.0


# Codes and words of a job that failed because the account has too many tokens waiting.
_QUOTA = ("token_limit_exceeded", "enqueued token", "token_limit", "queue_limit")


_WORDS: dict[str, tuple[BatchState, str, bool]] = {
    "validating": ("checking", "OpenAI is checking the file.", False),
    "failed": ("failed", "OpenAI refused the file.", True),
    "in_progress": ("running", "OpenAI is working on it.", False),
    "finalizing": ("running", "OpenAI has worked on all of it and is putting the results together.", False),
    "completed": ("ended", "OpenAI has finished.", True),
    "expired": ("expired", "OpenAI did not finish within 24 hours; what it finished is delivered and charged.", True),
    "cancelling": ("cancelling", "OpenAI is stopping it, which can take up to ten minutes.", False),
    "cancelled": ("cancelled", "It was stopped; what OpenAI had finished by then is delivered and charged.", True),
}


def polled(batch: Batch) -> Polled:
    """What a retrieved batch says."""
    word = str(batch.status)
    strange = f"OpenAI calls its state “{clean(word, 40)}”, which is not known here; it is watched on."
    state, sentence, over = _WORDS.get(word, ("running", strange, False))
    facts: JobFacts = {"input_file_id": batch.input_file_id, "results_until": batch.created_at + KEPT_S}
    if batch.output_file_id:
        facts["output_file_id"] = batch.output_file_id
    if batch.error_file_id:
        facts["error_file_id"] = batch.error_file_id
    if state == "failed":
        if _over_quota(batch):
            facts = {**facts, "resubmit": True, "resubmit_after_s": QUOTA_WAIT_S}
            state = "waiting_for_quota"
            sentence = (
                "OpenAI has too many tokens of this account waiting already, so that it did not take the file; it is "
                f"submitted again in {QUOTA_WAIT_S / 60:.0f} minutes."
            )
        else:
            sentence = _refusal(batch)
    collectable = over and bool(batch.output_file_id or batch.error_file_id)
    if word == "completed":
        sentence = _finished(batch)
    return Polled(state, word, sentence, over, collectable, _counts(batch), batch.expires_at, facts)


def unknown(job: Job) -> Polled:
    """A job that the service does not know any more."""
    sentence = f"OpenAI knows no job {clean(job.vendor_id, 80)} (any more): its results are lost; send its lines again."
    return Polled("failed", "not found", sentence, over=True, collectable=False)


def _counts(batch: Batch) -> dict[str, int] | None:
    counts = batch.request_counts
    # While the file is checked all of them are 0, which is no count of anything.
    if counts is None or not counts.total:
        return None
    return {"total": counts.total, "succeeded": counts.completed, "failed": counts.failed}


def _finished(batch: Batch) -> str:
    counts = batch.request_counts
    if counts is None or not counts.failed:
        return "OpenAI has finished."
    if not counts.completed:
        return f"OpenAI has finished, but answered none of the {counts.total:,} lines; each one's reason is told."
    return f"OpenAI has finished: {counts.completed:,} lines answered, {counts.failed:,} not, each with its reason."


def _errors(batch: Batch) -> list[Any]:
    return list(batch.errors.data or []) if batch.errors is not None else []


def _over_quota(batch: Batch) -> bool:
    texts = [f"{error.code or ''} {error.message or ''}".lower() for error in _errors(batch)]
    return bool(texts) and all(any(mark in error_text for mark in _QUOTA) for error_text in texts)


def _refusal(batch: Batch) -> str:
    errors = _errors(batch)
    if not errors:
        return "OpenAI refused the file without saying why; nothing was answered or charged."
    sentences = [_error_text(error) for error in errors[:3]]
    further = f" (and {len(errors) - 3:,} more)" if len(errors) > 3 else ""
    return f"OpenAI refused the file, nothing was answered or charged: {'; '.join(sentences)}{further}."


def _error_text(error: Any) -> str:
    place = f"line {error.line}: " if error.line is not None else ""
    return place + clean(error.message or error.code or "no reason").rstrip(".")
