"""Prompt templates: ``{{name}}`` is replaced by a value, and nothing is ever evaluated."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

MAX_ATTACHED_BYTES = 1_000_000
_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_ -]{0,59}?)\s*\}\}")


def variables(text: str) -> list[str]:
    """The names of the variables in a template, in order of appearance, each once."""
    return list(dict.fromkeys(match.group(1) for match in _VARIABLE.finditer(text)))


def render(text: str, values: Mapping[str, str]) -> str:
    """``text`` with its variables replaced; values are not looked into again.

    Raises ValueError that names the variables without a value.
    """
    missing = [name for name in variables(text) if not values.get(name, "").strip()]
    if missing:
        names = ", ".join(missing)
        raise ValueError(f"The template needs a value for {names}; fill {'it' if len(missing) == 1 else 'them'} in.")
    return _VARIABLE.sub(lambda match: values[match.group(1)], text)


def decode_file(name: str, content: bytes) -> str:
    """The text of an attached file. Raises ValueError in words for what is not plain UTF-8 text."""
    if len(content) > MAX_ATTACHED_BYTES:
        raise ValueError(f"{name} is larger than {MAX_ATTACHED_BYTES // 1_000_000} MB; attach a part of it.")
    if b"\0" in content:
        raise ValueError(f"{name} is not a text file; only text can be attached.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text; save it as UTF-8 and attach it again.") from None


def attach(prompt: str, attachments: Sequence[tuple[str, str]]) -> str:
    """The prompt followed by each attached (name, text) between lines that name it. Raises ValueError above 1 MB."""
    total = sum(len(text.encode("utf-8", "replace")) for _, text in attachments)
    if total > MAX_ATTACHED_BYTES:
        raise ValueError(f"The attached files are {total:,} bytes together; the limit is {MAX_ATTACHED_BYTES:,}.")
    parts = [prompt] if prompt.strip() else []
    for name, text in attachments:
        clean = " ".join(name.split())
        parts.append(f"--- {clean} ---\n{text}\n--- end of {clean} ---")
    return "\n\n".join(parts)
