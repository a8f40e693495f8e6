"""Lines of the vendors' batch formats converted to our requests: what carries over and what does not.

Bedrock's ``modelInput`` is a Converse body, or InvokeModel's body of one family. Prompts that carry a family's own
marks (Llama, Mistral) are taken apart again, since every other service puts its own.

A part of a body that only changes how the answer is delivered or shaped (stream, tools, response_format …) is left
aside and counted by name. Content that is no text is a fault of its line: without it, it would be another question.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from services.batch.files.errors import LineFault, Log, excerpt
from services.batch.files.messages import ConversionNotes, conversation, params_of, system_text
from services.batch.files.templates import JOINED
from services.params import PARAMS
from services.types import Ask, Json, JsonMapping, Message

Shape = Literal["own", "openai", "anthropic", "bedrock"]
TITLES = {"openai": "an OpenAI", "anthropic": "an Anthropic", "bedrock": "a Bedrock", "own": "our own"}
IDS = {"openai": "custom_id", "anthropic": "custom_id", "bedrock": "recordId"}
_URLS = ("/v1/chat/completions", "/v1/responses")


def shape_of(values: JsonMapping) -> Shape:
    """Whose format a record is in."""
    if isinstance(values.get("modelInput"), Mapping):
        return "bedrock"
    if isinstance(values.get("params"), Mapping) and "messages" in values["params"]:
        return "anthropic"
    if isinstance(values.get("body"), Mapping) and ("url" in values or "method" in values or "custom_id" in values):
        return "openai"
    return "own"


class VendorFormat:
    """Makes asks of one vendor's lines. ``only_model``: lines that name another are passed over (None is returned)."""

    def __init__(self, shape: Shape, base: JsonMapping, log: Log, only_model: str | None) -> None:
        self.shape, self.base, self.log, self.only_model = shape, base, log, only_model
        self.convert: Callable[[JsonMapping, ConversionNotes], tuple[Ask, Json]] = {
            "openai": _openai,
            "anthropic": _anthropic,
            "bedrock": _bedrock,
        }[shape]

    def __call__(self, values: JsonMapping) -> Ask | None:
        """The ask. Raises LineFault in words."""
        shape = shape_of(values)
        if shape != self.shape:
            required = {
                "openai": "'body' and 'url' are",
                "anthropic": "'params' with 'messages' is",
                "bedrock": "'modelInput' is",
            }
            other = f" It looks like {TITLES[shape]} line." if shape != "own" else ""
            raise LineFault(
                "format",
                f"not {TITLES[self.shape]} batch line: {required[self.shape]} missing.{other}",
                found=excerpt(dict(values)),
            )
        notes = ConversionNotes()
        ask, values_given = self.convert(values, notes)
        params = params_of(values_given, self.base)
        if notes.model is not None:
            self.log.named(notes.model)
        if self.only_model is not None and notes.model != self.only_model:
            self.log.other_model += 1
            return None
        if notes.url:
            self.log.urls[notes.url] += 1
        if notes.dropped:
            self.log.drop(notes.dropped)
        if notes.joined:
            self.log.notice(JOINED)
        return Ask(ask.messages, ask.system, params)


def _openai(values: JsonMapping, notes: ConversionNotes) -> tuple[Ask, Json]:
    url, body = values.get("url"), values["body"]
    if url not in (None, *_URLS):
        raise LineFault(
            "url",
            f"the url is {excerpt(url, 40)}; only {' and '.join(_URLS)} can be converted.",
            field="url",
            found=excerpt(url),
        )
    method = values.get("method", "POST")
    if method != "POST":
        raise LineFault("method", f"the method is {excerpt(method, 20)}; it has to be POST.", field="method")
    notes.model = _model(body)
    responses = url == _URLS[1] or (url is None and "input" in body)
    notes.url = _URLS[responses]
    return (_responses if responses else _chat)(body, notes)


