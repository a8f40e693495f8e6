"""The engine's door: JSON over a Unix socket that only this user may open.

The UI process is trusted to say who is asking and in which role; what that role may do is decided here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from sqlalchemy.exc import IntegrityError

from db import run_queries, runs
from db.run_rows import NewVote
from db.writer import WriteFailed
from services.call_record import CallRecord
from services.deployments.registry import DeploymentStatus, without
from services.deployments.validation import deployment_of
from services.embedded import EmbeddedUnavailable
from services.engine import api_aws, api_history
from services.engine.engine import Engine, TooMany
from services.engine.requests import answer as _json
from services.engine.requests import body_of as _body
from services.engine.requests import may as _may
from services.engine.requests import own as _own
from services.providers import kind_of
from services.runs.spec import MAX_COLUMNS, MAX_REPETITIONS, ColumnSpec, RunSpec, new_id
from services.security import access, keys
from services.types import Deployment

PROBE_TOKENS = 16
WAIT_S = 90.0
# Fields of the chat wire that some servers refuse with 400 or 422; without them their answers are whole all the same.
OPTIONAL = ("stream_options",)
_ANSWERS = ("ok", "max_tokens", "empty")


async def probe(engine: Engine, deployment_id: str, person: str) -> dict[str, Any]:
    """One cheap real call, recorded like any other (source "test"), read as an answer to the four questions.

    A server that refuses ``stream_options`` is asked once more without; what it refuses is kept with the result, and
    `Registry.calling` leaves it out of every later call, so that no measured run has to find out.

    Returns ``{"ok", "sentence", "reachable", "authorised", "model_exists", "capabilities", "ttft_ms", "run_id",
    "at"}`` where a question that was not reached is None. Raises ValueError for an unknown deployment.
    """
    deployment = engine.registry.find(deployment_id)
    if deployment is None:
        raise ValueError("That deployment is not known any more; reload the page.")
    status = engine.registry.status(deployment)
    if status.needs is not None:
        result = _verdict(ok=False, sentence=f"{deployment.name} was not called: {_needs(status.needs)}.")
        await engine.registry.tested(deployment.id, result)
        return result
    call, run_id = await _test_call(engine, deployment, person)
    refuses: tuple[str, ...] = ()
    if _may_refuse(deployment, call):
        plainer = without(deployment, OPTIONAL)
        second, second_run_id = await _test_call(engine, plainer, person)
        if second is not None and second.outcome.name in _ANSWERS:
            call, run_id, refuses = second, second_run_id, OPTIONAL
    result = _read(call, deployment.name, sorted(kind_of(deployment).accepts(deployment)))
    if refuses and result["capabilities"] is not None:
        result["capabilities"]["refuses"] = list(refuses)
        result["sentence"] = (
            f"{deployment.name} answers, but refuses {' and '.join(refuses)}: calls leave it out from now on."
        )
    result |= {"run_id": run_id, "base_url": deployment.base_url}
    await engine.registry.tested(deployment.id, result)
    return result


async def _test_call(engine: Engine, deployment: Deployment, person: str) -> tuple[CallRecord | None, str]:
    """One short recorded call to exactly this deployment, None when its end got lost; and the id of its run."""
    spec = RunSpec(
        prompt="Reply with the word OK.",
        columns=(ColumnSpec(deployment.id),),
        params={"max_tokens": PROBE_TOKENS},
        source="test",
    )
    run_id = await engine.start_run(spec, person, {deployment.id: deployment})
    run = engine.find(run_id) or engine.recent.get(run_id)
    if run is None:
        return None, run_id
    try:
        await asyncio.wait_for(run.ended.wait(), WAIT_S)
    except TimeoutError:
        engine.stop_columns(run, None)
        await run.ended.wait()
    call = run.columns[0].call
    return call.final if call else None, run_id


def _may_refuse(deployment: Deployment, call: CallRecord | None) -> bool:
    """Whether a refused call may have been refused for a field that imitations of OpenAI's wire do not all know."""
    imitation = deployment.kind == "openai-compatible" and deployment.wire == "chat"
    refused = call is not None and call.outcome.http_status in (400, 422)
    return imitation and refused and not set(OPTIONAL) & deployment.extra_body.keys()


