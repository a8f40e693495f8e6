"""Bedrock's model invocation jobs: made, listed, asked, stopped; their input read from S3 and their output put there.

From botocore's model: paths, shapes, errors, states. From AWS's pages: one ``<file>.jsonl.out`` per input file and a
``manifest.json.out`` below ``<job id>/``, an ``error`` in place of ``modelOutput``. Recalled: the text of a job that
fails for too few records.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import random
from dataclasses import dataclass, field
from typing import Any

from tests.aws import shapes
from tests.batch.aws import answers
from tests.batch.aws.script import Script

ACCOUNT, REGION = "123456789012", "us-east-1"
OVER = ("Completed", "PartiallyCompleted", "Failed", "Stopped", "Expired")


class Refused(Exception):
    """The service says no: AWS's name of the error, and its words."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass
class Job:
    """One job. ``asked``: how often it was looked at."""

    arn: str
    request: dict[str, Any]
    script: Script
    submitted: datetime.datetime
    states: list[str]
    asked: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    done: int = 0
    failed: int = 0
    written: bool = False
    message: str = ""
    ended: datetime.datetime | None = None

    @property
    def name(self) -> str:
        """Its jobName."""
        return str(self.request["jobName"])

    @property
    def status(self) -> str:
        """What it says now."""
        return self.states[min(self.asked, len(self.states) - 1)]


