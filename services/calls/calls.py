"""The life of one call: its row is committed, then the request is sent, then the row is finished exactly once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from time import perf_counter_ns

import aiohttp
from sqlmodel import Session

from db import runs
from db.run_rows import StoredRequest
from db.writer import WriteFailed, Writer
from services.aws import credentials
from services.aws.credentials import signed_headers
from services.call_record import BEGINNING, END, CallCost, CalledDeployment, CallRecord, CallRequest, to_row
from services.calls import record
from services.calls.clock import Heartbeat
from services.calls.live import LiveCall
from services.calls.stream import Ending, Progress, attempt, opened_session
from services.deployments import config
from services.deployments.registry import Registry
from services.embedded import EmbeddedPool, EmbeddedUnavailable
from services.outcomes import LAB_STOPPED
from services.pricing import cost
from services.providers import kind_of
from services.providers.base import Kind
from services.runs.spec import new_id
from services.security import keys, outbound
from services.security.network import Forbidden, check_url
from services.types import Ask, Deployment, Json, Outcome, WireRequest

log = logging.getLogger(__name__)
EMBEDDED = "embedded://"
PROXY_KEEPALIVE_S = 15.0


# Writes the record of a call that is over, wherever else its end has to be known.
WriteEnd = Callable[["LiveCall", CallRecord], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class CallSpec:
    """One call that somebody wants made."""

    run_id: str
    deployment: Deployment
    ask: Ask
    person: str
    source: str
    column: int = 0
    repetition: int = 1
    attempt: int = 1
    waited_ms: float = 0.0
    retry_of: str | None = None


class Calls:
    """Prepares, sends and finishes calls for the runs of this engine."""

    def __init__(
        self, *, engine_id: str, writer: Writer, registry: Registry, pool: EmbeddedPool, heartbeat: Heartbeat
    ) -> None:
        self.engine_id = engine_id
        self._writer = writer
        self._registry = registry
        self._pool = pool
        self._heartbeat = heartbeat
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._through: aiohttp.ClientSession | None = None
        self.live: set[LiveCall] = set()
        self.on_begin: Callable[[], None] = lambda: None
        self.on_end: Callable[[], None] = lambda: None
        self.on_unwritten: Callable[[], None] = lambda: None
        self._working_out = asyncio.Lock()
        self._unwritten: dict[str, CallRecord] = {}

    def use_sessions(self, *, near: aiohttp.ClientSession, far: aiohttp.ClientSession) -> None:
        """Connection pools for servers of ours (which close idle connections soon) and for everybody else's."""
        self._sessions = {True: near, False: far}

    async def close(self) -> None:
        """Close the connection pools."""
        for session in (*self._sessions.values(), self._through):
            if session is not None:
                await session.close()

    def prepare(self, spec: CallSpec) -> LiveCall:
        """A call ready to be sent; its `beginning` has to be committed before it is."""
        deployment, ask = spec.deployment, spec.ask
        kind = kind_of(deployment)
        refused: str | None = None
        request: WireRequest | None = None
        try:
            request = kind.request(deployment, ask)
        except ValueError as error:
            refused = str(error)
        price = cost.price_of(deployment, datetime.now(UTC))
        stored = _request_row(request, ask, deployment, store=self._registry.config.store_text, refused=refused)
        call_record = CallRecord(
            id=new_id(),
            run_id=spec.run_id,
            column=spec.column,
            repetition=spec.repetition,
            attempt=spec.attempt,
            retry_of=spec.retry_of,
            deployment=CalledDeployment(
                deployment.id,
                deployment.kind,
                deployment.model,
                deployment.wire,
                deployment.region,
                deployment.to_json(),
            ),
            source=spec.source,
            person=spec.person,
            owner=self.engine_id,
            created_at=datetime.now(UTC),
            waited_ms=spec.waited_ms,
            request=CallRequest(
                stored=stored,
                sent_params=dict(request.sent_params) if request else {},
                dropped_params=dict(request.dropped_params) if request else {},
                cache_mode=ask.cache,
                service_tier=cost.tier_asked(deployment),
            ),
            cost=CallCost(price=price.to_json() if price else None),
        )
        return LiveCall(
            record=call_record,
            deployment=deployment,
            ask=ask,
            progress=Progress(kind.decoder(deployment), deployment.limits),
            price=price,
            waited_ms=spec.waited_ms,
            note=_not_sent(request),
        )

    async def execute(self, call: LiveCall, write_end: WriteEnd | None = None) -> CallRecord:
        """Send a call whose beginning is committed, read it to its end, and finish it, whatever happens on the way.

        ``call.progress`` tells how it stands meanwhile. ``write_end`` writes the end in place of our own way.
        """
        self.live.add(call)
        self._heartbeat.hold()
        self.on_begin()
        progress = call.progress
        try:
            try:
                ending = await self._send(call)
            except EmbeddedUnavailable as error:
                ending = Ending("unreachable", str(error))
            except asyncio.CancelledError:
                if progress.abort is None:
                    raise
                ending = Ending(progress.abort)
            except Exception:
                log.exception("a call broke inside the engine")
                ending = Ending("protocol_error", "our own engine made a mistake while reading it; its log says more")
            progress.end = progress.end or perf_counter_ns()
            progress.phase = "done"
        finally:
            self._heartbeat.release()
            self.live.discard(call)
        async with self._working_out:
            # One row in each turn of the loop: columns often end together, and streams must not wait for all of them.
            await asyncio.sleep(0)
            final = self._finished(call, ending)
        await (write_end or self._write_end)(call, final)
        call.final = final
        return final

    def _finished(self, call: LiveCall, ending: Ending) -> CallRecord:
        progress = call.progress
        store = self._registry.config.store_text
        if ending.outcome == "ok" and _at_its_limit(call):
            ending = Ending("max_tokens")
        if ending.outcome == "cancelled" and call.lab_stopped:
            ending = replace(ending, detail=LAB_STOPPED)
        lag = self._heartbeat.lag_ns(progress.t0, progress.end, progress.delta_ns) if progress.t0 else 0
        ended = record.Ended(call.deployment, call.ask, progress, ending, call.price, lag, call.waited_ms)
        try:
            return record.finished(call.record, ended, store_text=store)
        except Exception:
            log.exception("the figures of a call could not be worked out")
            return record.unmeasured(call.record, ended, store_text=store)

    async def refuse(self, call: LiveCall, outcome: Outcome, detail: str) -> CallRecord:
        """Finish a call that is not to be sent at all."""
        call.progress.end = perf_counter_ns()
        call.progress.phase = "done"
        ended = record.Ended(call.deployment, call.ask, call.progress, Ending(outcome, detail), call.price, 0, 0.0)
        final = record.finished(call.record, ended, store_text=self._registry.config.store_text)
        await self._write_end(call, final)
        call.final = final
        return final

    async def _write_end(self, call: LiveCall, final: CallRecord) -> None:
        try:
            await self._writer.write(partial(_end_call, final))
            self.on_end()
        except WriteFailed as error:
            self._unwritten[call.id] = final
            self.on_unwritten()
            call.note = f"{error} The figures shown here are kept and written as soon as that is possible."

    def unwritten(self, calls: Collection[str]) -> bool:
        """Whether the end of one of these calls could not be written yet."""
        return any(call in self._unwritten for call in calls)

    @property
    def any_unwritten(self) -> bool:
        """Whether the end of any call could not be written yet."""
        return bool(self._unwritten)

    async def write_again(self) -> int:
        """Write the ends of calls that could not be written before; returns how many still wait."""
        for call_id, final in list(self._unwritten.items()):
            try:
                await self._writer.write(partial(_end_call, final))
            except WriteFailed:
                break
            del self._unwritten[call_id]
            self.on_end()
        return len(self._unwritten)

    async def _send(self, call: LiveCall) -> Ending:
        deployment, kind = call.deployment, kind_of(call.deployment)
        near = deployment.base_url.startswith(EMBEDDED)
        status = self._registry.status(deployment)
        if status.needs == "disabled":
            return Ending("config_error", "it is switched off on the Deployments page")
        if status.needs is not None:
            return Ending("config_error", f"it {status.needs}")
        if near:
            url = await self._pool.url(deployment.base_url.removeprefix(EMBEDDED).strip("/"))
            deployment = replace(deployment, base_url=url)
        try:
            request = kind.request(deployment, call.ask)
            if not near:
                check_url(request.url, allow_private=self._registry.allowed_private(deployment))
        except Forbidden as error:
            return Ending("config_error", str(error))
        except ValueError as error:
            return Ending("config_error", str(error))
        try:
            way = outbound.DIRECT if near else await self._way(deployment, request)
        except outbound.ProxyTrouble as error:
            return Ending("config_error", keys.scrub(str(error)))
        except Forbidden as error:
            return Ending("config_error", str(error))
        if request.sign is not None:
            return await self._send_signed(call, kind, request, way)
        if deployment.key_env and not keys.allowed_host(
            deployment.key_env, request.url, self._registry.config.key_hosts
        ):
            return Ending(
                "config_error",
                f"{deployment.key_env} may not be sent to this host; bind the two under [keys] in deployments.toml",
            )
        key = keys.lookup(deployment.key_env) if deployment.key_env else None
        if near:
            key = self._pool.key
        return await attempt(self._session(near, way), kind, request, key, call.progress, way=way)

    async def _way(self, deployment: Deployment, request: WireRequest) -> outbound.Way:
        way = await outbound.way_soon(deployment, request.url, self._registry.allowed_private(deployment))
        outbound.refuse_readable_secret(request.url, way, secret=bool(deployment.key_env or request.sign))
        return way

    def _session(self, near: bool, way: outbound.Way) -> aiohttp.ClientSession:
        """The pool for a way. Through a proxy only the proxy's own name is resolved, which an administrator set."""
        if way.proxy is None:
            return self._sessions[near]
        if self._through is None:
            self._through = opened_session(None, PROXY_KEEPALIVE_S)
        return self._through

    async def _send_signed(self, call: LiveCall, kind: Kind, request: WireRequest, way: outbound.Way) -> Ending:
        """Send with a signature of AWS. Its credentials are fetched in a thread: the chain may have to ask around."""
        signing = request.sign
        assert signing is not None
        if not config.aws_host_allowed(call.deployment, request.url, self._registry.config):
            return Ending(
                "config_error",
                "AWS signatures may not be sent to this host; declare it in deployments.toml or list it in [keys.AWS]",
            )
        try:
            frozen = await credentials.frozen_soon(signing.profile)
        except credentials.CredentialTrouble as error:
            return Ending("unauthorised", str(error), "no_credentials")

        def sign(method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
            return signed_headers(method, url, headers, body, signing, frozen)

        session = self._session(False, way)
        return await attempt(session, kind, request, None, call.progress, sign, frozen.token or "", way=way)


def beginning(call: LiveCall) -> Json:
    """The values of its row that are committed before it is sent."""
    return to_row(call.record, BEGINNING)


def end(final: CallRecord) -> Json:
    """The values of its row that its end sets."""
    return to_row(final, END)


def _end_call(final: CallRecord, session: Session) -> bool:
    return runs.finish_call(session=session, call_id=final.id, values=end(final))


def _at_its_limit(call: LiveCall) -> bool:
    """llama.cpp calls an answer of the Responses wire completed when it stopped at the token limit."""
    usage = call.progress.decoder.usage if call.progress.decoder else None
    max_tokens = call.ask.params.get("max_tokens")
    if (
        call.deployment.wire != "responses"
        or usage is None
        or usage.source != "provider"
        or not isinstance(max_tokens, int)
    ):
        return False
    return usage.output_total == max_tokens


def _not_sent(request: WireRequest | None) -> str | None:
    if request is None or not request.dropped_params:
        return None
    return "Not sent: " + "; ".join(f"{name} ({why})" for name, why in sorted(request.dropped_params.items()))


def _request_row(
    request: WireRequest | None, ask: Ask, deployment: Deployment, *, store: bool, refused: str | None
) -> StoredRequest:
    """What was asked, for "copy as", a retry and the next turn. Holds the key's name, never the key.

    The body is not kept beside the ask: `services.runs.record.request_of` builds it again from the two.
    """
    stored: StoredRequest = {"key_env": deployment.key_env, "refused": refused}
    if store:
        stored["ask"] = {
            "messages": [{"role": m.role, "text": m.text} for m in ask.messages],
            "system": ask.system,
            "params": dict(ask.params),
            "cache": ask.cache,
        }
    if request is not None:
        stored["method"] = request.method
        stored["url"] = request.url
        stored["headers"] = dict(request.headers)
        stored["auth"] = list(request.auth) if request.auth else None
        stored["sign"] = asdict(request.sign) if request.sign else None
    return stored
