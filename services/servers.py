"""What an inference server says about itself beside its answers: which software, which version, which models, how long.

Pure functions over the bodies of its own GET addresses; `services.engine.server_metrics` fetches them. Every field is
optional and every byte is hostile: what is not there, or is not what it should be, is None.

Sources: vLLM's and SGLang's model cards carry ``max_model_len`` and ``owned_by``; vLLM's GET /version is
``{"version": …}``; SGLang's GET /get_server_info (later /server_info:
https://docs.sglang.io/basic_usage/native_api.html) holds all of its arguments, its key included, so only three named
fields are ever read; TGI's GET /info is the schema "Info" of https://huggingface.co/docs/text-generation-inference;
llama.cpp's GET /props and the ``meta`` of its model card were read from the embedded server (tests/servers/).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from services.providers.decoder import loads
from services.providers.errors import plain
from services.providers.usage import count, obj
from services.types import Deployment

VLLM, SGLANG, TGI, LLAMACPP = "vLLM", "SGLang", "TGI", "llama.cpp"
MAX_MODELS = 50
_OWNERS = {"vllm": VLLM, "sglang": SGLANG, "llamacpp": LLAMACPP, "llama.cpp": LLAMACPP}
_VERSION = re.compile(r"^v\d+[a-z0-9]*$")
# Where each software tells more; whoever does not say what it is is asked for the one address that is TGI's own.
MORE: Mapping[str | None, tuple[str, ...]] = {
    VLLM: ("/version",),
    SGLANG: ("/get_server_info", "/server_info"),
    LLAMACPP: ("/props",),
    None: ("/info",),
}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server's own account of itself. ``slots``: how many requests it works on at once; ``kv_tokens``: how many
    tokens its KV cache holds in all."""

    software: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    context_tokens: int | None = None
    slots: int | None = None
    kv_tokens: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; `from_json` gives it back unchanged."""
        return {**dataclasses.asdict(self), "models": list(self.models)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> ServerFacts:
        """Inverse of `to_json`; fields it does not know are left out."""
        known = {field.name: row[field.name] for field in dataclasses.fields(cls) if field.name in row}
        return cls(**{**known, "models": tuple(row.get("models") or ())})


def has_server(deployment: Deployment) -> bool:
    """Whether there is a server of one's own behind a deployment, which can be asked for its state."""
    if deployment.base_url.startswith("embedded://"):
        return True
    return deployment.kind == "openai-compatible" and deployment.aws is None


def root_of(base_url: str) -> str:
    """The address that /metrics and /version hang under: the base URL without a wire's path and its version."""
    parts = urlsplit(base_url.strip())
    segments = parts.path.rstrip("/").split("/")
    for place, segment in enumerate(segments):
        if _VERSION.match(segment):
            segments = segments[:place]
            break
    return urlunsplit((parts.scheme, parts.netloc, "/".join(segments).rstrip("/"), "", ""))


def from_models(body: bytes, model: str) -> ServerFacts | None:
    """What GET /v1/models says, with the context length of ``model`` (or of the only one). None: no list of models."""
    listed = obj(loads(body)).get("data")
    if not isinstance(listed, list):
        return None
    cards = [card for card in map(obj, listed[:MAX_MODELS]) if isinstance(card.get("id"), str)]
    named = [card for card in cards if card["id"] == model] or (cards if len(cards) == 1 else [])
    card = named[0] if named else {}
    meta = obj(card.get("meta"))
    owners = {str(c.get("owned_by", "")).lower() for c in cards}
    return ServerFacts(
        software=next((_OWNERS[owner] for owner in owners if owner in _OWNERS), None),
        models=tuple(plain(c["id"], 200) for c in cards),
        context_tokens=_size(card.get("max_model_len")) or _size(meta.get("n_ctx")),
    )


def refined(facts: ServerFacts, path: str, body: bytes) -> ServerFacts:
    """``facts`` with what the server said at one of the addresses of `MORE`; unchanged when that was nothing known."""
    said = obj(loads(body))
    if path == "/version" and facts.software == VLLM:
        return replace(facts, version=_words(said.get("version")))
    if path == "/props" and facts.software == LLAMACPP:
        settings = obj(said.get("default_generation_settings"))
        return replace(
            facts, version=_words(said.get("build_info")), slots=_size(said.get("total_slots")),
            context_tokens=_size(settings.get("n_ctx")) or facts.context_tokens,
        )  # fmt: skip
    if path in MORE[SGLANG] and facts.software == SGLANG:
        return replace(
            facts, version=_words(said.get("version")), kv_tokens=_size(said.get("max_total_num_tokens")),
            context_tokens=facts.context_tokens or _size(said.get("context_length")),
        )  # fmt: skip
    if path == "/info" and facts.software is None and isinstance(said.get("model_id"), str):
        if "max_total_tokens" not in said and said.get("router") != "text-generation-router":
            return facts
        return replace(
            facts, software=TGI, version=_words(said.get("version")),
            context_tokens=_size(said.get("max_total_tokens")), kv_tokens=_size(said.get("max_batch_total_tokens")),
        )  # fmt: skip
    return facts


def unserved(facts: ServerFacts, model: str) -> str | None:
    """A sentence when the server lists its models and the deployment's is not among them, else None."""
    if not facts.models or model in facts.models:
        return None
    rest = f" and {len(facts.models) - 3} more" if len(facts.models) > 3 else ""
    return f"This server does not list the model “{model}”; it serves {', '.join(facts.models[:3])}{rest}."


def _size(value: Any) -> int | None:
    return count(value) or None


def _words(value: Any) -> str | None:
    # llama.cpp that was built outside its repository calls itself "b0-unknown".
    known = isinstance(value, str) and "unknown" not in value
    return plain(value, 60) or None if known else None
