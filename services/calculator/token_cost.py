"""What requests cost where the token is paid, and whether caching the repeated prefix pays.

Steady reuse at random moments λ with a lifetime T that every hit renews is found with 1 − e^(−λT); of a burst of n
calls the first one writes and the others read.

A price that no list has is None. A context (batch, flex, priority) is never priced at the standard rates: genai-prices
itself would do so without a word, `services.pricing.sources` does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import cache, lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

from services import caching
from services.caching import break_even_gap_min, break_even_hits, burst_that_pays
from services.calculator.types import Reuse, Spread, Way, Workload
from services.providers.anthropic import claude_of
from services.types import CacheMode, Deployment

if TYPE_CHECKING:
    from services.pricing.sources import ListedPrice


LIFETIME_MIN = 5.0


# Where a service states no lifetime: Bedrock's own models keep 5 min, OpenAI's older ones "5 to 10 minutes".
ASSUMED = "the service states no lifetime, 5 minutes are assumed (developers.openai.com/api/docs/guides/prompt-caching)"


DOCUMENTED = "the service's documentation of prompt caching (services/data/cache_minimums.json)"

KINDS = {Way.ANTHROPIC: "anthropic", Way.OPENAI: "openai", Way.BEDROCK: "bedrock_converse"}


@dataclass(frozen=True, slots=True)
class Floor:
    """``tokens``: of the shortest prefix that is cached; None: not known. ``lifetimes``: (name, minutes) that can be
    asked for; the name "1h" is written at the dearer rate."""

    tokens: int | None
    as_of: str = ""
    lifetimes: tuple[tuple[str, float], ...] = (("5m", LIFETIME_MIN),)
    assumed: bool = False  # the lifetime is ours, the service states none


@dataclass(frozen=True, slots=True)
class CachePlan:
    """``hit``: share of the look-ups that are read from the cache, with the lifetime ``ttl``. ``saves``: US dollars a
    request against no caching (negative: it costs more). ``needed_hit``: the share above which it pays, None: it never
    does. ``reuse_needed_s``: one use of each prefix in so many seconds is enough (steady reuse), None: no bound, or a
    burst. ``calls_needed``: calls of one session from which it pays (burst). ``share``: of the input that is looked up
    (0 where the prefix is too short to be cached)."""

    hit: float
    saves: float
    needed_hit: float | None
    reuse_needed_s: float | None
    ttl: str | None
    sentence: str
    calls_needed: int | None = None
    share: float = 0.0

    @property
    def pays(self) -> bool:
        """Whether it costs less than no caching."""
        return self.saves > 0


@cache
def floor(way: Way, model: str) -> Floor:
    """What the service of a token-priced way caches of a model, and for how long (`services.caching`)."""
    deployment = Deployment("calculator", model, KINDS[way], model, "")
    minimum_tokens = caching.minimum(deployment)
    names: tuple[CacheMode, ...] = ("5m", "1h") if claude_of(model) is not None else ("auto",)
    known = [(str(name), caching.lifetime_min(deployment, name)) for name in names]
    lifetimes = tuple((name, float(minutes or LIFETIME_MIN)) for name, minutes in known)
    assumed = any(minutes is None for _, minutes in known)
    return Floor(
        None if minimum_tokens is None else minimum_tokens.tokens,
        "" if minimum_tokens is None else minimum_tokens.as_of,
        lifetimes,
        assumed,
    )


def source(floor: Floor) -> str:
    """Where the minimum and the lifetime are from."""
    return ASSUMED if floor.assumed else DOCUMENTED


def hit_share(workload: Workload, lifetime_min: float) -> float:
    """The share of look-ups of a repeated prefix that find it in a cache of that lifetime, 0 to 1."""
    if workload.reuse is Reuse.BURST:
        return max(0.0, 1 - 1 / workload.calls_per_session) if workload.calls_per_session > 0 else 0.0
    return -math.expm1(-max(workload.reuse_per_hour, 0.0) / 60 * lifetime_min)


def plan(workload: Workload, price: TokenPrice, floor: Floor | int | None) -> CachePlan:
    """The best that caching does for a workload at a price. ``floor``: a bare number means a lifetime of 5 minutes."""
    limits = floor if isinstance(floor, Floor) else Floor(floor)
    prefix = workload.prefix_share * workload.input_tokens.median
    refused = _refused(workload, price, limits, prefix)
    if refused is not None:
        return CachePlan(0.0, 0.0, None, None, None, refused)
    plans = [_with(workload, price, *lifetime) for lifetime in _lifetimes(price.base, limits)]
    plans_known = [plan for plan in plans if plan is not None]
    if not plans_known:
        return CachePlan(0.0, 0.0, None, None, None, "The price of cached requests of this length is not known.")
    return max(plans_known, key=lambda plan: plan.saves)


def _refused(workload: Workload, price: TokenPrice, limits: Floor, prefix: float) -> str | None:
    if workload.prefix_share <= 0:
        return "No part of the prompt repeats, so there is nothing to cache."
    if not price.has_cache:
        return "No cheaper price for cached input is listed for this model here."
    if limits.tokens is not None and prefix < limits.tokens:
        return (
            f"The repeated prefix of {prefix:,.0f} tokens is shorter than the {limits.tokens:,} tokens that are cached "
            "at least, so nothing would be cached."
        )
    return None


def _lifetimes(rates: Rates, limits: Floor) -> list[tuple[str, float]]:
    """Lifetimes that the price is known for. A list without a price of one hour repeats that of five minutes."""
    dearer = rates.cache_write_1h is not None and rates.cache_write_1h > (rates.cache_write_5m or 0.0)
    return [lifetime for lifetime in limits.lifetimes if lifetime[0] != "1h" or dearer]


def _with(workload: Workload, price: TokenPrice, ttl: str, minutes: float) -> CachePlan | None:
    hit = hit_share(workload, minutes)
    lengths = (price, workload.input_tokens, workload.output_tokens)
    plain, cached = mean_cost(*lengths), mean_cost(*lengths, workload.prefix_share, hit, ttl)
    rates = price.at(workload.input_tokens.median)
    if plain is None or cached is None or rates is None:
        return None
    write, read = _multiples(rates, ttl)
    needed = break_even_hits(write, read)
    gap = None if needed is None else break_even_gap_min(needed, minutes)
    burst = workload.reuse is Reuse.BURST
    return CachePlan(
        hit,
        plain.usd - cached.usd,
        None if needed is None else float(needed),
        None if burst or gap is None else gap * 60,
        ttl,
        _sentence(hit, needed, gap, burst_that_pays(write, read), burst, minutes),
        burst_that_pays(write, read) if burst else None,
        workload.prefix_share,
    )


def _multiples(rates: Rates, ttl: str) -> tuple[Decimal, Decimal]:
    """Writing and reading as multiples of the plain input price. In decimals, as the thresholds are computed in."""
    plain = Decimal(str(rates.input)) or Decimal(1)
    write = rates.cache_write_1h if ttl == "1h" else rates.cache_write_5m
    return Decimal(str(write or rates.input)) / plain, Decimal(str(rates.cache_read or 0.0)) / plain


def _sentence(
    hit: float, needed: Decimal | None, gap: float | None, calls: int | None, burst: bool, minutes: float
) -> str:
    kept_for = "1 hour" if minutes == 60 else f"{minutes:g} minutes"
    sentence = f"About {hit:.0%} of the look-ups find the prefix (kept for {kept_for} after its last use)"
    if needed is None:
        return f"{sentence}, and it pays at no rate of hits, because reading is not cheaper than plain input."
    if needed == 0:
        return f"{sentence}, and any hit pays, because writing costs nothing extra."
    verdict = "pays" if hit > needed else "does not pay"
    if burst:
        sessions = f"from {calls} calls in a session on" if calls else "for no length of a session"
        return f"{sentence}: that {verdict}, because caching pays {sessions} (hits above {float(needed):.1%})."
    every = "" if gap is None else f", which is one use of each prefix every {_duration(gap)}"
    return f"{sentence}: that {verdict}, because hits above {float(needed):.1%} are needed{every}."


def _duration(minutes: float) -> str:
    return f"{minutes * 60:.0f} seconds" if minutes < 1 else f"{minutes:.0f} minutes"


@dataclass(frozen=True, slots=True)
class Kept:
    """Prefix caching of a server of one's own: ``hit`` share of look-ups, ``cached`` tokens of a median request that
    need no prefill. It is capacity that is gained, no money: the hour costs the same."""

    hit: float
    cached: float
    sentence: str


def self_hosted(workload: Workload, spare_tokens: float) -> Kept:
    """What a server keeps with ``spare_tokens`` of KV cache beside the running requests.

    Blocks are kept until others need them. Steady: all distinct prefixes (requests an hour / uses of each an hour) are
    used alike, so the share found is the share that has room. Burst: sessions that go on at once are few, so all but
    their first calls are found where one prefix has room.
    """
    prefix = workload.prefix_share * workload.input_tokens.median
    if prefix <= 0:
        return Kept(0.0, 0.0, "No part of the prompt repeats, so there is nothing to cache.")
    if workload.reuse is Reuse.BURST:
        hit = hit_share(workload, LIFETIME_MIN) if spare_tokens >= prefix else 0.0
    else:
        distinct = max(1.0, workload.rpm * 60 / workload.reuse_per_hour) if workload.reuse_per_hour > 0 else math.inf
        hit = min(1.0, max(0.0, spare_tokens) / (distinct * prefix))
    cached = hit * prefix
    return Kept(
        hit,
        cached,
        f"About {hit:.0%} of the look-ups find the prefix in the server's own cache, which saves the prefill of "
        f"{cached:,.0f} tokens a request: more requests fit, the hour costs the same.",
    )


MILLION = 1e6

P95 = NormalDist().inv_cdf(0.95)


# Name of a context here → what the lists call it.
CONTEXTS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "standard": (),
    "batch": (("processing", "batch"),),
    "flex": (("service_tier", "flex"),),
    "priority": (("service_tier", "priority"),),
}


DRIVERS = ("input", "cache_read", "cache_write", "output")


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per 1,000,000 tokens. None: the list has no rate for it, although it may be charged."""

    input: float
    output: float
    cache_read: float | None = None
    cache_write_5m: float | None = None
    cache_write_1h: float | None = None


