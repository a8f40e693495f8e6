"""What our own recorded calls say: how fast each deployment answered, the workload they make up, and who was voted for.

Only succeeded calls count, and for times only those whose stamps can be trusted and that were sent one by one.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import Engine, func, select
from sqlmodel import col

from db import history as calls_of_history
from db import run_queries
from db.history import Wanted
from db.models import Vote
from services.aws.bedrock_ids import parsed, same_model
from services.calculator import catalog
from services.calculator.assumptions import ApiSpeed
from services.calculator.types import FLAT, Reuse, Spread, Way, Workload
from services.deployments import config as deployment_files


def wins(engine: Engine) -> dict[str, int]:
    """Votes won by each family of the catalogue, most first. A deployment whose model the catalogue does not know is
    left out, as is a tie."""
    with engine.connect() as connection:
        rows = connection.execute(
            select(col(Vote.winner), func.count()).where(col(Vote.winner).is_not(None)).group_by(col(Vote.winner))
        ).all()
    models = {row.id: str((row.spec or {}).get("model") or "") for row in run_queries.deployment_rows(engine)}
    counted: Counter[str] = Counter()
    for deployment_id, n in rows:
        if family := family_of(models.get(deployment_id or "", "")):
            counted[family] += int(n)
    return dict(counted.most_common())


def family_of(model: str) -> str | None:
    """The family of what a deployment calls; None where the catalogue does not know it."""
    if not model:
        return None
    family = next((model_row.family for model_row in catalog.api_models() if model_row.model_ref == model), None)
    if family is not None:
        return family
    try:
        return catalog.llm(model).name
    except LookupError:
        return None


NEWEST = 20_000  # calls that are read

DAYS = 30

FEWEST, FEWEST_P95 = 5, 20  # calls for a median, and for a p95 or p10

NOT_ALONE = ("test", "batch", "load")  # sources whose times hold other things than the service's answer

FEWEST_GAPS = 30

WAYS: Mapping[str, str] = {
    "anthropic": "anthropic",
    "openai": "openai",
    "bedrock": "bedrock",
    "bedrock-provisioned": "bedrock_provisioned",
}

AT = ("anthropic", "openai")  # kinds that are a way only at the service's own address: others speak the wire too

CACHED = ("cache_read", "cache_write_5m", "cache_write_1h")

INPUT = ("uncached_input", *CACHED)

OUTPUT = ("reasoning_output", "answer_output")

Row = Mapping[str, object]

Read = Callable[[Row], float | None]


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployment as measured: seconds and output tokens a second; ``n`` calls. None: too few calls for it."""

    deployment_id: str
    name: str
    kind: str
    model: str
    n: int
    ttft_p50_s: float | None
    ttft_p95_s: float | None
    ttlt_p50_s: float | None
    ttlt_p95_s: float | None
    tok_s_p50: float | None
    tok_s_p10: float | None
    input_p50: float | None
    output_p50: float | None
    last: datetime


def last_days(days: int = DAYS, *, now: datetime | None = None) -> Wanted:
    """The stretch that is usually looked at."""
    end = now or datetime.now(UTC)
    return Wanted(end - timedelta(days=days), end + timedelta(seconds=1))


def workload(engine: Engine, selection: Wanted | None = None, *, zone: str = "UTC") -> Workload | None:
    """The workload of the recorded calls; None where there are too few of them."""
    recorded = history(engine, selection, zone=zone)
    return None if recorded is None else recorded.workload


def history(engine: Engine, selection: Wanted | None = None, *, zone: str = "UTC") -> FromHistory | None:
    """The recorded calls as a workload ("Use my history"), with what was found; None below five counted calls."""
    selected = selection or last_days()
    rows = [row for row in calls_of_history.recent(engine, selected, NEWEST) if row["source"] != "test"]
    input_tokens = _column(rows, _input)
    output_tokens = _column(rows, _output)
    if len(input_tokens) < FEWEST or len(output_tokens) < FEWEST:
        return None
    moments = [_moment(row) for row in rows]
    # The time before the first call is no quiet time of the workload: nothing was recorded then.
    start, end = moments[0], min(selected.end, datetime.now(UTC))
    minutes = max((end - start).total_seconds() / 60, 1.0)
    shape, whole_day = _shape(moments, ZoneInfo(zone), minutes)
    prefix = _prefix(rows)
    waiting = sum(row["source"] == "batch" for row in rows) / len(rows)
    work = Workload(
        len(rows) / minutes,
        _spread(input_tokens),
        _spread(output_tokens),
        shape,
        burstiness=_burstiness(moments),
        prefix_share=round(prefix or 0.0, 3),
        reuse=Reuse.STEADY,
        batch_share=round(waiting, 3),
    )
    total = calls_of_history.how_many(engine, selected)
    notes = [f"From {len(rows):,} recorded calls since {start:%Y-%m-%d}: the rate is their mean over that time."]
    if total > NEWEST:
        notes.append(f"Only the newest {NEWEST:,} of {total:,} were read.")
    if not whole_day:
        notes.append("They cover less than a day, so the day is taken as flat.")
    if prefix is None:
        notes.append("No service reported cached input, so the repeated share is taken as 0.")
    notes.append("How often a prefix comes again is not recorded: set it below.")
    return FromHistory(work, len(rows), start, end, tuple(notes))


