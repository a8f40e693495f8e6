"""The engine as pages and the command line see it: plain calls over its Unix socket.

What is there already is read from the database (`db.batches`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict
from urllib.parse import quote, urlencode

from db.run_rows import Ballot
from services import paths
from services.alerts import Alert, AlertJson, EventJson
from services.aws.control import Identity, Model
from services.aws.provisioned import Commitment, ProvisionedThroughput, provisioned_from
from services.aws.sagemaker import SageMakerEndpoint, endpoint_from
from services.deployments.registry import DeploymentStatus
from services.engine_connection import EngineConnection, EngineDown, EngineError, quoted
from services.runs.spec import RunSpec
from services.types import Deployment, Json, JsonMapping, ServerState

if TYPE_CHECKING:
    from services.runs.view import Snapshot
    from services.servers import ServerReport

__all__ = ["EngineClient", "EngineDown", "EngineError"]

HEALTH_S = 5.0  # whoever asks only this must not wait for one that hangs

RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

NO_SUCH_RUN = "There is no run at this address; it may have been deleted."


class Health(TypedDict, total=False):
    """The engine's own account of itself; empty where it does not answer. ``embedded``: by the name of the server."""

    ok: bool
    engine_id: str
    uptime_s: float
    loop_lag_ms: float
    embedded: dict[str, ServerState]
    live_runs: int
    lost_at_start: int
    db: str
    deployments_file: str | None
    db_trouble: str | None
    file_trouble: str | None
    keys_trouble: str | None


class Workers(TypedDict):
    """Rows of `db.batches.workers`, each with ``alive``, and a sentence where something is wrong."""

    workers: list[Json]
    said: str | None


