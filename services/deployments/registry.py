"""Which deployments there are: the file's, the catalogue's, the embedded ones and those added on the page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from db import run_queries, runs
from db.models import DeploymentRow
from db.writer import Writer
from services.aws import credentials
from services.deployments import config
from services.deployments.toml_table import changed_at
from services.pricing import hourly
from services.providers import KINDS, kind_of
from services.security import keys
from services.security.network import Forbidden, check_url
from services.types import Deployment, Origin

log = logging.getLogger(__name__)

ORIGINS: Mapping[str, Origin] = {origin: origin for origin in get_args(Origin)}


class Registry:
    """The deployments of this installation. The database keeps colours and switches; the file stays as written."""

    def __init__(self, writer: Writer, reader: Any, file: Path | None) -> None:
        self._writer = writer
        self._reader = reader
        self.file = file
        self._stamp: float | None = -1.0
        self.config = config.Config()
        self.trouble: str | None = None
        self._all: dict[str, Deployment] = {}
        self._rows: dict[str, DeploymentRow] = {}
        self.local_lacks: Callable[[str], str | None] = lambda _name: None

    async def refresh(self) -> None:
        """Read the file again if it changed. One that cannot be read leaves what was known; `trouble` says why."""
        stamp = changed_at(self.file) if self.file else None
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self.config = config.load(self.file) if self.file and stamp is not None else config.Config()
            self.trouble = None
        except config.ConfigError as error:
            self.trouble = str(error)
            log.warning("%s", error)
            if self._all:
                return
        declared = [*config.embedded_deployments(), *self.config.deployments, *config.CATALOGUE]
        await self._writer.write(lambda session: _sync(session, declared))
        self._load()

    def _load(self) -> None:
        self._rows = {row.id: row for row in run_queries.deployment_rows(self._reader)}
        self._all = {}
        for row in self._rows.values():
            deployment = Deployment.from_json(row.spec or {})
            self._all[row.id] = replace(
                deployment, color_slot=row.color_slot, enabled=row.enabled, origin=ORIGINS.get(row.origin, "page")
            )
        for signed in self._all.values():
            if signed.aws is not None and not signed.key_env:
                credentials.last_trouble(signed.aws.profile)  # looks in the background, so that the first list knows

    def find(self, name: str) -> Deployment | None:
        """A deployment by id, or by name when no id matches (case is ignored)."""
        if name in self._all:
            return self._all[name]
        lowered = name.strip().lower()
        active = [d for d in self._all.values() if not self._rows[d.id].archived]
        matching = [d for d in active if lowered in (d.id.lower(), d.name.lower())]
        return next((d for d in matching if d.enabled), matching[0] if matching else None)

    def calling(self, name: str) -> Deployment:
        """A deployment as it is called: what its last connection test found refused is left out of the request.

        Raises ValueError in words for one that is not known.
        """
        deployment = self.find(name)
        if deployment is None:
            raise ValueError(f"There is no deployment called “{name}”; the Deployments page lists those there are.")
        test = self._rows[deployment.id].test or {}
        refused = (test.get("capabilities") or {}).get("refuses") or ()
        return without(deployment, refused) if test.get("base_url") == deployment.base_url else deployment

    def statuses(self) -> list[DeploymentStatus]:
        """Every deployment that is not archived, in colour order."""
        listed = [d for d in self._all.values() if not self._rows[d.id].archived]
        return [self.status(d) for d in sorted(listed, key=lambda d: d.color_slot)]

    def status(self, deployment: Deployment) -> DeploymentStatus:
        """Whether a deployment can be called now, and if not what it needs."""
        needs = self._needs(deployment)
        row = self._rows.get(deployment.id)
        if row is None:
            return DeploymentStatus(deployment, needs is None, needs)
        return DeploymentStatus(deployment, needs is None, needs, row.test, row.archived)

    def _needs(self, deployment: Deployment) -> str | None:
        if not deployment.enabled:
            return "disabled"
        if deployment.base_url.startswith("embedded://"):
            lacks = self.local_lacks(deployment.base_url.removeprefix("embedded://").strip("/"))
            return f"needs the local model: {lacks}" if lacks else None
        if deployment.key_env and keys.lookup(deployment.key_env) is None:
            return f"needs {deployment.key_env}"
        if deployment.aws is not None and not deployment.key_env:
            lacks = credentials.last_trouble(deployment.aws.profile)
            return f"needs AWS credentials ({lacks})" if lacks else None
        if not deployment.key_env and deployment.aws is None and kind_of(deployment).key_required:
            return "needs the name of a key variable"
        return None

    def allowed_private(self, deployment: Deployment) -> frozenset[str]:
        """Private hosts that calls to this deployment may reach."""
        return config.allowed_private(deployment, self.config)

    def private_hosts(self) -> frozenset[str]:
        """Private hosts that calls to any listed deployment may reach."""
        return frozenset[str]().union(*(self.allowed_private(status.deployment) for status in self.statuses()))

    async def save(self, deployment: Deployment) -> Deployment:
        """Add or change a deployment of the page. Raises ValueError in words."""
        existing = self._all.get(deployment.id)
        if existing is not None and existing.origin != "page":
            raise ValueError(f"{existing.name} is declared in {_where(existing)} and is changed there.")
        if deployment.kind not in KINDS:
            raise ValueError(f"There is no kind “{deployment.kind}”; the kinds are {', '.join(sorted(KINDS))}.")
        same = self.find(deployment.name)
        if same is not None and same.id != deployment.id:
            raise ValueError(f"There is a deployment called “{deployment.name}” already; choose another name.")
        taken = set(self._all) - {deployment.id}
        fresh = replace(deployment, id=deployment.id or config.slug(deployment.name, taken), origin="page")
        config.validate(fresh, self.config)
        try:
            check_url(fresh.base_url, allow_private=self.allowed_private(fresh))
        except Forbidden as error:
            raise ValueError(str(error)) from error
        await self._writer.write(lambda session: _save(session, fresh))
        self._load()
        return self._all[fresh.id]

    async def set_enabled(self, deployment_id: str, on: bool) -> None:
        """Switch a deployment on or off, wherever it was declared."""
        if deployment_id not in self._all:
            raise ValueError("That deployment is not known any more; reload the page.")
        await self._writer.write(
            lambda session: _and_meters(session, runs.set_deployment_enabled, deployment_id=deployment_id, enabled=on)
        )
        self._load()

    async def enable_catalogue(self, provider: str, on: bool) -> int:
        """Switch all catalogue models of one provider; returns how many there are."""
        ids = [d.id for d in self._all.values() if d.origin == "catalogue" and d.kind == provider]
        for deployment_id in ids:
            await self.set_enabled(deployment_id, on)
        return len(ids)

    async def remove(self, deployment_id: str) -> None:
        """Take a page's deployment off the list; its calls and its colour stay in the history."""
        deployment = self._all.get(deployment_id)
        if deployment is None:
            raise ValueError("That deployment is not known any more; reload the page.")
        if deployment.origin != "page":
            raise ValueError(
                f"{deployment.name} is declared in {_where(deployment)}: switch it off here or remove it there."
            )
        await self._writer.write(
            lambda session: _and_meters(session, runs.archive_deployment, deployment_id=deployment_id)
        )
        self._load()

    async def tested(self, deployment_id: str, result: dict[str, Any]) -> None:
        """Keep the result of a connection test beside the deployment."""
        await self._writer.write(
            lambda session: runs.set_deployment_test(session=session, deployment_id=deployment_id, test=result)
        )
        self._load()


