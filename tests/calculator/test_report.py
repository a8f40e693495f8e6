"""What is taken away of an answer: JSON, CSV and the report say what the answer says, and nothing runs in them."""

from __future__ import annotations

import csv
import io
import json
from datetime import date

from services.calculator import report
from services.calculator.types import Answer, Fact, Objectives, Option, Range, Spread, Way, Workload

COSTS = Range(90.0, 100.0, 120.0)


def _option(name: str, **changes: object) -> Option:
    values: dict[str, object] = {
        "id": name,
        "way": Way.EC2,
        "title": name,
        "model": "m",
        "cached": False,
        "batched": False,
        "monthly_usd": COSTS,
        "per_1000_usd": None,
        "per_mtok_usd": None,
        "ttft_p50_s": None,
        "ttft_p95_s": Range(0.1, 0.2, 0.3),
        "ttlt_p50_s": None,
        "ttlt_p95_s": None,
        "timed": "estimated",
        "utilisation": None,
        "replicas": (1,) * 24,
        "full_at_rpm": 50.0,
        "largest_output": None,
        "drivers": {},
        "misses": (),
        "infeasible": None,
        "missing": (),
        "would_win": None,
        "facts": (Fact("Price", "$1.2", "a | list", "2026-11-01", "list"),),
    }
    return Option(**(values | changes))  # type: ignore[arg-type]  # the fields of an option


ANSWER = Answer(
    Workload(60.0, Spread(1000.0), Spread(300.0)),
    Objectives(),
    (
        _option("best"),
        _option("=cmd|'/c calc'!A0", misses=("First token too late.",)),
        _option("slow", timed="not known", ttft_p95_s=None, missing=("Latency not known.",)),
        _option("gone", infeasible="It does not fit.", monthly_usd=None),
    ),
    "best",
    True,
    None,
    ("One.", "Two.", "Three."),
    date(2026, 11, 24),
)


def test_json_has_every_option_with_its_ranges_and_unknown_is_null() -> None:
    found = json.loads(json.dumps(report.as_json(ANSWER)))
    assert [one["meets"] for one in found["options"]] == [True, False, None, False]
    assert found["options"][0]["monthly_usd"] == {"low": 90.0, "mid": 100.0, "high": 120.0}
    assert found["options"][3]["monthly_usd"] is None
    assert found["workload"]["input_tokens"] == {"median": 1000.0, "sigma": 0.0}
    assert len(found["workload"]["shape"]) == 24


def test_csv_has_a_line_for_each_option_and_no_formula() -> None:
    rows = list(csv.DictReader(io.StringIO(report.as_csv(ANSWER))))
    assert [row["objectives"] for row in rows] == ["meets", "misses", "not known", "cannot be done"]
    assert rows[0]["monthly_usd_mid"] == "100.0"
    assert rows[3]["monthly_usd_mid"] == ""
    assert not any(value.startswith("=") for row in rows for value in row.values())


def test_the_report_marks_estimates_and_interprets_nothing() -> None:
    page = report.as_markdown(ANSWER, address="http://localhost/calculator?rpm=60")
    assert "~$100 ($90.00–120)" in page
    assert "a \\| list" in page
    assert "=cmd|" not in page
    assert "http://localhost/calculator?rpm=60" in page
    assert "It does not fit" in page


def test_scenarios_side_by_side_have_a_line_each() -> None:
    lines = report.comparison({"now": ANSWER})
    assert [(one["scenario"], one["choice"], one["monthly_usd"]) for one in lines] == [("now", "best", COSTS)]