@dataclass(frozen=True, slots=True)
class TokenPrice:
    """A model's rates in one context. ``tiers``: (input tokens above which they hold for *all* tokens of a request,
    rates), ascending; None instead of rates: nothing is said about requests of that length. ``kind``: "list" or
    "yours"."""

    base: Rates
    source: str
    date: str
    model: str = ""
    context: str = "standard"
    tiers: tuple[tuple[int, Rates | None], ...] = ()
    kind: str = "list"

    def at(self, input_tokens: float) -> Rates | None:
        """The rates of a request with that many input tokens in all, cached ones included; None: not known."""
        rates_found: Rates | None = self.base
        for above, rates in self.tiers:
            if input_tokens > above:
                rates_found = rates
        return rates_found

    @property
    def has_cache(self) -> bool:
        """Whether reading a cached token is cheaper than reading a new one."""
        return self.base.cache_read is not None and self.base.cache_read < self.base.input

    @property
    def words(self) -> str:
        """For example "$2 in, $10 out per 1M tokens, $0.1 cached input"."""
        cached = f", ${self.base.cache_read:g} cached input" if self.has_cache else ""
        tiers = (f"; above {above:,} input tokens {_short(rates)}" for above, rates in self.tiers)
        return f"{_short(self.base)} per 1M tokens{cached}{''.join(tiers)}"


