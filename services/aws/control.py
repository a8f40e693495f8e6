"""Clients of AWS's control planes, and what a control call failed on in one sentence. Every call blocks: use a thread.

boto3 does what it is best at here (signing, paging, retries); addresses of its services can be set with its own
variables, AWS_ENDPOINT_URL_BEDROCK and its sisters, or the ``endpoint_url`` of a profile.
"""

from __future__ import annotations

import configparser
import errno
import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from services.aws import credentials as aws_credentials
from services.security import keys, outbound
from services.types import Deployment, Json

if TYPE_CHECKING:
    from boto3.session import Session
    from botocore.config import Config


T = TypeVar("T")

REGION = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]+)+-\d+\Z")

CONNECT_S, READ_S, ATTEMPTS = 4.0, 12.0, 2

MOST = 1000  # things listed at most; an account with more is told so

_sessions: dict[str | None, Session] = {}

# To make one costs 25–45 ms of CPU, more than to ask it.
_clients: dict[tuple[Any, ...], Any] = {}

MAX_CLIENTS = 64

_OF_CLIENTS = re.compile(r"\AAWS_|CA_BUNDLE|SSL_CERT")

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
    region_name = aws_credentials.region_of((region or "").strip() or None, named)
    if region_name is None:
        raise AwsTrouble("invalid", "No region is known: choose one, or set AWS_REGION in the environment.")
    if not REGION.match(region_name):
        raise AwsTrouble("invalid", "That is not the name of a region; write it like us-east-1.")
    return Place(named, region_name)


def profiles() -> list[str]:
    """The profiles of the AWS configuration, in its order."""
    import configparser

    from botocore.exceptions import BotoCoreError
    from botocore.session import Session as Core

    try:
        return list(Core().available_profiles)
    except (BotoCoreError, configparser.Error, OSError, ValueError) as error:
        raise AwsTrouble("credentials", f"AWS was not asked: {aws_credentials.explained(error, None)}.") from error


def regions() -> list[str]:
    """The regions that botocore knows Bedrock in; one it does not know yet may be written by hand."""
    aws_credentials.load_boto()
    from boto3.session import Session

    return sorted(Session().get_available_regions("bedrock"))


def call(service: str, place: Place, use: Callable[[Any], T], *, endpoint: str | None = None) -> T:
    """What ``use`` makes of a client of ``service``, which is asked at ``endpoint`` (None: its own or the variable's).

    Raises `AwsTrouble`: one sentence for whatever went wrong.
    """
    aws_credentials.load_boto()
    outbound.for_libraries()
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        return use(_client(service, place, endpoint))
    except (BotoCoreError, ClientError, Boto3Error, OSError, ValueError) as error:
        raise explained(error, service, place) from error


def _client(service: str, place: Place, endpoint: str | None) -> Any:
    from botocore.config import Config

    config = Config(
        region_name=place.region,
        connect_timeout=CONNECT_S,
        read_timeout=READ_S,
        retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
    )
    keys = _keys(service, place)
    own = place.deployment
    certificates = outbound.bundle(own.ca_file) if own is not None and own.ca_file and own.origin == "file" else None
    settings = {"endpoint_url": endpoint, "verify": certificates, **keys}
    if outbound.any_proxy(own):
        with _lock:
            return _by_proxy_client(service, place, config, settings)
    made_of = (service, place, endpoint, certificates, *keys.values(), *_environment())
    with _lock:  # making clients is not thread-safe; using them is
        client = _clients.get(made_of)
        if client is None:
            while len(_clients) >= MAX_CLIENTS:
                del _clients[next(iter(_clients))]
            client = _clients[made_of] = _session(place.profile).client(service, config=config, **settings)
        return client


