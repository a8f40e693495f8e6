"""The answer: every option, best first, with what is chosen, whether that is stable, and what each other would need."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from services.calculator import options_api, options_hourly, options_provisioned, sentences, stability, winning
from services.calculator.assumptions import Assumptions
from services.calculator.catalog import merged
from services.calculator.status import standing
from services.calculator.types import Answer, Objectives, Option, Workload

__all__ = ["answer", "calculate", "ranked", "standing"]


def calculate(
    workload: Workload,
    objectives: Objectives,
    *,
    assumptions: Assumptions | None = None,
    measured: Any = None,
    today: date | None = None,
) -> Answer:
    """All options for a workload, ranked by what they cost a month among those that meet the objectives."""
    given, limits = assumptions or Assumptions(), applied(workload, objectives)
    catalog = merged(given.own)
    found = [
        *options_api.options(workload, limits, given, catalog, measured),
        *options_provisioned.options(workload, limits, given, catalog, measured),
        *options_hourly.options(workload, limits, given, catalog, measured),
    ]
    return answer(_wanted(found, limits, given), workload, limits, today or datetime.now(UTC).date())


def applied(workload: Workload, objectives: Objectives) -> Objectives:
    """The limits that any request has: where all may wait for batch, no time has to be held."""
    return replace(objectives, ttft_s=None, ttlt_s=None) if workload.batch_share >= 1 else objectives


def answer(found: Iterable[Option], workload: Workload, objectives: Objectives, today: date) -> Answer:
    """The answer from options that were computed."""
    options = ranked(found, objectives)
    chosen = next((one for one in options if standing(one, objectives) == 0), None)
    stable, why = stability.stable(chosen, options, objectives, workload)
    told = winning.told(chosen, options, workload, objectives)
    made = Answer(workload, objectives, told, None if chosen is None else chosen.id, stable, why, (), today)
    return replace(made, sentences=sentences.sentences(made))


def ranked(found: Iterable[Option], objectives: Objectives) -> tuple[Option, ...]:
    """Best first: those that meet all, then those whose latency is not known, those that miss, the infeasible."""
    return tuple(sorted(found, key=lambda one: (standing(one, objectives), _usd(one), one.id)))


def _usd(option: Option) -> float:
    return float("inf") if option.monthly_usd is None else option.monthly_usd.mid


def _wanted(found: Sequence[Option], objectives: Objectives, given: Assumptions) -> list[Option]:
    models = objectives.models if objectives.models is not None else given.models
    return [
        one
        for one in found
        if (models is None or one.model in models) and (given.ways is None or one.way in given.ways)
    ]
