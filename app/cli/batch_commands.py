"""`lab batch` and `lab worker`: a file is checked and submitted, its batch looked at and changed, its results
fetched."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast, get_args

from rich.table import Table
from sqlalchemy import Engine

from app.cli import batch_file, terminal
from app.cli.batch import Reading
from app.cli.batch_file import as_command, checked_file, handed_over, local, shown, utf8
from app.cli.terminal import console
from db import batch_queries, batches
from db.engine import database_url, reader
from db.migrate import upgrade
from services import formatting, paths
from services.batch import pauses, reconcile, stats, status, text, worker
from services.batch.estimate import Estimate
from services.batch.export import ENDINGS, Kind, write
from services.batch.reading_options import flags
from services.batch.service import BatchSpec
from services.batch.targets import Way, cheapest, cost_words, time_words, ways_to
from services.batch.types import Checked, RouteName, options_to_json
from services.client import EngineClient, EngineDown, EngineError
from services.engine_process.spawn import engine_for
from services.pricing.cost import money
from services.runs.record import usd
from services.types import Deployment


def work_until_stopped(data: Path, file: Path, *, as_json: bool) -> int:
    """Work until Ctrl-C or SIGTERM; the process ends with it. Exit code 4 when it could not begin."""

    def say(words: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(words), flush=True)
        elif "error" in words:
            print(words["error"], file=sys.stderr, flush=True)
        else:
            print(f"The worker {words['worker']} sends batches of {data}; stop it with Ctrl-C.", flush=True)

    worker.work(data, file, say=say)
    return 0


Row = dict[str, Any]

NANO = 1_000_000_000

POLL_S = 0.5

RECORDED_WITHIN_S = 30.0  # a large file is recorded for longer, and then it is said


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for beside the file. Money is dollars, ``objective`` seconds."""

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
    file: str, reading: Reading, deployment: str | None, *, as_json: bool, data: Path, deployments: Path, person: str
) -> int:
    """Print what was found, and with a deployment what it costs there. 0: all can be sent, 1: not all, 2: bad input."""
    try:
        found = checked_file(local(file, data), reading)
        ways = _ways(found, deployment, data, deployments, person) if deployment and found.n_valid else []
    except (ValueError, EngineError) as error:
        print(as_command(str(error)), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(_as_json(found, ways), default=str))
    else:
        _print(found, ways)
    return 0 if found.sendable and not found.n_faults else 1


def _ways(found: Checked, name: str, data: Path, file: Path, person: str) -> list[Way]:
    with engine_for(data, file, person=person, role="admin", embedded=False) as engine:
        return ways_to(database(data), found, [named(engine, name)])


def named(engine: EngineClient, name: str) -> Deployment:
    """The deployment of that id or name. Raises ValueError in words for none, or one that cannot be called."""
    known = engine.deployments()
    found = [one for one in known if one.deployment.id == name] or [one for one in known if one.deployment.name == name]
    if not found:
        raise ValueError(f"There is no deployment “{formatting.printable(name)}”; `lab deployments` lists them.")
    if not found[0].ready and found[0].needs:
        raise ValueError(f"{found[0].deployment.name} cannot be called: {found[0].needs}.")
    return found[0].deployment


def _as_json(found: Checked, ways: Sequence[Way]) -> dict[str, Any]:
    return {
        **{
            name: getattr(found, name)
            for name in (
                "sha256",
                "n_bytes",
                "format",
                "columns",
                "n_records",
                "n_valid",
                "n_blank",
                "n_faults",
                "chars_in",
                "longest",
                "max_tokens",
                "models",
                "sendable",
            )
        },
        "options": options_to_json(found.options),
        "refused": as_command(found.refused) if found.refused else None,
        "notices": [as_command(one) for one in found.notices],
        "faults": [asdict(fault) | {"text": as_command(fault.text)} for fault in found.faults],
        "choices": [choice.label for choice in found.choices],
        "estimates": [in_dollars(way.estimate.to_json()) for way in ways],
    }


def _print(found: Checked, ways: Sequence[Way]) -> None:
    if found.refused:
        print(shown(found.refused), file=sys.stderr)
        return
    said = [text.line(found), *found.notices]
    if found.n_faults:
        faults = "fault" if found.n_faults == 1 else "faults"
        more = f", the first {len(found.faults)}" if found.n_faults > len(found.faults) else ""
        said.append(f"{found.n_valid:,} of {found.n_records:,} lines can be sent; {found.n_faults:,} {faults}{more}:")
        said += [f"  {fault.text}" for fault in found.faults]
    for choice in found.choices:
        how = flags(found.options, choice.options)
        said.append(f"Or: {choice.label}{f' with {how}' if how else ''}")
    for way in ways:
        one = way.estimate
        jobs = f" · {one.n_jobs} jobs" if one.n_jobs > 1 else ""
        said.append(f"{text.route(one.route)}: {one.why_not or f'{cost_words(one)} · {time_words(one)}{jobs}'}")
    print("\n".join(map(shown, said)))


