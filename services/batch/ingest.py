"""Recording a batch: its file is fetched, its lines are written to the database, and jobs of a service are cut.

Until the last line is recorded a batch has ``n_lines`` 0, and no worker touches it. After a crash the next start
continues with the first line that is missing.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine
from sqlmodel import Session

from db import batches, runs
from db.batch_rows import BatchChange, EstimateJson, LineRow, NewBatch, NewJob, NewLine
from db.writer import Writer
from services.aws import control
from services.aws.control import AwsTrouble, explained
from services.batch import files
from services.batch.files import Cancelled, spool
from services.batch.files.errors import plural
from services.batch.types import (
    Checked,
    Line,
    Progress,
    Record,
    Route,
    RouteLimits,
    RouteTrouble,
    ask_of_line,
    ask_to_json,
    options_of_json,
    options_to_json,
)
from services.pricing.cost import money
from services.runs.spec import new_id
from services.security.keys import scrub
from services.types import Deployment

log = logging.getLogger(__name__)

AT_ONCE = 1000  # lines in one transaction

BREATH_S = 0.005  # between two of them: the writer has others waiting

TELL_EVERY_S = 1.0

CHANGED = "The file changed since it was checked: check it again, then submit it."


class Dropped(Exception):
    """The batch was cancelled, or its recording is to be gone on with later."""


def store_file(source: Path, folder: Path, *, linked: bool) -> Path:
    """The file as ``folder/input.<ext>``, whole or not at all. ``linked``: it is ours and nobody changes it.

    Raises ValueError in words when the disk does not take it.
    """
    target = _target(source, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return target
        if linked:
            try:
                os.link(source, target)
            except OSError:  # another disk
                pass
            else:
                return target
        partial_file = folder / ".part"
        shutil.copyfile(source, partial_file)
        partial_file.replace(target)
    except OSError as error:
        raise _not_stored(source, error) from None
    return target


def _target(source: Path, folder: Path) -> Path:
    return folder / f"input{''.join(source.suffixes[-2:])[:16] or '.txt'}"


def _not_stored(source: Path, error: OSError) -> ValueError:
    return ValueError(f"{source.name} could not be stored ({error.strerror}); make room, then submit again.")


def stored_file(folder: Path) -> Path | None:
    """The file that `store_file` made; None where it never came to that."""
    return next(iter(sorted(folder.glob("input.*"))), None)


def refusal(checked: Checked) -> str | None:
    """Why the lines of a checked file cannot be sent as things stand, in a sentence; None when they can."""
    if checked.refused is not None:
        return checked.refused
    if checked.n_valid == 0:
        return checked.faults[0].text if checked.faults else "No line of this file can be sent."
    if not checked.sendable:
        first = f" The first: {checked.faults[0].text}" if checked.faults else ""
        return (
            f"{checked.n_faults:,} of {checked.n_records:,} lines cannot be sent: mend them, or choose to send the "
            f"{checked.n_valid:,} valid ones.{first}"
        )
    return None


ASK = "Resume to send it all the same, with a larger budget if you like, or cancel."


def above_budget(estimate: EstimateJson | None, budget_nanousd: int | None) -> str | None:
    """The sentence, without its end, when the most that it can cost is above the budget, or the least where nothing
    bounds it; None when it is not, or when nothing is known."""
    if budget_nanousd is None or estimate is None:
        return None
    cost_high, cost_low = estimate.get("cost_high"), estimate.get("cost_low")
    if cost_high is not None and cost_high > budget_nanousd:
        return f"This can cost up to {money(cost_high)}, which is above the budget of {money(budget_nanousd)}"
    if cost_high is None and cost_low is not None and cost_low > budget_nanousd:
        return f"This costs at least {money(cost_low)}, which is above the budget of {money(budget_nanousd)}"
    return None


def estimate_to_store(estimate: EstimateJson | None, *, confirmed: bool) -> EstimateJson | None:
    """An estimate as a batch keeps it, with the person's word on its budget."""
    values: EstimateJson = {} if estimate is None else {**estimate}
    values.pop("over_budget", None)
    if confirmed:
        values["over_budget"] = True
    return values or None


