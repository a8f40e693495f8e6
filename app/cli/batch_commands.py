"""`lab batch` and `lab worker`: a file is checked and submitted, its batch looked at and changed, its results
fetched."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypedDict, TypeVar, get_args

from rich.table import Table
from sqlalchemy import Engine

from app.cli import terminal
from app.cli.database import open_database
from app.cli.options import ReadingOptions, name_value_pairs
from app.cli.terminal import console
from db import batch_queries, batches
from db.batch_rows import BatchRow, EstimateJson, OptionsJson
from services import formatting, params, paths
from services.batch import reconcile, stats, text, worker
from services.batch.estimate import Estimate, Way, cheapest, cost_words, time_words, ways_to
from services.batch.export import ENDINGS, Kind, write
from services.batch.files import check_settled, spool
from services.batch.ingest import CHANGED
from services.batch.service import BatchSpec
from services.batch.types import (
    Checked,
    Fault,
    Format,
    Options,
    Progress,
    options_to_json,
)
from services.client import EngineClient, EngineDown, EngineError
from services.engine_process.spawn import engine_for
from services.formatting import NANODOLLARS
from services.paths import regular
from services.pricing.cost import money
from services.runs.record import usd
from services.types import Deployment, Json

POLL_S = 0.5
RECORDED_WITHIN_S = 30.0  # a large file is recorded for longer, and then it is said
MONEY = ("cost_", "plain_")  # what the names of nano-dollars in an estimate begin with


def work_until_stopped(data: Path, file: Path, *, as_json: bool) -> int:
    """Work until Ctrl-C or SIGTERM; the process ends with it. Exit code 4 when it could not begin."""

    def say(notice: worker.WorkerNotice) -> None:
        if as_json:
            print(json.dumps(notice), flush=True)
        elif "error" in notice:
            print(notice["error"], file=sys.stderr, flush=True)
        else:
            print(f"The worker {notice['worker']} sends batches of {data}; stop it with Ctrl-C.", flush=True)

    worker.work(data, file, say=say)
    return 0


@dataclass(frozen=True, slots=True)
class Submission:
    """What the options say beside the file. Money is dollars, ``objective`` seconds."""

    deployment: str
    route: str | None
    name: str
    budget: float | None
    lanes: int | None
    per_minute: int | None
    objective: float | None
    notify: Sequence[str]
    again: bool
    over_budget: bool


def check_file(
    file: str,
    reading: ReadingOptions,
    deployment: str | None,
    *,
    as_json: bool,
    data: Path,
    deployments: Path,
    person: str,
) -> int:
    """Print what was found, and with a deployment what it costs there. 0: all can be sent, 1: not all, 2: bad input."""
    try:
        checked = check_with_progress(local_path(file, data), reading)
        ways = _ways_of(checked, deployment, data, deployments, person) if deployment and checked.n_valid else []
    except (ValueError, EngineError) as error:
        print(in_command_words(str(error)), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(_check_as_json(checked, ways), default=str))
    else:
        _print_check(checked, ways)
    return 0 if checked.sendable and not checked.n_faults else 1


def _ways_of(checked: Checked, name: str, data: Path, file: Path, person: str) -> list[Way]:
    with engine_for(data, file, person=person, role="admin", embedded=False) as engine:
        return ways_to(open_database(data), checked, [deployment_called(engine, name)])


def deployment_called(engine: EngineClient, name: str) -> Deployment:
    """The deployment of that id or name. Raises ValueError in words for none, or one that cannot be called."""
    deployments = engine.deployments()
    matching = [status for status in deployments if status.deployment.id == name] or [
        status for status in deployments if status.deployment.name == name
    ]
    if not matching:
        raise ValueError(f"There is no deployment “{formatting.printable(name)}”; `lab deployments` lists them.")
    if not matching[0].ready and matching[0].needs:
        raise ValueError(f"{matching[0].deployment.name} cannot be called: {matching[0].needs}.")
    return matching[0].deployment


class FaultJson(TypedDict):
    """A fault as a script reads it (`services.batch.types.Fault`)."""

    line: int | None
    code: str
    text: str
    field: str
    found: str
    record: int | None


class CheckJson(TypedDict):
    """What `lab batch check --json` prints (`services.batch.types.Checked`)."""

    sha256: str
    n_bytes: int
    format: Format | None
    columns: Sequence[str]
    n_records: int
    n_valid: int
    n_blank: int
    n_faults: int
    chars_in: int
    longest: int
    max_tokens: int | None
    models: Mapping[str, int]
    sendable: bool
    options: OptionsJson
    refused: str | None
    notices: list[str]
    faults: list[FaultJson]
    choices: list[str]
    estimates: list[Json | None]


def _fault_as_json(fault: Fault) -> FaultJson:
    return {
        "line": fault.line,
        "code": fault.code,
        "text": in_command_words(fault.text),
        "field": fault.field,
        "found": fault.found,
        "record": fault.record,
    }


def _check_as_json(checked: Checked, ways: Sequence[Way]) -> CheckJson:
    return {
        "sha256": checked.sha256,
        "n_bytes": checked.n_bytes,
        "format": checked.format,
        "columns": checked.columns,
        "n_records": checked.n_records,
        "n_valid": checked.n_valid,
        "n_blank": checked.n_blank,
        "n_faults": checked.n_faults,
        "chars_in": checked.chars_in,
        "longest": checked.longest,
        "max_tokens": checked.max_tokens,
        "models": checked.models,
        "sendable": checked.sendable,
        "options": options_to_json(checked.options),
        "refused": in_command_words(checked.refused) if checked.refused else None,
        "notices": [in_command_words(notice) for notice in checked.notices],
        "faults": [_fault_as_json(fault) for fault in checked.faults],
        "choices": [choice.label for choice in checked.choices],
        "estimates": [in_dollars(way.estimate.to_json()) for way in ways],
    }


def _print_check(checked: Checked, ways: Sequence[Way]) -> None:
    if checked.refused:
        print(for_terminal(checked.refused), file=sys.stderr)
        return
    sentences = [text.line(checked), *checked.notices]
    if checked.n_faults:
        faults = f"{checked.n_faults:,} {'fault' if checked.n_faults == 1 else 'faults'}"
        first_only = f", the first {len(checked.faults)}" if checked.n_faults > len(checked.faults) else ""
        sentences.append(f"{checked.n_valid:,} of {checked.n_records:,} lines can be sent; {faults}{first_only}:")
        sentences += [f"  {fault.text}" for fault in checked.faults]
    for choice in checked.choices:
        how = flags(checked.options, choice.options)
        sentences.append(f"Or: {choice.label}{f' with {how}' if how else ''}")
    for way in ways:
        estimate = way.estimate
        jobs = f" · {estimate.n_jobs} jobs" if estimate.n_jobs > 1 else ""
        figures = estimate.why_not or f"{cost_words(estimate)} · {time_words(estimate)}{jobs}"
        sentences.append(f"{text.route(estimate.route)}: {figures}")
    print("\n".join(map(for_terminal, sentences)))


def submit_file(
    file: str,
    reading: ReadingOptions,
    submission: Submission,
    *,
    wait: bool,
    as_json: bool,
    data: Path,
    deployments: Path,
    person: str,
) -> int:
    """Check, submit, and with ``wait`` stay. 0: sent (waited: all answered), 1: not all answered, 2: not sent."""
    try:
        path = local_path(file, data)
        checked = check_with_progress(path, reading)
        if not checked.sendable:
            _print_check(checked, ())
            if checked.n_valid:
                print("Nothing was sent. Mend the file, or give --leave-out to send the valid lines.", file=sys.stderr)
            return 2
        alone = not _engine_runs(data)
        with engine_for(data, deployments, person=person, role="admin") as engine:
            spec = _batch_spec(path, checked, submission, engine, data)
            hand_over(path, checked.sha256, data)
            batch_id = engine.batches.submit(spec)
            return _report_submitted(batch_id, data, wait=wait or alone, alone=alone and not wait, as_json=as_json)
    except (ValueError, EngineError) as error:
        print(in_command_words(str(error)), file=sys.stderr)
        return 2


def _engine_runs(data: Path) -> bool:
    client = EngineClient(paths.socket_path(data))
    with contextlib.closing(client), contextlib.suppress(EngineDown):
        client.health()
        return True
    return False


def _batch_spec(file: Path, checked: Checked, submission: Submission, engine: EngineClient, data: Path) -> BatchSpec:
    deployment = deployment_called(engine, submission.deployment)
    estimate = _choose_route(ways_to(open_database(data), checked, [deployment]), submission.route)
    runner = estimate.route == "runner"
    _refuse_unconfirmed(checked, submission, estimate, data)
    return BatchSpec(
        deployment_id=deployment.id,
        sha256=checked.sha256,
        file_name=utf8(file.name, "The name of the file"),
        route=estimate.route,
        options=checked.options,
        name=utf8(submission.name, "--name") or file.stem,
        budget_nanousd=round(submission.budget * NANODOLLARS) if submission.budget else None,
        objective_ms=submission.objective * 1000 if runner and submission.objective else None,
        max_lanes=submission.lanes if runner else None,
        per_minute=submission.per_minute if runner else None,
        notify=tuple(utf8(target, "--notify") for target in submission.notify),
        estimate=estimate.to_json(),
        again=submission.again,
        over_budget=submission.over_budget,
    )


def _refuse_unconfirmed(checked: Checked, submission: Submission, estimate: Estimate, data: Path) -> None:
    """Raises ValueError in words, with the option that says yes, for what a person has to confirm."""
    earlier = batches.same_file(open_database(data), checked.sha256)
    if earlier and not submission.again:
        when = f"{text.ago(earlier[0]['created_at'])} as “{earlier[0]['name']}” ({earlier[0]['id']})"
        raise ValueError(f"This file was submitted {when}; give --again to send it again.")
    highest = estimate.cost_high
    if (
        submission.budget
        and highest is not None
        and highest > submission.budget * NANODOLLARS
        and not submission.over_budget
    ):
        raise ValueError(f"It can cost up to {money(highest)}, above the budget; give --over-budget to send it anyway.")


def _choose_route(ways: Sequence[Way], route: str | None) -> Estimate:
    if route is not None:
        estimate = next((way.estimate for way in ways if way.estimate.route == route), None)
        if estimate is None or estimate.why_not is not None:
            why_not = estimate.why_not if estimate is not None else None
            raise ValueError(why_not or f"{text.route(route)} is not there.")
        return estimate
    if not (open_ways := [way for way in ways if way.estimate.why_not is None]):
        raise ValueError(" ".join(dict.fromkeys(str(way.estimate.why_not) for way in ways)))
    return cheapest(open_ways).estimate


def _report_submitted(batch_id: str, data: Path, *, wait: bool, alone: bool, as_json: bool) -> int:
    read = open_database(data)
    if not as_json:
        print(f"Batch {batch_id} is on its way; `lab batch show {batch_id}` tells how it stands.", file=sys.stderr)
    if alone:
        print(
            "No lab runs on this data, so this stays until the batch is over; Ctrl-C leaves the rest to the next "
            "start of it.",
            file=sys.stderr,
        )
    if wait:
        row = _wait_until_over(read, batch_id)
    elif as_json:
        row = _wait_until_recorded(read, batch_id)
    else:
        row = batches.batch(read, batch_id)
    if row is None:
        print(f"Batch {batch_id} was deleted, so how it stands is not known any more.", file=sys.stderr)
        return 1 if wait else 0
    if as_json:
        print(json.dumps(batch_as_json(read, row), default=str))
    elif wait:
        print("\n".join(map(for_terminal, describe_batch(read, row))))
    if not wait:
        return 0
    return 0 if batches.counts(read, batch_id).get("succeeded", 0) == row["n_lines"] else 1


def _wait_until_over(read: Engine, batch_id: str) -> BatchRow | None:
    """The batch when it is over, with how far it is on a terminal meanwhile; None when it is deleted."""
    live, row = sys.stderr.isatty(), batches.batch(read, batch_id)
    while row is not None and not text.over(row):
        if live:
            sys.stderr.write(f"\r\x1b[K{_progress(read, row)}")
            sys.stderr.flush()
        time.sleep(POLL_S)
        row = batches.batch(read, batch_id)
    if live:
        sys.stderr.write("\r\x1b[K")
    return row


def _progress(read: Engine, row: BatchRow) -> str:
    if text.recording(row):
        return "recording the lines"
    counts = batches.counts(read, row["id"])
    return f"{text.done(counts):,} of {row['n_lines']:,} · {text.by_state(counts)}"


def _wait_until_recorded(read: Engine, batch_id: str) -> BatchRow | None:
    """The batch when its lines are recorded, or as it stands after `RECORDED_WITHIN_S`."""
    until = time.monotonic() + RECORDED_WITHIN_S
    row = batches.batch(read, batch_id)
    while row is not None and text.recording(row) and time.monotonic() < until:
        time.sleep(POLL_S / 5)
        row = batches.batch(read, batch_id)
    return row


def find_batch(read: Engine, reference: str, data: Path) -> BatchRow:
    """The batch of an id, of the beginning of one or of a name. Raises ValueError in words for none and for several."""
    rows, name = batch_queries.called(read, reference), formatting.printable(reference)
    if not rows:
        raise ValueError(f"There is no batch “{name}” in {data}; `lab batch list` lists them.")
    if len(rows) > 1:
        ids = ", ".join(f"{row['id']} of {row['created_at']:%Y-%m-%d %H:%M} UTC" for row in rows)
        raise ValueError(f"“{name}” may be each of these batches, so give its id: {ids}.")
    return rows[0]


def batch_as_json(read: Engine, row: BatchRow, *, pauses_too: bool = True) -> Json:
    """A batch as one JSON object: its row, its lines by state, and its money in dollars. ``n_lines`` is null while its
    lines are being recorded. ``pauses_too``: also how long it stood still, for which its calls are read."""
    counts, spent = batches.counts(read, row["id"]), batches.spent(read, row["id"])
    left_out, recording = ("deployment", "budget_nanousd"), text.recording(row)
    columns = {name: value for name, value in row.items() if name not in left_out}
    return columns | {
        "name_of_deployment": (row.get("deployment") or {}).get("name"),
        "budget_usd": usd(row.get("budget_nanousd")),
        "estimate": in_dollars(row.get("estimate")),
        "recording": recording,
        "n_lines": None if recording else row["n_lines"],
        "counts": counts,
        "done": text.done(counts),
        "spent_usd": usd(spent),
        "spent_is_lower_bound": spent is not None and batch_queries.bounded(read, row["id"]),
        "over": text.over(row),
        "stands": text.status_of(row, counts).words,
        "seconds": stats.duration(row),
        **({"paused_or_waiting_seconds": stats.worked(read, row).still} if pauses_too else {}),
        "jobs": batches.jobs(read, row["id"]),
    }


def in_dollars(estimate: EstimateJson | None) -> Json | None:
    """An estimate whose money is US dollars as decimal strings, as everywhere in what a script reads (`record.usd`)."""
    if estimate is None:
        return None
    return {
        **{name: value for name, value in estimate.items() if not name.startswith(MONEY)},
        **{
            f"{name}_usd": usd(value if isinstance(value, int) else None)
            for name, value in estimate.items()
            if name.startswith(MONEY)
        },
    }


def list_batches(data: Path, *, limit: int, as_json: bool) -> int:
    """Print the newest batches."""
    read = open_database(data)
    rows = batches.batches(read, limit)
    if as_json:
        for row in rows:
            print(json.dumps(batch_as_json(read, row, pauses_too=False), default=str))
        return 0
    table = Table(box=None, pad_edge=False, header_style="dim")
    for title in ("when (UTC)", "id", "name", "deployment", "by", "lines", "state", "person"):
        table.add_column(title, overflow="ellipsis", no_wrap=True)
    for row in rows:
        counts = batches.counts(read, row["id"]) if text.over(row) else {}
        table.add_row(
            *map(
                formatting.printable,
                (
                    row["created_at"].strftime("%Y-%m-%d %H:%M"),
                    row["id"],
                    str(row["name"]),
                    text.deployment_name(row),
                    text.route(row["route"]),
                    "–" if text.recording(row) else f"{row['n_lines']:,}",
                    text.status_of(row, counts).words,
                    row["person"],
                ),
            )
        )
    out = console()
    out.print(table)
    out.print(f"{len(rows)} {'batch' if len(rows) == 1 else 'batches'} in {data}")
    return 0


def show_batch(data: Path, reference: str, *, as_json: bool) -> int:
    """Print how a batch stands; the exit code is 2 when there is none."""
    read = open_database(data)
    try:
        row = find_batch(read, reference, data)
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(batch_as_json(read, row), default=str))
        return 0
    for line in describe_batch(read, row):
        print(for_terminal(line))
    return 0


def describe_batch(read: Engine, row: BatchRow) -> Iterator[str]:
    """How a batch stands, in lines."""
    name = text.deployment_name(row)
    yield f"{row['name']} · {row['file_name']} · {name} by {text.route(row['route'])} · {row['person']}"
    counts, spent = batches.counts(read, row["id"]), batches.spent(read, row["id"])
    explanation = text.last_sentence(row)
    yield f"{text.status_of(row, counts).words}{f' · {explanation}' if explanation else ''}"
    if row["n_lines"]:
        yield f"{text.done(counts):,} of {count_lines(row['n_lines'])} · {text.by_state(counts) or 'none yet'}"
    budget = row.get("budget_nanousd")
    free = not spent and text.costs_nothing(row)
    mark = "≥" if spent is not None and batch_queries.bounded(read, row["id"]) else ""
    cost = money(spent, mark) if spent is not None else "not known"
    yield "free" if free else f"spent {cost}{f' of {money(budget)}' if budget else ''}"
    jobs = batches.jobs(read, row["id"])
    for job in jobs:
        state, vendor_id = job.get("vendor_state") or job["state"], job["vendor_id"] or "–"
        yield f"job {job['no']}: {count_lines(job['n_lines'])} · {state} · {vendor_id}"
    if text.over(row) and row["n_lines"]:
        yield from _outcome(read, row, name)
        if differing := text.differing(row, jobs, counts):
            yield differing
    if step := next_step(row, counts):
        yield step


def _outcome(read: Engine, row: BatchRow, name: str) -> Iterator[str]:
    took = stats.worked(read, row)
    if took.working is not None:
        still = f", and {text.span(took.still)} paused or waiting" if took.still else ""
        yield f"took {text.span(took.working)}{still}"
    account = reconcile.account(
        batches.each_line(read, row["id"]), name=name, n_recorded=row["n_lines"], n_left_out=row.get("n_left_out") or 0
    )
    yield account.sentence
    for group in reconcile.together(account.groups):
        yield f"  {group.n:,} {group.state}: {group.text} ({reconcile.first_lines(group)})"


def write_results(
    data: Path, reference: str, to: Path | None, kind: Kind | None, *, escape: bool, as_json: bool
) -> int:
    """Write or print the results; the exit code is 0 when every line succeeded, 1 when one did not, 2 for none."""
    read = open_database(data)
    kind = kind or kind_by_ending(to) or ("jsonl" if as_json else "csv")
    try:
        row = find_batch(read, reference, data)
        if to is None and kind in ("parquet", "excel"):
            raise ValueError(f"{kind.capitalize()} is not printed: name a file with --to.")
        lines, columns = batches.each_line(read, row["id"]), row.get("columns") or ()
        with _open_target(to) as target:
            written = write(lines, columns, kind, target, escape=escape, n=row["n_lines"])
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    for note in written.notes:
        print(formatting.printable(note), file=sys.stderr)
    counts = batches.counts(read, row["id"])
    if to is not None:
        verb = "is" if written.n == 1 else "are"
        print(f"{count_lines(written.n)} {verb} in {to} ({text.by_state(counts)}).", file=sys.stderr)
    if not text.over(row):
        print("The batch is not over: lines without an answer are in it too.", file=sys.stderr)
    return 0 if counts.get("succeeded", 0) == row["n_lines"] else 1


@contextmanager
def _open_target(to: Path | None) -> Iterator[BinaryIO]:
    """The file, or standard output. Raises ValueError in words where it takes nothing (any more)."""
    try:
        if to is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with to.open("wb") as target:
                entry = os.fstat(target.fileno())
                if stat.S_ISREG(entry.st_mode) and entry.st_uid == os.geteuid():
                    os.fchmod(target.fileno(), 0o600)  # a file that was there may have been open to others
                yield target
    except BrokenPipeError:
        raise  # nobody reads any more, which is no trouble
    except OSError as error:
        if to is None:
            terminal.output_failed(error)
        refusal = f"{to} cannot be written" if to else "The results cannot be printed"
        raise ValueError(f"{refusal} ({error.strerror}): they are kept here, name another file with --to.") from None


def kind_by_ending(to: Path | None) -> Kind | None:
    """The kind that a file's ending asks for."""
    ending = to.suffix.lstrip(".").lower() if to is not None else ""
    return next((kind for kind in get_args(Kind) if ending == ENDINGS[kind]), None)


