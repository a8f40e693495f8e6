"""What a service's prompt cache did for the calls of a run: times cold and warm, tokens, money, and when it pays.

Formulas, with the write price w and the read price r as multiples of the plain input
price: caching costs less than none when the share of hits is above (w − 1) / (w − r); with reuse at random moments λ
times a minute and a lifetime of T minutes that every hit renews, that share is 1 − e^(−λT); of a burst of n calls the
first one writes and the others read, which is w + (n − 1) r against n.

``services/data/cache_minimums.json`` holds the minimums with their sources; a model that is not in it has none that we
know, which is said and never guessed.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from db.run_rows import CallRow, Counted
from services import formatting
from services.call_record import cost_of, from_row, usage_of
from services.formatting import money
from services.paths import ROOT
from services.pricing import cost
from services.pricing import price as pricing_price
from services.providers.anthropic import claude_of
from services.providers.openai import bare, gpt_version
from services.runs import compare
from services.runs import view as runs_view
from services.types import CacheMode, Deployment, Usage


def conclusion(result: Measured) -> str:
    """What the calls of one deployment show, in one sentence."""
    name, succeeded = result.deployment.name, result.succeeded
    if not succeeded:
        ends = Counter(runs_view.words(from_row(row)) for row in result.calls)
        counts = ", ".join(f"{n:,} {end}" for end, n in ends.items())
        return f"{name}: no call succeeded ({counts}), so nothing can be said about its cache."
    if not result.reported:
        return f"{name} does not report cached tokens, so cold and warm calls cannot be told apart."
    warm, cold = result.count("warm"), result.count("cold")
    if not warm:
        return f"{name}: {_never_read(result) if _written(result) else _nothing(result)}"
    if not cold:
        calls = "the one call" if warm == 1 else f"all {warm:,} calls"
        return (
            f"{name}: {calls} found the prompt in the cache, warmed by an earlier run or by another deployment on the "
            "same server, so there is no cold one to compare with: start cold and ask it alone."
        )
    if not result.warm or not result.cold:
        return (
            f"{name}: {cold:,} cold and {warm:,} warm calls, whose times do not count, because our own clock was late."
        )
    return f"{name}: {_compared(result)}"


def _written(result: Measured) -> int:
    return result.total("cache_write_5m", "cache_write_1h")


def _nothing(result: Measured) -> str:
    """Why nothing was cached, as far as it is known."""
    if set(result.modes) == {"off"}:
        return "nothing was cached, because caching was off."
    if set(result.modes) <= {None, "off"} and claude_of(result.deployment.model) is not None:
        return "nothing was cached: this service caches only what it is asked to; choose another mode than its own."
    tokens, shortest = result.prompt_tokens, minimum(result.deployment)
    if shortest is None:
        return "nothing was cached; the minimum of this model is not known to us."
    if tokens is not None and tokens < shortest.tokens:
        return f"nothing was cached: this model needs {shortest.tokens:,} tokens and the prompt had {tokens:,}."
    n = len(result.succeeded)
    if n == 1:
        return "nothing was cached at the first call, and there was no second one to find anything: make more calls."
    had = "" if tokens is None else f" had {tokens:,} tokens and"
    enough = f" needs {shortest.tokens:,}" if shortest.tokens else " has no minimum"
    return (
        f"nothing was cached, although the prompt{had} this model{enough}: its entry may have been dropped, or the "
        "calls reached different servers."
    )


def _never_read(result: Measured) -> str:
    n = len(result.succeeded)
    read = f"{_written(result):,} tokens were written to the cache and none was read back"
    if n == 1:
        return f"{read}, because there was only one call: make more."
    return f"{read} in {n:,} calls: each one paid for a cache that it did not use."


def _compared(result: Measured) -> str:
    cold, warm = compare.median_interval(result.cold), compare.median_interval(result.warm)
    assert cold.median is not None
    assert warm.median is not None
    first = f"with a warm cache the first token came after {formatting.seconds(warm.median)} instead of "
    first += f"{formatting.seconds(cold.median)} (medians of {warm.n:,} warm and {cold.n:,} cold)"
    gap = result.difference
    if gap.low is not None and not gap.seen:
        first = (
            f"no difference is seen between {warm.n:,} warm calls ({formatting.seconds(warm.median)}) and {cold.n:,} "
            "cold "
            f"ones ({formatting.seconds(cold.median)})"
        )
    return f"{first}{_money(result)}."


def _money(result: Measured) -> str:
    if result.with_cache is None or result.without is None:
        if result.cost_words == "free":
            return ", and since this deployment is free the time is all that is saved"
        if result.cost_words.endswith("/ h"):
            return f", and since it costs {result.cost_words} whatever it is asked, the gain is capacity"
        return ", and what that saves is not known, because its cost is" + (
            " not known" if result.cost_words in ("no price", "unknown") else f" “{result.cost_words}”"
        )
    share = _percent(result.without - result.with_cache, result.without)
    if result.without >= result.with_cache:
        return f", and the calls cost {money(result.with_cache)} instead of {money(result.without)} ({share} less)"
    surplus = _percent(result.with_cache - result.without, result.without)
    return (
        f", but the calls cost {money(result.with_cache)}, {surplus} more than the {money(result.without)} without a "
        "cache"
    )


def pays_when(result: Measured) -> str:
    """When caching pays by the price row stored with the calls, in one sentence; "" where tokens have no price."""
    prices = result.prices
    if prices is None:
        return ""
    rates = f"Writing costs {_multiple(prices.write)} and reading {_multiple(prices.read)} the plain input price"
    if prices.hits is None:
        return f"{rates}, so by its prices the cache can save time but no money."
    if prices.hits == 0:
        return f"{rates}, so every hit saves and nothing is lost on a miss."
    text = f"{rates}, so caching pays when more than {float(prices.hits) * 100:.1f} % of the prefix's uses are hits"
    if prices.burst is not None:
        text += f"; of calls in a row, from {prices.burst:,} on"
    if prices.gap_min is not None:
        text += (
            f"; of uses at random moments, up to one in {prices.gap_min:,.0f} minutes on average (a prefix is kept "
            f"{prices.lifetime_min} minutes after its last use)"
        )
    return f"{text}."


def _percent(amount: int, total: int) -> str:
    return f"{100 * amount / total:.0f} %" if total else "0 %"


def _multiple(multiple: object) -> str:
    return f"{float(str(multiple)):.3g} ×"


HANDBOOK_FILE = ROOT / "services" / "data" / "caching_handbook.md"

QUESTION = "A customer brings a hire bicycle back five hours late with a puncture. What do we charge?"

CHARS_PER_TOKEN = 4.3  # of this text, with the embedded model's tokenizer; others count a little differently


@dataclass(frozen=True, slots=True)
class Handbook:
    """One length of the handbook: its chapters from the first to ``chapters``, in about ``tokens`` tokens."""

    title: str
    chapters: int
    tokens: int

    @property
    def text(self) -> str:
        """The system prompt."""
        return "\n## ".join(_parts()[: self.chapters + 1]).strip()


@cache
def _parts() -> tuple[str, ...]:
    return tuple(HANDBOOK_FILE.read_text(encoding="utf-8").split("\n## "))


# Tokens as the embedded model counts them.
HANDBOOKS: tuple[Handbook, ...] = (
    Handbook("About 570 tokens", 3, 570),
    Handbook("About 1,400 tokens", 8, 1400),
    Handbook("About 3,000 tokens", 18, 3050),
    Handbook("About 6,000 tokens", 34, 5950),
)


def about(text: str) -> int:
    """Roughly how many tokens a text has."""
    return round(len(text) / CHARS_PER_TOKEN)


def fitting(context_tokens: int | None, answer_tokens: int) -> Handbook:
    """The longest handbook that fits a context together with the question and the answer; 1,400 tokens at first."""
    usual = HANDBOOKS[1]
    if context_tokens is None or usual.tokens + about(QUESTION) + answer_tokens + 100 <= context_tokens:
        return usual
    return HANDBOOKS[0]


MAX_BURST = 1000


def break_even_hits(write: Decimal, read: Decimal) -> Decimal | None:
    """The share of hits (0 to 1) above which caching is cheaper than none; None where it never is."""
    if read >= 1:
        return None
    if write <= 1:
        return Decimal(0)
    return (write - 1) / (write - read)


def break_even_gap_min(hits: Decimal, lifetime_min: float) -> float | None:
    """Minutes between two uses, on average and at random, up to which ``hits`` is reached; None for no bound."""
    if hits <= 0:
        return None
    return lifetime_min / -math.log1p(-float(hits))


def burst_that_pays(write: Decimal, read: Decimal) -> int | None:
    """The smallest number of calls in a row that cost less with the cache than without; None where none does."""
    if read >= 1:
        return None
    return next((n for n in range(1, MAX_BURST) if write + (n - 1) * read < n), None)


MINUTES: dict[CacheMode, int] = {"5m": 5, "1h": 60}

CLAUDE_UNASKED_MIN = 5  # Anthropic's default lifetime, which "auto" takes

OPENAI_MIN = 30  # gpt-5.6 and later: the default of `prompt_cache_options.ttl` (openai 3.54)


def lifetime_min(deployment: Deployment, mode: CacheMode | None) -> int | None:
    """For how many minutes after its last use a prefix is kept in a mode; None where the service does not say."""
    if mode in MINUTES:
        return MINUTES[mode]
    if mode == "auto" and claude_of(deployment.model) is not None:
        return CLAUDE_UNASKED_MIN
    version = gpt_version(deployment.model)
    return OPENAI_MIN if mode != "off" and version is not None and version >= (5, 6) else None


@dataclass(frozen=True, slots=True)
class Prices:
    """What writing and reading cost as multiples of the plain input price, and what follows from it."""

    write: Decimal
    read: Decimal
    hits: Decimal | None
    gap_min: float | None
    burst: int | None
    lifetime_min: int | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What one deployment's calls show. Times in ms, of succeeded calls stamped in time; money in nano-dollars.

    ``calls`` are the last attempts that ended. ``with_cache`` and ``without`` are sums over the calls whose cost is
    exact (``priced`` of them); both None where none is. ``cost_words`` says why then: "free", "no price", …
    """

    deployment: Deployment
    modes: tuple[CacheMode | None, ...]
    calls: tuple[CallRow, ...]
    cold: tuple[float, ...]
    warm: tuple[float, ...]
    with_cache: int | None
    without: int | None
    priced: int
    cost_words: str
    prices: Prices | None

    @property
    def succeeded(self) -> list[CallRow]:
        """The calls that count."""
        return [row for row in self.calls if row["state"] == "succeeded"]

    @property
    def reported(self) -> bool:
        """Whether the service said of any call how much it read from its cache."""
        return any(runs_view.state(usage_of(row)) for row in self.succeeded)

    def count(self, state: str | None) -> int:
        """How many of the calls that count were cold, warm, or (None) not reported."""
        return sum(runs_view.state(usage_of(row)) == state for row in self.succeeded)

    @property
    def difference(self) -> compare.Difference:
        """Median cold minus median warm, with its 95 % interval, in ms."""
        return compare.difference(self.cold, self.warm)

    def total(self, *names: Counted) -> int:
        """Tokens of these counts over the calls that count; what is not reported counts for nothing here."""
        return sum(row[name] or 0 for row in self.succeeded for name in names)

    @property
    def prompt_tokens(self) -> int | None:
        """Input tokens of one call: the median; None when unknown."""
        lengths = [float(n) for row in self.succeeded if (n := usage_of(row).input_total) is not None]
        middle = compare.median_interval(lengths).median
        return None if middle is None else round(middle)


