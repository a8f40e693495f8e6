"""What a checked file would cost and how long it would take, on every deployment and by every route to it.

Everything is a range with its reason: tokens from the deployment's own recorded calls where there are any, else from
characters; prices as of now; a batch price that is not known is missing, never the standard one in its place.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from statistics import fmean, median

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Engine

from db import batch_queries
from db.batch_rows import EstimateJson, FinishedBatch, RecentCall
from services.batch import stats
from services.batch import text as words
from services.batch.stats import MINUTE
from services.batch.types import (
    Checked,
    Line,
    Route,
    RouteLimits,
    RouteName,
)
from services.call_record import usage_of
from services.formatting import NANODOLLARS
from services.pricing.cost import NANO_PER_RATE, Price, money, price_of
from services.providers import kind_of
from services.types import Ask, Deployment

Range = tuple[int | None, int | None, int | None]

NOTHING: Range = (None, None, None)


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

    def to_json(self) -> EstimateJson:
        """As `Batch.estimate` keeps it."""
        return {
            "deployment_id": self.deployment_id,
            "route": self.route,
            "input_tokens": self.input_tokens,
            "input_low": self.input_low,
            "input_high": self.input_high,
            "output_low": self.output_low,
            "output_mid": self.output_mid,
            "output_high": self.output_high,
            "cost_low": self.cost_low,
            "cost_mid": self.cost_mid,
            "cost_high": self.cost_high,
            "plain_low": self.plain_low,
            "plain_mid": self.plain_mid,
            "plain_high": self.plain_high,
            "seconds_low": self.seconds_low,
            "seconds_mid": self.seconds_mid,
            "seconds_high": self.seconds_high,
            "n_jobs": self.n_jobs,
            "notes": list(self.notes),
            "why_not": self.why_not,
            "unpriced": self.unpriced,
        }


def estimates(
    engine: Engine,
    checked: Checked,
    deployments: Sequence[Deployment],
    now: datetime,
    routes: Iterable[Route] = (),
    *,
    lanes: int | None = None,
    per_minute: int | None = None,
) -> list[Estimate]:
    """One estimate for each deployment by our own runner and by each of ``routes``, in that order.

    ``now``: the prices of this moment (aware). ``lanes`` and ``per_minute``: what our runner is bound to, if
    anything. Two statements to the database, whatever the number of deployments, and one more where batches have ended
    since the last time; no service is asked anything.
    """
    past: dict[str, list[RecentCall]] = defaultdict(list)
    for row in batch_queries.recent_calls(engine, [deployment.id for deployment in deployments]):
        past[row["deployment_id"]].append(row)
    finished = stats.working(engine, batch_queries.finished_batches(engine))
    services = list(routes)
    return [
        estimate
        for deployment in deployments
        for estimate in _of(deployment, checked, past[deployment.id], finished, now, services, lanes, per_minute)
    ]


def _of(
    deployment: Deployment,
    checked: Checked,
    past: Sequence[RecentCall],
    finished: Sequence[FinishedBatch],
    now: datetime,
    services: Sequence[Route],
    lanes: int | None,
    per_minute: int | None,
) -> list[Estimate]:
    n = checked.n_valid
    if not n:
        return [Estimate(deployment.id, "runner", why_not="The file has no valid line to send.")]
    limit, refused = _limit(deployment, checked)
    if refused is not None:
        return [
            Estimate(deployment.id, name, why_not=refused)
            for name in ("runner", *(service.name for service in services))
        ]
    talk = talk_of([record.ask for record in checked.preview])
    tokens_in, tokens_out = inputs(past, checked.chars_in, n, talk), outputs(past, n, limit)
    of_deployment = [row for row in finished if row["deployment_id"] == deployment.id]
    pace = by_runner(past, [row for row in of_deployment if row["route"] == "runner"], n, tokens_out, lanes, per_minute)
    standard = _price(deployment, now, batch=False)
    base = Estimate(
        deployment.id,
        "runner",
        input_tokens=tokens_in.mid,
        input_low=tokens_in.low,
        input_high=tokens_in.high,
        output_low=tokens_out.low,
        output_mid=tokens_out.mid,
        output_high=tokens_out.high,
    )
    notes = [*_longest(deployment, checked, tokens_in), *tokens_in.notes, *tokens_out.notes]
    plain, why = _cost(standard, tokens_in, tokens_out, pace, n)
    own = _with(base, plain, plain, pace, [*notes, *([why] if why else []), *pace.notes], why)
    return [
        own,
        *(
            _by(service, deployment, checked, base, plain, notes, of_deployment, finished, now, (tokens_in, tokens_out))
            for service in services
        ),
    ]


def _by(
    service: Route,
    deployment: Deployment,
    checked: Checked,
    base: Estimate,
    plain: Range,
    notes: Sequence[str],
    of_deployment: Sequence[FinishedBatch],
    finished: Sequence[FinishedBatch],
    now: datetime,
    tokens: tuple[Tokens, Tokens],
) -> Estimate:
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
    jobs, problems = _jobs(service, deployment, checked, limits)
    same_deployment, all_deployments = (
        [row for row in rows if row["route"] == service.name] for rows in (of_deployment, finished)
    )
    pace = by_service(service.title, limits, same_deployment, all_deployments, n)
    price = _price(deployment, now, batch=True)
    cost, why = _cost(price, *tokens, pace, n)
    if price is None:
        why = "No batch price is known for this deployment, so what it costs this way cannot be told."
    estimate = _with(base, cost, plain, pace, [*problems, *notes, *([why] if why else []), *pace.notes], why)
    return replace(estimate, route=service.name, n_jobs=jobs)


def _with(base: Estimate, cost: Range, plain: Range, pace: Pace, notes: Iterable[str], why: str | None) -> Estimate:
    return replace(
        base,
        cost_low=cost[0],
        cost_mid=cost[1],
        cost_high=cost[2],
        plain_low=plain[0],
        plain_mid=plain[1],
        plain_high=plain[2],
        seconds_low=pace.low,
        seconds_mid=pace.mid,
        seconds_high=pace.high,
        notes=tuple(dict.fromkeys(notes)),
        unpriced=why if cost == NOTHING else None,
    )


def _price(deployment: Deployment, now: datetime, *, batch: bool) -> Price | None:
    try:
        return price_of(deployment, now, batch=batch)
    except ValueError:
        return None  # the deployment's own page says what is wrong with its price


def _cost(
    price: Price | None, input_tokens: Tokens, output_tokens: Tokens, pace: Pace, n: int
) -> tuple[Range, str | None]:
    """The range of costs, and a sentence where it is not known."""
    if price is None:
        return NOTHING, "No price is known for this deployment."
    if price.per_hour is not None:
        return _by_the_hour(Decimal(price.per_hour), pace)
    low = tokens_nanousd(price, input_tokens.low, output_tokens.low, n)
    mid = tokens_nanousd(price, input_tokens.mid, output_tokens.mid, n)
    high = tokens_nanousd(price, input_tokens.high, output_tokens.high, n)
    if low is None and input_tokens.low is not None:
        return NOTHING, "The price list has no price for requests of this length."
    return (low, mid, high), None


def _by_the_hour(per_hour: Decimal, pace: Pace) -> tuple[Range, str | None]:
    if per_hour == 0:
        return (0, 0, 0), None
    low, mid, high = (
        None if hours_s is None else _rounded(per_hour * NANODOLLARS * Decimal(str(hours_s)) / 3600)
        for hours_s in (pace.low, pace.mid, pace.high)
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
        _rounded(count * Decimal(rates[side]) * NANO_PER_RATE)
        for side, count in (("input", tokens_in), ("output", tokens_out))
    )


def _rounded(value: Decimal) -> int:
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
        sent_limit = sent.get("max_tokens")
        if not isinstance(sent_limit, int):
            limit = None  # this kind takes no limit
        elif limit is None and all("max_tokens" not in record.ask.params for record in checked.preview):
            limit = float(sent_limit)
    return limit, None


def _longest(deployment: Deployment, checked: Checked, input_tokens: Tokens) -> list[str]:
    if not deployment.context_tokens or not checked.chars_in or input_tokens.mid is None:
        return []
    tokens = checked.longest * input_tokens.mid / checked.chars_in
    if tokens <= deployment.context_tokens:
        return []
    return [
        f"The longest line is about {tokens:,.0f} tokens, and this deployment takes {deployment.context_tokens:,}: "
        "such lines will fail."
    ]


def _jobs(service: Route, deployment: Deployment, checked: Checked, limits: RouteLimits) -> tuple[int, list[str]]:
    """How many jobs the file becomes, by the number of lines and by bytes (from the previewed lines, as a service
    would get them)."""
    n, problems = checked.n_valid, []
    bodies, chars = [], 0
    for record in checked.preview:
        try:
            bodies.append(len(service.body(deployment, Line(record.no, record.ask))))
        except ValueError as error:
            problems.append(str(error))
            continue
        chars += sum(len(message.text) for message in record.ask.messages) + len(record.ask.system or "")
    jobs = -(-n // limits.max_records) if limits.max_records else 1
    if bodies and limits.max_bytes:
        around = max(sum(bodies) - chars, 0) / len(bodies)
        jobs = max(jobs, -(-int(checked.chars_in + around * n) // limits.max_bytes))
    return max(jobs, 1), problems[:1]


# How many lines our runner has under way: it finds the number that is best while it runs, so this is an assumption.
LANES, MOST_LANES = 4, 16


FEW_BATCHES = 5

LONG_ENOUGH = 20  # lines of a finished batch, for its pace to mean something

LATEST = 20


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds for a whole file, and where they are from. None: not known."""

    low: float | None = None
    mid: float | None = None
    high: float | None = None
    notes: tuple[str, ...] = ()


