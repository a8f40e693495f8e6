"""The lab of page tests with batches: a client that keeps what it is asked, and real rows in the real tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import auth as app_session
from app.batch import validation
from db import batch_queries, runs
from db.models import Batch, BatchJob, BatchLine
from services.batch.service import BatchSpec
from services.batch.types import LineState, ask_to_json
from services.client import EngineError
from services.runs.spec import ColumnSpec, RunSpec, new_id
from services.types import Ask, Message
from tests.pages.lab import Engine, Lab, call_row, finished, page, run_row


@contextmanager
def arranged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchLab]:
    """A lab whose data lie in a folder, before the pages."""
    monkeypatch.setenv("LAB_DATA", str(folder))
    validation.readings.clear()
    before, made = app_session.sources, BatchLab(folder)
    app_session.sources = made
    yield made
    app_session.sources = before


def opened(batch_id: str, tab: str | None = None) -> AppTest:
    """The page with a batch, and one of its tabs, open."""
    at = page("batch")
    at.query_params["batch"] = batch_id
    at.run()
    if tab is not None:
        at.session_state["bt_tabs"] = tab
        at.run()
    assert not at.exception, at.exception
    return at


def select(at: AppTest, row: int, key: str = "bt_lines") -> AppTest:
    """The page after a click on a cell in a line of a table."""
    column = {"bt_list": "state", "bt_pairs": "a"}.get(key, "answer")
    at.session_state[key] = {"selection": {"rows": [], "columns": [], "cells": [(row, column)]}}
    return at.run()


class BatchLab(Lab):
    """A lab whose engine takes batches."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.submitted: list[BatchSpec] = []
        self.refusal: str | None = None
        self.no_worker: str | None = None

    def engine(self, person: app_session.Person) -> Any:
        return BatchEngine(self, person)

    def batch(
        self,
        states: Sequence[LineState] = ("succeeded",) * 3,
        *,
        jobs: Sequence[Mapping[str, Any]] = (),
        answers: Sequence[str] = (),
        d: str = "local-chat",
        **values: Any,
    ) -> str:
        """A batch with one line for each of ``states``; those that are over have their call. Returns its id."""
        now = datetime.now(UTC)
        batch_id, deployment = new_id(), self.deployment(d)
        run = run_row(RunSpec("{{text}}", (ColumnSpec(d),), source="batch", repetitions=max(min(len(states), 30), 1)))
        self.write(runs.insert_run, values=run)
        over = values.get("state", "ended") in ("ended", "cancelled", "expired", "failed")
        row = {
            "id": batch_id,
            "created_at": now - timedelta(minutes=5),
            "person": "local",
            "name": "Reviews",
            "deployment_id": d,
            "deployment": deployment.to_json(),
            "route": "runner",
            "state": "ended",
            "file_name": "reviews.csv",
            "file_sha256": "a" * 64,
            "columns": ["id", "text"],
            "run_id": run["id"],
            "n_lines": len(states),
            "n_left_out": 0,
            "wanted": "run",
            "started_at": now - timedelta(minutes=4),
            "ended_at": now if over else None,
        } | values
        calls, lines = [], []
        for no, state in enumerate(states, 1):
            call_id = None
            answer = answers[no - 1] if answers else f"Answer {no}"
            if state in ("succeeded", "failed"):
                call = call_row(run, deployment, 0, no) | finished(answer, 0, no, state)
                calls.append(call)
                call_id = call["id"]
            lines.append(
                BatchLine(
                    batch_id=batch_id,
                    no=no,
                    line=no + 1,
                    record_id=f"a{no}",
                    state=state,
                    attempts=1,
                    request=ask_to_json(Ask((Message("user", f"Question {no}"),))),
                    call_id=call_id,
                    original={"id": f"a{no}", "text": f"Question {no}"},
                    outcome={"succeeded": "ok", "failed": "http_error"}.get(state),
                    message="The service answered 500." if state == "failed" else None,
                    answer=answer if state == "succeeded" else None,
                    ended_at=now if state not in ("waiting", "running") else None,
                )
            )
        if calls:
            self.write(runs.insert_calls, rows=calls)

        def add(session: Any) -> None:
            session.add(Batch(**row))
            session.flush()
            session.add_all(lines)
            session.add_all(
                [
                    BatchJob(
                        batch_id=batch_id,
                        no=no,
                        token=f"t{no}",
                        first_no=1,
                        last_no=len(states),
                        n_lines=len(states),
                        **job,
                    )
                    for no, job in enumerate(jobs, 1)
                ]
            )

        self.write(add)
        return batch_id


class BatchEngine(Engine):
    """The engine with its batches."""

    lab: BatchLab

    @property
    def batches(self) -> Batches:
        return Batches(self)


class Batches:
    """`services.client.BatchClient` as far as pages use it."""

    def __init__(self, engine: BatchEngine) -> None:
        self.engine, self.lab = engine, engine.lab

    def submit(self, spec: BatchSpec) -> str:
        self.engine._may("send")
        if self.lab.refusal:
            raise EngineError(self.lab.refusal)
        self.lab.submitted.append(spec)
        return self.lab.batch(
            ("waiting",) * 2,
            state="queued",
            name=spec.name,
            file_sha256=spec.sha256,
            deployment_id=spec.deployment_id,
            ended_at=None,
        )

    def workers(self) -> dict[str, Any]:
        return {"workers": [], "said": self.lab.no_worker}

    def vote(self, batch_a: str, batch_b: str, no: int, choice: str | None) -> None:
        self.engine._may("vote")
        self.lab.write(
            batch_queries.vote, batch_a=batch_a, batch_b=batch_b, no=no, person=self.engine.person.name, choice=choice
        )

    def __getattr__(self, name: str) -> Any:
        if name not in ("pause", "resume", "cancel", "resend", "delete"):
            raise AttributeError(name)

        def ask(batch_id: str, *more: Any) -> Any:
            self.engine._may("delete" if name == "delete" else "send")
            if self.lab.refusal:
                raise EngineError(self.lab.refusal)
            self.lab.asked.append((name, batch_id, *more))
            return self.lab.batch(("waiting",), state="queued", parent_id=batch_id) if name == "resend" else None

        return ask
