"""`lab doctor` and AWS: what keeps each deployment there from being called. It looks only and spends nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from services.aws import health
from services.aws.health import Finding
from services.deployments import config
from services.deployments.toml_table import changed_at
from services.types import Aws, Deployment

AT_ONCE = 8
Named = tuple[str, Finding]


def findings(data: Path, file: Path) -> Iterator[Named]:
    """What is wrong, by account and by deployment; nothing where no deployment is on AWS."""
    declared = [d for d in _declared(data, file) if d.aws is not None and d.enabled]
    signed = [d for d in declared if not d.key_env]
    places = list(dict.fromkeys((_aws(d).profile, d.region or "") for d in signed))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        accounts = dict(zip(places, threads.map(lambda place: health.account(*place), places), strict=True))
        lame = {place for place, found in accounts.items() if found.grade == "wrong"}
        # Without credentials every deployment would say the same: what is wrong is said once, for the account.
        sound = [d for d in declared if d.key_env or (_aws(d).profile, d.region or "") not in lame]
        checked = list(threads.map(health.deployment, sound))
    for (profile, region), found in accounts.items():
        yield f"AWS {profile or 'default chain'} in {region}", found
    for d, found in zip(sound, checked, strict=True):
        yield d.name, found
    for d in signed:
        if d not in sound:
            yield d.name, Finding("note", "not looked at, because of the account above")


def _aws(d: Deployment) -> Aws:
    return d.aws or Aws()


def _declared(data: Path, file: Path) -> Sequence[Deployment]:
    """Those of the file, and those that were added on the page."""
    found: list[Deployment] = []
    if changed_at(file) is not None:
        try:
            found += config.load(file).deployments
        except config.ConfigError:
            return ()
    return [*found, *_added(data)]


def _added(data: Path) -> list[Deployment]:
    from sqlalchemy.exc import SQLAlchemyError

    from db import run_queries
    from db.engine import database_url, reader

    try:
        rows = run_queries.deployment_rows(reader(database_url(data)))
    except (SQLAlchemyError, ValueError, OSError):
        return []
    return [
        replace(config.from_json(row["spec"]), enabled=row["enabled"])
        for row in rows
        if row["origin"] == "page" and not row["archived"]
    ]
