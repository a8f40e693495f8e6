"""Which addresses this server may call. The guard against a base URL that points into the network it stands in.

Two walls: `check_url` looks at what is written (and at literal addresses, which aiohttp never resolves), and
`GuardedResolver` looks at every address a name resolves to; aiohttp then connects to exactly those addresses, so that
a second, different answer of the name service is never used. Addresses of clouds' metadata services are refused
whatever is allowed. Sentences never carry a resolved address: it would tell about the inside of the network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import unicodedata
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult

Address = IPv4Address | IPv6Address

METADATA_HOSTS = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.azure.com",
        "metadata.tencentyun.com",
        "metadata.platformequinix.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
# Link-local and the metadata services of AWS (v6), Google (v6), Alibaba, Azure and Oracle; then what is no host at all.
NEVER = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",
        "fe80::/10",
        "fec0::/10",
        "fd00:ec2::/32",
        "fd20:ce::/32",
        "fd00:c1::/32",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "192.0.0.192/32",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "ff00::/8",
    )
)
NAT64 = tuple(ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48"))
# The services' own hosts and their VPC endpoints, not everything below AWS's domains: an API gateway, a bucket or a
# load balancer there belongs to whoever made it.
AMAZON = re.compile(
    r"(?:vpce-[0-9a-f]+-[0-9a-z]+(?:-[a-z0-9-]+)?\.)?"
    r"(?:bedrock-runtime(?:-fips)?|bedrock-mantle|runtime\.sagemaker(?:-fips)?|runtime-fips\.sagemaker)"
    r"\.[a-z]{2,8}(?:-[a-z0-9]+)+-\d+(?:\.vpce)?"
    r"\.(?:amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|api\.aws|api\.amazonwebservices\.com\.cn)\Z"
)
HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?\.?\Z")


class Forbidden(ValueError):
    """An address that may not be called. The message is one sentence for the reader."""


def check_url(url: str, *, allow_private: Collection[str]) -> None:
    """Raises `Forbidden` unless ``url`` is an http(s) URL whose written form may be called.

    ``allow_private``: host names, addresses or CIDR ranges whose private or loopback addresses are wanted. A host name
    that resolves to a private address passes here; it is `GuardedResolver` that refuses it.
    """
    parts = split_url(url)
    host = (parts.hostname or "").rstrip(".")
    if host in METADATA_HOSTS:
        raise Forbidden(_never(host))
    literal = literal_address(host)
    if literal is not None:
        check_ip(str(literal), host, allow_private)


def split_url(url: str) -> SplitResult:
    """The parts of an http(s) URL. Raises `Forbidden` in words for anything that two readers could read differently."""
    if not url or any(ord(char) <= 32 or ord(char) == 127 for char in url) or "\\" in url:
        raise Forbidden("The address holds a space, a line break, a control character or a backslash: write it anew.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Forbidden("The address is not a valid URL; it looks like https://host/path.") from None
    if parts.scheme not in ("http", "https"):
        raise Forbidden("The address has to start with https:// or http://.")
    if "@" in parts.netloc:
        raise Forbidden("The address holds a user name or a password: name the key's variable in key_env instead.")
    if not parts.hostname:
        raise Forbidden("The address names no host; it looks like https://host/path.")
    if port == 0:
        raise Forbidden("The address names port 0, which nothing can listen on.")
    if ":" not in parts.hostname and not HOST.match(parts.hostname):
        plain = unicodedata.normalize("NFKC", parts.hostname)
        hint = "write it with plain letters" if plain.isascii() else "write an international name in its xn-- form"
        raise Forbidden(f"The host name of the address holds characters that host names do not have: {hint}.")
    if ":" in parts.hostname and literal_address(parts.hostname) is None:
        raise Forbidden("The address in square brackets is not a valid IPv6 address.")
    return parts


def host_of(url: str) -> str:
    """The lower-case host of an http(s) URL, without port and final dot. Raises `Forbidden`."""
    return (split_url(url).hostname or "").rstrip(".")


def literal_address(host: str) -> Address | None:
    """The address that ``host`` spells, in every form the C library reads ("127.1", "0xA9FEA9FE", "2852039166"); None
    for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, UnicodeEncodeError):
        return None


def check_ip(ip: str, host: str, allow_private: Collection[str]) -> None:
    """Raises `Forbidden` when ``ip``, which ``host`` stands for, may not be called.

    A public address may. One in `NEVER` (or an IPv6 address that wraps one) never may. Any other may when its host
    name, itself, or a range it lies in is in ``allow_private``. Raises ValueError when ``ip`` is no address.
    """
    address = ipaddress.ip_address(ip.partition("%")[0])
    meant = [address, *_wrapped(address)]
    if any(ip.version == net.version and ip in net for ip in meant for net in NEVER):
        raise Forbidden(_never(host))
    if all(ip.is_global for ip in meant) or _listed(host, meant, allow_private):
        return
    raise Forbidden(
        f"The host {host!r} is in a private network or on this machine, which may not be called: an administrator can "
        "add it to allow_private_hosts under [network] in deployments.toml."
    )


def _never(host: str) -> str:
    return f"The host {host!r} stands for a reserved address, such as a cloud's metadata service: it is never called."


def _wrapped(address: Address) -> list[IPv4Address]:
    """The IPv4 addresses inside an IPv6 address (mapped, compatible, 6to4, Teredo, NAT64)."""
    if isinstance(address, IPv4Address):
        return []
    inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    value = int(address)
    if any(address in net for net in NAT64) or 1 < value < 2**32:
        inner.append(IPv4Address(value & 0xFFFFFFFF))
    return [ip for ip in inner if ip is not None]


def _listed(host: str, meant: Collection[Address], allow_private: Collection[str]) -> bool:
    name = host.lower().rstrip(".")
    for entry in allow_private:
        if entry.lower().rstrip(".") == name:
            return True
        try:
            net = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            continue  # a host name
        if any(ip.version == net.version and ip in net for ip in meant):
            return True
    return False


def on_amazon(url: str) -> bool:
    """Whether an address is one of AWS's own, over TLS."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        return False
    return parts.scheme == "https" and port in (None, 443) and bool(AMAZON.match((parts.hostname or "").rstrip(".")))


class GuardedResolver(AbstractResolver):
    """Resolves names for aiohttp and refuses a name as a whole when any of its addresses may not be called.

    ``allow_private`` is asked at every resolution. aiohttp connects to the addresses returned here and to no other, but
    it never resolves a literal address: give each URL to `check_url` first, send with ``allow_redirects=False``, and
    switch the connector's DNS cache off or keep it short when the allowed hosts can change.
    """

    def __init__(self, allow_private: Callable[[], Collection[str]]) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Addresses of ``host``. Raises `Forbidden`, or OSError when the name cannot be resolved."""
        if host.lower().rstrip(".") in METADATA_HOSTS:
            raise Forbidden(_never(host))
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
        allowed = self._allow_private()
        results: list[ResolveResult] = []
        for kind, _, proto, _, address in infos:
            check_ip(str(address[0]), host, allowed)
            results.append(
                ResolveResult(
                    hostname=host,
                    host=str(address[0]),
                    port=int(address[1]),
                    family=kind,
                    proto=proto,
                    flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
                )
            )
        if not results:
            raise OSError(f"no address for {host!r}")
        return results

    async def close(self) -> None:
        """Nothing is held."""
