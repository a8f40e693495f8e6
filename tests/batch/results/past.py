"""A past for tests: recorded calls, finished batches, and a batch service."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine
from sqlmodel import Session

from db.models import Batch, Call, Run
from services.batch.types import Line, RouteLimits
from services.types import Deployment

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


class Vendor:
    """A batch service that takes everything."""

    name = "anthropic"
    title = "Anthropic batches"

    def __init__(self, refusal: str | None = None, **limits: Any) -> None:
        self.refusal, self.given = refusal, RouteLimits(**({"window_h": 24} | limits))

    def why_not(self, deployment: Deployment) -> str | None:
        return self.refusal

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        assert not ask, "an estimate asks no service"
        return self.given

    def body(self, deployment: Deployment, line: Line) -> bytes:
        return b"{" + b"x" * (len(line.ask.messages[0].text) + 98) + b"}"


def put_calls(engine: Engine, *calls: Mapping[str, Any], deployment_id: str = "one") -> None:
    """Succeeded calls, one second apart, each with a prompt of ``chars`` characters."""
    with Session(engine) as session:
        run = Run(id=f"run-{deployment_id}", created_at=NOW, person="ada", source="playground")
        session.merge(run)
        session.commit()
        for number, call in enumerate(calls):
            values = dict(call)
            text = "x" * values.pop("chars", 400)
            session.add(
                Call(
                    **(
                        {
                            "id": f"{deployment_id}-{number}",
                            "run_id": run.id,
                            "column_no": 0,
                            "deployment_id": deployment_id,
                            "kind": "openai-compatible",
                            "model": "m",
                            "wire": "chat",
                            "source": "playground",
                            "person": "ada",
                            "state": "succeeded",
                            "outcome": "ok",
                            "created_at": NOW - timedelta(seconds=number),
                            "usage_source": "provider",
                            "uncached_input": 100,
                            "answer_output": 50,
                            "request": {"ask": {"messages": [{"role": "user", "text": text}]}},
                        }
                        | values
                    )
                )
            )
        session.commit()


def put_batches(engine: Engine, *batches: Mapping[str, Any]) -> None:
    with Session(engine) as session:
        for number, batch in enumerate(batches):
            begun = NOW - timedelta(days=1)
            values = {"deployment_id": "one", "route": "runner", "n_lines": 100, "state": "ended"} | dict(batch)
            ended = begun + timedelta(seconds=values.pop("seconds"))
            session.add(
                Batch(
                    id=f"b{number}",
                    created_at=begun,
                    person="ada",
                    name="n",
                    file_name="f",
                    file_sha256="s",
                    started_at=begun,
                    ended_at=ended,
                    **values,
                )
            )
        session.commit()
