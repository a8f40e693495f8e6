"""SageMaker asynchronous inference: one invocation per line, queued at the endpoint, answered into S3.

There is no job at SageMaker. What stands for one is the ledger of what was sent (`Ledger`), in a file
beside the batch's own: an invocation cannot be listed, so a restarted worker reads there what it need not send again. A
line that was on its way when the worker died is looked for by the name its answer would have, and sent again only when
there is none; the second answer then takes the place of the first.

A batch that was cancelled can have lines of which it is not known whether SageMaker took them, because no answer came
to their request and they were not sent again. Their answers are looked for by the names that they would have, until
`DOUBT_S` after the last line that SageMaker is known to have was answered.

A record is ``{"no": 7}`` before a line is sent, ``{"no": 7, "out": "s3://…", "fail": "s3://…"}`` when SageMaker took
it, ``{"no": 7, "refused": "…"}`` when it did not, ``{"no": 7, "free": true}`` when it did not for now. A record that a
killed process left half written is no record.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, NamedTuple, Required, Self, TypedDict

import orjson

from db.batch_rows import JobFacts
from services.aws import control
from services.aws.control import AwsTrouble, explained
from services.aws.control import Place as Account
from services.batch.providers import aws
from services.batch.providers import http as providers_http
from services.batch.providers.common import clean, json_line, limits_of, not_run, tag_of
from services.batch.types import (
    BatchState,
    Job,
    Line,
    LineResult,
    Place,
    Polled,
    RouteLimits,
    RouteName,
    RouteTrouble,
    SubmitLater,
    SubmitRefused,
    SubmitStopped,
    wire_id,
)
from services.deployments import config
from services.providers.decoder import loads
from services.providers.usage import obj
from services.security.network import Forbidden
from services.types import Deployment, Json, JsonMapping

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
        endpoint, trouble = aws.known(deployment)
        if endpoint is None:
            return trouble
        return None if endpoint.answers else _not_asynchronous(deployment)

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold. Long lines go over S3, so without a place there only short ones can be sent."""
        usual = limits_of("sagemaker_async")
        return usual if aws.settings(deployment).batch_s3 else replace(usual, max_record_bytes=INLINE_BYTES)

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """The body of one invocation, with an end of line. Raises ValueError in words."""
        body = json_line(aws.plain_body(deployment, line.ask))
        if len(body) > INLINE_BYTES and not aws.settings(deployment).batch_s3:
            raise ValueError(
                f"The request is {len(body):,} bytes long; above {INLINE_BYTES:,} it goes over S3: give the deployment "
                "a place there (batch_s3 in its AWS settings)."
            )
        return body

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail; what could not be found out begins with `UNSURE`."""
        try:
            account = aws.place_of(deployment)
            endpoint = aws.described(deployment) if deployment.kind == "sagemaker" else None
        except AwsTrouble as error:
            return [str(error)]
        if endpoint is None or not endpoint.answers:
            return [self.why_not(deployment) or _not_asynchronous(deployment)]
        troubles = [f"The endpoint {endpoint.name} is {endpoint.status}: it takes no calls."] * (
            endpoint.status not in ("InService", "Updating", "SystemUpdating", "RollingBack")
        )
        for place in dict.fromkeys(filter(None, (endpoint.answers, aws.settings(deployment).batch_s3))):
            troubles += aws.bucket(account, place)
        return troubles

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Send every line that the ledger does not have. What was sent before a `SubmitLater` stays in the ledger.

        When the person stops the batch in between, the job is what was sent until then.
        """
        if deployment.kind != "sagemaker":
            raise SubmitRefused("Only models on SageMaker endpoints can be asked asynchronously.")
        with aws.submitting():
            account = aws.place_of(deployment)
            endpoint = aws.described(deployment)
            if not endpoint.answers:
                raise SubmitRefused(_not_asynchronous(deployment))
            url = _address(deployment)
            tag = tag_of(job.token)
            ledger = Ledger(place.folder / "jobs" / f"{job.no:04d}-{tag}.sent.jsonl")
            with ledger:
                sender = _Sender(deployment, account, endpoint.answers, tag, job, ledger, place)
                control.call("sagemaker-runtime", account, lambda client: sender.all(client, lines), endpoint=url)
        facts: JobFacts = {
            **job.facts,
            "ledger": str(ledger.path),
            "tag": tag,
            "wire": deployment.wire,
            "last_sent_at": time.time(),
            "answers": str(aws.parsed(endpoint.answers).under(tag)),
            "queue_s": QUEUE_S,
            "work_s": WORK_S,
            "instance_type": endpoint.instance,
            "instance_count": endpoint.instances,
        }
        facts.setdefault("submitted_at", facts["last_sent_at"])
        return replace(job, vendor_id=f"{endpoint.name}/{tag}", facts=facts)

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How many of what was sent have an answer or a failure in S3."""
        with aws.asking():
            return polled(aws.place_of(deployment), job)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Only remembered: SageMaker cannot withdraw what is queued, and `poll` says so until all of it is answered.

        Lines whose request got no answer may be queued as well: they are looked for a while longer (`DOUBT_S`).
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
        self, deployment: Deployment, account: Account, answers: str, tag: str, job: Job, ledger: Ledger, place: Place
    ) -> None:
        self._deployment, self._account, self._tag, self._job = deployment, account, tag, job
        self._ledger, self._place = ledger, place
        self._answers = aws.parsed(answers).under(tag)
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
                    waiting.append(threads.submit(self._send, client, line, self._body(line)))
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

    def _send(self, client: Any, line: Line, body: bytes) -> None:
        ident = wire_id(line.no)
        asks: Json = {
            "EndpointName": self._deployment.model.strip(),
            "ContentType": "application/json",
            "InferenceId": ident,
            "Accept": "application/json",
            "S3OutputPathExtension": self._tag,
            "Filename": name_of(line.no),
            "RequestTTLSeconds": QUEUE_S,
            "InvocationTimeoutSeconds": WORK_S,
        }
        if len(body) > INLINE_BYTES:
            base = aws.parsed(aws.settings(self._deployment).batch_s3 or "")
            uri = base.under(aws.job_name(self._job), "input", f"{ident}.json")
            aws.put(self._account, uri, body)
            asks["InputLocation"] = str(uri)
        else:
            asks["Body"] = body
        doubt = line.no in self._ledger.doubtful  # of an earlier try; a no to this one says nothing of that
        self._ledger.add_try(line.no)
        try:
            row = self._invoke(client, asks)
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

    def _invoke(self, client: Any, asks: Json) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        for wait_s in (*BACKOFF_S, None):
            try:
                return client.invoke_endpoint_async(**asks)
            except (BotoCoreError, ClientError) as error:
                trouble = explained(error, "sagemaker-runtime", self._account)
                if wait_s is None or trouble.what != "throttled" or self._place.stopped():
                    raise trouble from error
                time.sleep(wait_s)
        raise SubmitLater("SageMaker takes no more requests for now.")

    def _doubtful(self) -> dict[int, Sent]:
        """Lines that an earlier try began and that have an answer: where it is."""
        tried = self._ledger.doubtful
        if not tried:
            return {}
        there = {str(answer.uri) for answer in aws.listed(self._account, self._answers)}
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


CANCELLED = ".cancelled"

DOUBT_S = 600.0  # such a line stood in the queue among those that were sent with it

SPARE_S = 300.0  # after the last moment at which an answer could be written

READ_AT_ONCE = 16


def polled(account: Account, job: Job) -> Polled:
    """How many lines have an answer or a failure. Raises `AwsTrouble` and `RouteTrouble`."""
    ledger = _ledger(job)
    doubtful = _doubtful(job, ledger)
    there = _there(account, [*ledger.sent.values(), *doubtful.values()])
    n_found = sum(doubt.out in there for doubt in doubtful.values())
    answered = sum(sent.out in there for sent in ledger.sent.values()) + n_found
    failed = sum(sent.out not in there and sent.fail in there for sent in ledger.sent.values()) + len(ledger.refused)
    sent, doubts = len(ledger.sent) + len(ledger.refused) + n_found, len(doubtful) - n_found
    counts = {"total": job.n_lines, "processed": answered + failed, "succeeded": answered, "failed": failed}
    now, until = time.time(), _last_moment(job)
    n_waiting, late = sent - answered - failed, now > until
    cancelled = ledger.path.with_suffix(CANCELLED).exists()
    if n_waiting and not late:
        sentence = f"{n_waiting:,} of {sent:,} lines wait at the endpoint or are at work there."
        if cancelled:
            sentence += " SageMaker cannot withdraw what it has in its queue, so they are answered all the same."
        return Polled("cancelling" if cancelled else "running", "queued", sentence, False, False, counts, until)
    since = float(job.facts.get("answered_at") or now)
    if doubts and not n_waiting and now < since + DOUBT_S:
        sentence = f"{_of_doubt(doubts)} Answers to them are looked for until {clock(since + DOUBT_S)}."
        return Polled("cancelling", "queued", sentence, False, False, counts, None, {"answered_at": since})
    facts: JobFacts = {"ended_at": job.facts.get("ended_at") or now}
    if n_waiting:
        sentence = f"{n_waiting:,} of {sent:,} lines were not answered in the time that SageMaker keeps them."
        return Polled("expired", "expired", sentence, True, True, counts, None, facts)
    state: BatchState = "cancelled" if cancelled and sent < job.n_lines else "ended"
    sentence = f"{answered:,} lines were answered and {failed:,} failed."
    if doubts:
        sentence += (
            f" {_of_doubt(doubts)} No answer came within {DOUBT_S / 60:.0f} minutes: look below {_answers(job)} before "
            "they are sent again."
        )
    return Polled(state, "answered", sentence, True, True, counts, None, facts)


def _of_doubt(n: int) -> str:
    lines = "1 line" if n == 1 else f"{n:,} lines"
    return f"Whether SageMaker took {lines} is not known, because no answer came to the request."


def clock(unix_s: float) -> str:
    """Unix seconds as a time of day."""
    return f"{datetime.fromtimestamp(unix_s, UTC):%H:%M} UTC"


def name_of(no: int) -> str:
    """What the answer to a line is called."""
    return f"{wire_id(no)}.out"


def place_of(answers: aws.Uri, no: int) -> str:
    """Where the answer to a line comes, by what it was asked with."""
    return str(answers.under(name_of(no)))


def _answers(job: Job) -> str:
    return str(job.facts.get("answers") or "")


def _doubtful(job: Job, ledger: Ledger) -> dict[int, Sent]:
    """Where answers would be of lines of which it is not known whether they were taken."""
    if not _answers(job):
        return {}
    folder = aws.parsed(_answers(job))
    return {no: Sent(place_of(folder, no), None) for no in ledger.doubtful}


def results_of(account: Account, job: Job) -> Iterator[LineResult]:
    """The result of every line that was sent and has one; of the others that they expired, once they have."""
    ledger = _ledger(job)
    doubtful = _doubtful(job, ledger)
    there = _there(account, [*ledger.sent.values(), *doubtful.values()])
    sent_or_found = ledger.sent | {no: doubt for no, doubt in doubtful.items() if doubt.out in there}
    wire = str(job.facts.get("wire") or "chat")
    for no, why in ledger.refused.items():
        yield aws.failed(wire_id(no), {"message": clean(why)}, 400)
    late = time.time() > _last_moment(job)

    def read(s3: Any) -> Iterator[LineResult]:
        with ThreadPoolExecutor(READ_AT_ONCE, thread_name_prefix="async-answers") as threads:
            waiting: deque[Future[LineResult]] = deque()
            for no, sent in sent_or_found.items():
                if sent.out in there or sent.fail in there:
                    waiting.append(threads.submit(_line_result, s3, account, no, sent, sent.out in there, wire))
                elif late:
                    yield not_run(wire_id(no), "expired", "SageMaker did not answer this line in the time it keeps it.")
                while len(waiting) >= READ_AT_ONCE * 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    yield from control.call("s3", account, read)


def _line_result(s3: Any, account: Account, no: int, sent: Sent, answered: bool, wire: str) -> LineResult:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        data = aws.small(s3, aws.parsed(sent.out if answered else sent.fail or ""))
    except (BotoCoreError, ClientError, OSError) as error:
        raise explained(error, "s3", account) from error
    value = loads(data)
    if answered:
        if value is None:
            why = "The answer in S3 is no JSON: it was cut, or the container writes another form."
            return aws.unreadable(why, wire_id(no))
        return aws.contained(wire_id(no), wire, value)
    stated = value if isinstance(value, dict) else {"message": clean(data[:2000].decode("utf-8", "replace"))}
    return aws.failed(wire_id(no), stated, None)


def _there(account: Account, every: Iterable[Sent]) -> set[str | None]:
    """The S3 places, among those where answers and failures would come, that hold something."""
    expected = {place for sent in every for place in sent if place}
    folders = {place.rpartition("/")[0] for place in expected}
    uris: set[str | None] = set()
    for folder in sorted(folders):
        uris |= {str(entry.uri) for entry in aws.listed(account, aws.parsed(folder))} & expected
    return uris


def _ledger(job: Job) -> Ledger:
    path = Ledger.of(job)
    try:
        if path is None:
            raise FileNotFoundError("none is named")
        return Ledger(path).read()
    except OSError:
        raise RouteTrouble(
            f"The record of what was sent to SageMaker is not on this machine ({path or 'no file is named'}): let the "
            "worker go on that sent it, or give the machines one common data folder."
        ) from None


def _last_moment(job: Job) -> float:
    last = job.facts.get("last_sent_at")
    start = float(last) if isinstance(last, int | float) else time.time()
    return start + float(job.facts.get("queue_s") or 0) + float(job.facts.get("work_s") or 0) + SPARE_S


class Sent(NamedTuple):
    """Where a line's answer comes, and where what went wrong with it would; None: SageMaker has not said."""

    out: str
    fail: str | None


