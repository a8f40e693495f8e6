"""A file of any length goes up in the memory of one part."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from services.aws import control
from services.batch.providers import aws
from services.batch.providers.aws import Flow, parsed
from tests.batch.aws.cloud import BUCKET, Cloud

pytestmark = pytest.mark.slow


@pytest.mark.slow
def test_an_upload_of_100_mb_holds_less_than_four_parts(cloud: Cloud) -> None:
    """moto keeps the object in this very process, so what is measured is the reading side."""

    def lines() -> Iterator[bytes]:
        for number in range(100_000):
            yield b"%08d" % number + b"x" * 991 + b"\n"

    flow = Flow(lines(), lambda _: None)
    tracemalloc.start()
    while flow.read(aws.PART_BYTES):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (flow.lines, flow.size) == (100_000, 100_000_000)
    assert peak < 4 * aws.PART_BYTES


def test_what_is_read_in_any_steps_is_what_was_written() -> None:
    whole = [b"a\n", b"", b"bb" * 5000 + b"\n", b"\xc3\xa9\n"]
    for step in (1, 2, 7, 4096, -1):
        flow = Flow(iter(whole), lambda _: None)
        found = b"".join(iter(lambda f=flow, n=step: f.read(n), b""))
        assert found == b"".join(whole) and flow.lines == 4


def test_an_object_arrives_whole_with_its_marks(cloud: Cloud) -> None:
    where = control.place(None, "us-east-1")
    to = parsed(f"s3://{BUCKET}/deep/file.jsonl")
    aws.upload(where, to, Flow((b"x" * 1_000_000 + b"\n" for _ in range(17)), lambda _: None), {"lab-lines": "17"})
    assert aws.marks_of(where, to) == {"lab-lines": "17"}
    (one,) = aws.listed(where, to._replace(key="deep"))
    assert one.size == 17 * 1_000_001 and one.name == "file.jsonl"
    assert aws.marks_of(where, to.under("none")) is None
