"""The file that `lab batch check` and `submit` name: how it is read, checked and handed over, in the words of a
terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from app.cli.options import ReadingOptions, name_value_pairs
from services import formatting, params
from services.batch import text as batch_text
from services.batch.files import spool
from services.batch.ingest import CHANGED
from services.batch.reading_options import check
from services.batch.types import Checked, Options, Progress
from services.regular_file import regular

Row = Mapping[str, Any]
T = TypeVar("T", str, str | None)
BLOCK = 1 << 20

# What the check of a file says for a person before a page → the same for one at a command line.
_COMMAND_WORDS = {
    "convert the file, or press “Read as Windows-1252”": "convert the file, or give --encoding cp1252",
    "or press “Make double ids different”": "or give --suffix-ids",
    "Choose the column of the ids.": "Name the column of the ids with --id-column.",
    "Choose the column that holds the prompt.": "Name the column that holds the prompt, as in --template '{{text}}'.",
    "or choose to send the": "or give --leave-out to send the",
    "set “Max output tokens” to bound": "give --param max_tokens=… to bound",
    "the deployment that you choose": "the deployment that you name",
}


def in_command_words(text: str) -> str:
    """A sentence of the page with what to type in place of what to press."""
    for page, command in _COMMAND_WORDS.items():
        text = text.replace(page, command)
    return text


def for_terminal(text: str) -> str:
    """The same, fit for a terminal."""
    return formatting.printable(in_command_words(text))


def next_step(row: Row, counts: Mapping[str, int]) -> str | None:
    """The command that goes on with a batch that has stopped, or sends again what has no answer; None for none."""
    ident = row["id"]
    if row["state"] == "paused":
        dearer = " (with --budget for a larger one)" if row.get("budget_nanousd") else ""
        return f"`lab batch resume {ident}`{dearer} goes on, `lab batch cancel {ident}` ends it."
    unanswered = (row["n_lines"] or 0) - counts.get("succeeded", 0)
    if not batch_text.over(row) or unanswered <= 0 or not counts:
        return None
    return f"`lab batch resend {ident}` sends the {count_lines(unanswered)} without an answer again."


def count_lines(n: int) -> str:
    """A number of lines with its noun: "1 line", "2,000 lines"."""
    return f"{n:,} {'line' if n == 1 else 'lines'}"


def file_options(reading: ReadingOptions) -> Options:
    """The options that the command line names. Raises ValueError in words."""
    for name in ("template", "system", "delimiter", "id_column", "sheet"):
        utf8(getattr(reading, name), f"--{name.replace('_', '-')}")
    pairs = [utf8(pair, "--param") for pair in reading.param or []]
    return Options(
        format=reading.format,
        encoding=reading.encoding,
        delimiter=reading.delimiter,
        id_column=reading.id_column,
        prompt=reading.template,
        system=reading.system,
        params=params.clean(name_value_pairs(pairs)),
        suffix_ids=reading.suffix_ids,
        sheet=reading.sheet,
        leave_out=reading.leave_out,
    )


def utf8(text: T, source: str) -> T:
    """A text that can be sent. Raises ValueError in words for bytes that are no UTF-8, which reach a program as lone
    surrogates."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise ValueError(f"{source} holds bytes that are no UTF-8: write it in UTF-8.") from None
    return text


def local_path(file: str, data: Path) -> Path:
    """Where a file lies on this machine; one in S3 is fetched first. Raises ValueError in words."""
    if not file.startswith("s3://"):
        try:
            return Path(file).expanduser().resolve()
        except (OSError, RuntimeError) as error:  # a link to itself, a person who is not there
            name, reason = formatting.printable(file), _reason(error)
            raise ValueError(f"{name} leads nowhere ({reason}); check the path.") from None
    from services.aws.control import AwsTrouble
    from services.batch.ingest import fetch

    try:
        return fetch(file, data / "uploads")
    except AwsTrouble as error:
        raise ValueError(str(error)) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error).rstrip(".")


def hand_over(file: Path, sha256: str, data: Path) -> None:
    """Put a file of one's own among the uploads: the engine reads no path that it is told. Raises ValueError in words
    for one that changed since it was checked."""

    def blocks() -> Iterator[bytes]:
        try:
            with regular(file) as stream:
                while block := stream.read(BLOCK):
                    yield block
        except OSError as error:
            raise ValueError(f"{formatting.printable(str(file))} cannot be read any more ({error.strerror}).") from None

    if file.parent == data / "uploads" / sha256:
        return  # fetched from S3 to where it has to be
    copy = spool(blocks(), data / "uploads", utf8(file.name, "The name of the file"))
    if copy.parent.name != sha256:
        raise ValueError(CHANGED)


def check_with_progress(file: Path, reading: ReadingOptions) -> Checked:
    """What a file holds, with progress on a terminal. Raises ValueError in words."""
    live, drawn_at = sys.stderr.isatty(), [0.0]

    def draw(progress: Progress) -> None:
        if live and time.monotonic() - drawn_at[0] > 0.1:
            drawn_at[0] = time.monotonic()
            share = progress.done_bytes / progress.all_bytes if progress.all_bytes else 0
            sys.stderr.write(f"\r\x1b[KReading every line: {progress.n_records:,} so far, {share:.0%}")
            sys.stderr.flush()

    checked = check(file, file_options(reading), on_progress=draw)
    if live:
        sys.stderr.write("\r\x1b[K")
    return checked
