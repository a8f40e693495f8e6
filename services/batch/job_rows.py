"""The call of a line that a batch service answered, as a row: counts of the service, batch price, no latency."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from services import outcomes
from services.batch.types import SOURCE, LineResult
from services.deployments import config
from services.pricing import cost as pricing_cost
from services.pricing import plain_price
from services.security import keys
from services.types import Deployment, Usage

Row = dict[str, Any]
BILLED_STATES = frozenset({"succeeded"})


def call_row(
    batch: Row, job: Row, deployment: Deployment, no: int, result: LineResult, among: Sequence[int] = ()
) -> Row:  # fmt: skip
    """The whole row. Created when its job was submitted, ended when that ended; what is not told is None. ``among``:
    the numbers of the lines that share the cost of the job (`on_instances`), in order."""
    submitted = job["submitted_at"] or datetime.now(UTC)
    priced = _priced(batch, deployment)
    price = pricing_cost.price_of(priced, submitted, batch=True)
    usage = result.usage
    return {
        "id": f"{batch['id']}-{no}", "run_id": batch["run_id"], "column_no": 0, "repetition": no, "attempt_no": 1,
        "deployment_id": deployment.id, "deployment": config.to_json(deployment), "kind": deployment.kind,
        "model": deployment.model, "wire": deployment.wire, "source": SOURCE, "person": batch["person"],
        "state": _state(result), "outcome": result.outcome, "phase": None, "message": _clean(result.message, 1000),
        "error_type": _clean(result.error_type), "error_code": _clean(result.error_code),
        "http_status": result.http_status, "created_at": submitted, "ended_at": datetime.now(UTC),
        "server_ms": result.server_ms, "uncached_input": usage.uncached_input, "cache_read": usage.cache_read,
        "cache_write_5m": usage.cache_write_5m, "cache_write_1h": usage.cache_write_1h,
        "reasoning_output": usage.reasoning_output, "answer_output": usage.answer_output,
        "usage_source": usage.source, "usage_raw": dict(usage.raw) if usage.raw else None,
        **(_share(job, no, among) or _cost(result, usage, price, priced, submitted)),
        "price": price.to_json() if price else None, "region": deployment.region,
        "tier_asked": pricing_cost.tier_asked(deployment), "tier_served": _clean(result.tier_served),
        "finish_raw": _clean(result.finish_raw), "model_reported": _clean(result.model_reported),
        "response_id": _clean(result.response_id), "answer": keys.scrub(result.answer) if result.answer else None,
        "reasoning": keys.scrub(result.reasoning) if result.reasoning else None,
        "answer_sha256": hashlib.sha256(result.answer.encode("utf-8", "replace")).hexdigest() if result.answer
        else None,
    }  # fmt: skip


def _priced(batch: Row, deployment: Deployment) -> Deployment:
    """The deployment without what a batch is not: a tier of its own, or optimised for latency."""
    if batch["route"] != "bedrock" or deployment.aws is None:
        return deployment
    return replace(deployment, aws=replace(deployment.aws, service_tier=None, latency=None))


def line_row(result: LineResult) -> Row:
    """What becomes of the line."""
    return {
        "state": result.state, "outcome": result.outcome, "message": _clean(result.message, 1000),
        "answer": keys.scrub(result.answer) if result.answer else None, "ended_at": datetime.now(UTC),
    }  # fmt: skip


def _state(result: LineResult) -> str:
    """A call's state: of lines that were cancelled or expired the service says so without an outcome that fits."""
    return outcomes.STATE_OF.get(result.outcome, "failed")


def on_instances(job: Row) -> bool:
    """Whether a job ran on instances of its own (SageMaker Batch Transform), whose time is what it costs."""
    return "instance_count" in (job["facts"] or {})


def share(whole: int, n: int, rank: int) -> int:
    """The part of the ``rank``-th (from 0) of ``n`` lines in ``whole`` nano-dollars: all are equal to the nano-dollar,
    the first ones have what is left over, and together they are the whole."""
    one, rest = divmod(whole, n)
    return one + (rank < rest)


def _share(job: Row, no: int, among: Sequence[int]) -> Row | None:
    """What a line costs of a job that ran on instances of its own: an equal part of their time. None for every other
    job, and while its instances' price or time are not known."""
    if not on_instances(job):
        return None
    from services.batch.providers.aws import instance_cost_nanousd

    whole = instance_cost_nanousd(job["facts"])
    if whole is None:
        return None
    cost = share(whole, max(len(among), 1), bisect_left(among, no))
    return {
        "cost_state": "estimated", "cost_nanousd": cost, "cost_high_nanousd": None, "cost_drivers": {},
        "plain_nanousd": cost,
    }  # fmt: skip


def _cost(
    result: LineResult, usage: Usage, price: pricing_cost.Price | None, deployment: Deployment, at: datetime
) -> Row:  # fmt: skip
    """What it cost at the batch price. What was not answered is not billed by any of the services."""
    if result.state not in BILLED_STATES and usage.source == "none":
        return {
            "cost_state": "not_billed", "cost_nanousd": 0, "cost_high_nanousd": 0, "cost_drivers": {},
            "plain_nanousd": 0,
        }  # fmt: skip
    cost = pricing_cost.cost(usage, price, complete=True)
    standard = pricing_cost.price_of(deployment, at, tier="default") if plain_price.is_discounted(price) else None
    return {
        "cost_state": cost.state, "cost_nanousd": cost.nanousd, "cost_high_nanousd": cost.high_nanousd,
        "cost_drivers": dict(cost.drivers), "plain_nanousd": plain_price.plain_nanousd(usage, price, standard),
    }  # fmt: skip


def _clean(text: str | None, limit: int = 200) -> str | None:
    return keys.scrub(text)[:limit] if text else None
