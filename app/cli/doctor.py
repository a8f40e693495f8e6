"""`lab doctor`: what is wrong with this installation and keeps deployments from being called, and what to do about
it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from app import streamlit_config
from app.cli.failures import describe_error
from services import paths
from services.aws import health
from services.client import EngineClient, EngineDown
from services.deployments import config as deployments_config
from services.deployments.toml_table import changed_at
from services.processes.health import noted_lab
from services.security import keys, listening, outbound
from services.types import Aws, Deployment

State = Literal["ok", "note", "wrong"]

LOW_DISK_BYTES = 500 * 2**20
AT_ONCE = 8  # AWS accounts and deployments that are asked


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found out about a subject."""

    state: State
    subject: str
    says: str

    def to_json(self) -> dict[str, str]:
        return {"state": self.state, "what": self.subject, "says": self.says}


Check = Callable[[Path, Path], Iterator[Finding]]  # of a data directory and a deployments file


def doctor(data: str | Path | None, file: str | Path | None, *, as_json: bool) -> int:
    """`examine` for places as they were named; one that leads nowhere is all that there is to say."""
    findings = []
    places: list[Path] = []
    for subject, settled, place in (
        ("data directory", paths.data_dir, data),
        ("deployments file", paths.deployments_file, file),
    ):
        try:
            places.append(settled(place))
        except paths.Unusable as error:
            findings.append(_finding("wrong", subject, str(error)))
    return _print_findings(findings, as_json=as_json) if findings else examine(places[0], places[1], as_json=as_json)


def examine(data: Path, file: Path, *, as_json: bool) -> int:
    """Look at everything that commonly goes wrong. Returns 0 when nothing is wrong, 1 otherwise."""
    findings = [finding for name, check in CHECKS.items() for finding in _run_check(name, check, data, file)]
    return _print_findings(findings, as_json=as_json)


def _print_findings(findings: list[Finding], *, as_json: bool) -> int:
    for finding in findings:
        if as_json:
            print(json.dumps(finding.to_json()))
        else:
            mark = {"ok": "ok  ", "note": "note", "wrong": "FIX "}[finding.state]
            print(f"{mark}  {finding.subject}: {finding.says}")
    return 1 if any(finding.state == "wrong" for finding in findings) else 0


def _run_check(name: str, check: Check, data: Path, file: Path) -> list[Finding]:
    """What a check finds; one that fails is a finding too, and the others still look."""
    findings: list[Finding] = []
    try:
        findings.extend(check(data, file))
    except Exception as error:
        findings.append(_finding("wrong", name, describe_error(error)))
    return findings


def _finding(state: State, subject: str, says: str) -> Finding:
    return Finding(state, subject, keys.scrub(says))


