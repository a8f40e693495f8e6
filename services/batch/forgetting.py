"""What is forgotten of batches in time: their texts and files after `[privacy] text_days`, uploads after two days."""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from sqlmodel import Session

from db import batches
from db.writer import Writer
from services.deployments.registry import Registry

log = logging.getLogger(__name__)
EVERY_S = 3600.0
UPLOADS_S = 2 * 86_400.0


async def keep_forgetting(writer: Writer, registry: Registry, data: Path) -> None:
    """Never returns."""
    while True:
        try:
            await asyncio.to_thread(_old_uploads, data / "uploads", time.time() - UPLOADS_S)
            await forget_texts(writer, registry.config.text_days, data)
        except Exception:
            log.exception("what is older than the privacy settings allow could not be forgotten of batches")
        await asyncio.sleep(EVERY_S)


async def forget_texts(writer: Writer, days: int | None, data: Path) -> list[str]:
    """Forget the texts of batches that are over and older than ``days``, and their files; which those were."""
    if days is None:
        return []
    before = datetime.now(UTC) - timedelta(days=days)
    forgotten = await writer.write(partial(_forget, before))
    for batch_id in forgotten:
        await asyncio.to_thread(shutil.rmtree, data / "batches" / batch_id, True)
    return forgotten


def _forget(before: datetime, session: Session) -> list[str]:
    return batches.forget_texts(session=session, older_than=before)


def _old_uploads(folder: Path, before: float) -> None:
    """Files that were checked and never submitted."""
    for one in folder.glob("*"):
        try:
            if one.stat().st_mtime > before or any(inner.stat().st_mtime > before for inner in one.glob("*")):
                continue
        except OSError:
            continue
        if one.is_dir():
            shutil.rmtree(one, ignore_errors=True)
        else:
            one.unlink(missing_ok=True)
