"""Under which names this server answers, and which pages may talk to it: pure rules for the Host and Origin headers.

A page on the internet can let its own name point at this machine after it was loaded (DNS rebinding). Its browser then
believes that we are that page's server, and the only trace is the Host header. So a host *name* is answered only when
it is one of ours. An IP address cannot be pointed elsewhere: a browser that sends one has really been sent there.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

import idna

log = logging.getLogger(__name__)

WILDCARDS = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - only compared
DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}

_HOST = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_ORIGIN = re.compile(r"(https?)://([^/?#@\\\s]{1,300})", re.IGNORECASE)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")


class BadHost(ValueError):
    """A configured host that cannot be one; the text is a sentence for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Host:
    """A host in its one spelling (lower case, no trailing dot, an IPv4 address as itself), and its port if named."""

    name: str
    port: int | None = None

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can be meant."""
        address = ip_address(self.name)
        return self.name == "localhost" if address is None else address.is_loopback


def ip_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The IP address a text is, or None. An IPv4 address inside an IPv6 one is the IPv4 address; a zone is left out.

    Only four decimal numbers are IPv4. Browsers write 2130706433, 0x7f.1 and 127.1 out before they send them, so a
    client that sends them as they are is none.
    """
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def parse_host(text: str) -> Host | None:
    """The value of a Host header, or of an Origin behind its scheme. None for what no browser would send."""
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    name, port = match[1].lower(), int(match[2]) if match[2] else None
    if port is not None and not 0 < port < 65536:
        return None
    bracketed = name.startswith("[")
    address = ip_address(name.strip("[]"))
    if address is not None:
        if not bracketed and ":" in name:
            return None
        return Host(str(address), port)
    name = name.removesuffix(".")
    labels = name.split(".")
    # A name whose last label is a number is no name: browsers would have made an address of it, or refused it.
    if bracketed or labels[-1].isdigit() or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    return Host(name, port)


def configured_host(text: str) -> Host:
    """A host from the configuration: a name or an address, with a port where browsers see one that is not 80 or 443.

    Names may be written with letters beyond ASCII. Raises `BadHost`.
    """
    written = text.strip()
    bare = f"[{written}]" if written.count(":") > 1 and not written.startswith("[") else written
    try:
        name, colon, port = bare.rpartition(":") if re.search(r":\d+\Z", bare) else (bare, "", "")
        ascii_name = name if name.isascii() else idna.encode(name, uts46=True).decode()
    except idna.IDNAError:
        ascii_name = colon = port = ""
    host = parse_host(f"{ascii_name}{colon}{port}")
    if host is None:
        raise BadHost(f"{written!r} is not a host: write the name alone, like lab.example.com, without https:// or *.")
    if host.name in WILDCARDS:
        raise BadHost(f"{written!r} stands for every address: write the names under which browsers reach the pages.")
    return host


@dataclass(frozen=True, slots=True)
class Rules:
    """Which hosts are ours: loopback, the address that the server was started with, and the configured ones."""

    configured: frozenset[Host] = frozenset()
    started_at: str | None = None  # what `lab run --address` was given

    def answers_to(self, host: Host, arrived_at: str | None) -> bool:
        """Whether a request for ``host`` is for us. ``arrived_at``: our own end of this very connection.

        Where the server listens on every address, the one at which the connection arrived is ours for certain, and
        nobody can have pointed a name at it: the browser was told the address itself.
        """
        if host.is_loopback or any(host.name == own.name for own in self.configured):
            return True
        if self.started_at is not None:
            started = ip_address(self.started_at)
            if host.name == (str(started) if started else self.started_at.lower().removesuffix(".")):
                return True
        own = ip_address(arrived_at or "")
        return own is not None and host.name == str(own)

    def may_come_from(self, origin: str, host: Host, scheme: str) -> bool:
        """Whether a page of ``origin`` may do more than read at ``host``: it is our own page.

        ``scheme`` is what this server sees; "http" may have been https in front of a proxy, "https" cannot have been
        http. A proxy that sends its own Host has to have its public name configured.
        """
        match = _ORIGIN.fullmatch(origin)
        page = parse_host(match[2]) if match else None
        if match is None or page is None:
            return False
        page_scheme = match[1].lower()
        if (scheme in ("https", "wss")) and page_scheme == "http":
            return False
        default = DEFAULT_PORTS[page_scheme]
        page_port = page.port or default
        if page.name == host.name and page_port == (host.port or default):
            return True
        return any(page.name == own.name and page_port == (own.port or default) for own in self.configured)
