"""What a page or the command line asks the engine to do: one prompt, one to eight columns, k repetitions."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, cast

from db.run_rows import RunColumn
from services import params
from services.request_fields import RequestFields
from services.types import CacheMode, Json, JsonMapping, StartMode


@dataclass(frozen=True, slots=True)
class Sample:
    """One suggestion. ``shows`` says in a few words what it makes visible; ``max_tokens`` fits its answer."""

    title: str
    prompt: str
    max_tokens: int
    shows: str
    system: str | None = None


SAMPLES: tuple[Sample, ...] = (
    Sample(
        "Explain caching",
        "Explain in three sentences why caching makes a service faster, and name one case where it does not.",
        256,
        "a short explanation: first token and last token both matter",
    ),
    Sample(
        "Answer in one word",
        "Is the following review positive or negative? Answer with one word.\n\n"
        "“The battery lasts two days, but the screen scratched within a week and support never replied.”",
        16,
        "classification: input dominates, the last token follows the first at once",
    ),
    Sample(
        "Extract fields",
        "Extract the name, the date and the amount from this note as JSON with the keys name, date and amount.\n\n"
        "“Hi, Maria Jensen here. I paid the 1,250 kroner for the workshop on 3 October and need a receipt.”",
        100,
        "extraction: a short answer in a fixed form",
    ),
    Sample(
        "Summarise",
        "Summarise the following text in two sentences.\n\n"
        "Inference is running a trained model to get an output for an input. Latency is how long one request takes: "
        "the time to the first token is how soon the model begins to speak, the time to the last token is when it is "
        "finished. Throughput is how many requests or tokens the whole system serves in a unit of time. The two pull "
        "against each other, because batching requests raises throughput and makes each one wait. What it costs is "
        "decided by the tokens that go in, the tokens that come out, and the tier of the model.",
        120,
        "a longer input with a short answer: watch the time to the first token",
    ),
    Sample(
        "Write about 20 tokens",
        "Name five colours, separated by commas.",
        32,
        "one of three lengths: what moves, the first token or the last?",
    ),
    Sample(
        "Write about 200 tokens",
        "Describe a walk along a beach in the early morning in about 150 words.",
        220,
        "one of three lengths: what moves, the first token or the last?",
    ),
    Sample(
        "Write about 1,000 tokens",
        "Write a story of about 700 words about a lighthouse keeper who receives a letter meant for somebody else.",
        1000,
        "one of three lengths: decode speed decides the time to the last token",
    ),
    Sample(
        "Small arithmetic",
        "A train leaves at 14:10 and arrives at 16:55. How long does it travel? Think step by step, then give the "
        "answer on the last line.",
        256,
        "reasoning: compare the answers, not only the clocks",
    ),
)

TEMPLATES: tuple[Sample, ...] = (
    Sample("Translate", "Translate into {{language}}:\n\n{{text}}", 256, "a template with two variables"),
    Sample(
        "Classify",
        "Put the following message into one of these classes: {{classes}}. Answer with the class only.\n\n{{message}}",
        16,
        "a template for classification",
    ),
    Sample(
        "Answer from a text",
        "Answer the question with the text below and nothing else. If the text does not say, answer “not stated”."
        "\n\nText:\n{{text}}\n\nQuestion: {{question}}",
        200,
        "a template for retrieval-augmented generation",
    ),
)

SUGGESTED = SAMPLES[0]

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
    params: JsonMapping = field(default_factory=dict)
    cache: CacheMode | None = None


@dataclass(frozen=True, slots=True)
class Attachment:
    """A text file that goes with the prompt. ``text`` is what the model is sent."""

    name: str
    text: str


_VARIABLE = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_ -]{0,59}?)\s*\}\}")


def variables(text: str) -> list[str]:
    """The names of the variables in a template, in order of appearance, each once."""
    return list(dict.fromkeys(match.group(1) for match in _VARIABLE.finditer(text)))


class AttachmentJson(TypedDict):
    """An `Attachment` on the wire."""

    name: str
    text: str


class SpecJson(TypedDict):
    """A `RunSpec` on the wire."""

    prompt: str
    system: str | None
    columns: list[RunColumn]
    params: Json
    repetitions: int
    start: StartMode
    stagger_s: float
    blind: bool
    template: str | None
    variables: dict[str, str]
    attachments: list[AttachmentJson]
    parent_run_id: str | None
    tags: list[str]
    source: str
    pause_s: float


@dataclass(frozen=True, slots=True)
class RunSpec:
    """Everything that a run needs to be started, and to be started again.

    ``pause_s``: seconds between the repetitions of a sequential run.
    """

    prompt: str
    columns: tuple[ColumnSpec, ...]
    system: str | None = None
    params: JsonMapping = field(default_factory=dict)
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
        text = render(self.prompt, self.variables) if self.variables else self.prompt
        return attach(text, [(a.name, a.text) for a in self.attachments])

    def column_params(self, column: ColumnSpec) -> Json:
        """The cleaned parameters that one column asks for."""
        return params.clean(self.params if column.use_shared_params else column.params)

    def to_json(self) -> SpecJson:
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
    def from_json(value: JsonMapping) -> RunSpec:
        """Read a spec. Raises ValueError with one sentence when the shape is not one of ours."""
        body = RequestFields(value)
        body.need("prompt", "columns")
        shared = body.table("variables")
        return RunSpec(
            prompt=body.text("prompt", longest=MAX_TEXT),
            system=body.words("system", longest=MAX_TEXT) or None,
            columns=tuple(
                ColumnSpec(
                    column.text("deployment_id"),
                    column.flag("use_shared_params", True),
                    column.table("params").values,
                    cast(CacheMode | None, column.words("cache")),
                )
                for column in body.tables("columns")
            ),
            params=body.table("params").values,
            repetitions=body.whole("repetitions", *ANY_COUNT, default=1),
            start=cast(StartMode, body.text("start") if body.has("start") else "together"),
            stagger_s=body.number("stagger_s", 0.5),
            blind=body.flag("blind", False),
            template=body.words("template"),
            variables={name: shared.text(name, longest=MAX_TEXT) for name in shared.values},
            attachments=tuple(
                Attachment(attachment.text("name"), attachment.text("text", longest=MAX_TEXT))
                for attachment in body.tables("attachments")
            ),
            parent_run_id=body.words("parent_run_id"),
            tags=body.texts("tags"),
            source=body.words("source") or "playground",
            pause_s=body.number("pause_s", 0.0),
        )


def new_id() -> str:
    """An id that cannot be guessed: 16 URL-safe characters, about 96 bits; the first is no "-", which a command line
    would take for an option."""
    while (candidate := secrets.token_urlsafe(12)).startswith("-"):
        pass
    return candidate


MAX_ATTACHED_BYTES = 1_000_000


def render(text: str, values: Mapping[str, str]) -> str:
    """``text`` with its variables replaced; values are not looked into again.

    Raises ValueError that names the variables without a value.
    """
    missing = [name for name in variables(text) if not values.get(name, "").strip()]
    if missing:
        names = ", ".join(missing)
        raise ValueError(f"The template needs a value for {names}; fill {'it' if len(missing) == 1 else 'them'} in.")
    return _VARIABLE.sub(lambda match: values[match.group(1)], text)


def decode_file(name: str, content: bytes) -> str:
    """The text of an attached file. Raises ValueError in words for what is not plain UTF-8 text."""
    if len(content) > MAX_ATTACHED_BYTES:
        raise ValueError(f"{name} is larger than {MAX_ATTACHED_BYTES // 1_000_000} MB; attach a part of it.")
    if b"\0" in content:
        raise ValueError(f"{name} is not a text file; only text can be attached.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{name} is not UTF-8 text; save it as UTF-8 and attach it again.") from None


def attach(prompt: str, attachments: Sequence[tuple[str, str]]) -> str:
    """The prompt followed by each attached (name, text) between lines that name it. Raises ValueError above 1 MB."""
    total = sum(len(text.encode("utf-8", "replace")) for _, text in attachments)
    if total > MAX_ATTACHED_BYTES:
        raise ValueError(f"The attached files are {total:,} bytes together; the limit is {MAX_ATTACHED_BYTES:,}.")
    parts = [prompt] if prompt.strip() else []
    for name, text in attachments:
        clean = " ".join(name.split())
        parts.append(f"--- {clean} ---\n{text}\n--- end of {clean} ---")
    return "\n\n".join(parts)