def act(
    action: str, reference: str, *, as_json: bool, data: Path, file: Path, person: str, budget: float | None = None
) -> int:
    """Pause, resume, cancel or send again what has no answer; 2 with the engine's sentence when it refuses."""
    read = open_database(data)
    try:
        batch_id = str(find_batch(read, reference, data)["id"])
        with engine_for(data, file, person=person, role="admin") as engine:
            options = {"budget_nanousd": round(budget * NANODOLLARS)} if budget else {}
            new_id = getattr(engine.batches, action)(batch_id, **options)
        row = find_batch(read, str(new_id or batch_id), data)
    except (ValueError, EngineError) as error:
        print(str(error), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(batch_as_json(read, row), default=str))
    elif new_id:
        print(f"Its lines without an answer are batch {new_id}.")
    else:
        print(formatting.printable(f"{row['name']}: {text.status_of(row, batches.counts(read, row['id'])).words}"))
    return 0


# --- the file that is named: how it is read, checked and handed over, in the words of a terminal ----------------------
T = TypeVar("T", str, str | None)
BLOCK = 1 << 20

# What the check of a file says for a person before a page → the same for one at a command line.
_COMMAND_WORDS = {
    "convert the file, or press “Read as Windows-1252”": "convert the file, or give --encoding cp1252",
    "or press “Make double ids different”": "or give --suffix-ids",
    "Choose the column of the ids.": "Name the column of the ids with --id-column.",
    "Choose the column that holds the prompt.": "Name the column that holds the prompt, as in --template '{{text}}'.",
    "or choose to send the": "or give --leave-out to send the",
    "set “Max output tokens” to bound": "give --param max_tokens=… to bound",
    "the deployment that you choose": "the deployment that you name",
}


