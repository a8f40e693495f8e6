"""The request in a record of our own format: a row whose columns fill templates, or a list of messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.batch.files.errors import LineFault, Log, excerpt
from services.batch.files.messages import ConversionNotes, conversation, params_of, system_text
from services.batch.files.templates import PROMPT_NAMES, SYSTEM_NAMES, Template, braced, guess
from services.params import PARAMS
from services.types import Ask, Message


class OwnFormat:
    """Makes asks of records. ``loose``: records are JSON objects, each with its own keys, messages and parameters;
    otherwise a table, where only the templates' columns count. ``own_system``: a record that has a system prompt which
    the first ones had not is asked with it; False where the person wants none."""

    def __init__(
        self,
        prompt: Template | None,
        system: Template | None,
        base: Mapping[str, Any],
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

    def __call__(self, values: Mapping[str, Any]) -> Ask:
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
    def _asks(template: Template | None, values: Mapping[str, Any]) -> bool:
        """Whether a template has something to say of a record whose messages are none."""
        if template is None:
            return False
        return not template.columns or any(values.get(name) is not None for name in template.columns)

    def _conversation(self, values: Mapping[str, Any], params: Mapping[str, Any]) -> Ask:
        notes = ConversionNotes()
        turns, system = conversation(values["messages"], notes, system=system_text(values.get("system"), notes))
        if notes.dropped:
            self.log.drop(notes.dropped)
        if notes.joined:
            self.log.notice(JOINED)
        return Ask(turns, system, params)

    def _system(self, values: Mapping[str, Any]) -> str | None:
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

    def _late(self, values: Mapping[str, Any]) -> Template | None:
        """The system prompt of a record, from a column that the first records did not have."""
        filled = [name for name, value in values.items() if value is not None and name not in self.columns]
        column = guess(filled, SYSTEM_NAMES)
        return None if column is None else Template(braced(column), values)


def _object(value: Any) -> Mapping[str, Any]:
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
