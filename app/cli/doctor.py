"""`lab doctor`: what is wrong with this installation and keeps deployments from being called, and what to do about
it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from app import streamlit_config
from app.cli.failures import in_words
from services import paths
from services.aws import health
from services.aws.health import Finding as health_Finding
from services.client import EngineClient, EngineDown
from services.deployments import config as deployments_config
from services.deployments.toml_table import changed_at
from services.processes.health import noted_lab
from services.security import keys, listening, outbound
from services.types import Aws, Deployment

Finding = dict[str, Any]

LOW_DISK_BYTES = 500 * 2**20


def doctor(data: str | Path | None, file: str | Path | None, *, as_json: bool) -> int:
    """`examine` for places as they were named; one that leads nowhere is all that there is to say."""
    findings = []
    places: list[Path] = []
    for what, settled, place in (
        ("data directory", paths.data_dir, data),
        ("deployments file", paths.deployments_file, file),
    ):
        try:
            places.append(settled(place))
        except paths.Unusable as error:
            findings.append(_finding("wrong", what, str(error)))
    return _tell(findings, as_json=as_json) if findings else examine(places[0], places[1], as_json=as_json)


def examine(data: Path, file: Path, *, as_json: bool) -> int:
    """Look at everything that commonly goes wrong. Returns 0 when nothing is wrong, 1 otherwise."""
    checks = (_python, _disk, _logs, _socket, _database, _file, _keys, _sign_in, _look, _way_out, _aws, _model, _engine)
    findings = [finding for check in checks for finding in _whole(check, data, file)]
    return _tell(findings, as_json=as_json)


def _tell(findings: list[Finding], *, as_json: bool) -> int:
    for finding in findings:
        if as_json:
            print(json.dumps(finding))
        else:
            mark = {"ok": "ok  ", "note": "note", "wrong": "FIX "}[finding["state"]]
            print(f"{mark}  {finding['what']}: {finding['says']}")
    return 1 if any(f["state"] == "wrong" for f in findings) else 0


def _whole(check: Callable[[Path, Path], Iterator[Finding]], data: Path, file: Path) -> list[Finding]:
    """What a check finds; one that fails is a finding too, and the others still look."""
    findings: list[Finding] = []
    try:
        findings.extend(check(data, file))
    except Exception as error:
        findings.append(_finding("wrong", check.__name__.strip("_").replace("_", " "), in_words(error)))
    return findings


def _finding(state: str, what: str, says: str) -> Finding:
    return {"state": state, "what": what, "says": keys.scrub(says)}


def _python(_data: Path, _file: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    good = sys.version_info >= (3, 11)
    yield _finding("ok" if good else "wrong", "Python", version if good else f"{version}; 3.11 or later is needed")


def _disk(data: Path, _file: Path) -> Iterator[Finding]:
    if trouble := paths.data_trouble(data):
        yield _finding("wrong", "data directory", trouble)
        return
    free = shutil.disk_usage(data).free
    if free < LOW_DISK_BYTES:
        yield _finding("wrong", "data directory", f"only {free // 2**20} MiB are free at {data}; make room")
    else:
        yield _finding("ok", "data directory", f"{data}, {free // 2**30} GiB free")


def _logs(data: Path, _file: Path) -> Iterator[Finding]:
    folder = data / "logs"
    if not data.is_dir() or not folder.exists() or paths.data_trouble(data):  # `_disk` says that
        return
    if not folder.is_dir():
        yield _finding("wrong", "logs", f"{folder} is no directory: take it away")
        return
    shut = [log.name for log in folder.glob("*.log") if not (log.is_file() and os.access(log, os.W_OK))]
    if shut or not os.access(folder, os.W_OK):
        yield _finding("wrong", "logs", f"{', '.join(shut) or folder} cannot be written in {folder}: mend that")


def _socket(data: Path, _file: Path) -> Iterator[Finding]:
    try:
        path = paths.socket_path(data)
    except paths.NoPlace as error:
        yield _finding("wrong", "socket", str(error))
        return
    yield _finding("ok", "socket", str(path))


def _database(data: Path, _file: Path) -> Iterator[Finding]:
    from sqlalchemy.exc import SQLAlchemyError

    from db import run_queries
    from db.engine import database_url, reader
    from db.migrate import DatabaseTooNew, upgrade

    if paths.data_trouble(data):  # `_disk` says that
        return
    try:
        url = database_url(data)
        upgrade(url, data)
        total = run_queries.search_runs(reader(url), run_queries.RunFilter(), limit=1, offset=0).total
    except (DatabaseTooNew, ValueError, OSError, SQLAlchemyError) as error:
        yield _finding("wrong", "database", in_words(error))
        return
    yield _finding("ok", "database", f"{'PostgreSQL' if url.startswith('postgresql') else 'SQLite'}, {total:,} runs")


def _file(_data: Path, file: Path) -> Iterator[Finding]:
    if changed_at(file) is None:
        yield _finding(
            "note", "deployments file", f"there is no {file}; copy deployments.example.toml to declare yours"
        )
        return
    try:
        config = deployments_config.load(file)
    except deployments_config.ConfigError as error:
        yield _finding("wrong", "deployments file", str(error))
        return
    yield _finding("ok", "deployments file", f"{file}, {len(config.deployments)} deployments")


def _keys(_data: Path, file: Path) -> Iterator[Finding]:
    if trouble := keys.trouble():
        yield _finding("wrong", "keys file", trouble)
    names = {"ANTHROPIC_API_KEY", "OPENAI_API_KEY"}
    if changed_at(file) is not None:
        try:
            names |= {d.key_env for d in deployments_config.load(file).deployments if d.key_env}
        except deployments_config.ConfigError:
            return
    for name in sorted(names):
        found = keys.lookup(name) is not None
        yield _finding(
            "ok" if found else "note",
            name,
            "set" if found else "not set; put it in the environment or in .streamlit/secrets.toml to use it",
        )


def _sign_in(_data: Path, _file: Path) -> Iterator[Finding]:
    """Whether people can sign in as secrets.toml says."""
    files = listening.secrets_files()
    if not any(_about_sign_in(file) for file in files):
        return
    from app.access import sign_in  # a second of loading

    how = sign_in.look(files)
    if how.state != "off":
        yield _finding("ok" if how.state == "on" else "wrong", "sign-in", how.trouble or "people sign in")


def _about_sign_in(file: Path) -> bool:
    try:
        return any(keys.ABOUT_SIGN_IN.search(name) for name in keys.names_in(keys.read_secrets(file) or {}))
    except keys.UnreadableSecrets:
        return True


def _look(_data: Path, _file: Path) -> Iterator[Finding]:
    if trouble := streamlit_config.trouble():
        yield _finding("wrong", streamlit_config.NAME, trouble)


def _way_out(_data: Path, file: Path) -> Iterator[Finding]:
    """Which proxy calls go through, and whose certificates count beside the usual ones."""
    try:
        own = deployments_config.load(file).deployments if file.exists() else ()
    except deployments_config.ConfigError:
        own = ()
    yield from _proxies()
    for d in own:
        try:
            proxy = outbound.proxy_for(d.base_url, d)
        except outbound.ProxyTrouble as error:
            yield _finding("wrong", f"proxy of {d.name}", str(error))
            continue
        if d.proxy or d.proxy_env:
            says = f"{proxy.url}, by its own settings" if proxy is not None else "none, by its own settings"
            yield _finding("ok", f"proxy of {d.name}", says)
    named = [(setting, path, "certificates") for setting, path in outbound.ca_sources()]
    named += [("ca_file", outbound.expanded(d.ca_file), f"certificates of {d.name}") for d in own if d.ca_file]
    for setting, path, what in named:
        trouble = outbound.ca_trouble(path, setting)
        says = f"{setting} adds those of {path} to the usual ones"
        yield _finding("wrong" if trouble else "ok", what, trouble or says)
    if not named:
        yield _finding("ok", "certificates", "the usual ones: the system's and those of the package certifi")


def _proxies() -> Iterator[Finding]:
    if not outbound.settings():
        yield _finding("ok", "proxy", "none in the environment: calls go straight to their hosts")
        return
    for scheme in outbound.SCHEMES:
        name = outbound.variable(scheme)
        if name is None:
            yield _finding("note", "proxy", f"none for {scheme}:// addresses; {scheme.upper()}_PROXY would name one")
            continue
        try:
            proxy = outbound.proxy_of(os.environ[name].strip(), name)
        except outbound.ProxyTrouble as error:
            yield _finding("wrong", "proxy", str(error))
            continue
        login = ", with a user name and a password" if proxy.login else ""
        yield _finding("ok", "proxy", f"{name}: {scheme}:// addresses are called through {proxy.url}{login}")
    exempt = ", ".join(outbound.no_proxy()) or "nothing"
    yield _finding("ok", "NO_PROXY", f"exempts {exempt}; this machine and private networks are called directly anyway")


def _aws(data: Path, file: Path) -> Iterator[Finding]:

    for what, found in findings(data, file):
        yield _finding(found.grade, what, found.says)


def _model(_data: Path, _file: Path) -> Iterator[Finding]:
    from services.embedded import missing

    why = missing()
    yield _finding("ok" if why is None else "wrong", "embedded model", why or "can run on this machine")


def _engine(data: Path, _file: Path) -> Iterator[Finding]:
    try:
        health = EngineClient(paths.socket_path(data)).health()
    except (EngineDown, paths.NoPlace):
        lab = noted_lab(data)
        if lab is not None:
            yield _finding("wrong", "engine", f"does not answer although Inference Lab runs (process {lab.pid})")
            return
        yield _finding("note", "engine", "not running; `make run` starts it")
        return
    yield _finding("ok", "engine", f"running for {health['uptime_s']:.0f} s, {health['live_runs']} live runs")
    for name, status in health["embedded"].items():
        good = status["state"] in ("ready", "starting")
        yield _finding("ok" if good else "wrong", f"embedded server {name}", status["sentence"])
    for trouble in ("db_trouble", "file_trouble"):
        if health.get(trouble):
            yield _finding("wrong", "engine", str(health[trouble]))


AT_ONCE = 8

Named = tuple[str, health_Finding]


def findings(data: Path, file: Path) -> Iterator[Named]:
    """What is wrong, by account and by deployment; nothing where no deployment is on AWS."""
    declared = [d for d in _declared(data, file) if d.aws is not None and d.enabled]
    signed = [d for d in declared if not d.key_env]
    places = list(dict.fromkeys((_settings(d).profile, d.region or "") for d in signed))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        accounts = dict(zip(places, threads.map(lambda place: health.account(*place), places), strict=True))
        lame = {place for place, found in accounts.items() if found.grade == "wrong"}
        # Without credentials every deployment would say the same: what is wrong is said once, for the account.
        sound = [d for d in declared if d.key_env or (_settings(d).profile, d.region or "") not in lame]
        checked = list(threads.map(health.deployment, sound))
    for (profile, region), found in accounts.items():
        yield f"AWS {profile or 'default chain'} in {region}", found
    for d, found in zip(sound, checked, strict=True):
        yield d.name, found
    for d in signed:
        if d not in sound:
            yield d.name, health_Finding("note", "not looked at, because of the account above")


def _settings(d: Deployment) -> Aws:
    return d.aws or Aws()


def _declared(data: Path, file: Path) -> Sequence[Deployment]:
    """Those of the file, and those that were added on the page."""
    found: list[Deployment] = []
    if changed_at(file) is not None:
        try:
            found += deployments_config.load(file).deployments
        except deployments_config.ConfigError:
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
        replace(Deployment.from_json(row["spec"]), enabled=row["enabled"])
        for row in rows
        if row["origin"] == "page" and not row["archived"]
    ]
