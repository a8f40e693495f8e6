"""The HTTP client of the vendors' SDKs: where they may connect, and with which key, by the rules of live calls.

The SDKs follow redirects, read proxies, further keys and headers from the environment, and go where an answer tells
them to (Anthropic's ``results_url``). So they are given an HTTP client of ours, which follows nothing, reads nothing
from the environment, asks `check` about every single request and sends each the way that `outbound` says.
"""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from services import paths
from services.deployments import config as deployments_config
from services.deployments.config import Config
from services.providers import kind_of
from services.security import keys, outbound
from services.security.network import Forbidden, check_ip, check_url, split_url
from services.types import Deployment

if TYPE_CHECKING:
    import httpx2

CONNECT_S = 10.0
# The longest silence inside one exchange. A service reads a whole upload before it answers.
ANSWER_S = 300.0
# Headers that the SDKs add on their own account, from variables that live calls do not read.
_AMBIENT = ("ANTHROPIC_CUSTOM_HEADERS", "OPENAI_CUSTOM_HEADERS")
_NEEDED = {"host", "content-type", "content-length", "transfer-encoding"}

_lock = threading.Lock()
_read: tuple[float | None, Config] | None = None
_get: Callable[[], Config] | None = None


def configure(get: Callable[[], Config] | None) -> None:
    """Take the bindings of keys and the allowed hosts from ``get`` (the worker's registry has them).

    Without it, or with None, deployments.toml is read from where every other part of the program reads it.
    """
    global _get
    _get = get


def config() -> Config:
    """The configuration that holds now. A file that cannot be read allows what holds without one."""
    return _get() if _get is not None else _of_file()


def _of_file() -> Config:
    global _read
    path = paths.deployments_file()
    try:
        stamp: float | None = path.stat().st_mtime
    except OSError:
        stamp = None
    with _lock:
        latest = _read
    if latest is None or latest[0] != stamp:
        # Read without the lock: a file on a slow disk must not hold up whoever has the configuration already.
        try:
            latest = stamp, deployments_config.load(path) if stamp is not None else Config()
        except deployments_config.ConfigError:
            latest = stamp, Config()
        with _lock:
            _read = latest
    return latest[1]


class Access(NamedTuple):
    """An address that may be called, and the key that may be sent to it."""

    url: str
    key: str

    def __repr__(self) -> str:
        return f"Access(url={self.url!r})"


def access(deployment: Deployment, url: str) -> Access:
    """The key for ``url``. Raises `Forbidden`: one sentence on what is missing or not allowed."""
    check(deployment, url)
    name = deployment.key_env
    if not name:
        lacks = "needs the name of a key variable: add key_env to its settings"
        raise Forbidden(
            f"{deployment.name} {lacks}."
            if kind_of(deployment).key_required
            else f"{deployment.name} has no key, which the batch service wants: add key_env to its settings."
        )
    key = keys.lookup(name)
    if key is None:
        raise Forbidden(f"{deployment.name} needs {name}: put the key into the environment or .streamlit/secrets.toml.")
    return Access(url, key)


