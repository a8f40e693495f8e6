"""Recording as a stream: broken off and gone on with, and what is forgotten later."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from db import batches
from services.batch import ingest
from services.batch.ingest import Dropped, Recording, store_file, stored_file
from services.batch.reconcile import _old_uploads, forget_texts
from services.batch.types import Options, options_to_json
from tests.batch.runner.desk import Desk


def a_file(folder: Path, n: int) -> tuple[Path, str]:
    content = "id,word\n" + "".join(f"w{no},word {no}\n" for no in range(1, n + 1))
    path = folder / "words.csv"
    path.write_text(content)
    return path, hashlib.sha256(content.encode()).hexdigest()


def recorder(desk: Desk, stopped: Callable[[], bool] = lambda: False) -> Recording:
    return Recording(desk.writer, desk.reader, stopped, lambda _batch, _checked: None)


def a_batch(desk: Desk, sha256: str) -> dict[str, Any]:
    asked = options_to_json(Options(prompt="Say {{word}}"))
    batch_id = desk.batch(0, file_sha256=sha256, options=asked, file_name="words.csv")
    return desk.row(batch_id)


@pytest.mark.slow
def test_a_recording_that_is_broken_off_goes_on_with_the_first_line_that_is_missing(desk: Desk) -> None:
    path, sha256 = a_file(desk.folder, 2500)
    batch = a_batch(desk, sha256)
    looks = iter([False, False])
    with pytest.raises(Dropped):
        recorder(desk, lambda: next(looks, True)).record(batch, path, checked=_checked(path))
    half = batches.last_no(desk.reader, batch["id"])
    assert 0 < half < 2500
    assert desk.row(batch["id"])["n_lines"] == 0, "no worker touches it"
    assert recorder(desk).record(batch, path, checked=None) == 2500
    row = desk.row(batch["id"])
    assert (row["n_lines"], row["n_left_out"], row["said"], row["columns"]) == (2500, 0, None, ["id", "word"])
    lines = list(batches.each_line(desk.reader, batch["id"]))
    assert [line["no"] for line in lines] == list(range(1, 2501))
    assert (lines[-1]["record_id"], lines[-1]["line"]) == ("w2500", 2501)


def _checked(path: Path) -> Any:
    from services.batch import files

    return files.check(path, Options(prompt="Say {{word}}"))


def test_a_file_that_changed_or_cannot_be_sent_is_refused(desk: Desk) -> None:
    path, sha256 = a_file(desk.folder, 3)
    batch = a_batch(desk, sha256)
    path.write_text("id,word\nw1,other\n")
    with pytest.raises(ValueError, match="changed since it was checked"):
        recorder(desk).record(batch, path, checked=None)
    path.write_text("")
    batch = a_batch(desk, hashlib.sha256(b"").hexdigest())
    with pytest.raises(ValueError, match="No records"):
        recorder(desk).record(batch, path, checked=None)
    recorder(desk).fail(batch["id"], "No records found.")
    assert (desk.row(batch["id"])["state"], desk.row(batch["id"])["said"]) == ("failed", "No records found.")


def test_a_cancelled_batch_is_not_recorded_to_its_end(desk: Desk) -> None:
    path, sha256 = a_file(desk.folder, 1500)
    batch = a_batch(desk, sha256)
    desk.do(batches.set_batch, batch_id=batch["id"], wanted="cancel")
    with pytest.raises(Dropped):
        recorder(desk).record(batch, path, checked=_checked(path))


def test_the_file_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    source = tmp_path / "prompts.tar.gz"
    source.write_bytes(b"x" * 1000)
    kept = store_file(source, tmp_path / "b1", linked=False)
    assert kept.name == "input.tar.gz" and kept.read_bytes() == source.read_bytes()
    assert stored_file(tmp_path / "b1") == kept
    assert stored_file(tmp_path / "b2") is None
    with pytest.raises(ValueError, match="could not be stored"):
        store_file(tmp_path / "nothing.csv", tmp_path / "b2", linked=False)
    assert stored_file(tmp_path / "b2") is None


def test_texts_of_old_batches_are_forgotten_with_their_files_and_the_figures_stay(desk: Desk) -> None:
    path, sha256 = a_file(desk.folder, 5)
    old, fresh = a_batch(desk, sha256), a_batch(desk, sha256)
    for batch in (old, fresh):
        recorder(desk).record(batch, path, checked=None)
        store_file(path, desk.folder / "batches" / batch["id"], linked=False)
        desk.do(batches.end_batch, batch_id=batch["id"], state="ended", said=None, left="failed")
    long_ago = datetime.now(UTC) - timedelta(days=40)
    desk.do(batches.set_batch, batch_id=old["id"], unless_over=False, created_at=long_ago)
    assert asyncio.run(forget_texts(desk.writer, None, desk.folder)) == []
    assert asyncio.run(forget_texts(desk.writer, 30, desk.folder)) == [old["id"]]
    assert asyncio.run(forget_texts(desk.writer, 30, desk.folder)) == []
    lines = list(batches.each_line(desk.reader, old["id"]))
    assert len(lines) == 5
    assert all(line["request"] is None and line["original"] is None and not line["record_id"] for line in lines)
    assert stored_file(desk.folder / "batches" / old["id"]) is None
    assert next(batches.each_line(desk.reader, fresh["id"]))["request"] is not None
    with desk.reader.connect() as connection:
        kept = connection.execute(text("SELECT count(*) FROM batch_line WHERE original LIKE '%word%'")).scalar()
    assert kept == 5


def test_uploads_that_were_never_submitted_go_after_a_while(tmp_path: Path) -> None:
    (tmp_path / "aa").mkdir()
    (tmp_path / "aa" / "f.csv").write_text("x")
    _old_uploads(tmp_path, 0.0)
    assert (tmp_path / "aa" / "f.csv").exists()
    _old_uploads(tmp_path, datetime.now(UTC).timestamp() + 60)
    assert not (tmp_path / "aa").exists()


def test_what_is_said_of_a_file_that_cannot_be_sent_names_the_first_fault(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("id,word\na,one\nb\n")
    from services.batch import files

    said = ingest.refusal(files.check(path, Options(prompt="{{word}}")))
    assert said is not None and "1 of 2 lines cannot be sent" in said and "Line 3" in said