def _by_proxy_client(service: str, place: Place, config: Config, settings: Json) -> Any:
    """A client that goes as the settings of proxies say now: neither its way nor its connections are kept."""
    from botocore.config import Config

    session = _session(place.profile)
    # Its address is known only when it is made. botocore reads the environment too, but neither ALL_PROXY nor ranges in
    # NO_PROXY, nor a deployment's own settings.
    url = str(session.client(service, config=config, **settings).meta.endpoint_url)
    proxy = outbound.proxy_for(url, place.deployment)
    proxies = Config(proxies={url.partition("://")[0]: proxy.full} if proxy is not None else {})
    return session.client(service, config=config.merge(proxies), **settings)


def _environment() -> list[tuple[str, str]]:
    """The variables that botocore makes a client by."""
    return sorted((name, value) for name, value in os.environ.items() if _OF_CLIENTS.search(name))


def _keys(service: str, place: Place) -> Json:
    if service == "bedrock" and os.environ.get(aws_credentials.BEARER_ENV):
        return {}
    credentials = aws_credentials.frozen(place.profile)
    return {
        "aws_access_key_id": credentials.access_key,
        "aws_secret_access_key": credentials.secret_key,
        "aws_session_token": credentials.token,
    }


def _session(profile: str | None) -> Session:
    session = _sessions.get(profile)
    if session is None:
        aws_credentials.load_boto()
        from boto3.session import Session

        session = _sessions[profile] = Session(botocore_session=aws_credentials.core_session(profile))
    return session


def forget() -> None:
    """Read configuration and credentials anew the next time."""
    with _lock:
        _sessions.clear()
        _clients.clear()
    aws_credentials.forget()


def identity(place: Place) -> Identity:
    """Whose credentials these are, by the one call that needs no permission. Raises `AwsTrouble`."""
    row = call("sts", place, lambda sts: sts.get_caller_identity())
    return Identity(str(row.get("Account", "")), str(row.get("Arn", "")))


def models(place: Place) -> tuple[list[Model], list[Model]]:
    """The text models of a region and its inference profiles. Raises `AwsTrouble`."""

    def read(bedrock: Any) -> tuple[list[Model], list[Model]]:
        listed = bedrock.list_foundation_models(byOutputModality="TEXT").get("modelSummaries", [])
        pages = bedrock.get_paginator("list_inference_profiles").paginate(PaginationConfig={"MaxItems": MOST})
        routed = [profile for page in pages for profile in page.get("inferenceProfileSummaries", [])]
        return (
            [_model(model) for model in listed],
            [
                Model(str(profile["inferenceProfileId"]), str(profile.get("inferenceProfileName", "")))
                for profile in routed
            ],
        )

    return call("bedrock", place, read)


def _model(row: Json) -> Model:
    ways = row.get("inferenceTypesSupported")
    title = " ".join(str(row[name]) for name in ("providerName", "modelName") if row.get(name))
    return Model(
        str(row["modelId"]),
        title,
        row.get("responseStreamingSupported"),
        None if ways is None else "PROVISIONED" in ways,
    )


Trouble = Literal[
    "credentials",
    "expired",
    "denied",
    "throttled",
    "not_found",
    "conflict",
    "quota",
    "invalid",
    "unreachable",
    "timeout",
    "failed",
]

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})

_UNKNOWN = frozenset(
    {
        "UnrecognizedClientException",
        "InvalidClientTokenId",
        "MissingAuthenticationToken",
        "MissingAuthenticationTokenException",
    }
)

_UNSIGNED = frozenset({"InvalidSignatureException", "SignatureDoesNotMatch", "IncompleteSignature"})


# A bare number is all that S3 says to a question about a bucket or an object (HEAD has no body).
_DENIED = frozenset({"AccessDeniedException", "AccessDenied", "UnauthorizedOperation", "NotAuthorized", "403"})


_THROTTLED = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "ThrottledException",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "SlowDown",
    }
)

_NOT_FOUND = frozenset(
    {
        "ResourceNotFoundException",
        "ResourceNotFound",
        "ResourceNotFoundFault",
        "NoSuchBucket",
        "NoSuchKey",
        "NoSuchEntity",
        "NoSuchEntityException",
        "404",
    }
)

