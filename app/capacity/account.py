"""What was found in an AWS account and region: asked for all at once, kept for this visitor until they look again."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from app import auth
from services.aws.control import Identity, Model
from services.aws.provisioned import ProvisionedThroughput
from services.aws.sagemaker import SageMakerEndpoint
from services.client_aws import AwsClient

SEEN = "cap_seen"


@dataclass(frozen=True, slots=True)
class Seen:
    """The answers, each None where AWS gave none; ``troubles`` says why, by the field's name."""

    profile: str | None
    region: str
    at: datetime
    who: Identity | None = None
    provisioned: tuple[list[ProvisionedThroughput], bool] | None = None
    endpoints: tuple[list[SageMakerEndpoint], bool] | None = None
    models: tuple[list[Model], list[Model]] | None = None
    troubles: dict[str, str] = field(default_factory=dict)


def client(seen: Seen) -> AwsClient:
    """The control planes that ``seen`` came from, in the visitor's name."""
    return auth.engine().aws(seen.profile, seen.region)


def now(profile: str | None, region: str) -> Seen:
    """What is known of this account and region; asked of AWS when it is not, which takes seconds."""
    known = st.session_state.get(SEEN)
    if isinstance(known, Seen) and (known.profile, known.region) == (profile, region):
        return known
    with st.spinner(f"Asking AWS in {region} …", show_time=True):
        found = _ask(profile, region)
    st.session_state[SEEN] = found
    return found


def _ask(profile: str | None, region: str) -> Seen:
    aws = auth.engine().aws(profile, region)
    parts: dict[str, Callable[[], Any]] = {
        "who": aws.who, "provisioned": aws.provisioned, "endpoints": aws.endpoints, "models": aws.models,
    }  # fmt: skip
    found: dict[str, Any] = {}
    troubles: dict[str, str] = {}
    # Side by side: a region that does not answer costs the longest wait and not the sum of all.
    with ThreadPoolExecutor(len(parts)) as threads:
        waiting = {name: threads.submit(part) for name, part in parts.items()}
    for name, one in waiting.items():
        try:
            found[name] = one.result()
        except auth.EngineError as error:
            troubles[name] = str(error)
    return Seen(profile, region, datetime.now(UTC), troubles=troubles, **found)


def again(seen: Seen) -> Seen:
    """The provisioned throughputs as they are now; everything else as it was seen."""
    try:
        fresh = replace(seen, provisioned=client(seen).provisioned(), at=datetime.now(UTC))
    except auth.EngineError as error:
        fresh = replace(seen, troubles={**seen.troubles, "provisioned": str(error)})
    st.session_state[SEEN] = fresh
    return fresh


def forget() -> None:
    """Ask AWS anew with the next run of the page."""
    st.session_state.pop(SEEN, None)
