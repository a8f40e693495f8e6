"""Our own format: a row whose columns fill templates, or a list of messages.

Templates are ``{{column}}``, with the conventions of `services.runs.spec`.

Beyond those, a column of any name can be used: what stands in the braces is a column if the file has one of exactly
that name; a name that looks like a variable and is no column is a mistake; anything else in braces is text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import orjson

from services.batch.files.errors import LineFault, Log, excerpt, nearest, no_column
from services.batch.files.messages import ConversionNotes, conversation, params_of, system_text
from services.params import PARAMS
from services.runs.spec import variables
from services.types import Ask, JsonMapping, Message

_BRACES = re.compile(r"\{\{([^{}\r\n]{1,300})\}\}")

PROMPT_NAMES = ("prompt", "question", "text", "input", "body")

SYSTEM_NAMES = ("system", "system_prompt")

MAX_CANDIDATES = 10


class Template:
    """A template that is ready to be filled. ``columns``: those it uses, each once."""

    def __init__(self, text: str, columns: Collection[str]) -> None:
        self.parts: list[tuple[str, str | None]] = []  # literal text, then a column
        pos = 0
        for match in _BRACES.finditer(text):
            name = match[1].strip()
            exact = match[1] if match[1] in columns else name
            if exact in columns or variables(match[0]):
                self.parts.append((text[pos : match.start()], exact))
                pos = match.end()
        self.tail = text[pos:]
        self.columns = tuple(dict.fromkeys(name for _, name in self.parts if name is not None))
        # "{{prompt}}" and nothing else: then the column is the prompt, and has to be a text.
        self.only = self.columns[0] if len(self.parts) == 1 and not self.parts[0][0] and not self.tail else None

    def unknown(self, columns: Collection[str]) -> list[str]:
        """The columns it uses that are not there."""
        return [name for name in self.columns if name not in columns]

    def fill(self, values: JsonMapping) -> tuple[str, list[str]]:
        """The text, and the columns that had nothing to put in. Values are not looked into again.

        Raises LineFault for a column that the record does not have.
        """
        if self.only is not None:
            text = text_of(self._value(values, self.only))
            return text, [] if text.strip() else [self.only]
        pieces: list[str] = []
        empty: list[str] = []
        for literal, name in self.parts:
            pieces.append(literal)
            if name is not None:
                text = text_of(self._value(values, name))
                pieces.append(text)
                if not text.strip():
                    empty.append(name)
        pieces.append(self.tail)
        return "".join(pieces), list(dict.fromkeys(empty))

    @staticmethod
    def _value(values: JsonMapping, name: str) -> Any:
        try:
            return values[name]
        except KeyError:
            raise LineFault(
                "unknown_column", f"{no_column(name, list(values))} Correct the record or the template.", field=name
            ) from None

    def prompt(self, values: JsonMapping) -> tuple[str, list[str]]:
        """The same for a prompt. Raises LineFault where it would be empty or is no text."""
        if self.only is not None and type(value := values.get(self.only)) in (int, float, bool, list, dict):
            raise LineFault(
                "prompt_not_text",
                f"{excerpt(self.only, 40)} is {excerpt(value, 40)}, not text. Put it in quotes.",
                field=self.only,
                found=excerpt(value),
            )
        text, empty = self.fill(values)
        if self.columns and len(empty) == len(self.columns):
            names = " and ".join(f"'{excerpt(name, 40)}'" for name in empty)
            subject = f"column {names} has" if len(empty) == 1 else f"columns {names} have"
            raise LineFault(
                "empty_prompt", f"the prompt is empty: {subject} nothing in it. Fill it in.", field=empty[0], found=""
            )
        if not text.strip():
            raise LineFault("empty_prompt", "the prompt is empty. Write a template or fill the column in.")
        return text, empty


def guess(columns: Sequence[str], names: Sequence[str]) -> str | None:
    """The first of these names that is a column; capitals do not count, but the exact one wins."""
    for name in names:
        if name in columns:
            return name
        for column in columns:
            if column.casefold() == name:
                return column
    return None


def braced(column: str) -> str:
    """The template that is just this column."""
    return f"{{{{{column}}}}}"


def candidates(columns: Sequence[str], id_column: str | None) -> list[str]:
    """The columns that may be meant for the prompt, likeliest first."""
    near = [hit for name in PROMPT_NAMES for hit in nearest(name, columns)]
    usable = [name for name in dict.fromkeys([*near, *columns]) if name != id_column and "{" not in name + "}"]
    return usable[:MAX_CANDIDATES]


def no_prompt(columns: Sequence[str]) -> str:
    """The sentences for a file in which no column is plainly the prompt."""
    return f"{no_column('prompt', columns)} Choose the column that holds the prompt."


def plain(value: Any) -> Any:
    """A cell as JSON can hold it: dates in ISO form, decimals as texts, what is not a number as None."""
    kind = type(value)
    if kind is str or value is None or kind is bool or kind is int:
        return value
    if kind is float:
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() and abs(value) < 1e15 else value
    if isinstance(value, datetime):
        # Excel knows no date without a time.
        return value.date().isoformat() if value.time() == time() and value.tzinfo is None else value.isoformat(" ")
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal | timedelta):
        return str(value)
    return str(value)


def text_of(value: Any) -> str:
    """A value as it stands in a prompt: a text as it is, None as nothing, everything else as JSON writes it."""
    if type(value) is str:
        return value
    if value is None:
        return ""
    if type(value) is bool:
        return "true" if value else "false"
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a whole number beyond 64 bits inside
        import json

        return json.dumps(value, ensure_ascii=False)


class OwnFormat:
    """Makes asks of records. ``loose``: records are JSON objects, each with its own keys, messages and parameters;
    otherwise a table, where only the templates' columns count. ``own_system``: a record that has a system prompt which
    the first ones had not is asked with it; False where the person wants none."""

    def __init__(
        self,
        prompt: Template | None,
        system: Template | None,
        base: JsonMapping,
        log: Log,
        *,
        loose: bool,
        own_system: bool = True,
    ) -> None:
        self.prompt, self.system, self.base, self.log, self.loose = prompt, system, base, log, loose
        self.columns = frozenset({*(prompt.columns if prompt else ()), *(system.columns if system else ())})
        # A column that a template uses is data, whatever its name.
        self.param_names = frozenset(PARAMS) - self.columns if loose else frozenset()
        self.takes_params = loose and "params" not in self.columns
        guessed = system is None or (system.only is not None and system.only.casefold() in SYSTEM_NAMES)
        self.late_system = loose and own_system and guessed

    def __call__(self, values: JsonMapping) -> Ask:
        """The ask. Raises LineFault in words."""
        params = self.base
        if self.loose and not self.param_names.isdisjoint(values):
            params = params_of(
                {name: values[name] for name in PARAMS if name in values and name in self.param_names}, self.base
            )
        if self.takes_params and (record_params := values.get("params")) is not None:
            params = params_of(_object(record_params), params)
        if values.get("messages") is not None and not isinstance(values["messages"], str):
            return self._conversation(values, params)
        template = self.prompt
        if template is None and (column := guess(list(values), PROMPT_NAMES)) is not None:
            template = Template(braced(column), values)  # a record of another kind than the first ones
        if self.loose and "messages" in values and not self._asks(template, values):
            raise _no_talk(values["messages"])
        if template is None:
            names = ", ".join(excerpt(name, 30) for name in list(values)[:8])
            raise LineFault("no_prompt", f"neither 'messages' nor a prompt. Found: {names or 'nothing'}.")
        text, empty = template.prompt(values)
        self.log.part_empty += bool(empty)
        return Ask((Message("user", text),), self._system(values), params)

    @staticmethod
    def _asks(template: Template | None, values: JsonMapping) -> bool:
        """Whether a template has something to say of a record whose messages are none."""
        if template is None:
            return False
        return not template.columns or any(values.get(name) is not None for name in template.columns)

    def _conversation(self, values: JsonMapping, params: JsonMapping) -> Ask:
        notes = ConversionNotes()
        turns, system = conversation(values["messages"], notes, system=system_text(values.get("system"), notes))
        if notes.dropped:
            self.log.drop(notes.dropped)
        if notes.joined:
            self.log.notice(JOINED)
        return Ask(turns, system, params)

    def _system(self, values: JsonMapping) -> str | None:
        template = self.system
        if template is not None and template.only is not None and self.loose and values.get(template.only) is None:
            template = None
        if template is None and self.late_system:
            template = self._late(values)
        if template is None:
            return None
        if template.only is not None and isinstance(value := values[template.only], list | dict):
            return system_text(value, ConversionNotes(), template.only)
        if template.only is not None and self.loose and isinstance(value := values[template.only], int | float):
            sentence = f"{excerpt(template.only, 40)} is {_json(value)}, not text. Put it in quotes."
            raise LineFault("system_not_text", sentence, field=template.only, found=excerpt(value))
        text, _ = template.fill(values)
        return text if text.strip() else None

    def _late(self, values: JsonMapping) -> Template | None:
        """The system prompt of a record, from a column that the first records did not have."""
        filled = [name for name, value in values.items() if value is not None and name not in self.columns]
        column = guess(filled, SYSTEM_NAMES)
        return None if column is None else Template(braced(column), values)


def _object(value: Any) -> JsonMapping:
    """The parameters of a record. Raises LineFault for what is no object."""
    if isinstance(value, Mapping):
        return value
    sentence = f'params is {_json(value)}, not an object. Write it like {{"max_tokens": 100}}, or take it out.'
    raise LineFault("param", sentence, field="params", found=excerpt(value))


def _no_talk(value: Any) -> LineFault:
    sentence = (
        f"messages is {_json(value)}, not a list of messages with a role and a text, and there is no prompt either."
    )
    return LineFault("messages", f"{sentence} Fill one of them in.", field="messages", found=excerpt(value))


def _json(value: Any) -> str:
    """A value as the person wrote it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else excerpt(value, 40)


JOINED = "Messages of several parts of text became one text each, with an empty line between the parts."


def described(names: Sequence[str]) -> str:
    """The sentence on columns of a table that look like parameters and are not used as such."""
    quoted = ", ".join(f"'{name}'" for name in names)
    return f"Columns named like parameters are kept as data: {quoted}. JSON Lines can set parameters for each record."