_QUOTA = frozenset({"ServiceQuotaExceededException", "LimitExceededException", "ResourceLimitExceeded"})


# These are of our own disk, whatever was asked of AWS meanwhile; and so is whatever names a file.
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})


_NO_ANSWER = frozenset({"EndpointConnectionError", "ConnectionClosedError", "ProxyConnectionError", "HTTPClientError"})

_TUNNEL = re.compile(r"Tunnel connection failed: (\d{3})")

_SLOW = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})

_CHAIN = frozenset(
    {
        "NoCredentialsError",
        "PartialCredentialsError",
        "ProfileNotFound",
        "CredentialRetrievalError",
        "UnauthorizedSSOTokenError",
        "SSOTokenLoadError",
        "TokenRetrievalError",
        "RefreshWithMFAUnsupportedError",
    }
)


@dataclass(frozen=True, slots=True)
class Place:
    """Which account's which region is asked: a profile of the AWS configuration (None: the default chain)."""

    profile: str | None
    region: str
    # Whose own proxy and certificates count (`services.security.outbound`); None: those of the environment.
    deployment: Deployment | None = field(default=None, compare=False, repr=False)

    @property
    def words(self) -> str:
        """The profile, for a sentence."""
        return f"the profile “{self.profile}”" if self.profile else "the default profile"


class AwsTrouble(ValueError):
    """AWS could not be asked or said no. The message is one sentence; ``what`` is its class."""

    def __init__(self, kind: Trouble, sentence: str) -> None:
        super().__init__(keys.scrub(" ".join(sentence.split())))
        self.what = kind


def explained(error: Exception, service: str, place: Place) -> AwsTrouble:
    """The sentence for an exception of botocore's, raised by a call to ``service`` ("bedrock", "sagemaker", "sts")."""
    kind = type(error).__name__
    if isinstance(error, AwsTrouble):
        return error
    if isinstance(error, aws_credentials.CredentialTrouble):
        return AwsTrouble("credentials", f"AWS was not asked: {error}.")
    if isinstance(error, outbound.ProxyTrouble):
        return AwsTrouble("invalid", f"AWS was not asked: {error}.")
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return _answered(response, str(getattr(error, "operation_name", "")), service, place)
    if kind == "NoCredentialsError":
        return AwsTrouble("credentials", f"AWS was not asked: {aws_credentials.trouble(place.profile) or _NONE}.")
    if kind in _CHAIN or isinstance(error, configparser.Error):
        return AwsTrouble("credentials", f"AWS was not asked: {aws_credentials.explained(error, place.profile)}.")
    if isinstance(error, OSError) and (error.errno in _DISK or error.filename):
        file = f" {error.filename}" if error.filename else " of the data directory"
        return AwsTrouble(
            "failed",
            f"The file{file} could not be used ({error.strerror}): make room on this machine's "
            "disk, or give the rights to it.",
        )
    address = _address(error) or f"{service} in {place.region}"
    if kind in _SLOW:
        return AwsTrouble("timeout", f"There was no answer in time from {address}: check the network, then try again.")
    if kind == "ProxyConnectionError":
        return AwsTrouble("unreachable", _by_proxy(error, place))
    if kind == "SSLError":
        mend = outbound.environment_ca_trouble() or (
            "a certificate is not trusted here; behind a company's proxy, name its certificates in SSL_CERT_FILE, "
            "AWS_CA_BUNDLE or ca_file"
        )
        return AwsTrouble("unreachable", f"No secure connection to {address} could be made: {mend}.")
    if kind in _NO_ANSWER or isinstance(error, OSError):
        return AwsTrouble("unreachable", f"There is no answer at {address}: check the region and the network.")
    if kind in ("ParamValidationError", "InvalidRegionError", "NoRegionError"):
        return AwsTrouble("invalid", f"AWS cannot be asked this way: {_stop(str(error))}")
    return AwsTrouble("failed", f"The call to {service} in {place.region} failed ({kind}): {_stop(str(error)[:300])}")


