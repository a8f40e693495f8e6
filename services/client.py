"""The engine as pages and the command line see it: plain calls over its Unix socket."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson

from services import paths
from services.client_aws import AwsClient
from services.client_batch import BatchClient
from services.client_history import HistoryClient
from services.deployments import config
from services.deployments.status import DeploymentStatus
from services.runs.spec import RunSpec
from services.security import access
from services.types import Deployment

HEALTH_S = 5.0  # whoever asks only this must not wait for one that hangs
RUN_ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
NO_SUCH_RUN = "There is no run at this address; it may have been deleted."
# The socket is on this machine: a file of certificates that cannot be read is no reason not to use it.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
UNSENDABLE = (
    "Nothing was sent: the request holds a whole number of more than 64 bits, or a text that is no UTF-8; mend it and "
    "send it again."
)


class EngineError(Exception):
    """The engine refused or failed; the text is a sentence for the person."""


class EngineDown(EngineError):
    """No engine answers on the socket."""


class EngineClient:
    """A client of the engine for one person in one role. Thread-safe; every method raises `EngineError`."""

    def __init__(self, socket: Path, *, person: str = "local", role: str = "viewer") -> None:
        self.socket = socket
        self.person = person
        self.role = role
        self._http = httpx.Client(
            transport=httpx.HTTPTransport(
                uds=str(socket), limits=httpx.Limits(max_keepalive_connections=4), trust_env=False, verify=_NO_TLS
            ),
            base_url="http://engine",
            timeout=httpx.Timeout(30, connect=2),
            headers={access.PERSON_HEADER: access.person_header(person), "x-lab-role": role},
            trust_env=False,
        )

    def close(self) -> None:
        """Close the connections to the engine."""
        self._http.close()

    def _call(self, method: str, path: str, body: Any = None, timeout: float | None = None) -> Any:
        content = _content(body)
        try:
            response = self._http.request(
                method, path, content=content, timeout=self._http.timeout if timeout is None else timeout
            )
        except (httpx.TransportError, OSError) as error:
            raise EngineDown(
                "The engine does not answer; it is started again within a few seconds, and what was recorded is kept."
            ) from error
        try:
            value = orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise EngineError(f"The engine answered {response.status_code} without words; see its log.") from error
        if response.status_code >= 400:
            raise EngineError(str(value.get("error", f"The engine answered {response.status_code}.")))
        return value

    def health(self) -> dict[str, Any]:
        """How the engine is: ``{ok, engine_id, uptime_s, loop_lag_ms, embedded, live_runs, db, …}``."""
        return dict(self._call("GET", "/health", timeout=HEALTH_S))

    def wait_until_up(self, timeout_s: float = 30.0) -> dict[str, Any]:
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

    def live(self, run_id: str) -> dict[str, Any] | None:
        """The board's snapshot of a run that is live, else None; "live" is false where only its end is unwritten."""
        value = self._call("GET", f"/runs/{_known(run_id)}")
        return dict(value) if value else None

    @contextmanager
    def stream(self, run_id: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The board's frames of a live run, one dict each, until its end; no frames when it is not live."""
        with self._http.stream("GET", f"/runs/{_known(run_id)}/stream", timeout=None) as response:
            if response.status_code != 200:
                yield iter(())
                return
            yield (orjson.loads(line) for line in response.iter_lines() if line)

    def annotate(
        self, run_id: str, *, starred: bool | None = None, tags: Sequence[str] | None = None, note: str | None = None
    ) -> None:
        """Star, tag or note a run; what is None stays as it is."""
        self._call(
            "PATCH", f"/runs/{_known(run_id)}",
            {"starred": starred, "tags": list(tags) if tags is not None else None, "note": note},
        )  # fmt: skip

    def delete_runs(self, run_ids: Sequence[str]) -> int:
        """Delete runs with their calls and votes; returns how many were deleted."""
        return int(self._call("POST", "/runs/delete", {"run_ids": list(run_ids)})["deleted"])

    def vote(self, run_id: str, vote: Mapping[str, Any]) -> None:
        """Record a vote: ``{choice, blind, column_a, column_b, deployment_a, deployment_b, winner, repetition}``."""
        self._call("POST", f"/runs/{_known(run_id)}/votes", dict(vote))

    def deployments(self) -> list[DeploymentStatus]:
        """Every deployment, with whether it can be called and what it needs if not."""
        return [
            DeploymentStatus(config.from_json(v["deployment"]), v["ready"], v["needs"], v["test"], v["archived"])
            for v in self._call("GET", "/deployments")
        ]

    def save_deployment(self, deployment: Deployment) -> Deployment:
        """Add a deployment (empty id) or change one that was added on the page."""
        return config.from_json(self._call("POST", "/deployments", config.to_json(deployment)))

    def set_enabled(self, deployment_id: str, on: bool) -> None:
        """Switch a deployment on or off."""
        self._call("PATCH", f"/deployments/{quote(deployment_id, safe='')}", {"enabled": on})

    def remove_deployment(self, deployment_id: str) -> None:
        """Take a page's deployment off the list; its calls stay in the history."""
        self._call("DELETE", f"/deployments/{quote(deployment_id, safe='')}")

    def test_deployment(self, deployment_id: str) -> dict[str, Any]:
        """One cheap real call, as an answer to: reachable, authorised, model exists, capabilities (may take 90 s)."""
        return dict(self._call("POST", f"/deployments/{quote(deployment_id, safe='')}/test", {}, timeout=120))

    def server(self, deployment_id: str) -> dict[str, Any]:
        """What a deployment's server is and how it is now: ``{supported, facts, facts_trouble, gauge, trouble}``."""
        return dict(self._call("GET", f"/deployments/{deployment_id}/server", timeout=10))

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


def _content(body: Any) -> bytes | None:
    """A request's body as JSON. Raises `EngineError` for what JSON of the engine cannot hold."""
    if body is None:
        return None
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise EngineError(UNSENDABLE) from error
