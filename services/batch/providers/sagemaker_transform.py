"""SageMaker Batch Transform: the model of an endpoint, on instances of its own that are paid while the job runs.

The lines go to S3 in files of a few hundred, because SageMaker gives no output at all for a file in which one record
failed, and spreads files (not lines) over instances. SageMaker itself carries each line's id past the model to its
answer (``DataProcessing``: the model is sent ``$.request``, the output keeps ``id``), so that nothing depends on order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from db.batch_rows import JobFacts
from services.aws import control
from services.aws.control import AwsTrouble
from services.aws.control import Place as Account
from services.aws.instances import of_instance
from services.batch.providers import aws
from services.batch.providers.aws import Endpoint, StoredObject, Uri
from services.batch.providers.common import broken_line, clean, halt, json_line, limits_of, read_lines
from services.batch.types import (
    UNSURE,
    BatchState,
    Job,
    Line,
    LineResult,
    Place,
    Polled,
    RouteLimits,
    RouteName,
    SubmitRefused,
    wire_id,
)
from services.types import Deployment, JsonMapping

FILE_BYTES = 32_000_000


class TransformRoute:
    """Transform jobs of Amazon SageMaker."""

    name: RouteName = "transform"
    title = "SageMaker Batch Transform"
    counts = True  # in whole files

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to this service, in a sentence; asks nobody."""
        if deployment.kind != "sagemaker":
            return "Only models on SageMaker endpoints can be sent to Batch Transform."
        if not aws.settings(deployment).batch_s3:
            return f"{deployment.name} lacks batch_s3 in its AWS settings: a place in S3 for the files of the job."
        return None

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold; SageMaker has no quota of records to ask for."""
        return limits_of("sagemaker_transform")

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """One record with its end of line. Raises ValueError in words."""
        request = json_line(aws.plain_body(deployment, line.ask))
        max_bytes = limits_of("sagemaker_transform").max_record_bytes or 0
        if len(request) > max_bytes:
            raise ValueError(
                f"The request is {len(request):,} bytes long and Batch Transform takes at most {max_bytes:,}."
            )
        return b'{"id":"%s","request":%s}\n' % (wire_id(line.no).encode(), request.rstrip(b"\n"))

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail; what could not be found out begins with `UNSURE`."""
        why = self.why_not(deployment)
        if why:
            return [why]
        try:
            account = aws.place_of(deployment)
        except AwsTrouble as error:
            return [str(error)]
        _, trouble = aws.account(account)
        if trouble and not trouble[0].startswith(UNSURE):
            return trouble
        troubles = [*trouble, *aws.bucket(account, aws.settings(deployment).batch_s3 or "")]
        try:
            endpoint = aws.described(deployment)
            return [*troubles, *_unfit(endpoint), *_unknown_instance(account, endpoint)]
        except AwsTrouble as error:
            doubt = error.what in ("throttled", "timeout", "unreachable", "failed")
            return [*troubles, f"{UNSURE}the endpoint. {error}" if doubt else str(error)]

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Upload the files and make the job, or find the one that an earlier try made."""
        why = self.why_not(deployment)
        if why:
            raise SubmitRefused(why)
        name = aws.job_name(job)
        with aws.submitting():
            account = aws.place_of(deployment)
            base = aws.parsed(aws.settings(deployment).batch_s3 or "").under(name)
            row = described(account, name)
            if row is None:
                endpoint = aws.described(deployment)
                unfit = _unfit(endpoint)
                if unfit:
                    raise SubmitRefused(unfit[0])
                halt(place, "the files were to be sent to S3", doubt=aws.doubted(place, job).exists())
                files = self._upload(deployment, account, base.under("input"), job, lines, place)
                with aws.creating(place, job):
                    row = create(account, name, base, endpoint)
            else:
                files = files_of(job, aws.listed(account, base.under("input")))
        facts: JobFacts = {
            **job.facts,
            "name": name,
            "output": str(base.under("output")),
            "files": files,
            "wire": deployment.wire,
            **instances(row, account),
        }
        return replace(job, vendor_id=str(row["TransformJobArn"]), facts=facts)

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How it stands; lines are counted by the files that are finished."""
        with aws.asking():
            account = aws.place_of(deployment)
            row = described(account, _name(job))
            if row is None:
                if job.facts.get("cancel_asked"):
                    return aws.unknown("SageMaker", _name(job), account)
                raise AwsTrouble(
                    "not_found",
                    f"SageMaker in {account.region} does not know the job {_name(job)}: check "
                    "the credentials and the region.",
                )
            done = aws.listed(account, aws.parsed(str(job.facts.get("output", ""))))
            return polled(row, job, done, account)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask SageMaker to stop it; nothing happens to one that is over."""
        with aws.asking():
            account = aws.place_of(deployment)
            try:
                control.call("sagemaker", account, lambda s: s.stop_transform_job(TransformJobName=_name(job)))
            except AwsTrouble as error:
                if error.what not in ("conflict", "invalid", "not_found"):
                    raise

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """Every line of every finished file."""
        with aws.asking():
            account = aws.place_of(deployment)
            objects = aws.listed(account, aws.parsed(str(job.facts.get("output", ""))))
            expected: list[int] = list(job.facts.get("files") or ())
            seen = 0
            for answers_file in aws.named(objects, ".jsonl.out"):
                path = aws.fetch(
                    account, answers_file, place.folder / "results" / f"{job.no:04d}-{answers_file.name}", place
                )
                n_lines = 0
                for result in answers_of(path, str(job.facts.get("wire") or deployment.wire)):
                    n_lines += 1
                    yield result
                seen += 1
                sent = sent_of(answers_file, expected)
                if sent is not None and n_lines != sent:
                    place.note(
                        f"{answers_file.name} holds {n_lines:,} lines and {sent:,} were sent: what has no answer is "
                        "told so."
                    )
            if seen < len(expected):
                place.note(
                    f"SageMaker made no output for {len(expected) - seen:,} of {len(expected):,} files: the job was "
                    "stopped, or one record that fails took the others of its file with it. Send those lines again."
                )

    def _upload(
        self, deployment: Deployment, account: Account, below: Uri, job: Job, lines: Iterable[Line], place: Place
    ) -> list[int]:
        """The files in S3; returns the number of lines of each."""
        files: list[int] = []
        pending: list[bytes] = []
        size = 0

        def write() -> None:
            halt(place, "the files were sent to S3", doubt=aws.doubted(place, job).exists())
            aws.put(account, below.under(f"part-{len(files):05d}.jsonl"), b"".join(pending))
            files.append(len(pending))
            pending.clear()
            place.say(f"Sending the lines to S3: {sum(files):,} of {job.n_lines:,}.")

        for line in lines:
            try:
                raw = self.body(deployment, line)
            except ValueError as error:
                raise SubmitRefused(f"Line {line.no} cannot be sent. {error}") from error
            if pending and (len(pending) >= FILE_LINES or size + len(raw) > FILE_BYTES):
                write()
                size = 0
            pending.append(raw)
            size += len(raw)
        if pending:
            write()
        if sum(files) != job.n_lines:
            there = f"{sum(files):,} were there to be sent"
            raise SubmitRefused(f"The job has {job.n_lines:,} lines and {there}: start anew.")
        return files


def _name(job: Job) -> str:
    return str(job.facts.get("name") or aws.job_name(job))


def _unfit(endpoint: Endpoint) -> list[str]:
    if endpoint.model is None:
        return [
            f"The endpoint {endpoint.name} names no model that a transform job could run: it holds several models; "
            "name one of its components in the AWS settings."
        ]
    if endpoint.instance is None:
        return [
            f"The endpoint {endpoint.name} has no one type of instance (it is serverless, or mixes types), so that "
            "none can be asked for."
        ]
    return []


def _unknown_instance(account: Account, endpoint: Endpoint) -> list[str]:
    """Whether transform jobs run on that type at all, by botocore's list of them."""
    types = control.call("sagemaker", account, lambda s: s.meta.service_model.shape_for("TransformInstanceType").enum)
    if endpoint.instance is None or endpoint.instance in types:
        return []
    return [f"{UNSURE}whether transform jobs run on {endpoint.instance}: it is not among the types that are known to."]


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


