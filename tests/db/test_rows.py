"""The types of rows are those of the tables: what is selected is what the types say."""

from __future__ import annotations

from typing import Any, get_type_hints, is_typeddict

import pytest
from sqlalchemy import JSON
from sqlmodel import SQLModel

from db import run_rows
from db.models import Call, Run, Vote

SHAPED = {"deployment", "columns", "attachments", "request"}  # JSON of which the row knows more than the table

PARTS = [
    (run_rows.NewRun, Run),
    (run_rows.RunRow, Run),
    (run_rows.MeasuredCall, Call),
    (run_rows.HistoryCall, Call),
    (run_rows.ListedCall, Call),
    (run_rows.NewVote, Vote),
    (run_rows.CallRow, Call),
    (run_rows.RecentCall, Call),
    (run_rows.VoteRow, Vote),
]


@pytest.mark.parametrize(("kind", "table"), PARTS, ids=[kind.__name__ for kind, _ in PARTS])
def test_a_row_has_the_types_of_its_columns(kind: type[Any], table: type[SQLModel]) -> None:
    assert is_typeddict(kind)
    columns = get_type_hints(table)
    for name, told in get_type_hints(kind).items():
        if name == "cache_mode":  # a word of four
            assert columns[name] == (str | None)
        elif name in SHAPED:
            assert isinstance(table.__table__.c[name].type, JSON)  # type: ignore[attr-defined]
        else:
            assert told == columns[name], name


@pytest.mark.parametrize(
    ("kind", "table"), [(run_rows.RunRow, Run), (run_rows.CallRow, Call), (run_rows.VoteRow, Vote)]
)
def test_a_whole_row_has_every_column(kind: type[Any], table: type[SQLModel]) -> None:
    assert set(kind.__annotations__) == set(table.__table__.columns.keys())  # type: ignore[attr-defined]
