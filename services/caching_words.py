"""One sentence of conclusion for what a prompt cache did: never silence, and the figures that decide it."""

from __future__ import annotations

from collections import Counter

from services import cache_minimums, formatting
from services.caching import Measured
from services.pricing.cost import money
from services.providers import model_rules
from services.runs import compare, view


def conclusion(found: Measured) -> str:
    """What the calls of one deployment show, in one sentence."""
    name, good = found.deployment.name, found.succeeded
    if not good:
        ends = Counter(view.words(row) for row in found.calls)
        said = ", ".join(f"{n:,} {end}" for end, n in ends.items())
        return f"{name}: no call succeeded ({said}), so nothing can be said about its cache."
    if not found.reported:
        return f"{name} does not report cached tokens, so cold and warm calls cannot be told apart."
    warm, cold = found.count("warm"), found.count("cold")
    if not warm:
        return f"{name}: {_never_read(found) if _written(found) else _nothing(found)}"
    if not cold:
        calls = "the one call" if warm == 1 else f"all {warm:,} calls"
        return (
            f"{name}: {calls} found the prompt in the cache, warmed by an earlier run or by another deployment on the "
            "same server, so there is no cold one to compare with: start cold and ask it alone."
        )
    if not found.warm or not found.cold:
        return (
            f"{name}: {cold:,} cold and {warm:,} warm calls, whose times do not count, because our own clock was late."
        )
    return f"{name}: {_compared(found)}"


def _written(found: Measured) -> int:
    return found.total("cache_write_5m", "cache_write_1h")


def _nothing(found: Measured) -> str:
    """Why nothing was cached, as far as it is known."""
    if set(found.modes) == {"off"}:
        return "nothing was cached, because caching was off."
    if set(found.modes) <= {None, "off"} and model_rules.parse(found.deployment.model) is not None:
        return "nothing was cached: this service caches only what it is asked to; choose another mode than its own."
    tokens, least = found.prompt_tokens, cache_minimums.minimum(found.deployment)
    if least is None:
        return "nothing was cached; the minimum of this model is not known to us."
    if tokens is not None and tokens < least.tokens:
        return f"nothing was cached: this model needs {least.tokens:,} tokens and the prompt had {tokens:,}."
    n = len(found.succeeded)
    if n == 1:
        return "nothing was cached at the first call, and there was no second one to find anything: make more calls."
    had = "" if tokens is None else f" had {tokens:,} tokens and"
    enough = f" needs {least.tokens:,}" if least.tokens else " has no minimum"
    return (
        f"nothing was cached, although the prompt{had} this model{enough}: its entry may have been dropped, or the "
        "calls reached different servers."
    )


def _never_read(found: Measured) -> str:
    n = len(found.succeeded)
    read = f"{_written(found):,} tokens were written to the cache and none was read back"
    if n == 1:
        return f"{read}, because there was only one call: make more."
    return f"{read} in {n:,} calls: each one paid for a cache that it did not use."


def _compared(found: Measured) -> str:
    cold, warm = compare.median_interval(found.cold), compare.median_interval(found.warm)
    assert cold.median is not None
    assert warm.median is not None
    first = f"with a warm cache the first token came after {formatting.seconds(warm.median)} instead of "
    first += f"{formatting.seconds(cold.median)} (medians of {warm.n:,} warm and {cold.n:,} cold)"
    gap = found.difference
    if gap.low is not None and not gap.seen:
        first = (
            f"no difference is seen between {warm.n:,} warm calls ({formatting.seconds(warm.median)}) and {cold.n:,} "
            "cold "
            f"ones ({formatting.seconds(cold.median)})"
        )
    return f"{first}{_money(found)}."


def _money(found: Measured) -> str:
    if found.with_cache is None or found.without is None:
        if found.cost_words == "free":
            return ", and since this deployment is free the time is all that is saved"
        if found.cost_words.endswith("/ h"):
            return f", and since it costs {found.cost_words} whatever it is asked, the gain is capacity"
        return ", and what that saves is not known, because its cost is" + (
            " not known" if found.cost_words in ("no price", "unknown") else f" “{found.cost_words}”"
        )
    share = _percent(found.without - found.with_cache, found.without)
    if found.without >= found.with_cache:
        return f", and the calls cost {money(found.with_cache)} instead of {money(found.without)} ({share} less)"
    more = _percent(found.with_cache - found.without, found.without)
    return (
        f", but the calls cost {money(found.with_cache)}, {more} more than the {money(found.without)} without a cache"
    )


def pays_when(found: Measured) -> str:
    """When caching pays by the price row stored with the calls, in one sentence; "" where tokens have no price."""
    prices = found.prices
    if prices is None:
        return ""
    rates = f"Writing costs {_times(prices.write)} and reading {_times(prices.read)} the plain input price"
    if prices.hits is None:
        return f"{rates}, so by its prices the cache can save time but no money."
    if prices.hits == 0:
        return f"{rates}, so every hit saves and nothing is lost on a miss."
    said = f"{rates}, so caching pays when more than {float(prices.hits) * 100:.1f} % of the prefix's uses are hits"
    if prices.burst is not None:
        said += f"; of calls in a row, from {prices.burst:,} on"
    if prices.gap_min is not None:
        said += (
            f"; of uses at random moments, up to one in {prices.gap_min:,.0f} minutes on average (a prefix is kept "
            f"{prices.lifetime_min} minutes after its last use)"
        )
    return f"{said}."


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %" if whole else "0 %"


def _times(multiple: object) -> str:
    return f"{float(str(multiple)):.3g} ×"
