"""`lab rollup`, `demo`, `worker` and `doctor`: their options; what they do is in modules of their own."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter, validators

from app.cli.batch import DataOption, FileOption, Flag, JsonOption, me
from services import paths


def rollup(*, rebuild: Flag = False, data: DataOption = None) -> int:
    """Add the recorded calls to the rollups of the history; the engine does so by itself while it runs.

    Parameters
    ----------
    rebuild
        Make the rollups of every day whose calls are kept anew.
    """
    from app.cli.history import roll_up

    return roll_up(paths.data_dir(data), anew=rebuild, person=me())


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


def worker(*, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Send batches until stopped. The engine starts one by itself; start more to share the work.

    With DATABASE_URL (PostgreSQL) workers may run on any number of machines, each with its own keys and
    deployments.toml. Set LAB_WORKER=0 for an engine that should start none.
    """
    from app.cli.batch_commands import work_until_stopped

    return work_until_stopped(paths.data_dir(data), paths.deployments_file(deployments), as_json=json)


def doctor(*, json: JsonOption = False, data: DataOption = None, deployments: FileOption = None) -> int:
    """Say what is wrong with this installation and how to mend it. Exit code 0 when nothing is."""
    from app.cli import doctor

    return doctor.doctor(data, deployments, as_json=json)
