"""What the demo data simulates, and its calls, thousands at a time, costed like real ones.

Rates are US dollars per 1,000,000 tokens and whole nano-dollars per token. Nothing of it was measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal

import numpy as np
import orjson
import pandas as pd
from numpy.typing import NDArray

from db.rollups import COUNTS
from db.run_queries import WARM_SHARE
from services.pricing.cost import Price
from services.types import Aws, Deployment, PriceRef, Wire

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


OUTCOMES = ("ok", "max_tokens", *(ending[0] for ending in WRONG))

STATES = ("succeeded", "succeeded", *(ending[1] for ending in WRONG))

PHASES = ("answering", "answering", *(ending[2] for ending in WRONG))

MESSAGES = (None, None, *(ending[3] for ending in WRONG))

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
    batch = dice.random(n) < np.array([plan_row.batched for plan_row in PLANS])[plan]
    later = at_us >= _us(story.cheaper)
    bad_hours = (at_us >= _us(story.incident[0])) & (at_us < _us(story.incident[1]))
    hurt = bad_hours & np.array([plan_row.breaks for plan_row in PLANS])[plan]
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
    weights = np.tile(np.array([plan_row.share for plan_row in PLANS]), (len(at_us), 1))
    moved = at_us >= _us(story.shift)
    weights[moved, 1] *= 1.5
    weights[moved, 2] *= 0.55
    for number, plan_row in enumerate(PLANS):
        if plan_row.hours == "always":
            continue
        on = np.zeros(len(at_us), dtype=bool)
        for start, end in story.stretches(plan_row):
            on |= (at_us >= _us(start)) & (at_us < (_us(end) if end else _us(story.end)))
        weights[~on, number] = 0.0
    edges = np.cumsum(weights, axis=1)
    chosen: Ints = (edges < (dice.random(len(at_us)) * edges[:, -1])[:, None]).sum(axis=1)
    return chosen


def _outcomes(dice: np.random.Generator, plan: Ints, hurt: NDArray[np.bool_], batch: NDArray[np.bool_]) -> Ints:
    n = len(plan)
    wrong = dice.random(n) < np.where(hurt, 0.35, np.array([plan_row.wrong for plan_row in PLANS])[plan])
    kinds = np.array([ending[4] for ending in WRONG])
    which = np.searchsorted(np.cumsum(kinds / kinds.sum()), dice.random(n), side="right")
    ended = np.where(wrong, 2 + np.minimum(which, len(WRONG) - 1), np.where(dice.random(n) < 0.015, 1, 0))
    # A batch has no stream to stop or to cut: what goes wrong in it is an error of the service.
    endings: Ints = np.where(batch & (ended > 3), 3, ended)
    return endings


def _log(dice: np.random.Generator, median: Floats, sigma: float | Floats) -> Floats:
    values: Floats = median * np.exp(dice.standard_normal(len(median)) * sigma)
    return values


def _of(name: str, plan: Ints) -> Floats:
    values: Floats = np.array([float(getattr(plan_row, name) or 0.0) for plan_row in PLANS])[plan]
    return values


def _tokens(dice: np.random.Generator, plan: Ints, ended: Ints) -> dict[str, Ints]:
    n = len(plan)
    input_tokens = np.maximum(_log(dice, _of("tokens_in", plan), 0.6).astype(np.int64), 8)
    out = np.clip(_log(dice, _of("tokens_out", plan), 0.7).astype(np.int64), 2, OUTPUT_MOST)
    out = np.where(STREAMED[ended], np.where(COMPLETE[ended], out, np.maximum(out // 3, 1)), 0)
    thought = (out * _of("thinks", plan) * (dice.random(n) < 0.6)).astype(np.int64)
    lot, cacheable = dice.random(n), (input_tokens * 0.85).astype(np.int64)
    warm = _of("warm", plan)
    read = np.where(lot < warm, cacheable, 0)
    wrote = np.where((lot >= warm) & (lot < warm * 1.12), cacheable, 0)
    billed = STREAMED[ended].astype(np.int64)
    return {
        "uncached_input": (input_tokens - read - wrote) * billed,
        "cache_read": read * billed,
        "cache_write_5m": wrote * billed,
        "cache_write_1h": np.zeros(n, dtype=np.int64),
        "reasoning_output": thought,
        "answer_output": out - thought,
    }


def _times(
    dice: np.random.Generator,
    plan: Ints,
    at_us: Ints,
    tokens: Mapping[str, Ints],
    ended: Ints,
    batch: NDArray[np.bool_],
    hurt: NDArray[np.bool_],
) -> dict[str, Floats]:
    hour = at_us / US / 3600 % 24
    rush = 1 + 0.35 * np.exp(-(((hour - 9.5) / 2.5) ** 2)) + 0.3 * np.exp(-(((hour - 14.5) / 2.4) ** 2))
    slow = rush * np.where(hurt, 4.0, 1.0) * np.where(tokens["cache_read"] > 0, 0.62, 1.0)
    first = _log(dice, _of("ttft_ms", plan) * slow, _of("spread", plan))
    per_token = _log(dice, _of("tpot_ms", plan) * np.sqrt(rush), 0.08)
    out = tokens["reasoning_output"] + tokens["answer_output"]
    last = first + per_token * np.maximum(out - 1, 0)
    seen = STREAMED[ended] & ~batch
    window = last - first
    quick = (out >= 10) & (window >= 500)
    with np.errstate(divide="ignore", invalid="ignore"):
        times = {
            "ttft": first,
            "ttfat": first + per_token * tokens["reasoning_output"],
            "ttlt": last,
            "tpot": np.where(out >= 2, per_token, np.nan),
            "decode": np.where(quick, (out - 1) / window * 1000, np.nan),
            "e2e": out / last * 1000,
        }
    times = {name: np.where(seen, np.round(values, 3), np.nan) for name, values in times.items()}
    failed_after = np.where(ended == 4, 120_000.0, first)
    times["end"] = np.where(batch, np.nan, np.round(np.where(STREAMED[ended], last + 6, failed_after), 3))
    return times


def _money(
    plan: Ints, batch: NDArray[np.bool_], later: NDArray[np.bool_], ended: Ints, tokens: Mapping[str, Ints]
) -> dict[str, Any]:
    """Nano-dollars by driver; what would have been paid at the plain price; -1 where there is no price by the call."""
    rates = np.zeros((len(PLANS), 2, 2, 5), dtype=np.int64)
    plain = np.zeros((len(PLANS), 2, 2), dtype=np.int64)
    for number, plan_row in enumerate(PLANS):
        for after in (0, 1):
            usual = plan_row.plain(later=bool(after))
            if usual is not None:
                plain[number, after] = [_nano(rate) for rate in usual]
            for waiting in (0, 1):
                price = plan_row.price(later=bool(after), batch=bool(waiting))
                if price is not None and price.rates is not None:
                    rates[number, after, waiting] = [_nano(rate) for rate in price.rates.values()]
    chosen = rates[plan, later.astype(np.int64), batch.astype(np.int64)]
    rate_of = (0, 1, 2, 3, 4, 4)  # the rate of each count, in the order of COUNTS
    drivers = {name: tokens[name] * chosen[:, rate] for name, rate in zip(COUNTS, rate_of, strict=True)}
    standard = plain[plan, later.astype(np.int64)]
    input_tokens = sum(tokens[name] for name in COUNTS[:4])
    out = tokens["reasoning_output"] + tokens["answer_output"]
    sold = np.array([plan_row.rates is not None for plan_row in PLANS])[plan]
    return {
        "drivers": drivers,
        "cost": sum(drivers.values()),
        "plain": input_tokens * standard[:, 0] + out * standard[:, 1],
        "sold": sold,
        "free": np.array([plan_row.deployment.price.per_hour == "0" for plan_row in PLANS])[plan],
        "billed": STREAMED[ended],
    }


def _nano(rate: str) -> int:
    """Nano-dollars per token of US dollars per 1,000,000."""
    return round(float(rate) * 1000)


def _pick(values: Any, which: Ints) -> NDArray[Any]:
    return np.array(values, dtype=object)[which]


def _frame(
    plan: Ints,
    at_us: Ints,
    source: Ints,
    person: Ints,
    ended: Ints,
    tokens: Mapping[str, Ints],
    times: Mapping[str, Floats],
    money: Mapping[str, Any],
) -> pd.DataFrame:
    cache_known = np.array([plan_row.warm is not None for plan_row in PLANS])[plan] & STREAMED[ended]
    input_tokens = sum(tokens[name] for name in COUNTS[:4])
    warm = (tokens["cache_read"] > 0) & (tokens["cache_read"] * WARM_SHARE >= input_tokens)
    bounded = money["sold"] & money["billed"] & ~COMPLETE[ended]
    ones = np.ones(len(plan), dtype=np.int64)
    usable = ended < 2
    columns: dict[str, Any] = {
        "created_at": pd.to_datetime(at_us, unit="us", utc=True),
        "deployment_id": _pick([plan_row.deployment.id for plan_row in PLANS], plan),
        "model": _pick([plan_row.deployment.model for plan_row in PLANS], plan),
        "kind": _pick([plan_row.deployment.kind for plan_row in PLANS], plan),
        "source": _pick(SOURCES, source),
        "person": _pick(PEOPLE, person),
        "outcome": _pick(OUTCOMES, ended),
        "state": _pick(STATES, ended),
        "cache": np.where(cache_known, np.where(warm, "warm", "cold"), "").astype(object),
        "n": ones,
        "n_late": ones * 0,
        "n_priced": (money["sold"] | money["free"] | ~money["billed"]).astype(np.int64),
        "n_bounded": bounded.astype(np.int64),
        "n_estimated": (~COMPLETE[ended]).astype(np.int64),
        **tokens,
        "cost_nanousd": money["cost"],
        "plain_nanousd": money["plain"],
        **{f"cost_{name}": values for name, values in money["drivers"].items()},
        "busy_ms": np.round(np.nan_to_num(times["end"])).astype(np.int64),
        **{name: np.where(usable, times[name], np.nan) for name in ("ttft", "ttfat", "ttlt", "tpot", "decode", "e2e")},
    }
    return pd.DataFrame(columns)


def _columns(
    plan: Ints,
    batch: NDArray[np.bool_],
    later: NDArray[np.bool_],
    ended: Ints,
    times: Mapping[str, Floats],
    money: Mapping[str, Any],
) -> dict[str, Any]:
    prices = [
        [[_text(plan_row.price(later=later, batch=waiting)) for waiting in (False, True)] for later in (False, True)]
        for plan_row in PLANS
    ]
    cache_known = np.array([plan_row.warm is not None for plan_row in PLANS])[plan]
    state = np.where(~money["billed"], "not_billed", np.where(money["free"], "free", "by_the_hour")).astype(object)
    priced = np.where(COMPLETE[ended], "exact", "lower_bound")
    state = np.where(money["sold"] & money["billed"], priced, state).astype(object)
    exact = np.array(prices, dtype=object)[plan, later.astype(np.int64), batch.astype(np.int64)]
    drivers = list(zip(*(values.tolist() for values in money["drivers"].values()), strict=True))
    return {
        "deployment": _pick([_snapshot(plan_row.deployment) for plan_row in PLANS], plan),
        "wire": _pick([plan_row.deployment.wire for plan_row in PLANS], plan),
        "price": exact,
        "region": _pick([plan_row.deployment.region for plan_row in PLANS], plan),
        "tier_asked": _pick(["flex" if plan_row.flex else None for plan_row in PLANS], plan),
        "cost_state": state,
        "told_cache": cache_known,
        "billed": money["billed"],
        "priced": (money["sold"] | money["free"] | ~money["billed"]),
        "sold": money["sold"],
        "cost_drivers": [_drivers(row) if any(row) else "{}" for row in drivers],
        "phase": _pick(PHASES, ended),
        "message": _pick(MESSAGES, ended),
        "usage_source": _pick(["provider" if done else "none" for done in COMPLETE], ended),
        "times": times,
    }


def _snapshot(deployment: Deployment) -> str:
    """The part of a deployment's snapshot that cannot be left out: it is stored with every call."""
    fields = ("id", "name", "kind", "model", "base_url", "wire", "color_slot", "labels")
    return orjson.dumps({name: value for name, value in deployment.to_json().items() if name in fields}).decode()