def _needs(needs: str) -> str:
    return "it is switched off" if needs == "disabled" else f"it {needs}"


def _verdict(**values: Any) -> dict[str, Any]:
    blank = dict.fromkeys(("reachable", "authorised", "model_exists", "capabilities", "ttft_ms", "run_id"))
    return {**blank, "at": datetime.now(UTC).isoformat(timespec="seconds"), **values}


_UNREACHED = {"unreachable", "proxy_error", "timeout_connect", "config_error", "lost"}


def _read(call: CallRecord | None, name: str, accepts: list[str]) -> dict[str, Any]:
    if call is None:
        return _verdict(ok=False, reachable=False, sentence=f"{name} could not be reached.")
    outcome, message, timing = call.outcome.name, call.outcome.message, call.timing
    if outcome in _UNREACHED:
        return _verdict(ok=False, reachable=False, sentence=message or f"{name} could not be reached.")
    if outcome == "unauthorised":
        return _verdict(ok=False, reachable=True, authorised=False, sentence=message)
    if outcome == "not_found":
        return _verdict(ok=False, reachable=True, authorised=True, model_exists=False, sentence=message)
    counted = call.usage.source == "provider"
    # A model that thinks may use up so few tokens before its answer begins; it is there all the same.
    thinking = outcome == "empty" and bool(timing.n_deltas or counted)
    ok = thinking or outcome in ("ok", "max_tokens")
    began = ok or bool(timing.n_deltas)  # who gets tokens was let in, however it ended
    capabilities = {
        "streams": bool(timing.n_deltas),
        "reports_usage": counted,
        "reports_cached_tokens": call.usage.cache_read is not None,
        "reports_server_time": timing.server_ms is not None,
        "reasons": timing.ttft_ms != timing.ttfat_ms,
        "parameters": accepts,
        "model_reported": call.answer.model_reported,
    }
    sentence = message or f"{name} answers; its first token came after {_ms(timing.ttft_ms)}."
    if thinking:
        sentence = f"{name} answers; it was still reasoning when the {PROBE_TOKENS} tokens of this test were used up."
    return _verdict(
        ok=ok,
        reachable=True,
        authorised=True if began else None,
        model_exists=True if began else None,
        capabilities=capabilities if ok else None,
        ttft_ms=timing.ttft_ms,
        sentence=sentence,
    )


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value / 1000:.2f} s"


log = logging.getLogger(__name__)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ENGINE = web.AppKey("engine", Engine)
MAX_BODY = 16 * 2**20
MAX_NOTE = 100_000  # characters of a note as it is sent; the records keep its beginning
COLUMNS = (0, MAX_COLUMNS - 1)
HOST = "engine"  # what every client of ours asks for
WRONG_HOST = "This socket is the engine's; it answers the host name engine alone, as the pages and lab ask for it."


def make_app(engine: Engine, more_routes: Sequence[web.RouteDef] = ()) -> web.Application:
    """The aiohttp application of one engine; ``more_routes``: of what is served beside it (batches)."""
    app = web.Application(middlewares=[_our_clients_only, _plain_errors], client_max_size=MAX_BODY)
    app[ENGINE] = engine
    app.add_routes(
        [
            web.get("/health", health),
            web.post("/runs", start_run),
            web.get("/runs/{id}", live),
            web.get("/runs/{id}/stream", stream),
            web.post("/runs/{id}/stop", stop),
            web.post("/runs/{id}/retry", retry),
            web.patch("/runs/{id}", annotate),
            web.post("/runs/{id}/votes", vote),
            web.post("/runs/delete", delete_runs),
            web.get("/deployments", list_deployments),
            web.post("/deployments", save_deployment),
            web.patch("/deployments/{id}", switch_deployment),
            web.delete("/deployments/{id}", remove_deployment),
            web.post("/deployments/{id}/test", test_deployment),
            web.get("/deployments/{id}/server", look_at_server),
            web.post("/catalogue/{provider}", switch_catalogue),
            web.post("/embedded/{name}/restart", restart_embedded),
            web.get("/embedded/{name}/url", embedded_url),
            *api_aws.routes(),
            *api_history.routes(engine),
            *api_history.scenario_routes(engine),
            *api_history.rollup_routes(engine),
            *more_routes,
        ]
    )
    return app