def in_command_words(text: str) -> str:
    """A sentence of the page with what to type in place of what to press."""
    for page, command in _COMMAND_WORDS.items():
        text = text.replace(page, command)
    return text


def for_terminal(text: str) -> str:
    """The same, fit for a terminal."""
    return formatting.printable(in_command_words(text))


def next_step(row: BatchRow, counts: Mapping[str, int]) -> str | None:
    """The command that goes on with a batch that has stopped, or sends again what has no answer; None for none."""
    ident = row["id"]
    if row["state"] == "paused":
        dearer = " (with --budget for a larger one)" if row.get("budget_nanousd") else ""
        return f"`lab batch resume {ident}`{dearer} goes on, `lab batch cancel {ident}` ends it."
    unanswered = (row["n_lines"] or 0) - counts.get("succeeded", 0)
    if not text.over(row) or unanswered <= 0 or not counts:
        return None
    return f"`lab batch resend {ident}` sends the {count_lines(unanswered)} without an answer again."


def count_lines(n: int) -> str:
    """A number of lines with its noun: "1 line", "2,000 lines"."""
    return f"{n:,} {'line' if n == 1 else 'lines'}"


def file_options(reading: ReadingOptions) -> Options:
    """The options that the command line names. Raises ValueError in words."""
    for name in ("template", "system", "delimiter", "id_column", "sheet"):
        utf8(getattr(reading, name), f"--{name.replace('_', '-')}")
    pairs = [utf8(pair, "--param") for pair in reading.param or []]
    return Options(
        format=reading.format,
        encoding=reading.encoding,
        delimiter=reading.delimiter,
        id_column=reading.id_column,
        prompt=reading.template,
        system=reading.system,
        params=params.clean(name_value_pairs(pairs)),
        suffix_ids=reading.suffix_ids,
        sheet=reading.sheet,
        leave_out=reading.leave_out,
    )


