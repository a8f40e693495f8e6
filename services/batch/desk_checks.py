"""What is looked at before a batch is recorded: where its file lies, what it can cost, what was sent before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from services.batch import files, providers, server_files
from services.batch.ingest import CHANGED
from services.batch.server_files import Allowed
from services.batch.submit import BatchSpec
from services.batch.types import OVER, Checked, RouteName
from services.security import access
from services.types import Deployment

Row = dict[str, Any]
SHOWN = 60


def source_of(data: Path, spec: BatchSpec, rule: Allowed | None) -> Path:
    """Where the file of a spec lies among the uploads; one that is named by a path is copied there first, if ``rule``
    allows it. Raises ValueError in words, `access.Denied` for the path of one who may not name any."""
    if spec.path is None:
        folder = data / "uploads" / spec.sha256
        kept = sorted(one for one in folder.glob("*") if one.is_file() and not one.name.startswith("."))
        if not kept:
            raise ValueError("The upload is not on this server any more: upload the file again.")
        return next((one for one in kept if one.name == spec.file_name), kept[0])
    if rule is None:
        raise access.Denied(server_files.NOT_YOURS)
    if "://" in spec.path:
        raise ValueError("An address cannot be read here: check it on the page first, which fetches the file.")
    copy = server_files.copied(spec.path, rule, data / "uploads")
    if copy.parent.name != spec.sha256:
        raise ValueError(CHANGED)
    return copy


def size_of(source: Path, sha256: str) -> int:
    """The bytes of a file that still has this hash. Raises ValueError in words for another, or for none."""
    try:
        if files.sha256_of(source) != sha256:
            raise ValueError(CHANGED)
        return source.stat().st_size
    except OSError:
        raise ValueError(CHANGED) from None


def estimate_of(
    reader: Engine, checked: Checked, deployment: Deployment, route: RouteName, lanes: int | None,
    per_minute: int | None,
) -> Row | None:  # fmt: skip
    """What a checked file can cost and take this way, by our own reckoning; None where nothing is known of it."""
    from services.batch.estimate import estimates

    services = [] if route == "runner" else [providers.get(route)]
    found = estimates(
        reader, checked, [deployment], datetime.now(UTC), services, lanes=lanes, per_minute=per_minute
    )  # fmt: skip
    chosen = next((one for one in found if one.route == route), None)
    return chosen.to_json() if chosen is not None else None


def submitted_before(before: Mapping[str, Any]) -> str:
    """The sentence for a file that was submitted before."""
    named = str(before["name"])[:SHOWN]
    return f"This file was submitted {ago(before['created_at'])} as “{named}”: confirm to send it again."


def sent_again_before(before: Mapping[str, Any]) -> str:
    """The sentence for lines that were sent again before (`db.batch_once.resend_once`)."""
    named, left = str(before["name"])[:SHOWN], before["left"]
    said = f"The lines without an answer were sent again {ago(before['created_at'])} as “{named}”"
    if before["state"] not in OVER:
        return f"{said}, which is not over yet: wait for its end, or cancel it and send its lines again."
    if not left:
        return f"{said}, which answered all of them: there is nothing to send again."
    has = "1 line has" if left == 1 else f"{left:,} lines have"
    return f"{said}, where {has} no answer yet: send those of that batch again."


def ago(moment: datetime) -> str:
    """How long ago something was: "5 minutes ago"."""
    seconds = (datetime.now(UTC) - moment).total_seconds()
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            n = int(seconds // size)
            return f"{n:,} {word}{'s' if n > 1 else ''} ago"
    return "just now"
