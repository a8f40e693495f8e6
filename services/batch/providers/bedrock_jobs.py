"""What Bedrock says of a batch job: its ten states, and the lines of its output files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson

from services.aws import control
from services.aws.explain import AwsTrouble
from services.aws.explain import Place as Account
from services.batch.providers import aws_answers, aws_s3
from services.batch.providers.aws import seconds
from services.batch.providers.aws_s3 import Found
from services.batch.providers.base import Place, ResultsGone
from services.batch.providers.common import broken_line, clean, read_lines
from services.batch.types import BatchState, Job, LineResult, Polled
from services.providers.bedrock_models import underlying
from services.providers.usage import count, obj
from services.types import Deployment

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
    "totalRecordCount": "total", "processedRecordCount": "processed", "successRecordCount": "succeeded",
    "errorRecordCount": "failed",
}  # fmt: skip
MANIFEST = "manifest.json.out"


def asked(deployment: Deployment) -> str:
    """The type of a deployment's records."""
    return "Converse" if deployment.wire == "converse" else "InvokeModel"


def polled(row: Mapping[str, Any]) -> Polled:
    """What GetModelInvocationJob answered, in our words. A state that is not known is taken for a running one."""
    word = str(row.get("status", ""))
    unknown: tuple[BatchState, bool, bool, str] = (
        "running",
        False,
        False,
        f"Bedrock calls the job “{clean(word, 40)}”.",
    )
    state, over, collectable, said = STATES.get(word, unknown)
    message = clean(row.get("message"), 400)
    counts = {ours: row[theirs] for theirs, ours in _COUNTS.items() if count(row.get(theirs)) is not None}
    facts = {
        "message": message or None, "submitted_at": seconds(row.get("submitTime")),
        "ended_at": seconds(row.get("endTime")),
    }  # fmt: skip
    if message:
        said = f"{said} It says: {message}"
    return Polled(
        state, word, said, over, collectable, counts or None, seconds(row.get("jobExpirationTime")),
        {name: value for name, value in facts.items() if value is not None},
    )  # fmt: skip


def results_of(where: Account, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
    """Every line of the job's output files; then the manifest is compared with them. Raises `AwsTrouble`,
    and `ResultsGone` when there is no file."""
    facts = {"type": asked(deployment), "model": underlying(deployment), **job.facts}
    ident = (job.vendor_id or "").rpartition("/")[2]
    output = str(facts.get("output") or "") or _output(where, job)
    try:
        found = aws_s3.listed(where, aws_s3.parsed(output).under(ident))
        yield from _read(where, job, place, facts, found, output)
    except AwsTrouble as error:
        raise AwsTrouble(error.what, f"{error} The answers stay in {output}.") from error


def _read(
    where: Account, job: Job, place: Place, facts: Mapping[str, Any], found: list[Found], output: str
) -> Iterator[LineResult]:
    counted = {"succeeded": 0, "failed": 0}
    files = list(aws_s3.named(found, ".jsonl.out"))
    if not files:
        raise ResultsGone(f"There is no file of answers in {output}: it was emptied, or no record was finished.")
    for one in files:
        path = aws_s3.fetch(where, one, _local(place, job, one.name), place)
        for result in _of_file(path, facts):
            if result.wire_id:
                counted["failed" if result.outcome not in ("ok", "max_tokens") else "succeeded"] += 1
            yield result
    for one in aws_s3.named(found, MANIFEST):
        path = aws_s3.fetch(where, one, _local(place, job, one.name), place)
        differs = compared(path.read_bytes(), counted)
        if differs:
            place.note(differs)


def compared(manifest: bytes, counted: Mapping[str, int]) -> str | None:
    """What the manifest says otherwise than the files, in a sentence. A record whose answer Bedrock counts a success
    can be a failure here (an answer cut by a filter, say), so it is the sums that are compared."""
    try:
        said = orjson.loads(manifest)
    except orjson.JSONDecodeError:
        return "The job's manifest cannot be read, so that its counts are not compared."
    total, ours = count(obj(said).get("processedRecordCount")), sum(counted.values())
    if total is None:
        parts = [count(obj(said).get(name)) for name in ("successRecordCount", "errorRecordCount")]
        total = sum(part for part in parts if part is not None) if any(part is not None for part in parts) else None
    if total is None or total == ours:
        return None
    said = f"Bedrock's manifest counts {total:,} finished records and its files hold {ours:,}"
    return f"{said}: the lines below are those of the files."


def _output(where: Account, job: Job) -> str:
    row = control.call("bedrock", where, lambda b: b.get_model_invocation_job(jobIdentifier=job.vendor_id or ""))
    return str(row["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"])


def _local(place: Place, job: Job, name: str) -> Path:
    return place.folder / "results" / f"{job.no:04d}-{name}"


def _of_file(path: Path, facts: Mapping[str, Any]) -> Iterator[LineResult]:
    for number, value, ended in read_lines(path):
        where = f"Line {number:,} of {path.name}"
        if value is None:
            yield broken_line(where, ended)
        elif not isinstance(value.get("recordId"), str) or not value["recordId"]:
            yield aws_answers.unreadable(f"{where} names no recordId, so that nobody knows whose answer it is.")
        else:
            yield _of_record(str(value["recordId"]), value, facts, where)


def _of_record(ident: str, value: Mapping[str, Any], facts: Mapping[str, Any], where: str) -> LineResult:
    error, answer = value.get("error"), value.get("modelOutput")
    if error:
        said = obj(error)
        status = count(said.get("errorCode"))
        stated = {"code": said.get("errorCode"), "message": said.get("errorMessage") or clean(error)}
        return aws_answers.failed(ident, stated, status)
    if not isinstance(answer, Mapping):
        return aws_answers.unreadable(f"{where} holds neither an answer nor an error.", ident)
    if facts["type"] == "Converse":
        return aws_answers.converse(ident, answer)
    return aws_answers.invoked(ident, str(facts["model"]), answer)
