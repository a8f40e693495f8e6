"""A check passes, fails, or says that it does not know; nothing that a person writes stops the lab."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.batch import evaluate
from services.batch.evaluate import Check, Rate, Sandbox, Verdict, rate, run
from tests.batch.results.rows import line


def one(check: Check, answer: str, **original: Any) -> Verdict:
    return next(iter(run(check, [line(1, answer=answer, original=original)])))


@pytest.mark.parametrize(
    ("check", "answer", "passed"),
    [
        (Check("exact", "Paris"), " paris. ", True),
        (Check("exact", "Paris", exactly=True), "paris", False),
        (Check("exact", "Paris"), "Paris, France", False),
        (Check("contains", "paris"), "It is PARIS, of course", True),
        (Check("contains", "paris", exactly=True), "PARIS", False),
        (Check("regex", r"^\d{4}-\d{2}$"), "2026-11", True),
        (Check("regex", "abc"), "xABCx", True),
        (Check("regex", "abc", exactly=True), "xABCx", False),
        (Check("json"), '{"a": [1, 2]}', True),
        (Check("json"), '```json\n{"a": 1}\n```', True),
        (Check("json"), "```\n[1]\n```  ", True),
        (Check("json"), 'Sure: {"a": 1}', False),
        (Check("json"), "NaN", False),
        (Check("json"), "[" * 100_000, False),
        (Check("schema", '{"type": "object", "required": ["x"]}'), '{"x": 1}', True),
        (Check("schema", '{"type": "object", "required": ["x"]}'), '{"y": 1}', False),
        (Check("schema", '{"type": "object"}'), "no json", False),
        (Check("number", "42"), "6 times 7 is 42.", True),
        (Check("number", "42"), "42 is 6 times 7", False),
        (Check("number", "1234.5", tolerance=0.5), "$1,235", True),
        (Check("number", "100", tolerance=0.05, relative=True), "95", True),
        (Check("number", "100", tolerance=0.05, relative=True), "94.9", False),
        (Check("number", "-3"), "−3", True),
        (Check("number", "0.1"), "1e-1", True),
        (Check("number", "2"), "none", False),
    ],
)
def test_an_answer_passes_or_fails_with_the_reason(check: Check, answer: str, passed: bool) -> None:
    found = one(check, answer)
    assert found.passed is passed
    assert bool(found.why) is not passed


@pytest.mark.parametrize(
    ("check", "answer", "label", "passed"),
    [
        (Check("exact", "{{label}}"), "positive", "Positive", True),
        (Check("contains", "is {{ label }}"), "it is 3.5 now", 3.5, True),
        (Check("regex", "^{{label}}$"), "a.b", "a.b", True),
        (Check("regex", "^{{label}}$"), "axb", "a.b", False),
        (Check("number", "{{label}}"), "about 7", "7.0", True),
        (Check("schema", "{{label}}"), '{"x": 1}', {"required": ["x"]}, True),
        (Check("exact", "{{label}}"), "x", "", None),
        (Check("exact", "{{label}}"), "x", None, None),
        (Check("number", "{{label}}"), "7", "seven", None),
        (Check("schema", "{{label}}"), "{}", "{not json", None),
    ],
)
def test_what_is_expected_can_stand_in_a_column_and_an_empty_one_is_not_known(
    check: Check, answer: str, label: Any, passed: bool | None
) -> None:
    found = one(check, answer, label=label)
    assert found.passed is passed
    if passed is None:
        assert found.why


def test_a_line_without_an_answer_neither_passes_nor_fails() -> None:
    found = list(run(Check("json"), [line(1, "failed"), line(2, "waiting"), line(3, answer=None)]))
    assert [v.passed for v in found] == [None, None, None]


@pytest.mark.slow
def test_a_pattern_that_never_ends_is_stopped_after_its_second_and_the_rest_is_not_tried() -> None:
    rows = [line(n, answer="a" * 60 + "b") for n in range(1, 30)]
    begun = time.monotonic()
    found = list(run(Check("regex", "(a+)+$"), rows))
    assert time.monotonic() - begun < 10
    assert {v.passed for v in found} == {None}
    assert "more than 1 s" in found[0].why


def test_a_text_that_is_slow_costs_only_its_own_verdict() -> None:
    with Sandbox("regex", "(a+)+$", seconds=0.1) as watched:
        assert watched.ask("a" * 60 + "b")[0] is None
        assert watched.ask("aaa") == (True, "")


def test_a_process_that_dies_is_started_again() -> None:
    with Sandbox("regex", "a") as watched:
        assert watched._process is not None
        watched._process.kill()
        assert watched.ask("a")[0] is None
        assert watched.ask("a") == (True, "")


@pytest.mark.slow
def test_a_pattern_inside_a_schema_is_stopped_too() -> None:
    schema = '{"pattern": "(a+)+$"}'
    assert one(Check("schema", schema), '"' + "a" * 60 + 'b"').passed is None


@pytest.mark.parametrize(
    "check",
    [
        Check("regex", "("),
        Check("regex", "a{99999999999999}"),
        Check("schema", "{"),
        Check("schema", '{"type": "no"}'),
        Check("exact", " "),
        Check("contains", ""),
        Check("number", "many"),
        Check("number", "1", tolerance=-1),
        Check("number", "1", tolerance=float("nan")),
        Check("regex", "x" * 20_000),
    ],
)
def test_a_check_that_cannot_be_used_is_refused_in_words_before_the_first_line(check: Check) -> None:
    with pytest.raises(ValueError, match=r"^[A-Z“].*\.$"):
        next(iter(run(check, [line(1)])))


def test_a_column_that_the_file_has_not_is_told_by_name() -> None:
    assert "“lable”" in str(Check("exact", "{{lable}}").why_not(["id", "label"]))
    assert Check("exact", "{{label}}").why_not(["id", "label"]) is None


def test_a_schema_fetches_nothing_from_anywhere(tmp_path: Any) -> None:
    kept = tmp_path / "schema.json"
    kept.write_text("{}")
    for address in ("http://127.0.0.1:9/x.json", kept.as_uri()):
        found = one(Check("schema", f'{{"$ref": "{address}"}}'), "1")
        assert found.passed is None
        assert "Unresolvable" in found.why


def test_the_rate_is_over_what_could_be_judged_with_its_interval() -> None:
    found = rate([Verdict(n, n < 81) for n in range(263)] + [Verdict(999, None)])
    assert (found.passed, found.failed, found.unknown) == (81, 182, 1)
    assert found.interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert found.sentence == "81 of 263 passed (30.8%, 95 % interval 25.5% – 36.6%). 1 line could not be judged."
    assert Rate(0, 0, 2).rate is None
    assert Rate(0, 0, 2).sentence == "No line could be judged. 2 lines could not be judged."


@settings(deadline=None)
@given(st.text(), st.text().filter(str.strip), st.sampled_from(["exact", "contains", "number", "json"]))
def test_no_answer_and_no_expectation_breaks_a_check(answer: str, expected: str, kind: Any) -> None:
    check = Check(kind, "{{label}}")
    assert one(check, answer, label=expected).passed in (True, False, None)
    if kind in ("exact", "contains"):
        assert one(check, expected, label=expected).passed is True


@pytest.mark.parametrize("text", ["1" * 300_000 + "x", "1,111" * 60_000, "```\n" + " " * 300_000, "-" * 300_000])
def test_hostile_answers_take_linear_time(text: str) -> None:
    begun = time.monotonic()
    for check in (Check("number", "1"), Check("json"), Check("exact", "x")):
        one(check, text)
    assert time.monotonic() - begun < 3


@given(st.integers(-(10**12), 10**12), st.sampled_from(["The answer is {}.", "{}", "x = {} ", "1 + 1 = {}", "${}"]))
def test_the_last_number_of_an_answer_is_found_however_it_is_written(number: int, form: str) -> None:
    for written in (str(number), f"{number:,}"):
        assert evaluate._number(form.format(written)) == number
