"""How a request leaves this machine: straight to its host or through a company's proxy, and whose certificates count.

The environment says so as for every other program (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY; SSL_CERT_FILE,
SSL_CERT_DIR, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE, AWS_CA_BUNDLE), and a deployment of deployments.toml may have a
``proxy``, ``proxy_env`` or ``ca_file`` of its own. Through a proxy it is the proxy that resolves the host's name. So
that this opens no way into the network it stands in, a name that is not a provider's own is looked up here as well:
where it stands for a private address it is called directly or not at all, by the rules of `services.security.network`.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import contextlib
import ipaddress
import os
import re
import socket
import ssl
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

import certifi

from services.security import keys
from services.security.network import Forbidden, check_ip, check_url, literal_address, on_amazon
from services.types import Deployment

SCHEMES = ("https", "http")
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
NONE = "none"  # ``proxy = "none"``: this deployment is called directly, whatever the environment says
# Never through a proxy: this machine, and the metadata services that hand a machine's own AWS role to it.
ALWAYS_DIRECT = ("localhost", "127.0.0.1", "::1", "169.254.169.254", "169.254.170.2", "fd00:ec2::254")
PROVIDERS = frozenset({"api.anthropic.com", "api.openai.com"})  # as public as a name can be: not looked up
LOOKED_UP_FOR_S = 60.0
LOOK_UP_WITHIN_S = 3.0  # where no name service answers, as behind many proxies, nobody waits longer


SIGN_IN_PAGE = frozenset({301, 302, 303, 307, 308, 511})  # how a proxy sends a browser to its own page


def wants_browser(status: int) -> str:
    """What such an answer of a proxy means, as the end of a sentence that begins with it."""
    return f"wants a sign-in page in a browser first ({status})"


class ProxyTrouble(ValueError):
    """A setting of a proxy or of certificates that cannot be used. One sentence without its full stop."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy: ``url`` without user and password, the setting that named it, and what it is logged in to with."""

    url: str
    setting: str
    login: str | None = field(default=None, repr=False)
    full: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Way:
    """The way of one request. ``tls`` None: the certificates that every request trusts."""

    proxy: Proxy | None = None
    tls: ssl.SSLContext | None = None


DIRECT = Way()


# --- which proxy -----------------------------------------------------------------------------------------------------


def proxy_of(text: str, setting: str) -> Proxy:
    """The proxy that a setting's ``text`` names; its password is taken out of all that is logged from now on.

    Raises `ProxyTrouble`, which never repeats the text.
    """
    url_text = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url_text.strip())
        port = parts.port
    except ValueError:
        raise ProxyTrouble(f"{setting} is not the address of a proxy, such as http://proxy.example.com:3128") from None
    if parts.scheme.lower() not in ("http", "https"):
        scheme = parts.scheme.upper() if re.fullmatch(r"socks\d?[ah]?", parts.scheme.lower()) else "other"
        raise ProxyTrouble(
            f"{setting} names a proxy of the kind {scheme}, which cannot be used: name an http:// one, or exempt the "
            "host with NO_PROXY"
        )
    if not parts.hostname or re.search(r"\s", url_text.strip()):
        raise ProxyTrouble(f"{setting} is not the address of a proxy, such as http://proxy.example.com:3128")
    scheme = parts.scheme.lower()
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    address = f"{host}:{port or (443 if scheme == 'https' else 80)}"
    login = full = None
    if parts.username is not None:
        login = _login(parts)
        full = f"{scheme}://{parts.netloc.rpartition('@')[0]}@{address}"
    url = f"{scheme}://{address}"
    return Proxy(url, setting, login, full or url)


def _login(parts: SplitResult) -> str:
    written = parts.netloc.rpartition("@")[0]
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    coded = base64.b64encode(f"{user}:{password}".encode()).decode()
    keys.remember(written, coded, password, parts.password or "")
    return f"Basic {coded}"


@lru_cache(maxsize=64)
def _parsed(text: str, setting: str) -> Proxy:
    return proxy_of(text, setting)


def from_environment(url: str) -> Proxy | None:
    """The proxy that the environment names for ``url``; None where there is none or NO_PROXY exempts the host.

    Raises `ProxyTrouble`.
    """
    scheme, _, remainder = url.partition("://")
    name = variable(scheme)
    if name is None:
        return None
    parts = urlsplit(f"{scheme}://{remainder}")
    if exempt(parts.hostname or "", parts.port or (443 if scheme == "https" else 80)):
        return None
    return _parsed(os.environ[name].strip(), name)


