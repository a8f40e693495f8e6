"""What has become of the lines that were left in an asynchronous endpoint's queue, as the objects in S3 tell it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from services.aws import control
from services.aws.explain import Place as Account
from services.aws.explain import explained
from services.batch.model import BatchState, Job, LineResult, Polled, wire_id
from services.batch.routes import aws_answers, aws_s3
from services.batch.routes._common import clean
from services.batch.routes._whole import not_run
from services.batch.routes.aws_ledger import Ledger, Sent
from services.batch.routes.base import RouteTrouble
from services.providers.decoding import loads

CANCELLED = ".cancelled"
SPARE_S = 300.0  # after the last moment at which an answer could be written
AT_ONCE = 16


def polled(where: Account, job: Job) -> Polled:
    """How many lines have an answer or a failure. Raises `AwsTrouble` and `RouteTrouble`."""
    ledger = _ledger(job)
    there = _there(where, ledger)
    answered = sum(sent.out in there for sent in ledger.sent.values())
    failed = sum(sent.out not in there and sent.fail in there for sent in ledger.sent.values()) + len(ledger.refused)
    done, total = answered + failed, job.n_lines
    sent = len(ledger.sent) + len(ledger.refused)
    left = sent - done
    late = time.time() > _last_moment(job)
    cancelled = ledger.path.with_suffix(CANCELLED).exists()
    counts = {"total": total, "processed": done, "succeeded": answered, "failed": failed}
    expires = _last_moment(job)
    if left and not late:
        said = f"{left:,} of {sent:,} lines wait at the endpoint or are at work there."
        if cancelled:
            said += " SageMaker cannot withdraw what it has in its queue, so they are answered all the same."
        return Polled("cancelling" if cancelled else "running", "queued", said, False, False, counts, expires)
    facts = {"ended_at": job.facts.get("ended_at") or time.time()}
    if left:
        said = f"{left:,} of {sent:,} lines were not answered in the time that SageMaker keeps them."
        return Polled("expired", "expired", said, True, True, counts, None, facts)
    state: BatchState = "cancelled" if cancelled and sent < total else "ended"
    said = f"{answered:,} lines were answered and {failed:,} failed."
    return Polled(state, "answered", said, True, True, counts, None, facts)


def results_of(where: Account, job: Job) -> Iterator[LineResult]:
    """The result of every line that was sent and has one; of the others that they expired, once they have."""
    ledger = _ledger(job)
    there = _there(where, ledger)
    wire = str(job.facts.get("wire") or "chat")
    for no, why in ledger.refused.items():
        yield aws_answers.failed(wire_id(no), {"message": clean(why)}, 400)
    late = time.time() > _last_moment(job)

    def read(s3: Any) -> Iterator[LineResult]:
        with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="async-answers") as threads:
            waiting: deque[Future[LineResult]] = deque()
            for no, sent in ledger.sent.items():
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


def _there(where: Account, ledger: Ledger) -> set[str | None]:
    """The S3 places, among those where answers and failures would come, that hold something."""
    expected = {place for sent in ledger.sent.values() for place in sent if place}
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
