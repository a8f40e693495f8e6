"""Simulated calls, thousands at a time: figures drawn from distributions, costs worked out like those of real calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from db.rollups import COUNTS
from db.run_queries import WARM_SHARE
from services.dashboard.demo_plan import PEOPLE, PLANS, Story
from services.deployments.serialization import to_json
from services.types import Deployment

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
OUTPUT_MOST = 4_000
# Outcome, state, phase, message, share among the calls that go wrong.
WRONG: tuple[tuple[str, str, str, str | None, float], ...] = (
    ("throttled", "throttled", "waiting", "Simulated: the service asked to slow down (429).", 0.4),
    ("http_error", "failed", "waiting", "Simulated: the service answered 500.", 0.18),
    ("timeout_first_token", "timed_out", "waiting", "Simulated: nothing arrived within 120 s.", 0.1),
    ("truncated", "cut_off", "answering", "Simulated: the stream ended without its closing signal.", 0.1),
    ("filtered", "refused", "answering", "Simulated: a filter stepped in.", 0.07),
    ("cancelled", "cancelled", "answering", "Simulated: stopped by the reader.", 0.15),
)
OUTCOMES = ("ok", "max_tokens", *(one[0] for one in WRONG))
STATES = ("succeeded", "succeeded", *(one[1] for one in WRONG))
PHASES = ("answering", "answering", *(one[2] for one in WRONG))
MESSAGES = (None, None, *(one[3] for one in WRONG))
STREAMED = np.array([True, True, False, False, False, True, True, True])
COMPLETE = np.array([True, True, False, False, False, False, True, False])
SOURCES = ("playground", "cli", "batch")
US = 1_000_000


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls in the order of time. ``frame`` is what `db.rollups.add` takes; ``columns`` what the table of calls has
    beside it, one list or array for each."""

    frame: pd.DataFrame
    columns: Mapping[str, Any]