def _sum(row: Row, names: Sequence[str]) -> float | None:
    values = [row[name] for name in names]
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    return sum(numbers) if numbers and sum(numbers) > 0 else None


def _input(row: Row) -> float | None:
    return _sum(row, INPUT)


def _output(row: Row) -> float | None:
    return _sum(row, OUTPUT)


def _column(rows: Sequence[Row], read: Read) -> list[float]:
    values = (read(row) for row in rows)
    return [value for value in values if value is not None]


def _moment(row: Row) -> datetime:
    value = row["created_at"]
    assert isinstance(value, datetime)
    return value if value.tzinfo else value.replace(tzinfo=UTC)


def _spread(values: Sequence[float]) -> Spread:
    logs = np.log(np.maximum(values, 1.0))
    return Spread(float(max(1.0, round(float(np.median(values))))), float(min(3.0, round(float(np.std(logs)), 3))))


def _shape(moments: Sequence[datetime], zone: ZoneInfo, minutes: float) -> tuple[tuple[float, ...], bool]:
    """Calls by hour of the day; flat below a whole day of calls."""
    if minutes < 24 * 60:
        return FLAT, False
    counts = np.bincount([moment.astimezone(zone).hour for moment in moments], minlength=24)
    return tuple(float(count) for count in counts), True


