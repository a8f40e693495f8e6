"""Whether AWS credentials are there, as last seen: asked in a thread, at most every half minute, never waited for."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from services.aws import credentials

ASK_AGAIN_S = 30.0


@dataclass
class _Seen:
    trouble: str | None = None
    asked: float = float("-inf")
    busy: bool = False


_seen: dict[str | None, _Seen] = {}
_lock = threading.Lock()


def trouble(profile: str | None) -> str | None:
    """Why a profile gives no credentials, as far as is known now; None when it does, or when nobody has looked yet.

    Returns at once and looks again in the background when the answer is old.
    """
    with _lock:
        seen = _seen.setdefault(profile, _Seen())
        if not seen.busy and time.monotonic() - seen.asked > ASK_AGAIN_S:
            seen.busy = True
            threading.Thread(target=_ask, args=(profile, seen), name="aws-credentials", daemon=True).start()
        return seen.trouble


def _ask(profile: str | None, seen: _Seen) -> None:
    found: str | None = None
    try:
        found = credentials.trouble(profile)
    finally:
        with _lock:
            seen.trouble, seen.asked, seen.busy = found, time.monotonic(), False


def forget() -> None:
    """Look again the next time somebody asks; what was known stays until then."""
    with _lock:
        for seen in _seen.values():
            seen.asked = float("-inf")
