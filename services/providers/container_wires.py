"""What containers on SageMaker endpoints write beside OpenAI's chat shape: TGI's token stream and LMI's JSON lines.

Terminal signal of both: the last object's ``details`` with a known ``finish_reason`` (TGI always sends them, LMI when
``details`` is asked for, as it is here); a last object that carries the whole ``generated_text`` but no details is an
end without a reason and counts as TGI's own. The oldest LMI lines (``{"outputs": [" text"]}``) have no terminal signal
at all, so a call that is read from them is never taken for finished.

Sources: TGI's ``StreamResponse``; DJL Serving's "LMI handlers Inference API Schema" (0.27 and 0.31).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from services.providers.building import Choice
from services.providers.chat_wire import ChatDecoder
from services.providers.decoder import WireDecoder, text
from services.providers.invoke_bodies import served_prompt
from services.providers.usage import from_tokens, obj
from services.types import Ask, Delta

STOPS = frozenset({"length", "eos_token", "stop_sequence", "stop"})
# Stands for the reason when the whole text came without one.
WHOLE_TEXT = "generated_text"
TAKES = frozenset({"temperature", "top_p", "top_k", "max_tokens", "stop", "seed"})


class TokenDecoder(WireDecoder):
    """Decodes ``{"token": {"text": …}, "generated_text": …, "details": …}``, one object a token."""

    def take(self, name: str, body: Mapping[str, Any]) -> Sequence[Delta]:
        """One token, or one piece of the oldest lines. Special tokens are no content."""
        token = obj(body.get("token"))
        special = token.get("special") is True or token.get("special_token") is True
        piece = "" if special else text(token.get("text"))
        outputs = body.get("outputs")
        if not token and isinstance(outputs, list) and outputs:
            piece = text(outputs[0])
        details = obj(body.get("details"))
        if details:
            self._details(details)
        elif isinstance(body.get("generated_text"), str):
            self.finish(WHOLE_TEXT)
            self._ended = True
        return (Delta("answer", piece),)

    def _details(self, details: Mapping[str, Any]) -> None:
        counts = {name: details[name] for name in ("input_length", "generated_tokens") if name in details}
        self.usage = from_tokens(counts.get("input_length"), counts.get("generated_tokens"), counts) or self.usage
        self.finish(details.get("finish_reason"))
        if self.finish_raw in STOPS:
            self._ended = True
        elif self.finish_raw == "error":
            self.fail({"type": "generation", "message": "the container failed while it was writing"})
        elif self.finish_raw:
            self.cut(f"the container stopped with “{self.finish_raw}”")


DECODERS: Mapping[str, type[WireDecoder]] = {"chat": ChatDecoder, "tgi": TokenDecoder, "lines": TokenDecoder}


def settle(wire: str, choice: Choice) -> None:
    """Drop from ``choice`` what TGI refuses (it takes a top p below 1 only, and no temperature of 0)."""
    if wire != "tgi":
        return
    if choice.sent.get("top_p") == 1:
        choice.drop("top_p", "TGI takes it below 1 only, and leaving it out means the same")
    if choice.sent.get("temperature") == 0:
        choice.drop("temperature", "TGI takes it above 0 only; greedy decoding was asked for instead")
        choice.drop_all(dict.fromkeys(("top_p", "top_k"), "greedy decoding draws nothing"))


def tokens_body(wire: str, serves: str | None, ask: Ask, choice: Choice) -> dict[str, Any]:
    """The body for a container that takes a prompt. ``serves``: its model's name, for the prompt's template."""
    names = {"max_tokens": "max_new_tokens", **({"stop": "stop_sequences"} if wire == "lines" else {})}
    parameters: dict[str, Any] = {names.get(name, name): value for name, value in choice.sent.items()}
    drawn = any(name in choice.sent for name in ("temperature", "top_p", "top_k"))
    parameters["do_sample"] = drawn and choice.sent.get("temperature") != 0
    parameters |= {"details": True, "return_full_text": False}
    return {"inputs": served_prompt(serves, ask), "parameters": parameters, "stream": True}
