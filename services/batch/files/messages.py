"""Lists of messages in a file, converted to our `Message`; what cannot be converted is a fault with a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.batch.files.errors import LineFault, excerpt
from services.params import PARAMS, clean
from services.types import Ask, JsonMapping, Message

_ROLES = "user, assistant, or system at the beginning"
_SYSTEM = ("system", "developer")
_TEXTS = (None, "text", "input_text", "output_text")  # types of a part that is plain text
_QUIET = {"role", "content", "text", "type", "id", "status"}


class ConversionNotes:
    """What a record's conversion has noticed on its way: the names of what does not carry over."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.joined = False  # several parts of text became one
        self.model: str | None = None
        self.url: str | None = None


def conversation(
    messages: Any, notes: ConversionNotes, *, system: str | None = None, path: str = "messages"
) -> tuple[tuple[Message, ...], str | None]:
    """The turns and the system prompt in a list of messages. Raises LineFault that names the place."""
    if not isinstance(messages, Sequence) or isinstance(messages, str) or not messages:
        raise LineFault(
            "messages",
            f"{path} is {excerpt(messages, 40)}, not a list of messages with a role and a text.",
            field=path,
            found=excerpt(messages),
        )
    turns: list[Message] = []
    systems = [system] if system else []
    for place, message in enumerate(messages, 1):
        spot = f"{path}[{place}]"
        if not isinstance(message, Mapping):
            raise LineFault(
                "messages",
                f"message {place} is not an object with a role and a text.",
                field=spot,
                found=excerpt(message),
            )
        role = message.get("role")
        if message.get("type") not in (None, "message"):
            raise LineFault(
                "not_convertible",
                f"message {place} is of the type '{excerpt(message['type'], 30)}', which cannot be "
                "converted: only messages of text can. Take it out.",
                field=spot,
                found=excerpt(message),
            )
        for name in ("tool_calls", "function_call"):
            if message.get(name):
                raise LineFault(
                    "not_convertible",
                    f"message {place} holds tool calls, which cannot be converted. Take them out.",
                    field=spot,
                    found=excerpt(message[name]),
                )
        notes.dropped += [f"messages.{name}" for name in message if name not in _QUIET and message[name]]
        text = content(message.get("content", message.get("text")), notes, spot, place)
        if role in _SYSTEM and not turns:
            systems.append(text)
        elif role == "user" or role == "assistant":
            if not text.strip():
                raise LineFault("empty_prompt", f"message {place} ({role}) is empty. Fill it in.", field=spot)
            turns.append(Message(role, text))
        else:
            _wrong_role(role, place, spot)
    _check_ends(turns, path)
    return tuple(turns), "\n\n".join(systems) or None


def _wrong_role(role: object, place: int, spot: str) -> None:
    if role in _SYSTEM:
        sentence = f"message {place} is of the role '{role}', which can only stand at the beginning. Move it."
    else:
        name = "no role" if role is None else f"the role '{excerpt(role, 30)}'"
        sentence = f"message {place} has {name}; allowed are {_ROLES}."
    raise LineFault("role", sentence, field=f"{spot}.role", found=excerpt(role))


def _check_ends(turns: Sequence[Message], path: str) -> None:
    for turn, place in ((turns[0], "first"), (turns[-1], "last")) if turns else ():
        if turn.role != "user":
            raise LineFault(
                "first_role" if place == "first" else "last_role",
                f"the {place} message is of the role 'assistant'; it has to be 'user'. Take it out, or add one.",
                field=path,
                found=excerpt(turn.text),
            )
    if not turns:
        raise LineFault("empty_prompt", "there is no message of the user. Add one.", field=path)


def content(value: Any, notes: ConversionNotes, spot: str, place: int) -> str:
    """The text of a message: a text, or a list of parts that are texts. Raises LineFault for any other part."""
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence):
        raise LineFault(
            "content_not_text",
            f"the content of message {place} is {excerpt(value, 40)}, not text.",
            field=f"{spot}.content",
            found=excerpt(value),
        )
    texts: list[str] = []
    for block in value:
        if isinstance(block, str):
            texts.append(block)
            continue
        kind = block.get("type") if isinstance(block, Mapping) else "?"
        text = block.get("text") if isinstance(block, Mapping) else None
        if isinstance(block, Mapping) and kind is None and "cachePoint" in block:
            notes.dropped.append("cachePoint")
        elif kind in _TEXTS and isinstance(text, str):
            texts.append(text)
            notes.dropped += [f"content.{name}" for name in block if name not in ("type", "text") and block[name]]
        else:
            name = kind or next(iter(block), "?")
            raise LineFault(
                "not_convertible",
                f"message {place} holds a part of the kind '{excerpt(name, 30)}', which cannot be converted: only text "
                "can. Take the part or the record out.",
                field=f"{spot}.content",
                found=excerpt(block),
            )
    notes.joined |= len(texts) > 1
    return "\n\n".join(texts)


def system_text(value: Any, notes: ConversionNotes, path: str = "system") -> str | None:
    """A system prompt: a text or parts; None for none."""
    if value is None or value == "" or value == []:
        return None
    try:
        return content(value, notes, path, 0) or None
    except LineFault as fault:
        sentence = "the system prompt is not text. Write it as one text."
        raise LineFault(fault.code, sentence, field=path, found=fault.found) from None


def params_of(values: JsonMapping, base: JsonMapping) -> JsonMapping:
    """The record's own parameters over those of the batch. Raises LineFault in the words of `services.params`."""
    if not values:
        return base
    try:
        own = clean(values)
    except ValueError as error:
        name = _named_in(values)
        raise LineFault("param", str(error), field=name, found=excerpt(values.get(name, ""))) from None
    return {name: own.get(name, base.get(name)) for name in PARAMS if name in own or name in base}


def _named_in(values: JsonMapping) -> str:
    for name, value in values.items():
        try:
            clean({name: value})
        except ValueError:
            return excerpt(name, 40)
    return ""


def size(ask: Ask) -> int:
    """Characters of all that is asked."""
    return sum(len(message.text) for message in ask.messages) + len(ask.system or "")