def by_runner(
    past: Sequence[RecentCall],
    batches: Sequence[FinishedBatch],
    n: int,
    output_tokens: Tokens,
    lanes: int | None,
    per_minute: int | None,
) -> Pace:
    """Our own runner: from the pace of finished batches of this deployment, else from recorded times of single calls
    and an assumed number of lanes."""
    rates = [row["n_lines"] / row["seconds"] for row in batches[:LATEST] if row["n_lines"] >= LONG_ENOUGH]
    pace = _by_pace(rates, n) if rates else _by_calls(past, n, output_tokens, lanes)
    if per_minute and pace.mid is not None:
        limit_s = n / per_minute * MINUTE
        if limit_s > pace.mid:
            note = f"At most {per_minute:,} lines a minute were allowed, which alone takes {words.short_span(limit_s)}."
            low, mid, high = (max(seconds or limit_s, limit_s) for seconds in (pace.low, pace.mid, pace.high))
            return Pace(low, mid, high, (*pace.notes, note))
    return pace


def _by_pace(rates: Sequence[float], n: int) -> Pace:
    middle = median(rates)
    low, high = (float(x) for x in np.quantile(rates, (0.1, 0.9)))
    if len(rates) < FEW_BATCHES:
        low, high = min(low, middle / 2), max(high, middle * 2)
    note = (
        f"Time: from {len(rates)} finished {'batch' if len(rates) == 1 else 'batches'} of this deployment, "
        f"{middle * MINUTE:,.4g} lines a minute."
    )
    return Pace(n / high, n / middle, n / low, (note,))


