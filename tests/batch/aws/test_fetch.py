"""A file of prompts that lies in S3, over moto: copied whole under its hash, told, stopped, and refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.aws import control
from services.aws.control import AwsTrouble
from services.batch.files import Cancelled, sha256_of
from services.batch.ingest import CHUNK_BYTES, fetch
from services.batch.types import Progress
from tests.batch.aws.cloud import Cloud

BODY = b"id,text\n" + b"".join(b"%d,Question %d\n" % (n, n) for n in range(200_000))


@pytest.fixture
def uri(cloud: Cloud) -> str:
    where = control.place(None, None)
    control.call("s3", where, lambda s3: s3.create_bucket(Bucket="prompts-here"))
    control.call("s3", where, lambda s3: s3.put_object(Bucket="prompts-here", Key="in/big file.csv", Body=BODY))
    return "s3://prompts-here/in/big file.csv"


def test_a_file_is_copied_whole_under_its_hash_and_its_progress_is_told(uri: str, tmp_path: Path) -> None:
    told: list[Progress] = []
    found = fetch(uri, tmp_path, on_progress=told.append)
    assert found.read_bytes() == BODY
    assert found.parent.name == sha256_of(found)
    assert found.name == "big file.csv"
    assert told[-1].done_bytes == told[-1].all_bytes == len(BODY) > CHUNK_BYTES
    assert [one.done_bytes for one in told] == sorted(one.done_bytes for one in told)


def test_a_stopped_copy_leaves_nothing_behind(uri: str, tmp_path: Path) -> None:
    with pytest.raises(Cancelled):
        fetch(uri, tmp_path, stopped=lambda: True)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("wrong", ["s3://", "s3://bucket", "s3://bucket/", "https://bucket/key"])
def test_an_address_that_names_no_file_is_said(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not name a file in S3"):
        fetch(wrong, tmp_path)


def test_a_file_that_is_not_there_is_a_sentence_of_ours(uri: str, tmp_path: Path) -> None:
    with pytest.raises(AwsTrouble) as raised:
        fetch("s3://prompts-here/nothing.csv", tmp_path)
    assert str(raised.value).endswith(".")
    assert "Traceback" not in str(raised.value)
