"""The shape of a model as its GGUF file tells it (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from services.calculator.types import Llm

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


@dataclass(frozen=True, slots=True)
class File:
    """``keys``: the metadata; ``tensors``: elements by name; ``bytes``: of all tensors with their padding."""

    keys: dict[str, Any]
    tensors: dict[str, int]
    bytes: int


def read(path: Path) -> File:
    """The header of a GGUF file. Raises ValueError for anything else."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError(f"{path.name} is no GGUF file.")
        _, tensors, keys = _number(file, "I"), _number(file, "Q"), _number(file, "Q")
        found = {_string(file): _value(file, _number(file, "I")) for _ in range(keys)}
        elements = {}
        for _ in range(tensors):
            name = _string(file)
            elements[name] = math.prod(_number(file, "Q") for _ in range(_number(file, "I")))
            file.read(4 + 8)  # type and offset
        return File(found, elements, path.stat().st_size - file.tell())


def llm(path: Path, name: str) -> Llm:
    """The model as the calculator describes models."""
    file = read(path)
    kind = file.keys["general.architecture"]

    def of(key: str) -> int:
        return int(file.keys[f"{kind}.{key}"])

    total = sum(file.tensors.values())
    heads = of("attention.head_count")
    return Llm(
        name=name,
        params_b=total / 1e9,
        active_b=total / 1e9,
        layers=of("block_count"),
        hidden=of("embedding_length"),
        heads=heads,
        kv_heads=of("attention.head_count_kv"),
        head_dim=of("embedding_length") // heads,
        max_context=of("context_length"),
        vocab=len(file.keys["tokenizer.ggml.tokens"]),
        tied="output.weight" not in file.tensors,
        ffn=of("feed_forward_length"),
        native_bits=8 * file.bytes / total,
        source=path.name,
    )


def _number(file: BinaryIO, code: str) -> Any:
    return struct.unpack("<" + code, file.read(struct.calcsize("<" + code)))[0]


def _string(file: BinaryIO) -> str:
    return file.read(_number(file, "Q")).decode(errors="replace")


def _value(file: BinaryIO, kind: int) -> Any:
    if kind == STRING:
        return _string(file)
    if kind == ARRAY:
        inner = _number(file, "I")
        return [_value(file, inner) for _ in range(_number(file, "Q"))]
    return _number(file, SCALARS[kind])
