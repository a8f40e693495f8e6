"""What the board draws, built from a call's record: the live engine and a reopened run use the same functions.

A column is a plain JSON object; its figures are the ones in the database, never recomputed in the browser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Literal, TypedDict

from db.run_queries import WARM_SHARE
from db.run_rows import CallRow, RunRow
from services.call_record import CallCost, CallRecord, from_row
from services.pricing import cost as pricing_cost
from services.pricing import hourly
from services.pricing import price as pricing_price
from services.pricing.price import normal_tier
from services.providers import kind_of
from services.types import Deployment, Json, Timing, Usage

# The figures of a column, in their fixed slots: times in ms, speeds in tokens a second, counts in tokens.
Figures = TypedDict(
    "Figures",
    {
        "ttft_ms": float | None,
        "ttfat_ms": float | None,
        "ttlt_ms": float | None,
        "end_ms": float | None,
        "decode_tps": float | None,
        "decode_hidden": str | None,
        "e2e_tps": float | None,
        "self_lag_ms": float | None,
        "lag_marked": bool | None,
        "decode_est": bool,
        "e2e_est": bool,
        "in": int | None,
        "in_est": bool,
        "cached": int | None,
        "out": int | None,
        "out_est": bool,
        "cost": str,
        "cost_mark": str,
        "cost_share": str | None,
    },
)


class Bar(TypedDict):
    """The ends of a column's phases in ms from t0, for the race; None where a phase was not reached."""

    wait_end: float | None
    reason_end: float | None
    answer_end: float | None
    end: float | None


class Gauge(TypedDict):
    """How the server of a column is (`services.servers.Gauge`). ``kv`` and ``hit``: shares from 0 to 1."""

    running: int | None
    waiting: int | None
    kv: float | None
    hit: float | None


class Identity(TypedDict):
    """What a column is, before anything was sent."""

    i: int
    deployment: str
    name: str
    badge: str
    kind: str
    model: str
    color: int
    labels: list[str]
    reps: int


class Progress(TypedDict):
    """How the call of a column stands."""

    rep: int
    attempt: int
    phase: str
    state: str
    words: str
    note: str | None
    elapsed_ms: float
    idle_ms: float
    fig: Figures
    bar: Bar
    failed: bool


class Column(Identity, Progress):
    """A column with its texts, from so many characters on, and how long its deployment usually takes."""

    answer_from: int
    answer: str
    reasoning_from: int
    reasoning: str
    typical_ttft_ms: float | None
    typical_n: int


class LiveColumn(Column):
    """A column while its run lives."""

    gauge: Gauge | None


class Snapshot(TypedDict):
    """Everything that a board needs to draw a run from nothing."""

    type: Literal["snapshot"]
    run: str
    seq: int
    live: bool
    blind: bool
    columns: Sequence[Column]


PHASE_WORDS = {
    "queued": "queued",
    "connecting": "connecting",
    "waiting": "waiting",
    "reasoning": "reasoning",
    "answering": "answering",
}

STATE_WORDS = {
    "succeeded": "done",
    "cancelled": "stopped",
    "timed_out": "timed out",
    "throttled": "throttled",
    "refused": "refused",
    "cut_off": "cut off",
    "failed": "failed",
    "denied": "denied: over budget",
    "lost": "lost: our engine stopped",
    "replayed": "replayed",
}


NEVER_RED = frozenset({"running", "succeeded", "cancelled", "replayed"})


class End(TypedDict):
    """A run is over."""

    type: Literal["end"]
    seq: int


class Delta(TypedDict):
    """What changed: for each column ``i``, the texts that came (``a``, ``r``) and the fields that are others now."""

    type: Literal["delta"]
    seq: int
    cols: list[Json]


class Ping(TypedDict):
    """The line is alive."""

    type: Literal["ping"]


