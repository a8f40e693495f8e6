"""Files of batch jobs in S3: written as a stream, listed, and fetched whole or not at all. Raises `AwsTrouble`."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from services.aws import control, sdk
from services.aws.explain import AwsTrouble
from services.aws.explain import Place as Account
from services.batch.providers.base import Place
from services.batch.providers.common import write_atomically

PART_BYTES = 8 << 20
CHUNK_BYTES = 1 << 20


class Uri(NamedTuple):
    """A place in S3; ``key`` without a slash at either end."""

    bucket: str
    key: str

    def under(self, *names: str) -> Uri:
        """A place below this one."""
        return Uri(self.bucket, "/".join(part for part in (self.key, *names) if part))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"


class Found(NamedTuple):
    """An object of a listing. ``size`` in bytes."""

    uri: Uri
    size: int

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.uri.key.rpartition("/")[2]


def parsed(text: str) -> Uri:
    """The place that "s3://bucket/prefix/" (or SageMaker's "https://…") names."""
    rest = text.partition("://")[2]
    bucket, _, key = rest.partition("/")
    return Uri(bucket, key.strip("/"))


class Flow(io.RawIOBase):
    """Lines as a file to read from, without ever holding more than one beside what is asked for.

    Counts what has gone through in ``lines`` and ``size`` (bytes). ``watch`` is called before every read and may raise.
    """

    def __init__(self, lines: Iterable[bytes], watch: Callable[[Flow], None]) -> None:
        super().__init__()
        self._lines, self._watch = iter(lines), watch
        self._rest = bytearray()
        self.lines = self.size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, fewer only at the end; all of them for a negative ``size``."""
        self._watch(self)
        while size < 0 or len(self._rest) < size:
            line = next(self._lines, None)
            if line is None:
                break
            self._rest += line
            self.lines += 1
            self.size += len(line)
        taken = bytes(self._rest) if size < 0 else bytes(self._rest[:size])
        del self._rest[: len(taken)]
        return taken


def upload(where: Account, to: Uri, flow: Flow, marks: dict[str, str]) -> None:
    """Write an object in parts of `PART_BYTES`, one part in memory at a time. It is there whole, or not at all."""
    sdk.loaded()
    from boto3.s3.transfer import TransferConfig

    parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
    extra = {"Metadata": marks, "ContentType": "application/jsonl"}
    control.call("s3", where, lambda s3: s3.upload_fileobj(flow, to.bucket, to.key, ExtraArgs=extra, Config=parts))


def put(where: Account, to: Uri, data: bytes) -> None:
    """Write a small object."""
    control.call("s3", where, lambda s3: s3.put_object(Bucket=to.bucket, Key=to.key, Body=data))


def marks_of(where: Account, at: Uri) -> dict[str, str] | None:
    """The marks that an object was uploaded with; None when it is not there."""
    try:
        row = control.call("s3", where, lambda s3: s3.head_object(Bucket=at.bucket, Key=at.key))
    except AwsTrouble as error:
        if error.what == "not_found":
            return None
        raise
    return dict(row.get("Metadata") or {})


def listed(where: Account, below: Uri) -> list[Found]:
    """Every object whose key begins with ``below`` and a slash, in order."""

    def read(s3: Any) -> list[Found]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=below.bucket, Prefix=f"{below.key}/")
        return [Found(Uri(below.bucket, row["Key"]), int(row["Size"])) for page in pages
                for row in page.get("Contents", [])]  # fmt: skip

    return control.call("s3", where, read)


def fetch(where: Account, one: Found, to: Path, place: Place) -> Path:
    """A copy of an object in the file ``to``, made anew unless one of its size is there already.

    It does not end when the batch is cancelled: what a stopped job has answered is paid and wanted.
    """
    if not (to.exists() and to.stat().st_size == one.size):

        def read(s3: Any) -> None:
            body = s3.get_object(Bucket=one.uri.bucket, Key=one.uri.key)["Body"]
            write_atomically(to, _told(body.iter_chunks(CHUNK_BYTES), one, place))

        control.call("s3", where, read)
    return to


def _told(chunks: Iterable[bytes], one: Found, place: Place) -> Iterator[bytes]:
    done = told = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if done - told >= 8 * CHUNK_BYTES:
            told = done
            place.say(f"Fetching the results from S3: {done / 1e6:,.0f} of {one.size / 1e6:,.0f} MB of {one.name}.")


def small(s3: Any, at: Uri, most: int = 16 << 20) -> bytes:
    """The first ``most`` bytes of an object, by a client that the caller holds."""
    return bytes(s3.get_object(Bucket=at.bucket, Key=at.key)["Body"].read(most))


def region_of(where: Account, bucket: str) -> str | None:
    """The region of a bucket, which this also reaches; None when S3 does not say."""
    row = control.call("s3", where, lambda s3: s3.head_bucket(Bucket=bucket))
    found = row.get("BucketRegion") or row["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return str(found) if found else None


def named(found: Iterable[Found], ending: str) -> Iterator[Found]:
    """Those whose name ends so."""
    return (one for one in found if one.name.endswith(ending))
