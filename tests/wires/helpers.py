"""Golden streams of the three wires, and running bytes through the reader's two pure halves (SSE, decoder)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.outcomes import judge
from services.providers import KINDS
from services.providers.anthropic import MessagesDecoder
from services.providers.decoder import WireDecoder
from services.providers.openai import ChatDecoder, ResponsesDecoder
from services.types import Aws, Delta, Deployment, Outcome, Wire
from services.wire.framing import ServerEvent, SSEDecoder

FOLDER = Path(__file__).parent / "golden"
DECODERS: dict[Wire, type[WireDecoder]] = {
    "messages": MessagesDecoder,
    "responses": ResponsesDecoder,
    "chat": ChatDecoder,
}


@dataclass(frozen=True)
class Golden:
    """What a stored stream has to be read as. ``counts``: the five (six with both TTLs) disjoint counts."""

    name: str
    wire: Wire
    answer: str
    outcome: Outcome
    finish: str | None
    counts: tuple[int | None, ...] | None  # uncached, cache read, write 5m, write 1h, reasoning, answer
    total: int | None  # input + output as the service itself counts them
    reasoning: str = ""
    tool: str = ""
    server_ms: float | None = None

    @property
    def raw(self) -> bytes:
        return (FOLDER / f"{self.name}.sse").read_bytes()


_ROME = (
    "Rome is a city of ancient history, where ancient civilizations like "
    "the Romans and the Greeks have left their mark."
)
_N = None
GOLDENS = [
    Golden("llamacpp_messages_full", "messages", _ROME, "ok", "end_turn", (32, 0, _N, _N, _N, 23), 55),
    Golden(
        "llamacpp_messages_length",
        "messages",
        "As I stepped off the",
        "max_tokens",
        "max_tokens",
        (9, 13, _N, _N, _N, 5),
        27,
    ),
    Golden(
        "llamacpp_responses_full",
        "responses",
        _ROME,
        "ok",
        "completed",
        (1, 31, _N, _N, _N, 23),
        55,
        server_ms=5411.769,
    ),
    Golden(  # llama.cpp says "completed" on this wire even when max_output_tokens cut the answer
        "llamacpp_responses_length",
        "responses",
        "Lena stood at the",
        "ok",
        "completed",
        (1, 21, _N, _N, _N, 5),
        27,
        server_ms=3123.377,
    ),
    Golden("llamacpp_chat_full", "chat", _ROME, "ok", "stop", (1, 31, _N, _N, _N, 23), 55, server_ms=10804.952),
    Golden(
        "llamacpp_chat_length",
        "chat",
        "As I walked through the",
        "max_tokens",
        "length",
        (1, 21, _N, _N, _N, 5),
        27,
        server_ms=13228.282,
    ),
    Golden(
        "llamacpp_chat_nousage",
        "chat",
        "Karma: Alright, just a",
        "max_tokens",
        "length",
        None,
        None,
        server_ms=4327.727,
    ),
    Golden(
        "anthropic_thinking",
        "messages",
        "Grüß Gott 🏔️!",
        "ok",
        "end_turn",
        (12, 1800, 250, 100, 40, 21),
        2223,
        reasoning="The user asks for a greeting — «Grüß Gott» fits.",
    ),
    Golden("anthropic_tool", "messages", "", "ok", "tool_use", (472, _N, _N, _N, _N, 89), 561, tool='{"city": "Oslo"}'),
    Golden("anthropic_refusal", "messages", "I", "refused", "refusal", (30, _N, _N, _N, _N, 4), 34),
    Golden("anthropic_overloaded", "messages", "Half an ans", "overloaded", None, (30, _N, _N, _N, _N, _N), _N),
    Golden(
        "openai_responses_reasoning",
        "responses",
        "Heil og sæl!",
        "ok",
        "completed",
        (512, 1024, 384, 128, 192, 18),
        2258,
        reasoning="**Greeting** in Norse",
    ),
    Golden(
        "openai_responses_tool",
        "responses",
        "",
        "ok",
        "completed",
        (60, 0, 0, _N, 0, 17),
        77,
        tool='{"city":"Oslo"}',
    ),
    Golden(
        "openai_responses_incomplete",
        "responses",
        "Once upon",
        "max_tokens",
        "max_output_tokens",
        (11, 0, 0, _N, 0, 16),
        27,
    ),
    Golden(
        "openai_responses_refusal",
        "responses",
        "I can't help with that.",
        "refused",
        "completed",
        (20, 0, 0, _N, 0, 9),
        29,
    ),
    Golden("openai_responses_failed", "responses", "Half", "throttled", "failed", None, None),
    Golden("openai_chat_usage", "chat", "Bonjour ☀️", "ok", "stop", (176, 1024, _N, _N, 64, 31), 1295),
    Golden("openai_chat_tool", "chat", "", "ok", "tool_calls", (52, _N, _N, _N, _N, 15), 67, tool='{"city":"Oslo"}'),
    Golden("openai_chat_refusal", "chat", "I'm sorry, no.", "refused", "stop", (9, _N, _N, _N, _N, 6), 15),
    Golden("openai_chat_filter", "chat", "Partly", "filtered", "content_filter", (9, _N, _N, _N, _N, 2), 11),
    Golden("vllm_chat_reasoning", "chat", "42", "ok", "stop", (21, _N, _N, _N, _N, 9), 30, reasoning="Let me see."),
]


@dataclass
class Read:
    """What came out of a run through both halves."""

    events: list[ServerEvent]
    deltas: list[Delta]
    decoder: WireDecoder
    keepalives: int
    outcome: Outcome
    detail: str | None

    def text(self, kind: str) -> str:
        return "".join(delta.text for delta in self.deltas if delta.kind == kind)

    @property
    def facts(self) -> tuple[Any, ...]:
        """Everything that must not depend on how the bytes were cut."""
        d = self.decoder
        return (
            self.events,
            self.deltas,
            self.keepalives,
            self.outcome,
            self.detail,
            d.usage,
            d.finish_raw,
            d.error,
            d.terminal,
            d.model_reported,
            d.response_id,
            d.server_ms,
        )


def read(wire: Wire, chunks: Iterable[bytes]) -> Read:
    """Run chunks through SSE decoder and wire decoder to the end of the file, and judge."""
    sse, decoder = SSEDecoder(), DECODERS[wire]()
    events: list[ServerEvent] = []
    for chunk in chunks:
        events += sse.feed(chunk)
    events += sse.flush()
    deltas = [delta for event in events for delta in decoder.feed(event)]
    outcome, detail = judge(decoder, saw_content=bool(deltas), eof=True)
    return Read(events, deltas, decoder, sse.keepalives, outcome, detail)


def deployment(kind: str, wire: Wire, model: str = "some-model", **more: Any) -> Deployment:
    if KINDS[kind].on_aws if kind in KINDS else False:
        more = {"aws": Aws(), "region": "us-east-1"} | more
    return Deployment("d", "My deployment", kind, model, more.pop("base_url", "https://host.example"), wire, **more)
