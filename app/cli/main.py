"""`lab`: the same services without a browser, for scripts and for checking us."""

from __future__ import annotations

import io
import logging
import os
import sys
import tomllib
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter, validators
from cyclopts.exceptions import CycloptsError

from app.cli import interrupt
from app.cli.batch import batch
from app.cli.options import DataOption, FileOption, Flag, JsonOption, PageOptions, Values, local_user
from db.permissions import private_files
from services import paths
from services.processes.output import write_whole
from services.types import CacheMode


def _version() -> str:
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return f"Inference Lab {project['version']}"


app = App(
    name="lab",
    help="Inference Lab: compare deployments of language models, measured where the bytes arrive.",
    version=_version,
    suppress_keyboard_interrupt=False,  # `main` says that it was stopped
)
app.command(batch)
NO_UTF8 = "Something that was given holds bytes that are no UTF-8, and nothing is called so: write it in UTF-8."


@app.command
def run(
    *,
    port: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65_535))] = 8501,
    address: str = "127.0.0.1",
    browser: bool = True,
    embedded: bool = True,
    data: DataOption = None,
    everyone_is_admin: Flag = False,
    deployments: FileOption = None,
) -> int:
    """Start the engine, the embedded model and the pages, and stay until stopped.

    Parameters
    ----------
    port
        The pages' port; the next free one is taken when it is in use.
    address
        The address to listen on; 0.0.0.0 opens the pages to the network, for which people have to sign in.
    browser
        Open a browser when the pages answer.
    embedded
        Start the local model too (LAB_EMBEDDED=0 in the environment says no to every command).
    everyone_is_admin
        Open the pages to a network although nobody has to sign in (also LAB_EVERYONE_IS_ADMIN=1): whoever reaches
        them is an administrator.
    """
    from app import launcher

    if not embedded:
        os.environ["LAB_EMBEDDED"] = "0"

    return launcher.run(
        port=port,
        address=address,
        data=paths.data_dir(data),
        file=paths.deployments_file(deployments),
        browser=browser,
        say=_say,
        everyone_is_admin=everyone_is_admin,
    )


@app.command
def send(
    prompt: Annotated[str, Parameter(allow_leading_hyphen=True)],
    *,
    deployment: Annotated[list[str], Parameter(name=["--deployment", "-d"], negative=(), consume_multiple=False)],
    system: str | None = None,
    param: Annotated[list[str] | None, Parameter(name="--param", negative=())] = None,
    repetitions: Annotated[int, Parameter(name=["--repetitions", "-k"])] = 1,
    cache: CacheMode | None = None,
    json: JsonOption = False,
    data: DataOption = None,
    deployments: FileOption = None,
) -> int:
    """Send one prompt to one or more deployments and stream the answers. Exit code 0 only if every call succeeded.

    Parameters
    ----------
    prompt
        The text to send; "-" reads it from standard input.
    deployment
        A deployment's name or id; give it again for a further column.
    system
        The system prompt.
    param
        A parameter as name=value, for instance --param max_tokens=100; may be given again. Without max_tokens an answer
        ends after 256 tokens, as on the Playground.
    repetitions
        How many times each deployment is asked.
    cache
        Prompt caching of every column; without it nothing is said and the service does what it does by itself.
    """
    from app.cli.send import send_prompt

    text = sys.stdin.read() if prompt == "-" else prompt
    # Bytes that are no UTF-8 reach a program as lone surrogates, which no service can be sent.
    text = text.encode("utf-8", "replace").decode()
    return send_prompt(
        text,
        deployment,
        system=system,
        pairs=param or [],
        repetitions=repetitions,
        cache=cache,
        as_json=json,
        data=paths.data_dir(data),
        file=paths.deployments_file(deployments),
        person=local_user(),
    )


@app.command
def runs(
    *,
    limit: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=1_000_000))] = 20,
    search: str | None = None,
    run: str | None = None,
    json: JsonOption = False,
    data: DataOption = None,
) -> int:
    """List recorded runs, newest first; with --run, the calls of one.

    Parameters
    ----------
    limit
        How many runs to list.
    search
        Only runs whose prompt or answers contain this text.
    run
        The id of one run: list its calls, with --json every figure of each.
    """
    from app.cli.lists import list_runs

    return list_runs(paths.data_dir(data), limit=limit, search=search, run_id=run, as_json=json)


@app.command
def deployments(
    *, test: bool = False, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None
) -> int:
    """List the deployments; with --test, call each one that is ready once.

    Parameters
    ----------
    test
        Make one cheap real call to each deployment that is ready.
    """
    from app.cli.lists import list_deployments

    return list_deployments(
        paths.data_dir(data), paths.deployments_file(deployments), test=test, as_json=json, person=local_user()
    )


