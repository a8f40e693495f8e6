"""What stands in ``modelInput`` of a Bedrock batch line: a Converse body, or InvokeModel's body of one family.

Prompts that carry a family's own marks (Llama, Mistral) are taken apart again, since every other service puts its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from services.batch.files.errors import LineFault, excerpt
from services.batch.files.messages import ConversionNotes, conversation, system_text
from services.types import Ask, Json, Message

_NAMES = {
    "maxTokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "max_gen_len": "max_tokens",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
    "maxTokenCount": "max_tokens",
    "temperature": "temperature",
    "topP": "top_p",
    "top_p": "top_p",
    "topK": "top_k",
    "top_k": "top_k",
    "stopSequences": "stop",
    "stop": "stop",
    "seed": "seed",
    "reasoning_effort": "reasoning_effort",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
_HEADER, _HEADER_END, _EOT = "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"
_SYS = re.compile(r"\A\s*<<SYS>>\n?(.*?)\n?<</SYS>>\s*", re.S)


def bedrock(body: Mapping[str, Any], notes: ConversionNotes) -> tuple[Ask, Json]:
    """The ask and the parameters. Raises LineFault for a body of no known kind."""
    if isinstance(body.get("prompt"), str):
        return _prompt(body["prompt"]), _params(body, {"prompt"}, notes)
    if isinstance(body.get("inputText"), str):
        config = _inside(body, "textGenerationConfig")
        _note_dropped(body, {"inputText", "textGenerationConfig"}, notes)
        return Ask((_user(body["inputText"]),)), _params(config, set(), notes)
    if "messages" not in body:
        raise LineFault(
            "model_input",
            "modelInput is of no kind that can be converted: neither 'messages' (Converse, Claude, Nova, Mistral) nor "
            "'prompt' (Llama, Mistral) nor 'inputText' (Titan).",
            field="modelInput",
            found=excerpt(dict(body)),
        )
    system = system_text(body.get("system"), notes, "modelInput.system")
    turns, system = conversation(body["messages"], notes, system=system, path="modelInput.messages")
    config = {**_inside(body, "inferenceConfig"), **_inside(body, "additionalModelRequestFields")}
    if "inferenceConfig" not in body:  # the OpenAI-like bodies of Mistral, gpt-oss, Qwen …
        config |= {name: body[name] for name in _NAMES if name in body}
    groups = {"messages", "system", "inferenceConfig", "additionalModelRequestFields", "schemaVersion"}
    _note_dropped(body, groups if "inferenceConfig" in body else {*groups, *_NAMES}, notes)
    return Ask(turns, system), _params(config, set(), notes)


def _inside(body: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = body.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise LineFault(
            "model_input", f"{name} is {excerpt(value, 30)}, not an object.", field=name, found=excerpt(value)
        )
    return value or {}


def _note_dropped(body: Mapping[str, Any], carried: set[str], notes: ConversionNotes) -> None:
    notes.dropped += [
        name
        for name, value in body.items()
        if name not in carried and value not in (None, False, "", [], {}) and name not in ("model", "modelId")
    ]


def _params(config: Mapping[str, Any], carried: set[str], notes: ConversionNotes) -> Json:
    _note_dropped(config, {*carried, *_NAMES}, notes)
    params: Json = {}
    for name, value in config.items():
        if name in _NAMES:
            params.setdefault(_NAMES[name], value)
    return params


def _user(text: str) -> Message:
    if not text.strip():
        raise LineFault("empty_prompt", "the prompt is empty. Fill it in.", field="modelInput")
    return Message("user", text)


def _prompt(text: str) -> Ask:
    """A prompt without its family's marks."""
    if _HEADER in text and _HEADER_END in text:
        return _turns(_llama(text))
    if "[INST]" in text and text.count("[INST]") == text.count("[/INST]"):
        return _turns(_mistral(text))
    return Ask((_user(text),))


def _llama(text: str) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    for section in text.split(_HEADER)[1:]:
        role, _, content = section.partition(_HEADER_END)
        turns.append((role.strip(), content.removeprefix("\n\n").partition(_EOT)[0]))
    # Where the model is to speak.
    return turns[:-1] if turns[-1][0] == "assistant" and not turns[-1][1].strip() else turns


def _mistral(text: str) -> list[tuple[str, str]]:
    turns: list[tuple[str, str]] = []
    for section in text.split("[INST]")[1:]:
        question, _, answered = section.partition("[/INST]")
        turns.append(("user", question.removeprefix(" ").removesuffix(" ")))
        answer = answered.partition("</s>")[0].removeprefix(" ")
        if answer.strip():
            turns.append(("assistant", answer))
    system = _SYS.match(turns[0][1])  # Llama 2's
    if system is not None:
        turns[:1] = [("system", system[1]), ("user", turns[0][1][system.end() :])]
    return turns


def _turns(turns: Sequence[tuple[str, str]]) -> Ask:
    messages, system = conversation(
        [{"role": role, "content": content} for role, content in turns], ConversionNotes(), path="modelInput.prompt"
    )
    return Ask(messages, system)