class EngineClient:
    """A client of the engine for one person in one role. Thread-safe; every method raises `EngineError`."""

    def __init__(self, socket: Path, *, person: str = "local", role: str = "viewer") -> None:
        self.socket = socket
        self.person = person
        self.role = role
        self._connection = EngineConnection(socket, person=person, role=role)

    def close(self) -> None:
        """Close the connections to the engine."""
        self._connection.close()

    def _call(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        return self._connection.call(method, path, body, timeout)

    def health(self) -> Health:
        """How the engine is."""
        health: Health = self._call("GET", "/health", timeout=HEALTH_S)
        return health

    def wait_until_up(self, timeout_s: float = 30.0) -> Health:
        """Poll `health` until it answers. Raises `EngineDown` after ``timeout_s`` seconds."""
        end = time.monotonic() + timeout_s
        while True:
            try:
                return self.health()
            except EngineDown:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)

    def start_run(self, spec: RunSpec) -> str:
        """Start a run; its rows are committed and its requests are on their way when this returns the run's id."""
        return str(self._call("POST", "/runs", spec.to_json())["run_id"])

    def stop(self, run_id: str, column: int | None = None) -> None:
        """Stop one column, or all of them; what has come so far is kept."""
        self._call("POST", f"/runs/{_known(run_id)}/stop", {"column": column})

    def retry(self, run_id: str, column: int) -> None:
        """Send one column's last call again, as a further attempt."""
        self._call("POST", f"/runs/{_known(run_id)}/retry", {"column": column})

    def live(self, run_id: str) -> Snapshot | None:
        """The board's snapshot of a run that is live, else None; "live" is false where only its end is unwritten."""
        snapshot: Snapshot | None = self._call("GET", f"/runs/{_known(run_id)}")
        return snapshot

    @contextmanager
    def stream(self, run_id: str) -> Iterator[Iterator[Json]]:
        """The board's frames of a live run, one dict each, until its end; no frames when it is not live."""
        with self._connection.lines(f"/runs/{_known(run_id)}/stream") as lines:
            yield lines

    def annotate(
        self, run_id: str, *, starred: bool | None = None, tags: Sequence[str] | None = None, note: str | None = None
    ) -> None:
        """Star, tag or note a run; what is None stays as it is."""
        self._call(
            "PATCH",
            f"/runs/{_known(run_id)}",
            {"starred": starred, "tags": list(tags) if tags is not None else None, "note": note},
        )

    def delete_runs(self, run_ids: Sequence[str]) -> int:
        """Delete runs with their calls and votes; returns how many were deleted."""
        return int(self._call("POST", "/runs/delete", {"run_ids": list(run_ids)})["deleted"])

    def vote(self, run_id: str, vote: Ballot) -> None:
        """Record a vote."""
        self._call("POST", f"/runs/{_known(run_id)}/votes", dict(vote))

    def deployments(self) -> list[DeploymentStatus]:
        """Every deployment, with whether it can be called and what it needs if not."""
        return [
            DeploymentStatus(Deployment.from_json(v["deployment"]), v["ready"], v["needs"], v["test"], v["archived"])
            for v in self._call("GET", "/deployments")
        ]

    def save_deployment(self, deployment: Deployment) -> Deployment:
        """Add a deployment (empty id) or change one that was added on the page."""
        return Deployment.from_json(self._call("POST", "/deployments", deployment.to_json()))

    def set_enabled(self, deployment_id: str, on: bool) -> None:
        """Switch a deployment on or off."""
        self._call("PATCH", f"/deployments/{quote(deployment_id, safe='')}", {"enabled": on})

    def remove_deployment(self, deployment_id: str) -> None:
        """Take a page's deployment off the list; its calls stay in the history."""
        self._call("DELETE", f"/deployments/{quote(deployment_id, safe='')}")

    def test_deployment(self, deployment_id: str) -> JsonMapping:
        """One cheap real call, as an answer to: reachable, authorised, model exists, capabilities (may take 90 s)."""
        test: JsonMapping = self._call("POST", f"/deployments/{quote(deployment_id, safe='')}/test", {}, timeout=120)
        return test

    def server(self, deployment_id: str) -> ServerReport:
        """What a deployment's server is and how it is now."""
        report: ServerReport = self._call("GET", f"/deployments/{deployment_id}/server", timeout=10)
        return report

    def enable_catalogue(self, provider: str, on: bool) -> int:
        """Switch all catalogue models of "anthropic" or "openai"; returns how many there are."""
        return int(self._call("POST", f"/catalogue/{provider}", {"on": on})["changed"])

    def aws(self, profile: str | None = None, region: str | None = None) -> AwsClient:
        """The control planes of AWS for one profile and region."""
        return AwsClient(self._call, profile, region)

    @property
    def history(self) -> HistoryClient:
        """Alerts, notes and the budget."""
        return HistoryClient(self._call)

    @property
    def batches(self) -> BatchClient:
        """Batches: submit, pause, resume, cancel, send again, delete."""
        return BatchClient(self._call)

    def restart_embedded(self, name: str) -> None:
        """Start an embedded model server again."""
        self._call("POST", f"/embedded/{name}/restart", {})


def client_from_env(person: str = "local", role: str = "viewer") -> EngineClient:
    """A client of the engine that LAB_SOCKET, or else the data directory, points at."""
    return EngineClient(paths.socket_path(paths.data_dir()), person=person, role=role)


def _known(run_id: str) -> str:
    """A run's id, fit for a path. What comes out of an address could be anything. Raises `EngineError`."""
    if not RUN_ID.match(run_id):
        raise EngineError(NO_SUCH_RUN)
    return run_id


