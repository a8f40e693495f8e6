"""What the emulated models answer: an echo of the last prompt, in the shape of every wire, with countable tokens."""

from __future__ import annotations

import json
import re
from typing import Any

JSON = dict[str, Any]


def words(text: str) -> int:
    """Tokens are words here."""
    return len(text.split())


def prompt_of(body: JSON) -> str:
    """The last prompt of a request body of any wire."""
    for name in ("prompt", "inputText", "inputs"):
        if name in body:
            said = re.findall(
                r"(?:user<\|end_header_id\|>\n\n|User: |\[INST\] )(.*?)(?:<\|eot_id\|>|\n| \[/INST\])", body[name]
            )
            return str(said[-1] if said else body[name])
    content = body["messages"][-1]["content"]
    if isinstance(content, str):
        return content
    return str(next(block["text"] for block in content if "text" in block))


def converse(body: JSON) -> JSON:
    """Converse's whole reply."""
    prompt = prompt_of(body)
    answer = f"echo {prompt}"
    return {
        "output": {"message": {"role": "assistant", "content": [{"text": answer}]}},
        "stopReason": "end_turn",
        "usage": {
            "inputTokens": words(prompt),
            "outputTokens": words(answer),
            "totalTokens": words(prompt) + words(answer),
        },
        "metrics": {"latencyMs": 41},
    }


def invoked(model: str, body: JSON) -> JSON:
    """InvokeModel's whole reply of that model's family."""
    prompt = prompt_of(body)
    answer = f"echo {prompt}"
    given, made = words(prompt), words(answer)
    if "nova" in model:
        return converse(body)
    if "claude" in model:
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-fake",
            "content": [{"type": "text", "text": answer}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {
                "input_tokens": given,
                "output_tokens": made,
                "cache_read_input_tokens": 3,
                "cache_creation_input_tokens": 2,
            },
        }
    if "llama" in model:
        return {
            "generation": answer,
            "prompt_token_count": given,
            "generation_token_count": made,
            "stop_reason": "stop",
        }
    if "titan" in model:
        result = {"tokenCount": made, "outputText": answer, "completionReason": "FINISH"}
        return {"inputTextTokenCount": given, "results": [result]}
    if "mixtral" in model:
        return {"outputs": [{"text": answer, "stop_reason": "stop"}]}
    return chat(body)


def chat(body: JSON) -> JSON:
    """A chat completion."""
    prompt = prompt_of(body)
    answer = f"echo {prompt}"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": "fake",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": words(prompt),
            "completion_tokens": words(answer),
            "total_tokens": words(prompt) + words(answer),
        },
    }


def contained(body: JSON) -> Any:
    """What a container on SageMaker answers: chat to messages, TGI's list to a prompt."""
    if body.get("stream"):
        raise ValueError("the container was asked to stream")
    if "messages" in body:
        return chat(body)
    answer = f"echo {prompt_of(body)}"
    details = {"finish_reason": "eos_token", "generated_tokens": words(answer), "input_length": words(prompt_of(body))}
    return [{"generated_text": answer, "details": details}]


def line(value: Any) -> bytes:
    """``value`` as one line."""
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
