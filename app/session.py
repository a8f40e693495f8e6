"""Who is looking, in which role, and the three things every page reads from: engine, database, configuration.

Tests replace `sources`; pages never make a client themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import streamlit as st
from sqlalchemy import Engine as SqlEngine

from db.engine import database_url, reader
from services import access, deployments, paths
from services.access import Action, Role
from services.client import EngineClient, EngineDown, EngineError, client_from_env
from services.engine.status import DeploymentStatus

LOCAL = "local"


@dataclass(frozen=True, slots=True)
class Person:
    """Who is looking, and what they may do."""

    name: str
    role: Role

    def may(self, action: Action) -> bool:
        """Whether the page should offer an action. The engine decides again when it is asked."""
        return access.may(self.role, action)

    def may_change(self, action: Action, row: Mapping[str, Any] | None) -> bool:
        """`may`, for a row that somebody recorded: members change only their own."""
        return row is not None and self.may(action) and access.owns(self.role, self.name, row.get("person"))


class Sources(Protocol):
    """Where the pages get things from."""

    def engine(self, person: Person) -> EngineClient:
        """The engine, asked in the name of a person."""
        ...

    def database(self) -> SqlEngine:
        """A read-only connection pool to the database."""
        ...

    def config(self) -> deployments.Config:
        """The deployments file as it stands now."""
        ...


class _Environment:
    """The real sources: engine socket, database and deployments file as the environment names them."""

    def engine(self, person: Person) -> EngineClient:
        return _client(person.name, person.role)

    def database(self) -> SqlEngine:
        return _reader(database_url(paths.data_dir()))

    def config(self) -> deployments.Config:
        file = paths.deployments_file()
        return _config(str(file), file.stat().st_mtime) if file.exists() else deployments.Config()


sources: Sources = _Environment()


@st.cache_resource(max_entries=200)
def _client(name: str, role: Role) -> EngineClient:
    return client_from_env(person=name, role=role)


@st.cache_resource
def _reader(url: str) -> SqlEngine:
    return reader(url)


@st.cache_resource(max_entries=4)
def _config(path: str, stamp: float) -> deployments.Config:
    # `stamp` is part of the key only: a changed file is read again.
    del stamp
    try:
        return deployments.load(paths.deployments_file(path))
    except deployments.ConfigError:
        # A file that cannot be read must not open doors that it may have closed; one that never spoke of access
        # closed none, and a slip in it should not lock out whoever is about to mend it.
        closed = "access" in Path(path).read_text(encoding="utf-8", errors="replace")
        return deployments.Config(access=deployments.Access(mode="closed" if closed else "open"))


def signed_in() -> bool:
    """True unless sign-in is configured and this visitor has not signed in."""
    return bool(getattr(st.user, "is_logged_in", True)) or not _auth_configured()


def _auth_configured() -> bool:
    return hasattr(st.user, "is_logged_in")


def person_and_role() -> Person:
    """The visitor: their verified e-mail address where `[auth]` is configured, else the local administrator.

    With `[access] mode = "closed"` only the listed senders and admins may do more than look. Nothing in the address
    of the page has a say in this.
    """
    rules = sources.config().access
    if _auth_configured():
        name = str(st.user.get("email") or st.user.get("sub") or "unknown") if st.user.is_logged_in else "visitor"
        return Person(name, role_of(name, rules, known=bool(st.user.is_logged_in)))
    return Person(LOCAL, "admin" if rules.mode == "open" else role_of(LOCAL, rules, known=True))


def role_of(name: str, rules: deployments.Access, *, known: bool) -> Role:
    """The role of a person under the access rules. Somebody who is not signed in (``known`` false) may only look."""
    wanted = name.casefold()
    if known and wanted in {entry.casefold() for entry in rules.admins}:
        return "admin"
    if known and (rules.mode == "open" or wanted in {entry.casefold() for entry in rules.senders}):
        return "member"
    return "viewer"


def engine() -> EngineClient:
    """The engine, asked in the name of the visitor."""
    return sources.engine(person_and_role())


def database() -> SqlEngine:
    """The database, for reading."""
    return sources.database()


def statuses() -> tuple[list[DeploymentStatus], str | None]:
    """Every deployment, and a sentence when the engine could not be asked. What was last known is kept meanwhile."""
    try:
        known = engine().deployments()
    except EngineError as error:
        return cast(list[DeploymentStatus], st.session_state.get("known_deployments", [])), str(error)
    st.session_state["known_deployments"] = known
    return known, None


__all__ = ["EngineDown", "EngineError", "Person", "database", "engine", "person_and_role", "role_of", "statuses"]
