"""A column's conversation so far, from the records: what the next turn is sent with."""

from __future__ import annotations

from collections.abc import Sequence

from db.run_rows import CallRow
from services.call_record import CallRecord, CallRequest, from_row
from services.providers import kind_of
from services.runs import view
from services.types import Ask, Deployment, Message, WireRequest

KEPT = frozenset({"succeeded", "cancelled"})  # a stopped answer was read and may be continued


def conversation(calls: Sequence[CallRow], column: int, deployment_id: str) -> tuple[Message, ...]:
    """The messages of one column after the run that these calls belong to.

    An error is never an assistant turn: when the call failed, its question is left out as well. A deployment that
    moved to another column keeps its own history; one that was not in the run begins anew (an empty tuple).
    """
    of_deployment = [
        call for row in view.last_attempts(calls) if (call := from_row(row)).deployment.id == deployment_id
    ]
    of_column = [call for call in of_deployment if call.column == column] or of_deployment
    if not of_column:
        return ()
    call = of_column[0]
    ask = ask_of(call.request)
    if ask is None:
        return ()
    if call.state in KEPT and call.answer.text:
        return (*ask.messages, Message("assistant", call.answer.text))
    return ask.messages[:-1]


def ask_of(request: CallRequest) -> Ask | None:
    """What a call was asked; None where the text was not kept."""
    stored = request.stored.get("ask") if request.stored else None
    if not stored:
        return None
    return Ask(
        tuple(Message(m["role"], m["text"]) for m in stored["messages"]),
        stored.get("system"),
        stored.get("params") or {},
        stored.get("cache"),
    )


def request_of(call: CallRecord) -> WireRequest | None:
    """The HTTP request of a recorded call, without its key; None where the text was not kept or none was possible."""
    ask = ask_of(call.request)
    if ask is None:
        return None
    deployment = Deployment.from_json(call.deployment.declared)
    try:
        return kind_of(deployment).request(deployment, ask)
    except ValueError:
        return None
