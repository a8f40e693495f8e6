"""Who may do what: three roles, checked where the action happens and not where its button is drawn."""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

Role = Literal["viewer", "member", "admin"]
Action = Literal["look", "send", "vote", "annotate", "delete", "deploy"]

ALLOWED: dict[Role, frozenset[Action]] = {
    "viewer": frozenset({"look"}),
    "member": frozenset({"look", "send", "vote", "annotate", "delete"}),
    "admin": frozenset({"look", "send", "vote", "annotate", "delete", "deploy"}),
}
WORDS: dict[Action, str] = {
    "look": "look at runs",
    "send": "send prompts",
    "vote": "vote",
    "annotate": "star and tag runs",
    "delete": "delete runs",
    "deploy": "change deployments",
}


class Denied(PermissionError):
    """The role may not do this; the text is a sentence for the person."""


def may(role: str, action: Action) -> bool:
    """Whether a role allows an action; an unknown role allows nothing but looking."""
    return action in ALLOWED.get(role if role in ALLOWED else "viewer", frozenset())


def require(role: str, action: Action) -> None:
    """Raise `Denied` with a sentence unless the role allows the action."""
    if not may(role, action):
        raise Denied(f"You can look at everything here, but not {WORDS[action]}; ask whoever runs this server.")


# Who nobody can be told apart by: the one person of a server without sign-in, and visitors that it could not name.
NOBODY = frozenset({"", "local", "unknown", "visitor"})


def owns(role: str, person: str, owner: str | None) -> bool:
    """Whether what ``owner`` recorded is this person's to change: their own, or anybody's for an administrator.

    What a server without sign-in recorded belongs to its administrators.
    """
    if role == "admin":
        return True
    own = owner or ""
    if own in NOBODY or person in NOBODY:
        return False
    # One mailbox may be written Ada@ today and ada@ tomorrow; letters beyond ASCII fold in ways that join two people.
    return person == own or (person.isascii() and person.lower() == own.lower())


def require_own(role: str, person: str, owner: str | None, what: str) -> None:
    """Raise `Denied` with a sentence unless this ``what`` ("run", "batch") is the person's to change."""
    if not owns(role, person, owner):
        raise Denied(f"This {what} is somebody else's, so nothing was changed: ask them, or whoever runs this server.")


def require_own_all(role: str, person: str, owners: Collection[str | None], what: str) -> None:
    """`require_own` for several at once; either all of them are the person's, or nothing is done."""
    foreign = sum(not owns(role, person, owner) for owner in owners)
    if not foreign:
        return
    if len(owners) == 1:
        require_own(role, person, next(iter(owners)), what)
    if foreign == len(owners):
        raise Denied(f"These {foreign:,} {what}s are somebody else's, so none was deleted.")
    are, them = ("is", "it") if foreign == 1 else ("are", "them")
    raise Denied(
        f"{foreign:,} of these {len(owners):,} {what}s {are} somebody else's, so none was deleted: leave {them} out."
    )
