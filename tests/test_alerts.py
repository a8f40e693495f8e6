"""What an alert measures, when it fires and ends, and in which words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from db import sketch
from db.history import Pieces
from db.rollups import KEYS, SUMS
from services import alerts
from services.alerts import Alert, Measured, judge, measure

SLOW = Alert("p95_ttft", 2000.0, 900, deployments=("h",))
WRONG = Alert("error_rate", 0.05, 3600)
SPEND = Alert("spend_day", 12.5, 86_400)
NAMES = {"h": "Haiku"}


def pieces(calls: list[dict[str, Any]], cells: list[dict[str, Any]] = ()) -> Pieces:  # type: ignore[assignment]
    columns = [*KEYS, *SUMS, "ttft"]
    return Pieces(_frame(cells, columns), _frame(calls, columns), not cells, None)


def _frame(rows: Any, columns: list[str]) -> pd.DataFrame:
    usual = dict.fromkeys(SUMS, 0) | {"n": 1, "state": "succeeded", "ttft": np.nan}
    return pd.DataFrame([usual | row for row in rows], columns=columns)


def fast(n: int, ttft: float = 400.0) -> list[dict[str, Any]]:
    return [{"ttft": ttft} for _ in range(n)]


def test_a_p95_needs_twenty_calls_and_counts_only_those_with_a_time() -> None:
    nineteen = pieces([*fast(19), {"state": "failed"}])
    assert measure(SLOW, nineteen) == Measured(None, 19)
    assert measure(SLOW, pieces(fast(20))) == Measured(400.0, 20)


def test_a_p95_of_cells_and_calls_together_is_that_of_all_their_values() -> None:
    values = np.random.default_rng(1).lognormal(6, 0.8, 400)
    cells = [{"n": 300, "ttft": sketch.of_values(list(values[:300])).pack()}]
    found = measure(SLOW, pieces([{"ttft": value} for value in values[300:]], cells))
    assert found.n == 400
    assert found.value == pytest.approx(np.quantile(values, 0.95, method="lower"), rel=sketch.RELATIVE_ERROR * 1.01)


def test_an_error_rate_leaves_out_what_people_stopped_and_counts_refusals_as_answers() -> None:
    calls = [{"state": state} for state in ["succeeded"] * 6 + ["refused"] * 2 + ["failed", "throttled"]]
    calls += [{"state": state} for state in ("cancelled", "denied", "replayed")]
    assert measure(WRONG, pieces(calls)) == Measured(0.2, 10)
    assert measure(WRONG, pieces(calls[1:])) == Measured(None, 9)
    cells = [{"state": "lost", "n": 10, "ttft": None}]
    assert measure(WRONG, pieces(calls, cells)) == Measured(0.6, 20)


def test_spend_is_calls_and_hours_together_and_known_without_any_call() -> None:
    calls = [{"cost_nanousd": 1_500_000_000}, {"cost_nanousd": 500_000_000, "n_bounded": 1}]
    assert measure(SPEND, pieces(calls), 10_000_000_000) == Measured(12.0, 2, bounded=True)
    assert measure(SPEND, pieces([])) == Measured(0.0, 0)


def test_it_fires_once_when_it_crosses_and_ends_when_it_is_no_longer_above() -> None:
    alert, told = SLOW, []
    for value in (1900.0, 2100.0, 2200.0, None, 2001.0, 2000.0, 1500.0):
        verdict = judge(alert, Measured(value, 5 if value is None else 30), NAMES)
        told.append((verdict.firing, verdict.changed))
        alert = replace(alert, firing=verdict.firing)
    assert told == [
        (False, False),
        (True, True),
        (True, False),
        (True, False),
        (True, False),
        (False, True),
        (False, False),
    ]


def test_too_few_calls_end_nothing_and_begin_nothing_and_say_so() -> None:
    for firing in (True, False):
        verdict = judge(replace(SLOW, firing=firing), Measured(None, 7), NAMES)
        assert (verdict.firing, verdict.changed) == (firing, False)
        assert verdict.sentence == "not enough calls: 7 of 20"


@pytest.mark.parametrize(
    ("alert", "measured", "sentence"),
    [
        (
            SLOW,
            Measured(2314.0, 412),
            "p95 time to first token of Haiku was 2.31 s over the last 15 min (412 calls): above 2 s.",
        ),
        (
            replace(SLOW, deployments=("h", "x"), threshold=350.0),
            Measured(300.0, 20),
            "p95 time to first token of Haiku and x was 300 ms over the last 15 min (20 calls): "
            "no longer above 350 ms.",
        ),
        (WRONG, Measured(0.0612, 1_234), "Error rate was 6.12 % over the last 1 hour (1,234 calls): above 5 %."),
        (
            SPEND,
            Measured(13.0, 1, bounded=True),
            "Spend in 24 hours was at least $13.00 over the last 24 hours (1 call): above $12.50.",
        ),
    ],
)
def test_a_sentence_has_the_figure_its_unit_its_calls_and_the_threshold(
    alert: Alert, measured: Measured, sentence: str
) -> None:
    assert judge(replace(alert, firing="no longer" in sentence), measured, NAMES).sentence == sentence


@pytest.mark.parametrize(
    "row",
    [
        {"metric": "p50_ttft", "threshold": 1},
        {"metric": "p95_ttft", "threshold": 0},
        {"metric": "p95_ttft", "threshold": "nan"},
        {"metric": "p95_ttft", "threshold": "much"},
        {"metric": "p95_ttft"},
        {"metric": "p95_ttft", "threshold": 1, "window_s": 1},
        {"metric": "p95_ttft", "threshold": 1, "window_s": 10**9},
        {"metric": "error_rate", "threshold": 5},
    ],
)
def test_an_alert_that_cannot_be_watched_is_refused_in_words(row: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"^An alert|^The threshold"):
        Alert.from_row(row)


def test_an_alert_comes_back_from_its_row_as_it_was() -> None:
    made = replace(SLOW, id="a", name="Slow", targets=("ALERT_WEBHOOK",))
    assert Alert.from_row(made.to_values() | {"id": "a", "firing": False}) == made
    assert Alert.from_row({"metric": "spend_day", "threshold": "3", "window_s": 60}).window_s == 86_400


def test_only_a_variable_that_is_there_can_be_a_target() -> None:
    alerts.check_targets(["ALERT_A"], ["ALERT_A", "ALERT_B"])
    for target in ("ALERT_C", "ANTHROPIC_API_KEY", "json://host/path"):
        with pytest.raises(ValueError, match="There is no variable"):
            alerts.check_targets([target], ["ALERT_A"])
