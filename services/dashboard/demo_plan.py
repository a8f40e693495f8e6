"""What the demo data simulates: eight deployments of the field's kinds, who uses them, when, and what happens to them.

Rates are US dollars per 1,000,000 tokens and whole nano-dollars per token. Nothing of it was measured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from services.pricing.cost import Price
from services.types import Aws, Deployment, PriceRef, Wire

SOURCE = "demo, simulated"
LABEL = "simulated"
SHIFT_AT, CHEAPER_AT, INCIDENT_AT = 0.4, 0.6, 0.85  # of the whole time
INCIDENT = timedelta(hours=5)
PEOPLE = tuple(f"{name}@example.org" for name in (
    "ada", "ben", "chen", "dara", "emil", "femi", "gita", "hugo", "ines", "jona", "kira", "liam",
))  # fmt: skip
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
        return Price(
            SOURCE, "2026-01-01", self.deployment.model, dict(zip(FIVE, rates, strict=True)), context=context
        )  # fmt: skip

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
    slot: int, name: str, kind: str, model: str, wire: Wire, *, url: str, price: PriceRef, region: str | None = None,
    aws: Aws | None = None,
) -> Deployment:  # fmt: skip
    return Deployment(
        id=f"demo-{slot + 1}", name=f"Demo {name}", kind=kind, model=model, base_url=url, wire=wire, price=price,
        region=region, aws=aws, color_slot=slot, labels=(LABEL,), note="Simulated: nothing of it was measured.",
    )  # fmt: skip


def _rates(*rates: str) -> PriceRef:
    return PriceRef(override=dict(zip(FIVE, rates, strict=True)))


HAIKU, HAIKU_LATER = ("1", "0.1", "1.25", "2", "5"), ("0.8", "0.08", "1", "1.6", "4")
SONNET = ("3", "0.3", "3.75", "6", "15")
TERRA = ("1.25", "0.125", "1.25", "1.25", "10")
NOVA_FLEX = ("0.4", "0.1", "0.4", "0.4", "1.6")

PLANS: tuple[Plan, ...] = (
    Plan(
        _one(0, "SmolLM2, local", "openai-compatible", "smollm2-135m-instruct", "chat", url="embedded://demo",
             price=PriceRef(per_hour="0")),
        share=0.10, ttft_ms=90, tpot_ms=9, spread=0.25, tokens_in=300, tokens_out=140, wrong=0.003,
    ),
    Plan(
        _one(1, "Haiku, Anthropic API", "anthropic", "claude-haiku", "messages", url="https://api.example.org",
             price=_rates(*HAIKU_LATER)),
        share=0.24, ttft_ms=390, tpot_ms=8, spread=0.38, tokens_in=2400, warm=0.55, batched=0.4, rates=HAIKU,
        cheaper=HAIKU_LATER,
    ),
    Plan(
        _one(2, "Sonnet, Anthropic API", "anthropic", "claude-sonnet", "messages", url="https://api.example.org",
             price=_rates(*SONNET)),
        share=0.18, ttft_ms=820, tpot_ms=13, spread=0.42, tokens_in=2600, tokens_out=420, thinks=0.35, warm=0.5,
        batched=0.15, wrong=0.02, rates=SONNET,
    ),
    Plan(
        _one(3, "GPT Terra, OpenAI API", "openai", "gpt-terra", "responses", url="https://api.example.net/v1",
             price=_rates(*TERRA)),
        share=0.16, ttft_ms=610, tpot_ms=11, spread=0.45, tokens_in=1500, tokens_out=380, thinks=0.5, warm=0.3,
        wrong=0.015, rates=TERRA,
    ),
    Plan(
        _one(4, "Nova Pro, Bedrock flex", "bedrock", "amazon.nova-pro", "converse", url="https://bedrock.example.org",
             price=_rates(*NOVA_FLEX), region="us-east-1", aws=Aws(service_tier="flex")),
        share=0.09, ttft_ms=980, tpot_ms=10, spread=0.6, tokens_in=1300, warm=0.1, wrong=0.03, rates=NOVA_FLEX,
        flex=True,
    ),
    Plan(
        _one(5, "Haiku, provisioned", "bedrock-provisioned", "claude-haiku", "converse",
             url="https://bedrock.example.org", price=PriceRef(per_hour="5.50"), region="us-east-1", aws=Aws()),
        share=0.09, ttft_ms=430, tpot_ms=7, spread=0.18, tokens_in=2000, wrong=0.004,
    ),
    Plan(
        _one(6, "Llama 8B, SageMaker", "sagemaker", "llama-8b", "chat", url="https://sagemaker.example.org",
             price=PriceRef(per_hour="1.408"), region="us-east-1", aws=Aws()),
        share=0.08, ttft_ms=580, tpot_ms=15, spread=0.3, hours="workdays", breaks=True,
    ),
    Plan(
        _one(7, "Qwen 8B, vLLM on EC2", "openai-compatible", "qwen-8b", "chat", url="http://vllm.example.org/v1",
             price=PriceRef(per_hour="0.8048")),
        share=0.06, ttft_ms=240, tpot_ms=12, spread=0.28, hours="office", wrong=0.008,
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Story:
    """The time that is simulated (aware UTC) and when the events in it happen."""

    start: datetime
    end: datetime
    shift: datetime = field(init=False)
    cheaper: datetime = field(init=False)
    incident: tuple[datetime, datetime] = field(init=False)

    def __post_init__(self) -> None:
        whole = self.end - self.start
        set_ = object.__setattr__
        set_(self, "shift", self.start + whole * SHIFT_AT)
        set_(self, "cheaper", self.start + whole * CHEAPER_AT)
        # In the morning of a working day, where it is seen.
        day = (self.start + whole * INCIDENT_AT).replace(hour=9, minute=20, second=0, microsecond=0)
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
        return [(at, note) for at, note in happened if self.start <= at < self.end]

    def stretches(self, plan: Plan) -> list[tuple[datetime, datetime | None]]:
        """When an hour-priced deployment was on; None at the end: it still is."""
        if plan.hours == "always":
            return [(self.start, None)]
        first, last = (0, 24) if plan.hours == "workdays" else (6, 20)
        found: list[tuple[datetime, datetime | None]] = []
        day = self.start.replace(hour=0, minute=0, second=0, microsecond=0)
        while day < self.end:
            on, off = max(day + timedelta(hours=first), self.start), day + timedelta(hours=last)
            if day.weekday() < 5 and on < min(off, self.end):
                begins_where_it_ended = bool(found) and found[-1][1] == on
                begin = found.pop()[0] if begins_where_it_ended else on
                found.append((begin, off if off < self.end else None))
            day += timedelta(days=1)
        return found
