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
        used = {*(prompt.columns if prompt else ()), *(system.columns if system else ())}
        # A column that a template uses is data, whatever its name.
        self.param_names = frozenset(PARAMS) - used if loose else frozenset()

    def __call__(self, values: Mapping[str, Any]) -> Ask:
        """The ask. Raises LineFault in words."""
        params = self.base
        if self.loose and not self.param_names.isdisjoint(values):
            params = params_of({name: values[name] for name in PARAMS if name in values and name in self.param_names},
                               self.base)  # fmt: skip
        if self.loose and isinstance(values.get("params"), Mapping):
            params = params_of(values["params"], params)
        if values.get("messages") is not None and not isinstance(values["messages"], str):
            return self._conversation(values, params)
        template = self.prompt
        if template is None and (column := guess(list(values), PROMPT_NAMES)) is not None:
            template = Template(braced(column), values)  # a record of another kind than the first ones
        if template is None:
            found = ", ".join(shown(name, 30) for name in list(values)[:8])
            raise LineFault("no_prompt", f"neither 'messages' nor a prompt. Found: {found or 'nothing'}.")
        text, empty = template.prompt(values)
        self.log.part_empty += bool(empty)
        return Ask((Message("user", text),), self._system(values), params)

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
        text, _ = self.system.fill(values)
        return text if text.strip() else None


JOINED = "Messages of several parts of text became one text each, with an empty line between the parts."


def described(names: Sequence[str]) -> str:
    """The sentence on columns of a table that look like parameters and are not used as such."""
    said = ", ".join(f"'{name}'" for name in names)
    return f"Columns named like parameters are kept as data: {said}. JSON Lines can set parameters for each record."
