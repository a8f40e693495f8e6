"""What a checked file would cost and how long it would take, on every deployment and by every route to it.

Everything is a range with its reason: tokens from the deployment's own recorded calls where there are any, else from
characters; prices as of now; a batch price that is not known is missing, never the standard one in its place.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Protocol

from sqlalchemy import Engine

from db import batch_past
from services.batch import pauses
from services.batch.duration import Pace, by_runner, by_service
from services.batch.tokens import Tokens, inputs, outputs, talk_of
from services.batch.types import Checked, Line, RouteLimits, RouteName
from services.pricing.cost import NANO, NANO_PER_RATE, Price, price_of
from services.providers import kind_of
from services.types import Deployment

Row = Mapping[str, Any]
Range = tuple[int | None, int | None, int | None]
NOTHING: Range = (None, None, None)


class Service(Protocol):
    """The part of `providers.base.Route` that an estimate needs."""

    name: RouteName
    title: str

    def why_not(self, deployment: Deployment) -> str | None: ...
    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits: ...
    def body(self, deployment: Deployment, line: Line) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Estimate:
    """One deployment by one route, for the whole file. Tokens are sums over all valid lines; money is nano-dollars.

    ``cost_…``: at the price of this route (the batch price of a service); ``plain_…``: the same tokens interactively.
    None: not known, and ``notes`` says why; ``unpriced`` is the sentence why no cost at all is known. ``why_not``: it
    cannot go this way at all; then nothing else is told.
    """

    deployment_id: str
    route: RouteName
    input_tokens: int | None = None
    input_low: int | None = None
    input_high: int | None = None
    output_low: int | None = None
    output_mid: int | None = None
    output_high: int | None = None
    cost_low: int | None = None
    cost_mid: int | None = None
    cost_high: int | None = None
    plain_low: int | None = None
    plain_mid: int | None = None
    plain_high: int | None = None
    seconds_low: float | None = None
    seconds_mid: float | None = None
    seconds_high: float | None = None
    n_jobs: int = 1
    notes: tuple[str, ...] = ()
    why_not: str | None = None
    unpriced: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As `Batch.estimate` keeps it."""
        return asdict(self) | {"notes": list(self.notes)}


def estimates(
    engine: Engine,
    checked: Checked,
    deployments: Sequence[Deployment],
    now: datetime,
    routes: Iterable[Service] = (),
    *,
    lanes: int | None = None,
    per_minute: int | None = None,
) -> list[Estimate]:
    """One estimate for each deployment by our own runner and by each of ``providers``, in that order.

    ``now``: the prices of this moment (aware). ``concurrency`` and ``per_minute``: what our runner is bound to, if
    anything. Two statements to the database, whatever the number of deployments, and one more where batches have ended
    since the last time; no service is asked anything.
    """
    past: dict[str, list[Row]] = defaultdict(list)
    for row in batch_past.recent_calls(engine, [one.id for one in deployments]):
        past[row["deployment_id"]].append(row)
    finished = pauses.working(engine, batch_past.finished_batches(engine))
    services = list(routes)
    return [
        one
        for deployment in deployments
        for one in _of(deployment, checked, past[deployment.id], finished, now, services, lanes, per_minute)
    ]


def _of(
    deployment: Deployment, checked: Checked, past: Sequence[Row], finished: Sequence[Row], now: datetime,
    services: Sequence[Service], lanes: int | None, per_minute: int | None,
) -> list[Estimate]:  # fmt: skip
    n = checked.n_valid
    if not n:
        return [Estimate(deployment.id, "runner", why_not="The file has no valid line to send.")]
    limit, refused = _limit(deployment, checked)
    if refused is not None:
        return [Estimate(deployment.id, name, why_not=refused) for name in ("runner", *(one.name for one in services))]
    talk = talk_of([one.ask for one in checked.preview])
    tokens_in, tokens_out = inputs(past, checked.chars_in, n, talk), outputs(past, n, limit)
    here = [row for row in finished if row["deployment_id"] == deployment.id]
    pace = by_runner(past, [row for row in here if row["route"] == "runner"], n, tokens_out, lanes, per_minute)
    standard = _price(deployment, now, batch=False)
    base = Estimate(
        deployment.id, "runner", input_tokens=tokens_in.mid, input_low=tokens_in.low, input_high=tokens_in.high,
        output_low=tokens_out.low, output_mid=tokens_out.mid, output_high=tokens_out.high,
    )  # fmt: skip
    notes = [*_longest(deployment, checked, tokens_in), *tokens_in.notes, *tokens_out.notes]
    plain, why = _cost(standard, tokens_in, tokens_out, pace, n)
    own = _with(base, plain, plain, pace, [*notes, *([why] if why else []), *pace.notes], why)
    return [own, *(_by(one, deployment, checked, base, plain, notes, here, finished, now, (tokens_in, tokens_out))
                   for one in services)]  # fmt: skip


def _by(
    service: Service, deployment: Deployment, checked: Checked, base: Estimate, plain: Range, notes: Sequence[str],
    here: Sequence[Row], finished: Sequence[Row], now: datetime, tokens: tuple[Tokens, Tokens],
) -> Estimate:  # fmt: skip
    n = checked.n_valid
    why_not = service.why_not(deployment)
    limits = service.limits(deployment) if why_not is None else RouteLimits()
    if why_not is None and n < limits.min_records:
        why_not = (
            f"{service.title} needs at least {limits.min_records:,} lines for this model, and the file has {n:,}: run "
            "it through our own runner instead."
        )
    if why_not is not None:
        return Estimate(deployment.id, service.name, why_not=why_not)
    jobs, said = _jobs(service, deployment, checked, limits)
    mine, others = ([row for row in rows if row["route"] == service.name] for rows in (here, finished))
    pace = by_service(service.title, limits, mine, others, n)
    price = _price(deployment, now, batch=True)
    cost, why = _cost(price, *tokens, pace, n)
    if price is None:
        why = "No batch price is known for this deployment, so what it costs this way cannot be told."
    found = _with(base, cost, plain, pace, [*said, *notes, *([why] if why else []), *pace.notes], why)
    return replace(found, route=service.name, n_jobs=jobs)


