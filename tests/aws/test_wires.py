"""Bedrock and SageMaker through the whole engine against the emulator: every fault, the clock, signatures, facts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.aws import credentials
from services.calls.live import LiveRun
from tests.aws.faults import FAULTS, FaultSpec
from tests.aws.fixture import AwsEmulator
from tests.aws.scripts import ROUTES, truth, with_fault
from tests.aws.sigv4 import BEARER, EXPIRED
from tests.engine.house import House
from tests.fake.faults import shortened_s
from tests.fake.fixture import closed_address, hanging_address
from tests.fake.scripts import Truth

COLUMNS = 8
RUNS_AT_ONCE = 12  # with all at once a busy machine is later than the limits that the tests shorten
VENDORS = {
    "converse": "us.anthropic.claude-fake-v1:0",
    "invoke:anthropic": "anthropic.claude-fake-v1:0",
    "invoke:llama": "meta.llama-fake-v1:0",
    "invoke:mistral": "mistral.mistral-7b-fake-v0:2",
    "invoke:titan": "amazon.titan-text-fake-v1",
    "invoke:chat": "openai.gpt-oss-fake-1:0",
    "sagemaker:chat": "my-endpoint",
    "sagemaker:tgi": "my-endpoint",
    "sagemaker:lines": "my-endpoint",
}
NOT_BILLED = {
    "unauthorised",
    "not_found",
    "http_error",
    "throttled",
    "overloaded",
    "quota_exhausted",
    "unreachable",
    "timeout_connect",
    "not_ready",
}
CELLS = [(spec, route) for spec in FAULTS.values() for route in spec.routes]


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEmulator]:
    with AwsEmulator() as emulator:
        emulator.apply(monkeypatch)
        credentials.forget()
        yield emulator
    credentials.forget()


@pytest_asyncio.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    async with House(tmp_path) as made:
        yield made


def table(name: str, route: str, model: str, url: str, *, more: str = "", **limits: float) -> str:
    """One [[deployment]] on AWS. ``more``: further lines of TOML."""
    kind, wire = "bedrock", route
    if route.startswith("invoke"):
        wire = "invoke"
    elif route.startswith("sagemaker"):
        kind, wire = "sagemaker", route.partition(":")[2]
    lines = [
        "[[deployment]]",
        f'name = "{name}"',
        f'id = "{name}"',
        f'kind = "{kind}"',
        f'wire = "{wire}"',
        f"model = {json.dumps(model)}",
        f'endpoint_url = "{url}"',
        'region = "us-east-1"',
        "price = { input = 1.0, output = 2.0 }",
        *([more] if more else []),
    ]
    if limits:
        lines.append("limits = { " + ", ".join(f"{name} = {value}" for name, value in limits.items()) + " }")
    return "\n".join(lines) + "\n\n"


def named(route: str, spec: FaultSpec, **options: Any) -> str:
    """The model id or endpoint name that asks for that fault on that route."""
    if route.startswith("sagemaker"):
        options["body"] = route.partition(":")[2]
    return spec.model(VENDORS[route], **options)


def _id(spec: FaultSpec, route: str) -> str:
    return f"{spec.name}-{route}".replace("_", "-").replace(":", "-")


@pytest.fixture
def addresses() -> Any:
    with contextlib.ExitStack() as stack:
        yield {"hang": stack.enter_context(hanging_address()), "closed": stack.enter_context(closed_address())}


@pytest.mark.slow
async def test_every_fault_on_every_aws_wire_ends_as_it_has_to_with_its_row_and_text(
    house: House, aws: AwsEmulator, addresses: dict[str, str]
) -> None:
    where = {"server": aws.url, **addresses}
    await house.declare(
        *(
            table(
                _id(spec, route),
                route,
                named(route, spec),
                where[spec.address],
                **({spec.deadline: shortened_s(spec.deadline)} if spec.deadline else {}),
            )
            for spec, route in CELLS
        )
    )
    assert len(CELLS) > 450
    runs: list[LiveRun] = []
    for start in range(0, len(CELLS), COLUMNS):
        if len(runs) >= RUNS_AT_ONCE:
            await house.over(runs[-RUNS_AT_ONCE])
        names = [_id(spec, route) for spec, route in CELLS[start : start + COLUMNS]]
        runs.append(await house.start(names, params={"max_tokens": 50}))
    differ, attempts = [], 0
    for number, run in enumerate(runs):
        rows = {row["column_no"]: row for row in await house.over(run)}
        attempts += len(rows)
        for column, (spec, route) in enumerate(CELLS[number * COLUMNS : (number + 1) * COLUMNS]):
            wrong = _differences(spec, route, truth(with_fault(spec.name), route), rows[column])
            if wrong:
                differ.append((spec.name, route, wrong))
    assert not differ, "\n".join(map(str, differ))
    reached = sum(1 for spec, _ in CELLS if spec.address == "server")
    assert attempts == len(CELLS)
    assert len(aws.requests) == reached, "one attempt is one request: nothing was retried behind our back"
    assert [verdict.error for verdict in aws.verdicts if verdict.error] == []


def _differences(spec: FaultSpec, route: str, want: Truth, row: dict[str, Any]) -> list[str]:
    wrong = []
    # Titan counts in its own chunks whatever Bedrock adds, and where Converse's metadata is missing nobody counts.
    counted = None if route == "invoke:titan" or spec.name == "no_metadata" else want.usage
    if row["outcome"] not in want.outcomes:
        wrong.append(f"outcome {row['outcome']}, not {want.outcomes}: {row['message']}")
    if row["state"] not in want.states:
        wrong.append(f"state {row['state']}, not {want.states}")
    kept = (row["answer"] or "", row["reasoning"] or "")
    if spec.name == "endless":
        begun = kept[0][:20]  # on a busy machine the deadline passes when little has come
        if not begun or not want.answer.startswith(begun):
            wrong.append("an endless answer was not kept")
    elif spec.address == "server" and kept != (want.answer, want.reasoning):
        wrong.append(f"kept {kept}, not {(want.answer, want.reasoning)}")
    if counted is not None and row["usage_source"] != "provider":
        wrong.append(f"the service's own counts were lost: {row['usage_source']}")
    if counted is None and route != "invoke:titan" and row["usage_source"] == "provider":
        wrong.append("counts that the service never gave are called its own")
    if counted is not None:
        for name in ("uncached_input", "cache_read", "cache_write_5m", "cache_write_1h"):
            if (row[name] or 0) != (getattr(counted, name) or 0):
                wrong.append(f"{name} {row[name]}, not {getattr(counted, name)}")
    if row["state"] != "succeeded" and not (row["message"] or "").endswith("."):
        wrong.append(f"no sentence: {row['message']}")
    if row["outcome"] in NOT_BILLED and row["http_status"] != 200 and row["cost_state"] != "not_billed":
        wrong.append(f"cost {row['cost_state']}")
    if row["state"] == "cut_off" and row["cost_state"] != "lower_bound":
        wrong.append(f"the cost of a cut answer is {row['cost_state']}")
    if row["ended_at"] is None:
        wrong.append("no end")
    return wrong


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
async def test_the_first_token_is_stamped_within_5_ms_of_its_write(house: House, aws: AwsEmulator, route: str) -> None:
    await house.declare(table("one", route, named(route, FAULTS["ok"], tokens=12, ttft=120.0, itl=20.0), aws.url))
    for _ in range(3):  # a machine that is busy elsewhere may be late once
        (row,) = await house.ask(["one"])
        record = aws.requests[-1]
        written = (record.content_ns[0] - record.received_ns) / 1e6
        late = row["ttft_ms"] - written
        if -1 <= late <= 5:
            break
    assert row["state"] == "succeeded"
    assert -1 <= late <= 5, f"{late:.2f} ms after it was written"
    assert row["n_deltas"] == 12


async def test_what_a_request_says_of_itself_is_in_the_facts_and_the_tiers(house: House, aws: AwsEmulator) -> None:
    ok = FAULTS["ok"]
    await house.declare(
        table(
            "tier",
            "converse",
            named("converse", ok, tier="default"),
            aws.url,
            more='aws = { service_tier = "flex", latency = "optimized" }',
        ),
        table(
            "guarded", "converse", named("converse", FAULTS["guardrail"]), aws.url, more='aws = { guardrail = "abc:1" }'
        ),
        table(
            "invoke",
            "invoke:anthropic",
            named("invoke:anthropic", ok),
            aws.url,
            more='aws = { service_tier = "priority" }',
        ),
        table(
            "maker",
            "sagemaker:tgi",
            named("sagemaker:tgi", ok),
            aws.url,
            more='aws = { variant = "blue", component = "part" }',
        ),
    )
    tier, guarded, invoke, maker = await house.ask(["tier", "guarded", "invoke", "maker"])
    assert (tier["tier_asked"], tier["tier_served"]) == ("flex", "default")
    assert tier["facts"]["latency"] == "optimized"
    assert guarded["outcome"] == "guardrail"
    assert guarded["facts"]["guardrail"] == "input: topic Investment advice blocked"
    assert "Investment advice" in guarded["message"]
    assert (invoke["tier_asked"], invoke["tier_served"]) == ("priority", "priority")
    assert maker["facts"]["variant"]
    for row in (tier, guarded, invoke, maker):
        assert row["facts"]["request_id"]
        assert row["region"] == "us-east-1"
    assert all(row["server_ms"] is not None for row in (tier, guarded, invoke))
    by_path = {record.path.split("/")[1]: record for record in aws.requests}
    assert by_path["endpoints"].headers["x-amzn-sagemaker-inference-component"] == "part"
    assert by_path["endpoints"].headers["x-amzn-sagemaker-target-variant"] == "blue"
    assert {verdict.service for verdict in aws.verdicts} == {"bedrock", "sagemaker"}


async def test_provisioned_throughput_is_called_by_its_arn(house: House, aws: AwsEmulator) -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/abcdefghij12"
    made = table("bought", "converse", arn, aws.url, more='aws = { serves = "anthropic.claude-haiku-4-5" }')
    made = made.replace('"bedrock"', '"bedrock-provisioned"')
    await house.declare(made.replace("price = { input = 1.0, output = 2.0 }", "price = { per_hour = 40 }"))
    (row,) = await house.ask(["bought"], params={"max_tokens": 50, "top_k": 5})
    (record,) = aws.requests
    assert "provisioned-model%2Fabcdefghij12/converse-stream" in record.path
    assert aws.verdicts[0].error is None
    assert record.json["additionalModelRequestFields"] == {"top_k": 5}
    assert (row["outcome"], row["cost_state"]) == ("ok", "by_the_hour") or row["outcome"] == "not_found"


async def test_bedrocks_own_key_is_sent_as_a_bearer_token_instead_of_a_signature(
    house: House, aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws.apply(monkeypatch, bearer=True)
    model = named("converse", FAULTS["ok"])
    await house.declare(table("one", "converse", model, aws.url, more='key_env = "AWS_BEARER_TOKEN_BEDROCK"'))
    (row,) = await house.ask(["one"])
    assert row["outcome"] == "ok"
    assert aws.requests[0].headers["authorization"] == f"Bearer {BEARER}"
    assert aws.verdicts[0].error is None
    assert BEARER not in json.dumps(row, default=str)


async def test_expired_and_missing_credentials_say_which_of_the_two_it_is(
    house: House, aws: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.declare(table("one", "converse", named("converse", FAULTS["ok"]), aws.url))
    aws.apply(monkeypatch, EXPIRED)
    credentials.forget()
    (row,) = await house.ask(["one"])
    assert (row["outcome"], row["error_type"]) == ("unauthorised", "ExpiredTokenException")
    assert "the session has expired: sign in again" in row["message"]
    assert EXPIRED.secret not in json.dumps(row, default=str)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    credentials.forget()
    (row,) = await house.ask(["one"])
    assert row["outcome"] == "unauthorised"
    assert "no AWS credentials were found" in row["message"]
    assert "key" not in row["message"].partition("AWS_")[0]
    assert len(aws.requests) == 1


async def test_a_throttled_and_a_cut_column_do_not_disturb_those_beside_them(house: House, aws: AwsEmulator) -> None:
    faults = {"converse": "stream_throttling", "sagemaker:chat": "rst"}
    tables = [
        table(route.replace(":", "-"), route, named(route, FAULTS[faults.get(route, "ok")], tokens=15), aws.url)
        for route in ROUTES[:1] + ROUTES[1:5] + ROUTES[6:9]
    ]
    await house.declare(*tables)
    async with asyncio.timeout(30):
        rows = await house.ask([one.split('"')[1] for one in tables])
    states = {row["deployment_id"]: row["state"] for row in rows}
    assert states.pop("converse") == "throttled"
    assert states.pop("sagemaker-chat") == "cut_off"
    assert set(states.values()) == {"succeeded"}
    assert len(states) == 6
