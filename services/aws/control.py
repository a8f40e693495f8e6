"""Clients of AWS's control planes: who we are, which models there are. Every call blocks: call it in a thread.

boto3 does what it is best at here (signing, paging, retries); addresses of its services can be set with its own
variables, AWS_ENDPOINT_URL_BEDROCK and its sisters, or the ``endpoint_url`` of a profile.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from services.aws import credentials, sdk
from services.aws.explain import AwsTrouble, Place, explained
from services.security import outbound

if TYPE_CHECKING:
    from boto3.session import Session

T = TypeVar("T")
REGION = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]+)+-\d+\Z")
CONNECT_S, READ_S, ATTEMPTS = 4.0, 12.0, 2
MOST = 1000  # things listed at most; an account with more is told so

_sessions: dict[str | None, Session] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class Identity:
    """Who AWS says that we are. Neither field is secret."""

    account: str
    arn: str


@dataclass(frozen=True, slots=True)
class Model:
    """A model that Bedrock offers in a region; ``streams`` and ``provisioned`` None: it does not say."""

    id: str
    title: str
    streams: bool | None = None
    provisioned: bool | None = None


def place(profile: str | None, region: str | None) -> Place:
    """Which account and region is meant. Raises `AwsTrouble` when no region is known or it is not written like one."""
    named = (profile or "").strip() or None
    if named is not None and named not in profiles():
        raise AwsTrouble("credentials", f"There is no profile “{named}” in the AWS configuration: choose another.")
    found = credentials.region_of((region or "").strip() or None, named)
    if found is None:
        raise AwsTrouble("invalid", "No region is known: choose one, or set AWS_REGION in the environment.")
    if not REGION.match(found):
        raise AwsTrouble("invalid", "That is not the name of a region; write it like us-east-1.")
    return Place(named, found)


def profiles() -> list[str]:
    """The profiles of the AWS configuration, in its order."""
    import configparser

    from botocore.exceptions import BotoCoreError
    from botocore.session import Session as Core

    try:
        return list(Core().available_profiles)
    except (BotoCoreError, configparser.Error, OSError, ValueError) as error:
        raise AwsTrouble("credentials", f"AWS was not asked: {credentials.explained(error, None)}.") from error


def regions() -> list[str]:
    """The regions that botocore knows Bedrock in; one it does not know yet may be written by hand."""
    sdk.loaded()
    from boto3.session import Session

    return sorted(Session().get_available_regions("bedrock"))


def call(service: str, where: Place, use: Callable[[Any], T], *, endpoint: str | None = None) -> T:
    """What ``use`` makes of a client of ``service``, which is asked at ``endpoint`` (None: its own or the variable's).

    Raises `AwsTrouble`: one sentence for whatever went wrong.
    """
    sdk.loaded()
    outbound.for_libraries()
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return use(_client(service, where, endpoint))
    except (BotoCoreError, ClientError, Boto3Error, OSError, ValueError) as error:
        raise explained(error, service, where) from error


def _client(service: str, where: Place, endpoint: str | None) -> Any:
    from botocore.config import Config

    config = Config(
        region_name=where.region, connect_timeout=CONNECT_S, read_timeout=READ_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
    )  # fmt: skip
    keys = _keys(service, where)
    own = where.deployment
    certificates = outbound.bundle(own.ca_file) if own is not None and own.ca_file and own.origin == "file" else None
    with _lock:  # making clients is not thread-safe; using them is
        session = _session(where.profile)
        made = session.client(service, config=config, endpoint_url=endpoint, verify=certificates, **keys)
        if not outbound.any_proxy(own):
            return made
        # Its address is known only now. botocore reads the environment too, but neither ALL_PROXY nor ranges in
        # NO_PROXY, nor a deployment's own settings.
        url = str(made.meta.endpoint_url)
        proxy = outbound.proxy_for(url, own)
        ways = Config(proxies={url.partition("://")[0]: proxy.full} if proxy is not None else {})
        return session.client(service, config=config.merge(ways), endpoint_url=endpoint, verify=certificates, **keys)


def _keys(service: str, where: Place) -> dict[str, Any]:
    if service == "bedrock" and os.environ.get(credentials.BEARER_ENV):
        return {}
    found = credentials.frozen(where.profile)
    return {
        "aws_access_key_id": found.access_key, "aws_secret_access_key": found.secret_key,
        "aws_session_token": found.token,
    }  # fmt: skip


def _session(profile: str | None) -> Session:
    known = _sessions.get(profile)
    if known is None:
        sdk.loaded()
        from boto3.session import Session

        known = _sessions[profile] = Session(profile_name=profile)
    return known


def forget() -> None:
    """Read configuration and credentials anew the next time."""
    with _lock:
        _sessions.clear()
    credentials.forget()


def identity(where: Place) -> Identity:
    """Whose credentials these are, by the one call that needs no permission. Raises `AwsTrouble`."""
    row = call("sts", where, lambda sts: sts.get_caller_identity())
    return Identity(str(row.get("Account", "")), str(row.get("Arn", "")))


def models(where: Place) -> tuple[list[Model], list[Model]]:
    """The text models of a region and its inference profiles. Raises `AwsTrouble`."""

    def read(bedrock: Any) -> tuple[list[Model], list[Model]]:
        listed = bedrock.list_foundation_models(byOutputModality="TEXT").get("modelSummaries", [])
        pages = bedrock.get_paginator("list_inference_profiles").paginate(PaginationConfig={"MaxItems": MOST})
        routed = [one for page in pages for one in page.get("inferenceProfileSummaries", [])]
        return (
            [_model(one) for one in listed],
            [Model(str(one["inferenceProfileId"]), str(one.get("inferenceProfileName", ""))) for one in routed],
        )

    return call("bedrock", where, read)


def _model(row: dict[str, Any]) -> Model:
    ways = row.get("inferenceTypesSupported")
    title = " ".join(str(row[name]) for name in ("providerName", "modelName") if row.get(name))
    return Model(
        str(row["modelId"]),
        title,
        row.get("responseStreamingSupported"),
        None if ways is None else "PROVISIONED" in ways,
    )