def variable(scheme: str) -> str | None:
    """The variable that names the proxy of a scheme. As everywhere, the one in small letters wins, even if empty."""
    for kind in (scheme, "all"):
        for name in (f"{kind}_proxy", f"{kind.upper()}_PROXY"):
            if name in os.environ:
                if os.environ[name].strip():
                    return name
                break
    return None


def no_proxy() -> list[str]:
    """The entries of NO_PROXY."""
    text = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    return [entry for entry in re.split(r"[,\s]+", text) if entry]


def exempt(host: str, port: int) -> bool:
    """Whether NO_PROXY says that ``host`` is called directly, or it is this machine itself.

    An entry is a name (which covers all below it, with or without a dot or "*." before it), an address, a range of
    addresses, any of these with a port, or "*".
    """
    name = host.lower().rstrip(".")
    address = literal_address(name)
    if _is_here(name):
        return True
    for entry in no_proxy():
        pattern, only_port = _without_port(entry.lower())
        if only_port is not None and only_port != port:
            continue
        pattern = pattern.strip("[]").rstrip(".")
        if pattern == "*":
            return True
        if address is not None:
            with contextlib.suppress(ValueError):
                net = ipaddress.ip_network(pattern, strict=False)
                if net.version == address.version and address in net:
                    return True
            continue
        suffix = pattern.removeprefix("*").lstrip(".")
        if suffix and (name == suffix or name.endswith(f".{suffix}")):
            return True
    return False


def _without_port(entry: str) -> tuple[str, int | None]:
    match = re.fullmatch(r"(\[[^\]]*\]|[^:]*):(\d{1,5})", entry)
    return (match[1], int(match[2])) if match else (entry, None)


def _is_here(name: str) -> bool:
    address = literal_address(name)
    if address is not None:
        return address.is_loopback or address.is_unspecified or str(address) in ALWAYS_DIRECT
    return name == "localhost" or name.endswith(".localhost")


def _of_deployment(deployment: Deployment | None) -> Proxy | str | None:
    """A deployment's own proxy, `NONE`, or None where it has no setting. Only the file's count: an administrator's."""
    if deployment is None or deployment.origin != "file":
        return None
    if deployment.proxy_env:
        text = keys.lookup(deployment.proxy_env)
        if text is None:
            raise ProxyTrouble(f"{deployment.proxy_env}, which names its proxy, is not set")
        return NONE if text.lower() == NONE else _parsed(text, deployment.proxy_env)
    if deployment.proxy:
        return NONE if deployment.proxy.lower() == NONE else _parsed(deployment.proxy, "its own settings")
    return None


def proxy_for(url: str, deployment: Deployment | None = None) -> Proxy | None:
    """The proxy that ``url`` is called through as far as settings say. Raises `ProxyTrouble`.

    For libraries that connect by themselves to hosts that nobody but us chose; `way_of` is for all others.
    """
    own = _of_deployment(deployment)
    if own == NONE or _is_here(_host(url)):
        return None
    if isinstance(own, Proxy):
        return own
    address = literal_address(_host(url))
    return None if address is not None and not address.is_global else from_environment(url)


def _host(url: str) -> str:
    return (urlsplit(url).hostname or "").lower().rstrip(".")


# --- one request's way -----------------------------------------------------------------------------------------------


def settings() -> list[str]:
    """The variables of the environment that name the proxies in force."""
    return [name for name in dict.fromkeys(map(variable, SCHEMES)) if name is not None]


def any_proxy(deployment: Deployment | None) -> bool:
    """Whether the environment or the deployment itself says anything about proxies."""
    own = deployment is not None and deployment.origin == "file" and (deployment.proxy or deployment.proxy_env)
    return bool(own or settings())


def concerns(deployment: Deployment) -> bool:
    """Whether there is any setting that calls of ``deployment`` could need a `way_of`: cheap, for every call."""
    return any_proxy(deployment) or bool(deployment.ca_file and deployment.origin == "file")


