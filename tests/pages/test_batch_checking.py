"""The reading of a file in a thread: how far it is, a stop, once for everybody, and no word of what broke."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.batch import upload, validation
from services.batch.files import Cancelled
from services.batch.types import Checked, Options, Progress, Record
from services.types import Ask, Message
from tests.pages.batch_lab import BatchLab, arranged
from tests.pages.lab import page, said

pytestmark = pytest.mark.slow


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    with arranged(tmp_path, monkeypatch) as made:
        yield made


def slow_check(gate: threading.Event, seen: list[str]) -> Callable[..., Checked]:
    def check(path: Path, options: Options, *, on_progress: Any, stopped: Callable[[], bool]) -> Checked:
        seen.append(path.name)
        on_progress(Progress(50, 100, 7))
        while not gate.wait(0.01):
            if stopped():
                raise Cancelled("stopped")
        one = Record(1, 2, "a", {"text": "Hi"}, Ask((Message("user", "Hi"),)))
        return Checked("a" * 64, 10, "csv", options, ("text",), 1, 1, preview=(one,), chars_in=2, longest=2)

    return check


@pytest.fixture
def gate(lab: BatchLab, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    opens = threading.Event()
    seen: list[str] = []
    monkeypatch.setattr(validation, "QUICK_S", 0.01)
    made = validation.Readings(slow_check(opens, seen))
    monkeypatch.setattr(validation, "readings", lambda: made)
    opens.seen = seen  # type: ignore[attr-defined]
    yield opens
    opens.set()


def test_a_long_reading_shows_how_far_it_is_and_blocks_nothing(gate: threading.Event) -> None:
    at = page("batch").run()
    at.button(key="bt_sample").click()
    begun = time.monotonic()
    at.run()
    assert time.monotonic() - begun < 5
    assert not at.exception
    assert "bt_check_stop" in [b.key for b in at.button]
    assert "Where to" not in said(at)
    gate.set()
    until(lambda: bool(at.run().button) and "bt_send" in [b.key for b in at.button])


def test_a_stopped_reading_says_so_and_can_be_begun_again(gate: threading.Event) -> None:
    at = page("batch").run()
    at.button(key="bt_sample").click().run()
    at.button(key="bt_check_stop").click().run()
    until(lambda: "The check was stopped" in said(at.run()))
    assert not at.exception
    gate.set()
    at.button(key="bt_check_again").click().run()
    until(lambda: "bt_send" in [b.key for b in at.run().button])


def test_the_same_file_is_read_once_for_everybody(gate: threading.Event) -> None:
    gate.set()
    for _ in range(3):
        at = page("batch").run()
        at.button(key="bt_sample").click().run()
        until(lambda at=at: "bt_send" in [b.key for b in at.run().button])  # type: ignore[misc]
    assert len(gate.seen) == 1  # type: ignore[attr-defined]


def test_a_reading_that_breaks_is_a_sentence_without_what_broke(lab: BatchLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Checked:
        raise RuntimeError("sk-ant-secret inside")

    made = validation.Readings(broken)
    monkeypatch.setattr(validation, "readings", lambda: made)
    at = page("batch").run()
    at.button(key="bt_sample").click().run()
    assert not at.exception
    assert "could not be read to its end" in said(at)
    assert "secret" not in said(at)


def test_leaving_lines_out_reads_nothing_again() -> None:
    assert validation.same("k", Options()) == validation.same("k", Options(leave_out=True))
    assert validation.same("k", Options()) != validation.same("k", Options(suffix_ids=True))
    assert upload.Picked(Path("a"), "a", "k", 1, "upload").sha256 is None


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)
