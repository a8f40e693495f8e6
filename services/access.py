"""Who may do what: three roles, checked where the action happens and not where its button is drawn."""

from __future__ import annotations

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
