"""Signed permission to look at one run's live columns: a custom route does not pass Streamlit's own login.

The page, which knows the person, signs; the WebSocket route, which does not, checks. Replicas share `LAB_BOARD_SECRET`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import secrets
import time
from dataclasses import dataclass
from typing import Literal

Role = Literal["viewer", "member", "admin"]
ROLES: tuple[Role, ...] = ("viewer", "member", "admin")
LIFETIME_S = 12 * 3600
# A token made again within this time is the same token, so that a rerun sends the browser nothing new.
STEADY_S = 600
LONGEST = 8192  # characters

_OWN_SECRET = secrets.token_bytes(32)


class BadTicket(ValueError):
    """The token was not signed by us, is for another run, or is too old."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """Who may look at which run, until when (Unix seconds)."""

    run_id: str
    person: str
    role: Role
    expires: int
    mark: str = ""  # of the sign-in it was made in

    @property
    def may_act(self) -> bool:
        """True when the person may stop and retry columns."""
        return self.role in ("member", "admin")


def _secret() -> bytes:
    shared = os.environ.get("LAB_BOARD_SECRET")
    return shared.encode() if shared else _OWN_SECRET


def _sign(body: bytes) -> str:
    return hmac.new(_secret(), body, hashlib.sha256).hexdigest()


def board_token(
    run_id: str, person: str, role: Role, *, until: int | None = None, mark: str = "", now: float | None = None
) -> str:
    """Token for `/api/board/{run_id}`, valid for 12 hours or until the person's sign-in ends.

    ``until`` is that end and ``now`` the clock, both in Unix seconds; ``logo`` is that of the sign-in.
    """
    if role not in ROLES:
        raise ValueError(f"There is no role {role!r}; the roles are {', '.join(ROLES)}.")
    issued = int(time.time() if now is None else now) // STEADY_S * STEADY_S
    expires = issued + LIFETIME_S if until is None else min(issued + LIFETIME_S, until)
    body = json.dumps([run_id, person, role, expires, mark], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(body).decode() + "." + _sign(body)


def check_token(token: str, run_id: str, *, now: float | None = None) -> Ticket:
    """The ticket inside a token. Raises `BadTicket` when it is forged, expired, of another form or for another run."""
    body_text, _, signature = token.partition(".")
    if len(body_text) > LONGEST:
        raise BadTicket("The token cannot be read.")
    try:
        body = base64.b64decode(body_text.encode(), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadTicket("The token cannot be read.") from error
    if not hmac.compare_digest(_sign(body).encode(), signature.encode("utf-8", "replace")):
        raise BadTicket("The token was not made by this server.")
    ticket = _ticket(body)
    if ticket.run_id != run_id:
        raise BadTicket("The token is for another run.")
    if ticket.expires <= (time.time() if now is None else now):
        raise BadTicket("The token has expired.")
    return ticket


def _ticket(body: bytes) -> Ticket:
    # Signed by us, and yet perhaps by another version of us: replicas share their secret.
    try:
        parts = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadTicket("The token cannot be read.") from error
    if not isinstance(parts, list) or [type(part) for part in parts] != [str, str, str, int, str]:
        raise BadTicket("The token has another form than ours.")
    run_id, person, role, expires, mark = parts
    if role not in ROLES:
        raise BadTicket("The token is for a role that does not exist.")
    return Ticket(run_id, person, role, expires, mark)


def role_in(token: str) -> Role:
    """The role a token of ours was made for; "viewer" when it cannot be read. For showing buttons, not for allowing."""
    try:
        role = json.loads(base64.urlsafe_b64decode(token.partition(".")[0].encode()))[2]
    except (ValueError, IndexError, TypeError, KeyError, RecursionError):
        return "viewer"
    return role if role in ROLES else "viewer"