def submit_file(
    file: str,
    reading: Reading,
    wanted: Wanted,
    *,
    wait: bool,
    as_json: bool,
    data: Path,
    deployments: Path,
    person: str,
) -> int:
    """Check, submit, and with ``wait`` stay. 0: sent (waited: all answered), 1: not all answered, 2: not sent."""
    try:
        path = local(file, data)
        found = checked_file(path, reading)
        if not found.sendable:
            _print(found, ())
            if found.n_valid:
                print("Nothing was sent. Mend the file, or give --leave-out to send the valid lines.", file=sys.stderr)
            return 2
        alone = not _running(data)
        with engine_for(data, deployments, person=person, role="admin") as engine:
            spec = _spec(path, found, wanted, engine, data)
            handed_over(path, found.sha256, data)
            batch_id = engine.batches.submit(spec)
            return _after(batch_id, data, wait=wait or alone, alone=alone and not wait, as_json=as_json)
    except (ValueError, EngineError) as error:
        print(as_command(str(error)), file=sys.stderr)
        return 2


def _running(data: Path) -> bool:
    client = EngineClient(paths.socket_path(data))
    with contextlib.closing(client), contextlib.suppress(EngineDown):
        client.health()
        return True
    return False


def _spec(file: Path, found: Checked, wanted: Wanted, engine: EngineClient, data: Path) -> BatchSpec:
    deployment = named(engine, wanted.deployment)
    estimate = _chosen(ways_to(database(data), found, [deployment]), wanted.route)
    runner = estimate.route == "runner"
    _confirmed(found, wanted, estimate, data)
    return BatchSpec(
        deployment_id=deployment.id,
        sha256=found.sha256,
        file_name=utf8(file.name, "The name of the file"),
        route=estimate.route,
        options=found.options,
        name=utf8(wanted.name, "--name") or file.stem,
        budget_nanousd=round(wanted.budget * NANO) if wanted.budget else None,
        objective_ms=wanted.objective * 1000 if runner and wanted.objective else None,
        max_lanes=wanted.lanes if runner else None,
        per_minute=wanted.per_minute if runner else None,
        notify=tuple(utf8(one, "--notify") for one in wanted.notify),
        estimate=estimate.to_json(),
        again=wanted.again,
        over_budget=wanted.over_budget,
    )


def _confirmed(found: Checked, wanted: Wanted, estimate: Estimate, data: Path) -> None:
    """Raises ValueError in words, with the option that says yes, for what a person has to confirm."""
    before = batches.same_file(database(data), found.sha256)
    if before and not wanted.again:
        said = f"{text.ago(before[0]['created_at'])} as “{before[0]['name']}” ({before[0]['id']})"
        raise ValueError(f"This file was submitted {said}; give --again to send it again.")
    most = estimate.cost_high
    if wanted.budget and most is not None and most > wanted.budget * NANO and not wanted.over_budget:
        raise ValueError(f"It can cost up to {money(most)}, above the budget; give --over-budget to send it anyway.")


def _chosen(ways: Sequence[Way], route: str | None) -> Estimate:
    if route is not None:
        one = next((way.estimate for way in ways if way.estimate.route == cast(RouteName, route)), None)
        if one is None or one.why_not is not None:
            raise ValueError(one.why_not if one and one.why_not else f"{text.route(route)} is not there.")
        return one
    if not (open_ways := [way for way in ways if way.estimate.why_not is None]):
        raise ValueError(" ".join(dict.fromkeys(str(way.estimate.why_not) for way in ways)))
    return cheapest(open_ways).estimate


def _after(batch_id: str, data: Path, *, wait: bool, alone: bool, as_json: bool) -> int:
    read = database(data)
    if not as_json:
        print(f"Batch {batch_id} is on its way; `lab batch show {batch_id}` tells how it stands.", file=sys.stderr)
    if alone:
        print(
            "No lab runs on this data, so this stays until the batch is over; Ctrl-C leaves the rest to the next "
            "start of it.",
            file=sys.stderr,
        )
    row = _watched(read, batch_id) if wait else _recorded(read, batch_id) if as_json else batches.batch(read, batch_id)
    if row is None:
        print(f"Batch {batch_id} was deleted, so how it stands is not known any more.", file=sys.stderr)
        return 1 if wait else 0
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
    elif wait:
        print("\n".join(map(shown, in_words(read, row))))
    if not wait:
        return 0
    return 0 if batches.counts(read, batch_id).get("succeeded", 0) == row["n_lines"] else 1


