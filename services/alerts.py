"""Alerts: a threshold on one figure over the last while, what fires and in which words, and how its notice is sent.

The three figures, and what a threshold is in:

* ``p95_ttft``: the 95th percentile of the time to first token of succeeded calls, in milliseconds, from 20 calls on;
* ``error_rate``: the share (0 to 1) of calls that failed, timed out, were throttled, cut off or lost, from 10 calls on.
  Stopped, denied and replayed calls count neither as errors nor as calls; a refusal of the model is an answer;
* ``spend_day``: US dollars over the last 24 hours, calls and hours of being on together.

With fewer calls an alert stays as it is: silence is no sign of health.

The address (``ALERT_WEBHOOK = "json://host/path"``, ``ALERT_MAIL = "mailto://…"``) is a secret of whoever runs this
server: it is looked up by name when it is needed, and no part of it is in what is returned, kept or logged.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypedDict, cast

import numpy as np
import pandas as pd

from db import sketch
from db.history import Pieces, Wanted
from db.models import Alert as AlertRow
from db.small_tables import AlertValues
from services.formatting import DASH, NANODOLLARS, joined, money, plural
from services.security import keys, outbound
from services.types import JsonMapping

TITLE = "Inference Lab"

_STATUS = re.compile(r"error\s*=\s*(\d{3})\b|\b(\d{3}) \(")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one notice: whether it was taken, and the sentence about it. ``again``: another try may help."""

    ok: bool
    words: str
    again: bool = False


def targets() -> list[str]:
    """The names of the variables that an alert can be sent to."""
    return keys.names(TARGET_PREFIX)


def send(target: str, body: str, title: str = TITLE) -> Delivery:
    """Send one notice and wait for its end, which can take a minute: call it in a thread. Never raises."""
    address = keys.lookup(target) if target.startswith(TARGET_PREFIX) else None
    if address is None:
        return Delivery(False, f"{target} is not set any more, so nothing was sent to it")
    outbound.for_libraries()
    # Its import takes a while, and most installations never send anything.
    import apprise

    # Its own messages can name hosts and parts of addresses; they are read here and go no further.
    logging.getLogger("apprise").propagate = False
    sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id=TITLE, app_desc=TITLE, storage_mode="memory"))
    try:
        if not sender.add(address):
            return Delivery(False, f"{target} does not hold an address that can be sent to")
        with apprise.LogCapture(level=logging.WARNING) as captured:  # type: ignore[no-untyped-call]
            ok = bool(sender.notify(body=keys.scrub(body), title=title, body_format=apprise.NotifyFormat.TEXT))
            why = _why(captured.getvalue())
    except Exception as error:
        ok, why = False, type(error).__name__
    if ok:
        return Delivery(True, f"sent to {target}")
    return Delivery(False, f"{target} did not accept it ({why})", again=True)


def _why(output: str) -> str:
    status = _STATUS.search(output)
    if status:
        return status[1] or status[2]
    if "onnection" not in output:
        return "no reason given"
    through = outbound.settings()
    return f"no connection; the proxy of {through[0]} may be in the way" if through else "no connection"


Metric = Literal["p95_ttft", "error_rate", "spend_day"]

METRICS: Mapping[Metric, str] = {
    "p95_ttft": "p95 time to first token",
    "error_rate": "Error rate",
    "spend_day": "Spend in 24 hours",
}

NEEDED: Mapping[Metric, int] = {"p95_ttft": 20, "error_rate": 10, "spend_day": 0}

ERRORS = frozenset({"failed", "timed_out", "throttled", "cut_off", "lost"})

UNCOUNTED = frozenset({"cancelled", "denied", "replayed"})

DAY_S = 86_400

SHORTEST_S, LONGEST_S = 60, 7 * DAY_S

LONGEST_NAME = 80


# The largest limit that can be meant, in the unit of a threshold and in words; that of an error rate is below 100 %.
MOST: Mapping[Metric, tuple[float, str]] = {
    "p95_ttft": (3_600_000.0, "3,600 s"),
    "spend_day": (1_000_000.0, "$1,000,000"),
}


NOT_ENOUGH = "not enough calls"

TARGET_PREFIX = "ALERT_"


class AlertJson(AlertValues):
    """A kept alert on the wire."""

    id: str
    person: str
    created_at: str
    firing: bool
    checked_at: str | None
    value: float | None
    n: int | None