@web.middleware
async def _our_clients_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Whoever put a proxy before the socket has not put it before a browser: no page can name this host."""
    hosts = request.headers.getall("host", [])
    if [host.lower() for host in hosts] != [HOST] or "origin" in request.headers:
        return _json({"error": WRONG_HOST}, status=421)
    return await handler(request)


@web.middleware
async def _plain_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except access.Denied as error:
        return _json({"error": str(error)}, status=403)
    except TooMany as error:
        return _json({"error": str(error)}, status=429)
    except (ValueError, KeyError) as error:
        message = str(error) if isinstance(error, ValueError) else f"{error} is missing from the request."
        return _json({"error": keys.scrub(message)}, status=422)
    except WriteFailed as error:
        return _json({"error": keys.scrub(str(error))}, status=503)
    except web.HTTPRequestEntityTooLarge:
        return _json({"error": f"The request is larger than {MAX_BODY // 2**20} MB."}, status=413)
    except web.HTTPException:
        raise
    except Exception:
        log.exception("a request to the engine failed")
        return _json({"error": "The engine could not do that; what happened is in its log."}, status=500)


async def health(request: web.Request) -> web.Response:
    engine = request.app[ENGINE]
    return _json(
        {
            "ok": True,
            "engine_id": engine.id,
            "uptime_s": round(time.time() - engine.started, 1),
            "loop_lag_ms": round(engine.heartbeat.last_ns / 1e6, 3),
            "embedded": engine.pool.status(),
            "live_runs": len(engine.runs),
            "lost_at_start": len(engine.lost_at_start),
            "db": engine.reader.dialect.name,
            "deployments_file": str(engine.registry.file) if engine.registry.file else None,
            "db_trouble": engine.writer.trouble,
            "file_trouble": engine.registry.trouble,
            "keys_trouble": keys.trouble(),
        }
    )


async def start_run(request: web.Request) -> web.Response:
    person = _may(request, "send")
    spec = RunSpec.from_json((await _body(request)).values)
    return _json({"run_id": await request.app[ENGINE].start_run(spec, person)})


async def live(request: web.Request) -> web.Response:
    run = request.app[ENGINE].live_or_unwritten(request.match_info["id"])
    return _json(run.snapshot() if run else None)


async def stream(request: web.Request) -> web.StreamResponse:
    run = request.app[ENGINE].find(request.match_info["id"])
    if run is None:
        return _json({"error": "This run is not live."}, status=404)
    response = web.StreamResponse(headers={"content-type": "application/x-ndjson"})
    await response.prepare(request)
    queue = run.watch()
    try:
        while (line := await queue.get()) is not None:
            await response.write(line + b"\n")
            if line.startswith(b'{"type":"end"'):
                break
    except (ConnectionError, asyncio.CancelledError):
        return response
    finally:
        run.watchers.discard(queue)
    return response


async def stop(request: web.Request) -> web.Response:
    _may(request, "send")
    body = await _body(request)
    column = body.whole("column", *COLUMNS) if body.has("column") else None
    engine = request.app[ENGINE]
    run = engine.find(request.match_info["id"])
    if run is not None:
        _own(request, "send", run.person, "run")
        engine.stop_columns(run, column)
    return _json({"stopped": run is not None})


async def retry(request: web.Request) -> web.Response:
    person = _may(request, "send")
    body, engine = await _body(request), request.app[ENGINE]
    column = body.whole("column", *COLUMNS)
    await _own_run(request, "send")
    await engine.retry(request.match_info["id"], column, person)
    return _json({"ok": True})


async def _own_run(request: web.Request, action: access.Action) -> None:
    """Raises `access.Denied` for the run of somebody else; one that is not there is refused where it is looked for."""
    for owner in await asyncio.to_thread(run_queries.owners, request.app[ENGINE].reader, [request.match_info["id"]]):
        _own(request, action, owner, "run")


async def annotate(request: web.Request) -> web.Response:
    _may(request, "annotate")
    body, run_id = await _body(request), request.match_info["id"]
    starred = body.flag("starred") if body.has("starred") else None
    tags = body.texts("tags") if body.has("tags") else None
    note = body.words("note", longest=MAX_NOTE)
    await _own_run(request, "annotate")
    done = await request.app[ENGINE].writer.write(
        lambda session: runs.annotate_run(session=session, run_id=run_id, starred=starred, tags=tags, note=note)
    )
    return _json({"ok": bool(done)})


async def delete_runs(request: web.Request) -> web.Response:
    person, engine = _may(request, "delete"), request.app[ENGINE]
    body = await _body(request)
    body.need("run_ids")
    ids = list(dict.fromkeys(body.texts("run_ids")))
    owners = await asyncio.to_thread(run_queries.owners, engine.reader, ids)
    access.require_own_all(request.headers.get("x-lab-role", "viewer"), person, owners, "run")
    if any(i in engine.runs for i in ids):
        raise ValueError("A run that is still under way cannot be deleted; stop it first.")
    done = await engine.writer.write(lambda session: runs.delete_runs(session=session, run_ids=ids))
    return _json({"deleted": done})


async def vote(request: web.Request) -> web.Response:
    person = _may(request, "vote")
    body = await _body(request)
    values: NewVote = {
        "id": new_id(),
        "run_id": request.match_info["id"],
        "person": person,
        "choice": body.text("choice"),
        "blind": body.flag("blind", False),
        "repetition": body.whole("repetition", 1, MAX_REPETITIONS, default=1),
        "deployment_a": body.words("deployment_a"),
        "deployment_b": body.words("deployment_b"),
        "winner": body.words("winner"),
        "column_a": body.whole("column_a", *COLUMNS) if body.has("column_a") else None,
        "column_b": body.whole("column_b", *COLUMNS) if body.has("column_b") else None,
    }
    try:
        await request.app[ENGINE].writer.write(lambda session: runs.insert_vote(session=session, values=values))
    except IntegrityError:
        raise ValueError("This run is not in the records any more, so it cannot be voted on.") from None
    return _json({"ok": True})


def _status_json(status: DeploymentStatus) -> dict[str, Any]:
    return {
        "deployment": status.deployment.to_json(),
        "ready": status.ready,
        "needs": status.needs,
        "test": status.test,
        "archived": status.archived,
    }


async def list_deployments(request: web.Request) -> web.Response:
    engine = request.app[ENGINE]
    await engine.registry.refresh()
    return _json([_status_json(status) for status in engine.registry.statuses()])


async def save_deployment(request: web.Request) -> web.Response:
    _may(request, "deploy")
    saved = await request.app[ENGINE].registry.save(deployment_of(await _body(request)))
    return _json(saved.to_json())


async def switch_deployment(request: web.Request) -> web.Response:
    _may(request, "deploy")
    on = (await _body(request)).flag("enabled")
    await request.app[ENGINE].registry.set_enabled(request.match_info["id"], on)
    return _json({"ok": True})


async def remove_deployment(request: web.Request) -> web.Response:
    _may(request, "deploy")
    await request.app[ENGINE].registry.remove(request.match_info["id"])
    return _json({"ok": True})


async def test_deployment(request: web.Request) -> web.Response:
    person = _may(request, "send")
    return _json(await probe(request.app[ENGINE], request.match_info["id"], person))


async def look_at_server(request: web.Request) -> web.Response:
    _may(request, "look")
    return _json(await request.app[ENGINE].gauges.server(request.match_info["id"]))


async def switch_catalogue(request: web.Request) -> web.Response:
    _may(request, "deploy")
    on = (await _body(request)).flag("on")
    return _json({"changed": await request.app[ENGINE].registry.enable_catalogue(request.match_info["provider"], on)})


async def restart_embedded(request: web.Request) -> web.Response:
    _may(request, "send")
    pool, name = request.app[ENGINE].pool, request.match_info["name"]
    if pool.lacks(name) is None and not access.may(request.headers.get("x-lab-role", "viewer"), "deploy"):
        raise access.Denied("The local model is at work for everybody: only whoever runs this server may restart it.")
    await pool.restart(name)
    return _json({"ok": True})


async def embedded_url(request: web.Request) -> web.Response:
    _may(request, "send")
    try:
        pool = request.app[ENGINE].pool
        return _json({"url": await pool.url(request.match_info["name"]), "key": pool.key})
    except EmbeddedUnavailable as error:
        sentence = str(error)
        raise ValueError(f"{sentence[:1].upper()}{sentence[1:]}.") from None