def _watched(read: Engine, batch_id: str) -> Row | None:
    """The batch when it is over, with how far it is on a terminal meanwhile; None when it is deleted."""
    live, row = sys.stderr.isatty(), batches.batch(read, batch_id)
    while row is not None and not text.over(row):
        if live:
            sys.stderr.write(f"\r\x1b[K{_so_far(read, row)}")
            sys.stderr.flush()
        time.sleep(POLL_S)
        row = batches.batch(read, batch_id)
    if live:
        sys.stderr.write("\r\x1b[K")
    return row


def _so_far(read: Engine, row: Row) -> str:
    if status.recording(row):
        return "recording the lines"
    counts = batches.counts(read, row["id"])
    return f"{text.done(counts):,} of {row['n_lines']:,} · {text.by_state(counts)}"


def _recorded(read: Engine, batch_id: str) -> Row | None:
    """The batch when its lines are recorded, or as it stands after `RECORDED_WITHIN_S`."""
    until = time.monotonic() + RECORDED_WITHIN_S
    row = batches.batch(read, batch_id)
    while row is not None and status.recording(row) and time.monotonic() < until:
        time.sleep(POLL_S / 5)
        row = batches.batch(read, batch_id)
    return row


BatchRow = Mapping[str, Any]

MONEY = ("cost_", "plain_")  # what the names of nano-dollars in an estimate begin with


def database(data: Path) -> Engine:
    """The database of a data directory, as this version needs it, for reading."""
    paths.make_data(data)
    url = database_url(data)
    upgrade(url, data)
    return reader(url)


def meant(read: Engine, given: str, data: Path) -> dict[str, Any]:
    """The batch that is meant by an id, by its beginning or by a name. Raises ValueError in words for none and for
    several."""
    rows = batch_queries.called(read, given)
    if not rows:
        raise ValueError(f"There is no batch “{formatting.printable(given)}” in {data}; `lab batch list` lists them.")
    if len(rows) > 1:
        ids = ", ".join(f"{row['id']} of {row['created_at']:%Y-%m-%d %H:%M} UTC" for row in rows)
        raise ValueError(f"“{formatting.printable(given)}” may be each of these batches, so give its id: {ids}.")
    return rows[0]


def of_batch(read: Engine, row: BatchRow, *, whole: bool = True) -> dict[str, Any]:
    """A batch as one JSON object: its row, its lines by state, and its money in dollars. ``n_lines`` is null while its
    lines are being recorded. ``whole``: also how long it stood still, for which its calls are read."""
    counts, spent = batches.counts(read, row["id"]), batches.spent(read, row["id"])
    left_out, recording = ("deployment", "budget_nanousd"), status.recording(row)
    kept = {name: value for name, value in row.items() if name not in left_out}
    return kept | {
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
        "stands": status.stand(row, counts).words,
        "seconds": stats.duration(dict(row)),
        **({"paused_or_waiting_seconds": pauses.worked(read, row).still} if whole else {}),
        "jobs": batches.jobs(read, row["id"]),
    }


def in_dollars(estimate: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """An estimate whose money is US dollars as decimal strings, as everywhere in what a script reads (`record.usd`)."""
    if estimate is None:
        return None
    return {
        **{name: value for name, value in estimate.items() if not name.startswith(MONEY)},
        **{f"{name}_usd": usd(value) for name, value in estimate.items() if name.startswith(MONEY)},
    }


def list_batches(data: Path, *, limit: int, as_json: bool) -> int:
    """Print the newest batches."""
    read = database(data)
    rows = batches.batches(read, limit)
    if as_json:
        for row in rows:
            print(json.dumps(of_batch(read, row, whole=False), default=str))
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
                    str((row.get("deployment") or {}).get("name") or row["deployment_id"]),
                    text.route(row["route"]),
                    "–" if status.recording(row) else f"{row['n_lines']:,}",
                    status.stand(row, counts).words,
                    row["person"],
                ),
            )
        )
    out = console()
    out.print(table)
    out.print(f"{len(rows)} {'batch' if len(rows) == 1 else 'batches'} in {data}")
    return 0


def show_batch(data: Path, given: str, *, as_json: bool) -> int:
    """Print how a batch stands; the exit code is 2 when there is none."""
    read = database(data)
    try:
        row = meant(read, given, data)
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
        return 0
    for line in in_words(read, row):
        print(batch_file.shown(line))
    return 0


