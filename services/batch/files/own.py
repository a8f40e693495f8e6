"""What is asked by a record of our own kind: a row whose columns fill templates, or a list of messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.batch.files.faults import LineFault, Log, shown
from services.batch.files.messages import Taken, conversation, params_of, system_text
from services.batch.files.templates import PROMPT_NAMES, Template, braced, guess
from services.domain import Ask, Message
from services.params import PARAMS


class Own:
    """Makes asks of records. ``loose``: records are JSON objects, each with its own keys, messages and parameters;
    otherwise a table, where only the templates' columns count."""

    def __init__(
        self, prompt: Template | None, system: Template | None, base: Mapping[str, Any], log: Log, *, loose: bool
    ) -> None:
        self.prompt, self.system, self.base, self.log, self.loose = prompt, system, base, log, loose
        self.columns = frozenset({*(prompt.columns if prompt else ()), *(system.columns if system else ())})
        # A column that a template uses is data, whatever its name.
        self.param_names = frozenset(PARAMS) - self.columns if loose else frozenset()
        self.takes_params = loose and "params" not in self.columns

    def __call__(self, values: Mapping[str, Any]) -> Ask:
        """The ask. Raises LineFault in words."""
        params = self.base
        if self.loose and not self.param_names.isdisjoint(values):
            params = params_of({name: values[name] for name in PARAMS if name in values and name in self.param_names},
                               self.base)  # fmt: skip
        if self.takes_params and (given := values.get("params")) is not None:
            params = params_of(_object(given), params)
        if values.get("messages") is not None and not isinstance(values["messages"], str):
            return self._conversation(values, params)
        template = self.prompt
        if template is None and (column := guess(list(values), PROMPT_NAMES)) is not None:
            template = Template(braced(column), values)  # a record of another kind than the first ones
        if self.loose and "messages" in values and not self._asks(template, values):
            raise _no_talk(values["messages"])
        if template is None:
            found = ", ".join(shown(name, 30) for name in list(values)[:8])
            raise LineFault("no_prompt", f"neither 'messages' nor a prompt. Found: {found or 'nothing'}.")
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
        taken = Taken()
        turns, system = conversation(values["messages"], taken, system=system_text(values.get("system"), taken))
        if taken.dropped:
            self.log.drop(taken.dropped)
        if taken.joined:
            self.log.notice(JOINED)
        return Ask(turns, system, params)

    def _system(self, values: Mapping[str, Any]) -> str | None:
        if self.system is None:
            return None
        if self.system.only is not None and self.loose and values.get(self.system.only) is None:
            return None
        if self.system.only is not None and isinstance(value := values[self.system.only], list | dict):
            return system_text(value, Taken(), self.system.only)
        if self.system.only is not None and self.loose and isinstance(value := values[self.system.only], int | float):
            said = f"{shown(self.system.only, 40)} is {_json(value)}, not text. Put it in quotes."
            raise LineFault("system_not_text", said, field=self.system.only, found=shown(value))
        text, _ = self.system.fill(values)
        return text if text.strip() else None


def _object(given: Any) -> Mapping[str, Any]:
    """The parameters of a record. Raises LineFault for what is no object."""
    if isinstance(given, Mapping):
        return given
    said = f'params is {_json(given)}, not an object. Write it like {{"max_tokens": 100}}, or take it out.'
    raise LineFault("param", said, field="params", found=shown(given))


def _no_talk(given: Any) -> LineFault:
    said = f"messages is {_json(given)}, not a list of messages with a role and a text, and there is no prompt either."
    return LineFault("messages", f"{said} Fill one of them in.", field="messages", found=shown(given))


def _json(value: Any) -> str:
    """A value as the person wrote it."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else shown(value, 40)


JOINED = "Messages of several parts of text became one text each, with an empty line between the parts."


def described(names: Sequence[str]) -> str:
    """The sentence on columns of a table that look like parameters and are not used as such."""
    said = ", ".join(f"'{name}'" for name in names)
    return f"Columns named like parameters are kept as data: {said}. JSON Lines can set parameters for each record."