def _by_calls(past: Sequence[RecentCall], n: int, output_tokens: Tokens, lanes: int | None) -> Pace:
    timed = [row for row in past if row.get("ttlt_ms") is not None and not row.get("lag_marked")]
    if len(timed) < ENOUGH:
        return Pace(notes=(f"Time: not known, {few_words(len(timed), 'times')}.",))
    seconds_each = _seconds_each(timed, n, output_tokens)
    at_once = min(lanes, n) if lanes else min(LANES, n)
    max_lanes = min(lanes, n) if lanes else min(MOST_LANES, n)
    assumed = "" if lanes else " (an assumption: the runner finds the best number while it runs)"
    note = (
        f"Time: from {len(timed):,} recorded calls, {words.short_span(seconds_each)} a line, with {at_once} at "
        f"once{assumed}; the range is one after the other to {max_lanes} at once."
    )
    return Pace(n * seconds_each / max_lanes, n * seconds_each / at_once, n * seconds_each, (note,))


def _seconds_each(timed: Sequence[RecentCall], n: int, output_tokens: Tokens) -> float:
    """Seconds of one line: the first token and then the expected number of tokens; else the mean of all recorded."""
    first = [time for row in timed if (time := row.get("ttft_ms")) is not None]
    pace = [time for row in timed if (time := row.get("tpot_ms")) is not None]
    if len(first) >= ENOUGH and len(pace) >= ENOUGH and output_tokens.mid is not None:
        return float(median(first) + max(output_tokens.mid / n - 1, 0) * median(pace)) / 1000
    return fmean(time for row in timed if (time := row["ttlt_ms"]) is not None) / 1000