def in_words(read: Engine, row: BatchRow) -> Iterator[str]:
    """How a batch stands, in lines."""
    name = (row.get("deployment") or {}).get("name") or row["deployment_id"]
    yield f"{row['name']} · {row['file_name']} · {name} by {text.route(row['route'])} · {row['person']}"
    counts, spent = batches.counts(read, row["id"]), batches.spent(read, row["id"])
    told = status.last_sentence(row)
    yield f"{status.stand(row, counts).words}{f' · {told}' if told else ''}"
    if row["n_lines"]:
        many = f"{row['n_lines']:,} {'line' if row['n_lines'] == 1 else 'lines'}"
        yield f"{text.done(counts):,} of {many} · {text.by_state(counts) or 'none yet'}"
    budget = row.get("budget_nanousd")
    free = not spent and status.costs_nothing(row)
    mark = "≥" if spent is not None and batch_queries.bounded(read, row["id"]) else ""
    cost = money(spent, mark) if spent is not None else "not known"
    yield "free" if free else f"spent {cost}{f' of {money(budget)}' if budget else ''}"
    jobs = batches.jobs(read, row["id"])
    for job in jobs:
        state, at = job.get("vendor_state") or job["state"], job["vendor_id"] or "–"
        yield f"job {job['no']}: {job['n_lines']:,} {'line' if job['n_lines'] == 1 else 'lines'} · {state} · {at}"
    if text.over(row) and row["n_lines"]:
        yield from _at_the_end(read, row, str(name))
        if differing := status.differing(row, jobs, counts):
            yield differing
    if step := batch_file.next_step(row, counts):
        yield step


def _at_the_end(read: Engine, row: BatchRow, name: str) -> Iterator[str]:
    took = pauses.worked(read, row)
    if took.working is not None:
        still = f", and {text.span(took.still)} paused or waiting" if took.still else ""
        yield f"took {text.span(took.working)}{still}"
    account = reconcile.account(
        batches.each_line(read, row["id"]), name=name, n_recorded=row["n_lines"], n_left_out=row.get("n_left_out") or 0
    )
    yield account.sentence
    for group in status.together(account.groups):
        yield f"  {group.n:,} {group.state}: {group.text} ({reconcile.first_lines(group)})"


def write_results(data: Path, given: str, to: Path | None, kind: Kind | None, *, escape: bool, as_json: bool) -> int:
    """Write or print the results; the exit code is 0 when every line succeeded, 1 when one did not, 2 for none."""
    read = database(data)
    kind = kind or by_ending(to) or ("jsonl" if as_json else "csv")
    try:
        row = meant(read, given, data)
        if to is None and kind in ("parquet", "excel"):
            raise ValueError(f"{kind.capitalize()} is not printed: name a file with --to.")
        lines, columns = batches.each_line(read, row["id"]), row.get("columns") or ()
        with _opened(to) as target:
            written = write(lines, columns, kind, target, escape=escape, n=row["n_lines"])
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    for note in written.notes:
        print(formatting.printable(note), file=sys.stderr)
    counts = batches.counts(read, row["id"])
    if to is not None:
        many = f"{written.n:,} {'line is' if written.n == 1 else 'lines are'}"
        print(f"{many} in {to} ({text.by_state(counts)}).", file=sys.stderr)
    if not text.over(row):
        print("The batch is not over: lines without an answer are in it too.", file=sys.stderr)
    return 0 if counts.get("succeeded", 0) == row["n_lines"] else 1


@contextmanager
def _opened(to: Path | None) -> Iterator[BinaryIO]:
    """The file, or standard output. Raises ValueError in words where it takes nothing (any more)."""
    try:
        if to is None:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        else:
            with to.open("wb") as target:
                status = os.fstat(target.fileno())
                if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                    os.fchmod(target.fileno(), 0o600)  # a file that was there may have been open to others
                yield target
    except BrokenPipeError:
        raise  # nobody reads any more, which is no trouble
    except OSError as error:
        if to is None:
            terminal.unheard(error)
        what = f"{to} cannot be written" if to else "The results cannot be printed"
        raise ValueError(f"{what} ({error.strerror}): they are kept here, name another file with --to.") from None


def by_ending(to: Path | None) -> Kind | None:
    """The kind that a file's ending asks for."""
    ending = to.suffix.lstrip(".").lower() if to is not None else ""
    return next((kind for kind in get_args(Kind) if ending == ENDINGS[kind]), None)


def act(
    action: str, given: str, *, as_json: bool, data: Path, file: Path, person: str, budget: float | None = None
) -> int:
    """Pause, resume, cancel or send again what has no answer; 2 with the engine's sentence when it refuses."""
    read = database(data)
    try:
        batch_id = str(meant(read, given, data)["id"])
        with engine_for(data, file, person=person, role="admin") as engine:
            more = {"budget_nanousd": round(budget * NANO)} if budget else {}
            made = getattr(engine.batches, action)(batch_id, **more)
        row = meant(read, str(made or batch_id), data)
    except (ValueError, EngineError) as error:
        print(str(error), file=sys.stderr)
        return 2
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
    elif made:
        print(f"Its lines without an answer are batch {made}.")
    else:
        print(formatting.printable(f"{row['name']}: {status.stand(row, batches.counts(read, row['id'])).words}"))
    return 0