class LedgerRow(TypedDict, total=False):
    """One line of a ledger: a line of the batch is about to be sent, and what became of that. ``out``, ``fail``: where
    in S3 its answer or its failure will lie; ``refused``: why it was not taken; ``free``: it is as if never sent."""

    no: Required[int]
    out: str
    fail: str
    refused: str
    free: bool


class Ledger:
    """The ledger of one job. Open it with ``with`` to write; reading needs no more than `read`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sent: dict[int, Sent] = {}
        self.refused: dict[int, str] = {}
        self.tried: set[int] = set()
        self._lock = threading.Lock()
        self._file: IO[bytes] | None = None

    @staticmethod
    def of(job: Job) -> Path | None:
        """Where a job's ledger is, as its facts say."""
        name = job.facts.get("ledger")
        return Path(name) if isinstance(name, str) else None

    @property
    def doubtful(self) -> set[int]:
        """Lines that were on their way when the last try ended."""
        return self.tried - self.sent.keys() - self.refused.keys()

    def read(self) -> Self:
        """Take in what the file holds. Raises OSError when it cannot be read."""
        for raw in self.path.read_bytes().splitlines():
            if (row := _ledger_row(obj(loads(raw)))) is not None:
                self._take(row)
        return self

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        complete = not self.path.exists() or self.path.read_bytes()[-1:] in (b"", b"\n")
        if self.path.exists():
            self.read()
        self._file = self.path.open("ab")
        if not complete:
            self._file.write(b"\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def add_try(self, no: int) -> None:
        """A line is about to be sent."""
        self._add({"no": no})

    def add_sent(self, no: int, sent: Sent) -> None:
        """SageMaker took a line."""
        row: LedgerRow = {"no": no, "out": sent.out}
        if sent.fail:
            row["fail"] = sent.fail
        self._add(row)

    def add_refused(self, no: int, why: str) -> None:
        """SageMaker did not take a line."""
        self._add({"no": no, "refused": why})

    def add_free(self, no: int) -> None:
        """SageMaker said that it takes a line not now: it is as if it had never been sent."""
        self._add({"no": no, "free": True})

    def _add(self, row: LedgerRow) -> None:
        with self._lock:
            if self._file is None:
                raise RuntimeError("the ledger is not open")
            self._file.write(orjson.dumps(row) + b"\n")
            self._file.flush()
            self._take(row)

    def _take(self, row: LedgerRow) -> None:
        no = row["no"]
        self.tried.add(no)
        if row.get("free"):
            self.tried.discard(no)
        elif "out" in row:
            self.sent[no] = Sent(row["out"], row.get("fail"))
        elif "refused" in row:
            self.refused[no] = row["refused"]


def _ledger_row(value: JsonMapping) -> LedgerRow | None:
    """A line of a ledger as it was read; None for what is none."""
    no = value.get("no")
    if not isinstance(no, int):
        return None
    row: LedgerRow = {"no": no}
    if value.get("free") is True:
        row["free"] = True
    if isinstance(out := value.get("out"), str):
        row["out"] = out
    if isinstance(fail := value.get("fail"), str):
        row["fail"] = fail
    if isinstance(refused := value.get("refused"), str):
        row["refused"] = refused
    return row
