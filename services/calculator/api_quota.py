"""What an account may ask of a service: requests and tokens a minute (shared/calculator.md, B, "Quotas")."""

from __future__ import annotations

from dataclasses import dataclass

from services.calculator import assumptions as given
from services.calculator import shape, tokens
from services.calculator.assumptions import Assumptions
from services.calculator.catalog import Catalog
from services.calculator.catalog_rows import AccountQuota, ApiModel
from services.calculator.types import Fact, Range, Way, Workload


@dataclass(frozen=True, slots=True)
class Held:
    """A workload held against an account's limits. ``used``: share of them in the busiest hour. ``full_at_rpm``: the
    mean rate of the shape at which they are reached. A default that can be raised is a warning, a limit that the user
    stated is final."""

    used: Range | None = None
    full_at_rpm: float | None = None
    infeasible: str | None = None
    missing: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()


def of(api: ApiModel, workload: Workload, assumptions: Assumptions, catalog: Catalog, now: float = 1.0) -> Held:
    """The limits that hold for the share ``now`` of the requests (those in batches have limits of their own)."""
    own, default = given.quota(assumptions, api.way, api.model_ref), catalog.quota(api.way, api.model_ref)
    if own is not None:
        limits, name = AccountQuota(api.way, api.model_ref, own.rpm, own.tpm, source="yours"), "Your quota"
    elif default is not None:
        limits, name = default, "The published default quota"
    else:
        return Held()
    most = most_rpm(workload, limits)
    factor = shape.peak(workload) * now
    if most is None or factor <= 0:
        return Held()
    peak = workload.rpm * factor
    used = peak / most if most > 0 else float("inf")
    kind = "yours" if own is not None else "list"
    fact = Fact("Quota", f"{most:,.4g} requests a minute of these lengths", limits.source, limits.date, kind)
    held = Held(Range(used, used, used), most / factor, facts=(fact,))
    if peak <= most:
        return held
    said = f"{name} carries {most:,.4g} requests a minute of these lengths, and the busiest hour has {peak:,.4g}"
    if own is not None:
        return Held(held.used, held.full_at_rpm, f"{said}: ask for a higher one.", (), (fact,))
    return Held(held.used, held.full_at_rpm, None, (f"{said}: ask for a higher one before you rely on it.",), (fact,))


def most_rpm(workload: Workload, limits: AccountQuota) -> float | None:
    """Requests a minute that all limits allow; None: there is no limit.

    Bedrock sets aside the longest answer (taken as the p95) when a request starts, and settles with the real one. Input
    from a cache is counted like other input: where a service does not count it, more is possible.
    """
    given, made = tokens.mean(workload.input_tokens), tokens.mean(workload.output_tokens)
    weighed = made * limits.output_weight
    if limits.way is Way.BEDROCK:
        weighed = max(weighed, tokens.p95(workload.output_tokens))
    apart = ((limits.tpm, given + weighed), (limits.input_tpm, given), (limits.output_tpm, made))
    found = [most / each for most, each in apart if most is not None]
    return min([*found, *([] if limits.rpm is None else [limits.rpm])], default=None)