def way_of(deployment: Deployment, url: str, allowed: Collection[str]) -> Way:
    """How a request of ``deployment`` to ``url`` goes. May take seconds where names are not resolved: call in a thread.

    ``allowed`` as for `network.check_url`, which is asked here too. Raises `Forbidden` for a host that may not be
    called, `ProxyTrouble` for a setting that cannot be used.
    """
    check_url(url, allow_private=allowed)
    tls = trust(deployment.ca_file) if deployment.ca_file and deployment.origin == "file" else None
    proxy = proxy_for(url, deployment)
    if proxy is None:
        return Way(None, tls)
    host = _host(url)
    if host in PROVIDERS or on_amazon(url) or literal_address(host) is not None:
        return Way(proxy, tls)
    private = False
    for ip in looked_up(host):
        check_ip(ip, host, allowed)
        private = private or not ipaddress.ip_address(ip.partition("%")[0]).is_global
    # A server of the own network is not the proxy's business, unless its own settings say that it is.
    asked_for = isinstance(_of_deployment(deployment), Proxy)
    return Way(None if private and not asked_for else proxy, tls)


async def way_soon(deployment: Deployment, url: str, allowed: Collection[str]) -> Way:
    """`way_of` for the event loop. Without any setting nothing is awaited."""
    if not concerns(deployment):
        return DIRECT
    return await asyncio.to_thread(way_of, deployment, url, allowed)


def refuse_readable_secret(url: str, way: Way, *, secret: bool) -> None:
    """Raises `Forbidden` where a proxy would read a key, a signature or a login on its way.

    Over https:// nobody on the way can: the tunnel ends at the host. ``secret``: the request carries one.
    """
    if way.proxy is not None and secret and not url.startswith("https://"):
        raise Forbidden(
            f"Its key would pass the proxy of {way.proxy.setting} unencrypted, because its address begins with "
            'http://: use https://, or exempt it with NO_PROXY or proxy = "none".'
        )


_names: dict[str, tuple[float, tuple[str, ...]]] = {}


def looked_up(host: str) -> tuple[str, ...]:
    """The addresses that ``host`` stands for here; none where it cannot be resolved (soon). Kept for a minute."""
    last = _names.get(host)
    if last is not None and last[0] > time.monotonic():
        return last[1]
    answer: list[tuple[str, ...]] = []
    done = threading.Event()

    def ask() -> None:
        with contextlib.suppress(OSError, UnicodeError):
            infos = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
            answer.append(tuple(dict.fromkeys(str(info[4][0]) for info in infos)))
        done.set()

    threading.Thread(target=ask, daemon=True, name="look up").start()
    done.wait(LOOK_UP_WITHIN_S)
    addresses = answer[0] if answer else ()
    if len(_names) > 1000:
        _names.clear()
    _names[host] = (time.monotonic() + LOOKED_UP_FOR_S, addresses)
    return addresses


# --- certificates ----------------------------------------------------------------------------------------------------


def ca_sources() -> list[tuple[str, Path]]:
    """The variables that name certificates of authorities, and what they name."""
    named = [(name, os.environ.get(name, "").strip()) for name in CA_VARIABLES]
    return [(name, Path(text)) for name, text in named if text and text != _bundle.path]


def ca_trouble(path: Path, setting: str) -> str | None:
    """What is wrong with a file or folder of certificates, as a sentence without its full stop; None: nothing."""
    try:
        if path.is_dir():
            return None if any(path.iterdir()) else f"{setting} names a folder that is empty: {path}"
        if not path.exists():
            return f"{setting} names a file that is not there: {path}"
        ssl.create_default_context(cafile=str(path))
    except ssl.SSLError:
        return f"{setting} names a file without a certificate in PEM form: {path}"
    except OSError as error:
        return f"{setting} names a file that cannot be read ({error.strerror}): {path}"
    return None


def environment_ca_trouble() -> str | None:
    """What is wrong with the first variable of certificates that cannot be used; None: nothing."""
    troubles = (ca_trouble(path, setting) for setting, path in ca_sources())
    return next((trouble for trouble in troubles if trouble), None)


def trust(ca_file: str | None = None) -> ssl.SSLContext:
    """Whose certificates count: the system's, certifi's (a bare container has no others), those that the environment
    names, and ``ca_file``. Raises `ProxyTrouble` for a ``ca_file`` that cannot be used; what the environment names and
    cannot be read counts for nothing, and is told when a certificate is refused.
    """
    sources = tuple((setting, str(path), _stamp(path)) for setting, path in ca_sources())
    if ca_file is None:
        return _context(sources, None, None)
    path = expanded(ca_file)
    trouble = ca_trouble(path, "ca_file")
    if trouble:
        raise ProxyTrouble(trouble)
    return _context(sources, str(path), _stamp(path))