def _text(price: Any) -> str | None:
    return None if price is None else orjson.dumps(price.to_json()).decode()


def _drivers(row: tuple[int, ...]) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in zip(COUNTS, row, strict=True) if value) + "}"


SOURCE = "demo, simulated"

LABEL = "simulated"

SHIFT_AT, CHEAPER_AT, INCIDENT_AT = 0.4, 0.6, 0.85  # of the whole time

INCIDENT = timedelta(hours=5)

PEOPLE = tuple(
    f"{name}@example.org"
    for name in (
        "ada",
        "ben",
        "chen",
        "dara",
        "emil",
        "femi",
        "gita",
        "hugo",
        "ines",
        "jona",
        "kira",
        "liam",
    )
)

TAGS = ("support", "search", "reports", "workshop")

Hours = Literal["always", "workdays", "office"]

FIVE = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")


@dataclass(frozen=True, slots=True)
class Plan:
    """One simulated deployment. ``share`` of the calls; ``ttft_ms``, ``tpot_ms`` medians with ``spread`` (sigma of the
    logarithm); ``tokens_in`` and ``tokens_out`` medians; ``thinks``: share of the output that is reasoning; ``warm``:
    share of calls that find the cache, None where the service says nothing of a cache; ``wrong``: share of failures;
    ``batched``: share of its calls made by a batch; ``rates``: input, cache read, write 5 min, 1 h, output."""

    deployment: Deployment
    share: float
    ttft_ms: float
    tpot_ms: float
    spread: float
    tokens_in: float = 900.0
    tokens_out: float = 260.0
    thinks: float = 0.0
    warm: float | None = None
    wrong: float = 0.012
    batched: float = 0.0
    rates: tuple[str, str, str, str, str] | None = None
    cheaper: tuple[str, str, str, str, str] | None = None
    flex: bool = False
    hours: Hours = "always"
    breaks: bool = False

    def price(self, *, later: bool, batch: bool) -> Price | None:
        """The price row of a call before or after the change of price, interactive or in a batch."""
        if self.rates is None:
            per_hour = self.deployment.price.per_hour
            return Price(SOURCE, "2026-01-01", per_hour=per_hour) if per_hour is not None else None
        rates = self.cheaper if later and self.cheaper else self.rates
        if batch:
            rates = halved(rates)
        context = {"processing": "batch"} if batch else {"service_tier": "flex"} if self.flex else {}
        return Price(SOURCE, "2026-01-01", self.deployment.model, dict(zip(FIVE, rates, strict=True)), context=context)

    def plain(self, *, later: bool) -> tuple[str, str] | None:
        """The standard rates of input and output."""
        if self.rates is None:
            return None
        rates = self.cheaper if later and self.cheaper else self.rates
        times = 2 if self.flex else 1
        return format(float(rates[0]) * times, "g"), format(float(rates[4]) * times, "g")