def _short(rates: Rates | None) -> str:
    return "no price" if rates is None else f"${rates.input:g} in, ${rates.output:g} out"


@cache
def price(
    provider: str, model: str, day: date, context: str = "standard", region: str | None = None
) -> TokenPrice | None:
    """The lists' price of exactly that model in exactly that context on a day; None: no price.

    ``provider``: genai-prices' word ("anthropic", "openai", "aws"). ``region``: of Bedrock, None: the US regions'.
    """
    # Here because the lists take a third of a second to import, and a page may open without them.
    from services.pricing.sources import listed

    listed_price = listed(provider, model, datetime.combine(day, time(12), UTC), dict(CONTEXTS[context]), region)
    return None if listed_price is None else _typed(listed_price, context)


def _typed(listed_price: ListedPrice, context: str) -> TokenPrice | None:
    base = rates_of({name: float(value) for name, value in listed_price.rates.items()})
    if base is None:
        return None
    tiers = tuple((above, rates_of({k: float(v) for k, v in rates.items()})) for above, rates in listed_price.tiers)
    return TokenPrice(base, listed_price.source, listed_price.as_of, listed_price.model, context, tiers)


def rates_of(prices: Mapping[str, float]) -> Rates | None:
    """Rates by name (`services.pricing.price.RATE_NAMES`) as `Rates`; None unless input and output are there."""
    if "input" not in prices or "output" not in prices:
        return None
    read, write = prices.get("cache_read"), prices.get("cache_write_5m")
    return Rates(prices["input"], prices["output"], read, write, prices.get("cache_write_1h"))


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars of one request (a mean, where lengths differ) by driver (`DRIVERS`)."""

    input: float
    cache_read: float
    cache_write: float
    output: float

    @property
    def usd(self) -> float:
        """The whole request."""
        return self.input + self.cache_read + self.cache_write + self.output

    def drivers(self) -> dict[str, float]:
        """By the names of `DRIVERS`."""
        return {name: float(getattr(self, name)) for name in DRIVERS}


def request(
    price: TokenPrice, input: float, cached_read: float, cached_write: float, output: float, ttl: str = "5m"
) -> Cost | None:
    """One request by driver. ``input``: uncached tokens, on top of ``cached_read`` and ``cached_write``; the rates are
    those of all input together. ``ttl``: "1h" writes at the dearer rate. None: a rate that it needs is not known."""
    rates = price.at(input + cached_read + cached_write)
    return None if rates is None else _at(rates, input, cached_read, cached_write, output, ttl)


def request_usd(
    price: TokenPrice, input: float, cached_read: float, cached_write: float, output: float, ttl: str = "5m"
) -> float | None:
    """US dollars of one request; see `request`."""
    request_cost = request(price, input, cached_read, cached_write, output, ttl)
    return None if request_cost is None else request_cost.usd


def _at(rates: Rates, input: float, read: float, write: float, output: float, ttl: str) -> Cost | None:
    write_rate = rates.cache_write_1h if ttl == "1h" else rates.cache_write_5m
    if (read and rates.cache_read is None) or (write and write_rate is None):
        return None
    return Cost(
        input * rates.input / MILLION,
        read * (rates.cache_read or 0.0) / MILLION,
        write * (write_rate or 0.0) / MILLION,
        output * rates.output / MILLION,
    )


@lru_cache(maxsize=8192)  # the same lengths come again with every other rate, hour and share
def mean_cost(
    price: TokenPrice, input: Spread, output: Spread, prefix: float = 0.0, hit: float = 0.0, ttl: str = "5m"
) -> Cost | None:
    """The mean request of a workload, by driver.

    ``prefix``: share of the input that is looked up in the cache (0: no caching), ``hit``: share of those look-ups that
    find it; the others write it. Lengths are lognormal and independent of each other, so that requests on either side
    of a long-context tier are charged at their own rates. None: some requests have no known price.
    """
    total = {name: 0.0 for name in DRIVERS}
    out = mean(output)
    for share, tokens, rates in _bands(price, input):
        fresh, looked_up = tokens * (1 - prefix), tokens * prefix
        written, read = looked_up * (1 - hit), looked_up * hit
        request_cost = None if rates is None else _at(rates, fresh, read, written, share * out, ttl)
        if request_cost is None:
            return None
        for name, usd in request_cost.drivers().items():
            total[name] += usd
    return Cost(**total)


def _bands(price: TokenPrice, input: Spread) -> Iterator[tuple[float, float, Rates | None]]:
    """(share of the requests, mean input tokens in them × that share, rates) for each tier that requests fall into."""
    if not price.tiers:
        yield 1.0, mean(input), price.base
        return
    edges = [0.0, *(float(above) for above, _ in price.tiers), math.inf]
    tables: list[Rates | None] = [price.base, *(rates for _, rates in price.tiers)]
    for low, high, rates in zip(edges, edges[1:], tables, strict=False):
        share = _below(input, high) - _below(input, low)
        if share > 1e-9:
            yield share, _mass_below(input, high) - _mass_below(input, low), rates


def mean(spread: Spread) -> float:
    """Mean tokens of a lognormal length."""
    return spread.median * math.exp(spread.sigma**2 / 2)


def p95(spread: Spread) -> float:
    """Tokens that 95 % of the requests do not exceed."""
    return spread.median * math.exp(P95 * spread.sigma)


def _below(spread: Spread, edge: float) -> float:
    """Share of the requests with at most ``edge`` tokens."""
    if edge <= 0 or edge == math.inf or spread.sigma <= 0:
        return float(edge == math.inf or (edge > 0 and spread.median <= edge))
    return NormalDist().cdf(math.log(edge / spread.median) / spread.sigma)


def _mass_below(spread: Spread, edge: float) -> float:
    """Tokens a request, on average over all, that are in requests with at most ``edge`` tokens."""
    if edge <= 0 or edge == math.inf or spread.sigma <= 0:
        return mean(spread) * _below(spread, edge)
    return mean(spread) * NormalDist().cdf(math.log(edge / spread.median) / spread.sigma - spread.sigma)
