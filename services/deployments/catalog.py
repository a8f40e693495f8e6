"""The deployments that come with the product: current models of two services, and the servers it runs itself.

Names of models are those of the installed SDKs' own lists (`anthropic.types.model_param`,
`openai.types.shared.chat_model`); context sizes are those of genai-prices, None where it does not say. A model that the
price list does not know yet is shown with "no price".
"""

from __future__ import annotations

from services.types import Deployment, PriceRef, Wire

ANTHROPIC_URL = "https://api.anthropic.com"
OPENAI_URL = "https://api.openai.com/v1"
EMBEDDED_MODEL = "smollm2-135m-instruct"
# A model that nobody has switched on takes none of the few colours: `db.runs` gives it one when it first is.
RESERVED = 1000


def _anthropic(model: str, name: str, context_tokens: int | None, slot: int) -> Deployment:
    return Deployment(
        id=f"anthropic-{model}",
        name=name,
        kind="anthropic",
        model=model,
        base_url=ANTHROPIC_URL,
        wire="messages",
        key_env="ANTHROPIC_API_KEY",
        price=PriceRef(provider="anthropic", model=model),
        color_slot=slot,
        enabled=False,
        origin="catalogue",
        context_tokens=context_tokens,
    )


def _openai(model: str, name: str, context_tokens: int | None, slot: int) -> Deployment:
    return Deployment(
        id=f"openai-{model.replace('.', '-')}",
        name=name,
        kind="openai",
        model=model,
        base_url=OPENAI_URL,
        wire="responses",
        key_env="OPENAI_API_KEY",
        price=PriceRef(provider="openai", model=model),
        color_slot=slot,
        enabled=False,
        origin="catalogue",
        context_tokens=context_tokens,
    )


CATALOGUE: tuple[Deployment, ...] = (
    _anthropic("claude-haiku-5-5", "Claude Haiku 5.5", 1_000_000, RESERVED + 0),
    _anthropic("claude-sonnet-5-5", "Claude Sonnet 5.5", 1_000_000, RESERVED + 1),
    _anthropic("claude-opus-5-5", "Claude Opus 5.5", 1_000_000, RESERVED + 2),
    _anthropic("claude-fable-5-2", "Claude Fable 5.2", 1_000_000, RESERVED + 3),
    _anthropic("claude-haiku-4-5", "Claude Haiku 4.5", 200_000, RESERVED + 4),
    _openai("gpt-6-luna", "GPT-6 Luna", 1_050_000, RESERVED + 5),
    _openai("gpt-6.1-terra", "GPT-6.1 Terra", 1_050_000, RESERVED + 6),
    _openai("gpt-6.1-sol", "GPT-6.1 Sol", 1_050_000, RESERVED + 7),
    _openai("gpt-6.2-sol", "GPT-6.2 Sol", None, RESERVED + 8),
    _openai("gpt-6.2-astra", "GPT-6.2 Astra", None, RESERVED + 9),
)


def _local(
    id: str, name: str, kind: str, wire: Wire, slot: int, *, server: str = "main", context_tokens: int = 2048, note: str
) -> Deployment:
    return Deployment(
        id=id,
        name=name,
        kind=kind,
        model=EMBEDDED_MODEL,
        base_url=f"embedded://{server}",
        wire=wire,
        price=PriceRef(per_hour="0"),
        color_slot=slot,
        origin="embedded",
        context_tokens=context_tokens,
        labels=("local",),
        note=note,
    )


def embedded_deployments() -> tuple[Deployment, ...]:
    """The four deployments on the model servers that this program starts itself (`services.embedded`)."""
    two = "Runs on this machine with two threads and four slots; "
    return (
        _local("local-chat", "SmolLM2 · chat", "openai-compatible", "chat", 0, note=f"{two}Chat Completions wire."),
        _local("local-messages", "SmolLM2 · messages", "anthropic", "messages", 1, note=f"{two}Messages wire."),
        _local(
            "local-one-thread",
            "SmolLM2 · 1 thread",
            "openai-compatible",
            "chat",
            2,
            server="single",
            context_tokens=1024,
            note="Runs on this machine in a process of its own with one thread and one slot.",
        ),
        _local("local-responses", "SmolLM2 · responses", "openai", "responses", 3, note=f"{two}Responses wire."),
    )
