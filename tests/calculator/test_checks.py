"""Bad input answers in words at its field, and in no other way."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from services.calculator import catalog, presets, rank, validation
from services.calculator.assumptions import Assumptions, Own
from services.calculator.types import Efficiency, Objectives, Range, Spread, Workload

GOOD = Workload(60.0, Spread(1000.0), Spread(300.0))
CONTEXTS = {"small": 8_192, "large": 200_000}


def _fields(workload: Workload, objectives: Objectives | None = None) -> dict[str, str]:
    found = validation.check(workload, objectives or Objectives(), contexts=CONTEXTS)
    return {one.field: one.sentence for one in found}


@pytest.mark.parametrize("preset", presets.PRESETS, ids=lambda one: one.id)
def test_every_preset_can_be_calculated(preset: presets.Preset) -> None:
    assert validation.check(preset.workload, preset.objectives, Assumptions()) == []


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"rpm": 0.0}, "workload.rpm", "above 0"),
        ({"rpm": -3.0}, "workload.rpm", "above 0"),
        ({"rpm": 1e9}, "workload.rpm", "1,000,000"),
        ({"rpm": math.nan}, "workload.rpm", "nan"),
        ({"rpm": math.inf}, "workload.rpm", "inf"),
        ({"rpm": "many"}, "workload.rpm", "many"),
        ({"input_tokens": Spread(0.0)}, "workload.input_tokens", "at least 1"),
        ({"output_tokens": Spread(-5.0)}, "workload.output_tokens", "at least 1"),
        ({"input_tokens": Spread(1000.0, 9.0)}, "workload.input_tokens", "at most 3"),
        ({"input_tokens": Spread(1e12)}, "workload.input_tokens", "10,000,000"),
        ({"output_tokens": Spread(250_000.0)}, "workload.output_tokens", "200,000"),
        ({"shape": ()}, "workload.shape", "24 hours"),
        ({"shape": (0.0,) * 24}, "workload.shape", "nothing is ever asked"),
        ({"shape": (1.0,) * 23}, "workload.shape", "23"),
        ({"shape": (1.0,) * 23 + (-1.0,)}, "workload.shape", "Hour 23"),
        ({"shape": (math.nan,) * 24}, "workload.shape", "Hour 0"),
        ({"burstiness": 0.0}, "workload.burstiness", "above 0"),
        ({"prefix_share": 80.0}, "workload.prefix_share", "80 %"),
        ({"batch_share": -0.1}, "workload.batch_share", "at least 0"),
        ({"reuse": "sometimes"}, "workload.reuse", "burst"),
        ({"calls_per_session": 0.0}, "workload.calls_per_session", "at least 1"),
        ({"peak_concurrency": 0}, "workload.peak_concurrency", "at least 1"),
        ({"months": 7}, "workload.months", "36"),
    ],
)
def test_a_bad_workload_is_said_at_its_field_alone(change: dict[str, object], field: str, word: str) -> None:
    found = _fields(replace(GOOD, **change))  # type: ignore[arg-type]  # wrong on purpose
    assert set(found) == {field}
    assert word in found[field]
    assert found[field].endswith(".")


@pytest.mark.parametrize(
    ("objectives", "field"),
    [
        (Objectives(ttft_s=0.0), "objectives.ttft_s"),
        (Objectives(ttft_s=math.nan), "objectives.ttft_s"),
        (Objectives(ttft_s=3.0, ttlt_s=1.0), "objectives.ttlt_s"),
        (Objectives(replicas=0), "objectives.replicas"),
        (Objectives(models=()), "objectives.models"),
        (Objectives(models=("no-such-model",)), "objectives.models"),
    ],
)
def test_a_bad_objective_is_said_at_its_field_alone(objectives: Objectives, field: str) -> None:
    assert set(_fields(GOOD, objectives)) == {field}


def test_the_context_is_that_of_the_chosen_models() -> None:
    long = replace(GOOD, input_tokens=Spread(9_000.0))
    assert _fields(long) == {}
    assert "8,192" in _fields(long, Objectives(models=("small",)))["workload.input_tokens"]


def test_a_model_without_a_known_context_refuses_nothing() -> None:
    found = validation.check(
        replace(GOOD, input_tokens=Spread(9_000.0)),
        Objectives(models=("small", "dark")),
        contexts={"small": 8_192, "dark": 0},
    )
    assert found == []


def test_a_range_out_of_order_and_a_negative_price_are_said() -> None:
    from services.calculator.types import Efficiency

    wrong = Assumptions(
        instance_prices={"g5.xlarge": -1.0},
        spot_discount={"*": 1.5},
        efficiency={"*": Efficiency(bandwidth=Range(0.9, 0.5, 0.1))},
    )
    assert {one.field for one in validation.check_assumptions(wrong)} == {
        "assumptions.instance_prices.g5.xlarge",
        "assumptions.spot_discount.*",
        "assumptions.efficiency.*.bandwidth",
    }


@pytest.mark.parametrize(
    "given",
    [
        {"kv_bytes": 0.0},
        {"memory_share": 0.0},
        {"step_tokens": 0},
        {"max_seqs": 0},
        {"max_tp": 3},
        {"efficiency": {"H100": Efficiency(bandwidth=Range(0.0, 0.0, 0.0))}},
        {"own": Own(llms=(replace(catalog.llm("Llama-3.1-8B"), layers=0),))},
        {"own": Own(llms=(replace(catalog.llm("Llama-3.1-8B"), window_layers=99),))},
        {"own": Own(gpus=(replace(catalog.gpu("L4"), link_gb_s=0.0),))},
    ],
    ids=lambda given: "-".join(given) if isinstance(given, dict) else None,
)
def test_what_would_be_divided_by_is_refused_on_its_field(given):
    found = validation.check_assumptions(replace(Assumptions(), **given))
    assert found and all(one.field.startswith(f"assumptions.{next(iter(given))}") for one in found)
    assert validation.check_assumptions(Assumptions()) == []


@pytest.mark.parametrize(
    ("rpm", "given", "made"), [(60.0, 500, 1), (3000.0, 50, 2), (1e-4, 500, 300), (60.0, 1000, 150_000)]
)
def test_answers_of_one_token_and_other_extremes_have_times_that_are_not_negative(rpm, given, made):
    answer = rank.calculate(Workload(rpm, Spread(given, 0.5), Spread(made)), Objectives(ttft_s=3.0))
    spans = [(each.ttft_p50_s, each.ttft_p95_s, each.ttlt_p95_s) for each in answer.options]
    times = [one for three in spans for one in three if one]
    assert all(0 <= one.low <= one.mid <= one.high for one in times)
    spot = replace(Assumptions(), spot_discount={"*": 1.0})
    free = rank.calculate(answer.workload, answer.objectives, assumptions=spot)
    assert len(free.sentences) == 3