class EventJson(TypedDict):
    """An alert that began or ended, on the wire."""

    id: str
    alert_id: str
    at: str
    firing: bool
    value: float | None
    n: int | None
    sentence: str | None
    delivered: str | None


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold that is watched. ``targets``: names of variables that hold addresses (`services.alerts`)."""

    metric: Metric
    threshold: float
    window_s: int
    deployments: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    name: str = ""
    enabled: bool = True
    id: str = ""
    firing: bool = False

    @classmethod
    def of(cls, row: AlertRow) -> Alert:
        """An alert as it is kept. Raises ValueError in words when it cannot be watched."""
        return cls.from_row(row.model_dump())

    @classmethod
    def from_row(cls, row: JsonMapping) -> Alert:
        """An alert as a request holds it. Raises ValueError in words when it cannot be watched."""
        metric = row.get("metric")
        if not isinstance(metric, str) or metric not in METRICS:
            raise ValueError(f"An alert watches one of {', '.join(METRICS)}.")
        try:
            threshold, window = float(row["threshold"]), int(row.get("window_s") or DAY_S)
        except (KeyError, TypeError, ValueError):
            raise ValueError("The threshold and the window of an alert are numbers.") from None
        if any(not isinstance(row.get(name) or [], list | tuple) for name in ("deployments", "targets")):
            raise ValueError("The deployments and targets of an alert are lists of names.")
        alert = cls(
            metric=cast(Metric, metric),
            threshold=threshold,
            window_s=DAY_S if metric == "spend_day" else window,
            deployments=_texts(row.get("deployments")),
            targets=_texts(row.get("targets")),
            name=" ".join(str(row.get("name") or "").split())[:LONGEST_NAME],
            enabled=bool(row.get("enabled", True)),
            id=str(row.get("id") or ""),
            firing=bool(row.get("firing")),
        )
        alert._check()
        return alert

    def _check(self) -> None:
        if not math.isfinite(self.threshold) or self.threshold <= 0:
            raise ValueError("The threshold of an alert is a number above 0.")
        if self.metric == "error_rate" and self.threshold >= 1:
            raise ValueError("The threshold of an error rate lies below 100 %.")
        if not SHORTEST_S <= self.window_s <= LONGEST_S:
            raise ValueError("An alert looks back between 1 minute and 7 days.")

    def to_values(self) -> AlertValues:
        """What `db.small_tables.save` keeps."""
        return {
            "name": self.name,
            "metric": self.metric,
            "threshold": self.threshold,
            "window_s": self.window_s,
            "deployments": list(self.deployments),
            "targets": list(self.targets),
            "enabled": self.enabled,
        }


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure and the number of calls it rests on. None: there is none, or too few calls. ``bounded``: some of the
    spend is a lower bound, so the sum is one."""

    value: float | None
    n: int
    bounded: bool = False


def _texts(values: object) -> tuple[str, ...]:
    return tuple(str(value) for value in values) if isinstance(values, list | tuple) else ()


def sentence(alert: Alert, measured: Measured, names: Mapping[str, str], *, above: bool) -> str:
    """ "p95 time to first token of Haiku was 2.31 s over the last 15 min (412 calls): above 2 s." """
    whose = (
        f" of {joined([names.get(deployment_id, deployment_id) for deployment_id in alert.deployments])}"
        if alert.deployments
        else ""
    )
    n = plural(measured.n, "call")
    prefix = "at least " if measured.bounded else ""
    was = f"was {prefix}{amount(alert.metric, measured.value)}"
    limit = amount(alert.metric, alert.threshold)
    end = f"above {limit}" if above else f"no longer above {limit}"
    return f"{METRICS[alert.metric]}{whose} {was} over the last {span(alert.window_s)} ({n}): {end}."


def amount(metric: Metric, value: float | None) -> str:
    """A figure with its unit: "2.31 s", "480 ms", "4.2 %", "$12.50"; "–" for none."""
    if value is None:
        return DASH
    if metric == "spend_day":
        return money(round(value * NANODOLLARS))
    if metric == "error_rate":
        return f"{value * 100:.3g} %"
    return f"{value / 1000:.3g} s" if value >= 1000 else f"{value:.3g} ms"