def described(account: Account, name: str) -> JsonMapping | None:
    """The transform job of a name; None when there is none."""
    try:
        row: JsonMapping = control.call("sagemaker", account, lambda s: s.describe_transform_job(TransformJobName=name))
    except AwsTrouble as error:
        if error.what == "not_found":
            return None
        raise
    return row


def create(account: Account, name: str, base: Uri, endpoint: Endpoint) -> JsonMapping:
    """Make the job; returns its description. A second one of its name cannot be made."""
    asks = {
        "TransformJobName": name,
        "ModelName": endpoint.model,
        "BatchStrategy": "SingleRecord",
        "MaxConcurrentTransforms": AT_ONCE,
        "MaxPayloadInMB": PAYLOAD_MB,
        "ModelClientConfig": {"InvocationsTimeoutInSeconds": RECORD_TIMEOUT_S, "InvocationsMaxRetries": 3},
        "TransformInput": {
            "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": f"{base.under('input')}/"}},
            "ContentType": "application/json",
            "SplitType": "Line",
            "CompressionType": "None",
        },
        "TransformOutput": {
            "S3OutputPath": f"{base.under('output')}/",
            "Accept": "application/json",
            "AssembleWith": "Line",
        },
        "DataProcessing": {
            "InputFilter": "$.request",
            "JoinSource": "Input",
            "OutputFilter": "$['id','SageMakerOutput']",
        },
        "TransformResources": {"InstanceType": endpoint.instance, "InstanceCount": endpoint.instances or 1},
    }
    trouble: AwsTrouble | None = None
    try:
        control.call("sagemaker", account, lambda s: s.create_transform_job(**asks))
    except AwsTrouble as error:
        if error.what not in ("conflict", "invalid", *aws.NO_ANSWER):
            raise
        trouble = error  # the answer was lost, or the job is there already
    row = described(account, name)
    if row is None:
        raise trouble or AwsTrouble(
            "failed", f"SageMaker took the job {name} and does not list it yet: asked again soon."
        )
    return row