def by_service(
    title: str, limits: RouteLimits, of_deployment: Sequence[FinishedBatch], of_service: Sequence[FinishedBatch], n: int
) -> Pace:
    """A batch service: at most its window, and what finished batches say: of this deployment, else of the service."""
    window = None if limits.window_h is None else limits.window_h * 3600
    promised = f"{title} promises an end within {limits.window_h:g} h" if limits.window_h is not None else ""
    rows, whose = (of_deployment, "of this deployment there") if of_deployment else (of_service, "there")
    seconds = [float(row["seconds"]) for row in rows[:LATEST]]
    if not seconds:
        promise = f"{promised}, often much sooner" if promised else f"{title} promises no time"
        return Pace(None, None, window, (f"Time: {promise}; nothing was recorded yet.",))
    middle = median(seconds)
    high = window if window is not None else max(seconds)
    ending = f"; {promised}" if promised else ""
    lines = median(row["n_lines"] for row in rows[:LATEST])
    note = (
        f"Time: the latest {len(seconds)} {'batch' if len(seconds) == 1 else 'batches'} {whose} took "
        f"{words.short_span(middle)} ({lines:,.0f} lines; yours has {n:,}){ending}."
    )
    return Pace(min(seconds), middle, max(high, middle), (note,))


CHARS_PER_TOKEN = 4.0


# Without history: English prose lies near 4; code, numbers and other scripts are denser, plain long words less so.
DENSE, LOOSE = 3.0, 5.0


# Tokens that are sent around the texts and counted as input: (low, middle, high), see `Talk`.
MARKS, REPLY, OWN_SYSTEM = (3, 4, 6), (3, 3, 4), (0, 10, 40)


OTHER_TEXT = 0.1  # of the tokens of the texts: as much as the density of a file may differ from that of recorded calls

MOST_AROUND = 50.0  # of one message without a system prompt: the high of all three

DENSEST = 1.0  # tokens per character, of texts in the scripts that have most

ENOUGH = 5  # recorded calls, to be believed more than the rule of thumb

FITTED = 8  # recorded calls of different lengths, to tell what is sent around each prompt

ALIKE = 4.0  # lengths that differ by less than this factor are told by one ratio

OFTEN = 0.2