class HistoryClient:
    """What people add to the history. Every method raises `EngineError`, whose text is a sentence."""

    def __init__(self, engine: Callable[..., Any]) -> None:
        self._engine = engine

    def alerts(self) -> tuple[list[AlertJson], list[str]]:
        """Every alert as a row of its table, and the names of the variables that one can be sent to."""
        row = self._engine("GET", "/history/alerts")
        return list(row["alerts"]), list(row["targets"])

    def save_alert(self, alert: Alert) -> str:
        """Add an alert (empty id) or change one; its id."""
        return str(self._engine("POST", "/history/alerts", alert.to_values() | {"id": alert.id})["id"])

    def delete_alert(self, alert_id: str) -> None:
        """Take an alert and its events away."""
        self._engine("DELETE", f"/history/alerts/{quote(alert_id, safe='')}")

    def events(self, alert_id: str | None = None, limit: int = 20) -> list[EventJson]:
        """The last events, newest first."""
        query = {"limit": limit} | ({"alert": alert_id} if alert_id else {})
        return list(self._engine("GET", f"/history/events?{urlencode(query)}"))

    def add_note(self, moment: datetime, note: str) -> str:
        """Keep a note on a moment (aware); its id."""
        return str(self._engine("POST", "/history/notes", {"at": moment.isoformat(), "note": note})["id"])

    def delete_note(self, note_id: str) -> None:
        """Take a note away."""
        self._engine("DELETE", f"/history/notes/{quote(note_id, safe='')}")

    def save_scenario(self, name: str, state: Mapping[str, str]) -> str:
        """Keep a scenario of the calculator, in place of one of that name; ``state``: its address's words. Its id."""
        return str(self._engine("POST", "/scenarios", {"name": name, "state": dict(state)})["id"])

    def delete_scenario(self, scenario_id: str) -> None:
        """Take a scenario away."""
        self._engine("DELETE", f"/scenarios/{quote(scenario_id, safe='')}")

    def unroll(self, day: datetime) -> int:
        """Take the rollups of a UTC day away, to be made anew from its calls; returns how many those are."""
        return int(self._engine("POST", "/rollups/unroll", {"day": day.isoformat()}, timeout=600)["unmarked"])

    def fold(self) -> int:
        """Add some of the calls that are not in the rollups yet; returns how many, 0 when none is left."""
        return int(self._engine("POST", "/rollups/fold", {}, timeout=120)["added"])

    def budget(self) -> str | None:
        """US dollars a month as text; None where there is no budget."""
        value = self._engine("GET", "/history/budget")["monthly_usd"]
        return None if value is None else str(value)

    def set_budget(self, usd: str | None) -> None:
        """Set the monthly budget; None or "" removes it."""
        self._engine("PUT", "/history/budget", {"monthly_usd": usd})


NO_SUCH = "This batch is not in the records; it may have been deleted."  # as the engine says of an id

SUBMIT_WITHIN_S = 600.0  # a small file is checked once more before the answer, and a large one is hashed


class BatchRequest(Protocol):
    """What a batch is submitted as: `services.batch.service.BatchSpec`, of which only its JSON counts here."""

    def to_json(self) -> JsonMapping: ...


class BatchClient:
    """Everything that is done with batches. Every method raises `EngineError`, whose text is a sentence."""

    def __init__(self, engine: Callable[..., Any]) -> None:
        self._engine = engine

    def submit(self, spec: BatchRequest) -> str:
        """Submit a file; the id of its batch. Its lines are recorded while this has already returned.

        Refused, in words, for a file that changed or cannot be sent, for one that was sent before (unless
        ``spec.again``), and for an estimate above the budget (unless ``spec.over_budget``).
        """
        return str(self._engine("POST", "/batches", spec.to_json(), timeout=SUBMIT_WITHIN_S)["batch_id"])

    def pause(self, batch_id: str) -> None:
        """Let the lines under way end and send no others; for our own runner."""
        self._engine("POST", f"/batches/{_known_batch(batch_id)}/pause", {})

    def resume(self, batch_id: str, budget_nanousd: int | None = None) -> None:
        """Go on with a paused batch; ``budget_nanousd``: its budget from now on, None leaves it as it is."""
        self._engine("POST", f"/batches/{_known_batch(batch_id)}/resume", {"budget_nanousd": budget_nanousd})

    def cancel(self, batch_id: str) -> None:
        """Stop a batch; what was answered is kept."""
        self._engine("POST", f"/batches/{_known_batch(batch_id)}/cancel", {})

    def resend(self, batch_id: str) -> str:
        """Send the lines that were not answered again, as a batch linked to this one; its id."""
        resent = self._engine("POST", f"/batches/{_known_batch(batch_id)}/resend", {}, timeout=SUBMIT_WITHIN_S)
        return str(resent["batch_id"])

    def delete(self, batch_id: str) -> None:
        """Delete a batch that is over, with its lines, its calls and its files."""
        self._engine("DELETE", f"/batches/{_known_batch(batch_id)}", timeout=SUBMIT_WITHIN_S)

    def workers(self) -> Workers:
        """Who works on batches."""
        workers: Workers = self._engine("GET", "/batches/workers")
        return workers

    def vote(self, batch_a: str, batch_b: str, no: int, choice: str | None) -> None:
        """Keep which answer to one line is liked better ("a", "b", "tie"); None takes it back (`db.batch_queries`)."""
        self._engine("POST", "/batches/votes", {"batch_a": batch_a, "batch_b": batch_b, "no": no, "choice": choice})