def span(seconds: int) -> str:
    """ "15 min", "24 hours", "7 days"."""
    for size, word in ((DAY_S, "day"), (3600, "hour"), (60, "min")):
        if seconds >= size * (2 if word == "day" else 1) and seconds % size == 0:
            n = seconds // size
            return f"{n} {word}{'s' if n != 1 and word != 'min' else ''}"
    return f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an alert fires after an evaluation. ``changed``: it began or ended, and ``sentence`` is its notice."""

    firing: bool
    changed: bool
    sentence: str


def check_limit(metric: Metric, threshold: float) -> None:
    """Raises ValueError in words for a limit that nobody can mean. Only a new one is held to the upper bound: an alert
    that was kept before there was one can still be read."""
    if not threshold > 0:
        raise ValueError("The limit has to be above 0.")
    highest, words = MOST.get(metric, (math.inf, ""))
    if threshold > highest:
        raise ValueError(f"The limit of this figure is at most {words}.")


def check_targets(targets: Collection[str], allowed: Collection[str]) -> None:
    """Raises ValueError in words for a target that is not the name of a variable that holds an address.

    Only names that begin with ALERT_ are looked up: a page must not find out which other variables there are.
    """
    for name in targets:
        if name not in allowed:
            raise ValueError(
                f'There is no variable {name[:60]} to send to: put an address like ALERT_WEBHOOK = "json://…" into '
                "the environment or .streamlit/secrets.toml; its name begins with ALERT_."
            )


def wanted(alert: Alert, now: datetime) -> Wanted:
    """The calls that an alert looks at now."""
    return Wanted(now - timedelta(seconds=alert.window_s), now, deployments=alert.deployments)


def sketches_of(metric: Metric) -> Sequence[str]:
    """The sketches that `db.history.pieces` has to bring for a figure."""
    return ("ttft",) if metric == "p95_ttft" else ()


def measure(alert: Alert, pieces: Pieces, hours_nanousd: int = 0) -> Measured:
    """The figure of an alert from the calls it looks at; ``hours_nanousd``: what being on cost meanwhile."""
    if alert.metric == "p95_ttft":
        measured = _p95(pieces)
    elif alert.metric == "error_rate":
        measured = _errors(pieces)
    else:
        spent, n, bounded = (_sum(pieces, name) for name in ("cost_nanousd", "n", "n_bounded"))
        measured = Measured((spent + hours_nanousd) / NANODOLLARS, n, bounded > 0)
    return measured if measured.n >= NEEDED[alert.metric] else Measured(None, measured.n)


def _p95(pieces: Pieces) -> Measured:
    loose = pieces.calls["ttft"].dropna().to_numpy(dtype=float)
    packed = [sketch.unpack(cell) for cell in pieces.cells["ttft"]] if len(pieces.cells) else []
    if not any(unpacked.n for unpacked in packed):
        # Interpolated between ranks, as on the page (`services.runs.compare`): both have to name the same figure.
        return Measured(float(np.quantile(loose, 0.95)) if len(loose) else None, len(loose))
    merged = sketch.merged([*packed, sketch.of_values(list(loose))])
    return Measured(merged.quantile(0.95), merged.n)


def _errors(pieces: Pieces) -> Measured:
    counted: dict[str, int] = {}
    for frame in (pieces.cells, pieces.calls):
        if len(frame):
            for state, n in frame.groupby("state")["n"].sum().items():
                counted[str(state)] = counted.get(str(state), 0) + int(n)
    total = sum(n for state, n in counted.items() if state not in UNCOUNTED)
    wrong = sum(n for state, n in counted.items() if state in ERRORS)
    return Measured(wrong / total if total else None, total)


def _sum(pieces: Pieces, name: str) -> int:
    return sum(int(pd.to_numeric(frame[name]).sum()) for frame in (pieces.cells, pieces.calls) if len(frame))


def judge(alert: Alert, measured: Measured, names: Mapping[str, str]) -> Verdict:
    """Whether an alert fires now: it begins when the figure is above the threshold, once, and ends when one evaluation
    finds it at or below. ``names``: deployment ids to names."""
    if measured.value is None:
        return Verdict(alert.firing, False, f"{NOT_ENOUGH}: {measured.n} of {NEEDED[alert.metric]}")
    above = measured.value > alert.threshold
    return Verdict(above, above != alert.firing, sentence(alert, measured, names, above=above))
