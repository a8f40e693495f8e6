"""What a call would have cost at the plain price: the measure that the savings of caching and batches are told against.

Plain means: every input token at the input rate, whether it was read from a cache, written to one or neither; output at
the output rate; and the standard price where the call was made in a batch or in the flex tier. Other tiers stay as they
are: what "priority" costs more is no saving that was missed.
"""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal

from services.pricing.cost import DRIVERS, NANO_PER_RATE, Price
from services.types import Usage

DISCOUNTED_TIERS = frozenset({"flex", "batch"})


def is_discounted(price: Price | None) -> bool:
    """Whether the price is one of waiting (a batch, the flex tier), so that its plain price is another row."""
    if price is None:
        return False
    context = price.context
    return context.get("processing") == "batch" or context.get("service_tier") in DISCOUNTED_TIERS


def plain_nanousd(usage: Usage, price: Price | None, standard: Price | None = None) -> int | None:
    """The plain cost of a call in nano-dollars, from its counts and the price it was charged at.

    ``standard``: the standard price of the same deployment at that time; it is used, and needed, where `is_discounted`.
    None where the plain price or the counts are not known, where the hour is paid and not the call, and where the
    charged price leaves out a kind of token that the call has: the two would not be of the same tokens. Counts that the
    service did not state are missing in the plain cost just as they are in the cost.
    """
    if price is None or price.per_hour is not None:
        return None
    plain = standard if is_discounted(price) else price
    if plain is None or plain.per_hour is not None:
        return None
    counts = {name: getattr(usage, name) for name in DRIVERS}
    known = {name: count for name, count in counts.items() if count is not None}
    charged, rates = price.rates_for(usage.input_total or 0), plain.rates_for(usage.input_total or 0)
    if not known or "input" not in rates or "output" not in rates:
        return None
    if any(count and DRIVERS[name] not in charged for name, count in known.items()):
        return None
    total = 0
    for side, tokens in (("input", usage.input_total or 0), ("output", usage.output_total or 0)):
        total += int((tokens * Decimal(rates[side]) * NANO_PER_RATE).to_integral_value(rounding=ROUND_HALF_UP))
    return total
