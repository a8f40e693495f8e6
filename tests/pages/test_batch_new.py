"""A new batch: the file, what is found in it, what is asked, where it goes, and that the button alone sends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import auth
from app.batch import validation
from services.batch import estimate
from services.batch.types import Fault
from tests.pages.batch_lab import BatchLab, arranged
from tests.pages.lab import buttons, page, said

pytestmark = pytest.mark.slow

CSV = "id,text\na1,Why is the sky blue?\na2,Why is it dark?\na3,Why not?\na4,\n"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    with arranged(tmp_path, monkeypatch) as made:
        yield made


def opened(text: str | bytes = CSV, name: str = "reviews.csv") -> AppTest:
    """The page with an uploaded file."""
    at = page("batch").run()
    content = text if isinstance(text, bytes) else text.encode()
    at.file_uploader[0].set_value((name, content, "text/csv")).run()
    assert not at.exception
    return at


def press(at: AppTest, words: str) -> Any:
    """Click the button with these words."""
    return next(b for b in at.button if words in b.label.replace("\\", "")).click()


def test_a_first_visit_says_what_it_does_and_offers_the_sample(lab: BatchLab) -> None:
    at = page("batch").run()
    assert not at.exception
    assert "A file in, one answer for each line" in said(at)
    assert "Batches appear here" in said(at)
    assert "Use the sample of 200 lines" in buttons(at)


def test_the_sample_is_ready_to_send_after_one_click_and_nothing_is_sent_by_it(lab: BatchLab) -> None:
    at = page("batch").run()
    at.button(key="bt_sample").click().run()
    assert not at.exception
    assert "CSV · 200 lines · 3 columns: id, category, text" in said(at)
    assert "Order 8812 arrived" in said(at)
    assert not at.button(key="bt_send").disabled
    assert at.button(key="bt_send").label == "Send 200 lines"
    assert not lab.submitted
    assert not lab.specs


def test_an_upload_lies_on_the_disk_under_its_hash_and_is_submitted_by_it(lab: BatchLab, tmp_path: Path) -> None:
    at = opened(CSV.replace("a4,\n", ""))
    at.text_input(key="bt_name").set_value("My reviews").run()
    at.button(key="bt_send").click().run()
    assert not at.exception
    (spec,) = lab.submitted
    assert (tmp_path / "uploads" / spec.sha256 / "reviews.csv").read_text() == CSV.replace("a4,\n", "")
    assert (spec.name, spec.file_name, spec.path, spec.route) == ("My reviews", "reviews.csv", None, "runner")
    assert (spec.deployment_id, spec.options.prompt) == ("local-chat", "{{text}}")
    assert spec.estimate is not None
    assert at.query_params["batch"]
    assert "Waiting for a worker" in said(at)


def test_lines_that_cannot_be_sent_are_told_and_left_out_only_when_asked(lab: BatchLab) -> None:
    at = opened()
    assert "1 of 4 lines cannot be sent" in said(at)
    assert "**Line 5** · The prompt is empty" in said(at)
    assert at.button(key="bt_send").disabled
    assert "switch on “Leave out the 1 that cannot be sent” above" in said(at)
    at.toggle(key="bt_o_leave_out").set_value(True).run()
    assert at.button(key="bt_send").label == "Send the 3 valid lines, leave out 1"
    assert "To send it" not in said(at)
    at.button(key="bt_send").click().run()
    assert lab.submitted[0].options.leave_out


def test_a_way_out_is_a_button_that_reads_the_file_anew(lab: BatchLab) -> None:
    at = opened("id,body text\n1,Hello\n2,World\n")
    assert "No column" in said(at)
    press(at, "body text").run()
    assert not at.exception
    assert at.text_area(key="bt_prompt").value == "{{body text}}"
    assert at.button(key="bt_send").label == "Send 2 lines"


@pytest.mark.slow
def test_a_file_that_cannot_be_read_is_one_sentence_and_no_further_step(lab: BatchLab) -> None:
    at = opened(b"\xff\xfea\x00b\x00", "wide.csv")
    assert "UTF-16" in said(at)
    assert "Where to" not in said(at)
    at = opened(b"", "empty.csv")
    assert "No records found" in said(at)


def test_windows_bytes_are_read_after_one_click(lab: BatchLab) -> None:
    at = opened("id,text\n1,Caf\xe9\n".encode("cp1252"))
    press(at, "Windows-1252").run()
    assert not at.exception
    assert "Café" in said(at)
    assert at.selectbox(key="bt_o_encoding").value == "cp1252"


def test_a_chip_puts_its_column_into_the_prompt(lab: BatchLab) -> None:
    at = opened(CSV.replace("a4,\n", ""))
    at.pills(key="bt_insert").set_value("id").run()
    assert not at.exception
    assert at.text_area(key="bt_prompt").value == "{{text}} {{id}}"
    assert "Why is the sky blue? a1" in said(at)


@pytest.mark.slow
def test_a_template_with_an_unknown_column_says_which_there_are(lab: BatchLab) -> None:
    at = opened(CSV.replace("a4,\n", ""))
    at.text_area(key="bt_prompt").set_value("Shorten: {{texxt}}").run()
    assert "No column 'texxt'. Found: id, text. Did you mean text?" in said(at)


@pytest.mark.slow
def test_a_system_prompt_and_parameters_go_with_every_line(lab: BatchLab) -> None:
    at = opened(CSV.replace("a4,\n", ""))
    at.text_area(key="bt_system").set_value("Be short.").run()
    at.number_input(key="bt_p_max_tokens").set_value(33).run()
    at.button(key="bt_send").click().run()
    options = lab.submitted[0].options
    assert (options.system, dict(options.params)) == ("Be short.", {"max_tokens": 33})


def test_vendor_lines_bring_their_own_messages(lab: BatchLab) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9}
    line = {"custom_id": "x1", "method": "POST", "url": "/v1/chat/completions", "body": body}
    at = opened(json.dumps(line) + "\n", "vendor.jsonl")
    assert "brings its own messages" in said(at)
    assert not [box for box in at.text_area if box.key == "bt_prompt"]
    assert at.button(key="bt_send").label == "Send 1 line"


@pytest.mark.slow
def test_the_same_file_is_sent_again_only_when_said_so(lab: BatchLab) -> None:
    at = opened(CSV.replace("a4,\n", ""))
    at.button(key="bt_send").click().run()
    again = opened(CSV.replace("a4,\n", ""))
    assert "This file was submitted 5 min ago as “reviews”" in said(again)
    assert again.button(key="bt_send").disabled
    again.checkbox(key="bt_again").check().run()
    again.button(key="bt_send").click().run()
    assert lab.submitted[-1].again


@pytest.mark.slow
def test_a_budget_below_the_estimate_has_to_be_passed_by_hand(lab: BatchLab) -> None:
    price = replace(lab.listed[0].price, per_hour=None, override={"input": "5", "output": "25"})
    lab.listed = [replace(lab.listed[0], price=price)]
    at = opened(CSV.replace("a4,\n", ""))
    at.number_input(key="bt_budget").set_value(0.01).run()
    assert "above the budget" in said(at)
    assert at.button(key="bt_send").disabled
    at.checkbox(key="bt_over_budget").check().run()
    at.button(key="bt_send").click().run()
    assert (lab.submitted[0].budget_nanousd, lab.submitted[0].over_budget) == (10_000_000, True)


@pytest.mark.slow
def test_without_a_price_the_step_says_that_no_budget_can_be_checked_and_a_free_one_says_nothing(lab: BatchLab) -> None:
    without = "No price is known for this deployment: a budget cannot be checked, and the tokens of every line are"
    assert "a budget cannot be checked" not in said(opened(CSV.replace("a4,\n", "")))
    lab.listed = [replace(lab.listed[0], price=replace(lab.listed[0].price, per_hour=None))]
    at = opened(CSV.replace("a4,\n", ""))
    assert without in said(at)
    at.number_input(key="bt_budget").set_value(0.01).run()
    assert not at.button(key="bt_send").disabled


@pytest.mark.slow
def test_a_system_prompt_that_comes_late_in_the_file_is_kept_when_only_the_prompt_is_changed(lab: BatchLab) -> None:
    lines = [{"text": f"t{n}"} for n in range(30)] + [{"text": "last", "system": "Be kind."}]
    at = opened("\n".join(json.dumps(one) for one in lines), "late.jsonl")
    at.text_area(key="bt_prompt").set_value("Say: {{text}}").run()
    at.button(key="bt_send").click().run()
    assert lab.submitted[0].options.system is None, "each record's own is taken"
    assert lab.submitted[0].options.prompt == "Say: {{text}}"


@pytest.mark.slow
def test_a_refusal_of_the_engine_is_a_sentence_and_keeps_what_was_typed(lab: BatchLab) -> None:
    lab.refusal = "The file changed since it was checked; check it again."
    at = opened(CSV.replace("a4,\n", ""))
    at.text_input(key="bt_name").set_value("Mine").run()
    at.button(key="bt_send").click().run()
    assert not at.exception
    assert "The file changed" in said(at)
    assert at.text_input(key="bt_name").value == "Mine"


@pytest.mark.slow
def test_three_lines_are_tried_with_real_calls_only_when_asked(lab: BatchLab) -> None:
    at = opened(CSV.replace("a4,\n", ""))
    assert not lab.specs
    at.button(key="bt_try").click().run()
    assert not at.exception
    assert [spec.prompt for spec in lab.specs] == ["Why is the sky blue?", "Why is it dark?", "Why not?"]
    assert not lab.submitted


def take(at: AppTest, path: str) -> AppTest:
    at.text_input(key="bt_path").set_value(path).run()
    at.button(key="bt_take_path").click().run()
    assert not at.exception
    return at


@pytest.mark.slow
def test_a_path_of_this_machine_is_for_whoever_sits_at_it(
    lab: BatchLab, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_ADDRESS", "127.0.0.1")
    at = take(page("batch").run(), "/nowhere/at/all.csv")
    assert "There is no file all.csv" in said(at)
    assert "never read" in said(take(at, "/etc/passwd"))
    file = tmp_path_factory.mktemp("prompts") / "big.csv"
    file.write_text(CSV.replace("a4,\n", ""))
    take(at, str(file))
    at.button(key="bt_send").click().run()
    assert (lab.submitted[0].path, lab.submitted[0].file_name) == (None, "big.csv")
    copy = tmp_path / "uploads" / lab.submitted[0].sha256 / "big.csv"
    assert copy.read_bytes() == file.read_bytes(), "what is sent is what was checked"


@pytest.mark.slow
def test_on_a_network_only_files_of_the_configured_folders_can_be_named(
    lab: BatchLab, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_ADDRESS", "0.0.0.0")
    folder = tmp_path_factory.mktemp("prompts")
    (folder / "ok.csv").write_text(CSV)
    (folder / "link.csv").symlink_to("/etc/passwd")
    at = page("batch").run()
    for path in (folder / "ok.csv", folder / "link.csv", "/etc/passwd"):
        assert "only in the folders" in said(take(at, str(path)))
    lab.configure(batch_folders=(str(folder),))
    for path in (folder / "link.csv", "/etc/passwd", f"{folder}/../x.csv"):
        assert "only in the folders" in said(take(at, str(path)))
    assert "4 lines" in said(take(at, str(folder / "ok.csv"))) or "What was found" in said(at)


def test_who_is_no_administrator_any_more_keeps_no_file_of_the_server(
    lab: BatchLab, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_ADDRESS", "127.0.0.1")
    file = tmp_path_factory.mktemp("prompts") / "big.csv"
    file.write_text(CSV)
    at = take(page("batch").run(), str(file))
    assert "What was found" in said(at)
    monkeypatch.setattr(auth, "person_and_role", lambda: auth.Person("eve@example.com", "member"))
    at.run()
    assert not at.exception
    assert "What was found" not in said(at)
    assert "bt_path" not in [one.key for one in at.text_input]


@pytest.mark.slow
def test_somebody_who_may_only_look_sees_the_batches_and_no_upload(lab: BatchLab) -> None:
    lab.batch()
    lab.close_doors("ada")
    at = page("batch").run()
    assert not at.exception
    assert not at.file_uploader
    assert "You can look at batches here" in said(at)
    assert list(at.dataframe[0].value["name"]) == ["Reviews"]


@pytest.mark.slow
def test_without_an_engine_the_page_says_so_and_sends_nothing(lab: BatchLab) -> None:
    lab.down = True
    at = opened(CSV.replace("a4,\n", ""))
    assert "The engine does not answer" in said(at)
    assert "No deployment is ready" in said(at)


def test_a_semicolon_is_recognised_and_named_where_it_can_be_changed(lab: BatchLab) -> None:
    at = opened("id;text\n1;Hello\n2;World\n")
    assert "The columns are parted by a semicolon, as the header shows." in said(at)
    assert at.selectbox(key="bt_o_delimiter").placeholder == "recognised: semicolon  ;"
    at.button(key="bt_send").click().run()
    assert lab.submitted[0].options.delimiter == ";"


@pytest.mark.parametrize(
    ("fault", "shown"),
    [
        (Fault(5, "x", "Line 5: the prompt is empty. Fill it."), "**Line 5** · The prompt is empty\\. Fill it\\."),
        (
            Fault(7, "x", "Line 7, column 12: not JSON.", found="{x"),
            "**Line 7, column 12** · Not JSON\\. :gray[Found: \\{x]",
        ),
        (Fault(1200, "x", "Two lines are called a."), "**Line 1,200** · Two lines are called a\\."),
        (Fault(2, "x", "Row 2: the id is a1, twice.", found="a1"), "**Row 2** · The id is a1, twice\\."),
    ],
)
def test_a_fault_names_its_line_once_and_what_was_found_once(fault: Fault, shown: str) -> None:
    said_so = validation.sentence(fault)
    assert said_so.replace("\\,", ",").replace("\\:", ":") == shown


@pytest.mark.slow
def test_what_our_own_runner_is_bound_to_goes_into_the_estimates(
    lab: BatchLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, Any]] = []
    real = estimate.estimates

    def noted(*given: Any, **named: Any) -> Any:
        asked.append((named["lanes"], named["per_minute"]))
        return real(*given, **named)

    monkeypatch.setattr(estimate, "estimates", noted)
    at = page("batch").run()
    at.button(key="bt_sample").click().run()
    at.number_input(key="bt_per_minute").set_value(10).run()
    at.number_input(key="bt_lanes").set_value(2).run()
    assert not at.exception
    assert asked[0] == (None, None)
    assert asked[-1] == (2, 10)
