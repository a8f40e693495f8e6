"""How the tables' columns are made, and the naming of what hangs on them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, MetaData
from sqlmodel import Field, SQLModel

from db.types import Count, SafeText, UtcDateTime

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
