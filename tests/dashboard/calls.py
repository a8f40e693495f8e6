"""Calls across the end of summer time (25 October 2026) and the end of the month, and ways to record them."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

from db import rollups, runs
from db.models import DeploymentRow
from db.writer import Writer
from services.types import Deployment, PriceRef
from tests.db.rows import call_row, do, run_row

START = datetime(2026, 10, 20, 21, 17, 5, tzinfo=UTC)
SPAN = timedelta(days=14)
NOW = START + SPAN
ZONE = "Europe/Berlin"
N = 900
STATES = ["succeeded"] * 8 + ["failed", "throttled", "cancelled"]
TEAMS = {"search": ("Ada", "bob"), "support": ("cyd",)}
TAGS = {3: ["workshop"], 5: ["workshop", "haiku"]}


def make_calls(n: int = N, seed: int = 1) -> list[dict[str, Any]]:
    """``n`` ended calls of three deployments, four people and two sources."""
    dice = random.Random(seed)
    return [_call(dice, number) for number in range(n)]


def _call(dice: random.Random, number: int) -> dict[str, Any]:
    state = dice.choice(STATES)
    parts = {name: dice.randrange(10**7) for name in rollups.COUNTS if dice.random() < 0.6}
    cost = None if dice.random() < 0.2 else sum(parts.values())
    deployment = dice.choice("abc")
    return call_row(
        f"c{number}",
        f"r{number % 7}",
        state=state,
        outcome="ok" if state == "succeeded" else state,
        created_at=START + SPAN * dice.random(),
        deployment_id=deployment,
        kind="openai",
        model=f"model {deployment}",
        deployment={"id": deployment, "name": deployment.upper()},
        person=dice.choice(["ada", "bob", "cyd", "dan"]),
        source=dice.choice(["playground", "batch"]),
        ttft_ms=dice.lognormvariate(5, 1),
        tpot_ms=None,
        ttlt_ms=dice.lognormvariate(8, 1),
        decode_tps=80.0,
        end_ms=dice.uniform(10, 9000),
        uncached_input=dice.randrange(3000),
        answer_output=dice.randrange(900),
        cache_read=dice.choice([None, 0, 500]),
        cost_state="no_price" if cost is None else dice.choice(["exact", "lower_bound"]),
        cost_nanousd=cost,
        cost_drivers={} if cost is None else parts,
        plain_nanousd=None if cost is None else cost + dice.randrange(10**6),
        usage_source="provider",
        lag_marked=dice.random() < 0.05,
    )


def fill(writer: Writer, rows: list[dict[str, Any]] | None = None) -> None:
    """Record calls with their runs and the deployments a, b, c."""
    for number in range(7):
        do(writer, runs.insert_run, values=run_row(f"r{number}", tags=TAGS.get(number, [])))
    made = make_calls() if rows is None else rows
    for start in range(0, len(made), 300):
        do(writer, runs.insert_calls, rows=made[start : start + 300])
    for slot, name in enumerate("abc"):
        declare(
            writer,
            Deployment(
                id=name,
                name=name.upper(),
                kind="openai",
                model=f"model {name}",
                base_url="http://localhost:1",
                wire="chat",
                key_env=None,
            ),
            slot,
        )


def declare(writer: Writer, deployment: Deployment, slot: int, price: PriceRef | None = None) -> None:
    """Put a deployment into its table."""
    spec = deployment.to_json()
    row = DeploymentRow(id=deployment.id, spec=spec, origin="page", color_slot=slot, created_at=START, updated_at=START)
    do(writer, lambda *, session: session.merge(row) and None)


def fold_all(writer: Writer, most: int | None = None) -> None:
    """Roll everything up, or at least that many."""
    done = 0
    while (most is None or done < most) and (added := do(writer, rollups.fold, limit=350)):
        done += added
