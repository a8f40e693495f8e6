"""Asks inference servers how they are, while somebody looks: on connections of its own, never on those of a call.

One answer serves everybody: however many look, a server is asked at most once a second (one that refuses: once in
15 s), and deployments that stand on the same server share its answer. Addresses and keys follow the rules of calls:
only declared deployments, only addresses that may be called, and a key only to hosts that it belongs to.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import aiohttp

from services import servers
from services.calls.live import LiveColumn, LiveRun
from services.calls.stream import leaving
from services.deployments.registry import Registry
from services.embedded import EmbeddedPool
from services.providers import kind_of
from services.security import keys, outbound
from services.security.network import Forbidden, GuardedResolver, check_url
from services.servers import Gauge, NoMetrics, ServerReport, hits_since, read_metrics
from services.types import Deployment

log = logging.getLogger(__name__)
EMBEDDED = "embedded://"
TIMEOUT_S = 2.0
MAX_BODY = 2_000_000
EVERY_S = 1.0
AFTER_REFUSAL_S = 15.0
AFTER_SILENCE_S = 3.0  # a busy server may answer later
FACTS_EVERY_S = 60.0
REMEMBERED = 100  # servers
KEEPALIVE_S = 3.0  # llama.cpp closes an idle connection after 5 s


T = TypeVar("T")


class Silent(Exception):
    """A server that did not say what it was asked; the message is one sentence for the reader.

    ``again_s``: after how many seconds it may be asked again.
    """

    def __init__(self, sentence: str, again_s: float = AFTER_REFUSAL_S) -> None:
        super().__init__(sentence)
        self.again_s = again_s


@dataclass(slots=True)
class _Answer(Generic[T]):
    """The last answer to one question. ``due`` (seconds of the monotonic clock): not asked again before."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    due: float = 0.0
    value: T | None = None
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a server is and what it has to be shown: the address without a wire's path, and headers."""

    root: str
    near: bool
    headers: tuple[tuple[str, str], ...] = ()
    way: outbound.Way = outbound.DIRECT