def words(call: CallRecord) -> str:
    """The state of a finished call in words, with the tokens it got to when it was cut."""
    if call.outcome.name == "max_tokens":
        return "done, at the token limit"
    tokens = call.usage.output_total
    if call.state == "cut_off" and tokens:
        return f"cut off after {'' if call.usage.source == 'provider' else '~'}{tokens:,} tokens"
    return STATE_WORDS.get(call.state, call.state)


def cost_words(cost: CallCost) -> tuple[str, str]:
    """(mark, text) of a call's cost: ("≥", "$0.00091"), ("", "no price"), ("", "free"), ("", "by the hour") …"""
    state = cost.state or "no_price"
    if state == "not_billed":
        return "", "not billed"
    if state == "by_the_hour":
        price = pricing_price.read(cost.price)
        return "", f"${price.per_hour} / h" if price is not None and price.per_hour else "by the hour"
    if state == "free":
        return "", "free"
    if cost.nanousd is None:
        return "", "no price" if state == "no_price" else "unknown"
    return pricing_cost.MARKS.get(state, ""), pricing_cost.money(cost.nanousd)


def full_use(call: CallRecord) -> int | None:
    """Of a call that is paid by the hour: nano-dollars for the time it held the machine, as if alone on it and the
    machine never idle. None for every other call."""
    if call.cost.state != "by_the_hour":
        return None
    price = pricing_price.read(call.cost.price)
    return None if price is None else hourly.share_nanousd(price.per_hour, call.timing.end_ms)


def cost_of_1000(calls: Sequence[CallRecord]) -> str:
    """In place of a cost per 1,000 calls that is no number: "free", "no price", "$39.60 / h · ~$4.40 at full use"."""
    words = cost_words(calls[-1].cost)[1]
    shares = [share for call in calls if call.outcome.succeeded and (share := full_use(call)) is not None]
    return f"{words} · ~{pricing_cost.money(round(median(shares) * 1000))} at full use" if shares else words


def figures(call: CallRecord) -> Figures:
    """The fixed slots of a column's figures, from a finished call (times in ms)."""
    mark, cost = cost_words(call.cost)
    usage, timing = call.usage, call.timing
    estimated = usage.source != "provider"
    return {
        "ttft_ms": timing.ttft_ms,
        "ttfat_ms": timing.ttfat_ms,
        "ttlt_ms": timing.ttlt_ms,
        "end_ms": timing.end_ms,
        "decode_tps": timing.decode_tps,
        "decode_hidden": timing.decode_hidden,
        "e2e_tps": timing.e2e_tps,
        "self_lag_ms": timing.self_lag_ms,
        "lag_marked": timing.lag_marked,
        "decode_est": estimated,
        "e2e_est": estimated,
        "in": usage.input_total,
        "in_est": usage.source not in ("provider", "partial"),
        "cached": usage.cache_read,
        "out": usage.output_total,
        "out_est": estimated,
        "cost": cost,
        "cost_mark": mark,
        "cost_share": None if (share := full_use(call)) is None else f"~{pricing_cost.money(share)}",
    }


def bar(timing: Timing) -> Bar:
    """The ends of a column's phases in ms from t0, for the race; None where a phase was not reached."""
    return {
        "wait_end": timing.ttft_ms,
        "reason_end": timing.ttfat_ms,
        "answer_end": timing.ttlt_ms,
        "end": timing.end_ms,
    }


def badge(deployment: Deployment) -> str:
    """How a deployment is run, in two words: its kind's badge, or "this machine" for a server of ours."""
    if deployment.base_url.startswith("embedded://"):
        return "this machine"
    kind = kind_of(deployment)
    # Bedrock's endpoints that speak a general wire are a managed service, whatever speaks that wire elsewhere.
    return "Amazon Bedrock" if deployment.aws is not None and not kind.on_aws else kind.badge


def identity(index: int, deployment: Deployment, reps: int) -> Identity:
    """The part of a column that says what it is, before anything was sent."""
    return {
        "i": index,
        "deployment": deployment.id,
        "name": deployment.name,
        "badge": badge(deployment),
        "kind": deployment.kind,
        "model": deployment.model,
        "color": deployment.color_slot,
        "labels": list(deployment.labels),
        "reps": reps,
    }


