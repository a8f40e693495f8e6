"""Asynchronous inference by unpatched boto3: each line sent once, whatever happens, and found again in S3."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.batch.providers import aws, get
from services.batch.providers.sagemaker_async import Ledger
from services.batch.types import Job, Line, RouteTrouble, SubmitLater, SubmitRefused, wire_id
from services.types import Aws, Deployment
from tests.batch.aws import house
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.house import Desk, bedrock, by_no, finish, lines, sagemaker

pytestmark = pytest.mark.slow

ROUTE = get("async")


@pytest.fixture
def own(cloud: Cloud) -> Deployment:
    cloud.sagemaker.endpoint("later", answers=f"s3://{BUCKET}/answers/", failures=f"s3://{BUCKET}/failures")
    return sagemaker(cloud, "later")


def submit(desk: Desk, own: Deployment, n: int = 60, given: Any = None) -> Job:
    return ROUTE.submit(own, house.job(n), given or lines(n), desk)


def sent(cloud: Cloud) -> Counter[str]:
    return Counter(str(one["id"]) for one in cloud.sagemaker.invocations)


@pytest.mark.slow
@pytest.mark.parametrize("wire", ["chat", "tgi"])
def test_every_line_is_sent_once_and_answered(cloud: Cloud, desk: Desk, own: Deployment, wire: Any) -> None:
    own = replace(own, wire=wire)
    made = finish(ROUTE, own, submit(desk, own))
    assert sent(cloud) == Counter(house.ids(60))
    found = by_no(ROUTE.results(own, made, desk))
    assert sorted(found) == list(range(1, 61)) and {one.outcome for one in found.values()} == {"ok"}
    assert found[9].answer == "echo prompt 9" and found[9].usage.output_total == 3


def test_what_is_asked_is_what_the_interface_takes(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    submit(desk, own, 1)
    asked = cloud.sagemaker.invocations[0]["headers"]
    assert asked["inference-id"] == "r0000000001" and asked["filename"] == "r0000000001.out"
    assert asked["requestttlseconds"] == "21600" and asked["invocationtimeoutseconds"] == "3600"


def test_a_long_line_goes_over_s3_and_a_short_one_does_not(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    short, long = lines(2)
    long = replace(long, ask=replace(long.ask, system="word " * 30_000))
    made = finish(ROUTE, own, submit(desk, own, 2, [short, long]))
    assert {one["id"]: one["inline"] for one in cloud.sagemaker.invocations} == {wire_id(1): True, wire_id(2): False}
    assert len(by_no(ROUTE.results(own, made, desk))) == 2
    bare = replace(own, aws=Aws())
    with pytest.raises(ValueError, match=r"above 128,000 it goes over S3.*batch_s3"):
        ROUTE.body(bare, long)
    assert ROUTE.limits(bare).max_record_bytes == 128_000


@pytest.mark.slow
def test_answers_are_counted_while_they_come(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.hold = True
    made = submit(desk, own)
    first = ROUTE.poll(own, made)
    assert (first.state, first.over, first.counts) == (
        "running",
        False,
        {"total": 60, "processed": 0, "succeeded": 0, "failed": 0},
    )
    cloud.sagemaker.deliver(25)
    assert (ROUTE.poll(own, made).counts or {})["succeeded"] == 25
    assert len(by_no(ROUTE.results(own, made, desk))) == 25
    cloud.sagemaker.deliver()
    last = ROUTE.poll(own, made)
    assert (last.state, last.over, last.collectable) == ("ended", True, True) and last.facts["ended_at"]


@pytest.mark.slow
def test_failures_are_those_lines_own(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.failing = frozenset({wire_id(4), wire_id(40)})
    made = finish(ROUTE, own, submit(desk, own))
    found = by_no(ROUTE.results(own, made, desk))
    assert len(found) == 60 and {no for no, one in found.items() if one.state == "failed"} == {4, 40}
    assert "too long" in (found[4].message or "")
    assert (ROUTE.poll(own, made).counts or {})["failed"] == 2


def test_a_truncated_answer_is_unreadable_and_known_by_its_line(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    made = finish(ROUTE, own, submit(desk, own, 3))
    key = cloud.s3.list_objects_v2(Bucket=BUCKET, Prefix="answers/")["Contents"][1]["Key"]
    cloud.s3.put_object(Bucket=BUCKET, Key=key, Body=b'{"choices": [{"mess')
    found = by_no(ROUTE.results(own, made, desk))
    assert (found[2].outcome, found[2].state) == ("protocol_error", "failed") and found[1].outcome == "ok"


def test_strangers_files_beside_ours_are_not_taken(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    made = submit(desk, own, 3)
    folder = cloud.s3.list_objects_v2(Bucket=BUCKET, Prefix="answers/")["Contents"][0]["Key"].rpartition("/")[0]
    cloud.s3.put_object(Bucket=BUCKET, Key=f"{folder}/r0000000099.out", Body=b"{}")
    assert (ROUTE.poll(own, made).counts or {})["succeeded"] == 3
    assert len(list(ROUTE.results(own, made, desk))) == 3


# --- once and not twice ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_second_submit_sends_nothing_again(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    first, second = submit(desk, own), submit(desk, own)
    assert sent(cloud) == Counter(house.ids(60))
    assert first.vendor_id == second.vendor_id


@pytest.mark.slow
def test_a_submit_that_was_cut_off_goes_on_where_it_was(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    def dying() -> Iterator[Line]:
        for line in lines(60):
            if line.no == 31:
                raise KeyboardInterrupt
            yield line

    with pytest.raises(KeyboardInterrupt):
        submit(desk, own, 60, dying())
    assert len(sent(cloud)) == 30
    made = finish(ROUTE, own, submit(desk, own))
    assert sent(cloud) == Counter(house.ids(60))
    assert len(by_no(ROUTE.results(own, made, desk))) == 60


def test_a_line_that_was_on_its_way_is_sent_again_only_when_it_has_no_answer(
    cloud: Cloud, desk: Desk, own: Deployment
) -> None:
    made = submit(desk, own, 4)
    path = Path(made.facts["ledger"])
    rows = path.read_bytes().splitlines(keepends=True)
    # Lines 3 and 4 were on their way when the process was killed, half a record behind them; 4 never arrived.
    kept = [row for row in rows if b'"no":3' not in row and b'"no":4' not in row]
    path.write_bytes(b"".join(kept) + b'{"no":3}\n{"no":4}\n{"no":4,"ou')
    gone = [row["Key"] for row in cloud.s3.list_objects_v2(Bucket=BUCKET)["Contents"] if "r0000000004" in row["Key"]]
    cloud.s3.delete_object(Bucket=BUCKET, Key=gone[0])
    made = submit(desk, own, 4)
    assert sent(cloud) == Counter({wire_id(1): 1, wire_id(2): 1, wire_id(3): 1, wire_id(4): 2})
    assert len(by_no(ROUTE.results(own, finish(ROUTE, own, made), desk))) == 4


@pytest.mark.slow
@pytest.mark.parametrize("faults", [["lost"], ["unheard"], ["broken"], ["lost"] * 2, ["unheard", "broken"] * 2])
def test_lost_answers_leave_one_result_for_each_line(cloud: Cloud, desk: Desk, own: Deployment, faults: Any) -> None:
    cloud.faults.extend(faults)
    made = None
    for _ in range(4):
        try:
            made = submit(desk, own, 20)
            break
        except SubmitLater:
            continue
    assert made is not None
    found = list(ROUTE.results(own, finish(ROUTE, own, made), desk))
    assert Counter(one.wire_id for one in found) == Counter(house.ids(20))


@pytest.mark.slow
def test_throttling_is_waited_for_and_loses_nothing(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.faults.extend(["throttling"] * 3)
    made = submit(desk, own, 10)
    assert sent(cloud) == Counter(house.ids(10))
    assert len(by_no(ROUTE.results(own, finish(ROUTE, own, made), desk))) == 10


@pytest.mark.slow
def test_a_stopped_submit_keeps_what_was_sent(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    desk.stop_after = 15
    made = submit(desk, own)
    assert len(sent(cloud)) == 15
    assert ROUTE.poll(own, made).state == "cancelled"
    assert sorted(by_no(ROUTE.results(own, made, desk))) == list(range(1, 16))


def test_a_submit_that_is_stopped_at_once_sends_nothing(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    desk.stop_after = 0
    with pytest.raises(SubmitLater, match="nothing was submitted"):
        submit(desk, own)
    assert not cloud.sagemaker.invocations


@pytest.mark.slow
def test_a_line_that_sagemaker_does_not_take_is_that_lines_failure(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    def slow() -> Iterator[Line]:
        for line in lines(30):
            if line.no == 25:
                while len(sent(cloud)) < 24:
                    time.sleep(0.005)
                cloud.faults.append("validation")
            yield line

    made = submit(desk, own, 30, slow())
    found = by_no(ROUTE.results(own, finish(ROUTE, own, made), desk))
    failed = [one for one in found.values() if one.state == "failed"]
    assert len(found) == 30 and len(failed) == 1
    assert "does not support batch" in (failed[0].message or "") and "AKIA" not in (failed[0].message or "")


# --- ends ------------------------------------------------------------------------------------------------------------


def test_what_was_not_answered_in_time_is_told_as_expired(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.hold = True
    made = submit(desk, own, 10)
    cloud.sagemaker.deliver(6)
    made = replace(made, facts={**made.facts, "last_sent_at": time.time() - 30_000})
    polled = ROUTE.poll(own, made)
    assert (polled.state, polled.over, polled.collectable) == ("expired", True, True)
    assert Counter(one.state for one in ROUTE.results(own, made, desk)) == {"succeeded": 6, "expired": 4}


def test_a_cancel_says_that_nothing_can_be_withdrawn(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.hold = True
    made = submit(desk, own, 10)
    ROUTE.cancel(own, made)
    polled = ROUTE.poll(own, made)
    assert (polled.state, polled.over) == ("cancelling", False) and "cannot withdraw" in polled.sentence
    cloud.sagemaker.deliver()
    assert ROUTE.poll(own, made).state == "ended"


def test_a_record_that_is_on_another_machine_is_a_trouble_in_words(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    made = submit(desk, own, 2)
    Path(made.facts["ledger"]).unlink()
    with pytest.raises(RouteTrouble, match="not on this machine"):
        ROUTE.poll(own, made)
    with pytest.raises(RouteTrouble, match="not on this machine"):
        list(ROUTE.results(own, made, desk))


# --- why not ---------------------------------------------------------------------------------------------------------


def test_only_an_asynchronous_endpoint_is_taken(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    cloud.sagemaker.endpoint("plain")
    plain = sagemaker(cloud, "plain")
    assert ROUTE.why_not(own) is None
    assert "without AsyncInferenceConfig" in (ROUTE.why_not(plain) or "")
    assert "SageMaker endpoints" in (ROUTE.why_not(bedrock()) or "")
    assert "does not know it" in (ROUTE.why_not(sagemaker(cloud, "nobody")) or "")
    with pytest.raises(SubmitRefused, match="without AsyncInferenceConfig"):
        submit(desk, plain)
    assert ROUTE.check(own) == [] and "AsyncInferenceConfig" in ROUTE.check(plain)[0]


def test_asking_why_not_again_and_again_asks_sagemaker_once(cloud: Cloud, own: Deployment) -> None:
    for _ in range(20):
        ROUTE.why_not(own)
    assert sum("DescribeEndpoint" in one and "Config" not in one for one in cloud.log) == 1


def test_why_not_does_not_wait_for_a_silent_service(
    cloud: Cloud, own: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        found, why = aws.known(own, wait_s=0.2)
        assert found is None and "has not said yet" in (why or "") and time.monotonic() - start < 2


def test_a_page_made_deployment_sends_no_signature_to_a_strange_host(cloud: Cloud, desk: Desk, own: Deployment) -> None:
    with pytest.raises(SubmitRefused, match="not AWS's"):
        submit(desk, replace(own, origin="page"))
    assert not cloud.sagemaker.invocations


def test_a_ledger_reads_what_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(
        b'{"no":1}\n{"no":1,"out":"s3://b/1","fail":"s3://b/f1"}\n{"no":2}\n{"no":3,"refused":"no"}\nnull\n{"n'
    )
    with Ledger(path) as ledger:
        assert (set(ledger.sent), ledger.refused, ledger.doubtful) == ({1}, {3: "no"}, {2})
        ledger.add_try(4)
    assert Ledger(path).read().doubtful == {2, 4}
