"""Sending an alert's notice to the address that a variable holds, through `apprise`: a webhook, e-mail, a chat.

The address (``ALERT_WEBHOOK = "json://host/path"``, ``ALERT_MAIL = "mailto://…"``) is a secret of whoever runs this
server: it is looked up by name when it is needed, and no part of it is in what is returned, kept or logged.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

from services.alerts import TARGET_PREFIX
from services.security import keys, outbound

TITLE = "Inference Lab"
_STATUS = re.compile(r"error\s*=\s*(\d{3})\b|\b(\d{3}) \(")


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of one notice: whether it was taken, and the sentence about it. ``again``: another try may help."""

    ok: bool
    words: str
    again: bool = False


def targets() -> list[str]:
    """The names of the variables that an alert can be sent to."""
    return keys.names(TARGET_PREFIX)


def send(target: str, body: str, title: str = TITLE) -> Delivery:
    """Send one notice and wait for its end, which can take a minute: call it in a thread. Never raises."""
    address = keys.lookup(target) if target.startswith(TARGET_PREFIX) else None
    if address is None:
        return Delivery(False, f"{target} is not set any more, so nothing was sent to it")
    outbound.for_libraries()
    # Its import takes a while, and most installations never send anything.
    import apprise

    # Its own messages can name hosts and parts of addresses; they are read here and go no further.
    logging.getLogger("apprise").propagate = False
    sender = apprise.Apprise(asset=apprise.AppriseAsset(app_id=TITLE, app_desc=TITLE, storage_mode="memory"))
    try:
        if not sender.add(address):
            return Delivery(False, f"{target} does not hold an address that can be sent to")
        with apprise.LogCapture(level=logging.WARNING) as said:  # type: ignore[no-untyped-call]
            ok = bool(sender.notify(body=keys.scrub(body), title=title, body_format=apprise.NotifyFormat.TEXT))
            why = _why(said.getvalue())
    except Exception as error:
        ok, why = False, type(error).__name__
    if ok:
        return Delivery(True, f"sent to {target}")
    return Delivery(False, f"{target} did not accept it ({why})", again=True)


def _why(said: str) -> str:
    status = _STATUS.search(said)
    if status:
        return status[1] or status[2]
    if "onnection" not in said:
        return "no reason given"
    through = outbound.settings()
    return f"no connection; the proxy of {through[0]} may be in the way" if through else "no connection"
