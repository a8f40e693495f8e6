"""Bedrock batch inference: a JSONL file in S3 in, one line per record in S3 out, at about half the price.

One job is one file. Its name and its request token are made of the job's token, so a second try finds the first one's
job; the file is uploaded before, as a stream. Results are joined by ``recordId``, which is never left to Bedrock.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import chain
from typing import Any

from services.aws import control
from services.aws.explain import AwsTrouble
from services.aws.explain import Place as Account
from services.batch.providers import aws as providers_aws
from services.batch.providers import aws_check, aws_s3, bedrock_quotas
from services.batch.providers.aws_s3 import Flow, Uri
from services.batch.providers.base import Place
from services.batch.providers.bedrock_jobs import asked, polled, results_of
from services.batch.providers.common import STEP, halt, json_line, limits_of
from services.batch.types import Job, Line, LineResult, Polled, RouteLimits, RouteName, SubmitRefused, wire_id
from services.providers import kind_of
from services.providers.bedrock_models import underlying
from services.types import Deployment

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
            what = "a place in S3 for the files, and a role that Bedrock reads and writes them with"
            return f"{deployment.name} lacks {lacks} in its AWS settings: {what}."
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
            return bedrock_quotas.limits(usual, providers_aws.place_of(deployment), underlying(deployment))
        except AwsTrouble as error:
            return replace(usual, source=f"{usual.source}; the account's own quotas were not read: {error}")

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """One record with its end of line. Raises ValueError in words."""
        plain = providers_aws.for_batch(deployment)
        return json_line(
            {"recordId": wire_id(line.no), "modelInput": dict(kind_of(plain).request(plain, line.ask).body)}
        )

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail; what could not be found out begins with `aws.UNSURE`."""
        why = self.why_not(deployment)
        if why:
            return [why]
        aws = providers_aws.settings(deployment)
        try:
            where = providers_aws.place_of(deployment)
        except AwsTrouble as error:
            return [str(error)]
        owner, trouble = aws_check.account(where)
        if trouble and not trouble[0].startswith(providers_aws.UNSURE):
            return trouble
        role = aws_check.role(where, aws.batch_role or "", owner, PRINCIPAL)
        return [*trouble, *aws_check.bucket(where, aws.batch_s3 or ""), *role]

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Upload the file and make the job, or find the one that an earlier try made."""
        why = self.why_not(deployment)
        if why:
            raise SubmitRefused(why)
        limits = self.limits(deployment, ask=True)
        _fits(job, limits)
        with providers_aws.submitting():
            where = providers_aws.place_of(deployment)
            base = aws_s3.parsed(providers_aws.settings(deployment).batch_s3 or "").under(providers_aws.job_name(job))
            made = self._made(where, job)
            if made is None:
                halt(place, "the file was to be sent to S3", doubt=providers_aws.doubted(place, job).exists())
                self._upload(deployment, where, base, job, lines, place, limits)
                with providers_aws.creating(place, job):
                    made = self._create(deployment, where, base, job)
        facts = {
            **job.facts, "name": providers_aws.job_name(job), "input": str(base.under("input", "lines.jsonl")),
            "output": str(base.under("output")), "type": asked(deployment), "model": underlying(deployment),
        }  # fmt: skip
        return replace(job, vendor_id=made, facts=facts)

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How it stands, with Bedrock's own counts."""
        with providers_aws.asking():
            where = providers_aws.place_of(deployment)
            try:
                row = control.call("bedrock", where, lambda b: b.get_model_invocation_job(jobIdentifier=_id(job)))
            except AwsTrouble as error:
                # Other credentials may be in place for a while; only a job that nobody waits for any more is given up.
                if error.what == "not_found" and job.facts.get("cancel_asked"):
                    return providers_aws.unknown("Bedrock", _id(job), where)
                raise
            return polled(row)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask Bedrock to stop it; nothing happens to one that is over."""
        with providers_aws.asking():
            where = providers_aws.place_of(deployment)
            try:
                control.call("bedrock", where, lambda b: b.stop_model_invocation_job(jobIdentifier=_id(job)))
            except AwsTrouble as error:
                if error.what not in ("conflict", "invalid", "not_found"):
                    raise

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """Every line of every output file, as Bedrock wrote them."""
        with providers_aws.asking():
            yield from results_of(providers_aws.place_of(deployment), deployment, job, place)

    # --- submitting --------------------------------------------------------------------------------------------------

    def _made(self, where: Account, job: Job) -> str | None:
        """The ARN of the job of this name, if there is one."""
        name = providers_aws.job_name(job)

        def read(bedrock: Any) -> list[Any]:
            pages = bedrock.get_paginator("list_model_invocation_jobs").paginate(nameContains=name)
            return [row for page in pages for row in page.get("invocationJobSummaries", [])]

        found = [str(row["jobArn"]) for row in control.call("bedrock", where, read) if row.get("jobName") == name]
        return found[0] if found else None

    def _upload(
        self, deployment: Deployment, where: Account, base: Uri, job: Job, lines: Iterable[Line], place: Place,
        limits: RouteLimits,
    ) -> None:  # fmt: skip
        to = base.under("input", "lines.jsonl")
        marks = {"lab-lines": str(job.n_lines), "lab-asked": hashlib.sha256(repr(deployment).encode()).hexdigest()[:16]}
        if aws_s3.marks_of(where, to) == marks:
            return  # an earlier try has put it there, whole
        told, doubt = 0, providers_aws.doubted(place, job).exists()

        def watch(flow: Flow) -> None:
            nonlocal told
            halt(place, "the file was sent to S3", doubt=doubt)
            if limits.max_bytes is not None and flow.size > limits.max_bytes:
                raise SubmitRefused(
                    f"The file is larger than the {limits.max_bytes:,} bytes that one job may hold: split it into more "
                    "jobs."
                )
            if flow.size - told >= 8 * STEP:
                told = flow.size
                place.say(f"Sending the file to S3: {flow.lines:,} of {job.n_lines:,} lines.")

        flow = Flow((self._line(deployment, line) for line in lines), watch)
        # One byte is read before S3 is asked anything, so that a line that cannot be sent costs no upload.
        first = flow.read(1)
        rest = Flow(chain([first], iter(lambda: flow.read(aws_s3.CHUNK_BYTES), b"")), lambda _: None)
        aws_s3.upload(where, to, rest, marks)
        if flow.lines != job.n_lines:
            raise SubmitRefused(
                f"The job has {job.n_lines:,} lines and {flow.lines:,} were there to be sent: start anew."
            )

    def _line(self, deployment: Deployment, line: Line) -> bytes:
        try:
            return self.body(deployment, line)
        except ValueError as error:  # inside the upload boto3 would take it for a trouble of its own
            raise SubmitRefused(f"Line {line.no} cannot be sent. {error}") from error

    def _create(self, deployment: Deployment, where: Account, base: Uri, job: Job) -> str:
        asks = {
            "jobName": providers_aws.job_name(job), "clientRequestToken": providers_aws.request_token(job),
            "roleArn": providers_aws.settings(deployment).batch_role, "modelId": deployment.model.strip(),
            "modelInvocationType": asked(deployment), "timeoutDurationInHours": TIMEOUT_H,
            "inputDataConfig": {"s3InputDataConfig": {
                "s3InputFormat": "JSONL", "s3Uri": str(base.under("input", "lines.jsonl"))}},
            "outputDataConfig": {"s3OutputDataConfig": {"s3Uri": f"{base.under('output')}/"}},
        }  # fmt: skip
        try:
            return str(control.call("bedrock", where, lambda b: b.create_model_invocation_job(**asks))["jobArn"])
        except AwsTrouble as error:
            # The answer was lost, or a job of this name is there already: then it is the one that was made of it.
            if error.what in ("conflict", *providers_aws.NO_ANSWER):
                with suppress(AwsTrouble):
                    made = self._made(where, job)
                    if made is not None:
                        return made
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
