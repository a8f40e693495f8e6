"""What SageMaker is asked about a transform job, and what it says: its states, its instances, its output files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from services.aws import control
from services.aws.explain import AwsTrouble
from services.aws.explain import Place as Account
from services.aws.rates import of_instance
from services.batch.providers import aws, aws_answers, aws_s3
from services.batch.providers.aws_endpoints import Endpoint
from services.batch.providers.aws_s3 import Found, Uri
from services.batch.providers.common import broken_line, clean, read_lines
from services.batch.types import BatchState, Job, LineResult, Polled

FILE_LINES = 200
AT_ONCE = 8  # records at work on one instance; times the payload it may not pass 100 MB
PAYLOAD_MB = 6
RECORD_TIMEOUT_S = 3600
STATES: Mapping[str, tuple[BatchState, bool, str]] = {
    "InProgress": ("running", False, "SageMaker starts instances or works on the lines."),
    "Completed": ("ended", True, "SageMaker has worked on every line."),
    "Failed": ("failed", True, "The transform job failed."),
    "Stopping": ("cancelling", False, "SageMaker is stopping the job."),
    "Stopped": ("cancelled", True, "The job was stopped; files that were finished have answers."),
}


def described(where: Account, name: str) -> Mapping[str, Any] | None:
    """The transform job of a name; None when there is none."""
    try:
        row: Mapping[str, Any] = control.call(
            "sagemaker", where, lambda s: s.describe_transform_job(TransformJobName=name)
        )
    except AwsTrouble as error:
        if error.what == "not_found":
            return None
        raise
    return row


def create(where: Account, name: str, base: Uri, endpoint: Endpoint) -> Mapping[str, Any]:
    """Make the job; returns its description. A second one of its name cannot be made."""
    asks = {
        "TransformJobName": name, "ModelName": endpoint.model, "BatchStrategy": "SingleRecord",
        "MaxConcurrentTransforms": AT_ONCE, "MaxPayloadInMB": PAYLOAD_MB,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": RECORD_TIMEOUT_S, "InvocationsMaxRetries": 3},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{base.under('input')}/"}},
            "ContentType": "application/json", "SplitType": "Line", "CompressionType": "None"},
        "TransformOutput": {"S3OutputPath": f"{base.under('output')}/", "Accept": "application/json",
                            "AssembleWith": "Line"},
        "DataProcessing": {"InputFilter": "$.request", "JoinSource": "Input",
                           "OutputFilter": "$['id','SageMakerOutput']"},
        "TransformResources": {"InstanceType": endpoint.instance, "InstanceCount": endpoint.instances or 1},
    }  # fmt: skip
    trouble: AwsTrouble | None = None
    try:
        control.call("sagemaker", where, lambda s: s.create_transform_job(**asks))
    except AwsTrouble as error:
        if error.what not in ("conflict", "invalid", *aws.NO_ANSWER):
            raise
        trouble = error  # the answer was lost, or the job is there already
    found = described(where, name)
    if found is None:
        raise trouble or AwsTrouble(
            "failed", f"SageMaker took the job {name} and does not list it yet: asked again soon."
        )
    return found


def instances(row: Mapping[str, Any], where: Account) -> dict[str, Any]:
    """What the job's own instances cost, as facts: type, count, US dollars an hour of one, and when they ran."""
    asked = row.get("TransformResources") or {}
    rate = of_instance(str(asked.get("InstanceType", "")), where.region)
    facts = {
        "instance_type": asked.get("InstanceType"), "instance_count": asked.get("InstanceCount"),
        "usd_per_hour": rate.usd if rate else None, "price_source": rate.source if rate else None,
        "price_date": rate.date if rate else None, "submitted_at": aws.seconds(row.get("CreationTime")),
        "started_at": aws.seconds(row.get("TransformStartTime")),
        "ended_at": aws.seconds(row.get("TransformEndTime")),
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value is not None}


def polled(row: Mapping[str, Any], job: Job, done: list[Found], where: Account) -> Polled:
    word = str(row.get("TransformJobStatus", ""))
    state, over, said = STATES.get(word, ("running", False, f"SageMaker calls the job “{clean(word, 40)}”."))
    files: list[int] = list(job.facts.get("files") or ())
    finished = [sent_of(one, files) for one in aws_s3.named(done, ".jsonl.out")]
    n_done = sum(n for n in finished if n is not None)
    reason = clean(row.get("FailureReason"), 400)
    if word == "Failed" and finished:
        state = "ended"
        said = f"The transform job failed for a part of the lines; {n_done:,} of {job.n_lines:,} have answers."
    facts = {**instances(row, where), **({"message": reason} if reason else {})}
    return Polled(
        state, word, f"{said} It says: {reason}" if reason else said, over, over and bool(finished),
        {"total": job.n_lines, "processed": n_done} if files else None, None, facts,
    )  # fmt: skip


def sent_of(one: Found, files: list[int]) -> int | None:
    """How many lines the input of an output file has."""
    number = one.name.removeprefix("part-").partition(".")[0]
    return files[int(number)] if number.isdigit() and int(number) < len(files) else None


def files_of(job: Job, found: list[Found]) -> list[int]:
    """The lines of each file of a job that an earlier try made: all full but the last, unless their facts are there."""
    known = job.facts.get("files")
    if known:
        return list(known)
    count = len(list(aws_s3.named(found, ".jsonl")))
    full = [FILE_LINES] * max(0, count - 1)
    rest = job.n_lines - sum(full)
    return [*full, rest] if count and 0 < rest <= FILE_LINES else []


def answers_of(path: Path, wire: str) -> Iterator[LineResult]:
    for number, value, ended in read_lines(path):
        where = f"Line {number:,} of {path.name}"
        if value is None:
            yield broken_line(where, ended)
        elif not isinstance(value.get("id"), str):
            yield aws_answers.unreadable(f"{where} names no id, so that nobody knows whose answer it is.")
        elif value.get("SageMakerOutput") is None:
            yield aws_answers.unreadable(f"{where} holds no answer.", str(value["id"]))
        else:
            yield aws_answers.contained(str(value["id"]), wire, value["SageMakerOutput"])