def measured(calls: Sequence[CallRow]) -> list[Measured]:
    """One result for each deployment of a run, over all of its columns, in the order of the columns."""
    ended: dict[str, list[CallRow]] = {}
    for row in runs_view.last_attempts(calls):
        if row["state"] != "running":
            ended.setdefault(str(row["deployment_id"]), []).append(row)
    return [_of(rows) for rows in ended.values()]


def _of(rows: Sequence[CallRow]) -> Measured:
    deployment = Deployment.from_json(rows[0]["deployment"])
    modes = tuple(dict.fromkeys(row["cache_mode"] for row in rows))
    timed = [row for row in rows if row["state"] == "succeeded" and not row.get("lag_marked")]
    money = [(row["cost_nanousd"] or 0, other) for row in rows if (other := cost_without(row)) is not None]
    succeeded = [row for row in rows if row["state"] == "succeeded"]
    return Measured(
        deployment,
        modes,
        tuple(rows),
        _times(timed, "cold"),
        _times(timed, "warm"),
        sum(own for own, _ in money) if money else None,
        sum(other for _, other in money) if money else None,
        len(money),
        runs_view.cost_words(cost_of((succeeded or rows)[-1]))[1],
        prices_of(succeeded, deployment, modes),
    )


def _times(rows: Sequence[CallRow], state: str) -> tuple[float, ...]:
    return tuple(
        ttft for row in rows if runs_view.state(usage_of(row)) == state and (ttft := row["ttft_ms"]) is not None
    )


