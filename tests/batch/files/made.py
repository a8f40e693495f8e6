"""Files for the tests, and how they are looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from services.batch.files import check, records
from services.batch.types import Checked, Options, Record


def put(folder: Path, data: bytes | str, name: str = "a.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def checked(folder: Path, data: bytes | str, name: str = "a.jsonl", **options: Any) -> Checked:
    """The check; what `records` gives has to be what it counted, whatever the file."""
    path = put(folder, data, name)
    found = check(path, Options(**options))
    if found.refused is None and found.n_valid:
        read = list(records(path, found.options))
        assert len(read) == found.n_valid
        assert [one.no for one in read] == list(range(1, len(read) + 1))
        assert tuple(read[: len(found.preview)]) == found.preview
        assert found.chars_in == sum(
            len(one.ask.system or "") + sum(len(turn.text) for turn in one.ask.messages) for one in read
        )
    return found


def read(folder: Path, data: bytes | str, name: str = "a.jsonl", **options: Any) -> list[Record]:
    """The records of a file in which nothing may be wrong."""
    found = checked(folder, data, name, **options)
    assert (found.refused, found.faults) == (None, ())
    return list(records(folder / name, found.options))


def prompts(found: list[Record]) -> list[str]:
    return [one.ask.messages[-1].text for one in found]


def jsonl(*lines: Any) -> bytes:
    return b"".join(orjson.dumps(line) + b"\n" for line in lines)
