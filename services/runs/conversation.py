"""A column's conversation so far, from the records: what the next turn is sent with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.providers import kind_of
from services.runs import view
from services.types import Ask, Deployment, Message, WireRequest

KEPT = frozenset({"succeeded", "cancelled"})  # a stopped answer was read and may be continued


def conversation(calls: Sequence[Mapping[str, Any]], column: int, deployment_id: str) -> tuple[Message, ...]:
    """The messages of one column after the run that these calls belong to.

    An error is never an assistant turn: when the call failed, its question is left out as well. A deployment that
    moved to another column keeps its own history; one that was not in the run begins anew (an empty tuple).
    """
    own_calls = [c for c in view.last_attempts(calls) if c["deployment_id"] == deployment_id]
    column_calls = [c for c in own_calls if c["column_no"] == column] or own_calls
    if not column_calls:
        return ()
    call = column_calls[0]
    ask = ask_of(call)
    if ask is None:
        return ()
    messages = ask.messages
    if call["state"] in KEPT and call.get("answer"):
        return (*messages, Message("assistant", str(call["answer"])))
    return messages[:-1]


def ask_of(call: Mapping[str, Any]) -> Ask | None:
    """What a call was asked; None where the text was not kept."""
    stored = (call.get("request") or {}).get("ask")
    if not stored:
        return None
    return Ask(
        tuple(Message(m["role"], m["text"]) for m in stored["messages"]),
        stored.get("system"),
        stored.get("params") or {},
        stored.get("cache"),
    )


def request_of(call: Mapping[str, Any]) -> WireRequest | None:
    """The HTTP request of a recorded call, without its key; None where the text was not kept or none was possible."""
    ask = ask_of(call)
    if ask is None:
        return None
    try:
        deployment = Deployment.from_json(call["deployment"])
        return kind_of(deployment).request(deployment, ask)
    except ValueError:
        return None
