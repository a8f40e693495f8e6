"""Stored streams of the AWS wires, frames and all, and reading their bytes through framing and decoder.

Written true to botocore's shapes with the emulator's encoder (`tests.aws.frames`); each file ends with the frame that
holds the end of the terminal signal, or of the error in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from services.outcomes import judge
from services.providers import bedrock, sagemaker
from services.providers.bedrock import ConverseDecoder
from services.providers.decoder import WireDecoder
from services.types import Outcome, Wire
from services.wire.framing import FRAMERS
from tests.wires.helpers import FOLDER, Read

N = None
_INVOKE = {
    "claude": "anthropic.claude-haiku-4-5",
    "llama": "meta.llama3-8b-instruct-v1:0",
    "mistral": "mistral.mistral-7b-instruct-v0:2",
    "titan": "amazon.titan-text-express-v1",
    "nova": "amazon.nova-lite-v1:0",
    "gpt_oss": "openai.gpt-oss-20b-1:0",
}


@dataclass(frozen=True)
class AwsGolden:
    """What a stored stream has to be read as. ``counts``: uncached, read, write 5m, write 1h, reasoning, answer."""

    name: str
    answer: str
    outcome: Outcome
    finish: str | None
    counts: tuple[int | None, ...] | None
    total: int | None
    reasoning: str = ""
    tool: str = ""
    server_ms: float | None = None
    facts: tuple[tuple[str, str], ...] = ()
    tier: str | None = None

    @property
    def raw(self) -> bytes:
        return (FOLDER / f"{self.name}.eventstream").read_bytes()

    @property
    def wire(self) -> Wire:
        family, _, rest = self.name.partition("_")
        if family == "sagemaker":
            return {"tgi": "tgi", "lines": "lines", "outputs": "lines"}.get(rest, "chat")  # type: ignore[return-value]
        return family  # type: ignore[return-value]

    @property
    def make(self) -> Callable[[], WireDecoder]:
        """A factory of fresh decoders."""
        family, _, rest = self.name.partition("_")
        if family == "converse":
            return ConverseDecoder
        if family == "invoke":
            return lambda: bedrock.decoder_of(_INVOKE[rest])
        return sagemaker.DECODERS[self.wire]


AWS_GOLDENS = [
    AwsGolden(
        "converse_thinking",
        "Grüß Gott 🏔️!",
        "ok",
        "end_turn",
        (12, 1800, 250, 100, N, 61),
        2223,
        reasoning="They want a «greeting».",
        server_ms=812,
        facts=(("latency", "optimized"),),
        tier="flex",
    ),
    AwsGolden(
        "converse_tool",
        "",
        "ok",
        "tool_use",
        (472, N, N, N, N, 89),
        561,
        tool='{"city": "Oslo"}',
        server_ms=640,
    ),
    AwsGolden("converse_max_tokens", "Once upon", "max_tokens", "max_tokens", (9, N, N, N, N, 2), 11, server_ms=812),
    AwsGolden(
        "converse_guardrail",
        "Sorry, I cannot help.",
        "guardrail",
        "guardrail_intervened",
        (20, N, N, N, N, 0),
        20,
        server_ms=812,
        facts=(("guardrail", "input: topic Investment advice blocked"),),
    ),
    AwsGolden("converse_throttled", "Half an", "throttled", N, N, N),
    AwsGolden("converse_model_error", "Half", "stream_error", N, N, N),
    AwsGolden(
        "invoke_claude",
        "Héllo there",
        "ok",
        "end_turn",
        (31, 1024, 0, 0, N, 7),
        1062,
        server_ms=455,
        facts=(("first_byte_ms", "120"),),
    ),
    AwsGolden(
        "invoke_llama",
        "Guten Tag ☀️",
        "max_tokens",
        "length",
        (31, N, N, N, N, 7),
        38,
        server_ms=455,
        facts=(("first_byte_ms", "120"),),
    ),
    AwsGolden(
        "invoke_mistral",
        "Bonjour à tous",
        "ok",
        "stop",
        (31, N, N, N, N, 7),
        38,
        server_ms=455,
        facts=(("first_byte_ms", "120"),),
    ),
    AwsGolden(
        "invoke_titan",
        "Buenos días",
        "ok",
        "FINISH",
        (31, N, N, N, N, 7),
        38,
        server_ms=455,
        facts=(("first_byte_ms", "120"),),
    ),
    AwsGolden(
        "invoke_nova",
        "Ciao",
        "ok",
        "end_turn",
        (31, 0, 0, N, N, 7),
        38,
        server_ms=455,
        facts=(("first_byte_ms", "120"),),
    ),
    AwsGolden(
        "invoke_gpt_oss",
        "Olá",
        "ok",
        "stop",
        (31, N, N, N, N, 7),
        38,
        reasoning="Let me see.",
        server_ms=455,
        facts=(("first_byte_ms", "120"),),
    ),
    AwsGolden("sagemaker_chat", "日本語 ok", "ok", "stop", N, N),
    AwsGolden("sagemaker_tgi", "Ça va", "ok", "eos_token", (14, N, N, N, N, 3), 17),
    AwsGolden("sagemaker_lines", "Deep Lernen ≥", "max_tokens", "length", (N, N, N, N, N, 3), 3),
    AwsGolden("sagemaker_outputs", "This is all", "truncated", N, N, N),
    AwsGolden("sagemaker_broken", "Half way", "timeout_total", N, N, N),
]


def read_aws(golden: AwsGolden, chunks: Iterable[bytes]) -> Read:
    """Run chunks through framing and decoder to the end of the file, and judge."""
    framer = FRAMERS["sagemaker" if golden.name.startswith("sagemaker") else "eventstream"]()
    decoder = golden.make()
    events = [event for chunk in chunks for event in framer.feed(chunk)]
    events += framer.flush()
    deltas = [delta for event in events for delta in decoder.feed(event)]
    outcome, detail = judge(decoder, saw_content=bool(deltas), eof=True)
    return Read(events, deltas, decoder, framer.keepalives, outcome, detail)
