"""Parquet, a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from services.batch.files.cells import plain
from services.batch.files.csv import named
from services.batch.files.errors import Log, Refused, plural, shown
from services.batch.files.source import Source

MAX_GROUP_BYTES = 4_000_000_000
MAX_ROWS = 20_000_000
_ROWS = 256  # of one reading


class Columns:
    """A Parquet file: rows come as (row, values by column); the row counts from 1."""

    def __init__(self, source: Source, log: Log) -> None:
        pa, pq = import_module("pyarrow"), import_module("pyarrow.parquet")  # 0.2 s
        log.word = "Row"
        self.source, self.log = source, log
        self._trouble = (pa.ArrowException, OSError, ValueError, KeyError, UnicodeDecodeError)
        try:
            # Without a buffer in advance a row group of any size is read page by page.
            self.file = pq.ParquetFile(
                source.path, pre_buffer=False, buffer_size=1 << 20, page_checksum_verification=True
            )
            meta = self.file.metadata
        except self._trouble as error:
            raise _damaged(error) from None
        largest = max((meta.row_group(i).total_byte_size for i in range(meta.num_row_groups)), default=0)
        if largest > MAX_GROUP_BYTES or meta.num_rows > MAX_ROWS:
            self.close()
            raise Refused(
                "too_large",
                f"The Parquet file holds {plural(meta.num_rows, 'row')} and up to {largest / 1e9:,.1f} GB in one row "
                f"group; at most {MAX_ROWS:,} rows and {MAX_GROUP_BYTES / 1e9:,.0f} GB are read. Split it.",
            )

    def close(self) -> None:
        """Give the file back."""
        self.file.close()

    def start(self) -> list[str]:
        """The names of the columns. Raises `Refused` for a name that stands twice."""
        header = named(list(self.file.schema_arrow.names))
        if self.file.metadata.num_rows == 0:
            raise Refused("empty", "No records found. The Parquet file has columns and no rows.")
        return header

    def rows(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Every row."""
        row, size, log = 0, self.source.n_bytes, self.log
        all_rows = max(1, self.file.metadata.num_rows)
        names = named(list(self.file.schema_arrow.names))
        try:
            for batch in self.file.iter_batches(batch_size=_ROWS, use_threads=False):
                columns = [column.to_pylist() for column in batch.columns]
                for values in zip(*columns, strict=True):
                    row += 1
                    log.n_records += 1
                    yield row, {name: plain(value) for name, value in zip(names, values, strict=True)}
                self.source.done = size * row // all_rows
                self.source.n_records = log.n_records
                self.source.tick()
        except self._trouble as error:
            raise _damaged(error) from None


def _damaged(error: Exception) -> Refused:
    said = shown(str(error), 60)
    return Refused("damaged", f"The Parquet file is damaged or cut short ({said}). Write or upload it again.")