def _known_batch(batch_id: str) -> str:
    """A batch's id, fit for a path. What comes out of an address could be anything. Raises `EngineError`."""
    if not batch_id:
        raise EngineError(NO_SUCH)
    return quoted(batch_id)


PATIENCE_S = 90.0  # more than the engine waits for AWS, twice: it looks before it deletes


@dataclass(frozen=True, slots=True)
class Places:
    """The profiles of the AWS configuration, the regions known, and the one that holds without a choice."""

    profiles: tuple[str, ...]
    regions: tuple[str, ...]
    region: str | None


class AwsClient:
    """The control planes for one profile (None: the default chain) and region (None: the profile's own).

    Every method raises `EngineError`, whose text is a sentence.
    """

    def __init__(self, engine: Callable[..., Any], profile: str | None, region: str | None) -> None:
        self._engine = engine
        self._where = {"profile": profile, "region": region}

    def _get(self, path: str) -> Any:
        query = urlencode({name: value for name, value in self._where.items() if value})
        return self._engine("GET", f"/aws/{path}?{query}", timeout=PATIENCE_S)

    def _post(self, path: str, **body: Any) -> Any:
        return self._engine("POST", f"/aws/{path}", {**self._where, **body}, timeout=PATIENCE_S)

    def places(self) -> Places:
        """What can be chosen; asks nothing of AWS."""
        row = self._get("places")
        return Places(tuple(row["profiles"]), tuple(row["regions"]), row["region"])

    def who(self) -> Identity:
        """Whose credentials the engine uses here."""
        row = self._get("who")
        return Identity(row["account"], row["arn"])

    def models(self) -> tuple[list[Model], list[Model]]:
        """Bedrock's text models and inference profiles of the region."""
        row = self._get("models")
        return [Model(**m) for m in row["models"]], [Model(**m) for m in row["profiles"]]

    def endpoints(self) -> tuple[list[SageMakerEndpoint], bool]:
        """SageMaker's endpoints, and whether there are more than are listed."""
        row = self._get("endpoints")
        return [endpoint_from(e) for e in row["items"]], bool(row["more"])

    def provisioned(self) -> tuple[list[ProvisionedThroughput], bool]:
        """Bedrock's provisioned throughputs, and whether there are more than are listed."""
        row = self._get("provisioned")
        return [provisioned_from(p) for p in row["items"]], bool(row["more"])

    def create(
        self, *, name: str, model: str, units: int, commitment: Commitment, token: str, confirm: str
    ) -> ProvisionedThroughput:
        """Buy model units. ``confirm`` is "create NAME" as the person typed it; ``token`` makes a repeat harmless."""
        row = self._post(
            "provisioned", name=name, model=model, units=units, commitment=commitment, token=token, confirm=confirm
        )
        return provisioned_from(row)

    def rename(self, arn: str, name: str) -> ProvisionedThroughput:
        """Give a provisioned throughput another name."""
        return provisioned_from(self._post("provisioned/rename", arn=arn, name=name))

    def delete(self, arn: str, confirm: str) -> None:
        """Give the units back. ``confirm`` is the name as the person typed it."""
        self._post("provisioned/delete", arn=arn, confirm=confirm)

    def refresh(self) -> None:
        """Read credentials and configuration anew: somebody signed in meanwhile."""
        self._post("refresh")
