"""The targets of a file: a deployment by a route, with cost and time there in words."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Engine

from services.batch import text as words
from services.batch.estimate import Estimate, estimates
from services.batch.providers.base import Route
from services.batch.types import Checked
from services.pricing.cost import money
from services.types import Deployment

Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Way:
    """One deployment by one route, with its estimate."""

    deployment: Deployment
    estimate: Estimate

    @property
    def key(self) -> Key:
        return self.deployment.id, self.estimate.route

    @property
    def name(self) -> str:
        """ "Haiku 4.5 · Anthropic Message Batches"."""
        return f"{self.deployment.name} · {words.route(self.estimate.route)}"


def ways_to(
    database: Engine,
    checked: Checked,
    deployments: Sequence[Deployment],
    *,
    lanes: int | None = None,
    per_minute: int | None = None,
) -> list[Way]:
    """Every way of a file to these deployments. ``lanes``, ``per_minute``: what our own runner is bound to."""
    by_id = {deployment.id: deployment for deployment in deployments}
    estimated = estimates(
        database, checked, deployments, datetime.now(UTC), services(), lanes=lanes, per_minute=per_minute
    )
    return [Way(by_id[estimate.deployment_id], estimate) for estimate in estimated]


def services() -> list[Route]:
    """The batch services; one whose library is missing is left aside."""
    from services.batch import providers

    kinds = []
    for name in providers.SERVICES:
        with contextlib.suppress(ImportError):
            kinds.append(providers.get(name))
    return kinds


def cheapest(ways: Sequence[Way]) -> Way:
    """The way that costs least, of those whose cost is known; the first where none is."""
    return min(ways, key=lambda way: (way.estimate.cost_mid is None, way.estimate.cost_mid or 0))


def label(way: Way) -> str:
    """A way as a choice: its name, cost and time."""
    parts = [way.name, cost_words(way.estimate), time_words(way.estimate)]
    return " · ".join(clause for clause in parts if clause != "–")


def cost_words(estimate: Estimate) -> str:
    """ "$0.12–0.4", "free", or a dash where it is not known."""
    return money_range(estimate.cost_low, estimate.cost_high, estimate.cost_mid)


def plain_words(estimate: Estimate) -> str:
    """The same for one call after the other, at the interactive price."""
    return money_range(estimate.plain_low, estimate.plain_high, estimate.plain_mid)


def money_range(low: int | None, high: int | None, mid: int | None) -> str:
    """A range of nano-dollars in words; a dash where nothing is known."""
    if low is None and high is None and mid is None:
        return "–"
    if low == high == 0:
        return "free"
    first, last = (money(bound) if bound is not None else "" for bound in (low, high))
    if not first:
        return f"up to {last}" if last else f"~{money(mid)}"
    if not last:
        return f"≥ {first}"
    return f"~{first}" if first == last else f"{first}–{last.removeprefix('$')}"


def time_words(estimate: Estimate) -> str:
    """ "~4–9 min", "up to 24 h", or a dash where it is not known."""
    low, high = estimate.seconds_low, estimate.seconds_high
    if high is None:
        return "–" if estimate.seconds_mid is None else f"~{words.span(estimate.seconds_mid)}"
    return f"up to {words.span(high)}" if low is None else f"~{words.spans(low, high)}"


def jobs_words(estimate: Estimate) -> str:
    """ "3 jobs" where a service's limits split the file, "1 job" where not, a dash for our own runner."""
    if estimate.route == "runner":
        return "–"
    return f"{estimate.n_jobs:,} {'job' if estimate.n_jobs == 1 else 'jobs'}"


def tokens_words(estimate: Estimate) -> str:
    """ "~12,000 + 6,400"; a dash where it is not known."""
    if estimate.input_tokens is None and estimate.output_mid is None:
        return "–"
    return " + ".join(f"~{n:,}" if n is not None else "–" for n in (estimate.input_tokens, estimate.output_mid))