def check(deployment: Deployment, url: str) -> None:
    """Raises `Forbidden` in words when this deployment's calls may not go to ``url``, or not with its key.

    Names are resolved here and every address looked at. The SDK's client resolves once more by itself, so a name whose
    answer changes in between is caught by its binding to the key only.
    """
    settings = config()
    allowed = deployments_config.allowed_private(deployment, settings)
    check_url(url, allow_private=allowed)
    parts = split_url(url)
    host = (parts.hostname or "").rstrip(".")
    if deployment.key_env and not keys.allowed_host(deployment.key_env, url, settings.key_hosts):
        raise Forbidden(
            f"{deployment.key_env} may not be sent to the host {host!r}; bind the two under [keys] in deployments.toml."
        )
    try:
        way = outbound.way_of(deployment, url, allowed)
        outbound.refuse_readable_secret(url, way, secret=bool(deployment.key_env))
    except outbound.ProxyTrouble as error:
        raise Forbidden(f"{deployment.name} cannot be called: {error}.") from None
    if way.proxy is not None:
        return
    try:
        addresses = socket.getaddrinfo(host, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError:
        return  # the call itself says that the name cannot be resolved
    for *_, address in addresses:
        check_ip(str(address[0]), host, allowed)


def http_client(deployment: Deployment, name: str, value: str) -> httpx2.Client:
    """The HTTP client for an SDK's calls for this deployment, whose key is sent as the header ``name``: ``value``."""
    import httpx2

    strange = (_ambient_headers() | {"authorization", "x-api-key"}) - {header.lower() for header in deployment.headers}

    def before(request: httpx2.Request) -> None:
        check(deployment, str(request.url))
        for header in strange:
            request.headers.pop(header, None)
        request.headers[name] = value

    return httpx2.Client(
        timeout=httpx2.Timeout(ANSWER_S, connect=CONNECT_S),
        follow_redirects=False,
        trust_env=False,
        event_hooks={"request": [before]},
        transport=_routed(deployment),
    )


def _routed(deployment: Deployment) -> httpx2.BaseTransport:
    """A transport whose every request goes the way that its own address has."""
    import httpx2

    class Routed(httpx2.BaseTransport):
        def __init__(self) -> None:
            self._ways: dict[outbound.Way, httpx2.HTTPTransport] = {}

        def handle_request(self, request: httpx2.Request) -> httpx2.Response:
            allowed = deployments_config.allowed_private(deployment, config())
            way = outbound.way_of(deployment, str(request.url), allowed)
            transport = self._ways.get(way)
            if transport is None:
                transport = self._ways[way] = httpx2.HTTPTransport(
                    verify=way.tls or outbound.trust(), trust_env=False, proxy=_proxy(way)
                )
            try:
                return transport.handle_request(request)
            except (httpx2.ProxyError, httpx2.ConnectError, httpx2.ConnectTimeout) as error:
                if way.proxy is None:
                    raise
                raise ThroughProxy(_of_proxy(error, way.proxy)) from error

        def close(self) -> None:
            for transport in self._ways.values():
                transport.close()

    return Routed()


class ThroughProxy(Exception):
    """A proxy could not be reached, or did not let a request through. One sentence."""


def _proxy(way: outbound.Way) -> httpx2.Proxy | None:
    import httpx2

    if way.proxy is None:
        return None
    headers = {"Proxy-Authorization": way.proxy.login} if way.proxy.login else None
    tls = outbound.trust() if way.proxy.url.startswith("https://") else None
    return httpx2.Proxy(way.proxy.url, headers=headers, ssl_context=tls)


def _of_proxy(error: Exception, proxy: outbound.Proxy) -> str:
    sentence = keys.scrub(str(error))
    if "CERTIFICATE_VERIFY_FAILED" in sentence:
        mend = outbound.environment_ca_trouble() or "name the company's own in SSL_CERT_FILE or ca_file"
        return f"Through the proxy of {proxy.setting} came a certificate that is not trusted here: {mend}."
    status = re.match(r"(\d{3})\b", sentence)
    if status and status[1] == "407":
        lacks = "did not accept the user name and password" if proxy.login else "wants a user name and a password"
        return f"The proxy of {proxy.setting} {lacks} (407): check its settings, lab doctor shows them."
    if status and int(status[1]) in outbound.SIGN_IN_PAGE:
        return f"The proxy of {proxy.setting} {outbound.wants_browser(int(status[1]))}: sign in there, then try again."
    if status:
        return (
            f"The proxy of {proxy.setting} did not connect to the host ({status[1]}): check whether it allows it, or "
            "exempt the host with NO_PROXY."
        )
    return f"The proxy of {proxy.setting} does not answer: check its settings, lab doctor shows them."


def _ambient_headers() -> set[str]:
    lines = [line for name in _AMBIENT for line in os.environ.get(name, "").splitlines()]
    return {line.partition(":")[0].strip().lower() for line in lines if ":" in line} - _NEEDED