def cost_without(row: CallRow) -> int | None:
    """What a call would have cost without a cache: the same counts, all input at the plain input price of the row
    stored with it. None unless its own cost is exact."""
    if row.get("cost_state") != "exact" or not row.get("price"):
        return None
    usage = Usage(
        uncached_input=usage_of(row).input_total,
        reasoning_output=row.get("reasoning_output"),
        answer_output=row.get("answer_output"),
        source="provider",
    )
    return cost.cost(usage, pricing_price.read(row["price"]), complete=True).nanousd


def prices_of(rows: Sequence[CallRow], deployment: Deployment, modes: Sequence[CacheMode | None]) -> Prices | None:
    """Writing and reading by the price row stored with the last call; None where it is not priced by the token."""
    rates = _rates(rows[-1]) if rows else {}
    plain = Decimal(rates.get("input", "0"))
    mode: CacheMode | None = next((mode for mode in modes if mode != "off"), "off")
    name = "cache_write_1h" if mode == "1h" else "cache_write_5m"
    if plain <= 0 or "cache_read" not in rates or name not in rates:
        return None
    write, read = Decimal(rates[name]) / plain, Decimal(rates["cache_read"]) / plain
    hits, minutes = break_even_hits(write, read), lifetime_min(deployment, mode)
    gap = break_even_gap_min(hits, minutes) if hits is not None and minutes else None
    return Prices(write, read, hits, gap, burst_that_pays(write, read), minutes)