def _chat(body: JsonMapping, notes: ConversionNotes) -> tuple[Ask, Json]:
    params = {name: body[name] for name in PARAMS if name in body}
    if params.get("max_tokens") is None and "max_completion_tokens" in body:
        params["max_tokens"] = body["max_completion_tokens"]
    carried = {"model", "messages", "max_completion_tokens", *PARAMS}
    notes.dropped += not_carried(body, carried, {"n": 1, "response_format": {"type": "text"}})
    turns, system = conversation(body.get("messages"), notes, path="body.messages")
    return Ask(turns, system), nonzero(params)


def _responses(body: JsonMapping, notes: ConversionNotes) -> tuple[Ask, Json]:
    params = {name: body[name] for name in ("temperature", "top_p", "top_k", "seed") if name in body}
    params["max_tokens"] = body.get("max_output_tokens")
    reasoning = body.get("reasoning")
    if isinstance(reasoning, Mapping):
        params["reasoning_effort"] = reasoning.get("effort")
        notes.dropped += [f"reasoning.{name}" for name in reasoning if name != "effort" and reasoning[name]]
    carried = {"model", "input", "instructions", "max_output_tokens", "reasoning", *params}
    plain_text = {"text": {"format": {"type": "text"}}}
    notes.dropped += not_carried(body, carried, plain_text)
    messages = body.get("input")
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    system = system_text(body.get("instructions"), notes, "body.instructions")
    turns, system = conversation(messages, notes, system=system, path="body.input")
    return Ask(turns, system), nonzero(params)


def _anthropic(values: JsonMapping, notes: ConversionNotes) -> tuple[Ask, Json]:
    body = values["params"]
    notes.model = _model(body)
    return messages_body(body, notes, "params")


def messages_body(body: JsonMapping, notes: ConversionNotes, path: str) -> tuple[Ask, Json]:
    """A body of Anthropic's Messages API."""
    params = {name: body[name] for name in ("temperature", "top_p", "top_k", "max_tokens") if name in body}
    params["stop"] = body.get("stop_sequences")
    carried = {"model", "messages", "system", "stop_sequences", "output_config", "anthropic_version", *params}
    config = body.get("output_config")
    if isinstance(config, Mapping):
        params["reasoning_effort"] = config.get("effort")
        notes.dropped += [f"output_config.{name}" for name in config if name != "effort" and config[name]]
    notes.dropped += not_carried(body, carried, {"thinking": {"type": "disabled"}, "service_tier": "auto"})
    system = system_text(body.get("system"), notes, f"{path}.system")
    turns, system = conversation(body.get("messages"), notes, system=system, path=f"{path}.messages")
    return Ask(turns, system), nonzero(params)


def _bedrock(values: JsonMapping, notes: ConversionNotes) -> tuple[Ask, Json]:
    body = values["modelInput"]
    notes.model = _model(values) or _model(body)
    if "anthropic_version" in body:
        return messages_body(body, notes, "modelInput")
    ask, params = bedrock(body, notes)
    return ask, nonzero(params)


def _model(body: JsonMapping) -> str | None:
    name = body.get("model") or body.get("modelId")
    return name if isinstance(name, str) else None


def nonzero(params: JsonMapping) -> Json:
    """The parameters that are set."""
    return {name: value for name, value in params.items() if value is not None}


def not_carried(body: JsonMapping, carried: set[str], quiet: JsonMapping) -> list[str]:
    """The names in a body that have no place in an ask; those that say nothing (null, false, empty, the default) are
    passed over."""
    return [
        name
        for name, value in body.items()
        if name not in carried and value not in (None, False, "", [], {}) and quiet.get(name, _NEVER) != value
    ]


_NEVER = object()


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


def bedrock(body: JsonMapping, notes: ConversionNotes) -> tuple[Ask, Json]:
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


def _inside(body: JsonMapping, name: str) -> JsonMapping:
    value = body.get(name)
    if value is not None and not isinstance(value, Mapping):
        raise LineFault(
            "model_input", f"{name} is {excerpt(value, 30)}, not an object.", field=name, found=excerpt(value)
        )
    return value or {}


def _note_dropped(body: JsonMapping, carried: set[str], notes: ConversionNotes) -> None:
    notes.dropped += not_carried(body, {*carried, "model", "modelId"}, {})


def _params(config: JsonMapping, carried: set[str], notes: ConversionNotes) -> Json:
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
