"""The batch services by name. Each is imported when it is first used, and its SDK at its first call."""

from __future__ import annotations

import importlib

from services.batch.providers.http import configure
from services.batch.types import Route, RouteName
from services.types import Deployment

__all__ = ["SERVICES", "configure", "eligible", "get", "whys"]

# Where each service is: its module, and the class in it.
SERVICES: dict[RouteName, tuple[str, str]] = {
    "openai": ("openai", "OpenAIRoute"),
    "anthropic": ("anthropic", "AnthropicRoute"),
    "bedrock": ("bedrock", "BedrockRoute"),
    "transform": ("sagemaker_transform", "TransformRoute"),
    "async": ("sagemaker_async", "AsyncRoute"),
}
_made: dict[RouteName, Route] = {}


def get(name: RouteName) -> Route:
    """The batch service of that name. Raises ValueError in words for "runner", which is none, and for unknown names."""
    if name not in SERVICES:
        raise ValueError(f"“{name}” is not a batch service; these are: {', '.join(SERVICES)}.")
    if name not in _made:
        module, service = SERVICES[name]
        _made[name] = getattr(importlib.import_module(f"{__name__}.{module}"), service)()
    return _made[name]


def eligible(deployment: Deployment) -> list[RouteName]:
    """What a batch for this deployment can be sent through: its services first (they cost half), always our runner."""
    return [*(name for name, why in whys(deployment).items() if why is None), "runner"]


def whys(deployment: Deployment) -> dict[RouteName, str | None]:
    """Of every batch service, why the deployment cannot be sent to it; None: it can."""
    return {name: get(name).why_not(deployment) for name in SERVICES}
