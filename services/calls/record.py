"""From an ended attempt to its record: figures, counts and cost, each from one place."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import orjson

from services import outcomes
from services.call_record import NOT_BILLED, CallAnswer, CallCost, CallOutcome, CallRecord, CallStream
from services.calls.stream import Ending, Progress
from services.pricing import cost as pricing_cost
from services.pricing.price import normal_tier
from services.security import keys
from services.types import Ask, Deployment, Json, JsonMapping, Limits, Usage
from services.wire import timing

CHARS_PER_TOKEN = 4.0  # the usual rule of thumb for English text; only ever shown with "~"


def estimated_tokens(chars: int, deltas: int) -> int:
    """Tokens in a text of ``deltas`` pieces: the pieces where they are token-sized, else characters / 4."""
    if chars <= 0:
        return 0
    if deltas and chars / deltas <= 8:
        return deltas
    return max(1, round(chars / CHARS_PER_TOKEN))


def estimated_input(ask: Ask) -> int:
    """Input tokens of a request, by characters / 4."""
    chars = sum(len(m.text) for m in ask.messages) + len(ask.system or "")
    return max(1, round(chars / CHARS_PER_TOKEN))


def usage_so_far(progress: Progress, ask: Ask) -> Usage:
    """What is known of the counts now: the service's own where it has spoken, our estimate for the rest."""
    usage = progress.decoder.usage if progress.decoder is not None else None
    if usage is not None and usage.source == "provider":
        return usage
    deltas = len(progress.delta_ns)
    reasoning_deltas = progress.delta_kinds.count(114)
    reasoning = estimated_tokens(progress.reasoning_chars, reasoning_deltas)
    answer = estimated_tokens(progress.answer_chars, deltas - reasoning_deltas)
    if usage is not None and usage.input_total is not None:
        return replace(usage, reasoning_output=reasoning, answer_output=answer, source="partial")
    return Usage(
        uncached_input=estimated_input(ask), reasoning_output=reasoning, answer_output=answer, source="estimated"
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """An attempt that is over, with all that its record is made from."""

    deployment: Deployment
    ask: Ask
    progress: Progress
    ending: Ending
    price: pricing_cost.Price | None
    self_lag_ns: int
    waited_ms: float


def finished(call: CallRecord, ended: Ended, *, store_text: bool) -> CallRecord:
    """The record of a call that is over. Error texts are scrubbed of keys here, once."""
    progress, ending, decoder = ended.progress, ended.ending, ended.progress.decoder
    billed = bool(progress.t0) and (progress.status in (None, 200))
    usage = usage_so_far(progress, ended.ask) if billed else Usage()
    stamps = timing.Stamps(
        accepted=progress.accepted,
        handed=progress.handed or progress.accepted,
        connect_start=progress.connect_start or None,
        connect_end=progress.connect_end or None,
        reused=progress.reused,
        t0=progress.t0 or progress.handed or progress.accepted,
        headers=progress.headers or None,
        deltas=[(ns, _KINDS[code]) for ns, code in zip(progress.delta_ns, progress.delta_kinds, strict=True)],
        end=progress.end,
        self_lag_ns=ended.self_lag_ns if progress.t0 else None,
        server_ms=decoder.server_ms if decoder else None,
    )
    figures = timing.figures(stamps, output_tokens=usage.output_total)
    served = keys.scrub(decoder.served_tier) if decoder and decoder.served_tier else None
    delta_us, delta_kinds = timing.pack_deltas(stamps)
    text = "".join(progress.answer)
    error_type, error_code, finish_reason, model_reported, response_id = _clean(
        ending.error_type,
        ending.error_code,
        decoder.finish_raw if decoder else None,
        decoder.model_reported if decoder else None,
        decoder.response_id if decoder else None,
    )
    facts = {name: keys.scrub(str(value)) for name, value in decoder.facts.items()} if decoder else {}
    if progress.via:
        facts["proxy"] = progress.via
    return replace(
        call,
        started_at=datetime.fromtimestamp(progress.t0_wall, UTC) if progress.t0_wall else None,
        ended_at=datetime.now(UTC),
        waited_ms=ended.waited_ms,
        outcome=CallOutcome(
            state=outcomes.STATE_OF[ending.outcome],
            name=ending.outcome,
            phase=_reached(progress),
            message=_message(ended, usage),
            error_type=error_type,
            error_code=error_code,
            http_status=progress.status,
            retry_after_s=ending.retry_after_s,
            finish_reason=finish_reason,
        ),
        answer=CallAnswer(
            text=text if store_text else None,
            reasoning=("".join(progress.reasoning) or None) if store_text else None,
            sha256=hashlib.sha256(text.encode("utf-8", "replace")).hexdigest() if text else None,
            model_reported=model_reported,
            response_id=response_id,
            service_tier=served,
            facts=facts or None,
        ),
        usage=replace(usage, raw=_scrubbed(usage.raw)),
        timing=figures,
        cost=_cost(ended, usage, _price_served(ended, served), billed=billed),
        stream=CallStream(delta_us, delta_kinds, progress.n_events, progress.n_bytes, progress.keepalives),
    )


def _message(ended: Ended, usage: Usage) -> str | None:
    progress, ending, deployment = ended.progress, ended.ending, ended.deployment
    if ending.outcome in ("ok", "max_tokens"):
        return None
    return keys.scrub(
        outcomes.sentence(
            ending.outcome,
            name=deployment.name,
            tokens=usage.output_total if progress.first else None,
            tokens_estimated=usage.source != "provider",
            # A time-out that the service states is its own, not one of our deadlines.
            seconds=None if ending.error_type else _deadline(ending.outcome, progress.limits),
            status=progress.status,
            detail=ending.detail,
            retry_after_s=ending.retry_after_s,
            key_env=deployment.key_env,
            url_host=None,
            model=deployment.model,
            aws=deployment.aws is not None and deployment.key_env is None,
        )
    )


def unmeasured(call: CallRecord, ended: Ended, *, store_text: bool) -> CallRecord:
    """The record of a call whose figures could not be worked out: its text is kept, no figure is made up."""
    progress = ended.progress
    return replace(
        call,
        ended_at=datetime.now(UTC),
        waited_ms=ended.waited_ms,
        outcome=CallOutcome(
            state="failed",
            name="protocol_error",
            phase=_reached(progress),
            message=f"The figures of this call to {ended.deployment.name} could not be worked out, so it does not "
            "count; its text was kept, and the engine's log says more: run it again.",
            http_status=progress.status,
        ),
        answer=CallAnswer(
            text="".join(progress.answer) if store_text else None,
            reasoning=("".join(progress.reasoning) or None) if store_text else None,
        ),
        cost=replace(call.cost, state="unknown"),
    )


_KINDS = {97: "answer", 114: "reasoning", 116: "tool"}


def _clean(*texts: str | None) -> list[str | None]:
    """Short texts of the service without keys, looked through all at once: every look reads the known keys anew."""
    parts = keys.scrub("\n".join(" ".join((text or "")[:1000].splitlines()) for text in texts)).split("\n")
    if len(parts) != len(texts):
        parts = [keys.scrub(text or "") for text in texts]
    return [text[:200] or None for text in parts]


def _scrubbed(raw: JsonMapping | None) -> Json | None:
    """The service's own usage object without keys; None where there is none, or where nothing readable is left."""
    if not raw:
        return None
    try:
        scrubbed: Json = orjson.loads(keys.scrub(orjson.dumps(raw, default=str).decode()))
    except orjson.JSONDecodeError:
        return None
    return scrubbed


def _deadline(outcome: str, limits: Limits) -> float | None:
    name = {
        "timeout_idle": "idle_s",
        "timeout_total": "total_s",
        "timeout_connect": "connect_s",
        "timeout_headers": "headers_s",
        "timeout_first_token": "first_token_s",
    }.get(outcome)
    return getattr(limits, name) if name else None


def _reached(progress: Progress) -> str:
    if progress.first_answer:
        return "answering"
    if progress.first:
        return "reasoning"
    if progress.t0:
        return "waiting"
    return "connecting" if progress.handed else "queued"


def _price_served(ended: Ended, served: str | None) -> pricing_cost.Price | None:
    """The price of the tier that served the call where the service names another than the one asked for.

    The row then keeps the tier asked for, in `Price.context` (`services.pricing.price`).
    """
    if served is None or normal_tier(served) == normal_tier(pricing_cost.tier_asked(ended.deployment)):
        return ended.price
    started = ended.progress.t0_wall
    moment = datetime.fromtimestamp(started, UTC) if started else datetime.now(UTC)
    return pricing_cost.price_of(ended.deployment, moment, tier=served)


def _cost(ended: Ended, usage: Usage, price: pricing_cost.Price | None, *, billed: bool) -> CallCost:
    """What the call cost. A request that was never sent, or was turned away before it streamed, is not billed."""
    stored = price.to_json() if price else None
    if not billed:
        return replace(NOT_BILLED, price=stored)
    decoder = ended.progress.decoder
    max_tokens = ended.ask.params.get("max_tokens")
    cost = priced_cost(
        usage,
        price,
        _standard(ended, price),
        complete=decoder is not None and decoder.terminal,
        max_output_tokens=max_tokens if isinstance(max_tokens, int) else None,
    )
    return replace(cost, price=stored)


def priced_cost(
    usage: Usage,
    price: pricing_cost.Price | None,
    standard: pricing_cost.Price | None,
    *,
    complete: bool,
    max_output_tokens: int | None = None,
) -> CallCost:
    """What tokens cost at a price, and at the standard price beside one of waiting."""
    cost = pricing_cost.cost(usage, price, complete=complete, max_output_tokens=max_output_tokens)
    plain = pricing_cost.plain_nanousd(usage, price, standard)
    return CallCost(cost.state, cost.nanousd, cost.high_nanousd, dict(cost.drivers), plain)


def _standard(ended: Ended, price: pricing_cost.Price | None) -> pricing_cost.Price | None:
    """The standard price beside one of waiting; None where the call's own price is the standard one."""
    if not pricing_cost.is_discounted(price):
        return None
    started = ended.progress.t0_wall
    moment = datetime.fromtimestamp(started, UTC) if started else datetime.now(UTC)
    return pricing_cost.price_of(ended.deployment, moment, tier="default")
