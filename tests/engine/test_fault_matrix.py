"""Every fault of the catalogue on every wire, through the whole engine: the right end, and its row with what came."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from services.calls.live import LiveRun
from tests.engine.house import KEY_NAME, House, table
from tests.fake.faults import FAULTS, FaultSpec, shortened_s
from tests.fake.fixture import closed_address, hanging_address
from tests.fake.scripts import Truth, truth, with_fault

pytestmark = pytest.mark.slow

COLUMNS = 8
RUNS_AT_ONCE = 12  # with all at once a busy machine is later than the limits that the tests shorten
CELLS = [(spec, wire) for spec in FAULTS.values() for wire in spec.wires]
NOT_BILLED = {
    "unauthorised",
    "not_found",
    "http_error",
    "throttled",
    "overloaded",
    "quota_exhausted",
    "unreachable",
    "timeout_connect",
}


def _name(spec: FaultSpec, wire: str) -> str:
    return f"{spec.name}-{wire}".replace("_", "-")


@pytest.fixture
def addresses() -> Any:
    with contextlib.ExitStack() as stack:
        yield {"hang": stack.enter_context(hanging_address()), "closed": stack.enter_context(closed_address())}


async def test_every_fault_on_every_wire_ends_as_it_has_to_with_its_row_and_text(
    house: House, addresses: dict[str, str]
) -> None:
    where = {"server": house.fake.url, **addresses}
    tables = [
        table(
            _name(spec, wire),
            with_fault(spec.name).model(),
            where[spec.address],
            wire,
            key_env=KEY_NAME,
            **({spec.deadline: shortened_s(spec.deadline)} if spec.deadline else {}),
        )
        for spec, wire in CELLS
    ]
    # A key goes only to hosts it is bound to, and the two dead addresses are hosts of their own.
    await house.declare(f'[keys.{KEY_NAME}]\nhosts = ["127.0.0.1"]\n\n', *tables)
    assert len(CELLS) > 200
    runs: list[LiveRun] = []
    for start in range(0, len(CELLS), COLUMNS):
        if len(runs) >= RUNS_AT_ONCE:
            await house.over(runs[-RUNS_AT_ONCE])
        names = [_name(spec, wire) for spec, wire in CELLS[start : start + COLUMNS]]
        runs.append(await house.start(names, params={"max_tokens": 50}))
    differ = []
    for number, run in enumerate(runs):
        rows = {row["column_no"]: row for row in await house.over(run)}
        for column, (spec, wire) in enumerate(CELLS[number * COLUMNS : (number + 1) * COLUMNS]):
            wrong = _differences(spec, truth(with_fault(spec.name), wire), rows[column])
            if wrong:
                differ.append((spec.name, wire, wrong))
    assert not differ
    assert not house.fake.canary_hits


def _differences(spec: FaultSpec, want: Truth, row: dict[str, Any]) -> list[str]:
    wrong = []
    if row["outcome"] not in want.outcomes:
        wrong.append(f"outcome {row['outcome']}, not {want.outcomes}")
    if row["state"] not in want.states:
        wrong.append(f"state {row['state']}, not {want.states}")
    kept = (row["answer"] or "", row["reasoning"] or "")
    if spec.name == "endless":
        if not kept[0].startswith(want.answer[:20]):
            wrong.append("an endless answer was not kept")
    elif spec.address == "server" and not spec.with_stream_options and kept != (want.answer, want.reasoning):
        wrong.append(f"kept {kept}, not {(want.answer, want.reasoning)}")
    if want.usage is not None and row["usage_source"] != "provider":
        wrong.append(f"the service's own counts were lost: {row['usage_source']}")
    if want.usage is None and row["usage_source"] == "provider":
        wrong.append("counts that the service never gave are called its own")
    if want.retry_after_s and abs((row["retry_after_s"] or 0) - want.retry_after_s) > 1.5:
        wrong.append(f"retry after {row['retry_after_s']}")
    if row["state"] != "succeeded" and not (row["message"] or "").endswith((".", "key")):
        wrong.append(f"no sentence: {row['message']}")
    if row["outcome"] in NOT_BILLED and row["http_status"] != 200 and row["cost_state"] != "not_billed":
        wrong.append(f"cost {row['cost_state']}")
    if row["state"] == "cut_off" and row["cost_state"] != "lower_bound":
        wrong.append(f"the cost of a cut answer is {row['cost_state']}")
    if row["ended_at"] is None:
        wrong.append("no end")
    return wrong
