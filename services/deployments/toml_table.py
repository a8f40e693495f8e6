"""The tables of deployments.toml: read with errors that name file, line and what is expected, and written."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.paths import regular
from services.types import Deployment, PriceRef

LARGEST = 4 * 2**20  # bytes of a file of deployments


class ConfigError(ValueError):
    """Something in deployments.toml, or in a deployment, that cannot be used. The message is a sentence for people."""


HEADER = re.compile(r"\s*\[")


class Source:
    """A TOML text and where its tables stand, so that an error can name the line."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.lines = text.splitlines()

    def line_of(self, header: str, number: int, key: str | None) -> int | None:
        """1-based line of ``key`` in the ``number``-th table with this header; of the header when the key is not there.

        A line that only looks like a header, inside a multi-line string, can mislead it; the sentence stays right.
        """
        table_header = re.compile(r"\s*\[\[?\s*" + re.escape(header).replace(r"\.", r"\s*\.\s*") + r"\s*\]")
        starts = [index for index, line in enumerate(self.lines) if table_header.match(line)]
        if number >= len(starts):
            return None
        start = starts[number]
        if key is not None:
            field = re.compile(rf"\s*[\"']?{re.escape(key)}[\"']?\s*[=.]")
            sub = re.compile(rf"\s*\[\[?\s*{re.escape(header)}\s*\.\s*[\"']?{re.escape(key)}\b")
            for index in range(start + 1, len(self.lines)):
                if field.match(self.lines[index]) or sub.match(self.lines[index]):
                    return index + 1
                if HEADER.match(self.lines[index]) and f"{header}." not in self.lines[index]:
                    break
        return start + 1

    def error(self, sentence: str, line: int | None = None) -> ConfigError:
        """A `ConfigError` that starts with the file's name and line."""
        return ConfigError(f"{self.name}, line {line}: {sentence}" if line else f"{self.name}: {sentence}")


class Table:
    """One table being read. Every getter returns the field, or the default when it is absent, or raises in words."""

    def __init__(self, source: Source, header: str, values: Any, number: int = 0, title: str = "") -> None:
        self.source, self.header, self.number = source, header, number
        self.title = title or f"[{header}]"
        if not isinstance(values, Mapping):
            raise source.error(
                f"{self.title} has to be a table, not {_kind(values)}.", source.line_of(header, number, None)
            )
        self.values: Mapping[str, Any] = values

    def error(self, sentence: str, key: str | None = None) -> ConfigError:
        """A `ConfigError` at the line of ``key``."""
        return self.source.error(f"{self.title} {sentence}", self.source.line_of(self.header, self.number, key))

    def only(self, allowed: Iterable[str]) -> None:
        """Refuses fields that are not in ``allowed``, with the nearest one that is."""
        names = list(allowed)
        for key in self.values:
            if key not in names:
                raise self.error(f"has an unknown field {key!r}{did_you_mean(key, names)}", key)

    def _get(self, key: str, kinds: tuple[type, ...], expected: str) -> Any:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds)):
            raise self.error(f"has {key!r} as {_kind(value)}: it has to be {expected}.", key)
        return value

    def text(self, key: str) -> str | None:
        value = self._get(key, (str,), "text in quotes")
        return None if value is None else str(value).strip()

    def flag(self, key: str, default: bool) -> bool:
        value = self._get(key, (bool,), "true or false")
        return default if value is None else bool(value)

    def whole(self, key: str, *, minimum: int, maximum: int = 2**53) -> int | None:
        value = self._get(key, (int,), "a whole number")
        if value is not None and value < minimum:
            raise self.error(f"has {key} = {value}: it has to be {minimum} or more.", key)
        if value is not None and value > maximum:
            raise self.error(f"has a {key} that is too large: it has to be {maximum:,} or less.", key)
        return None if value is None else int(value)

    def texts(self, key: str) -> tuple[str, ...] | None:
        value = self._get(key, (list,), 'a list of texts, like ["a", "b"]')
        if value is None:
            return None
        if not all(isinstance(text, str) and text.strip() for text in value):
            raise self.error(f'has something else than text in {key!r}: it has to be a list like ["a", "b"].', key)
        return tuple(text.strip() for text in value)

    def table(self, key: str) -> Mapping[str, Any]:
        value = self._get(key, (Mapping,), "a table, like { a = 1 }")
        return {} if value is None else dict(value)


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """ "; did you mean 'model'?" or "; it can be a, b, c." as the end of a sentence."""
    names = list(allowed)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; it can be {', '.join(names)}."


def read_source(path: Path) -> Source:
    """The file's text. Raises `ConfigError` when it cannot be read."""
    try:
        if path == Path(os.devnull):  # how one says that there is none
            return Source(path.name, "")
        with regular(path) as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ConfigError(f"{path.name} has more than {LARGEST // 2**20} MB: it is no deployments file.")
        return Source(path.name, content.decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(
            f"{path.name} does not exist: copy deployments.example.toml to it and edit the copy."
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name} is not UTF-8 text: save it as UTF-8.") from None
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror or error}.") from None


def changed_at(path: Path) -> float | None:
    """When a file was last written, in seconds since 1970; None where there is none.

    One that may not even be looked at is there (0): whoever then reads it is told why it cannot be.
    """
    try:
        return path.stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return 0.0


def plain(value: Any) -> Any:
    """``value`` with TOML's decimals as floats, for JSON."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {name: plain(entry) for name, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, list) else value


def _kind(value: Any) -> str:
    names = {bool: "true or false", str: "text", int: "a number", Decimal: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date")


# --- writing ----------------------------------------------------------------------------------------------------------

TEXT_FIELDS = (
    "id",
    "name",
    "kind",
    "model",
    "base_url",
    "wire",
    "key_env",
    "region",
    "proxy",
    "proxy_env",
    "ca_file",
)


def to_toml(deployment: Deployment) -> str:
    """The ``[[deployment]]`` table that declares this deployment in deployments.toml; defaults are left out.

    Raises ValueError in words when ``extra_body`` holds a null, which TOML cannot say.
    """
    plain = Deployment(id="", name="", kind="", model="", base_url="")
    lines = ["[[deployment]]"]
    for name in (*TEXT_FIELDS, "params", "labels", "context_tokens", "enabled", "note", "headers", "extra_body"):
        value = getattr(deployment, name)
        if value != getattr(plain, name) or name == "wire":
            lines.append(f"{name} = {_toml(value)}")
    limits = {
        name: value
        for name, value in dataclasses.asdict(deployment.limits).items()
        if value != getattr(plain.limits, name)
    }
    if deployment.aws is not None:
        aws = {name: value for name, value in dataclasses.asdict(deployment.aws).items() if value is not None}
        lines.append(f"aws = {_toml(aws)}")
    price = _price_table(deployment.price)
    lines += [f"limits = {_toml(limits)}"] if limits else []
    lines += [f"price = {_toml(price)}"] if price else []
    return "\n".join(lines) + "\n"


def _price_table(price: PriceRef) -> dict[str, Any]:
    if price.override is not None:
        return {name: Decimal(value) for name, value in price.override.items()}
    many = {"count": price.count} if price.count != 1 else {}
    if price.per_hour is not None:
        return {"per_hour": Decimal(price.per_hour), **many}
    if price.instance is not None:
        return {"instance": price.instance, **many}
    return {name: value for name in ("provider", "model") if (value := getattr(price, name)) is not None}


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, Decimal):
        return format(value, "f")
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        inside = ", ".join(f"{_key(name)} = {_toml(entry)}" for name, entry in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_toml(entry) for entry in value) + "]"
    raise ValueError(f"TOML cannot hold {value!r}")


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)
