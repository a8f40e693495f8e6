"""Keys taken out of many cells at once: `keys.scrub` looks at the environment each time, which for each cell of a
million lines would take longer than writing them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.security import keys

# A quote between two NULs: no pattern of `keys` reaches over it, and no cell holds it (the database keeps no NUL).
BETWEEN = '\0"\0'
Line = tuple[Mapping[str, Any], list[Any]]


def scrubbed(lines: list[Line]) -> list[Line]:
    """The same lines; where a text in them holds a key, with ``[hidden]`` in its place. Other values are untouched."""
    texts = [text for original, results in lines for value in (original, results) for text in _texts(value)]
    joined = BETWEEN.join(texts)
    found = keys.scrub(joined)
    if found == joined:
        return lines
    parts = found.split(BETWEEN)
    if len(parts) != len(texts):
        parts = [keys.scrub(text) for text in texts]
    left = iter(parts)
    return [(_rebuilt(original, left), _rebuilt(results, left)) for original, results in lines]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)


def _rebuilt(value: Any, left: Iterator[str]) -> Any:
    if isinstance(value, str):
        return next(left)
    if isinstance(value, Mapping):
        return {name: _rebuilt(one, left) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_rebuilt(one, left) for one in value]
    return value