class Gauges:
    """The servers of this engine, asked at most once a second each. ``now``: a monotonic clock in seconds."""

    def __init__(self, registry: Registry, pool: EmbeddedPool, now: Callable[[], float] = time.monotonic) -> None:
        self._registry = registry
        self._pool = pool
        self._now = now
        self._gauges: OrderedDict[Hashable, _Answer[Gauge]] = OrderedDict()
        self._server_facts: OrderedDict[Hashable, _Answer[servers.ServerFacts]] = OrderedDict()
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._woken = asyncio.Event()
        self._through: aiohttp.ClientSession | None = None

    def open(self, private_hosts: Callable[[], Collection[str]]) -> None:
        """Open connection pools on the running loop; ``private_hosts`` as for `GuardedResolver`."""
        self._sessions = {True: _session(None), False: _session(GuardedResolver(private_hosts))}

    def wake(self) -> None:
        """A run has begun."""
        self._woken.set()

    async def close(self) -> None:
        """Close the connection pools."""
        for session in (*self._sessions.values(), self._through):
            if session is not None:
                await session.close()

    async def server(self, deployment_id: str) -> ServerReport:
        """What a declared deployment's server is and how it is now. Raises ValueError for one that is not known."""
        deployment = self._registry.find(deployment_id)
        if deployment is None or self._registry.status(deployment).archived:
            raise ValueError("That deployment is not known any more; reload the page.")
        report: ServerReport = {
            "supported": servers.has_server(deployment),
            "facts": None,
            "facts_trouble": None,
            "gauge": None,
            "trouble": None,
        }
        if not report["supported"]:
            return report
        try:
            place = await self._place(deployment)
        except Silent as error:
            return {**report, "trouble": str(error), "facts_trouble": str(error)}
        gauge, facts = await asyncio.gather(self._gauge(place), self._facts(place, deployment.model))
        return {
            **report,
            "gauge": gauge.value.to_json() if gauge.value else None,
            "trouble": gauge.trouble,
            "facts": facts.value.to_json() if facts.value else None,
            "facts_trouble": facts.trouble,
        }

    async def look(self, deployment: Deployment) -> Gauge | None:
        """How a deployment's server is now; None when there is none or it does not say."""
        if not servers.has_server(deployment):
            return None
        try:
            place = await self._place(deployment)
        except Silent:
            return None
        return (await self._gauge(place)).value

    async def follow(self, runs: Callable[[], Iterable[LiveRun]]) -> None:
        """Once a second while there are runs, and for ever: tell the columns of those that somebody watches how their
        servers are."""
        while True:
            if not any(True for _ in runs()):
                self._woken.clear()
                await self._woken.wait()
            await asyncio.sleep(EVERY_S)
            try:
                # Who answers a blind run is not to be told, and a server's load would tell it.
                seen = [run for run in runs() if run.watchers and not run.spec.blind]
                await asyncio.gather(*(self._tell(column) for run in seen for column in run.columns))
            except Exception:
                log.exception("the servers' gauges could not be read")

    async def _tell(self, column: LiveColumn) -> None:
        now = await self.look(column.deployment) if column.busy else None
        if now is None:
            column.gauge = None
            return
        if column.gauge_first is None:
            column.gauge_first = now
        column.gauge = {
            "running": now.running,
            "waiting": now.waiting,
            "kv": now.kv_used,
            "hit": hits_since(column.gauge_first, now),
        }

    async def _gauge(self, place: _Place) -> _Answer[Gauge]:
        async def ask() -> Gauge:
            return read_metrics(await self._get(place, "/metrics"))

        return await self._answer(self._gauges, place, ask, EVERY_S)

    async def _facts(self, place: _Place, model: str) -> _Answer[servers.ServerFacts]:
        async def ask() -> servers.ServerFacts:
            facts = servers.from_models(await self._get(place, "/v1/models"), model)
            if facts is None:
                raise Silent("What this address answers at /v1/models is not a list of models.")
            for path in servers.MORE.get(facts.software, ()):
                with contextlib.suppress(Silent):
                    fuller = servers.refined(facts, path, await self._get(place, path))
                    if fuller != facts:
                        return fuller
            return facts

        return await self._answer(self._server_facts, (place, model), ask, FACTS_EVERY_S)

    async def _answer(
        self, answers: OrderedDict[Hashable, _Answer[T]], key: Hashable, ask: Callable[[], Awaitable[T]], every_s: float
    ) -> _Answer[T]:
        """The answer under ``key``, asked for anew when it is due; whoever comes meanwhile waits for the same one."""
        last = answers.setdefault(key, _Answer())
        answers.move_to_end(key)
        while len(answers) > REMEMBERED:
            answers.popitem(last=False)
        async with last.turn:
            if self._now() < last.due:
                return last
            try:
                last.value, last.trouble = await ask(), None
            except Silent as error:
                last.value, last.trouble, every_s = None, str(error), error.again_s
            except NoMetrics as error:
                last.value, last.trouble, every_s = None, str(error), AFTER_REFUSAL_S
            last.due = self._now() + every_s
        return last

    async def _place(self, deployment: Deployment) -> _Place:
        """Where a deployment's server is, under the rules that its calls obey. Raises `Silent` in words."""
        status = self._registry.status(deployment)
        if status.needs is not None:
            needs = "is switched off" if status.needs == "disabled" else status.needs
            raise Silent(f"The server is not asked for its state: the deployment {needs}.")
        if deployment.base_url.startswith(EMBEDDED):
            name = deployment.base_url.removeprefix(EMBEDDED).strip("/")
            local = self._pool.status().get(name)
            if local is None or not local["url"]:
                sentence = local["sentence"] if local is not None else ""
                raise Silent(sentence or f"There is no local server “{name}” here.")
            return _Place(local["url"], near=True, headers=(("authorization", f"Bearer {self._pool.key}"),))
        root = servers.root_of(deployment.base_url)
        try:
            allowed = self._registry.allowed_private(deployment)
            check_url(root, allow_private=allowed)
            headers = self._headers(deployment, root)
            way = await outbound.way_soon(deployment, root, allowed)
            outbound.refuse_readable_secret(root, way, secret=bool(deployment.key_env))
        except (Forbidden, outbound.ProxyTrouble) as error:
            raise Silent(keys.scrub(str(error))) from error
        return _Place(root, near=False, headers=headers, way=way)

    def _headers(self, deployment: Deployment, root: str) -> tuple[tuple[str, str], ...]:
        headers = dict(deployment.headers)
        request = kind_of(deployment).models_request(deployment)
        if deployment.key_env and request is not None and request.auth is not None:
            if not keys.allowed_host(deployment.key_env, root, self._registry.config.key_hosts):
                raise Silent(
                    f"The server is not asked for its state: {deployment.key_env} may not be sent to its host; bind "
                    "the two under [keys] in deployments.toml."
                )
            key = keys.lookup(deployment.key_env)
            if key:
                headers[request.auth[0]] = request.auth[1].format(key=key)
        return tuple(sorted(headers.items()))

    def _session(self, place: _Place) -> aiohttp.ClientSession:
        if place.way.proxy is None:
            return self._sessions[place.near]
        if self._through is None:
            self._through = _session(None)
        return self._through

    async def _get(self, place: _Place, path: str) -> bytes:
        """The body of a GET, at most `MAX_BODY` bytes within `TIMEOUT_S`. Raises `Silent` in words."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                async with self._session(place).get(
                    place.root + path, headers=_plain(place.headers), allow_redirects=False, **leaving(place.way)
                ) as response:
                    if response.status != 200:
                        raise Silent(_refused(path, response.status))
                    return await _body(response, path)
        except TimeoutError as error:
            raise Silent(f"This server did not answer {path} within {TIMEOUT_S:.0f} s.", AFTER_SILENCE_S) from error
        except Forbidden as error:
            raise Silent(str(error)) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Silent(f"This server could not be reached at {path}.", AFTER_SILENCE_S) from error


def _session(resolver: GuardedResolver | None) -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(
        limit=32, resolver=resolver, use_dns_cache=False, ssl=outbound.trust(), keepalive_timeout=KEEPALIVE_S
    )
    return aiohttp.ClientSession(
        connector=connector,
        trust_env=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _plain(headers: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    return {**dict(headers), "accept-encoding": "identity"}


def _refused(path: str, status: int) -> str:
    if status == 404:
        return f"There is no {path} at this address (404)."
    if status in (401, 403):
        return f"This server does not show its {path} without another key ({status})."
    return f"This server answered {path} with {status}."


async def _body(response: aiohttp.ClientResponse, path: str) -> bytes:
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Silent(f"This server compresses its {path} although it was asked not to, so it was not read.")
    parts: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        size += len(chunk)
        if size > MAX_BODY:
            raise Silent(f"The {path} of this server is larger than {MAX_BODY // 10**6} MB, so it was not read.")
        parts.append(chunk)
    return b"".join(parts)
