"""What the board draws, built from a call's row: the live engine and a reopened run use the same functions.

A column is a plain JSON object; its figures are the ones in the database, never recomputed in the browser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any, Literal

from db.run_queries import WARM_SHARE
from services.formatting import money
from services.pricing import hourly
from services.pricing import price as pricing_price
from services.pricing.price import normal_tier
from services.providers import kind_of
from services.types import Deployment

Row = Mapping[str, Any]

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

COST_MARKS = {"lower_bound": "≥", "estimated": "~"}

NEVER_RED = frozenset({"running", "succeeded", "cancelled", "replayed"})


def words(row: Row) -> str:
    """The state of a finished call in words, with the tokens it got to when it was cut."""
    state_words = STATE_WORDS.get(str(row["state"]), str(row["state"]))
    if row.get("outcome") == "max_tokens":
        return "done, at the token limit"
    tokens = output_tokens(row)
    if row["state"] == "cut_off" and tokens:
        return f"cut off after {'' if row.get('usage_source') == 'provider' else '~'}{tokens:,} tokens"
    return state_words


def input_tokens(row: Row) -> int | None:
    """All input tokens of a call's row, cached or not; None when unknown."""
    return _sum(row, ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h"))


def output_tokens(row: Row) -> int | None:
    """All output tokens of a call's row, reasoning and answer; None when unknown."""
    return _sum(row, ("reasoning_output", "answer_output"))


def _sum(row: Row, names: Sequence[str]) -> int | None:
    counts = [row[name] for name in names if row.get(name) is not None]
    return sum(counts) if counts else None


def cost_words(row: Row) -> tuple[str, str]:
    """(mark, text) of a call's cost: ("≥", "$0.00091"), ("", "no price"), ("", "free"), ("", "by the hour") …"""
    state = str(row.get("cost_state") or "no_price")
    if state == "not_billed":
        return "", "not billed"
    if state == "by_the_hour":
        price = pricing_price.read(row.get("price"))
        return "", f"${price.per_hour} / h" if price is not None and price.per_hour else "by the hour"
    if state == "free":
        return "", "free"
    if row.get("cost_nanousd") is None:
        return "", "no price" if state == "no_price" else "unknown"
    return COST_MARKS.get(state, ""), money(row["cost_nanousd"])


def full_use(row: Row) -> int | None:
    """Of a call that is paid by the hour: nano-dollars for the time it held the machine, as if alone on it and the
    machine never idle. None for every other call."""
    if row.get("cost_state") != "by_the_hour":
        return None
    price = pricing_price.read(row.get("price"))
    return None if price is None else hourly.share_nanousd(price.per_hour, row.get("end_ms"))


def cost_of_1000(rows: Sequence[Row]) -> str:
    """In place of a cost per 1,000 calls that is no number: "free", "no price", "$39.60 / h · ~$4.40 at full use"."""
    words = cost_words(rows[-1])[1]
    shares = [share for row in rows if row["state"] == "succeeded" and (share := full_use(row)) is not None]
    return f"{words} · ~{money(round(median(shares) * 1000))} at full use" if shares else words


def figures(row: Row) -> dict[str, Any]:
    """The fixed slots of a column's figures, from a finished call's row (times in ms)."""
    mark, cost = cost_words(row)
    estimated = row.get("usage_source") not in ("provider",)
    return {
        **{
            name: row.get(name)
            for name in (
                "ttft_ms",
                "ttfat_ms",
                "ttlt_ms",
                "end_ms",
                "decode_tps",
                "decode_hidden",
                "e2e_tps",
                "self_lag_ms",
                "lag_marked",
            )
        },
        "decode_est": estimated,
        "e2e_est": estimated,
        "in": input_tokens(row),
        "in_est": row.get("usage_source") not in ("provider", "partial"),
        "cached": row.get("cache_read"),
        "out": output_tokens(row),
        "out_est": estimated,
        "cost": cost,
        "cost_mark": mark,
        "cost_share": None if (share := full_use(row)) is None else f"~{money(share)}",
    }


def bar(row: Row) -> dict[str, Any]:
    """The ends of a column's phases in ms from t0, for the race; None where a phase was not reached."""
    return {
        "wait_end": row.get("ttft_ms"),
        "reason_end": row.get("ttfat_ms"),
        "answer_end": row.get("ttlt_ms"),
        "end": row.get("end_ms"),
    }


def badge(deployment: Deployment) -> str:
    """How a deployment is run, in two words: its kind's badge, or "this machine" for a server of ours."""
    if deployment.base_url.startswith("embedded://"):
        return "this machine"
    kind = kind_of(deployment)
    # Bedrock's endpoints that speak a general wire are a managed service, whatever speaks that wire elsewhere.
    return "Amazon Bedrock" if deployment.aws is not None and not kind.on_aws else kind.badge


def identity(index: int, deployment: Deployment, reps: int) -> dict[str, Any]:
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


def final(row: Row) -> dict[str, Any]:
    """The part of a column that a finished call decides."""
    return {
        "rep": row["repetition"],
        "attempt": row["attempt_no"],
        "phase": "done",
        "state": row["state"],
        "words": words(row),
        "note": row.get("message") or other_tier(row),
        "elapsed_ms": row.get("end_ms") or 0.0,
        "idle_ms": 0.0,
        "fig": figures(row),
        "bar": bar(row),
        "failed": row["state"] not in NEVER_RED,
    }


def other_tier(row: Row) -> str | None:
    """A sentence where another service tier served the call than the one that was asked for."""
    requested, served = row.get("tier_asked"), row.get("tier_served")
    if not requested or not served or normal_tier(str(requested)) == normal_tier(str(served)):
        return None
    return f"The service tier “{requested}” was asked for; “{served}” served this call and is what it was priced at."


def last_attempts(calls: Sequence[Row]) -> list[Row]:
    """The latest attempt of each (column, repetition), in that order."""
    latest: dict[tuple[int, int], Row] = {}
    for row in calls:
        slot = (row["column_no"], row["repetition"])
        if slot not in latest or row["attempt_no"] > latest[slot]["attempt_no"]:
            latest[slot] = row
    return [latest[slot] for slot in sorted(latest)]


def shown_calls(calls: Sequence[Row]) -> list[Row]:
    """The call that each column shows: the last attempt of its last repetition."""
    last_by_column: dict[int, Row] = {}
    for row in last_attempts(calls):
        last_by_column[row["column_no"]] = row
    return [last_by_column[column] for column in sorted(last_by_column)]


def snapshot_from_rows(run: Row, calls: Sequence[Row]) -> dict[str, Any]:
    """The board's snapshot of a run that is no longer live, from its database rows."""
    columns = []
    for row in shown_calls(calls):
        deployment = Deployment.from_json(row["deployment"])
        columns.append(
            {
                **identity(row["column_no"], deployment, run["repetitions"]),
                **final(row),
                "answer_from": 0,
                "answer": row.get("answer") or "",
                "reasoning_from": 0,
                "reasoning": row.get("reasoning") or "",
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

_INPUT = ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h")

NOT_REPORTED = "not reported"


def state(row: Mapping[str, Any]) -> CacheState | None:
    """The state of a call's row: warm when at least a twentieth of its input was read from the cache, cold when the
    service says that less or nothing was (written or not), None when it does not say.

    Two prompts that have nothing in common still share the fixed words of their chat template (llama.cpp: 3 to 8 tokens
    of 1,000), which changes nothing that can be measured.
    """
    read = row.get("cache_read")
    if read is None:
        return None
    total = sum(row.get(name) or 0 for name in _INPUT)
    return "warm" if read > 0 and read * WARM_SHARE >= total else "cold"


def counted(rows: Iterable[Mapping[str, Any]]) -> str:
    """How many calls were what: "1 cold, 4 warm prompt cache"; "" when the service said it of none."""
    counts = Counter(state(row) for row in rows)
    unknown = counts.pop(None, 0)
    if not counts:
        return ""
    parts = [f"{counts[name]:,} {name}" for name in ("cold", "warm") if counts[name]]
    return ", ".join(parts) + " prompt cache" + (f", {unknown:,} {NOT_REPORTED}" if unknown else "")


def cache_words(row: Mapping[str, Any]) -> str:
    """The state for a table: "cold", "warm" or "not reported"."""
    return state(row) or NOT_REPORTED
