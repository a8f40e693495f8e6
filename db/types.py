"""Column types that hold the same values on SQLite and on PostgreSQL, and how columns and rows are made of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, TypeVar

import orjson
from sqlalchemy import JSON, BigInteger, Column, DateTime, Dialect, MetaData, Result, Text
from sqlalchemy.types import TypeDecorator
from sqlmodel import Field, SQLModel

R = TypeVar("R")


def rows_of(kind: Callable[..., R], result: Result[Any]) -> list[R]:
    """One dict of ``kind`` (a TypedDict with the names of what is selected) a row. All rows are fetched at once: one by
    one, a thousand of them take several times as long."""
    names = list(result.keys())
    return [kind(zip(names, row, strict=True)) for row in result.all()]


SQLModel.metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def when(**options: Any) -> Any:
    """A moment in UTC."""
    return Field(sa_column=Column(UtcDateTime(), **options))


def json_value() -> Any:
    """Any JSON value; None is SQL NULL."""
    return Field(default=None, sa_column=Column(JSON(none_as_null=True)))


def text() -> Any:
    """Text that may hold anything a service sends."""
    return Field(default=None, sa_type=SafeText)


def named(**options: Any) -> Any:
    """A name: text that is always there."""
    return Field(sa_type=SafeText, **options)


def count() -> Any:
    """A whole number of up to 64 bits."""
    return Field(default=None, sa_type=Count)


BIGGEST = 2**63 - 1

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def storable(text: str) -> str:
    """``text`` with NUL (which PostgreSQL refuses) and lone surrogates (which UTF-8 cannot hold) replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        text = "".join(REPLACEMENT if "\ud800" <= letter <= "\udfff" else letter for letter in text)
    return text.replace("\0", REPLACEMENT)


def json_text(value: Any) -> str:
    """``value`` as JSON that both databases take. Integers beyond 64 bits and unknown types become strings."""
    try:
        encoded = orjson.dumps(value, default=str)
    except orjson.JSONEncodeError:
        return orjson.dumps(_plain(value)).decode()
    return orjson.dumps(_plain(value)).decode() if rb"\u0000" in encoded else encoded.decode()


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, bool | float) or value is None:
        return value
    if isinstance(value, int):
        return value if -BIGGEST <= value <= BIGGEST else str(value)
    if isinstance(value, dict):
        return {storable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return storable(str(value))


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC datetime on every database: SQLite keeps no zone, so it is put back on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """UTC for the database. Raises ValueError for a time without a zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("A time without a zone cannot be recorded.")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The same moment, aware, in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class SafeText(TypeDecorator[str]):
    """Text of any length from outside; a character that a database would refuse must not cost the whole record."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """The text as both databases can hold it."""
        return None if value is None else storable(value)


class Count(TypeDecorator[int]):
    """A 64-bit count; one beyond that is not a count, so it is recorded as not known."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> int | None:
        """The count, or None when no database could hold it."""
        return value if value is not None and -BIGGEST <= value <= BIGGEST else None