def expanded(path: str) -> Path:
    """A path with ~ as somebody's home; as it is written where nobody is called so, and then nothing is there."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - `Path.expanduser` raises for a person who is not there


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size


@lru_cache(maxsize=32)
def _context(
    sources: tuple[tuple[str, str, tuple[int, int] | None], ...], ca_file: str | None, _when: tuple[int, int] | None
) -> ssl.SSLContext:
    context = ssl.create_default_context()  # reads SSL_CERT_FILE by itself, and SSL_CERT_DIR where its names are hashes
    context.load_verify_locations(certifi.where())
    texts = [*(text for name, text, _ in sources if name != "SSL_CERT_FILE"), *([ca_file] if ca_file else [])]
    for path in {Path(os.path.realpath(text)): None for text in texts}:  # one file often has several names
        with contextlib.suppress(OSError):  # ssl.SSLError is one too
            if not path.is_dir():
                context.load_verify_locations(cafile=str(path))
                continue
            context.load_verify_locations(capath=str(path))
            for certificate in () if any(path.glob("*.0")) else _certificates(path):
                with contextlib.suppress(OSError):
                    context.load_verify_locations(cafile=str(certificate))
    if (sources or ca_file) and sys.version_info >= (3, 13):
        # Many a company's authority was made before Python became strict about what its certificate has to hold.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _certificates(folder: Path) -> Iterator[Path]:
    """The files of a folder that hold certificates by their names; the others are links to them."""
    return (file for file in sorted(folder.iterdir()) if file.suffix in (".pem", ".crt", ".cer") and file.is_file())


@dataclass(slots=True)
class _Bundle:
    path: str = ""
    made_of: object = None
    lock: threading.Lock = field(default_factory=threading.Lock)


_bundle = _Bundle()


def for_libraries() -> None:
    """Let boto3 and requests (which apprise sends with) go the same way: they read the environment by themselves, but
    not all of it. This machine and its metadata service stay direct, and certificates that any of the variables names
    count for both. Call before one of them is used; cheap when nothing changed.
    """
    if settings():
        there = no_proxy()
        lacking = [host for host in ALWAYS_DIRECT if host not in there and "*" not in there]
        if lacking:
            text = ",".join([*there, *lacking])
            os.environ["no_proxy"] = os.environ["NO_PROXY"] = text
    with _bundle.lock:
        sources = ca_sources()
        made_of = [(setting, str(path), _stamp(path)) for setting, path in sources]
        if sources and made_of != _bundle.made_of:
            _bundle.path, _bundle.made_of = _bundled([path for _, path in sources]), made_of
            for name in ("REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
                if not os.environ.get(name) or name not in dict(sources):
                    os.environ[name] = _bundle.path


def bundle(ca_file: str) -> str:
    """A file of all certificates that count for a deployment with a ``ca_file``. Raises `ProxyTrouble`."""
    path = expanded(ca_file)
    trouble = ca_trouble(path, "ca_file")
    if trouble:
        raise ProxyTrouble(trouble)
    sources = [source for _, source in ca_sources()]
    return _bundle_of(tuple((str(source), _stamp(source)) for source in [*sources, path]))


@lru_cache(maxsize=32)
def _bundle_of(files: tuple[tuple[str, tuple[int, int] | None], ...]) -> str:
    return _bundled([Path(text) for text, _ in files])


def _bundled(paths: Collection[Path]) -> str:
    """A file of certifi's certificates and those of ``paths``, for libraries that take one file. It ends with us."""
    handle, name = tempfile.mkstemp(prefix="inference-lab-ca-", suffix=".pem")
    with os.fdopen(handle, "wb") as file:
        file.write(Path(certifi.where()).read_bytes())
        for path in paths:
            if ca_trouble(path, "") is None:
                for certificate in _certificates(path) if path.is_dir() else (path,):
                    with contextlib.suppress(OSError):
                        file.write(b"\n" + certificate.read_bytes())
    atexit.register(_removed(name))
    return name


def _removed(name: str) -> Callable[[], None]:
    def remove() -> None:
        with contextlib.suppress(OSError):
            Path(name).unlink()

    return remove