def budget_confirmed(estimate: EstimateJson | None) -> bool:
    """Whether the person has agreed to more than the budget."""
    return estimate is not None and estimate.get("over_budget", False)


class Recording:
    """Records the lines of batches; everything here blocks and is called in threads. ``estimate``: of a batch whose
    file was checked only now."""

    def __init__(
        self,
        writer: Writer,
        reader: Engine,
        stopped: Callable[[], bool],
        estimate: Callable[[NewBatch, Checked], EstimateJson | None],
    ) -> None:
        self._writer = writer
        self._reader = reader
        self._stopped = stopped
        self._estimate = estimate

    def record(self, batch: NewBatch, path: Path, *, checked: Checked | None) -> int:
        """Record every line of ``path``; returns how many there are. ``checked`` None: it is checked first.

        Raises ValueError in words for a file that cannot be sent, `Dropped` when there is no need to go on.
        """
        estimate: EstimateJson | None = None
        if checked is None:
            self._say(batch["id"], "The file is being checked.")
            checked = self._check(batch, path)
            estimate = self._estimate(batch, checked)
        last = batches.last_no(self._reader, batch["id"])
        told_at = time.monotonic()
        coming: Iterator[Record] = (record for record in files.records(path, checked.options) if record.no > last)
        n = last
        while portion := list(islice(coming, AT_ONCE)):
            self._go_on(batch["id"])
            self._writer.submit(partial(_insert, [_line(batch["id"], record) for record in portion])).result()
            n = portion[-1].no
            if time.monotonic() - told_at > TELL_EVERY_S:
                self._say(batch["id"], f"Recording: {n:,} of {checked.n_valid:,} lines.")
                told_at = time.monotonic()
            time.sleep(BREATH_S)
        if n == 0:
            raise ValueError("No line of this file can be sent.")
        self._writer.submit(partial(_complete, batch, n, checked, estimate)).result()
        return n

    def _check(self, batch: NewBatch, path: Path) -> Checked:
        options = options_of_json(batch["options"] or {})
        checked = files.check(path, options, file_name=batch["file_name"], stopped=self._stopped)
        if checked.sha256 and checked.sha256 != batch["file_sha256"]:
            raise ValueError(CHANGED)
        if (why := refusal(checked)) is not None:
            raise ValueError(why)
        return checked

    def _go_on(self, batch_id: str) -> None:
        if self._stopped():
            raise Dropped
        row = batches.batch(self._reader, batch_id)
        if row is None or row["wanted"] == "cancel" or row["state"] in batches.OVER:
            raise Dropped

    def _say(self, batch_id: str, sentence: str) -> None:
        self._writer.submit(partial(_say, batch_id, sentence)).result()

    def fail(self, batch_id: str, sentence: str) -> None:
        """The batch cannot be recorded, and so it is over."""
        self._writer.submit(partial(_fail, batch_id, scrub(sentence))).result()


def _line(batch_id: str, record: Record) -> NewLine:
    return {
        "batch_id": batch_id,
        "no": record.no,
        "line": record.line,
        "record_id": record.id,
        "state": "waiting",
        "attempts": 0,
        "request": ask_to_json(record.ask),
        "original": dict(record.original),
    }


def _insert(rows: list[NewLine], session: Session) -> None:
    batches.insert_lines(session=session, rows=rows)


def _say(batch_id: str, sentence: str, session: Session) -> None:
    batches.set_batch(session=session, batch_id=batch_id, said=sentence)


