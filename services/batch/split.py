"""How many jobs a file becomes at a service with limits, and the sentences on files that are too small or too large."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from services.batch.files.errors import MAX_FAULTS, plural
from services.batch.types import Fault, Record, RouteLimits


class Part(NamedTuple):
    """One job: the records ``first_no`` to ``last_no``, which are ``n``, in ``n_bytes`` of its file."""

    first_no: int
    last_no: int
    n: int
    n_bytes: int


def split(n_records: int, sizes: Iterable[int], limits: RouteLimits) -> list[Part]:
    """The fewest jobs, in the order of the file, that keep to the limits; none for no records. ``sizes``: bytes of each
    record in the file that is uploaded, the end of its line included.

    A last job that would be below the service's minimum is filled up from the one before. Raises ValueError in words
    where no division keeps to the limits: one record that is too large, too few records.
    """
    kept = array("q", sizes)  # 8 bytes for each record
    if len(kept) != n_records:
        raise ValueError(f"{n_records:,} records were announced and {len(kept):,} came; check the file again.")
    most = min((one for one in (limits.max_record_bytes, limits.max_bytes) if one is not None), default=None)
    if most is not None:
        for no, size in enumerate(kept, 1):
            if size > most:
                raise ValueError(
                    f"Record {no} is {megabytes(size)} as a request, and the service takes {megabytes(most)}. Shorten "
                    "it or leave it out."
                )
    starts = _starts(kept, limits)
    parts = _parts(kept, starts)
    if len(parts) > 1 and min(part.n for part in parts) < limits.min_records:
        parts = _filled_up(kept, starts, limits)
    if parts and parts[-1].n < limits.min_records:
        raise ValueError(
            f"The service takes no job of fewer than {plural(limits.min_records, 'record')}; there "
            f"{'is' if n_records == 1 else 'are'} {n_records:,}."
        )
    return parts


def _starts(sizes: Sequence[int], limits: RouteLimits) -> list[int]:
    found: list[int] = []
    n = n_bytes = 0
    for index, size in enumerate(sizes):
        full = limits.max_records is not None and n >= limits.max_records
        if not found or full or (limits.max_bytes is not None and n_bytes + size > limits.max_bytes):
            found.append(index)
            n = n_bytes = 0
        n += 1
        n_bytes += size
    return found


def _parts(sizes: Sequence[int], starts: list[int]) -> list[Part]:
    ends = [*starts, len(sizes)][1:]
    return [Part(a + 1, b, b - a, sum(sizes[a:b])) for a, b in zip(starts, ends, strict=True)]


def _filled_up(sizes: Sequence[int], starts: list[int], limits: RouteLimits) -> list[Part]:
    """The same with the minimum taken from the back, job by job, as far forward as it has to go."""
    moved = list(starts)
    end = len(sizes)
    for place in range(len(moved) - 1, 0, -1):
        moved[place] = min(moved[place], end - limits.min_records)
        end = moved[place]
    parts = _parts(sizes, moved)
    good = all(
        part.n >= limits.min_records
        and (limits.max_records is None or part.n <= limits.max_records)
        and (limits.max_bytes is None or part.n_bytes <= limits.max_bytes)
        for part in parts
    )
    if not good:
        raise ValueError(
            f"The records cannot be divided into jobs of at least {limits.min_records:,} records and at most "
            f"{'any size' if limits.max_bytes is None else megabytes(limits.max_bytes)}; one job would be too "
            "small. Add records, or run them through the on-demand queue instead."
        )
    return parts


# --- sentences -----------------------------------------------------------------------------------------------------


def why_too_few(n: int, limits: RouteLimits, title: str) -> str | None:
    """What is said where a service takes no job so small; None where it does."""
    if n >= limits.min_records:
        return None
    return (
        f"{title} needs ≥{limits.min_records:,} records for this model, you have {n:,}. Run through the on-demand "
        "queue instead?"
    )


def why_split(parts: Sequence[Part], limits: RouteLimits, title: str) -> str | None:
    """What is said before a file becomes several jobs; None for one job."""
    if len(parts) < 2:
        return None
    most = [
        words for words in (
            None if limits.max_records is None else plural(limits.max_records, "record"),
            None if limits.max_bytes is None else megabytes(limits.max_bytes),
        ) if words
    ]  # fmt: skip
    sizes = ", ".join(f"{part.n:,}" for part in parts[:6]) + (" …" if len(parts) > 6 else "")
    total = sum(part.n for part in parts)
    return (
        f"{total:,} records in {megabytes(sum(part.n_bytes for part in parts))} are more than one {title} job takes "
        f"({' or '.join(most)}): they are sent as {len(parts):,} jobs, of {sizes} records."
    )


def why_mixed(models: Mapping[str, int], title: str) -> str | None:
    """What is said of lines that name several models; None where they name at most one."""
    if len(models) < 2:
        return None
    said = ", ".join(f"{name} {plural(n, 'line')}" for name, n in models.items())
    article = "an" if title[:1] in "AEIO" else "a"
    return f"{said}: {article} {title} file takes one model. Split into {len(models)}?"


def too_large(sizes: Iterable[tuple[int, int]], limits: RouteLimits, title: str) -> tuple[list[Fault], int]:
    """The records that are larger than the service takes in one request, of (line in the file, bytes): the first 20 as
    faults, and how many there are."""
    most = min((one for one in (limits.max_record_bytes, limits.max_bytes) if one is not None), default=None)
    if most is None:
        return [], 0
    faults, n = [], 0
    for line, size in sizes:
        if size > most:
            n += 1
            if n <= MAX_FAULTS:
                text = f"Line {line}: {megabytes(size)} as a request; {title} takes {megabytes(most)}. Shorten it."
                faults.append(Fault(line, "too_large", text, found=f"{size:,} bytes"))
    return faults, n


def over_context(
    records: Iterable[Record], context_tokens: int, *, chars_per_token: float = 4.0
) -> tuple[list[Fault], int]:
    """The records that are probably longer than the model's context, answer included: the first 20 as faults, and how
    many there are. Tokens are estimated from characters, since no tokeniser is asked."""
    from services.batch.files.messages import size

    faults, n = [], 0
    for record in records:
        asked = size(record.ask) / chars_per_token
        answer = record.ask.params.get("max_tokens") or 0
        if asked + answer > context_tokens:
            n += 1
            if n <= MAX_FAULTS:
                text = (
                    f"Line {record.line}: about {asked:,.0f} tokens and up to {answer:,} of answer; the model's "
                    f"context is {context_tokens:,}. Shorten the prompt or lower max_tokens."
                )
                faults.append(Fault(record.line, "over_context", text, found=f"about {asked:,.0f} tokens"))
    return faults, n


def megabytes(n: int) -> str:
    """Bytes as people read them, in powers of ten as the services' limits are."""
    if n < 1000:
        return plural(n, "byte")
    for unit, size in (("GB", 10**9), ("MB", 10**6)):
        if n >= size:
            return f"{n / size:,.4g} {unit}"
    return f"{n / 1000:,.4g} kB"