@dataclass(frozen=True, slots=True)
class Tokens:
    """Sums over a whole file, and where they are from. None: not known."""

    low: int | None
    mid: int | None
    high: int | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Talk:
    """What one line is made of: ``turns`` messages, and a system prompt or not (the share of lines that have one).

    A service counts more than the texts. Each message is put between marks that name its role: 3 to 4 tokens by
    OpenAI's own recipe ("How to count tokens with tiktoken": 3 a message now, 4 for older models), 5 in ChatML
    (<|im_start|>, role, line end, <|im_end|>, line end). The answer is begun with 3 more (the same recipe). And many
    chat templates put in a system prompt of their own where none is given: SmolLM2's, Qwen 2.5's and Llama 3's are 20
    to 30 tokens, a hosted service's is none. Measured on the embedded SmolLM2: 28 around each prompt without a system
    prompt (200 lines of the sample, by least squares).
    """

    turns: float = 1.0
    systems: float = 0.0

    @property
    def around(self) -> tuple[float, float, float]:
        """Tokens around the texts of one line: low, middle, high."""
        low, mid, high = (
            (self.turns + self.systems) * marks + reply + (1 - self.systems) * own
            for marks, reply, own in zip(MARKS, REPLY, OWN_SYSTEM, strict=True)
        )
        return low, mid, high


ONE = Talk()


def talk_of(asks: Sequence[Ask]) -> Talk:
    """What the lines of a file are made of, by some of them."""
    if not asks:
        return ONE
    n = len(asks)
    return Talk(sum(len(ask.messages) for ask in asks) / n, sum(bool(ask.system) for ask in asks) / n)


def inputs(past: Sequence[RecentCall], chars: int, n: int, talk: Talk = ONE) -> Tokens:
    """Input tokens of ``n`` lines with ``chars`` characters together, what is sent around them included.

    From recorded calls, which are of one turn each. How many of their tokens stand around a prompt can be told only
    where prompts differ in length; else the range is everything that it can be.
    """
    calls = [
        (float(n_chars), float(tokens))
        for row in past
        if row["usage_source"] == "provider" and (n_chars := row.get("chars")) and (tokens := usage_of(row).input_total)
    ]
    if len(calls) < ENOUGH:
        return _by_thumb(chars, n, len(calls), talk)
    measured = np.asarray(calls)
    ways, note = _ways(measured)
    around, rate = ways[0]
    spread = measured[:, 1] / np.maximum(around + rate * measured[:, 0], 1.0)
    low, high = (float(x) for x in np.quantile(spread, (0.1, 0.9)))
    estimates_each = [start * n + per * chars for start, per in ways]
    turn_marks = [max(talk.turns - 1, 0) * marks * n for marks in MARKS]
    text = rate * chars * OTHER_TEXT
    bounds = (
        min(estimates_each) * min(low, 1.0) - text,
        estimates_each[0],
        max(estimates_each) * max(high, 1.0) + text,
    )
    low_tokens, middle, high_tokens = (
        _at_least(bound + marks, n) for bound, marks in zip(bounds, turn_marks, strict=True)
    )
    return Tokens(low_tokens, middle, high_tokens, (f"Input tokens: from {len(calls):,} recorded calls, {note}.",))


def _by_thumb(chars: int, n: int, recorded: int, talk: Talk) -> Tokens:
    around = talk.around
    note = (
        f"Input tokens: about 4 characters per token and {around[1]:,.0f} more around each line, which is an estimate "
        f"(3 to 5, and {around[0]:,.0f} to {around[2]:,.0f}): {few_words(recorded, 'calls')}."
    )
    low, mid, high = (
        _at_least(chars / per + marks * n, n)
        for per, marks in zip((LOOSE, CHARS_PER_TOKEN, DENSE), around, strict=True)
    )
    return Tokens(low, mid, high, (note,))


def few_words(recorded: int, noun: str) -> str:
    """Why nothing can be told from what was recorded of a deployment; ``noun``: "calls", "answers"."""
    if not recorded:
        return f"this deployment has no recorded {noun}"
    single = recorded == 1
    some = noun.removesuffix("s") if single else noun
    return f"{recorded} recorded {some} of this deployment {'is' if single else 'are'} too few"


