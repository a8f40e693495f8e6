"""Amazon Bedrock with provisioned throughput: the same calls, with the ARN of bought capacity as the model.

The ARN does not say which model runs on it. ``serves`` in the deployment's ``aws`` settings does; without it what every
model takes over Converse is sent, and the rest is dropped with that reason.
"""

from __future__ import annotations

from dataclasses import replace

from services.providers.bedrock import BedrockKind
from services.types import Aws, Deployment


class BedrockProvisionedKind(BedrockKind):
    """Model units that are paid by the hour, whether they are used or not."""

    name = "bedrock-provisioned"
    title = "Amazon Bedrock (provisioned throughput)"
    badge = "provisioned"

    def settings(self, deployment: Deployment) -> Aws:
        """No service tier: the tiers share on-demand capacity, and this call does not use it."""
        return replace(super().settings(deployment), service_tier=None)
