"""What a page or the command line asks the engine to do: one prompt, one to eight columns, k repetitions."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from services import params
from services.request_fields import Given
from services.runs import templates
from services.types import CacheMode, StartMode

MAX_COLUMNS = 8
MAX_REPETITIONS = 30
MAX_PAUSE_S = 600
MAX_PROMPT_CHARS = 1_000_000
MAX_TEXT = 16 * 2**20  # of one text of a request; `RunSpec.checked` says what is too long to be sent
ANY_COUNT = (-1_000_000, 1_000_000)  # `RunSpec.checked` has its own sentence for what is too many
CACHE_MODES: tuple[CacheMode, ...] = ("off", "auto", "5m", "1h")
START_MODES: tuple[StartMode, ...] = ("together", "staggered", "sequential")


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column: a deployment, its own parameters where it was opted out of the shared set, and its prompt caching."""

    deployment_id: str
    use_shared_params: bool = True
    params: Mapping[str, Any] = field(default_factory=dict)
    cache: CacheMode | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text file that goes with the prompt. ``text`` is what the model is sent."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that a run needs to be started, and to be started again.

    ``pause_s``: seconds between the repetitions of a sequential run.
    """

    prompt: str
    columns: tuple[ColumnSpec, ...]
    system: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    repetitions: int = 1
    start: StartMode = "together"
    stagger_s: float = 0.5
    blind: bool = False
    template: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()
    parent_run_id: str | None = None
    tags: tuple[str, ...] = ()
    source: str = "playground"
    pause_s: float = 0.0

    def checked(self) -> RunSpec:
        """This spec if it can be run. Raises ValueError with one sentence for the person who wrote it."""
        if not self.prompt.strip() and not self.attachments:
            raise ValueError("The prompt is empty: write something to send.")
        text = self.render()
        if len(text) > MAX_PROMPT_CHARS:
            raise ValueError(
                f"The prompt is {len(text):,} characters long and the limit is {MAX_PROMPT_CHARS:,}: "
                "shorten it or attach less."
            )
        if not 1 <= len(self.columns) <= MAX_COLUMNS:
            raise ValueError(f"Choose between 1 and {MAX_COLUMNS} deployments; {len(self.columns)} are chosen.")
        if not 1 <= self.repetitions <= MAX_REPETITIONS:
            raise ValueError(f"Repetitions go from 1 to {MAX_REPETITIONS}; {self.repetitions} was asked for.")
        if self.start not in START_MODES:
            raise ValueError(f"Columns start {', '.join(START_MODES)}; “{self.start}” is not one of these.")
        if not 0 <= self.stagger_s <= 60:
            raise ValueError("The pause between staggered columns goes from 0 to 60 seconds.")
        if not 0 <= self.pause_s <= MAX_PAUSE_S:
            raise ValueError(f"The pause between repetitions goes from 0 to {MAX_PAUSE_S} seconds.")
        if self.pause_s and self.start != "sequential":
            raise ValueError("Only a run whose columns start one after the other can pause between repetitions.")
        params.clean(self.params)
        for column in self.columns:
            params.clean(column.params)
            if column.cache not in (None, *CACHE_MODES):
                raise ValueError(f"Prompt caching is one of {', '.join(CACHE_MODES)}; “{column.cache}” is not.")
        return self

    def render(self) -> str:
        """The user's text as it is sent: variables filled in, attached files appended. Raises ValueError in words."""
        text = templates.render(self.prompt, self.variables) if self.variables else self.prompt
        return templates.attach(text, [(a.name, a.text) for a in self.attachments])

    def column_params(self, column: ColumnSpec) -> dict[str, Any]:
        """The cleaned parameters that one column asks for."""
        return params.clean(self.params if column.use_shared_params else column.params)

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_json` reads back to an equal spec."""
        return {
            "prompt": self.prompt,
            "system": self.system,
            "columns": [
                {
                    "deployment_id": c.deployment_id,
                    "use_shared_params": c.use_shared_params,
                    "params": dict(c.params),
                    "cache": c.cache,
                }
                for c in self.columns
            ],
            "params": dict(self.params),
            "repetitions": self.repetitions,
            "start": self.start,
            "stagger_s": self.stagger_s,
            "blind": self.blind,
            "template": self.template,
            "variables": dict(self.variables),
            "attachments": [{"name": a.name, "text": a.text} for a in self.attachments],
            "parent_run_id": self.parent_run_id,
            "tags": list(self.tags),
            "source": self.source,
            "pause_s": self.pause_s,
        }

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> RunSpec:
        """Read a spec. Raises ValueError with one sentence when the shape is not one of ours."""
        given = Given(value)
        given.need("prompt", "columns")
        shared = given.table("variables")
        return RunSpec(
            prompt=given.text("prompt", longest=MAX_TEXT),
            system=given.words("system", longest=MAX_TEXT) or None,
            columns=tuple(
                ColumnSpec(
                    one.text("deployment_id"), one.flag("use_shared_params", True), one.table("params").values,
                    cast(CacheMode | None, one.words("cache")),
                )
                for one in given.tables("columns")
            ),
            params=given.table("params").values,
            repetitions=given.whole("repetitions", *ANY_COUNT, default=1),
            start=cast(StartMode, given.text("start") if given.has("start") else "together"),
            stagger_s=given.number("stagger_s", 0.5),
            blind=given.flag("blind", False),
            template=given.words("template"),
            variables={name: shared.text(name, longest=MAX_TEXT) for name in shared.values},
            attachments=tuple(
                Attachment(one.text("name"), one.text("text", longest=MAX_TEXT)) for one in given.tables("attachments")
            ),
            parent_run_id=given.words("parent_run_id"),
            tags=given.texts("tags"),
            source=given.words("source") or "playground",
            pause_s=given.number("pause_s", 0.0),
        )  # fmt: skip


def new_id() -> str:
    """An id that cannot be guessed: 16 URL-safe characters, about 96 bits; the first is no "-", which a command line
    would take for an option."""
    while (made := secrets.token_urlsafe(12)).startswith("-"):
        pass
    return made
