"""Every route that takes a body, with bodies that are wrong: the answer is a sentence for the person, never a 500."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest
from aiohttp.test_utils import TestClient, TestServer

from services.engine_process.batches import make_app
from services.runs.spec import ColumnSpec, RunSpec
from services.types import Deployment
from tests.engine.house import House

HEAD = {"x-lab-role": "admin", "host": "engine"}
WRITING = ("POST", "PUT", "PATCH")
SPEC = RunSpec(
    "Hello", (ColumnSpec("nobody"),), system="s", template="t", parent_run_id="r", tags=("a",), variables={"x": "1"}
).to_json()
MADE = Deployment(
    id="d",
    name="D",
    kind="openai-compatible",
    model="m",
    base_url="https://h.example/v1",
    region="r",
    headers={"x-a": "1"},
    labels=("a",),
    params=("seed",),
    context_tokens=5,
    key_env="A_KEY",
    note="n",
).to_json()
# "nowhere" is no region, so AWS is never asked.
PLACE = {"profile": None, "region": "nowhere"}
# What each route takes: every field here is given wrong values, one after the other.
BODIES: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/runs"): SPEC | {"attachments": [{"name": "n", "text": "t"}]},
    ("POST", "/runs/{id}/stop"): {"column": 0},
    ("POST", "/runs/{id}/retry"): {"column": 0},
    ("PATCH", "/runs/{id}"): {"starred": True, "tags": ["a"], "note": "n"},
    ("POST", "/runs/{id}/votes"): {
        "choice": "a",
        "blind": True,
        "column_a": 0,
        "column_b": 1,
        "deployment_a": "a",
        "deployment_b": "b",
        "winner": "a",
        "repetition": 1,
    },
    ("POST", "/runs/delete"): {"run_ids": ["r"]},
    ("POST", "/deployments"): {
        name: value for name, value in MADE.items() if name not in ("origin", "aws", "price", "limits")
    }
    | {"aws": {"profile": "p"}, "limits": {"total_s": 5.0}, "price": {"per_hour": "1", "count": 2}},
    ("PATCH", "/deployments/{id}"): {"enabled": True},
    ("POST", "/deployments/{id}/test"): {},
    ("POST", "/catalogue/{provider}"): {"on": True},
    ("POST", "/embedded/{name}/restart"): {},
    ("POST", "/aws/provisioned"): PLACE
    | {
        "name": "n",
        "model": "m",
        "units": 1,
        "commitment": "none",
        "token": "t",
        "confirm": "create n",
    },
    ("POST", "/aws/provisioned/rename"): PLACE | {"arn": "a", "name": "n"},
    ("POST", "/aws/provisioned/delete"): PLACE | {"arn": "a", "confirm": "n"},
    ("POST", "/aws/refresh"): {},
    ("POST", "/history/alerts"): {
        "metric": "error_rate",
        "threshold": 0.1,
        "window_s": 900,
        "name": "n",
        "deployments": ["a"],
        "targets": [],
        "enabled": True,
        "id": "",
    },
    ("POST", "/scenarios"): {"name": "s", "state": {"rpm": "60"}},
    ("POST", "/history/notes"): {"at": "2026-11-24T12:00:00+00:00", "note": "n"},
    ("PUT", "/history/budget"): {"monthly_usd": "5"},
    ("POST", "/rollups/unroll"): {"day": "2026-11-24T00:00:00+00:00"},
    ("POST", "/rollups/fold"): {},
    ("POST", "/batches"): {
        "deployment_id": "d",
        "sha256": "0" * 64,
        "file_name": "f.csv",
        "route": "runner",
        "path": "/nowhere",
        "options": {
            "format": "csv",
            "encoding": "utf-8",
            "delimiter": ";",
            "id_column": "id",
            "prompt": "{{x}}",
            "system": "s",
            "params": {},
            "suffix_ids": True,
            "sheet": "s",
            "leave_out": True,
        },
        "name": "n",
        "budget_nanousd": 5,
        "objective_ms": 500.0,
        "max_lanes": 3,
        "per_minute": 60,
        "notify": ["ALERT_X"],
        "parent_id": "p",
        "estimate": {},
        "again": True,
        "over_budget": True,
    },
    ("POST", "/batches/votes"): {"batch_a": "a", "batch_b": "b", "no": 1, "choice": "a"},
    ("POST", "/batches/{id}/pause"): {},
    ("POST", "/batches/{id}/resume"): {"budget_nanousd": 5},
    ("POST", "/batches/{id}/cancel"): {},
    ("POST", "/batches/{id}/resend"): {},
}
# A field that may be a number or its text; what is set by the colours and kept as it comes.
EITHER = {("/history/budget", "monthly_usd")}


def _routes() -> list[tuple[str, str]]:
    found = make_app(cast(Any, None), cast(Any, None)).router.routes()
    return [(r.method, r.resource.canonical) for r in found if r.method in WRITING and r.resource is not None]


ROUTES = _routes()
EVERY_FIELD = sorted({name for body in BODIES.values() for name in body})
DEEP: Any = json.loads("[" * 300 + "]" * 300)
WRONG: tuple[Any, ...] = (
    None,
    True,
    5,
    -1,
    10**30,
    1e308,
    -1e308,
    0.5,
    "odd",
    "",
    "x" * 200_000,
    "\x00",
    [],
    [None],
    ["a", 5],
    [[]],
    {},
    {"a": None},
    {"a": [{"b": 1}]},
    DEEP,
    {"a": DEEP},
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
)


def odd(good: Any) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """(what was done, the body, whether it has to be refused): each field, and each field inside it, made wrong."""
    for name, value in good.items():
        for wrong in WRONG:
            yield f"{name} = {str(wrong)[:30]}", good | {name: wrong}, _other_kind(value, wrong)
        if isinstance(value, dict):
            yield from ((f"{name}.{what}", good | {name: inner}, must) for what, inner, must in odd(value))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            yield from ((f"{name}[0].{what}", good | {name: [inner]}, must) for what, inner, must in odd(value[0]))
        elif isinstance(value, list):
            yield f"{name} = [5]", good | {name: [5]}, True


def _other_kind(value: Any, wrong: Any) -> bool:
    """Whether a value is of another kind than the right one. Null, and a number for a number, may be right."""
    if wrong is None or value is None:
        return False
    number = (int, float)
    if isinstance(value, bool) or isinstance(wrong, bool):
        return type(value) is not type(wrong)
    return not (isinstance(wrong, type(value)) or (isinstance(value, number) and isinstance(wrong, number)))


@pytest.fixture
async def door(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[TestClient[Any, Any]]:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    async with TestClient(TestServer(house.app())) as client:
        yield client


def test_every_route_that_takes_a_body_is_in_the_list_of_bodies() -> None:
    assert set(ROUTES) == set(BODIES), "give the new route a right body, so that each of its fields is tried"


@pytest.mark.slow
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_a_body_with_a_wrong_kind_is_refused_in_one_sentence(
    door: TestClient[Any, Any], method: str, path: str
) -> None:
    good = BODIES.get((method, path), dict.fromkeys(EVERY_FIELD, "a"))
    url = path.replace("{id}", "nothing").replace("{provider}", "openai").replace("{name}", "nobody")
    tried: list[tuple[str, Any, bool]] = [("whole body", whole, True) for whole in ([], "a", 5, None, DEEP)]
    tried += [("without a field", {k: v for k, v in good.items() if k != left}, False) for left in good]
    tried += odd(good)
    for what, body, must in tried:
        async with door.request(method, url, data=json.dumps(body).encode(), headers=HEAD) as answer:
            text, status = await answer.text(), answer.status
        assert status < 500, (what, text)
        takes_nothing = not good and what == "whole body"
        if must and not takes_nothing and (path, what.partition(" = ")[0]) not in EITHER:
            assert 400 <= status < 500, (what, text)
        if status >= 400:
            _one_sentence(json.loads(text)["error"], what)


def _one_sentence(said: str, what: str) -> None:
    assert said.endswith(".") and said == said.strip() and len(said) < 500, (what, said)
    assert said[0].isupper() or said[0] in "“'", (what, said)
    for python in ("NoneType", "Error(", "' object", "invalid literal", "could not convert", "isoformat", "dict", "()"):
        assert python not in said, (what, said)


async def test_a_body_that_is_no_json_or_too_large_is_refused_in_one_sentence(door: TestClient[Any, Any]) -> None:
    for data, status in ((b"{", 422), (b"\xff\xfe", 422), (b"[" * 100_000, 422), (b" " * (17 * 2**20), 413)):
        async with door.put("/history/budget", data=data, headers=HEAD) as answer:
            assert answer.status == status
            _one_sentence((await answer.json())["error"], str(data[:9]))


async def test_only_our_own_clients_are_answered(door: TestClient[Any, Any]) -> None:
    answered = []
    for host in ("localhost", "127.0.0.1:8501", "evil.example", "engine.evil.example", "engine:80", "engine.", ""):
        for method, path in (("GET", "/health"), ("POST", "/runs"), ("GET", "/nothing")):
            async with door.request(method, path, headers=HEAD | {"host": host, "x-forwarded-host": "engine"}) as told:
                if told.status != 421:
                    answered.append((host, path, told.status))
    async with door.get("/health", headers=HEAD | {"origin": "http://engine"}) as told:
        assert told.status == 421
    async with door.get("/health", headers=HEAD) as told:
        assert told.status == 200
    assert not answered