def _complete(batch: NewBatch, n: int, checked: Checked, estimate: EstimateJson | None, session: Session) -> None:
    """Every line is there. Of a file that was too large to be checked at the submit, the question of the budget is
    asked now: the batch waits, and whoever resumes it has answered."""
    values: BatchChange = {
        "n_lines": n,
        "n_left_out": max(0, checked.n_records - checked.n_valid),
        "columns": list(checked.columns),
        "options": options_to_json(checked.options),
        "said": None,
    }
    if estimate is not None:
        values["estimate"] = estimate
    batches.set_batch(session=session, batch_id=batch["id"], **values)
    runs.set_run_calls(session=session, run_id=batch["run_id"], n_calls=n)
    dear = above_budget(estimate, batch["budget_nanousd"])
    if dear is None or budget_confirmed(estimate):
        return
    sentence = f"Paused before the first line. {dear}. {ASK}"
    waits = partial(batches.move, session=session, batch_id=batch["id"], said=sentence)
    # One that was paused by hand meanwhile is paused for this reason too.
    _ = waits(states=["queued"], wanted="pause", state="paused") or waits(states=["paused"], while_wanted="pause")


def _fail(batch_id: str, sentence: str, session: Session) -> None:
    batches.end_batch(session=session, batch_id=batch_id, state="failed", said=sentence, left="failed")


def cut(
    batch_id: str, rows: Iterable[LineRow], route: Route, deployment: Deployment
) -> tuple[list[NewJob], list[tuple[int, str]]]:
    """The jobs as rows of their table, and the lines that the service cannot take, each with why.

    Raises ValueError in words where no division keeps to the limits (too few records, most often).
    """
    limits = _limits(route, deployment)
    numbers, sizes = array("q"), array("q")  # 16 bytes for each line
    refused: list[tuple[int, str]] = []
    for row in rows:
        try:
            n = len(route.body(deployment, Line(row["no"], ask_of_line(row))))
        except ValueError as error:
            refused.append((row["no"], scrub(str(error))))
            continue
        max_bytes = min(
            (limit for limit in (limits.max_record_bytes, limits.max_bytes) if limit is not None), default=n
        )
        if n > max_bytes:
            sentence = f"This line is {n:,} bytes long and {route.title} takes {max_bytes:,}: shorten it."
            refused.append((row["no"], sentence))
            continue
        numbers.append(row["no"])
        sizes.append(n)
    parts = split(len(sizes), sizes, limits)
    jobs: list[NewJob] = [
        {
            "batch_id": batch_id,
            "no": no,
            "token": f"lab-{new_id()}",
            "first_no": numbers[job.first_no - 1],
            "last_no": numbers[job.last_no - 1],
            "n_lines": job.n,
            "state": "waiting",
        }
        for no, job in enumerate(parts, 1)
    ]
    return jobs, refused


def _limits(route: Route, deployment: Deployment) -> RouteLimits:
    try:
        return route.limits(deployment, ask=True)
    except RouteTrouble:
        return route.limits(deployment)


class Part(NamedTuple):
    """One job: the records ``first_no`` to ``last_no``, which are ``n``, in ``n_bytes`` of its file."""

    first_no: int
    last_no: int
    n: int
    n_bytes: int


def split(n_records: int, sizes: Iterable[int], limits: RouteLimits) -> list[Part]:
    """The fewest jobs, in the order of the file, that keep to the limits; none for no records. ``sizes``: bytes of each
    record in the file that is uploaded, the end of its line included.

    A last job that would be below the service's minimum is filled up from the one before. Raises ValueError in words
    where no division keeps to the limits: one record that is too large, too few records.
    """
    record_sizes = array("q", sizes)  # 8 bytes for each record
    if len(record_sizes) != n_records:
        raise ValueError(f"{n_records:,} records were announced and {len(record_sizes):,} came; check the file again.")
    max_bytes = min((limit for limit in (limits.max_record_bytes, limits.max_bytes) if limit is not None), default=None)
    if max_bytes is not None:
        for no, size in enumerate(record_sizes, 1):
            if size > max_bytes:
                raise ValueError(
                    f"Record {no} is {megabytes(size)} as a request, and the service takes {megabytes(max_bytes)}. "
                    "Shorten it or leave it out."
                )
    starts = _starts(record_sizes, limits)
    parts = _parts(record_sizes, starts)
    if len(parts) > 1 and min(job.n for job in parts) < limits.min_records:
        parts = _filled_up(record_sizes, starts, limits)
    if parts and parts[-1].n < limits.min_records:
        raise ValueError(
            f"The service takes no job of fewer than {plural(limits.min_records, 'record')}; there "
            f"{'is' if n_records == 1 else 'are'} {n_records:,}."
        )
    return parts


