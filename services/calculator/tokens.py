"""What requests cost where the token is paid: US dollars from a price list's rates (shared/calculator.md, D 11).

A price that no list has is None. A context (batch, flex, priority) is never priced at the standard rates: genai-prices
itself would do so without a word, `services.pricing.lookup` does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from functools import cache, lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

from services.calculator.types import Spread

if TYPE_CHECKING:
    from services.pricing.sources import ListedPrice

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
        found: Rates | None = self.base
        for above, rates in self.tiers:
            if input_tokens > above:
                found = rates
        return found

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
    from services.pricing.lookup import listed

    found = listed(provider, model, datetime.combine(day, time(12), UTC), dict(CONTEXTS[context]), region)
    return None if found is None else _typed(found, context)


def _typed(found: ListedPrice, context: str) -> TokenPrice | None:
    base = rates_of({name: float(value) for name, value in found.rates.items()})
    if base is None:
        return None
    tiers = tuple((above, rates_of({k: float(v) for k, v in rates.items()})) for above, rates in found.tiers)
    return TokenPrice(base, found.source, found.as_of, found.model, context, tiers)


def rates_of(known: Mapping[str, float]) -> Rates | None:
    """Rates by name (`services.pricing.price.RATE_NAMES`) as `Rates`; None unless input and output are there."""
    if "input" not in known or "output" not in known:
        return None
    read, write = known.get("cache_read"), known.get("cache_write_5m")
    return Rates(known["input"], known["output"], read, write, known.get("cache_write_1h"))


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
    found = request(price, input, cached_read, cached_write, output, ttl)
    return None if found is None else found.usd


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
        found = None if rates is None else _at(rates, fresh, read, written, share * out, ttl)
        if found is None:
            return None
        for name, usd in found.drivers().items():
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