def halved(rates: tuple[str, str, str, str, str]) -> tuple[str, str, str, str, str]:
    """The rates of a batch."""
    a, b, c, d, e = (format(float(rate) / 2, "g") for rate in rates)
    return a, b, c, d, e


def _one(
    slot: int,
    name: str,
    kind: str,
    model: str,
    wire: Wire,
    *,
    url: str,
    price: PriceRef,
    region: str | None = None,
    aws: Aws | None = None,
) -> Deployment:
    return Deployment(
        id=f"demo-{slot + 1}",
        name=f"Demo {name}",
        kind=kind,
        model=model,
        base_url=url,
        wire=wire,
        price=price,
        region=region,
        aws=aws,
        color_slot=slot,
        labels=(LABEL,),
        note="Simulated: nothing of it was measured.",
    )


def _rates(*rates: str) -> PriceRef:
    return PriceRef(override=dict(zip(FIVE, rates, strict=True)))


HAIKU, HAIKU_LATER = ("1", "0.1", "1.25", "2", "5"), ("0.8", "0.08", "1", "1.6", "4")

SONNET = ("3", "0.3", "3.75", "6", "15")

TERRA = ("1.25", "0.125", "1.25", "1.25", "10")

NOVA_FLEX = ("0.4", "0.1", "0.4", "0.4", "1.6")

