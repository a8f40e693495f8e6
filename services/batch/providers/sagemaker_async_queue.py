"""What has become of the lines that were left in an asynchronous endpoint's queue, as the objects in S3 tell it.

A batch that was cancelled can have lines of which it is not known whether SageMaker took them, because no answer came
to their request and they were not sent again. Their answers are looked for by the names that they would have, until
`DOUBT_S` after the last line that SageMaker is known to have was answered.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from services.aws import control
from services.aws.explain import Place as Account
from services.aws.explain import explained
from services.batch.providers import aws_answers, aws_s3
from services.batch.providers.base import RouteTrouble
from services.batch.providers.common import clean
from services.batch.providers.sagemaker_async_ledger import Ledger, Sent
from services.batch.providers.whole_answers import not_run
from services.batch.types import BatchState, Job, LineResult, Polled, wire_id
from services.providers.decoder import loads

CANCELLED = ".cancelled"
DOUBT_S = 600.0  # such a line stood in the queue among those that were sent with it
SPARE_S = 300.0  # after the last moment at which an answer could be written
AT_ONCE = 16


def polled(where: Account, job: Job) -> Polled:
    """How many lines have an answer or a failure. Raises `AwsTrouble` and `RouteTrouble`."""
    ledger = _ledger(job)
    doubtful = _doubtful(job, ledger)
    there = _there(where, [*ledger.sent.values(), *doubtful.values()])
    found = sum(one.out in there for one in doubtful.values())
    answered = sum(sent.out in there for sent in ledger.sent.values()) + found
    failed = sum(sent.out not in there and sent.fail in there for sent in ledger.sent.values()) + len(ledger.refused)
    sent, doubts = len(ledger.sent) + len(ledger.refused) + found, len(doubtful) - found
    counts = {"total": job.n_lines, "processed": answered + failed, "succeeded": answered, "failed": failed}
    now, until = time.time(), _last_moment(job)
    left, late = sent - answered - failed, now > until
    cancelled = ledger.path.with_suffix(CANCELLED).exists()
    if left and not late:
        said = f"{left:,} of {sent:,} lines wait at the endpoint or are at work there."
        if cancelled:
            said += " SageMaker cannot withdraw what it has in its queue, so they are answered all the same."
        return Polled("cancelling" if cancelled else "running", "queued", said, False, False, counts, until)
    since = float(job.facts.get("answered_at") or now)
    if doubts and not left and now < since + DOUBT_S:
        said = f"{_of_doubt(doubts)} Answers to them are looked for until {clock(since + DOUBT_S)}."
        return Polled("cancelling", "queued", said, False, False, counts, None, {"answered_at": since})
    facts = {"ended_at": job.facts.get("ended_at") or now}
    if left:
        said = f"{left:,} of {sent:,} lines were not answered in the time that SageMaker keeps them."
        return Polled("expired", "expired", said, True, True, counts, None, facts)
    state: BatchState = "cancelled" if cancelled and sent < job.n_lines else "ended"
    said = f"{answered:,} lines were answered and {failed:,} failed."
    if doubts:
        said += (
            f" {_of_doubt(doubts)} No answer came within {DOUBT_S / 60:.0f} minutes: look below {_answers(job)} before "
            "they are sent again."
        )
    return Polled(state, "answered", said, True, True, counts, None, facts)


def _of_doubt(n: int) -> str:
    lines = "1 line" if n == 1 else f"{n:,} lines"
    return f"Whether SageMaker took {lines} is not known, because no answer came to the request."


def clock(at: float) -> str:
    """Unix seconds as a time of day."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M} UTC"


def name_of(no: int) -> str:
    """What the answer to a line is called."""
    return f"{wire_id(no)}.out"


def place_of(answers: aws_s3.Uri, no: int) -> str:
    """Where the answer to a line comes, by what it was asked with."""
    return str(answers.under(name_of(no)))


def _answers(job: Job) -> str:
    return str(job.facts.get("answers") or "")


def _doubtful(job: Job, ledger: Ledger) -> dict[int, Sent]:
    """Where answers would be of lines of which it is not known whether they were taken."""
    if not _answers(job):
        return {}
    folder = aws_s3.parsed(_answers(job))
    return {no: Sent(place_of(folder, no), None) for no in ledger.doubtful}


def results_of(where: Account, job: Job) -> Iterator[LineResult]:
    """The result of every line that was sent and has one; of the others that they expired, once they have."""
    ledger = _ledger(job)
    doubtful = _doubtful(job, ledger)
    there = _there(where, [*ledger.sent.values(), *doubtful.values()])
    sent_or_found = ledger.sent | {no: one for no, one in doubtful.items() if one.out in there}
    wire = str(job.facts.get("wire") or "chat")
    for no, why in ledger.refused.items():
        yield aws_answers.failed(wire_id(no), {"message": clean(why)}, 400)
    late = time.time() > _last_moment(job)

    def read(s3: Any) -> Iterator[LineResult]:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="async-answers") as threads:
            waiting: deque[Future[LineResult]] = deque()
            for no, sent in sent_or_found.items():
                if sent.out in there or sent.fail in there:
                    waiting.append(threads.submit(_one, s3, where, no, sent, sent.out in there, wire))
                elif late:
                    yield not_run(wire_id(no), "expired", "SageMaker did not answer this line in the time it keeps it.")
                while len(waiting) >= AT_ONCE * 2:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    yield from control.call("s3", where, read)


def _one(s3: Any, where: Account, no: int, sent: Sent, answered: bool, wire: str) -> LineResult:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        data = aws_s3.small(s3, aws_s3.parsed(sent.out if answered else sent.fail or ""))
    except (BotoCoreError, ClientError, OSError) as error:
        raise explained(error, "s3", where) from error
    value = loads(data)
    if answered:
        if value is None:
            why = "The answer in S3 is no JSON: it was cut, or the container writes another form."
            return aws_answers.unreadable(why, wire_id(no))
        return aws_answers.contained(wire_id(no), wire, value)
    said = value if isinstance(value, dict) else {"message": clean(data[:2000].decode("utf-8", "replace"))}
    return aws_answers.failed(wire_id(no), said, None)


def _there(where: Account, every: Iterable[Sent]) -> set[str | None]:
    """The S3 places, among those where answers and failures would come, that hold something."""
    expected = {place for sent in every for place in sent if place}
    folders = {place.rpartition("/")[0] for place in expected}
    found: set[str | None] = set()
    for folder in sorted(folders):
        found |= {str(one.uri) for one in aws_s3.listed(where, aws_s3.parsed(folder))} & expected
    return found


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
