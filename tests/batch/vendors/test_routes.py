"""Which routes a deployment has, their limits, and that looking at them loads no SDK."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from services.batch import providers
from services.batch.types import Line
from services.deployments.config import CATALOGUE, embedded_deployments
from services.paths import ROOT
from services.types import Ask, Deployment, Message

CLAUDE = next(one for one in CATALOGUE if one.kind == "anthropic")
GPT = next(one for one in CATALOGUE if one.kind == "openai")


def test_every_deployment_has_our_own_runner_and_it_comes_last() -> None:
    for one in (*CATALOGUE, *embedded_deployments()):
        assert providers.eligible(one)[-1] == "runner"


def test_the_vendors_models_have_the_vendors_batches() -> None:
    assert providers.eligible(CLAUDE) == ["anthropic", "runner"]
    assert providers.eligible(GPT) == ["openai", "runner"]


@pytest.mark.parametrize("name", ["openai", "anthropic"])
def test_what_has_no_batch_service_is_told_why(name: str) -> None:
    route = providers.get(name)  # type: ignore[arg-type]  # one of the names
    for one in (
        *embedded_deployments(),
        Deployment(id="v", name="vLLM", kind="openai-compatible", model="m", base_url="http://127.0.0.1:8000"),
    ):
        why = route.why_not(one)
        assert why is not None and why.endswith(".")


def test_the_runner_and_unknown_names_are_no_services() -> None:
    for name in ("runner", "telex"):
        with pytest.raises(ValueError, match="is not a batch service"):
            providers.get(name)  # type: ignore[arg-type]  # that is what is tested


@pytest.mark.slow
def test_looking_at_routes_limits_and_lines_loads_no_sdk() -> None:
    code = (
        "import sys; from services.batch import providers as routes; from services.batch.types import Line;"
        "from services.deployments.config import CATALOGUE; from services.types import Ask; from services.types "
        "import Message;"
        "ask = Ask((Message('user', 'x'),));"
        "[routes.get(n).limits(d) and routes.get(n).body(d, Line(1, ask)) for d in CATALOGUE"
        " for n in routes.eligible(d) if n != 'runner'];"
        "print([one for one in ('openai', 'anthropic', 'boto3', 'streamlit') if one in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert found.stdout.strip() == "[]"


def test_limits_are_those_of_the_dated_file_and_name_their_source() -> None:
    openai, anthropic = providers.get("openai").limits(GPT), providers.get("anthropic").limits(CLAUDE)
    assert (openai.max_records, openai.max_bytes, openai.window_h, openai.results_days) == (50_000, 200_000_000, 24, 30)
    assert (anthropic.max_records, anthropic.window_h, anthropic.results_days) == (100_000, 24, 29)
    for one in (openai, anthropic):
        assert "looked up 20" in one.source


def test_every_service_in_the_file_has_a_source_and_a_date() -> None:
    data = json.loads(Path(ROOT / "services/data/batch_limits.json").read_text(encoding="utf-8"))
    for name, row in data.items():
        if name != "note":
            assert row["source"] and len(row["date"]) == 10


def test_a_service_tier_of_live_calls_is_left_out_of_batch_lines() -> None:
    for deployment in (GPT, CLAUDE):
        tiered = replace(deployment, extra_body={"service_tier": "priority"})
        line = Line(1, Ask((Message("user", "x"),)))
        name = providers.eligible(deployment)[0]
        assert b"service_tier" not in providers.get(name).body(tiered, line)


def test_a_text_that_json_cannot_hold_is_refused_in_words() -> None:
    line = Line(1, Ask((Message("user", "\ud800"),)))
    for name, deployment in (("openai", GPT), ("anthropic", CLAUDE)):
        with pytest.raises(ValueError, match="cannot be written as JSON"):
            providers.get(name).body(deployment, line)  # type: ignore[arg-type]  # one of the names
