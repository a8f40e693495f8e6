"""Names as people write them: "meta-llama/Llama-3.1-8B-Instruct", "llama 3.1 8b" and "Llama3.1-8B" are one model.

A name is the set of its words: letters and numbers apart, without case, owner, and words that name no other weights
("Instruct", "FP8", "NVIDIA"). What fits no row is an error that names the nearest rows, never the nearest row itself.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)*[a-z]*")
IDLE = frozenset(
    {
        "instruct",
        "chat",
        "it",
        "hf",
        "meta",
        "base",
        "sft",
        "nvidia",
        "geforce",
        "tesla",
        "amd",
        "instinct",
        "gpu",
        "gpus",
        "accelerator",
        "gb",
        "quantized",
    }
)
# How weights are stored, and the kind of memory, say nothing of which row is meant.
STORED = re.compile(r"(?<![a-z0-9])(?:(?:nv|mx)?fp\d+|bf16|awq|gptq|int\d|w\da\d+|hbm\d\w?)(?![a-z0-9])")
NEAREST = 3


def words(name: str) -> tuple[str, ...]:
    """The words of a name, sorted. "A100-SXM4-80GB" and "A100-80GB-SXM" have the same."""
    text = STORED.sub(" ", re.sub(r"sxm\d", "sxm", name.strip().lower().rpartition("/")[2]))
    return tuple(sorted(word for word in WORD.findall(text) if word not in IDLE))


def index(names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, ...], str]:
    """(what may be written, the row's name) → lookup table; the first of two rows with the same words keeps them."""
    by_words: dict[tuple[str, ...], str] = {}
    for written, row in names:
        by_words.setdefault(words(written), row)
    return by_words


def find(name: str, table: Mapping[tuple[str, ...], str], kind: str, listed: Iterable[str]) -> str:
    """The row's name. LookupError in words when there is none. ``kind``: "model", "GPU" …"""
    row = table.get(words(name)) if words(name) else None
    if row is not None:
        return row
    close = nearest(name, listed)
    hint = f" The nearest are {', '.join(close)}." if close else ""
    raise LookupError(f'The catalogue has no {kind} "{name}".{hint} Add it as your own to use it.')


def nearest(name: str, listed: Iterable[str]) -> list[str]:
    """Up to three names that look most like it."""
    by_words = {" ".join(words(name)): name for name in listed}
    close = difflib.get_close_matches(" ".join(words(name)), list(by_words), NEAREST, 0.4)
    return [by_words[key] for key in close]
