"""The steps of a batch at a service one by one: given back, refused by a check, cancelled when its answer was late."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from db import batches
from services.batch import jobs
from tests.batch.runner.desk import Desk
from tests.batch.runner.fake_service import FolderService
from tests.batch.runner.steps import Steps

pytestmark = pytest.mark.slow


class Folder(Steps):
    """Steps towards the service that lies in a folder."""

    def __init__(self, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        self.service = FolderService(desk.folder / "service")
        self.service.folder.mkdir()
        super().__init__(desk, self.service, monkeypatch)

    def behave(self, **plan: Any) -> None:
        (self.service.folder / "plan.json").write_text(json.dumps(plan))

    def there(self) -> list[dict[str, Any]]:
        return [one for one in self.service.jobs().values() if isinstance(one, dict)]


@pytest.fixture
def folder(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(desk, monkeypatch)


def a_batch(folder: Folder, n: int, **values: Any) -> str:
    return folder.desk.batch(n, route="openai", **values)


def test_a_job_that_the_service_gives_back_is_sent_anew_as_another_and_each_line_is_answered_once(
    folder: Folder,
) -> None:
    folder.behave(give_back=True)
    batch_id = a_batch(folder, 6)
    folder.plan(batch_id)
    first = folder.job(batch_id)["token"]
    folder.until(batch_id, folder.submit, "checking")
    folder.until(batch_id, folder.poll, "waiting_for_quota")
    assert folder.desk.row(batch_id)["said"] == "The folder gave it back."
    folder.finish(batch_id)
    row = folder.settle(batch_id)
    assert (row["state"], folder.counts(batch_id)) == ("ended", {"succeeded": 6})
    assert folder.job(batch_id)["token"] != first
    assert [len(one["ids"]) for one in folder.there()] == [6, 6]
    assert folder.desk.ledger(batch_id)["calls"] == 6


def test_a_second_submit_that_a_crash_broke_off_is_taken_up_and_no_line_is_given_up(folder: Folder) -> None:
    folder.behave(give_back=True)
    batch_id = a_batch(folder, 4)
    folder.plan(batch_id)
    folder.submit(batch_id)
    folder.until(batch_id, folder.poll, "waiting_for_quota")
    # As the submit leaves it when the worker is killed in the middle.
    folder.desk.do(batches.set_job, batch_id=batch_id, no=1, state="sending", facts={"tried_at": 1.0})
    folder.finish(batch_id)
    assert folder.settle(batch_id)["state"] == "ended"
    assert folder.counts(batch_id) == {"succeeded": 4}


def test_lines_that_make_no_job_end_the_batch_in_words(folder: Folder) -> None:
    folder.behave(few=100)
    batch_id = a_batch(folder, 3)
    row = folder.through(batch_id)
    assert row["state"] == "failed"
    assert "100 records" in row["said"] and row["said"].endswith(".")
    assert folder.counts(batch_id) == {"failed": 3}
    line = batches.lines(folder.desk.reader, batch_id)[0][0]
    assert "100 records" in line["message"], "each line says why it has no answer"
    assert folder.there() == []


def test_what_a_check_finds_ends_the_batch_and_what_it_could_not_find_out_does_not(folder: Folder) -> None:
    unsure = "Not checked: whether the role may be used."
    folder.behave(checks=["The bucket “none” does not exist.", unsure])
    batch_id = a_batch(folder, 3)
    row = folder.through(batch_id)
    assert (row["state"], folder.there()) == ("failed", [])
    assert "The bucket “none” does not exist." in row["said"] and "Not checked" not in row["said"]
    folder.behave(checks=[unsure])
    other = a_batch(folder, 3)
    assert folder.through(other)["state"] == "ended"


def test_a_cancel_collects_what_was_sent_by_a_submit_whose_answer_was_late(folder: Folder) -> None:
    folder.behave(later_after=True)
    batch_id = a_batch(folder, 8)
    folder.plan(batch_id)
    assert folder.submit(batch_id) is not None
    assert folder.job(batch_id)["state"] == "waiting_for_quota"
    folder.cancel(batch_id)
    folder.finish(batch_id)
    row = folder.settle(batch_id)
    assert row["state"] == "cancelled"
    assert [one["cancelled"] for one in folder.there()] == [True], "the service was told"
    assert folder.counts(batch_id) == {"succeeded": 4, "cancelled": 4}, "it had answered half of them"


def test_a_cancel_of_what_the_service_turned_away_sends_nothing_and_says_so(folder: Folder) -> None:
    folder.behave(later=99)
    turned_away = a_batch(folder, 3)
    folder.plan(turned_away)
    folder.submit(turned_away)
    folder.behave()
    folder.cancel(turned_away)
    folder.finish(turned_away)
    assert folder.settle(turned_away)["state"] == "cancelled"
    untouched = a_batch(folder, 3)
    folder.plan(untouched)
    folder.cancel(untouched)
    folder.finish(untouched)
    assert "Cancelled before it was sent." in folder.settle(untouched)["said"]
    for batch_id in (turned_away, untouched):
        assert folder.counts(batch_id) == {"cancelled": 3}
    assert folder.there() == []


def test_a_job_that_waits_is_not_submitted_before_its_time_unless_it_is_cancelled(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.behave(later=1)
    batch_id = a_batch(folder, 3)
    folder.plan(batch_id)
    folder.works.jobs._pace = 1000.0  # waits of hours
    assert folder.submit(batch_id) is not None
    assert folder.submit(batch_id) is not None, "it is only looked at"
    assert folder.there() == []
    folder.cancel(batch_id)
    assert folder.submit(batch_id) is None
    assert folder.job(batch_id)["state"] == "cancelled"


def test_what_a_route_notes_of_the_results_stays_with_the_batch_and_an_old_trouble_does_not(folder: Folder) -> None:
    folder.behave(notes=["One file has no answers."], said="The folder has finished.")
    batch_id = a_batch(folder, 3)
    folder.plan(batch_id)
    folder.submit(batch_id)
    folder.until(batch_id, folder.poll, "collecting")
    folder.desk.do(batches.set_job, batch_id=batch_id, no=1, said="The folder does not answer.")
    folder.finish(batch_id)
    row = folder.settle(batch_id)
    assert row["said"] == "3 answered of 3 lines. The folder has finished. One file has no answers."


def test_a_word_of_one_job_is_not_wiped_out_by_the_next(folder: Folder) -> None:
    folder.behave(per_job=2)
    batch_id = a_batch(folder, 4)
    assert folder.plan(batch_id) == [1, 2]
    for no in (1, 2):
        folder.desk.do(batches.set_job, batch_id=batch_id, no=no, state="sending")
    folder.desk.writer.submit(lambda s: jobs.tell(batch_id, 1, "2 lines are on their way.", s)).result(30)
    folder.desk.do(batches.set_job, batch_id=batch_id, no=2, said=None)
    asyncio.run(folder.works.jobs._say_batch(batch_id))
    assert folder.desk.row(batch_id)["said"] == "2 lines are on their way."
