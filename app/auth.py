"""Who is looking, in which role, and the three things every page reads from: engine, database, configuration.

Tests replace `sources`; pages never make a client themselves.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import streamlit as st
from sqlalchemy import Engine as SqlEngine
from streamlit.runtime.scriptrunner_utils.script_run_context import get_script_run_ctx

from app.access import sign_in
from app.tickets import BadTicket, Ticket
from db.engine import database_url, reader
from services import paths
from services.client import EngineClient, EngineDown, EngineError, client_from_env
from services.deployments import config as deployments_config
from services.deployments.registry import DeploymentStatus
from services.security import access
from services.security.access import Action, Role

LOCAL = "local"
VISITOR = "visitor"  # somebody who has not signed in, or is not let in


@dataclass(frozen=True, slots=True)
class Person:
    """Who is looking, and what they may do."""

    name: str
    role: Role
    until: int | None = None  # Unix seconds: when their sign-in ends
    mark: str = ""  # of their sign-in

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

    def config(self) -> deployments_config.Config:
        """The deployments file as it stands now."""
        ...


class _Environment:
    """The real sources: engine socket, database and deployments file as the environment names them."""

    def engine(self, person: Person) -> EngineClient:
        return _client(person.name, person.role)

    def database(self) -> SqlEngine:
        return _reader(database_url(paths.data_dir()))

    def config(self) -> deployments_config.Config:
        file = paths.deployments_file()
        try:
            stat = file.stat()
        except FileNotFoundError:
            return deployments_config.Config()
        except OSError as error:
            return _config(str(file), (error.errno,))
        return _config(str(file), (stat.st_mtime_ns, stat.st_size, stat.st_ino))


sources: Sources = _Environment()


@st.cache_resource(max_entries=200)
def _client(name: str, role: Role) -> EngineClient:
    return client_from_env(person=name, role=role)


@st.cache_resource
def _reader(url: str) -> SqlEngine:
    return reader(url)


@lru_cache(maxsize=4)
def _config(path: str, stamp: tuple[int | None, ...]) -> deployments_config.Config:
    # `stamp` is part of the key only: a changed file is read again.
    del stamp
    try:
        return deployments_config.load(paths.deployments_file(path))
    except deployments_config.ConfigError:
        # A file that cannot be read must not open doors that it may have closed; one that never spoke of access
        # closed none, and a slip in it should not lock out whoever is about to mend it.
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            text = "access"
        # Without this, whoever signs in with Entra would read that their address is not verified.
        trusted = re.search(r"(?m)^\s*trust_email\s*=\s*true\b", text) is not None
        mode: Literal["open", "closed"] = "closed" if "access" in text else "open"
        return deployments_config.Config(access=deployments_config.Access(mode=mode, trust_email=trusted))


def visitor() -> sign_in.Identity | None:
    """Who is signed in; None where nobody has to. Raises `sign_in.NotSignedIn` in words for whom is not let in."""
    how = sign_in.setup()
    if how.state == "off":
        return None
    if how.state == "broken":
        raise sign_in.NotSignedIn(how.trouble, signed=False)
    return sign_in.identify(st.user.to_dict(), how, trust_email=sources.config().access.trust_email)


def sign_out() -> None:
    """End this sign-in, in every tab."""
    sign_in.ended.add(st.user.to_dict())
    st.logout()


def person_and_role() -> Person:
    """The visitor: their verified e-mail address where `[auth]` is configured, else the local administrator.

    With `[access] mode = "closed"` only the listed senders and admins may do more than look. Nothing in the address
    of the page has a say in this.
    """
    try:
        identity = visitor()
    except sign_in.NotSignedIn:
        _back_to_the_door()
        return Person(VISITOR, "viewer")
    if identity is None:
        return Person(LOCAL, _local_role())
    role = access.role_of(identity.name, sources.config().access, signed_in=True)
    return Person(identity.name, role, identity.expires, identity.mark)


def _local_role() -> Role:
    rules = sources.config().access
    return "admin" if rules.mode == "open" else access.role_of(LOCAL, rules, signed_in=True)


def _back_to_the_door() -> None:
    """Draw the page anew, from its door. Streamlit keeps what was typed, which a page that is drawn to its end without
    its fields would lose."""
    if get_script_run_ctx() is not None:
        st.rerun()


def lets_in(cookies: Mapping[str, str], origin: str) -> bool:
    """Whether somebody with these cookies may use what is outside of the pages' own connection."""
    how = sign_in.setup()
    if how.state == "off":
        return True
    try:
        sign_in.identify(sign_in.claims_in(cookies, origin), how, trust_email=sources.config().access.trust_email)
    except sign_in.NotSignedIn:
        return False
    return True


def holds(ticket: Ticket, cookies: Mapping[str, str], origin: str | None) -> Ticket:
    """A board ticket as it stands now: with the role its person has now, where that is less than it was made for.

    ``cookies`` and ``origin`` are those of the request that carries it. Raises `BadTicket` once it is too old, or the
    sign-in that it was made in has ended or is not the one of the request.
    """
    if ticket.expires <= time.time():
        raise BadTicket("The ticket has expired.")
    how = sign_in.setup()
    rules = sources.config().access
    if how.state == "off":
        return replace(ticket, role=access.lesser(ticket.role, _local_role()))
    try:
        identity = sign_in.identify(sign_in.claims_in(cookies, origin or ""), how, trust_email=rules.trust_email)
    except sign_in.NotSignedIn as error:
        raise BadTicket("The sign-in has ended.") from error
    if identity.name != ticket.person or ticket.mark in sign_in.ended:
        raise BadTicket("The ticket belongs to another sign-in.")
    return replace(ticket, role=access.lesser(ticket.role, access.role_of(identity.name, rules, signed_in=True)))


def engine() -> EngineClient:
    """The engine, asked in the name of the visitor."""
    return sources.engine(person_and_role())


def database() -> SqlEngine:
    """The database, for reading."""
    try:
        visitor()
    except sign_in.NotSignedIn:
        _back_to_the_door()
    return sources.database()


def statuses() -> tuple[list[DeploymentStatus], str | None]:
    """Every deployment, and a sentence when the engine could not be asked. What was last known is kept meanwhile."""
    try:
        known = engine().deployments()
    except EngineError as error:
        return cast(list[DeploymentStatus], st.session_state.get("known_deployments", [])), str(error)
    st.session_state["known_deployments"] = known
    return known, None


__all__ = ["EngineDown", "EngineError", "Person", "database", "engine", "person_and_role", "statuses"]
