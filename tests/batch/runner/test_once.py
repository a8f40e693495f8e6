"""What may happen only once happens once: a file submitted by several at the same moment, failed lines sent again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from db import batches
from db.batch_queries import LINE
from db.writer import Writer
from services.batch import ingest, service
from services.batch.files import sha256_of, spool
from services.batch.ingest import CHANGED, store_file
from services.batch.service import BatchService, BatchSpec
from services.batch.types import Options
from services.deployments.registry import Registry
from tests.batch.runner.desk import Desk

Act = Callable[[Sequence[BatchService]], Awaitable[Any]]


@contextmanager
def writers(desk: Desk, n: int) -> Iterator[list[Writer]]:
    made = [Writer(desk.url) for _ in range(n)]
    for one in made:
        one.start()
    try:
        yield made
    finally:
        for one in made:
            one.close()


def act(desk: Desk, what: Act, engines: int = 1) -> Any:
    """Do something with the desks of so many engines on one database and one data directory."""

    async def doing(own: Sequence[Writer]) -> Any:
        found = []
        for writer in own:
            registry = Registry(writer, desk.reader, desk.file)
            await registry.refresh()
            found.append(BatchService(writer, desk.reader, registry, data=desk.folder, wake=lambda: None))
        done = await what(found)
        for one in found:
            await asyncio.gather(*one._tasks)
            await one.close()
        return done

    with writers(desk, engines) as own:
        return asyncio.run(doing(own))


def upload(desk: Desk, text: str = "word\none\ntwo\n") -> BatchSpec:
    stored = spool([text.encode()], desk.folder / "uploads", "words.csv")
    options = Options(prompt="Say {{word}}", params={"max_tokens": 50})
    return BatchSpec("fake", stored.parent.name, "words.csv", options=options, name="words")


def submit(desk: Desk, spec: BatchSpec) -> dict[str, Any]:
    """Submit and record; the batch's row."""
    return desk.row(act(desk, lambda found: found[0].submit(spec, "ada", "admin")))


def folders(desk: Desk) -> set[str]:
    return {one.name for one in (desk.folder / "batches").glob("*") if one.is_dir()}


def both(done: list[Any]) -> tuple[str, list[str]]:
    """Of several at once: the one that was taken, and what the others were told."""
    made = [one for one in done if isinstance(one, str)]
    assert len(made) == 1, done
    assert all(isinstance(one, str | ValueError) for one in done), done
    return made[0], [str(one) for one in done if isinstance(one, ValueError)]


# --- a file ----------------------------------------------------------------------------------------------------------


def test_a_file_that_several_submit_at_once_is_sent_once_and_the_others_leave_nothing(either: Desk) -> None:
    spec = upload(either)

    async def at_once(found: Sequence[BatchService]) -> list[Any]:
        asked = [one.submit(spec, "ada", "admin") for one in (*found, *found, *found)]
        return await asyncio.gather(*asked, return_exceptions=True)

    made, told = both(act(either, at_once, engines=2))
    assert len(told) == 5
    assert set(told) == {"This file was submitted just now as “words”: confirm to send it again."}
    assert [row["id"] for row in batches.batches(either.reader)] == [made]
    assert folders(either) == {made}, "no file is kept of the others"
    again = submit(either, replace(spec, again=True))
    assert (again["n_lines"], len(batches.batches(either.reader))) == (2, 2)


def test_a_batch_that_could_not_be_recorded_leaves_no_file(desk: Desk) -> None:
    spec = upload(desk)
    desk.writer.close()

    async def with_a_closed_writer() -> None:
        registry = Registry(desk.writer, desk.reader, desk.file)
        one = BatchService(desk.writer, desk.reader, registry, data=desk.folder, wake=lambda: None)
        await one._insert(
            desk.folder / "batches" / "b",
            Path(desk.folder / "uploads" / spec.sha256 / "words.csv"),
            lambda _session: None,
        )

    with pytest.raises(Exception, match="closed already"):
        asyncio.run(with_a_closed_writer())
    assert not (desk.folder / "batches" / "b").exists()


# --- lines that have no answer -----------------------------------------------------------------------------------


def over(desk: Desk, batch_id: str, left: str) -> None:
    desk.do(batches.end_batch, batch_id=batch_id, state="ended", said=None, left=left)


def resend(desk: Desk, batch_id: str) -> str:
    return str(act(desk, lambda found: found[0].resend(batch_id, "ada")))


def refusal(desk: Desk, batch_id: str) -> str:
    with pytest.raises(ValueError, match="again") as raised:
        resend(desk, batch_id)
    return str(raised.value)


def test_lines_that_are_sent_again_twice_at_once_make_one_batch(either: Desk) -> None:
    old = either.batch(3)
    source = either.folder / "words.csv"
    source.write_text("word\n")
    store_file(source, either.folder / "batches" / old, linked=False)
    over(either, old, "failed")

    async def at_once(found: Sequence[BatchService]) -> list[Any]:
        return await asyncio.gather(*(one.resend(old, "ada") for one in (*found, *found)), return_exceptions=True)

    made, told = both(act(either, at_once, engines=2))
    assert set(told) == {
        "The lines without an answer were sent again just now as “test (again)”, which is not over yet: wait for its "
        "end, or cancel it and send its lines again."
    }
    assert either.row(made)["parent_id"] == old
    assert folders(either) == {old, made}