def final(call: CallRecord) -> Progress:
    """The part of a column that a finished call decides."""
    return {
        "rep": call.repetition,
        "attempt": call.attempt,
        "phase": "done",
        "state": call.state,
        "words": words(call),
        "note": call.outcome.message or other_tier(call),
        "elapsed_ms": call.timing.end_ms or 0.0,
        "idle_ms": 0.0,
        "fig": figures(call),
        "bar": bar(call.timing),
        "failed": call.state not in NEVER_RED,
    }


def other_tier(call: CallRecord) -> str | None:
    """A sentence where another service tier served the call than the one that was asked for."""
    tier_asked, served = call.request.service_tier, call.answer.service_tier
    if not tier_asked or not served or normal_tier(str(tier_asked)) == normal_tier(str(served)):
        return None
    return f"The service tier “{tier_asked}” was asked for; “{served}” served this call and is what it was priced at."


def last_attempts(calls: Sequence[CallRow]) -> list[CallRow]:
    """The latest attempt of each (column, repetition), in that order."""
    latest: dict[tuple[int, int], CallRow] = {}
    for row in calls:
        place = (row["column_no"], row["repetition"])
        if place not in latest or row["attempt_no"] > latest[place]["attempt_no"]:
            latest[place] = row
    return [latest[place] for place in sorted(latest)]


def shown_calls(calls: Sequence[CallRow]) -> list[CallRow]:
    """The call that each column shows: the last attempt of its last repetition."""
    by_column: dict[int, CallRow] = {}
    for row in last_attempts(calls):
        by_column[row["column_no"]] = row
    return [by_column[column] for column in sorted(by_column)]


def snapshot_from_rows(run: RunRow, calls: Sequence[CallRow]) -> Snapshot:
    """The board's snapshot of a run that is no longer live, from its database rows."""
    columns: list[Column] = []
    for row in shown_calls(calls):
        call = from_row(row)
        columns.append(
            {
                **identity(call.column, Deployment.from_json(call.deployment.declared), run["repetitions"]),
                **final(call),
                "answer_from": 0,
                "answer": call.answer.text or "",
                "reasoning_from": 0,
                "reasoning": call.answer.reasoning or "",
                "typical_ttft_ms": None,
                "typical_n": 0,
            }
        )
    return {
        "type": "snapshot",
        "run": run["id"],
        "seq": 0,
        "live": False,
        "blind": bool(run["blind"]),
        "columns": columns,
    }


CacheState = Literal["cold", "warm"]

NOT_REPORTED = "not reported"


def state(usage: Usage) -> CacheState | None:
    """The state of a call: warm when at least a twentieth of its input was read from the cache, cold when the
    service says that less or nothing was (written or not), None when it does not say.

    Two prompts that have nothing in common still share the fixed words of their chat template (llama.cpp: 3 to 8 tokens
    of 1,000), which changes nothing that can be measured.
    """
    cache_read = usage.cache_read
    if cache_read is None:
        return None
    return "warm" if cache_read > 0 and cache_read * WARM_SHARE >= (usage.input_total or 0) else "cold"


def counted(calls: Iterable[CallRecord]) -> str:
    """How many calls were what: "1 cold, 4 warm prompt cache"; "" when the service said it of none."""
    numbers = Counter(state(call.usage) for call in calls)
    unknown = numbers.pop(None, 0)
    if not numbers:
        return ""
    words = [f"{numbers[name]:,} {name}" for name in ("cold", "warm") if numbers[name]]
    return ", ".join(words) + " prompt cache" + (f", {unknown:,} {NOT_REPORTED}" if unknown else "")


def cache_words(usage: Usage) -> str:
    """The state for a table: "cold", "warm" or "not reported"."""
    return state(usage) or NOT_REPORTED