def _burstiness(moments: Sequence[datetime]) -> float:
    """Squared coefficient of variation of the times between calls, within an hour of the clock, so that quiet nights
    are no bunches. 1 (at random) where there are too few."""
    hours: dict[int, list[float]] = defaultdict(list)
    for moment in moments:
        hours[int(moment.timestamp() // 3600)].append(moment.timestamp())
    gaps: list[float] = []
    for times in hours.values():
        between = np.diff(times)
        if len(between) >= 2 and between.mean() > 0:
            gaps.extend((between / between.mean()).tolist())
    if len(gaps) < FEWEST_GAPS:
        return 1.0
    variance = float(np.var(gaps))
    return round(min(100.0, max(0.05, variance)), 2) if math.isfinite(variance) else 1.0


def _prefix(rows: Sequence[Row]) -> float | None:
    """The share of the input that a cache held or took in; None where no service reported any."""
    rows_with_cache = [row for row in rows if row["cache_read"] is not None and _input(row)]
    cached = sum(_sum(row, CACHED) or 0.0 for row in rows_with_cache)
    input_total = sum(_input(row) or 0.0 for row in rows_with_cache)
    return cached / input_total if rows_with_cache and input_total else None


@dataclass(frozen=True, slots=True)
class FromHistory:
    """The workload of recorded calls. ``sentences``: what it was made from, and what the calls do not tell."""

    workload: Workload
    n: int
    start: datetime
    end: datetime
    sentences: tuple[str, ...]


def of(engine: Engine, selection: Wanted | None = None) -> dict[str, ApiSpeed]:
    """Measured speeds for `rank.calculate`, by "way/model"; of a deployment whose price names its instance by
    "way/instance/model", which takes the place of the estimate for that machine."""
    rows = calls_of_history.recent(engine, selection or last_days(), NEWEST)
    specs = {row.id: row.spec or {} for row in run_queries.deployment_rows(engine)}
    homes = {deployment_id: str(spec.get("base_url") or "") for deployment_id, spec in specs.items()}
    machines = {deployment_id: _machine(spec) for deployment_id, spec in specs.items()}
    refs = _refs({(str(row["kind"]), str(row["model"])) for row in rows})
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        kind, home = str(row["kind"]), homes.get(str(row["deployment_id"]), "")
        own = kind not in AT or deployment_files.LISTED_AT.get(home.partition("://")[2].partition("/")[0]) == kind
        if _timed(row) and own and kind in WAYS:
            for ref in refs[kind, str(row["model"])]:
                groups[f"{WAYS[kind]}/{ref}"].append(row)
        if _timed(row) and (machine := machines.get(row["deployment_id"])):
            groups[machine].append(row)
    speeds = {key: _speed(group) for key, group in groups.items()}
    return {key: speed for key, speed in speeds.items() if speed is not None}


def deployments(engine: Engine, selection: Wanted | None = None) -> tuple[Deployed, ...]:
    """Every deployment that has calls, most calls first."""
    rows = calls_of_history.recent(engine, selection or last_days(), NEWEST)
    names = {row.id: row.name for row in run_queries.deployment_rows(engine)}
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if _timed(row):
            groups[str(row["deployment_id"])].append(row)
    deployed = [_deployed(key, names.get(key, key), group) for key, group in groups.items()]
    return tuple(sorted(deployed, key=lambda deployment: (-deployment.n, deployment.name)))


def counted(texts: Iterable[int]) -> Spread | None:
    """Token counts of prompts as a spread; None without any."""
    values = [float(length) for length in texts if length > 0]
    return _spread(values) if values else None


# --- parts -----------------------------------------------------------------------------------------------------------
def _timed(row: Row) -> bool:
    return row["source"] not in NOT_ALONE and not row["lag_marked"] and row["ttft_ms"] is not None


def _refs(called: Iterable[tuple[str, str]]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Under which names the catalogue knows what was called: Bedrock's models have one for each geography."""
    listed = [model_row.model_ref for model_row in catalog.api_models() if model_row.way == Way.BEDROCK]
    return {
        (kind, model): tuple(ref for ref in listed if _same(ref, model)) or (model,) if kind == "bedrock" else (model,)
        for kind, model in called
    }


def _machine(spec: Mapping[str, object]) -> str | None:
    """Under which name the ranking knows a machine that was measured; None where instance or model is not known."""
    price = spec.get("price")
    instance = str((price or {}).get("instance") or "") if isinstance(price, Mapping) else ""
    if not instance:
        return None
    try:
        model = catalog.llm(str(spec.get("model") or "")).name
    except LookupError:
        return None
    return f"{(Way.SAGEMAKER if instance.startswith('ml.') else Way.EC2).value}/{instance}/{model}"


def _same(listed: str, called: str) -> bool:
    ours, theirs = parsed(listed), parsed(called)
    return ours is not None and theirs is not None and same_model(ours.model, theirs.model)


def _speed(rows: Sequence[Row]) -> ApiSpeed | None:
    if len(rows) < FEWEST:
        return None
    ttft, speed = _column(rows, _seconds("ttft_ms")), _column(rows, _number("decode_tps"))
    last = max(_moment(row) for row in rows)
    return ApiSpeed(
        _quantile(ttft, 0.5, FEWEST),
        _quantile(ttft, 0.95, FEWEST_P95),
        _quantile(speed, 0.5, FEWEST),
        _quantile(speed, 0.1, FEWEST_P95),
        source="our own recorded calls",
        date=f"{last:%Y-%m-%d}",
        kind="measured",
        n=len(rows),
    )


def _deployed(key: str, name: str, rows: Sequence[Row]) -> Deployed:
    ttft, ttlt = _column(rows, _seconds("ttft_ms")), _column(rows, _seconds("ttlt_ms"))
    speed = _column(rows, _number("decode_tps"))
    newest = rows[-1]
    return Deployed(
        key,
        name,
        str(newest["kind"]),
        str(newest["model"]),
        len(rows),
        _quantile(ttft, 0.5, FEWEST),
        _quantile(ttft, 0.95, FEWEST_P95),
        _quantile(ttlt, 0.5, FEWEST),
        _quantile(ttlt, 0.95, FEWEST_P95),
        _quantile(speed, 0.5, FEWEST),
        _quantile(speed, 0.1, FEWEST_P95),
        _quantile(_column(rows, _input), 0.5, 1),
        _quantile(_column(rows, _output), 0.5, 1),
        max(_moment(row) for row in rows),
    )


def _number(name: str, factor: float = 1.0) -> Read:
    def read(row: Row) -> float | None:
        value = row[name]
        return float(value) * factor if isinstance(value, int | float) else None

    return read


def _seconds(name: str) -> Read:
    return _number(name, 0.001)


def _quantile(values: Sequence[float], q: float, fewest: int) -> float | None:
    return float(np.quantile(values, q)) if len(values) >= fewest else None
