"""What a deployment's line on the pages says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from services.types import Deployment


@dataclass(frozen=True, slots=True)
class DeploymentStatus:
    """A deployment as the pages list it. ``needs`` says in words what is missing; None when it can be called."""

    deployment: Deployment
    ready: bool
    needs: str | None = None
    test: dict[str, Any] | None = None
    archived: bool = False