def shares(hours: Ints, story: Story) -> Floats:
    """How many calls each hour has (hours since 1970, UTC), as weights: working days, lunch, nights, growth."""
    hour, day = hours % 24, (hours // 24 + 3) % 7
    busy = np.exp(-(((hour - 9.5) / 2.6) ** 2)) + 0.9 * np.exp(-(((hour - 14.5) / 2.4) ** 2)) + 0.05
    week = np.where(day < 5, 1.0 - 0.06 * np.abs(day - 2), 0.18)
    first, last = story.start.timestamp() / 3600, story.end.timestamp() / 3600
    growth = 0.7 + 0.6 * (hours - first) / max(last - first, 1.0)
    weights: Floats = busy * week * growth
    return weights


def draw(dice: np.random.Generator, at_us: Ints, story: Story) -> Calls:
    """Calls made at these moments (µs since 1970, ascending)."""
    n = len(at_us)
    plan = _plans(dice, at_us, story)
    batch = dice.random(n) < np.array([one.batched for one in PLANS])[plan]
    later = at_us >= _us(story.cheaper)
    bad_hours = (at_us >= _us(story.incident[0])) & (at_us < _us(story.incident[1]))
    hurt = bad_hours & np.array([one.breaks for one in PLANS])[plan]
    ended = _outcomes(dice, plan, hurt, batch)
    tokens = _tokens(dice, plan, ended)
    times = _times(dice, plan, at_us, tokens, ended, batch, hurt)
    money = _money(plan, batch, later, ended, tokens)
    source = np.where(batch, 2, np.where(dice.random(n) < 0.12, 1, 0))
    person = np.minimum((dice.random(n) ** 1.7 * len(PEOPLE)).astype(np.int64), len(PEOPLE) - 1)
    frame = _frame(plan, at_us, source, person, ended, tokens, times, money)
    return Calls(frame, _columns(plan, batch, later, ended, times, money))


def _us(moment: datetime) -> int:
    return int(moment.timestamp() * US)


def _plans(dice: np.random.Generator, at_us: Ints, story: Story) -> Ints:
    """Which deployment each call goes to: by share, before and after the move, and only to those that are on."""
    weights = np.tile(np.array([one.share for one in PLANS]), (len(at_us), 1))
    moved = at_us >= _us(story.shift)
    weights[moved, 1] *= 1.5
    weights[moved, 2] *= 0.55
    for number, one in enumerate(PLANS):
        if one.hours == "always":
            continue
        on = np.zeros(len(at_us), dtype=bool)
        for start, end in story.stretches(one):
            on |= (at_us >= _us(start)) & (at_us < (_us(end) if end else _us(story.end)))
        weights[~on, number] = 0.0
    edges = np.cumsum(weights, axis=1)
    chosen: Ints = (edges < (dice.random(len(at_us)) * edges[:, -1])[:, None]).sum(axis=1)
    return chosen


def _outcomes(dice: np.random.Generator, plan: Ints, hurt: NDArray[np.bool_], batch: NDArray[np.bool_]) -> Ints:
    n = len(plan)
    wrong = dice.random(n) < np.where(hurt, 0.35, np.array([one.wrong for one in PLANS])[plan])
    kinds = np.array([one[4] for one in WRONG])
    which = np.searchsorted(np.cumsum(kinds / kinds.sum()), dice.random(n), side="right")
    ended = np.where(wrong, 2 + np.minimum(which, len(WRONG) - 1), np.where(dice.random(n) < 0.015, 1, 0))
    # A batch has no stream to stop or to cut: what goes wrong in it is an error of the service.
    found: Ints = np.where(batch & (ended > 3), 3, ended)
    return found


def _log(dice: np.random.Generator, median: Floats, sigma: float | Floats) -> Floats:
    found: Floats = median * np.exp(dice.standard_normal(len(median)) * sigma)
    return found


def _of(name: str, plan: Ints) -> Floats:
    values: Floats = np.array([float(getattr(one, name) or 0.0) for one in PLANS])[plan]
    return values


def _tokens(dice: np.random.Generator, plan: Ints, ended: Ints) -> dict[str, Ints]:
    n = len(plan)
    given = np.maximum(_log(dice, _of("tokens_in", plan), 0.6).astype(np.int64), 8)
    out = np.clip(_log(dice, _of("tokens_out", plan), 0.7).astype(np.int64), 2, OUTPUT_MOST)
    out = np.where(STREAMED[ended], np.where(COMPLETE[ended], out, np.maximum(out // 3, 1)), 0)
    thought = (out * _of("thinks", plan) * (dice.random(n) < 0.6)).astype(np.int64)
    lot, part = dice.random(n), (given * 0.85).astype(np.int64)
    warm = _of("warm", plan)
    read = np.where(lot < warm, part, 0)
    wrote = np.where((lot >= warm) & (lot < warm * 1.12), part, 0)
    billed = STREAMED[ended].astype(np.int64)
    return {
        "uncached_input": (given - read - wrote) * billed, "cache_read": read * billed,
        "cache_write_5m": wrote * billed, "cache_write_1h": np.zeros(n, dtype=np.int64),
        "reasoning_output": thought, "answer_output": out - thought,
    }  # fmt: skip


def _times(
    dice: np.random.Generator, plan: Ints, at_us: Ints, tokens: Mapping[str, Ints], ended: Ints,
    batch: NDArray[np.bool_], hurt: NDArray[np.bool_],
) -> dict[str, Floats]:  # fmt: skip
    hour = at_us / US / 3600 % 24
    rush = 1 + 0.35 * np.exp(-(((hour - 9.5) / 2.5) ** 2)) + 0.3 * np.exp(-(((hour - 14.5) / 2.4) ** 2))
    slow = rush * np.where(hurt, 4.0, 1.0) * np.where(tokens["cache_read"] > 0, 0.62, 1.0)
    first = _log(dice, _of("ttft_ms", plan) * slow, _of("spread", plan))
    each = _log(dice, _of("tpot_ms", plan) * np.sqrt(rush), 0.08)
    out = tokens["reasoning_output"] + tokens["answer_output"]
    last = first + each * np.maximum(out - 1, 0)
    seen = STREAMED[ended] & ~batch
    window = last - first
    quick = (out >= 10) & (window >= 500)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {
            "ttft": first, "ttfat": first + each * tokens["reasoning_output"], "ttlt": last,
            "tpot": np.where(out >= 2, each, np.nan), "decode": np.where(quick, (out - 1) / window * 1000, np.nan),
            "e2e": out / last * 1000,
        }  # fmt: skip
    found = {name: np.where(seen, np.round(values, 3), np.nan) for name, values in found.items()}
    failed_after = np.where(ended == 4, 120_000.0, first)
    found["end"] = np.where(batch, np.nan, np.round(np.where(STREAMED[ended], last + 6, failed_after), 3))
    return found


def _money(
    plan: Ints, batch: NDArray[np.bool_], later: NDArray[np.bool_], ended: Ints, tokens: Mapping[str, Ints]
) -> dict[str, Any]:
    """Nano-dollars by driver; what would have been paid at the plain price; -1 where there is no price by the call."""
    rates = np.zeros((len(PLANS), 2, 2, 5), dtype=np.int64)
    plain = np.zeros((len(PLANS), 2, 2), dtype=np.int64)
    for number, one in enumerate(PLANS):
        for after in (0, 1):
            usual = one.plain(later=bool(after))
            if usual is not None:
                plain[number, after] = [_nano(rate) for rate in usual]
            for waiting in (0, 1):
                price = one.price(later=bool(after), batch=bool(waiting))
                if price is not None and price.rates is not None:
                    rates[number, after, waiting] = [_nano(rate) for rate in price.rates.values()]
    chosen = rates[plan, later.astype(np.int64), batch.astype(np.int64)]
    at = (0, 1, 2, 3, 4, 4)  # the rate of each count, in the order of COUNTS
    drivers = {name: tokens[name] * chosen[:, rate] for name, rate in zip(COUNTS, at, strict=True)}
    standard = plain[plan, later.astype(np.int64)]
    given = sum(tokens[name] for name in COUNTS[:4])
    out = tokens["reasoning_output"] + tokens["answer_output"]
    sold = np.array([one.rates is not None for one in PLANS])[plan]
    return {
        "drivers": drivers, "cost": sum(drivers.values()), "plain": given * standard[:, 0] + out * standard[:, 1],
        "sold": sold, "free": np.array([one.deployment.price.per_hour == "0" for one in PLANS])[plan],
        "billed": STREAMED[ended],
    }  # fmt: skip


def _nano(rate: str) -> int:
    """Nano-dollars per token of US dollars per 1,000,000."""
    return round(float(rate) * 1000)


def _pick(values: Any, which: Ints) -> NDArray[Any]:
    return np.array(values, dtype=object)[which]


def _frame(
    plan: Ints, at_us: Ints, source: Ints, person: Ints, ended: Ints, tokens: Mapping[str, Ints],
    times: Mapping[str, Floats], money: Mapping[str, Any],
) -> pd.DataFrame:  # fmt: skip
    told = np.array([one.warm is not None for one in PLANS])[plan] & STREAMED[ended]
    given = sum(tokens[name] for name in COUNTS[:4])
    warm = (tokens["cache_read"] > 0) & (tokens["cache_read"] * WARM_SHARE >= given)
    bounded = money["sold"] & money["billed"] & ~COMPLETE[ended]
    ones = np.ones(len(plan), dtype=np.int64)
    usable = ended < 2
    made: dict[str, Any] = {
        "created_at": pd.to_datetime(at_us, unit="us", utc=True),
        "deployment_id": _pick([one.deployment.id for one in PLANS], plan),
        "model": _pick([one.deployment.model for one in PLANS], plan),
        "kind": _pick([one.deployment.kind for one in PLANS], plan),
        "source": _pick(SOURCES, source), "person": _pick(PEOPLE, person), "outcome": _pick(OUTCOMES, ended),
        "state": _pick(STATES, ended),
        "cache": np.where(told, np.where(warm, "warm", "cold"), "").astype(object),
        "n": ones, "n_late": ones * 0,
        "n_priced": (money["sold"] | money["free"] | ~money["billed"]).astype(np.int64),
        "n_bounded": bounded.astype(np.int64), "n_estimated": (~COMPLETE[ended]).astype(np.int64),
        **tokens, "cost_nanousd": money["cost"], "plain_nanousd": money["plain"],
        **{f"cost_{name}": values for name, values in money["drivers"].items()},
        "busy_ms": np.round(np.nan_to_num(times["end"])).astype(np.int64),
        **{name: np.where(usable, times[name], np.nan) for name in ("ttft", "ttfat", "ttlt", "tpot", "decode", "e2e")},
    }  # fmt: skip
    return pd.DataFrame(made)


def _columns(
    plan: Ints, batch: NDArray[np.bool_], later: NDArray[np.bool_], ended: Ints, times: Mapping[str, Floats],
    money: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    prices = [
        [[_text(one.price(later=after, batch=waiting)) for waiting in (False, True)] for after in (False, True)]
        for one in PLANS
    ]
    told = np.array([one.warm is not None for one in PLANS])[plan]
    state = np.where(~money["billed"], "not_billed", np.where(money["free"], "free", "by_the_hour")).astype(object)
    priced = np.where(COMPLETE[ended], "exact", "lower_bound")
    state = np.where(money["sold"] & money["billed"], priced, state).astype(object)
    exact = np.array(prices, dtype=object)[plan, later.astype(np.int64), batch.astype(np.int64)]
    drivers = list(zip(*(values.tolist() for values in money["drivers"].values()), strict=True))
    return {
        "deployment": _pick([_snapshot(one.deployment) for one in PLANS], plan),
        "wire": _pick([one.deployment.wire for one in PLANS], plan), "price": exact,
        "region": _pick([one.deployment.region for one in PLANS], plan),
        "tier_asked": _pick(["flex" if one.flex else None for one in PLANS], plan),
        "cost_state": state, "told_cache": told, "billed": money["billed"],
        "priced": (money["sold"] | money["free"] | ~money["billed"]), "sold": money["sold"],
        "cost_drivers": [_drivers(row) if any(row) else "{}" for row in drivers],
        "phase": _pick(PHASES, ended), "message": _pick(MESSAGES, ended),
        "usage_source": _pick(["provider" if done else "none" for done in COMPLETE], ended),
        "times": times,
    }  # fmt: skip


def _snapshot(deployment: Deployment) -> str:
    """The part of a deployment's snapshot that cannot be left out: it is stored with every call."""
    full = to_json(deployment)
    kept = ("id", "name", "kind", "model", "base_url", "wire", "color_slot", "labels")
    return orjson.dumps({name: full[name] for name in kept}).decode()


def _text(price: Any) -> str | None:
    return None if price is None else orjson.dumps(price.to_json()).decode()


def _drivers(row: tuple[int, ...]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in zip(COUNTS, row, strict=True) if value) + "}"