def test_what_failed_again_is_sent_from_the_batch_in_which_it_failed(desk: Desk) -> None:
    old = desk.batch(3)
    over(desk, old, "failed")
    child = resend(desk, old)
    desk.do(
        lambda *, session: (
            session.execute(LINE.update().where(LINE.c.batch_id == child, LINE.c.no == 1).values(state="succeeded"))
            and None
        )
    )
    over(desk, child, "failed")
    assert refusal(desk, old) == (
        "The lines without an answer were sent again just now as “test (again)”, where 2 lines have no answer yet: "
        "send those of that batch again."
    )
    third = resend(desk, child)
    assert desk.row(third)["n_lines"] == 2
    over(desk, third, "succeeded")
    assert "which answered all of them" in refusal(desk, child)
    act(desk, lambda found: found[0].delete(third))
    assert desk.row(resend(desk, child))["n_lines"] == 2, "what was deleted stands in nobody's way"


# --- the file of a path ------------------------------------------------------------------------------------------


def test_a_path_is_read_once_and_what_it_leads_to_later_is_nobodys_concern(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory
) -> None:
    named = tmp_path_factory.mktemp("prompts") / "words.csv"
    named.write_text("word\none\n")
    desk.file.write_text(desk.file.read_text() + f'\n[batch]\nfolders = ["{named.parent}"]\n')
    spec = replace(upload(desk), path=str(named), sha256=sha256_of(named), budget_nanousd=None)

    async def submitted(found: Sequence[BatchService]) -> str:
        batch_id = await found[0].submit(spec, "ada", "admin")
        named.unlink()
        named.symlink_to(desk.folder / "lab.sqlite3")
        return batch_id

    row = desk.row(act(desk, submitted))
    assert (row["state"], row["n_lines"], row["said"]) == ("queued", 1, None)
    assert "only in the folders" in told(desk, replace(spec, again=True), left=1)
    named.unlink()
    named.write_text("word\nanother\n")
    assert told(desk, replace(spec, again=True), left=1) == CHANGED


# --- the budget --------------------------------------------------------------------------------------------------


def told(desk: Desk, spec: BatchSpec, *, left: int = 0) -> str:
    with pytest.raises(ValueError) as raised:
        submit(desk, spec)
    assert len(batches.batches(desk.reader)) == len(folders(desk)) == left
    return str(raised.value)


def test_an_estimate_of_the_client_is_not_believed(desk: Desk) -> None:
    spec = replace(upload(desk), budget_nanousd=1000, estimate={"cost_high": 1})
    assert "which is above the budget of $0.000001: raise the budget" in told(desk, spec)
    row = submit(desk, replace(spec, over_budget=True))
    assert row["estimate"]["cost_high"] > 1000


def test_where_nothing_bounds_the_cost_the_least_that_it_comes_to_counts() -> None:
    unbounded = {"cost_low": 2_000, "cost_high": None}
    assert (
        ingest.above_budget(unbounded, 1_000) == "This costs at least $0.000002, which is above the budget of $0.000001"
    )
    assert ingest.above_budget(unbounded, 2_000) is None
    assert ingest.above_budget({"cost_low": None, "cost_high": None}, 1) is None
    assert ingest.above_budget(unbounded, None) is None


def test_of_a_large_file_the_question_of_the_budget_is_asked_when_it_is_checked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CHECKED_AT_ONCE", 0)
    spec = replace(upload(desk), budget_nanousd=1000, estimate={"cost_high": 1})
    row = submit(desk, spec)
    assert (row["state"], row["wanted"], row["n_lines"]) == ("paused", "pause", 2)
    assert row["said"].startswith("Paused before the first line. This can cost up to $")
    assert "the budget of $0.000001. Resume to send it all the same" in row["said"]
    assert row["estimate"]["cost_high"] > 1000
    act(desk, lambda found: found[0].resume(row["id"], None))
    assert (desk.row(row["id"])["state"], desk.row(row["id"])["wanted"]) == ("queued", "run")

    confirmed = submit(desk, replace(spec, again=True, over_budget=True))
    assert (confirmed["state"], confirmed["said"], confirmed["n_lines"]) == ("queued", None, 2)
    cheap = submit(desk, replace(spec, again=True, budget_nanousd=10**12))
    assert (cheap["state"], cheap["n_lines"]) == ("queued", 2)


def test_a_word_on_the_budget_outlives_an_engine_that_is_killed_while_it_checks(desk: Desk) -> None:
    named = desk.folder / "words.csv"
    named.write_text("word\none\n")
    options = {"prompt": "Say {{word}}", "params": {"max_tokens": 50}}
    batch_id = desk.batch(
        0,
        file_sha256=sha256_of(named),
        options=options,
        budget_nanousd=1000,
        file_name="words.csv",
        estimate={"over_budget": True},
    )
    store_file(named, desk.folder / "batches" / batch_id, linked=False)
    act(desk, lambda found: found[0].start())
    row = desk.row(batch_id)
    assert (row["state"], row["n_lines"]) == ("queued", 1)
    assert row["estimate"]["cost_high"] > 1000


# --- what cannot be ----------------------------------------------------------------------------------------------


def test_a_batch_cannot_follow_one_that_is_not_there(desk: Desk) -> None:
    assert "to follow is not in the records" in told(desk, replace(upload(desk), parent_id="nothing"))
    assert "NUL" in told(desk, replace(upload(desk), path="a\0b"))