def _ways(measured: NDArray[np.float64]) -> tuple[list[tuple[float, float]], str]:
    """(tokens around each prompt, tokens per character) as they may be, the likeliest first, and that in words.

    Short prompts are mostly what a service puts around them, so a plain ratio from short ones would be several times
    too much for long ones, and one from long ones too little for short ones.
    """
    chars, tokens = measured[:, 0], measured[:, 1]
    if len(measured) >= FITTED and chars.max() >= ALIKE * chars.min():
        rate, around = np.polyfit(chars, tokens, 1)
        if 1 / 12 <= rate <= 2 and around >= 0:
            about = f", and {around:,.0f} more around each line" if around >= 1 else ""
            return [(float(around), float(rate))], f"{1 / rate:.1f} characters per token{about}"
    tokens_each, length = float(tokens.mean()), float(chars.mean())
    ratio = tokens_each / length
    ways = [
        (tokens_each - length / per, 1 / per) for per in (CHARS_PER_TOKEN, LOOSE, DENSE) if tokens_each >= length / per
    ]
    if not ways or ratio <= DENSEST:
        ways.append((0.0, ratio))
    around = min(ways[0][0], MOST_AROUND)
    if (tokens_each - around) / length <= DENSEST:  # more than a template puts around: the text itself is dense
        ways.insert(0, (around, (tokens_each - around) / length))
    return ways, f"{1 / ratio:.1f} characters per token with what is sent around them"


def _at_least(tokens: float, n: int) -> int:
    return max(round(tokens), n)


def outputs(past: Sequence[RecentCall], n: int, limit: float | None) -> Tokens:
    """Output tokens of ``n`` lines, reasoning included because it is billed as output. ``limit``: of one line.

    With history: every line like the mean of the recorded answers (a sum follows the mean, not the median); the range
    is every line like the shortest tenth and like the longest. Without: from nothing to the limit.
    """
    recorded = [float(tokens) for row in past if (tokens := usage_of(row).output_total) is not None]
    if len(recorded) < ENOUGH:
        return _unknown(n, limit, len(recorded))
    limited = np.minimum(np.asarray(recorded), limit if limit is not None else np.inf)
    low, middle, high = (float(x) for x in np.quantile(limited, (0.1, 0.5, 0.9)))
    mean = float(limited.mean())
    capped = f", none above the limit of {limit:,.0f}" if limit is not None else ""
    notes = [
        f"Output tokens: from {len(recorded):,} recorded answers, {mean:,.0f} on average (median {middle:,.0f}, most "
        f"between {low:,.0f} and {high:,.0f}){capped}."
    ]
    cut = sum(1 for row in past if row.get("outcome") == "max_tokens")
    if cut > OFTEN * len(past):
        notes.append(f"{cut:,} of those answers stopped at their own limit: yours can be longer.")
    if any(row["usage_source"] != "provider" for row in past):
        notes.append("Some of those counts are our own estimates.")
    return Tokens(round(min(low, mean) * n), round(mean * n), round(max(high, mean) * n), tuple(notes))


def _unknown(n: int, limit: float | None, recorded: int) -> Tokens:
    few = few_words(recorded, "answers")
    if limit is None:
        note = (
            f"Output tokens: not known, because {few} and nothing limits an answer: set “Max output tokens” to bound "
            "the cost."
        )
        return Tokens(0, None, None, (note,))
    note = (
        f"Output tokens: {few}, so anything from 0 to the limit of {limit:,.0f} a line; the middle is a guess of half."
    )
    return Tokens(0, round(n * limit / 2), round(n * limit), (note,))


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
        database, checked, deployments, datetime.now(UTC), batch_services(), lanes=lanes, per_minute=per_minute
    )
    return [Way(by_id[estimate.deployment_id], estimate) for estimate in estimated]


def batch_services() -> list[Route]:
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
