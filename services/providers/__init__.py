"""The kinds of deployment. A new kind is one file here and one line in `KINDS`."""

from __future__ import annotations

from services.providers.anthropic import AnthropicKind
from services.providers.base import Kind
from services.providers.bedrock import BedrockKind, BedrockProvisionedKind
from services.providers.openai import OpenAICompatibleKind, OpenAIKind
from services.providers.sagemaker import SageMakerKind
from services.types import Deployment

_ALL: tuple[Kind, ...] = (
    AnthropicKind(),
    OpenAIKind(),
    OpenAICompatibleKind(),
    BedrockKind(),
    BedrockProvisionedKind(),
    SageMakerKind(),
)
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


def kind_of(deployment: Deployment) -> Kind:
    """The kind of a deployment. Raises ValueError in words for a kind, or a wire of it, that does not exist."""
    kind = KINDS.get(deployment.kind)
    if kind is None:
        raise ValueError(f"“{deployment.kind}” is not a kind of deployment; these are: {', '.join(KINDS)}.")
    if deployment.wire not in kind.wires:
        raise ValueError(f"{kind.title} speaks {' and '.join(kind.wires)}, not “{deployment.wire}”.")
    return kind
