"""Where the pages listen: what an address means, who could reach it, and whether that is refused without sign-in."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.paths import ROOT
from services.security.keys import UnreadableSecrets, read_secrets

EVERYONE = "LAB_EVERYONE_IS_ADMIN"
ON = frozenset({"1", "true", "yes", "on"})
PORTS_TRIED = 50
SHARED = ("redirect_uri", "cookie_secret")  # settings of [auth] that every provider needs
OF_PROVIDER = ("client_id", "client_secret", "server_metadata_url")


class CannotListen(Exception):
    """The pages cannot, or must not, listen there; the text is a sentence for the person."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address that a socket can be bound to: a literal, with its zone where it has one."""

    host: str

    @property
    def loopback(self) -> bool:
        """Whether only programs of this machine reach it."""
        return _is_loopback(self.host)

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every address of this machine."""
        return ipaddress.ip_address(self.host.partition("%")[0]).is_unspecified

    @property
    def near(self) -> str:
        """The literal at which we reach ourselves."""
        if self.wildcard:
            return "::1" if ":" in self.host else "127.0.0.1"
        return self.host

    def url(self, port: int) -> str:
        """The address for a browser on this machine."""
        if self.near == "127.0.0.1":
            return f"http://localhost:{port}"
        host = self.near.replace("%", "%25")  # RFC 6874: a zone is percent-encoded
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _is_loopback(host: str) -> bool:
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def resolve(text: str) -> Address:
    """The address that a person gave, as a literal. Raises `CannotListen` for what is none.

    A name becomes a literal once and for all: what is checked here is what is listened on. One that means several
    addresses counts as loopback only if each of them is.
    """
    name = text.strip()
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    if not name:
        raise CannotListen("The address is empty: give one, as in --address 127.0.0.1.")
    if "/" in name or re.fullmatch(r"[^:]*:\d+", name) or name.startswith("["):
        raise CannotListen(f"“{text}” is no address: give it without http:// and port, and the port with --port.")
    try:
        results = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        zone = " or has no such network interface" if "%" in name else ""
        raise CannotListen(
            f"The address “{text}” means nothing on this machine{zone}: give one that it has, as in --address "
            "127.0.0.1."
        ) from None
    hosts = list(dict.fromkeys(_literal(row[4]) for row in results))
    # Where a name means a public address too, that one is taken: it is then refused or allowed for what it is.
    public = [host for host in hosts if not _is_loopback(host)]
    return Address((public or sorted(hosts, key=lambda host: ":" in host))[0])


def _literal(address: tuple[Any, ...]) -> str:
    host, scope = str(address[0]), address[3] if len(address) == 4 else 0
    if mapped := getattr(ipaddress.ip_address(host.partition("%")[0]), "ipv4_mapped", None):
        return str(mapped)  # a browser, and who checks the host it names, knows only this form
    return f"{host}%{socket.if_indextoname(scope)}" if scope and "%" not in host else host


def free_port(address: str, first: int) -> int:
    """``first`` if nobody listens there, else the next free port above it, else any free one.

    Raises `CannotListen` where no port of this address can be had: it is not this machine's, or the port is kept for
    the administrator.
    """
    return port_of(resolve(address), first)


def port_of(address: Address, first: int) -> int:
    """`free_port` for an address that is resolved already."""
    last = min(first + PORTS_TRIED, 65_536)
    for port in [*range(first, last), 0]:
        try:
            chosen = _bound(address.host, port)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise CannotListen(
                    f"Port {port} is kept for the administrator of this machine: give one above 1023 with --port."
                ) from error
            if error.errno != errno.EADDRINUSE:
                raise CannotListen(
                    f"This machine cannot listen on {address.host} ({error.strerror}): give an address of its own, as "
                    "in --address 127.0.0.1."
                ) from error
            continue
        if all(_free(host, chosen) for host in _also(address)):
            return chosen
    raise CannotListen(f"No port of {address.host} is free: end a program, or give another --address.")


def _also(address: Address) -> Sequence[str]:
    """A browser that is sent to localhost may try the other family first, and must not meet another program there."""
    return ("::1",) if address.near == "127.0.0.1" else ()


def _bound(host: str, port: int) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ":" in host:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # as Streamlit binds it
        probe.bind((host, port))
        return int(probe.getsockname()[1])


def _free(host: str, port: int) -> bool:
    try:
        _bound(host, port)
    except OSError as error:
        return error.errno != errno.EADDRINUSE  # without IPv6 nobody is there
    return True


# --- who could reach it ----------------------------------------------------------------------------------------------


def refuse_open_door(address: Address, *, everyone_is_admin: bool) -> None:
    """Raise `CannotListen` for an address that others reach while nobody has to sign in, unless that is meant."""
    if address.loopback or everyone_is_admin or flag() or sign_in_configured():
        return
    raise CannotListen(
        f"Nothing was started: on {address.host} everybody on the network would be an administrator here. Configure "
        "sign-in with [auth] in .streamlit/secrets.toml, or give --everyone-is-admin if that is what you want."
    )


def flag() -> bool:
    """Whether the environment says that everybody who reaches this server is meant to be an administrator."""
    return os.environ.get(EVERYONE, "").strip().lower() in ON


def secrets_files() -> tuple[Path, ...]:
    """Where Streamlit looks for secrets, the later one winning."""
    ours = ROOT / ".streamlit" / "secrets.toml"
    try:
        return (Path.home() / ".streamlit" / "secrets.toml", ours)
    except RuntimeError:  # a user of a container without a name and without HOME
        return (ours,)


def sign_in_configured(files: Sequence[Path] | None = None) -> bool:
    """Whether [auth] of secrets.toml has all that Streamlit needs to sign people in. A file that cannot be read has
    nothing."""
    auth: Any = None
    for file in secrets_files() if files is None else files:
        try:
            auth = (read_secrets(file) or {}).get("auth", auth)
        except UnreadableSecrets:
            continue
    if not isinstance(auth, Mapping) or not _has(auth, SHARED):
        return False
    named = [table for name, table in auth.items() if isinstance(table, Mapping) and "_" not in name]
    return any(_has(table, OF_PROVIDER) for table in (auth, *named))


def _has(table: Mapping[str, Any], names: Sequence[str]) -> bool:
    return all(isinstance(table.get(name), str) and table[name].strip() for name in names)