def instances(row: JsonMapping, account: Account) -> JobFacts:
    """What the job's own instances cost, as facts: type, count, US dollars an hour of one, and when they ran."""
    resources = row.get("TransformResources") or {}
    rate = of_instance(str(resources.get("InstanceType", "")), account.region)
    facts: JobFacts = {}
    if (instance_type := resources.get("InstanceType")) is not None:
        facts["instance_type"] = instance_type
    if (count := resources.get("InstanceCount")) is not None:
        facts["instance_count"] = count
    if rate:
        facts.update({"usd_per_hour": rate.usd, "price_source": rate.source, "price_date": rate.date})
    if (created := aws.seconds(row.get("CreationTime"))) is not None:
        facts["submitted_at"] = created
    if (started := aws.seconds(row.get("TransformStartTime"))) is not None:
        facts["started_at"] = started
    if (ended := aws.seconds(row.get("TransformEndTime"))) is not None:
        facts["ended_at"] = ended
    return facts


def polled(row: JsonMapping, job: Job, done: list[StoredObject], account: Account) -> Polled:
    word = str(row.get("TransformJobStatus", ""))
    state, over, sentence = STATES.get(word, ("running", False, f"SageMaker calls the job “{clean(word, 40)}”."))
    files: list[int] = list(job.facts.get("files") or ())
    finished = [sent_of(answers_file, files) for answers_file in aws.named(done, ".jsonl.out")]
    n_done = sum(n for n in finished if n is not None)
    reason = clean(row.get("FailureReason"), 400)
    if word == "Failed" and finished:
        state = "ended"
        sentence = f"The transform job failed for a part of the lines; {n_done:,} of {job.n_lines:,} have answers."
    facts = instances(row, account)
    if reason:
        facts["message"] = reason
    return Polled(
        state,
        word,
        f"{sentence} It says: {reason}" if reason else sentence,
        over,
        over and bool(finished),
        {"total": job.n_lines, "processed": n_done} if files else None,
        None,
        facts,
    )


def sent_of(answers_file: StoredObject, files: list[int]) -> int | None:
    """How many lines the input of an output file has."""
    number = answers_file.name.removeprefix("part-").partition(".")[0]
    return files[int(number)] if number.isdigit() and int(number) < len(files) else None


def files_of(job: Job, objects: list[StoredObject]) -> list[int]:
    """The lines of each file of a job that an earlier try made: all full but the last, unless their facts are there."""
    counts = job.facts.get("files")
    if counts:
        return list(counts)
    count = len(list(aws.named(objects, ".jsonl")))
    full = [FILE_LINES] * max(0, count - 1)
    remaining = job.n_lines - sum(full)
    return [*full, remaining] if count and 0 < remaining <= FILE_LINES else []


def answers_of(path: Path, wire: str) -> Iterator[LineResult]:
    for number, value, ended in read_lines(path):
        location = f"Line {number:,} of {path.name}"
        if value is None:
            yield broken_line(location, ended)
        elif not isinstance(value.get("id"), str):
            yield aws.unreadable(f"{location} names no id, so that nobody knows whose answer it is.")
        elif value.get("SageMakerOutput") is None:
            yield aws.unreadable(f"{location} holds no answer.", str(value["id"]))
        else:
            yield aws.contained(str(value["id"]), wire, value["SageMakerOutput"])