@app.command
def history(
    *,
    range: str | None = None,
    from_: Annotated[str | None, Parameter(name="--from")] = None,
    to: str | None = None,
    zone: str | None = None,
    deployment: Values = None,
    kind: Values = None,
    model: Values = None,
    person: Values = None,
    team: Values = None,
    tag: Values = None,
    source: Values = None,
    cache: Values = None,
    url: str | None = None,
    page: PageOptions | None = None,
    json: JsonOption = False,
    data: DataOption = None,
    deployments: FileOption = None,
) -> int:
    """Latency, throughput and cost of the recorded calls; with --json every figure of the History page.

    Each filter may be given again; the words of the page's address are understood too.

    Parameters
    ----------
    range
        1h, 24h, 7d (usual), 30d, 90d, 365d, mtd (this month) or all.
    from_
        The first day, or a moment (2026-10-25T14:30), in place of --range.
    to
        The last day, which is included, or a moment.
    zone
        The time zone of days and hours, like Europe/Berlin; usually UTC.
    deployment
        A deployment's name or id.
    kind
        A kind of deployment, like openai.
    model
        A model, as it is called.
    person
        Whoever sent the call.
    team
        A team of [teams] in deployments.toml.
    tag
        A tag of the call's run.
    source
        playground, cli, caching, batch, load or test.
    cache
        warm, cold or unknown.
    url
        A whole address of the History page, in quotes: its view. Other filters go before what it says.
    """
    from app.cli.history import history_params, show_history

    single = {"range": range, "from": from_, "to": to, "zone": zone}
    lists = {
        "deployment": deployment,
        "kind": kind,
        "model": model,
        "person": person,
        "team": team,
        "tag": tag,
        "source": source,
        "cache": cache,
    }
    try:
        params, file = history_params(single, lists, page, deployments, url)
    except ValueError as error:
        print(str(error), file=sys.stderr)
        return 2
    return show_history(paths.data_dir(data), paths.deployments_file(file), params, as_json=json)


@app.command
def calculate(
    workload: Annotated[Path | None, Parameter(allow_leading_hyphen=True)] = None,
    *,
    point: Values = None,
    example: Annotated[bool, Parameter(negative=())] = False,
    json: JsonOption = False,
) -> int:
    """Rank every way to run a workload, with prices, times and reasons; with --json all of it.

    Parameters
    ----------
    workload
        A WORKLOAD.toml; "-" reads it from standard input.
    point
        One replica to work out, as model=Llama-3.1-8B,gpu=L4,batch=4,input=1000,output=300; may be given again.
    example
        Print a WORKLOAD.toml to begin with.
    """
    from app.cli import calculate as cli_calculate

    return cli_calculate.calculate(workload, point or [], as_json=json, example=example)


@app.command
def rollup(*, rebuild: Flag = False, data: DataOption = None) -> int:
    """Add the recorded calls to the rollups of the history; the engine does so by itself while it runs.

    Parameters
    ----------
    rebuild
        Make the rollups of every day whose calls are kept anew.
    """
    from app.cli.history import roll_up

    return roll_up(paths.data_dir(data), anew=rebuild, person=local_user())


@app.command
def demo(
    *,
    calls: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=10_000_000))] = 50_000,
    days: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=3_650))] = 90,
    seed: Annotated[int, Parameter(validator=validators.Number(gte=0, lte=2**63 - 1))] = 7,
    json: JsonOption = False,
    data: DataOption = None,
) -> int:
    """Fill a database of its own with simulated calls, for the demo data of the History page.

    Parameters
    ----------
    calls
        How many calls to simulate.
    days
        Over how many days, ending now.
    seed
        Another seed gives other calls.
    """
    from app.cli.history import make_demo

    return make_demo(paths.data_dir(data), calls=calls, days=days, seed=seed, as_json=json)


@app.command
def worker(*, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Send batches until stopped. The engine starts one by itself; start more to share the work.

    With DATABASE_URL (PostgreSQL) workers may run on any number of machines, each with its own keys and
    deployments.toml. Set LAB_WORKER=0 for an engine that should start none.
    """
    from app.cli.batch_commands import work_until_stopped

    return work_until_stopped(paths.data_dir(data), paths.deployments_file(deployments), as_json=json)


@app.command
def doctor(*, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Say what is wrong with this installation and how to mend it. Exit code 0 when nothing is."""
    from app.cli import doctor

    return doctor.doctor(data, deployments, as_json=json)


def main() -> None:
    """The `lab` command."""
    logging.getLogger().addHandler(logging.NullHandler())
    write_whole()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as standard error: no text of ours ends a command
    try:
        interrupt.while_working()
        private_files()
        paths.settle_socket()
        code = app(sys.argv[1:], result_action="return_value")
        sys.stdout.flush()
    except UnicodeEncodeError:
        print(NO_UTF8, file=sys.stderr)
        code = 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more: end without a word
        code = 0
    except CycloptsError:
        code = 2
    except KeyboardInterrupt:
        print(f"\n{interrupt.SENTENCE}", file=sys.stderr)
        code = interrupt.CODE
    except Exception as error:
        print(_sentence_of(error), file=sys.stderr)
        code = 2
    interrupt.while_ending()
    sys.exit(code if isinstance(code, int) else 0)


def _sentence_of(error: Exception) -> str:
    try:
        from app.cli.failures import describe_error  # with rich and SQLAlchemy, which most commands do without
    except Exception as other:
        error = other
    else:
        if not isinstance(error, ImportError):
            return describe_error(error)
    why = str(error).partition("\n")[0]
    return f"What this needs is not installed as it should be ({why}): run `make run` again, or remove .venv first."


def _say(text: str) -> None:
    print(text, flush=True)
