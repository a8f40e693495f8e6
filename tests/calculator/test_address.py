"""The whole state in the page's address, and back."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.calculator import address, presets
from services.calculator.address import State
from services.calculator.assumptions import ApiSpeed, Assumptions, TokenPrice
from services.calculator.types import Efficiency, Objectives, Precision, Range, Reuse, Spread, Workload

SHARE = st.floats(0, 1).map(lambda one: round(one, 4))
SPREAD = st.builds(Spread, st.integers(1, 100_000).map(float), st.sampled_from([0.0, 0.5, 1.0]))
WORKLOADS = st.builds(
    Workload,
    st.integers(1, 100_000).map(float),
    SPREAD,
    SPREAD,
    shape=st.sampled_from([*presets.SHAPES.values(), tuple(float(no) for no in range(24))]),
    burstiness=st.sampled_from([0.5, 1.0, 4.0]),
    prefix_share=SHARE,
    reuse=st.sampled_from(list(Reuse)),
    batch_share=SHARE,
    peak_concurrency=st.none() | st.integers(1, 900),
    months=st.sampled_from([0, 1, 6, 12, 36]),
)
OBJECTIVES = st.builds(
    Objectives,
    st.none() | st.floats(0.1, 3).map(lambda one: round(one, 3)),
    st.sampled_from([None, 3.0, 30.0]),
    replicas=st.integers(1, 9),
    isolated=st.booleans(),
    own_weights=st.booleans(),
    models=st.none() | st.just(("Llama-3.1-8B", "gpt-oss-20b")),
)
FULL = Assumptions(
    token_prices={"gpt-5": TokenPrice(1.0, 4.0)},
    api_speeds={"x": ApiSpeed(0.5, 1.0, 80.0, None)},
    savings_discount={"*": {12: 0.3, 36: 0.5}},
    efficiency={"H100": Efficiency(bandwidth=Range(0.5, 0.6, 0.7))},
    precisions=(Precision.FP8,),
    autoscale=True,
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(WORKLOADS, OBJECTIVES, st.sampled_from(["", *presets.BY_ID]), st.sampled_from([Assumptions(), FULL]))
def test_what_is_written_is_read_back_whole(
    workload: Workload, objectives: Objectives, preset: str, assumed: Assumptions
) -> None:
    state = State(workload, objectives, assumed, preset)
    assert address.read(address.write(state)) == (state, [])


def test_the_address_of_a_preset_is_short() -> None:
    for one in presets.PRESETS:
        words = address.write(State(one.workload, one.objectives, preset=one.id))
        assert sum(len(key) + len(value) + 2 for key, value in words.items()) < 200


def test_a_preset_alone_in_an_address_is_that_preset() -> None:
    one = presets.BY_ID["agent"]
    assert address.read({"preset": "agent"}) == (State(one.workload, one.objectives, preset="agent"), [])


@pytest.mark.parametrize(
    ("words", "field"),
    [
        ({"rpm": "0"}, "workload.rpm"),
        ({"rpm": "nan"}, "workload.rpm"),
        ({"rpm": "1e999"}, "workload.rpm"),
        ({"rpm": "1e9"}, "workload.rpm"),
        ({"rpm": "<script>"}, "workload.rpm"),
        ({"in": "-4"}, "workload.input_tokens"),
        ({"out": "abc"}, "workload.output_tokens.median"),
        ({"shape": "square"}, "workload.shape"),
        ({"shape": ",".join(["0"] * 24)}, "workload.shape"),
        ({"shape": ",".join(["1"] * 3_000)}, "workload.shape"),
        ({"reuse": "never"}, "workload.reuse"),
        ({"peak": "1.5"}, "workload.peak_concurrency"),
        ({"months": "5"}, "workload.months"),
        ({"ttft": "-1"}, "objectives.ttft_s"),
        ({"isolated": "perhaps"}, "objectives.isolated"),
        ({"preset": "nothing"}, "preset"),
        ({"a": "!!!"}, "assumptions"),
    ],
)
def test_a_bad_word_is_said_and_the_rest_is_kept(words: dict[str, str], field: str) -> None:
    state, errors = address.read({"rpm": "77", "in": "500", "out": "50", **words})
    assert errors
    assert errors[0].field.startswith(field)
    assert errors[0].sentence.endswith((".", "?"))
    if "rpm" not in words:
        assert state.workload.rpm == 77


@pytest.mark.slow
def test_packed_assumptions_that_would_fill_the_memory_are_refused() -> None:
    bomb = base64.urlsafe_b64encode(zlib.compress(b"[" + b" " * 50_000_000 + b"]", 9)).decode()
    state, errors = address.read({"a": bomb})
    assert state.assumptions == Assumptions()
    assert [one.field for one in errors] == ["assumptions"]


def test_packed_assumptions_of_another_version_are_said_by_their_field() -> None:
    word = base64.urlsafe_b64encode(zlib.compress(b'{"headrom": 0.3, "ops_share": 0.1}')).decode()
    state, errors = address.read({"a": word})
    assert errors[0].field == "assumptions.headrom"
    assert "headroom" in errors[0].sentence
    assert state.assumptions == Assumptions()


def test_words_that_are_not_ours_are_passed_over() -> None:
    assert address.read({"embed": "true", "utm_source": "x"})[1] == []


def test_a_changed_preset_keeps_its_name() -> None:
    one = presets.BY_ID["rag"]
    state = State(replace(one.workload, rpm=9.0), one.objectives, preset="rag")
    assert address.read(address.write(state))[0] == state