_NONE = "no AWS credentials were found"


def _answered(response: dict[str, object], operation: str, service: str, place: Place) -> AwsTrouble:
    stated = response.get("Error")
    details = stated if isinstance(stated, dict) else {}
    code, message = str(details.get("Code", "")), _stop(str(details.get("Message", ""))[:400])
    action = f"{service}:{operation}"
    if code in _EXPIRED:
        login = f"aws sso login --profile {place.profile}" if place.profile else "aws sso login"
        return AwsTrouble(
            "expired", f"The session of {place.words} has expired: sign in again (“{login}”, or set fresh variables)."
        )
    if code in _UNKNOWN:
        return AwsTrouble(
            "credentials",
            f"AWS does not accept the credentials of {place.words} in {place.region}: check that the access key exists "
            "and belongs to this part of AWS.",
        )
    if code in _UNSIGNED:
        return AwsTrouble(
            "credentials",
            f"AWS does not accept the signature of {place.words} in {place.region}: check the secret access key and "
            "that this machine's clock is right.",
        )
    if code in _DENIED:
        return AwsTrouble(
            "denied",
            f"{place.words.capitalize()} may not do this in {place.region}: its role needs {action}. {message}",
        )
    if code in _THROTTLED:
        return AwsTrouble("throttled", f"AWS asks to slow down ({action}): nothing was changed, try again in a minute.")
    if code in _NOT_FOUND:
        return AwsTrouble("not_found", f"AWS does not know it in {place.region}: {message or 'check name and region.'}")
    if code in ("ConflictException", "ResourceInUseException", "ResourceInUse"):
        return AwsTrouble("conflict", f"AWS refused, because it is in use or committed: {message}")
    if code in _QUOTA:
        hint = "model units need a support request first. " if "Provisioned" in operation else ""
        return AwsTrouble("quota", f"The account's quota does not allow this: {hint}{message}")
    if code in ("ValidationException", "ValidationError"):
        if "could not find" in message.lower() or "not found" in message.lower():
            return AwsTrouble("not_found", f"AWS does not know it in {place.region}: {message}")
        return AwsTrouble("invalid", f"AWS does not accept this: {message}")
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")  # type: ignore[attr-defined]  # botocore types it as object
    return AwsTrouble("failed", f"AWS answered {code or status} to {action}: {message or 'it said no more.'}")


def _stop(text: str) -> str:
    line = " ".join(text.split())
    return line if not line or line.endswith((".", "!", "?")) else f"{line}."


def _by_proxy(error: Exception, place: Place) -> str:
    """What a proxy did, in a sentence. botocore names the proxy instead of what was asked; its address is not shown."""
    try:
        proxy = outbound.proxy_for("https://aws.amazon.com", place.deployment)
    except outbound.ProxyTrouble:
        proxy = None
    its = f"The proxy of {proxy.setting}" if proxy else "The proxy"
    answered = _TUNNEL.search(str((getattr(error, "kwargs", None) or {}).get("error", error)))
    if answered is None:
        return f"{its} does not answer, so AWS was not asked: check its settings, lab doctor shows them."
    if answered[1] == "407":
        return f"{its} wants a user name and a password, or other ones (407): check its settings."
    if int(answered[1]) in outbound.SIGN_IN_PAGE:
        return f"{its} {outbound.wants_browser(int(answered[1]))}: sign in there, then try again."
    return f"{its} did not connect to AWS ({answered[1]}): check whether it allows it, or exempt AWS with NO_PROXY."


def _address(error: Exception) -> str | None:
    url = (getattr(error, "kwargs", None) or {}).get("endpoint_url")
    return str(url).partition("?")[0] if url else None
