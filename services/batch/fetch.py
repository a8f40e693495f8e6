"""A file of prompts in S3, copied to where uploads lie: a browser takes no such file, and a batch needs it at hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from services.aws import control
from services.aws.explain import AwsTrouble, explained
from services.batch.files import Cancelled, spool
from services.batch.types import Progress

CHUNK_BYTES = 1 << 20


def fetch(
    uri: str, folder: Path, *, told: Callable[[Progress], None] | None = None,
    stopped: Callable[[], bool] | None = None, profile: str | None = None, region: str | None = None,
) -> Path:  # fmt: skip
    """The copy of ``s3://bucket/key`` in ``folder``/<its SHA-256>/. The credentials are those of this machine.

    Raises ValueError in words for an address that is none or a disk that does not take it, `AwsTrouble` for what AWS
    says, `Cancelled` once ``stopped`` is true.
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket or not key.strip("/"):
        raise ValueError(f"“{uri[:120]}” does not name a file in S3; it looks like s3://bucket/folder/file.csv.")

    where = control.place(profile, region)
    try:
        found = control.call("s3", where, lambda s3: s3.get_object(Bucket=bucket, Key=key))
    except AwsTrouble as error:
        raise _named(uri, error) from error
    chunks = _watched(found["Body"].iter_chunks(CHUNK_BYTES), int(found["ContentLength"]), told, stopped)
    try:
        return spool(chunks, folder, key.rpartition("/")[2])
    except (Cancelled, ValueError):
        raise
    except Exception as error:  # what breaks off while the bytes come is urllib3's or botocore's
        raise _named(uri, explained(error, "s3", where)) from error


def _named(uri: str, error: AwsTrouble) -> AwsTrouble:
    return AwsTrouble(error.what, f"{uri[:200]} was not fetched and nothing was sent. {error}")


def _watched(
    chunks: Iterable[bytes], whole: int, told: Callable[[Progress], None] | None, stopped: Callable[[], bool] | None
) -> Iterator[bytes]:
    done = 0
    for chunk in chunks:
        if stopped is not None and stopped():
            raise Cancelled("The copy was stopped; nothing was sent.")
        done += len(chunk)
        if told is not None:
            told(Progress(done, whole, 0))
        yield chunk
