"""`lab batch`: its commands and their options; what they do is in `batch_commands`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter, validators

from app.cli.options import DataOption, FileOption, Flag, JsonOption, ReadingOptions, Values, local_user
from services import paths
from services.batch.types import MOST_LANES, MOST_NANOUSD, MOST_PER_MINUTE, RouteName

batch = App(name="batch", help="Send a file of prompts and get one answer for each line.")
BatchId = Annotated[str, Parameter(help="The batch's id, the beginning of it, or its name where no other has it.")]
ResultsFormat = Literal["csv", "jsonl", "parquet", "excel"]
Lanes = Annotated[int | None, Parameter(validator=validators.Number(gte=1, lte=MOST_LANES))]
PerMinute = Annotated[int | None, Parameter(validator=validators.Number(gte=1, lte=MOST_PER_MINUTE))]
# What the engine takes: below a millionth of a dollar, or a millisecond, nothing can be kept to.
Dollars = Annotated[float | None, Parameter(validator=validators.Number(gte=0.000001, lte=MOST_NANOUSD // 10**9))]
Seconds = Annotated[float | None, Parameter(validator=validators.Number(gte=0.001, lte=3600))]
USUAL = ReadingOptions()


@batch.command
def check(
    file: str,
    *,
    deployment: Annotated[str | None, Parameter(name=["--deployment", "-d"])] = None,
    reading: ReadingOptions = USUAL,
    json: JsonOption = False,
    data: DataOption = None,
    deployments: FileOption = None,
) -> int:
    """Read every line of a file and say what cannot be sent. Exit code 0 when the whole file can be, else 1.

    Parameters
    ----------
    file
        CSV, TSV, JSONL, JSON, Parquet or Excel, here or at s3://bucket/key; also OpenAI's, Anthropic's and
        Bedrock's batch formats.
    deployment
        Say what it costs and takes there, by each route.
    """
    from app.cli.batch_commands import check_file

    return check_file(
        file,
        reading,
        deployment,
        as_json=json,
        data=paths.data_dir(data),
        deployments=paths.deployments_file(deployments),
        person=local_user(),
    )


@batch.command
def submit(
    file: str,
    *,
    deployment: Annotated[str, Parameter(name=["--deployment", "-d"])],
    route: RouteName | None = None,
    name: str = "",
    reading: ReadingOptions = USUAL,
    budget: Dollars = None,
    lanes: Lanes = None,
    per_minute: PerMinute = None,
    objective: Seconds = None,
    notify: Values = None,
    again: Flag = False,
    over_budget: Flag = False,
    wait: Flag = False,
    json: JsonOption = False,
    data: DataOption = None,
    deployments: FileOption = None,
) -> int:
    """Check a file and submit it. Exit code 0 when it is on its way (with --wait: when every line is answered).

    Parameters
    ----------
    file
        The file, as for `lab batch check`.
    deployment
        A deployment's name or id.
    route
        A batch service, or runner: our own, line by line. Without it the cheapest that takes the file.
    name
        What the batch is called; the file's name without it.
    budget
        US dollars. The estimate has to fit into it, and our own runner pauses before it is passed.
    lanes
        Most lines that our own runner has under way at once.
    per_minute
        Most lines that it sends in a minute.
    objective
        Seconds to the last token that it keeps 95 of 100 lines under.
    notify
        An ALERT_… variable of the server, told at the end; may be given again.
    again
        Although the same file was submitted before.
    over_budget
        Although the estimate is above the budget.
    wait
        Stay until the batch is over.
    """
    from app.cli.batch_commands import Submission, submit_file

    submission = Submission(
        deployment, route, name, budget, lanes, per_minute, objective, notify or [], again, over_budget
    )
    return submit_file(
        file,
        reading,
        submission,
        wait=wait,
        as_json=json,
        data=paths.data_dir(data),
        deployments=paths.deployments_file(deployments),
        person=local_user(),
    )


@batch.command(name="list")
def list_(
    *,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1_000_000))] = 20,
    json: JsonOption = False,
    data: DataOption = None,
) -> int:
    """List the batches, newest first.

    Parameters
    ----------
    limit
        How many batches to list.
    """
    from app.cli.batch_commands import list_batches

    return list_batches(paths.data_dir(data), limit=limit, as_json=json)


@batch.command
def show(id: BatchId, *, json: JsonOption = False, data: DataOption = None) -> int:
    """How a batch stands: its state, its lines by state, what it cost."""
    from app.cli.batch_commands import show_batch

    return show_batch(paths.data_dir(data), id, as_json=json)


@batch.command
def results(
    id: BatchId,
    *,
    to: Annotated[Path | None, Parameter(name=["--to", "-o"])] = None,
    kind: ResultsFormat | None = None,
    escape: bool = True,
    json: JsonOption = False,
    data: DataOption = None,
) -> int:
    """The results beside the file's own columns, in its order. Exit code 0 only if every line succeeded.

    Parameters
    ----------
    to
        The file to write; without it they are printed.
    kind
        What is written; by the ending of --to, else jsonl when printed with --json, else csv.
    escape
        In CSV and Excel, put an apostrophe before what a spreadsheet would take for a formula.
    """
    from app.cli.batch_commands import write_results

    return write_results(paths.data_dir(data), id, to, kind, escape=escape, as_json=json)


def _act(
    action: str, id: str, json: bool, data: Path | None, deployments: Path | None, budget: float | None = None
) -> int:
    from app.cli.batch_commands import act

    return act(
        action,
        id,
        as_json=json,
        data=paths.data_dir(data),
        file=paths.deployments_file(deployments),
        person=local_user(),
        budget=budget,
    )


@batch.command
def cancel(id: BatchId, *, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Stop a batch; what is answered is kept."""
    return _act("cancel", id, json, data, deployments)


@batch.command
def pause(id: BatchId, *, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Let the lines under way end and send no others (our own runner)."""
    return _act("pause", id, json, data, deployments)


@batch.command
def resume(
    id: BatchId,
    *,
    budget: Dollars = None,
    json: JsonOption = False,
    data: DataOption = None,
    deployments: FileOption = None,
) -> int:
    """Go on with a paused batch.

    Parameters
    ----------
    budget
        US dollars: the budget of the whole batch from now on, what was spent counted. Without it it stays.
    """
    return _act("resume", id, json, data, deployments, budget)


@batch.command
def resend(id: BatchId, *, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Send the lines without an answer again, as a batch of their own."""
    return _act("resend", id, json, data, deployments)
