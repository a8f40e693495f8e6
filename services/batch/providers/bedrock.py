"""Bedrock batch inference: a JSONL file in S3 in, one line per record in S3 out, at about half the price.

One job is one file. Its name and its request token are made of the job's token, so a second try finds the first one's
job; the file is uploaded before, as a stream. Results are joined by ``recordId``, which is never left to Bedrock.

Service Quotas has a row for every model and limit and names the models in words ("Minimum number of records per batch
inference job for Claude Haiku 4.5"), so the row is found by the words of the model's id. Nothing is guessed: a row that
does not name exactly this model is not taken, and what was not read is said in `RouteLimits.source`.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import orjson

from db.batch_rows import JobFacts
from services.aws import bedrock_ids, control
from services.aws.control import AwsTrouble
from services.aws.control import Place as Account
from services.batch.providers import aws as providers_aws
from services.batch.providers.aws import Flow, StoredObject, Uri, seconds
from services.batch.providers.common import STEP, broken_line, clean, halt, json_line, limits_of, read_lines
from services.batch.types import (
    UNSURE,
    BatchState,
    Job,
    Line,
    LineResult,
    Place,
    Polled,
    ResultsGone,
    RouteLimits,
    RouteName,
    SubmitRefused,
    wire_id,
)
from services.providers import kind_of
from services.providers.bedrock import underlying
from services.providers.usage import count, obj
from services.types import Deployment, JsonMapping

TIMEOUT_H = 72  # AWS takes 24 to 168; a job that has not begun by then is Expired

PRINCIPAL = "bedrock.amazonaws.com"

_NOT_FOR = {
    ":provisioned-model/": "Bedrock's batches do not run on provisioned throughput: name the model itself.",
    ":imported-model/": "Bedrock's batches do not run imported models.",
    ":prompt-router/": "Bedrock's batches do not take a router: name one model.",
}


class BedrockRoute:
    """Model invocation jobs of Amazon Bedrock."""

    name: RouteName = "bedrock"
    title = "Amazon Bedrock batch"
    counts = True

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to this service, in a sentence; asks nobody."""
        if deployment.kind == "bedrock-provisioned":
            return _NOT_FOR[":provisioned-model/"]
        if deployment.kind != "bedrock":
            return "Only models on Amazon Bedrock can be sent to Bedrock's batches."
        for mark, why in _NOT_FOR.items():
            if mark in deployment.model:
                return why
        aws = providers_aws.settings(deployment)
        if not aws.batch_s3 or not aws.batch_role:
            lacks = "batch_role" if aws.batch_s3 else "batch_s3" if aws.batch_role else "batch_s3 and batch_role"
            needed = "a place in S3 for the files, and a role that Bedrock reads and writes them with"
            return f"{deployment.name} lacks {lacks} in its AWS settings: {needed}."
        if deployment.wire == "invoke" and aws.guardrail:
            return "A guardrail cannot be asked for in a batch of InvokeModel records: use the wire “converse”."
        if deployment.wire == "converse" and "toolConfig" in deployment.extra_body:
            return "Bedrock refuses tools in batches of Converse records: use the wire “invoke”."
        return None

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold; ``ask``: by the account's quotas for this model. Never raises."""
        usual = replace(limits_of("bedrock"), window_h=TIMEOUT_H)
        if not ask:
            return usual
        try:
            return account_limits(usual, providers_aws.place_of(deployment), underlying(deployment))
        except AwsTrouble as error:
            return replace(usual, source=f"{usual.source}; the account's own quotas were not read: {error}")

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """One record with its end of line. Raises ValueError in words."""
        plain = providers_aws.for_batch(deployment)
        return json_line(
            {"recordId": wire_id(line.no), "modelInput": dict(kind_of(plain).request(plain, line.ask).body)}
        )

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail; what could not be found out begins with `UNSURE`."""
        why = self.why_not(deployment)
        if why:
            return [why]
        aws = providers_aws.settings(deployment)
        try:
            account = providers_aws.place_of(deployment)
        except AwsTrouble as error:
            return [str(error)]
        owner, trouble = providers_aws.account(account)
        if trouble and not trouble[0].startswith(UNSURE):
            return trouble
        role = providers_aws.role(account, aws.batch_role or "", owner, PRINCIPAL)
        return [*trouble, *providers_aws.bucket(account, aws.batch_s3 or ""), *role]

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Upload the file and make the job, or find the one that an earlier try made."""
        why = self.why_not(deployment)
        if why:
            raise SubmitRefused(why)
        limits = self.limits(deployment, ask=True)
        _fits(job, limits)
        with providers_aws.submitting():
            account = providers_aws.place_of(deployment)
            base = providers_aws.parsed(providers_aws.settings(deployment).batch_s3 or "").under(
                providers_aws.job_name(job)
            )
            job_arn = self._find_job(account, job)
            if job_arn is None:
                halt(place, "the file was to be sent to S3", doubt=providers_aws.doubted(place, job).exists())
                self._upload(deployment, account, base, job, lines, place, limits)
                with providers_aws.creating(place, job):
                    job_arn = self._create(deployment, account, base, job)
        facts: JobFacts = {
            **job.facts,
            "name": providers_aws.job_name(job),
            "input": str(base.under("input", "lines.jsonl")),
            "output": str(base.under("output")),
            "type": invocation_type(deployment),
            "model": underlying(deployment),
        }
        return replace(job, vendor_id=job_arn, facts=facts)

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How it stands, with Bedrock's own counts."""
        with providers_aws.asking():
            account = providers_aws.place_of(deployment)
            try:
                row = control.call("bedrock", account, lambda b: b.get_model_invocation_job(jobIdentifier=_id(job)))
            except AwsTrouble as error:
                # Other credentials may be in place for a while; only a job that nobody waits for any more is given up.
                if error.what == "not_found" and job.facts.get("cancel_asked"):
                    return providers_aws.unknown("Bedrock", _id(job), account)
                raise
            return polled(row)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask Bedrock to stop it; nothing happens to one that is over."""
        with providers_aws.asking():
            account = providers_aws.place_of(deployment)
            try:
                control.call("bedrock", account, lambda b: b.stop_model_invocation_job(jobIdentifier=_id(job)))
            except AwsTrouble as error:
                if error.what not in ("conflict", "invalid", "not_found"):
                    raise

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """Every line of every output file, as Bedrock wrote them."""
        with providers_aws.asking():
            yield from results_of(providers_aws.place_of(deployment), deployment, job, place)

    # --- submitting --------------------------------------------------------------------------------------------------

    def _find_job(self, account: Account, job: Job) -> str | None:
        """The ARN of the job of this name, if there is one."""
        name = providers_aws.job_name(job)

        def read(bedrock: Any) -> list[Any]:
            pages = bedrock.get_paginator("list_model_invocation_jobs").paginate(nameContains=name)
            return [row for page in pages for row in page.get("invocationJobSummaries", [])]

        arns = [str(row["jobArn"]) for row in control.call("bedrock", account, read) if row.get("jobName") == name]
        return arns[0] if arns else None

    def _upload(
        self,
        deployment: Deployment,
        account: Account,
        base: Uri,
        job: Job,
        lines: Iterable[Line],
        place: Place,
        limits: RouteLimits,
    ) -> None:
        to = base.under("input", "lines.jsonl")
        marks = {"lab-lines": str(job.n_lines), "lab-asked": hashlib.sha256(repr(deployment).encode()).hexdigest()[:16]}
        if providers_aws.marks_of(account, to) == marks:
            return  # an earlier try has put it there, whole
        reported, doubt = 0, providers_aws.doubted(place, job).exists()

        def watch(flow: Flow) -> None:
            nonlocal reported
            halt(place, "the file was sent to S3", doubt=doubt)
            if limits.max_bytes is not None and flow.size > limits.max_bytes:
                raise SubmitRefused(
                    f"The file is larger than the {limits.max_bytes:,} bytes that one job may hold: split it into more "
                    "jobs."
                )
            if flow.size - reported >= 8 * STEP:
                reported = flow.size
                place.say(f"Sending the file to S3: {flow.lines:,} of {job.n_lines:,} lines.")

        flow = Flow((self._line(deployment, line) for line in lines), watch)
        # One byte is read before S3 is asked anything, so that a line that cannot be sent costs no upload.
        first = flow.read(1)
        remaining = Flow(chain([first], iter(lambda: flow.read(providers_aws.CHUNK_BYTES), b"")), lambda _: None)
        providers_aws.upload(account, to, remaining, marks)
        if flow.lines != job.n_lines:
            raise SubmitRefused(
                f"The job has {job.n_lines:,} lines and {flow.lines:,} were there to be sent: start anew."
            )

    def _line(self, deployment: Deployment, line: Line) -> bytes:
        try:
            return self.body(deployment, line)
        except ValueError as error:  # inside the upload boto3 would take it for a trouble of its own
            raise SubmitRefused(f"Line {line.no} cannot be sent. {error}") from error

    def _create(self, deployment: Deployment, account: Account, base: Uri, job: Job) -> str:
        asks = {
            "jobName": providers_aws.job_name(job),
            "clientRequestToken": providers_aws.request_token(job),
            "roleArn": providers_aws.settings(deployment).batch_role,
            "modelId": deployment.model.strip(),
            "modelInvocationType": invocation_type(deployment),
            "timeoutDurationInHours": TIMEOUT_H,
            "inputDataConfig": {
                "s3InputDataConfig": {"s3InputFormat": "JSONL", "s3Uri": str(base.under("input", "lines.jsonl"))}
            },
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{base.under('output')}/"}},
        }
        try:
            return str(control.call("bedrock", account, lambda b: b.create_model_invocation_job(**asks))["jobArn"])
        except AwsTrouble as error:
            # The answer was lost, or a job of this name is there already: then it is the one that was made of it.
            if error.what in ("conflict", *providers_aws.NO_ANSWER):
                with suppress(AwsTrouble):
                    job_arn = self._find_job(account, job)
                    if job_arn is not None:
                        return job_arn
            raise


def _id(job: Job) -> str:
    return job.vendor_id or ""


def _fits(job: Job, limits: RouteLimits) -> None:
    if job.n_lines < limits.min_records:
        raise SubmitRefused(
            f"Bedrock needs at least {limits.min_records:,} records for this model and there are {job.n_lines:,}: send "
            "them one by one with our own runner instead, or put more lines into the file."
        )
    if limits.max_records is not None and job.n_lines > limits.max_records:
        raise SubmitRefused(
            f"Bedrock takes at most {limits.max_records:,} records in one job for this model and there are "
            f"{job.n_lines:,}: split them into more jobs."
        )


GB = 1_000_000_000  # the smaller reading of AWS's "GB"

FRESH_S = 600.0

_NAMES = (
    ("min_records", re.compile(r"minimum number of records per batch inference job for (.+)\Z", re.I)),
    ("job_records", re.compile(r"records per batch inference job for (.+)\Z", re.I)),
    ("file_records", re.compile(r"records per input file per batch inference job for (.+)\Z", re.I)),
    ("file_gb", re.compile(r"batch inference input file size \(in GB\) for (.+)\Z", re.I)),
    ("job_gb", re.compile(r"batch inference job size \(in GB\) for (.+)\Z", re.I)),
)

_NOISE = frozenset({"anthropic", "amazon", "meta", "openai", "ai", "model", "base", "the"})

_quotas_read: dict[tuple[str | None, str], tuple[float, list[tuple[str, float]]]] = {}

_lock = threading.Lock()


def account_limits(usual: RouteLimits, account: Account, model: str) -> RouteLimits:
    """``usual`` with what the account's quotas say of ``model`` (an id or an ARN of Bedrock's)."""
    try:
        rows = _quotas(account)
    except AwsTrouble as error:
        return replace(usual, source=f"{usual.source}; the account's own quotas were not read: {error}")
    of_model_limits = of_model(rows, model)
    if not of_model_limits:
        return replace(usual, source=f"{usual.source}; the account's quotas name no limits for {model}")
    records = [int(of_model_limits[name]) for name in ("job_records", "file_records") if name in of_model_limits]
    sizes = [int(of_model_limits[name] * GB) for name in ("job_gb", "file_gb") if name in of_model_limits]
    return replace(
        usual,
        min_records=int(of_model_limits.get("min_records", usual.min_records)),
        max_records=min(records) if records else usual.max_records,
        max_bytes=min(sizes) if sizes else usual.max_bytes,
        source=f"Service Quotas of the account in {account.region}, read just now",
    )


def of_model(rows: list[tuple[str, float]], model: str) -> dict[str, float]:
    """The limits among ``rows`` (name, value) that are for exactly this model."""
    model_id = bedrock_ids.parsed(model)
    model_words = words(model_id.model.partition(".")[2]) if model_id is not None else None
    limits: dict[str, float] = {}
    for name, value in rows:
        for limit, pattern in _NAMES:
            match = pattern.match(name.strip())
            if match and words(match[1]) == model_words:
                limits[limit] = value
    return limits


def words(name: str) -> tuple[str, ...] | None:
    """What a model's name consists of, whether written as an id or in words; None for nothing.

    Dates and the first version say nothing: "claude-3-5-sonnet-20241022-v2:0" is "Claude 3.5 Sonnet v2".
    """
    plain = re.sub(r"-?20\d{6}", "", name.lower()).partition(":")[0]
    plain = re.sub(r"\bv1\b", "", plain)
    parts = re.findall(r"v\d+|[a-z]+|\d+", plain)
    return tuple(sorted(word for word in parts if word not in _NOISE)) or None


def _quotas(account: Account) -> list[tuple[str, float]]:
    key = (account.profile, account.region)
    with _lock:
        cached = _quotas_read.get(key)
    if cached is not None and time.monotonic() - cached[0] < FRESH_S:
        return cached[1]

    def read(quotas: Any) -> list[JsonMapping]:
        pages = quotas.get_paginator("list_service_quotas").paginate(ServiceCode="bedrock")
        return [row for page in pages for row in page.get("Quotas", [])]

    rows = control.call("service-quotas", account, read)
    quotas = [
        (str(row["QuotaName"]), float(row["Value"]))
        for row in rows
        if "Value" in row and "batch inference" in str(row.get("QuotaName", "")).lower()
    ]
    with _lock:
        _quotas_read[key] = time.monotonic(), quotas
    return quotas


def forget() -> None:
    """Read the quotas anew the next time."""
    with _lock:
        _quotas_read.clear()


# Bedrock's word → our state, whether it is the last one, whether there are outputs, and a sentence.
STATES: Mapping[str, tuple[BatchState, bool, bool, str]] = {
    "Submitted": ("checking", False, False, "Bedrock has the job and will check its file."),
    "Validating": ("checking", False, False, "Bedrock checks the file, its number of records and the role."),
    "Scheduled": ("running", False, False, "The file is fine; the job waits for its turn."),
    "InProgress": ("running", False, False, "Bedrock works on the records."),
    "Completed": ("ended", True, True, "Bedrock has worked on every record."),
    "PartiallyCompleted": (
        "expired",
        True,
        True,
        "The time ran out: the records that were finished have answers, send the others again.",
    ),
    "Failed": (
        "failed",
        True,
        False,
        "Bedrock has failed the whole job and answered no record: mend what it names, then send the lines again.",
    ),
    "Stopping": ("cancelling", False, False, "Bedrock is stopping the job."),
    "Stopped": ("cancelled", True, True, "The job was stopped: the records that were finished have answers."),
    "Expired": (
        "expired",
        True,
        False,
        "The job's turn did not come in time and no record was answered: send the "
        "lines again, or one by one with our own runner.",
    ),
}


_COUNTS = {
    "totalRecordCount": "total",
    "processedRecordCount": "processed",
    "successRecordCount": "succeeded",
    "errorRecordCount": "failed",
}

MANIFEST = "manifest.json.out"


def invocation_type(deployment: Deployment) -> str:
    """The type of a deployment's records."""
    return "Converse" if deployment.wire == "converse" else "InvokeModel"


