"""The pages offer what the engine will do: what is somebody else's has no buttons for a member."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import auth
from app.batch import upload
from app.live import run_view
from app.tickets import role_in
from db import small_tables
from tests.pages.batch_lab import BatchLab, arranged, opened
from tests.pages.lab import page

ADA, EVE = "ada@example.com", "eve@example.com"
PEOPLE = ((ADA, "member", True), (EVE, "member", False), ("bob@example.com", "admin", True), (ADA, "viewer", False))


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    with arranged(tmp_path, monkeypatch) as made:
        yield made


def keys(at: AppTest) -> set[str]:
    assert not at.exception, at.exception
    found = [*at.button, *at.multiselect, *at.get("menu_button")]
    return {str(getattr(one, "key", None) or one.proto.id.rpartition("-")[2]) for one in found}


def looked(monkeypatch: pytest.MonkeyPatch, person: str, role: Any) -> None:
    monkeypatch.setattr(auth, "person_and_role", lambda: auth.Person(person, role))


@pytest.mark.slow
def test_what_is_somebody_elses_has_no_buttons(lab: BatchLab, monkeypatch: pytest.MonkeyPatch) -> None:
    run = lab.record("Why is the sky blue?", person=ADA)
    over = lab.batch(("succeeded", "failed"), person=ADA)
    going = lab.batch(("succeeded", "waiting"), state="running", ended_at=None, person=ADA)
    lab.write(small_tables.add, note_id="n1", at=datetime.now(UTC), note="moved", person=ADA)
    lab.write(
        small_tables.save_scenario, scenario_id="s1", name="bot", state={"rpm": "1"}, person=ADA, at=datetime.now(UTC)
    )
    wrong = []
    for person, role, may in PEOPLE:
        looked(monkeypatch, person, role)
        at = page("runs", q="sky").run()
        at.session_state["rn_table"] = {"selection": {"rows": [0], "columns": [], "cells": []}}
        at.run()
        shown = keys(at)
        shown |= keys(page("playground", run=run).run())
        shown |= keys(opened(over)) | keys(opened(going))
        shown |= keys(page("history").run()) | keys(page("calculator").run())
        for key in (
            "rn_star",
            "rn_delete",
            f"rn_tags_{run}",
            "pg_retry",
            "bt_delete",
            "bt_resend",
            "bt_cancel",
            "bt_pause",
            "hx_note_n1",
            "ca_drop_s1",
        ):
            if (key in shown) is not may:
                wrong.append((person, role, key, "is missing" if may else "is offered"))
    assert not wrong


def test_the_board_of_somebody_elses_run_is_looked_at_and_no_more(
    lab: BatchLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = lab.record("Why is the sky blue?", person=ADA)
    given: list[tuple[str, str]] = []
    monkeypatch.setattr(run_view, "board", lambda **values: given.append((person, role_in(values["token"]))))
    for person, role, _ in PEOPLE:
        looked(monkeypatch, person, role)
        shown, _trouble = run_view.load(run)
        assert shown is not None
        run_view.draw(shown, auth.Person(person, role), masked=False)
    assert given == [(ADA, "member"), (EVE, "viewer"), ("bob@example.com", "admin"), (ADA, "viewer")]


def test_a_bucket_is_named_by_those_only_who_may_deploy(lab: BatchLab, monkeypatch: pytest.MonkeyPatch) -> None:
    for person, role, _ in PEOPLE:
        rule = upload.allowed(auth.Person(person, role))  # type: ignore[arg-type]
        if role == "admin":
            assert upload.named("s3://bucket/words.csv", rule).origin == "s3"
        else:
            with pytest.raises(ValueError, match="Only whoever runs this server"):
                upload.named("s3://bucket/words.csv", rule)