def without(deployment: Deployment, names: Collection[str]) -> Deployment:
    """A deployment whose requests leave out these fields of the body, unless its own ``extra_body`` sets them."""
    return replace(deployment, extra_body={**dict.fromkeys(names), **deployment.extra_body})


def _where(deployment: Deployment) -> str:
    return {"file": "deployments.toml", "catalogue": "the catalogue", "embedded": "the product"}[deployment.origin]


def _put(session: Any, deployment: Deployment) -> None:
    runs.upsert_deployment(
        session=session,
        deployment_id=deployment.id,
        spec=deployment.to_json(),
        origin=deployment.origin,
        enabled=deployment.enabled,
    )


def _sync(session: Any, declared: list[Deployment]) -> None:
    """Bring the table up to what is declared. Rows that are declared no longer are archived, never deleted."""
    for deployment in declared:
        _put(session, deployment)
    runs.archive_missing_deployments(
        session=session, keep=[d.id for d in declared], origins=["file", "catalogue", "embedded"]
    )
    hourly.settle(session=session)


def _save(session: Any, deployment: Deployment) -> None:
    _put(session, deployment)
    hourly.settle(session=session)


def _and_meters(session: Any, write: Callable[..., Any], **values: Any) -> None:
    """A change of a deployment, and of what runs by the hour because of it, in one transaction."""
    write(session=session, **values)
    hourly.settle(session=session)


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A deployment as the pages list it. ``needs`` says in words what is missing; None when it can be called."""

    deployment: Deployment
    ready: bool
    needs: str | None = None
    test: dict[str, Any] | None = None
    archived: bool = False
