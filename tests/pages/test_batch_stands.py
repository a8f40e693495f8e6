"""How a batch stands, how long it worked, and what a person means by a name: claims that its lines bear out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from app.batch.detail import cost_words
from app.cli.batch_commands import find_batch, flags
from app.live import run_view
from db import batch_queries, batches, run_queries
from db.batch_queries import Costs
from services.batch import stats
from services.batch.files import check_settled
from services.batch.reconcile import Group, together
from services.batch.text import costs_nothing, differing, recording, status_of
from services.batch.text import last_sentence as told
from services.batch.types import Options
from tests.pages.batch_lab import BatchLab, arranged, opened
from tests.pages.lab import buttons, page, said

BEGAN = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    with arranged(tmp_path, monkeypatch) as made:
        yield made


@pytest.mark.parametrize(
    ("state", "counts", "words", "icon", "colour"),
    [
        ("ended", {"succeeded": 200}, "ended, all answered", "check_circle", "green"),
        ("ended", {"succeeded": 197, "failed": 3}, "ended, 3 of 200 failed", "warning", "orange"),
        (
            "ended",
            {"succeeded": 6, "missing": 2, "failed": 1},
            "ended, 1 failed and 2 missing of 9",
            "warning",
            "orange",
        ),
        ("ended", {"missing": 200}, "ended, nothing answered", "error", "red"),
        ("ended", {"failed": 1}, "ended, nothing answered", "error", "red"),
        ("cancelled", {"succeeded": 3, "cancelled": 5}, "cancelled, 3 of 8 answered", "cancel", "orange"),
        ("cancelled", {"cancelled": 5}, "cancelled, nothing answered", "cancel", "orange"),
        ("cancelled", {}, "cancelled, no line was sent", "cancel", "orange"),
        (
            "expired",
            {"succeeded": 1, "expired": 4},
            "expired, 1 of 5 answered: the service ran out of time",
            "timer_off",
            "orange",
        ),
        ("failed", {"failed": 5}, "refused by the service", "error", "red"),
        ("failed", {}, "not sent", "error", "red"),
        ("running", {"succeeded": 5, "waiting": 5}, "running", "play_circle", None),
    ],
)
def test_the_end_of_a_batch_is_told_by_its_lines_in_words_icon_and_colour(
    state: str, counts: Mapping[str, int], words: str, icon: str, colour: str | None
) -> None:
    row = {"state": state, "n_lines": sum(counts.values()), "route": "runner"}
    assert status_of(row, counts) == (words, icon, colour)
    assert ":" not in status_of(row, counts, short=True).words


def test_a_batch_without_lines_is_being_recorded_until_it_is_over() -> None:
    assert status_of({"state": "queued", "n_lines": 0}, {}).words == "its lines are being recorded"
    assert recording({"state": "cancelling", "n_lines": 0})
    assert not recording({"state": "cancelled", "n_lines": 0})
    assert status_of({"state": "queued", "n_lines": 3}, {"waiting": 3}).words == "waiting for a worker"


@pytest.mark.parametrize(
    ("state", "told", "words"),
    [
        ("ended", [8], "The service counts 8 answers, and 6 of the lines here have one"),
        ("ended", [6], None),
        ("running", [8], None),
        ("ended", [8, None], None),
        ("ended", [], None),
    ],
)
def test_a_service_that_counts_other_answers_is_contradicted_in_words(
    state: str, told: list[int | None], words: str | None
) -> None:
    jobs = [{"counts": None if n is None else {"total": 8, "succeeded": n, "failed": 0}} for n in told]
    found = differing({"state": state, "n_lines": 8}, jobs, {"succeeded": 6, "missing": 2})
    assert found is None if words is None else str(found).startswith(words)


def minutes(*spans: tuple[float, float]) -> list[tuple[datetime, datetime | None]]:
    return [(BEGAN + timedelta(minutes=a), BEGAN + timedelta(minutes=b)) for a, b in spans]


def test_only_time_without_any_call_under_way_is_time_that_a_batch_stood_still() -> None:
    end = BEGAN + timedelta(minutes=20)
    assert stats.still(minutes((0, 5), (1, 4), (15, 20)), BEGAN, end) == 600
    assert stats.still(minutes((0, 5), (4, 12), (12.05, 20)), BEGAN, end) == 0, "3 s lie between two lines"
    assert stats.still(minutes((1, 5), (5, 10)), BEGAN, end) == 660, "before the first and after the last too"
    assert stats.still([], BEGAN, end) == 0


def test_a_paused_batch_took_the_time_that_its_calls_took_and_one_of_a_service_its_whole_time(lab: BatchLab) -> None:
    paused, sent = lab.batch(), lab.batch(route="openai")
    rows = [batches.batch(lab.database(), one) for one in (paused, sent)]
    assert rows[0] is not None and rows[1] is not None
    mine, theirs = (stats.worked(lab.database(), row) for row in rows if row)
    assert mine.seconds == pytest.approx(240, abs=1)
    assert mine.still == pytest.approx(240, abs=2), "its calls are of the last moment"
    assert (theirs.still, theirs.working) == (None, theirs.seconds)


def test_a_paused_batch_has_no_rate(lab: BatchLab) -> None:
    began = datetime.now(UTC) - timedelta(seconds=30)
    at = opened(
        lab.batch(
            ("succeeded",) * 15 + ("waiting",) * 15,
            state="paused",
            wanted="pause",
            ended_at=None,
            started_at=began,
            lanes=4,
        )
    )
    assert [m.value for m in at.metric if m.label in ("Rate", "Time left")] == ["–", "–"]


def test_a_batch_is_meant_by_its_id_its_beginning_or_its_name(lab: BatchLab) -> None:
    first, second = lab.batch(name="Reviews"), lab.batch(name="Reviews")
    other = lab.batch(name=first[:6])
    read = lab.database()

    def ids(text: str) -> set[str]:
        return {row["id"] for row in batch_queries.called(read, text)}

    assert ids(first) == {first}
    assert ids(second[:8]) == {second}
    assert ids("Reviews") == {first, second}
    assert ids(first[:6]) == {other}, "a name goes before the beginning of an id"
    assert ids("") == ids("nobody") == ids("\udcff") == set()
    assert find_batch(read, second[:8], Path())["id"] == second
    with pytest.raises(ValueError, match="may be each of these batches, so give its id"):
        find_batch(read, "Reviews", Path())


SEMI = "id;text\n1;Hello\n2;World\n"


def written(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "semi.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_a_delimiter_that_the_header_shows_is_taken_and_said(tmp_path: Path) -> None:
    found = check_settled(written(tmp_path, SEMI), Options())
    assert (found.refused, found.n_valid, found.columns) == (None, 2, ("id", "text"))
    assert found.options.delimiter == ";"
    assert found.notices[0] == "The columns are parted by a semicolon, as the header shows."


@pytest.mark.parametrize("text", ["id;text\nno delimiter here\n", "a;b|c\n1;2|3\n"])
def test_a_delimiter_that_is_not_plain_is_asked_for(tmp_path: Path, text: str) -> None:
    found = check_settled(written(tmp_path, text), Options())
    assert str(found.refused).startswith("Only one column")
    assert found.choices


def test_the_way_out_that_the_page_offers_as_a_button_is_an_option_of_the_command(tmp_path: Path) -> None:
    found = check_settled(written(tmp_path, SEMI + "3;Café\n", "cp1252"), Options())
    (choice,) = found.choices
    assert flags(found.options, choice.options) == "--encoding cp1252"
    asked = check_settled(written(tmp_path, "a;b|c\n1;2|3\n"), Options())
    ways = {flags(asked.options, one.options) for one in asked.choices}
    assert ways == {"--format csv --delimiter ';'", "--format csv --delimiter '|'"}


def test_the_run_of_a_large_batch_shows_its_first_calls_and_leads_to_the_batch(lab: BatchLab) -> None:
    batch_id = lab.batch(("succeeded",) * 60)
    row = batches.batch(lab.database(), batch_id)
    assert row is not None
    at = page(run=row["run_id"]).run()
    assert not at.exception
    assert "the first 50 of 60 calls are here" in said(at)
    assert "Export CSV" not in [d.label for d in at.download_button], "a part is no export of the run"
    at.button(key="pg_open_batch").click().run()
    assert not at.exception
    assert "60 sent = 60 succeeded." in said(opened(batch_id))


def test_an_ordinary_run_is_whole_and_says_nothing_of_a_batch(lab: BatchLab) -> None:
    run_id = lab.record()
    at = page(run=run_id).run()
    assert not at.exception
    assert "Open the batch" not in buttons(at)
    found = run_view.calls_of(lab.database(), {"id": run_id, "source": "playground"})
    assert (len(found.calls), found.total, found.cut, found.batch) == (2, 2, False, None)


def test_all_calls_of_a_run_come_one_by_one_in_the_order_of_the_run(
    lab: BatchLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    row: Any = batches.batch(lab.database(), lab.batch(("succeeded",) * 7))
    monkeypatch.setattr(run_queries, "AT_ONCE", 3)
    whole = run_queries.calls_of_run(lab.database(), row["run_id"])
    assert list(run_queries.each_call(lab.database(), row["run_id"])) == whole
    assert len(whole) == run_queries.count_calls(lab.database(), row["run_id"]) == 7
    assert run_queries.calls_of_run(lab.database(), row["run_id"], limit=2) == whole[:2]


@pytest.mark.parametrize(
    ("state", "said_last", "left"),
    [
        ("running", "67 answered of 200 lines.", "67 answered of 200 lines."),
        ("cancelled", "67 answered, 8 cancelled, 125 waiting of 200 lines.", None),
        ("expired", "1 answered, 3 under way of 4 lines. Bedrock ran out of time.", "Bedrock ran out of time."),
        ("cancelled", "Nothing of 1 line. Cancelled before it was sent.", "Cancelled before it was sent."),
        ("cancelled", "Cancelled by hand.", "Cancelled by hand."),
        ("failed", "2 of 5 lines cannot be sent: mend them.", "2 of 5 lines cannot be sent: mend them."),
        ("ended", "6 answered of 8 lines. Anthropic has ended it: 8 answered.", None),
        ("paused", None, None),
    ],
)
def test_a_tally_that_was_made_before_the_end_is_not_repeated_after_it(
    state: str, said_last: str | None, left: str | None
) -> None:
    assert told({"state": state, "n_lines": 9, "said": said_last}) == left


def test_reasons_that_read_alike_are_told_once_with_all_their_lines() -> None:
    groups = [
        Group("cancelled", None, 4, "Cancelled.", lines=(3, 9)),
        Group("failed", "filtered", 2, "Filtered.", lines=(1,)),
        Group("cancelled", "cancelled", 2, "Cancelled.", lines=(2, 5)),
    ]
    found = [(one.state, one.n, one.lines) for one in together(groups)]
    assert found == [("cancelled", 6, (2, 3)), ("failed", 2, (1,))]


@pytest.mark.parametrize(
    ("row", "free"),
    [
        ({"estimate": {"cost_high": 0}}, True),
        ({"deployment": {"price": {"per_hour": "0"}}}, True),
        ({"estimate": {"cost_high": 5}, "deployment": {"price": {"per_hour": "3.5"}}}, False),
        ({}, False),
    ],
)
def test_only_what_can_cost_nothing_is_called_free(row: dict[str, Any], free: bool) -> None:
    assert costs_nothing(row) is free


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({}, "–"),
        ({"not_billed": Costs(3, 0, 0)}, "–"),
        ({"free": Costs(3, 3, 0)}, "free"),
        ({"no_price": Costs(2, 0, 0)}, "no price"),
        ({"by_the_hour": Costs(2, 0, 0)}, "by the hour"),
        ({"exact": Costs(2, 2, 410_000_000), "not_billed": Costs(1, 0, 0)}, "$0.41"),
        ({"exact": Costs(2, 2, 410_000_000), "unknown": Costs(1, 0, 0)}, "≥ $0.41"),
        ({"exact": Costs(2, 2, 400_000_000), "estimated": Costs(1, 1, 10_000_000)}, "~ $0.41"),
    ],
)
def test_the_cost_in_the_list_never_claims_more_than_is_known(found: dict[str, Costs], words: str) -> None:
    assert cost_words(found) == words
