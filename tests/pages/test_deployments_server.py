"""The server behind a deployment on the Deployments page: its state, its facts, and what its hours cost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session, update
from streamlit.testing.v1 import AppTest

from db import runs
from db.models import Call, DeploymentRow
from services.servers import Gauge, ServerFacts, read_metrics
from services.types import Deployment, PriceRef
from tests.pages.lab import NEEDY, Lab, page, said

GAUGE = Gauge("vLLM", 3, 1, 0.4196, 1000.0, 500.0)


def own(lab: Lab, **changes: object) -> Deployment:
    """A server of one's own, first in the list."""
    made = Deployment("mine", "Mine", "openai-compatible", "llama-8b", "https://llm.example.com/v1", origin="page")
    made = replace(made, **changes)  # type: ignore[arg-type]  # fields of a deployment
    lab.listed.insert(0, made)
    lab.write(runs.upsert_deployment, deployment_id=made.id, spec=made.to_json(), origin="page", enabled=True)
    return made


def told(lab: Lab, gauge: Gauge | None, facts: ServerFacts | None = None, **said: str) -> None:
    """What the engine says of that server."""
    lab.servers["mine"] = {
        "gauge": gauge.to_json() if gauge else None,
        "facts": facts.to_json() if facts else None,
        "trouble": None,
        "facts_trouble": None,
        **said,
    }


def opened(row: int = 0) -> AppTest:
    at = page("deployments").run()
    at.session_state["dp_table"] = {"selection": {"rows": [row], "columns": [], "cells": []}}
    return at.run()


def metrics(at: AppTest) -> dict[str, str]:
    return {metric.label: metric.value for metric in at.metric}


def test_the_gauge_shows_what_the_server_says_and_hits_since_it_was_looked_at(lab: Lab) -> None:
    own(lab)
    told(lab, GAUGE, ServerFacts("vLLM", "0.11.2", ("llama-8b",), 131072))
    at = opened()
    assert not at.exception
    assert metrics(at) == {
        "Running": "3",
        "Waiting": "1",
        "KV cache": "42 %",
        "Prefix hits": "–",
        "Hits since its start": "50 %",
    }
    told(lab, replace(GAUGE, running=0, prefix_queries=1100.0, prefix_hits=590.0))
    at.run()
    assert metrics(at)["Prefix hits"] == "90 %"
    assert metrics(at)["Running"] == "0"
    told(lab, replace(GAUGE, prefix_queries=10.0, prefix_hits=1.0))
    at.run()
    assert metrics(at)["Prefix hits"] == "–", "the server was started again"


def test_the_facts_are_told_and_a_model_that_is_not_served_is_named(lab: Lab) -> None:
    own(lab)
    told(lab, GAUGE, ServerFacts("vLLM", "0.11.2", ("llama-70b", "**bold**"), 131072))
    at = opened()
    table = "".join(str(t.value.to_dict()) for t in at.table).replace("\\", "")
    assert "0.11.2" in table
    assert "131,072 tokens" in table
    assert "This server does not list the model “llama-8b”; it serves llama-70b, **bold**." in said(at)


def test_what_is_not_reported_is_said_and_never_zero(lab: Lab) -> None:
    own(lab)
    told(lab, Gauge("TGI", 4, 7))
    at = opened()
    assert metrics(at) == {
        "Running": "4",
        "Waiting": "7",
        "KV cache": "–",
        "Prefix hits": "–",
        "Hits since its start": "–",
    }
    assert "This server does not report its KV cache." in said(at)
    told(lab, None, trouble="There is no /metrics at this address (404).")
    at.run()
    assert metrics(at) == {}
    assert "There is no /metrics at this address (404)." in said(at)


def test_what_cannot_be_read_is_said_to_be_not_readable(lab: Lab) -> None:
    own(lab)
    told(lab, read_metrics(b"vllm:num_requests_running 1e308\nvllm:num_requests_waiting -1e308\n"))
    at = opened()
    assert not at.exception
    assert (metrics(at)["Running"], metrics(at)["Waiting"]) == ("not readable", "not readable")
    assert "What this server reports as how many requests wait is not readable." in said(at)


def test_a_managed_api_has_no_server_to_look_at(lab: Lab) -> None:
    lab.listed.insert(0, NEEDY)
    at = opened()
    assert not at.exception
    assert metrics(at) == {}
    assert "server" not in said(at).split("Local model servers")[0].lower()


@pytest.mark.slow
def test_hours_are_spread_over_the_calls_that_were_made(lab: Lab) -> None:
    own(lab, price=PriceRef(per_hour="1.41"))
    told(lab, GAUGE)
    now = datetime.now(UTC)
    with Session(lab.writer) as session:
        session.execute(update(DeploymentRow).values(created_at=now - timedelta(days=3)))
        session.commit()
    assert "$1.41 an hour · no call from here in the last 24 h: $33.84 paid for idle time" in said(opened())
    lab.record(ids=("mine", "mine"))
    with Session(lab.writer) as session:
        half = timedelta(minutes=30)
        session.execute(update(Call).values(started_at=now - 2 * half, end_ms=half.total_seconds() * 1000))
        session.commit()
    words = said(opened())
    assert (
        "busy 2 % of the last 24 h, counting the calls from here, 2.0 at once · $33.14 of $33.84 paid for idle time"
        in words
    )
    assert "$16,920.00 per 1,000 calls" in words


def test_a_token_price_says_nothing_of_hours(lab: Lab) -> None:
    own(lab, price=PriceRef(override={"input": "1", "output": "2"}))
    assert "an hour" not in said(opened())