def _starts(sizes: Sequence[int], limits: RouteLimits) -> list[int]:
    starts: list[int] = []
    n = n_bytes = 0
    for index, size in enumerate(sizes):
        full = limits.max_records is not None and n >= limits.max_records
        if not starts or full or (limits.max_bytes is not None and n_bytes + size > limits.max_bytes):
            starts.append(index)
            n = n_bytes = 0
        n += 1
        n_bytes += size
    return starts


def _parts(sizes: Sequence[int], starts: list[int]) -> list[Part]:
    ends = [*starts, len(sizes)][1:]
    return [Part(a + 1, b, b - a, sum(sizes[a:b])) for a, b in zip(starts, ends, strict=True)]


def _filled_up(sizes: Sequence[int], starts: list[int], limits: RouteLimits) -> list[Part]:
    """The same with the minimum taken from the back, job by job, as far forward as it has to go."""
    moved = list(starts)
    end = len(sizes)
    for place in range(len(moved) - 1, 0, -1):
        moved[place] = min(moved[place], end - limits.min_records)
        end = moved[place]
    parts = _parts(sizes, moved)
    allowed = all(
        job.n >= limits.min_records
        and (limits.max_records is None or job.n <= limits.max_records)
        and (limits.max_bytes is None or job.n_bytes <= limits.max_bytes)
        for job in parts
    )
    if not allowed:
        raise ValueError(
            f"The records cannot be divided into jobs of at least {limits.min_records:,} records and at most "
            f"{'any size' if limits.max_bytes is None else megabytes(limits.max_bytes)}; one job would be too "
            "small. Add records, or run them through the on-demand queue instead."
        )
    return parts


def megabytes(n: int) -> str:
    """Bytes as people read them, in powers of ten as the services' limits are."""
    if n < 1000:
        return plural(n, "byte")
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if n >= size:
            return f"{n / size:,.4g} {unit}"
    return f"{n / 1000:,.4g} kB"


CHUNK_BYTES = 1 << 20


def fetch(
    uri: str,
    folder: Path,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None,
    profile: str | None = None,
    region: str | None = None,
) -> Path:
    """The copy of ``s3://bucket/key`` in ``folder``/<its SHA-256>/. The credentials are those of this machine.

    Raises ValueError in words for an address that is none or a disk that does not take it, `AwsTrouble` for what AWS
    says, `Cancelled` once ``stopped`` is true.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key.strip("/"):
        raise ValueError(f"“{uri[:120]}” does not name a file in S3; it looks like s3://bucket/folder/file.csv.")

    account = control.place(profile, region)
    try:
        s3_object = control.call("s3", account, lambda s3: s3.get_object(Bucket=bucket, Key=key))
    except AwsTrouble as error:
        raise _named(uri, error) from error
    chunks = _watched(s3_object["Body"].iter_chunks(CHUNK_BYTES), int(s3_object["ContentLength"]), on_progress, stopped)
    try:
        return spool(chunks, folder, key.rpartition("/")[2])
    except (Cancelled, ValueError):
        raise
    except Exception as error:  # what breaks off while the bytes come is urllib3's or botocore's
        raise _named(uri, explained(error, "s3", account)) from error


def _named(uri: str, error: AwsTrouble) -> AwsTrouble:
    return AwsTrouble(error.what, f"{uri[:200]} was not fetched and nothing was sent. {error}")


def _watched(
    chunks: Iterable[bytes],
    n_bytes: int,
    on_progress: Callable[[Progress], None] | None,
    stopped: Callable[[], bool] | None,
) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        if stopped is not None and stopped():
            raise Cancelled("The copy was stopped; nothing was sent.")
        done += len(chunk)
        if on_progress is not None:
            on_progress(Progress(done, n_bytes, 0))
        yield chunk