class Jobs:
    """The jobs of the account. ``s3``: a boto3 client of the place where their files are."""

    def __init__(self, s3: Any) -> None:
        self.s3 = s3
        self.minimum = 100
        self.made: list[Job] = []
        self.scripts: list[Script] = []  # of the next jobs

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        """CreateModelInvocationJob. The same token with the same wish gives the same job."""
        shape = shapes.operation("bedrock", "CreateModelInvocationJob").input_shape
        wrong = list(shapes.problems(body, shape))
        if wrong:
            raise Refused("ValidationException", f"1 validation error detected: {wrong[0]}")
        token = body.get("clientRequestToken")
        for job in self.made:
            if token and job.request.get("clientRequestToken") == token:
                if job.request != body:
                    raise Refused("ConflictException", "The client request token was used with other parameters.")
                return {"jobArn": job.arn}
            if job.name == body["jobName"]:
                raise Refused("ConflictException", f"The job name {job.name} is already in use.")
        digest = hashlib.sha256(f"{body['jobName']}{token}".encode()).hexdigest()[:12]
        script = self.scripts.pop(0) if self.scripts else Script()
        now = datetime.datetime.now(datetime.UTC)
        job = Job(
            f"arn:aws:bedrock:{REGION}:{ACCOUNT}:model-invocation-job/{digest}", body, script, now, list(script.states)
        )
        self.made.append(job)
        return {"jobArn": job.arn}

    def find(self, ident: str) -> Job:
        """By id or ARN."""
        for job in self.made:
            if ident in (job.arn, job.arn.rpartition("/")[2]):
                return job
        raise Refused("ResourceNotFoundException", "The job was not found.")

    def get(self, ident: str) -> dict[str, Any]:
        """GetModelInvocationJob; every look brings the job on by one state."""
        job = self.find(ident)
        self._live(job)
        said = self._told(job)
        job.asked += 1
        return said

    def list(self, query: dict[str, str]) -> dict[str, Any]:
        """ListModelInvocationJobs, two on a page."""
        found = [self._told(job) for job in self.made if query.get("nameContains", "") in job.name]
        start = int(query.get("nextToken", "0"))
        page: dict[str, Any] = {"invocationJobSummaries": found[start : start + 2]}
        return page | ({"nextToken": str(start + 2)} if start + 2 < len(found) else {})

    def stop(self, ident: str) -> dict[str, Any]:
        """StopModelInvocationJob."""
        job = self.find(ident)
        if job.status in OVER:
            raise Refused("ConflictException", f"The job is {job.status} and cannot be stopped.")
        job.states, job.asked = ["Stopping", "Stopped"], 0
        return {}

    # --- what a job does ---------------------------------------------------------------------------------------------

    def _live(self, job: Job) -> None:
        if job.status == "Validating" and not job.records:
            self._validate(job)
        if job.status == "InProgress" and not job.records:
            self._validate(job)
        if job.status in ("Completed", "PartiallyCompleted", "Stopped") and not job.written:
            if not job.records:
                self._validate(job)
            self._write(job)
        if job.status in OVER and job.ended is None:
            job.ended = datetime.datetime.now(datetime.UTC)

    def _validate(self, job: Job) -> None:
        uri = job.request["inputDataConfig"]["s3InputDataConfig"]["s3Uri"]
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        wrong = "" if key.endswith(".jsonl") else "The input file must end in .jsonl."
        try:
            lines = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()
            job.records = [json.loads(raw) for raw in lines]
        except (ValueError, self.s3.exceptions.NoSuchKey):
            wrong = "The input cannot be read."
        if any(set(one) != {"recordId", "modelInput"} or not one["recordId"].isalnum() for one in job.records):
            wrong = "A record is not in the right format."
        if len(job.records) < self.minimum:
            wrong = (
                f"The batch job contains less records ({len(job.records)}) than the required minimum of: {self.minimum}"
            )
        if wrong:
            job.message, job.states, job.asked = wrong, ["Failed"], 0

    def _write(self, job: Job) -> None:
        """The output files of what was worked on, with what the script does to them."""
        job.written = True
        script, worked = job.script, job.records[: int(len(job.records) * job.script.finished)]
        out: list[dict[str, Any]] = []
        given = made = 0
        for index, one in enumerate(worked):
            said = {"recordId": one["recordId"], "modelInput": one["modelInput"]}
            try:
                if index in script.errors:
                    raise ValueError("bad request")
                answer = self._answer(job, one["modelInput"])
                said["modelOutput"] = answer
            except (ValueError, KeyError) as error:
                job.failed += 1
                said["error"] = {"errorCode": 400, "errorMessage": str(error)}
            out.append(said)
            usage = said.get("modelOutput", {}).get("usage", {})
            given += usage.get("inputTokens", 0)
            made += usage.get("outputTokens", 0)
        job.done = len(worked)
        counts = {
            "totalRecordCount": len(job.records),
            "processedRecordCount": job.done,
            "successRecordCount": job.done - job.failed,
            "errorRecordCount": job.failed,
            "inputTokenCount": given,
            "outputTokenCount": made,
        }
        out = out[script.missing :] + out[len(out) - script.double :][: script.double]
        out += [{**out[0], "recordId": f"STRANGER{number:03d}"} for number in range(script.unknown)]
        if script.shuffled:
            random.Random(7).shuffle(out)
        data = b"".join(map(answers.line, out))
        self._put(job, "lines.jsonl.out", data[: len(data) - script.cut] if script.cut else data)
        if script.manifest == "wrong":
            counts |= {"processedRecordCount": job.done + 5, "successRecordCount": job.done + 5}
        if script.manifest != "none":
            whole = json.dumps(counts).encode()
            self._put(job, "manifest.json.out", whole[:9] if script.manifest == "broken" else whole)

    def _answer(self, job: Job, body: dict[str, Any]) -> dict[str, Any]:
        if job.request.get("modelInvocationType") == "Converse":
            shape = shapes.operation("bedrock-runtime", "Converse").input_shape
            wrong = [said for said in shapes.problems(body, shape) if "modelId is missing" not in said]
            if wrong or "toolConfig" in body:
                raise ValueError(f"malformed request: {wrong[0] if wrong else 'toolConfig'}")
            return answers.converse(body)
        return answers.invoked(job.request["modelId"], body)

    def _put(self, job: Job, name: str, data: bytes) -> None:
        uri = job.request["outputDataConfig"]["s3OutputDataConfig"]["s3Uri"]
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        key = f"{prefix.rstrip('/')}/{job.arn.rpartition('/')[2]}/{name}"
        self.s3.put_object(Bucket=bucket, Key=key, Body=data)

    def _told(self, job: Job) -> dict[str, Any]:
        names = (
            "jobName",
            "modelId",
            "roleArn",
            "inputDataConfig",
            "outputDataConfig",
            "clientRequestToken",
            "modelInvocationType",
            "timeoutDurationInHours",
        )
        said = {name: job.request[name] for name in names if name in job.request}
        message = job.message or (job.script.message if job.status in OVER else "")
        begun = job.status not in ("Submitted", "Validating", "Scheduled", "Failed", "Expired")
        hours = datetime.timedelta(hours=job.request.get("timeoutDurationInHours", 24))
        said |= {
            "jobArn": job.arn,
            "status": job.status,
            "submitTime": _time(job.submitted),
            "lastModifiedTime": _time(job.submitted),
            "jobExpirationTime": _time(job.submitted + hours),
        }
        if begun:
            half = job.done if job.written else len(job.records) // 2
            said |= {
                "totalRecordCount": len(job.records),
                "processedRecordCount": half,
                "successRecordCount": half - job.failed,
                "errorRecordCount": job.failed,
            }
        if job.ended is not None:
            said["endTime"] = _time(job.ended)
        return said | ({"message": message} if message else {})


def _time(at: datetime.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