def utf8(text: T, source: str) -> T:
    """A text that can be sent. Raises ValueError in words for bytes that are no UTF-8, which reach a program as lone
    surrogates."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{source} holds bytes that are no UTF-8: write it in UTF-8.") from None
    return text


def local_path(file: str, data: Path) -> Path:
    """Where a file lies on this machine; one in S3 is fetched first. Raises ValueError in words."""
    if not file.startswith("s3://"):
        try:
            return Path(file).expanduser().resolve()
        except (OSError, RuntimeError) as error:  # a link to itself, a person who is not there
            name, reason = formatting.printable(file), _reason(error)
            raise ValueError(f"{name} leads nowhere ({reason}); check the path.") from None
    from services.aws.control import AwsTrouble
    from services.batch.ingest import fetch

    try:
        return fetch(file, data / "uploads")
    except AwsTrouble as error:
        raise ValueError(str(error)) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error).rstrip(".")


def hand_over(file: Path, sha256: str, data: Path) -> None:
    """Put a file of one's own among the uploads: the engine reads no path that it is told. Raises ValueError in words
    for one that changed since it was checked."""

    def blocks() -> Iterator[bytes]:
        try:
            with regular(file) as stream:
                while block := stream.read(BLOCK):
                    yield block
        except OSError as error:
            raise ValueError(f"{formatting.printable(str(file))} cannot be read any more ({error.strerror}).") from None

    if file.parent == data / "uploads" / sha256:
        return  # fetched from S3 to where it has to be
    copy = spool(blocks(), data / "uploads", utf8(file.name, "The name of the file"))
    if copy.parent.name != sha256:
        raise ValueError(CHANGED)


def check_with_progress(file: Path, reading: ReadingOptions) -> Checked:
    """What a file holds, with progress on a terminal. Raises ValueError in words."""
    live, drawn_at = sys.stderr.isatty(), [0.0]

    def draw(progress: Progress) -> None:
        if live and time.monotonic() - drawn_at[0] > 0.1:
            drawn_at[0] = time.monotonic()
            share = progress.done_bytes / progress.all_bytes if progress.all_bytes else 0
            sys.stderr.write(f"\r\x1b[KReading every line: {progress.n_records:,} so far, {share:.0%}")
            sys.stderr.flush()

    checked = check_settled(file, file_options(reading), on_progress=draw)
    if live:
        sys.stderr.write("\r\x1b[K")
    return checked


FLAGS = {
    "format": "--format",
    "encoding": "--encoding",
    "delimiter": "--delimiter",
    "id_column": "--id-column",
    "prompt": "--template",
    "system": "--system",
    "sheet": "--sheet",
    "suffix_ids": "--suffix-ids",
    "leave_out": "--leave-out",
}


def flags(current: Options, other: Options) -> str | None:
    """The options of `lab batch` that turn one way of reading into another; None where it has none for that."""
    flag_list = []
    for name in Options.__slots__:
        value = getattr(other, name)
        if value == getattr(current, name):
            continue
        if name not in FLAGS or value is None:
            return None
        flag_list.append(FLAGS[name] if value is True else f"{FLAGS[name]} {shlex.quote(str(value))}")
    return " ".join(flag_list) or None
