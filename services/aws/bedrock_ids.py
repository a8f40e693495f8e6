"""What a Bedrock model identifier says: which model, and through which geography it is reached.

"us.anthropic.claude-…" is an inference profile of a geography, "global.…" one of all regions, "anthropic.claude-…" the
model in the region that is called. ARNs of inference profiles and foundation models end in such an identifier. The ARN
of an application inference profile, of provisioned throughput, of an own or imported model or of a router does not
say which model it stands for, so no list has a price for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

GEOGRAPHIES = frozenset({"us", "eu", "apac", "au", "jp", "in", "ca", "sa", "me", "us-gov", "global"})
GOVCLOUD = "us-gov"
# Regions that Bedrock (and EC2) charge alike: a row of a list that names no region is the price of these.
US_REGIONS = frozenset({"us-east-1", "us-east-2", "us-west-2"})
ARN = re.compile(
    r"arn:aws[\w-]*:bedrock:(?P<region>[a-z0-9-]*):\d*:(?:inference-profile|foundation-model)/(?P<id>.+)\Z"
)
VERSION = re.compile(r"(?P<name>.+?)(?:-v(?P<version>\d+))?(?::(?P<minor>\d+))?\Z")


@dataclass(frozen=True, slots=True)
class ModelId:
    """``model``: the identifier without its geography. ``geography``: "us", "global" …; None: the called region."""

    model: str
    geography: str | None = None
    region: str | None = None

    @property
    def full_name(self) -> str:
        """The identifier with its geography."""
        return f"{self.geography}.{self.model}" if self.geography else self.model

    @property
    def in_govcloud(self) -> bool:
        """GovCloud is a partition of its own with prices of its own."""
        return self.geography == GOVCLOUD or (self.region or "").startswith(f"{GOVCLOUD}-")

    @property
    def in_us(self) -> bool:
        """Whether the prices of Bedrock's US regions hold; also when nothing says another region."""
        if self.geography is not None:
            return self.geography == "us"
        return self.region is None or self.region in US_REGIONS


def parsed(ref: str, region: str | None = None) -> ModelId | None:
    """The model behind an identifier or ARN, called in ``region``; None when it does not say which model that is."""
    ref = ref.strip().lower()
    if ref.startswith("arn:"):
        arn = ARN.match(ref)
        if arn is None:
            return None
        ref, region = arn["id"], arn["region"] or region
    if "/" in ref or "." not in ref:
        return None
    first, _, model = ref.partition(".")
    return ModelId(model, first, region) if first in GEOGRAPHIES and "." in model else ModelId(ref, None, region)


def same_model(listed: str, called: str) -> bool:
    """Whether two names without geography are one model: the listed one may leave out the date, both the version 1.

    "anthropic.claude-opus-4-5-v1:0" of the list is "anthropic.claude-opus-4-5-20251101-v1:0" of Bedrock;
    "amazon.nova-pro-v1:0" is not "amazon.nova-pro-v2:0".
    """
    ours, theirs = VERSION.match(called), VERSION.match(listed)
    if ours is None or theirs is None or (ours["version"] or "1") != (theirs["version"] or "1"):
        return False
    if ours["minor"] and theirs["minor"] and ours["minor"] != theirs["minor"]:
        return False
    return re.fullmatch(rf"{re.escape(theirs['name'])}(?:-20\d{{6}})?", ours["name"]) is not None
