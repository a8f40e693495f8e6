"""The connection test of a deployment: is it reachable, are we authorised, does the model exist, what can it do."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.call_record import CallRecord
from services.deployments.registry import without
from services.providers import kind_of
from services.runs.spec import ColumnSpec, RunSpec
from services.types import Deployment

if TYPE_CHECKING:
    from services.engine.engine import Engine

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