def _with(
    base: Estimate, cost: Range, plain: Range, pace: Pace, notes: Iterable[str], why: str | None
) -> Estimate:  # fmt: skip
    return replace(
        base, cost_low=cost[0], cost_mid=cost[1], cost_high=cost[2], plain_low=plain[0], plain_mid=plain[1],
        plain_high=plain[2], seconds_low=pace.low, seconds_mid=pace.mid, seconds_high=pace.high,
        notes=tuple(dict.fromkeys(notes)), unpriced=why if cost == NOTHING else None,
    )  # fmt: skip


def _price(deployment: Deployment, now: datetime, *, batch: bool) -> Price | None:
    try:
        return price_of(deployment, now, batch=batch)
    except ValueError:
        return None  # the deployment's own page says what is wrong with its price


def _cost(price: Price | None, given: Tokens, made: Tokens, pace: Pace, n: int) -> tuple[Range, str | None]:
    """The range of costs, and a sentence where it is not known."""
    if price is None:
        return NOTHING, "No price is known for this deployment."
    if price.per_hour is not None:
        return _by_the_hour(Decimal(price.per_hour), pace)
    low = tokens_nanousd(price, given.low, made.low, n)
    mid = tokens_nanousd(price, given.mid, made.mid, n)
    high = tokens_nanousd(price, given.high, made.high, n)
    if low is None and given.low is not None:
        return NOTHING, "The price list has no price for requests of this length."
    return (low, mid, high), None


def _by_the_hour(per_hour: Decimal, pace: Pace) -> tuple[Range, str | None]:
    if per_hour == 0:
        return (0, 0, 0), None
    low, mid, high = (
        None if one is None else _whole(per_hour * NANO * Decimal(str(one)) / 3600)
        for one in (pace.low, pace.mid, pace.high)
    )
    why = f"It is paid by the hour (${per_hour:f}): the cost is that of the time the file takes, idle time not counted."
    if mid is None and high is None:
        why = f"It is paid by the hour (${per_hour:f}), and how long the file takes is not known."
    return (low, mid, high), why


def tokens_nanousd(price: Price, tokens_in: int | None, tokens_out: int | None, n: int) -> int | None:
    """What ``n`` lines of so many tokens together cost: at the rates of a request of their average length, every input
    token uncached. None where a count or a rate is not known."""
    if tokens_in is None or tokens_out is None:
        return None
    rates = price.rates_for(tokens_in // max(n, 1))
    if "input" not in rates or "output" not in rates:
        return None
    return sum(
        _whole(count * Decimal(rates[side]) * NANO_PER_RATE)
        for side, count in (("input", tokens_in), ("output", tokens_out))
    )


def _whole(value: Decimal) -> int:
    return int(value.to_integral_value(rounding=ROUND_HALF_UP))


def _limit(deployment: Deployment, checked: Checked) -> tuple[float | None, str | None]:
    """The output limit of an average line (None: nothing limits it), and why no line could be sent, in a sentence."""
    if checked.max_tokens is not None:
        limit: float | None = checked.max_tokens / checked.n_valid
    else:
        limit = None
    if checked.preview:
        # The kind knows which limit it sends by itself, and what it cannot send at all.
        try:
            sent = kind_of(deployment).request(deployment, checked.preview[0].ask).sent_params
        except ValueError as error:
            return None, str(error)
        most = sent.get("max_tokens")
        if not isinstance(most, int):
            limit = None  # this kind takes no limit
        elif limit is None and all("max_tokens" not in one.ask.params for one in checked.preview):
            limit = float(most)
    return limit, None


def _longest(deployment: Deployment, checked: Checked, given: Tokens) -> list[str]:
    if not deployment.context_tokens or not checked.chars_in or given.mid is None:
        return []
    tokens = checked.longest * given.mid / checked.chars_in
    if tokens <= deployment.context_tokens:
        return []
    return [
        f"The longest line is about {tokens:,.0f} tokens, and this deployment takes {deployment.context_tokens:,}: "
        "such lines will fail."
    ]


def _jobs(service: Service, deployment: Deployment, checked: Checked, limits: RouteLimits) -> tuple[int, list[str]]:
    """How many jobs the file becomes, by the number of lines and by bytes (from the previewed lines, as a service
    would get them)."""
    n, said = checked.n_valid, []
    bodies, chars = [], 0
    for record in checked.preview:
        try:
            bodies.append(len(service.body(deployment, Line(record.no, record.ask))))
        except ValueError as error:
            said.append(str(error))
            continue
        chars += sum(len(one.text) for one in record.ask.messages) + len(record.ask.system or "")
    jobs = -(-n // limits.max_records) if limits.max_records else 1
    if bodies and limits.max_bytes:
        around = max(sum(bodies) - chars, 0) / len(bodies)
        jobs = max(jobs, -(-int(checked.chars_in + around * n) // limits.max_bytes))
    return max(jobs, 1), said[:1]