PLANS: tuple[Plan, ...] = (
    Plan(
        _one(
            0,
            "SmolLM2, local",
            "openai-compatible",
            "smollm2-135m-instruct",
            "chat",
            url="embedded://demo",
            price=PriceRef(per_hour="0"),
        ),
        share=0.10,
        ttft_ms=90,
        tpot_ms=9,
        spread=0.25,
        tokens_in=300,
        tokens_out=140,
        wrong=0.003,
    ),
    Plan(
        _one(
            1,
            "Haiku, Anthropic API",
            "anthropic",
            "claude-haiku",
            "messages",
            url="https://api.example.org",
            price=_rates(*HAIKU_LATER),
        ),
        share=0.24,
        ttft_ms=390,
        tpot_ms=8,
        spread=0.38,
        tokens_in=2400,
        warm=0.55,
        batched=0.4,
        rates=HAIKU,
        cheaper=HAIKU_LATER,
    ),
    Plan(
        _one(
            2,
            "Sonnet, Anthropic API",
            "anthropic",
            "claude-sonnet",
            "messages",
            url="https://api.example.org",
            price=_rates(*SONNET),
        ),
        share=0.18,
        ttft_ms=820,
        tpot_ms=13,
        spread=0.42,
        tokens_in=2600,
        tokens_out=420,
        thinks=0.35,
        warm=0.5,
        batched=0.15,
        wrong=0.02,
        rates=SONNET,
    ),
    Plan(
        _one(
            3,
            "GPT Terra, OpenAI API",
            "openai",
            "gpt-terra",
            "responses",
            url="https://api.example.net/v1",
            price=_rates(*TERRA),
        ),
        share=0.16,
        ttft_ms=610,
        tpot_ms=11,
        spread=0.45,
        tokens_in=1500,
        tokens_out=380,
        thinks=0.5,
        warm=0.3,
        wrong=0.015,
        rates=TERRA,
    ),
    Plan(
        _one(
            4,
            "Nova Pro, Bedrock flex",
            "bedrock",
            "amazon.nova-pro",
            "converse",
            url="https://bedrock.example.org",
            price=_rates(*NOVA_FLEX),
            region="us-east-1",
            aws=Aws(service_tier="flex"),
        ),
        share=0.09,
        ttft_ms=980,
        tpot_ms=10,
        spread=0.6,
        tokens_in=1300,
        warm=0.1,
        wrong=0.03,
        rates=NOVA_FLEX,
        flex=True,
    ),
    Plan(
        _one(
            5,
            "Haiku, provisioned",
            "bedrock-provisioned",
            "claude-haiku",
            "converse",
            url="https://bedrock.example.org",
            price=PriceRef(per_hour="5.50"),
            region="us-east-1",
            aws=Aws(),
        ),
        share=0.09,
        ttft_ms=430,
        tpot_ms=7,
        spread=0.18,
        tokens_in=2000,
        wrong=0.004,
    ),
    Plan(
        _one(
            6,
            "Llama 8B, SageMaker",
            "sagemaker",
            "llama-8b",
            "chat",
            url="https://sagemaker.example.org",
            price=PriceRef(per_hour="1.408"),
            region="us-east-1",
            aws=Aws(),
        ),
        share=0.08,
        ttft_ms=580,
        tpot_ms=15,
        spread=0.3,
        hours="workdays",
        breaks=True,
    ),
    Plan(
        _one(
            7,
            "Qwen 8B, vLLM on EC2",
            "openai-compatible",
            "qwen-8b",
            "chat",
            url="http://vllm.example.org/v1",
            price=PriceRef(per_hour="0.8048"),
        ),
        share=0.06,
        ttft_ms=240,
        tpot_ms=12,
        spread=0.28,
        hours="office",
        wrong=0.008,
    ),
)


