"""What a kind of deployment is called where there is little room: in a list of choices, beside a bar."""

from __future__ import annotations

from collections.abc import Mapping

from services.providers import KINDS

# A title says in brackets what a short name has no room for. These two are told apart by nothing else.
_OWN = {"bedrock": "Amazon Bedrock, on demand", "bedrock-provisioned": "Amazon Bedrock, provisioned"}
KIND_NAMES: Mapping[str, str] = {
    one: _OWN.get(one, kind.title.partition(" (")[0]) for one, kind in KINDS.items()
}  # fmt: skip
