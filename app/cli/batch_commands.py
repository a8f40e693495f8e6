"""`lab batch check` and `lab batch submit`: a file is read, told about, and handed to the engine."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine

from app.cli.batch import Reading
from app.cli.batch_file import checked_file, handed_over, local, utf8
from app.cli.batch_results import database, in_dollars, in_words, of_batch
from app.cli.batch_text import as_command, shown
from db import batches as store
from services import formatting, paths
from services.batch import status, text
from services.batch.estimate import Estimate
from services.batch.reading_options import flags
from services.batch.submit import BatchSpec
from services.batch.targets import Way, cheapest, cost_words, time_words
from services.batch.targets import found as found_ways
from services.batch.types import Checked, RouteName, options_to_json
from services.client import EngineClient, EngineDown, EngineError
from services.engine.spawn import engine_for
from services.pricing.cost import money
from services.types import Deployment

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
) -> int:  # fmt: skip
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
        return found_ways(database(data), found, [named(engine, name)])


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
        **{name: getattr(found, name) for name in (
            "sha256", "n_bytes", "format", "columns", "n_records", "n_valid", "n_blank", "n_faults", "chars_in",
            "longest", "max_tokens", "models", "sendable",
        )},
        "options": options_to_json(found.options),
        "refused": as_command(found.refused) if found.refused else None,
        "notices": [as_command(one) for one in found.notices],
        "faults": [asdict(fault) | {"text": as_command(fault.text)} for fault in found.faults],
        "choices": [choice.label for choice in found.choices],
        "estimates": [in_dollars(way.estimate.to_json()) for way in ways],
    }  # fmt: skip


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
    file: str, reading: Reading, wanted: Wanted, *, wait: bool, as_json: bool, data: Path, deployments: Path,
    person: str,
) -> int:  # fmt: skip
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
    estimate = _chosen(found_ways(database(data), found, [deployment]), wanted.route)
    runner = estimate.route == "runner"
    _confirmed(found, wanted, estimate, data)
    return BatchSpec(
        deployment_id=deployment.id, sha256=found.sha256, file_name=utf8(file.name, "The name of the file"),
        route=estimate.route, options=found.options,
        name=utf8(wanted.name, "--name") or file.stem,
        budget_nanousd=round(wanted.budget * NANO) if wanted.budget else None,
        objective_ms=wanted.objective * 1000 if runner and wanted.objective else None,
        max_lanes=wanted.lanes if runner else None, per_minute=wanted.per_minute if runner else None,
        notify=tuple(utf8(one, "--notify") for one in wanted.notify), estimate=estimate.to_json(),
        again=wanted.again, over_budget=wanted.over_budget,
    )  # fmt: skip


def _confirmed(found: Checked, wanted: Wanted, estimate: Estimate, data: Path) -> None:
    """Raises ValueError in words, with the option that says yes, for what a person has to confirm."""
    before = store.same_file(database(data), found.sha256)
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
        print("No lab runs on this data, so this stays until the batch is over; Ctrl-C leaves the rest to the next "
              "start of it.", file=sys.stderr)  # fmt: skip
    row = _watched(read, batch_id) if wait else _recorded(read, batch_id) if as_json else store.batch(read, batch_id)
    if row is None:
        print(f"Batch {batch_id} was deleted, so how it stands is not known any more.", file=sys.stderr)
        return 1 if wait else 0
    if as_json:
        print(json.dumps(of_batch(read, row), default=str))
    elif wait:
        print("\n".join(map(shown, in_words(read, row))))
    if not wait:
        return 0
    return 0 if store.counts(read, batch_id).get("succeeded", 0) == row["n_lines"] else 1


def _watched(read: Engine, batch_id: str) -> Row | None:
    """The batch when it is over, with how far it is on a terminal meanwhile; None when it is deleted."""
    live, row = sys.stderr.isatty(), store.batch(read, batch_id)
    while row is not None and not text.over(row):
        if live:
            sys.stderr.write(f"\r\x1b[K{_so_far(read, row)}")
            sys.stderr.flush()
        time.sleep(POLL_S)
        row = store.batch(read, batch_id)
    if live:
        sys.stderr.write("\r\x1b[K")
    return row


def _so_far(read: Engine, row: Row) -> str:
    if status.recording(row):
        return "recording the lines"
    counts = store.counts(read, row["id"])
    return f"{text.done(counts):,} of {row['n_lines']:,} · {text.by_state(counts)}"


def _recorded(read: Engine, batch_id: str) -> Row | None:
    """The batch when its lines are recorded, or as it stands after `RECORDED_WITHIN_S`."""
    until = time.monotonic() + RECORDED_WITHIN_S
    row = store.batch(read, batch_id)
    while row is not None and status.recording(row) and time.monotonic() < until:
        time.sleep(POLL_S / 5)
        row = store.batch(read, batch_id)
    return row