def _rates(row: CallRow) -> Mapping[str, str]:
    price = pricing_price.read(row.get("price"))
    return {} if price is None or price.rates is None else price.rates_for(usage_of(row).input_total or 0)


MINIMUMS_FILE = ROOT / "services" / "data" / "cache_minimums.json"


@dataclass(frozen=True, slots=True)
class Minimum:
    """Tokens of the shortest prefix that is cached; 0 where any length is. ``as_of`` is the day it was looked up."""

    tokens: int
    as_of: str


@cache
def _entries() -> tuple[str, tuple[tuple[str, str, int], ...]]:
    data = json.loads(MINIMUMS_FILE.read_text(encoding="utf-8"))
    rows = ((e["service"], model, int(e["tokens"])) for e in data["entries"] for model in e["models"])
    return str(data["as_of"]), tuple(rows)


def minimum(deployment: Deployment) -> Minimum | None:
    """What a deployment's model needs at least; None where that is not known."""
    as_of, rows = _entries()
    if deployment.origin == "embedded":
        return Minimum(0, as_of)  # llama.cpp keeps any prefix
    service = "bedrock" if deployment.kind.startswith("bedrock") or deployment.aws is not None else deployment.kind
    minimums = [
        tokens for listed_service, model, tokens in rows if listed_service == service and _is(deployment.model, model)
    ]
    return Minimum(minimums[0], as_of) if minimums else None


def _is(model: str, listed: str) -> bool:
    claude, listed_claude = claude_of(model), claude_of(listed)
    if claude is not None or listed_claude is not None:
        return claude == listed_claude
    name = bare(model)
    return name.startswith(listed) or f".{listed}" in f".{name}"