@dataclass(frozen=True, slots=True)
class Story:
    """The time that is simulated (aware UTC) and when the events in it happen."""

    start: datetime
    end: datetime
    shift: datetime = field(init=False)
    cheaper: datetime = field(init=False)
    incident: tuple[datetime, datetime] = field(init=False)

    def __post_init__(self) -> None:
        length = self.end - self.start
        set_ = object.__setattr__
        set_(self, "shift", self.start + length * SHIFT_AT)
        set_(self, "cheaper", self.start + length * CHEAPER_AT)
        # In the morning of a working day, where it is seen.
        day = (self.start + length * INCIDENT_AT).replace(hour=9, minute=20, second=0, microsecond=0)
        while day.weekday() > 4 and day > self.start:
            day -= timedelta(days=1)
        set_(self, "incident", (day, day + INCIDENT))

    def notes(self) -> list[tuple[datetime, str]]:
        """Notes on what happened, for the charts."""
        happened = [
            (self.shift, "Support moved from Sonnet to Haiku"),
            (self.cheaper, "Haiku became 20 % cheaper"),
            (self.incident[0], "SageMaker endpoint ran out of memory"),
        ]
        return [(moment, note) for moment, note in happened if self.start <= moment < self.end]

    def stretches(self, plan: Plan) -> list[tuple[datetime, datetime | None]]:
        """When an hour-priced deployment was on; None at the end: it still is."""
        if plan.hours == "always":
            return [(self.start, None)]
        first, last = (0, 24) if plan.hours == "workdays" else (6, 20)
        stretches: list[tuple[datetime, datetime | None]] = []
        day = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        while day < self.end:
            on, off = max(day + timedelta(hours=first), self.start), day + timedelta(hours=last)
            if day.weekday() < 5 and on < min(off, self.end):
                begins_where_it_ended = bool(stretches) and stretches[-1][1] == on
                begin = stretches.pop()[0] if begins_where_it_ended else on
                stretches.append((begin, off if off < self.end else None))
            day += timedelta(days=1)
        return stretches