def polled(row: JsonMapping) -> Polled:
    """What GetModelInvocationJob answered, in our words. A state that is not known is taken for a running one."""
    word = str(row.get("status", ""))
    unknown: tuple[BatchState, bool, bool, str] = (
        "running",
        False,
        False,
        f"Bedrock calls the job “{clean(word, 40)}”.",
    )
    state, over, collectable, sentence = STATES.get(word, unknown)
    message = clean(row.get("message"), 400)
    counts = {ours: row[theirs] for theirs, ours in _COUNTS.items() if count(row.get(theirs)) is not None}
    facts: JobFacts = {}
    if (submitted := seconds(row.get("submitTime"))) is not None:
        facts["submitted_at"] = submitted
    if (ended := seconds(row.get("endTime"))) is not None:
        facts["ended_at"] = ended
    if message:
        facts["message"] = message
        sentence = f"{sentence} It says: {message}"
    return Polled(
        state,
        word,
        sentence,
        over,
        collectable,
        counts or None,
        seconds(row.get("jobExpirationTime")),
        facts,
    )


def results_of(account: Account, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
    """Every line of the job's output files; then the manifest is compared with them. Raises `AwsTrouble`,
    and `ResultsGone` when there is no file."""
    facts: JobFacts = {"type": invocation_type(deployment), "model": underlying(deployment), **job.facts}
    ident = (job.vendor_id or "").rpartition("/")[2]
    output = str(facts.get("output") or "") or _output(account, job)
    try:
        objects = providers_aws.listed(account, providers_aws.parsed(output).under(ident))
        yield from _read_results(account, job, place, facts, objects, output)
    except AwsTrouble as error:
        raise AwsTrouble(error.what, f"{error} The answers stay in {output}.") from error


def _read_results(
    account: Account, job: Job, place: Place, facts: JobFacts, objects: list[StoredObject], output: str
) -> Iterator[LineResult]:
    counted = {"succeeded": 0, "failed": 0}
    files = list(providers_aws.named(objects, ".jsonl.out"))
    if not files:
        raise ResultsGone(f"There is no file of answers in {output}: it was emptied, or no record was finished.")
    for answers_file in files:
        path = providers_aws.fetch(account, answers_file, _local(place, job, answers_file.name), place)
        for result in _of_file(path, facts):
            if result.wire_id:
                counted["failed" if result.outcome not in ("ok", "max_tokens") else "succeeded"] += 1
            yield result
    for manifest_object in providers_aws.named(objects, MANIFEST):
        path = providers_aws.fetch(account, manifest_object, _local(place, job, manifest_object.name), place)
        differs = compared(path.read_bytes(), counted)
        if differs:
            place.note(differs)


def compared(manifest: bytes, counted: Mapping[str, int]) -> str | None:
    """What the manifest says otherwise than the files, in a sentence. A record whose answer Bedrock counts a success
    can be a failure here (an answer cut by a filter, say), so it is the sums that are compared."""
    try:
        counts = orjson.loads(manifest)
    except orjson.JSONDecodeError:
        return "The job's manifest cannot be read, so that its counts are not compared."
    total, ours = count(obj(counts).get("processedRecordCount")), sum(counted.values())
    if total is None:
        parts = [count(obj(counts).get(name)) for name in ("successRecordCount", "errorRecordCount")]
        total = sum(n for n in parts if n is not None) if any(n is not None for n in parts) else None
    if total is None or total == ours:
        return None
    return (
        f"Bedrock's manifest counts {total:,} finished records and its files hold {ours:,}: the lines below are those "
        "of the files."
    )


def _output(account: Account, job: Job) -> str:
    row = control.call("bedrock", account, lambda b: b.get_model_invocation_job(jobIdentifier=job.vendor_id or ""))
    return str(row["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])


def _local(place: Place, job: Job, name: str) -> Path:
    return place.folder / "results" / f"{job.no:04d}-{name}"


def _of_file(path: Path, facts: JobFacts) -> Iterator[LineResult]:
    for number, value, ended in read_lines(path):
        location = f"Line {number:,} of {path.name}"
        if value is None:
            yield broken_line(location, ended)
        elif not isinstance(value.get("recordId"), str) or not value["recordId"]:
            yield providers_aws.unreadable(f"{location} names no recordId, so that nobody knows whose answer it is.")
        else:
            yield _of_record(str(value["recordId"]), value, facts, location)


def _of_record(ident: str, value: JsonMapping, facts: JobFacts, location: str) -> LineResult:
    error, answer = value.get("error"), value.get("modelOutput")
    if error:
        values = obj(error)
        status = count(values.get("errorCode"))
        stated = {"code": values.get("errorCode"), "message": values.get("errorMessage") or clean(error)}
        return providers_aws.failed(ident, stated, status)
    if not isinstance(answer, Mapping):
        return providers_aws.unreadable(f"{location} holds neither an answer nor an error.", ident)
    if facts["type"] == "Converse":
        return providers_aws.converse(ident, answer)
    return providers_aws.invoked(ident, str(facts["model"]), answer)
