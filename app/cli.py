"""`lab`: the same services without a browser, for scripts and for checking us."""

from __future__ import annotations

import getpass
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Group, Parameter, validators
from cyclopts.exceptions import CycloptsError

from services import paths
from services.client import EngineError
from services.domain import CacheMode

app = App(
    name="lab",
    help="Inference Lab: compare deployments of language models, measured where the bytes arrive.",
    version="0.1.0",
)
where = Group("Where", sort_key=9)
DataOption = Annotated[Path | None, Parameter(name="--data", group=where, help="Data directory (else LAB_DATA).")]
FileOption = Annotated[
    Path | None, Parameter(name="--deployments", group=where, help="deployments.toml to use (else LAB_DEPLOYMENTS).")
]
JsonOption = Annotated[bool, Parameter(name="--json", negative=(), help="One JSON object per line.")]


@app.command
def run(
    *,
    port: Annotated[int, Parameter(validator=validators.Number(gte=1, lte=65_535))] = 8501,
    address: str = "127.0.0.1",
    browser: bool = True,
    embedded: bool = True,
    data: DataOption = None,
    deployments: FileOption = None,
) -> int:
    """Start the engine, the embedded model and the pages, and stay until stopped.

    Parameters
    ----------
    port: The pages' port; the next free one is taken when it is in use.
    address: The address to listen on; 0.0.0.0 opens the pages to the network.
    browser: Open a browser when the pages answer.
    embedded: Start the local model too (LAB_EMBEDDED=0 in the environment says no to every command).
    """
    from app import supervise

    if not embedded:
        os.environ["LAB_EMBEDDED"] = "0"

    return supervise.run(
        port=port, address=address, data=paths.data_dir(data), file=paths.deployments_file(deployments),
        browser=browser, say=_say,
    )  # fmt: skip


@app.command
def send(
    prompt: str,
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
    prompt: The text to send; "-" reads it from standard input.
    deployment: A deployment's name or id; give it again for a further column.
    system: The system prompt.
    param: A parameter as name=value, for instance --param max_tokens=100; may be given again.
    repetitions: How many times each deployment is asked.
    cache: Prompt caching of every column; without it nothing is said and the service does what it does by itself.
    """
    from app.cli_send import send_prompt

    text = sys.stdin.read() if prompt == "-" else prompt
    # Bytes that are no UTF-8 reach a program as lone surrogates, which no service can be sent.
    text = text.encode("utf-8", "replace").decode()
    return send_prompt(
        text, deployment, system=system, given=param or [], repetitions=repetitions, cache=cache, as_json=json,
        data=paths.data_dir(data), file=paths.deployments_file(deployments), person=_person(),
    )  # fmt: skip


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
    limit: How many runs to list.
    search: Only runs whose prompt or answers contain this text.
    run: The id of one run: list its calls, with --json every figure of each.
    """
    from app.cli_lists import list_runs

    return list_runs(paths.data_dir(data), limit=limit, search=search, run_id=run, as_json=json)


@app.command
def deployments(
    *, test: bool = False, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None
) -> int:
    """List the deployments; with --test, call each one that is ready once.

    Parameters
    ----------
    test: Make one cheap real call to each deployment that is ready.
    """
    from app.cli_lists import list_deployments

    return list_deployments(
        paths.data_dir(data), paths.deployments_file(deployments), test=test, as_json=json, person=_person()
    )


@app.command
def doctor(*, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Say what is wrong with this installation and how to mend it. Exit code 0 when nothing is."""
    from app.doctor import examine

    return examine(paths.data_dir(data), paths.deployments_file(deployments), as_json=json)


def main() -> None:
    """The `lab` command."""
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        code = app(result_action="return_value")
    except EngineError as error:
        print(str(error), file=sys.stderr)
        code = 2
    except OSError as error:
        at = f" ({error.filename})" if error.filename else ""
        print(f"The data directory cannot be used: {error.strerror or error}{at}; give another with --data.",
              file=sys.stderr)  # fmt: skip
        code = 2
    except CycloptsError:
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.exit(code if isinstance(code, int) else 0)


def _say(text: str) -> None:
    print(text, flush=True)


def _person() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "local"


if __name__ == "__main__":
    main()
