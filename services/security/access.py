"""Who may do what: three roles, checked where the action happens and not where its button is drawn."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Collection, Iterable
from typing import Literal, Protocol
from urllib.parse import quote, unquote

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


LONGEST_NAME = 200  # characters
PERSON_HEADER = "X-Lab-Person"


class Rules(Protocol):
    """What [access] of deployments.toml says about roles."""

    @property
    def mode(self) -> Literal["open", "closed"]:
        """Whether everybody may send, or only the people listed."""
        ...

    @property
    def senders(self) -> tuple[str, ...]:
        """Addresses of those who may send."""
        ...

    @property
    def admins(self) -> tuple[str, ...]:
        """Addresses of those who may also change deployments."""
        ...


class Denied(PermissionError):
    """The role may not do this; the text is a sentence for the person."""


def may(role: str, action: Action) -> bool:
    """Whether a role allows an action; an unknown role allows nothing but looking."""
    return action in ALLOWED.get(role if role in ALLOWED else "viewer", frozenset())


def require(role: str, action: Action) -> None:
    """Raise `Denied` with a sentence unless the role allows the action."""
    if not may(role, action):
        raise Denied(f"You can look at everything here, but not {WORDS[action]}; ask whoever runs this server.")


def role_of(name: str, rules: Rules, *, signed_in: bool) -> Role:
    """The role of a person under the rules. Somebody who is not signed in (``signed_in`` false) may only look."""
    if signed_in and _listed(name, rules.admins):
        return "admin"
    if signed_in and (rules.mode == "open" or _listed(name, rules.senders)):
        return "member"
    return "viewer"


def lesser(first: Role, second: Role) -> Role:
    """The role of the two that allows less."""
    return min(first, second, key=lambda role: len(ALLOWED[role]))


def folded(address: str) -> str:
    """An address as it is compared: composed (NFC) and in small letters.

    Not `str.casefold`, which makes "ß" and "ss" one address; and a letter that only looks like an ASCII one stays what
    it is ("K", the sign for kelvin, becomes an ASCII "k" otherwise): two people must not become one.
    """
    small = unicodedata.normalize("NFC", address).lower()
    return small if small.isascii() == address.isascii() else address


def _listed(name: str, addresses: Iterable[str]) -> bool:
    return folded(name) in {folded(address) for address in addresses}


def person_name(text: str) -> str:
    """A person's name fit for a log, a row and a page: composed, on one line, at most 200 characters.

    Different names stay different: what is too long ends with a mark of the whole.
    """
    composed = unicodedata.normalize("NFC", text)
    safe = composed if composed.isascii() == text.isascii() else text
    name = "".join(letter for letter in safe if unicodedata.category(letter) not in ("Cc", "Cs", "Zl", "Zp"))
    if len(name) <= LONGEST_NAME:
        return name
    mark = hashlib.sha256(name.encode()).hexdigest()[:16]
    return f"{name[: LONGEST_NAME - len(mark) - 1]}~{mark}"


def person_header(name: str) -> str:
    """A person's name as a header of a request to the engine: percent-encoded UTF-8."""
    return quote(name, safe="@.+-_", errors="backslashreplace")


def person_in(header: str | None) -> str:
    """The person whom a header names; "local" where there is none."""
    return person_name(unquote(header or "", errors="replace")) or "local"


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
    return folded(person) == folded(own)  # one mailbox may be written Ada@ today and ada@ tomorrow


def require_own(role: str, person: str, owner: str | None, noun: str) -> None:
    """Raise `Denied` with a sentence unless this ``noun`` ("run", "batch") is the person's to change."""
    if not owns(role, person, owner):
        raise Denied(f"This {noun} is somebody else's, so nothing was changed: ask them, or whoever runs this server.")


def require_own_all(role: str, person: str, owners: Collection[str | None], noun: str) -> None:
    """`require_own` for several at once; either all of them are the person's, or nothing is done."""
    foreign = sum(not owns(role, person, owner) for owner in owners)
    if not foreign:
        return
    if len(owners) == 1:
        require_own(role, person, next(iter(owners)), noun)
    if foreign == len(owners):
        raise Denied(f"These {foreign:,} {noun}s are somebody else's, so none was deleted.")
    are, them = ("is", "it") if foreign == 1 else ("are", "them")
    raise Denied(
        f"{foreign:,} of these {len(owners):,} {noun}s {are} somebody else's, so none was deleted: leave {them} out."
    )