def _python(_data: Path, _file: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    recent = sys.version_info >= (3, 11)
    yield _finding("ok" if recent else "wrong", "Python", version if recent else f"{version}; 3.11 or later is needed")


def _data_directory(data: Path, _file: Path) -> Iterator[Finding]:
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
    if not data.is_dir() or not folder.exists() or paths.data_trouble(data):  # `_data_directory` says that
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

    if paths.data_trouble(data):  # `_data_directory` says that
        return
    try:
        url = database_url(data)
        upgrade(url, data)
        total = run_queries.search_runs(reader(url), run_queries.RunFilter(), limit=1, offset=0).total
    except (DatabaseTooNew, ValueError, OSError, SQLAlchemyError) as error:
        yield _finding("wrong", "database", describe_error(error))
        return
    yield _finding("ok", "database", f"{'PostgreSQL' if url.startswith('postgresql') else 'SQLite'}, {total:,} runs")


def _deployments_file(_data: Path, file: Path) -> Iterator[Finding]:
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
        is_set = keys.lookup(name) is not None
        yield _finding(
            "ok" if is_set else "note",
            name,
            "set" if is_set else "not set; put it in the environment or in .streamlit/secrets.toml to use it",
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


def _page_settings(_data: Path, _file: Path) -> Iterator[Finding]:
    if trouble := streamlit_config.trouble():
        yield _finding("wrong", streamlit_config.NAME, trouble)


def _outbound(_data: Path, file: Path) -> Iterator[Finding]:
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
    for setting, path, subject in named:
        trouble = outbound.ca_trouble(path, setting)
        says = f"{setting} adds those of {path} to the usual ones"
        yield _finding("wrong" if trouble else "ok", subject, trouble or says)
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
    for subject, finding in aws_findings(data, file):
        yield _finding(finding.grade, subject, finding.says)


def _model(_data: Path, _file: Path) -> Iterator[Finding]:
    from services.embedded import missing

    why = missing()
    yield _finding("ok" if why is None else "wrong", "embedded model", why or "can run on this machine")


def _engine(data: Path, _file: Path) -> Iterator[Finding]:
    try:
        answer = EngineClient(paths.socket_path(data)).health()
    except (EngineDown, paths.NoPlace):
        lab = noted_lab(data)
        if lab is not None:
            yield _finding("wrong", "engine", f"does not answer although Inference Lab runs (process {lab.pid})")
            return
        yield _finding("note", "engine", "not running; `make run` starts it")
        return
    yield _finding("ok", "engine", f"running for {answer['uptime_s']:.0f} s, {answer['live_runs']} live runs")
    for name, status in answer["embedded"].items():
        usable = status["state"] in ("ready", "starting")
        yield _finding("ok" if usable else "wrong", f"embedded server {name}", status["sentence"])
    for trouble in ("db_trouble", "file_trouble"):
        if answer.get(trouble):
            yield _finding("wrong", "engine", str(answer[trouble]))


def aws_findings(data: Path, file: Path) -> Iterator[tuple[str, health.Finding]]:
    """What is wrong, by account and by deployment; nothing where no deployment is on AWS."""
    declared = [d for d in _declared(data, file) if d.aws is not None and d.enabled]
    signed = [d for d in declared if not d.key_env]
    places = list(dict.fromkeys((_aws_settings(d).profile, d.region or "") for d in signed))
    with ThreadPoolExecutor(AT_ONCE) as threads:
        accounts = dict(zip(places, threads.map(lambda place: health.account(*place), places), strict=True))
        lame = {place for place, finding in accounts.items() if finding.grade == "wrong"}
        # Without credentials every deployment would say the same: what is wrong is said once, for the account.
        sound = [d for d in declared if d.key_env or (_aws_settings(d).profile, d.region or "") not in lame]
        checked = list(threads.map(health.deployment, sound))
    for (profile, region), finding in accounts.items():
        yield f"AWS {profile or 'default chain'} in {region}", finding
    for d, finding in zip(sound, checked, strict=True):
        yield d.name, finding
    for d in signed:
        if d not in sound:
            yield d.name, health.Finding("note", "not looked at, because of the account above")


def _aws_settings(d: Deployment) -> Aws:
    return d.aws or Aws()


def _declared(data: Path, file: Path) -> Sequence[Deployment]:
    """Those of the file, and those that were added on the page."""
    declared: list[Deployment] = []
    if changed_at(file) is not None:
        try:
            declared += deployments_config.load(file).deployments
        except deployments_config.ConfigError:
            return ()
    return [*declared, *_added(data)]


def _added(data: Path) -> list[Deployment]:
    from sqlalchemy.exc import SQLAlchemyError

    from db import run_queries
    from db.engine import database_url, reader

    try:
        rows = run_queries.deployment_rows(reader(database_url(data)))
    except (SQLAlchemyError, ValueError, OSError):
        return []
    return [
        replace(Deployment.from_json(row.spec or {}), enabled=row.enabled)
        for row in rows
        if row.origin == "page" and not row.archived
    ]


# By the name that a check which fails itself is reported with.
CHECKS: Mapping[str, Check] = {
    "python": _python,
    "disk": _data_directory,
    "logs": _logs,
    "socket": _socket,
    "database": _database,
    "file": _deployments_file,
    "keys": _keys,
    "sign in": _sign_in,
    "look": _page_settings,
    "way out": _outbound,
    "aws": _aws,
    "model": _model,
    "engine": _engine,
}
