"""SageMaker asynchronous inference: one invocation per line, queued at the endpoint, answered into S3.

There is no job at SageMaker. What stands for one is the ledger of what was sent (`sagemaker_async_ledger`), in a file
beside the batch's own: an invocation cannot be listed, so a restarted worker reads there what it need not send again. A
line that was on its way when the worker died is looked for by the name its answer would have, and sent again only when
there is none; the second answer then takes the place of the first.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from services.aws import control
from services.aws.explain import AwsTrouble, explained
from services.aws.explain import Place as Account
from services.batch.providers import aws, aws_check, aws_endpoints, aws_s3
from services.batch.providers import http as providers_http
from services.batch.providers.base import Place
from services.batch.providers.common import json_line, limits_of
from services.batch.providers.sagemaker_async_ledger import Ledger, Sent
from services.batch.providers.sagemaker_async_queue import CANCELLED, name_of, place_of, polled, results_of
from services.batch.providers.submit_journal import tag_of
from services.batch.types import (  # fmt: skip
    Job,
    Line,
    LineResult,
    Polled,
    RouteLimits,
    RouteName,
    SubmitLater,
    SubmitRefused,
    SubmitStopped,
    wire_id,
)
from services.deployments import config
from services.security.network import Forbidden
from services.types import Deployment

INLINE_BYTES = 128_000
QUEUE_S = 21_600  # SageMaker's most
WORK_S = 3_600  # SageMaker's most
AT_ONCE = 8
BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0)


class AsyncRoute:
    """Asynchronous endpoints of Amazon SageMaker."""

    name: RouteName = "async"
    title = "SageMaker asynchronous inference"
    counts = True

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to this service, in a sentence. Looks at the endpoint at most once a minute,
        and waits for that no longer than two seconds."""
        if deployment.kind != "sagemaker":
            return "Only models on SageMaker endpoints can be asked asynchronously."
        endpoint, trouble = aws_endpoints.known(deployment)
        if endpoint is None:
            return trouble
        return None if endpoint.answers else _not_asynchronous(deployment)

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold. Long lines go over S3, so without a place there only short ones can be sent."""
        usual = limits_of("sagemaker_async")
        return usual if aws.settings(deployment).batch_s3 else replace(usual, max_record_bytes=INLINE_BYTES)

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """The body of one invocation, with an end of line. Raises ValueError in words."""
        body = json_line(aws_endpoints.plain_body(deployment, line.ask))
        if len(body) > INLINE_BYTES and not aws.settings(deployment).batch_s3:
            raise ValueError(
                f"The request is {len(body):,} bytes long; above {INLINE_BYTES:,} it goes over S3: give the deployment "
                "a place there (batch_s3 in its AWS settings)."
            )
        return body

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail; what could not be found out begins with `aws.UNSURE`."""
        try:
            where = aws.place_of(deployment)
            endpoint = aws_endpoints.described(deployment) if deployment.kind == "sagemaker" else None
        except AwsTrouble as error:
            return [str(error)]
        if endpoint is None or not endpoint.answers:
            return [self.why_not(deployment) or _not_asynchronous(deployment)]
        found = [f"The endpoint {endpoint.name} is {endpoint.status}: it takes no calls."] * (
            endpoint.status not in ("InService", "Updating", "SystemUpdating", "RollingBack")
        )
        for place in dict.fromkeys(filter(None, (endpoint.answers, aws.settings(deployment).batch_s3))):
            found += aws_check.bucket(where, place)
        return found

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Send every line that the ledger does not have. What was sent before a `SubmitLater` stays in the ledger.

        When the person stops the batch in between, the job is what was sent until then.
        """
        if deployment.kind != "sagemaker":
            raise SubmitRefused("Only models on SageMaker endpoints can be asked asynchronously.")
        with aws.submitting():
            where = aws.place_of(deployment)
            endpoint = aws_endpoints.described(deployment)
            if not endpoint.answers:
                raise SubmitRefused(_not_asynchronous(deployment))
            url = _address(deployment)
            tag = tag_of(job.token)
            ledger = Ledger(place.folder / "jobs" / f"{job.no:04d}-{tag}.sent.jsonl")
            with ledger:
                sender = _Sender(deployment, where, endpoint.answers, tag, job, ledger, place)
                control.call("sagemaker-runtime", where, lambda client: sender.all(client, lines), endpoint=url)
        facts = {
            **job.facts, "ledger": str(ledger.path), "tag": tag, "wire": deployment.wire, "last_sent_at": time.time(),
            "answers": str(aws_s3.parsed(endpoint.answers).under(tag)),
            "queue_s": QUEUE_S, "work_s": WORK_S, "instance_type": endpoint.instance,
            "instance_count": endpoint.instances,
        }  # fmt: skip
        facts.setdefault("submitted_at", facts["last_sent_at"])
        return replace(job, vendor_id=f"{endpoint.name}/{tag}", facts=facts)

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How many of what was sent have an answer or a failure in S3."""
        with aws.asking():
            return polled(aws.place_of(deployment), job)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Only remembered: SageMaker cannot withdraw what is queued, and `poll` says so until all of it is answered.

        Lines whose request got no answer may be queued as well: they are looked for a while longer
        (`sagemaker_async_queue`).
        """
        path = Ledger.of(job)
        if path is not None and path.exists():
            path.with_suffix(CANCELLED).touch()

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """The answer or failure of every line that was sent, in the order of sending."""
        with aws.asking():
            yield from results_of(aws.place_of(deployment), job)


class _Sender:
    """Sends the lines of one job that its ledger does not have, a few at once."""

    def __init__(
        self, deployment: Deployment, where: Account, answers: str, tag: str, job: Job, ledger: Ledger, place: Place
    ) -> None:
        self._deployment, self._where, self._tag, self._job = deployment, where, tag, job
        self._ledger, self._place = ledger, place
        self._answers = aws_s3.parsed(answers).under(tag)
        self._refused: dict[int, AwsTrouble] = {}  # while it is not known whether others are taken
        self._route = AsyncRoute()

    def all(self, client: Any, lines: Iterable[Line]) -> None:
        """Send them. The first trouble that is not one line's own is raised when what is on its way has ended."""
        # Those that have an answer were taken, also when the batch is stopped before their turn comes.
        for no, taken in self._doubtful().items():
            self._ledger.add_sent(no, taken)
        stopped = False
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="async-inference") as threads:
            waiting: list[Future[None]] = []
            try:
                for line in lines:
                    if line.no in self._ledger.sent or line.no in self._ledger.refused:
                        continue
                    if len(waiting) >= AT_ONCE * 2:
                        waiting.pop(0).result()
                    if len(self._refused) >= AT_ONCE and not self._ledger.sent:
                        break  # it is not these lines
                    if stopped := self._place.stopped():
                        break
                    waiting.append(threads.submit(self._one, client, line, self._body(line)))
            finally:
                ended = [future.exception() for future in waiting]
        for error in ended:
            if error is not None:
                raise error
        if self._refused and not self._ledger.sent:
            raise next(iter(self._refused.values()))
        for no, why in self._refused.items():
            self._ledger.add_refused(no, str(why))
        if stopped:
            self._stop()

    def _stop(self) -> None:
        """The person stopped the batch: what was sent is a job all the same, and answered."""
        if not self._ledger.tried:
            raise SubmitStopped("Stopped by hand before a line was sent; nothing was submitted.")
        self._ledger.path.with_suffix(CANCELLED).touch()

    def _body(self, line: Line) -> bytes:
        try:
            return self._route.body(self._deployment, line).rstrip(b"\n")
        except ValueError as error:
            raise SubmitRefused(f"Line {line.no} cannot be sent. {error}") from error

    def _one(self, client: Any, line: Line, body: bytes) -> None:
        ident = wire_id(line.no)
        asks: dict[str, Any] = {
            "EndpointName": self._deployment.model.strip(), "ContentType": "application/json", "InferenceId": ident,
            "Accept": "application/json", "S3OutputPathExtension": self._tag, "Filename": name_of(line.no),
            "RequestTTLSeconds": QUEUE_S, "InvocationTimeoutSeconds": WORK_S,
        }  # fmt: skip
        if len(body) > INLINE_BYTES:
            base = aws_s3.parsed(aws.settings(self._deployment).batch_s3 or "")
            at = base.under(aws.job_name(self._job), "input", f"{ident}.json")
            aws_s3.put(self._where, at, body)
            asks["InputLocation"] = str(at)
        else:
            asks["Body"] = body
        doubt = line.no in self._ledger.doubtful  # of an earlier try; a no to this one says nothing of that
        self._ledger.add_try(line.no)
        try:
            row = self._asked(client, asks)
        except AwsTrouble as error:
            if error.what not in aws.NO_ANSWER and not doubt:
                self._ledger.add_free(line.no)
            if error.what not in ("denied", "not_found", "invalid"):
                raise
            if self._ledger.sent:  # of this line: others were taken
                self._ledger.add_refused(line.no, str(error))
            else:
                self._refused[line.no] = error
            return
        self._ledger.add_sent(line.no, Sent(str(row["OutputLocation"]), row.get("FailureLocation")))
        if len(self._ledger.sent) % 100 == 0:
            self._place.say(f"Sending to SageMaker: {len(self._ledger.sent):,} of {self._job.n_lines:,} lines.")

    def _asked(self, client: Any, asks: dict[str, Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        for wait_s in (*BACKOFF_S, None):
            try:
                return client.invoke_endpoint_async(**asks)
            except (BotoCoreError, ClientError) as error:
                trouble = explained(error, "sagemaker-runtime", self._where)
                if wait_s is None or trouble.what != "throttled" or self._place.stopped():
                    raise trouble from error
                time.sleep(wait_s)
        raise SubmitLater("SageMaker takes no more requests for now.")

    def _doubtful(self) -> dict[int, Sent]:
        """Lines that an earlier try began and that have an answer: where it is."""
        tried = self._ledger.doubtful
        if not tried:
            return {}
        there = {str(one.uri) for one in aws_s3.listed(self._where, self._answers)}
        places = {no: place_of(self._answers, no) for no in tried}
        return {no: Sent(place, None) for no, place in places.items() if place in there}


def _not_asynchronous(deployment: Deployment) -> str:
    return (
        f"The endpoint {deployment.model} answers at once: it was made without AsyncInferenceConfig, so that nothing "
        "can be left in its queue."
    )


def _address(deployment: Deployment) -> str | None:
    """Where invocations go: the deployment's own address, which signatures may be sent to. Raises `SubmitRefused`."""
    url = deployment.base_url.strip()
    try:
        providers_http.check(deployment, url)
    except Forbidden as error:
        raise SubmitRefused(str(error)) from error
    if not config.aws_host_allowed(deployment, url, providers_http.config()):
        raise SubmitRefused(f"{deployment.name} would send AWS signatures to a host that is not AWS's.")
    return url
