"""AWS credentials through the ordinary chain, a sentence for every way in which they can be missing, and signatures.

Nothing here is kept in an object of ours that is stored or shown: botocore holds the credentials, and every secret
part that passes by is made known to `services.security.keys`, so that no log, page or record can repeat it.

It stays an import of the first call (half a second), not of the program. botocore's package imports nothing of itself
and needs none of this.
"""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import os
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from services.security import keys, outbound
from services.types import Aws, Deployment, Signing

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials
    from botocore.session import Session


# Never signed: the transport sets or changes them on the way.
_UNSIGNED = frozenset({"connection", "accept-encoding", "user-agent", "accept"})


def signed_headers(
    method: str, url: str, headers: Mapping[str, str], body: bytes, signing: Signing, credentials: ReadOnlyCredentials
) -> dict[str, str]:
    """The headers to send: those given, with ``x-amz-date``, the session's token and ``authorization`` added.

    ``body`` must be sent exactly as it is here; ``url`` with its path already percent-encoded.
    """
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    lowered = {name.lower(): value for name, value in headers.items()}
    request = AWSRequest(
        method=method, url=url, data=body, headers={n: v for n, v in lowered.items() if n not in _UNSIGNED}
    )
    SigV4Auth(credentials, signing.service, signing.region).add_auth(request)
    return {**lowered, **{name.lower(): str(value) for name, value in request.headers.items()}}


_import_lock = threading.Lock()


def load_boto() -> None:
    """boto3 is there, whole. To be called before every import of it or of its parts."""
    with _import_lock:
        import boto3.exceptions
        import boto3.s3.transfer
        import boto3.session  # noqa: F401


# For this long a chain that gave nothing is not asked again: on a machine that is no EC2 it waits for one to answer.
ASK_AGAIN_S = 30.0


WAIT_S = 10.0

_SSO = ("UnauthorizedSSOTokenError", "SSOTokenLoadError", "TokenRetrievalError", "PendingAuthorizationExpiredError")


class CredentialTrouble(ValueError):
    """No usable credentials. The message is the rest of a sentence: what is wrong and how to mend it."""


_lock = threading.Lock()


def frozen(profile: str | None) -> ReadOnlyCredentials:
    """The credentials of a profile (None: the default chain) as they are now, refreshed where they have to be.

    May read files, start a process or ask a service of AWS: call it in a thread. Raises `CredentialTrouble`.
    """
    from botocore.exceptions import BotoCoreError

    chain = _chain(profile)
    # One profile that hangs (a credential process, an SSO host that is silent) must not hold up the others.
    if not chain.lock.acquire(timeout=WAIT_S):
        raise CredentialTrouble(late_sentence(profile))
    try:
        if chain.credentials is None:
            if chain.trouble and time.monotonic() - chain.asked_at < ASK_AGAIN_S:
                raise CredentialTrouble(chain.trouble)
            chain.asked_at = time.monotonic()
            try:
                chain.credentials = chain.session.get_credentials()
                chain.trouble = None if chain.credentials is not None else _none(profile)
            except (BotoCoreError, OSError, ValueError, configparser.Error) as error:
                chain.trouble = explained(error, profile)
            if chain.credentials is None:
                _chains.pop(profile, None) if chain.trouble is None else None
                raise CredentialTrouble(chain.trouble or _none(profile))
        try:
            credentials = chain.credentials.get_frozen_credentials()
        except (BotoCoreError, OSError, ValueError) as error:
            chain.credentials = None
            chain.trouble = explained(error, profile)
            raise CredentialTrouble(chain.trouble) from error
    finally:
        chain.lock.release()
    if not credentials.access_key or not credentials.secret_key:
        raise CredentialTrouble(_none(profile))
    keys.remember(credentials.access_key, credentials.secret_key, credentials.token or "")
    return credentials


def trouble(profile: str | None) -> str | None:
    """Why a profile gives no credentials, or None when it does. May take seconds: call it in a thread."""
    try:
        frozen(profile)
    except CredentialTrouble as error:
        return str(error)
    return None


def _chain(profile: str | None) -> _Chain:
    outbound.for_libraries()
    with _lock:
        chain = _chains.get(profile)
        if chain is None:
            chain = _chains[profile] = _Chain(core_session(profile))
        return chain


@lru_cache(maxsize=4)
def _loader(data_path: str | None) -> Any:
    from botocore.loaders import create_loader

    return create_loader(data_path)


def core_session(profile: str | None) -> Session:
    """A botocore session for a profile (None: the default chain). What is wrong with it is raised by its use."""
    import botocore.session
    from botocore.exceptions import BotoCoreError

    session = botocore.session.Session(profile=profile)
    # A loader of its own would read 2 MB of JSON again, 0.1 s of CPU, and as much again for each service.
    with contextlib.suppress(BotoCoreError):
        session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
    return session


def late_sentence(profile: str | None) -> str:
    """What to say of a profile whose credentials did not come in time, as the rest of a sentence."""
    return (
        f"the credentials of {_named(profile)} did not come within {WAIT_S:g} s: check its credential process or sign "
        "in again"
    )


def _named(profile: str | None) -> str:
    name = profile or os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    return f"the profile “{name}”" if name else "the default profile"


def explained(error: Exception, profile: str | None) -> str:
    """What a failure of the credential chain means and how to mend it, as the rest of a sentence."""
    named = _named(profile)
    login = f"aws sso login --profile {profile}" if profile else "aws sso login"
    kind = type(error).__name__
    if kind == "ProfileNotFound":
        return f"{named} is not in the AWS configuration: check its name or add it with “aws configure”"
    if kind in _SSO:
        return f"the SSO sign-in of {named} has expired or is missing: run “{login}”"
    if kind in ("PartialCredentialsError",):
        return f"{named} has only half of its credentials: it needs both the access key id and the secret access key"
    if kind in ("CredentialRetrievalError", "RefreshWithMFAUnsupportedError"):
        return f"the credentials of {named} could not be fetched or refreshed: sign in again and check its settings"
    if kind == "InvalidConfigError" or kind.startswith("ConfigParse") or isinstance(error, configparser.Error):
        return "the AWS configuration file cannot be read: check ~/.aws/config and ~/.aws/credentials"
    return f"the credentials of {named} could not be read ({kind}): check the AWS configuration"


def _none(profile: str | None) -> str:
    if profile:
        return f"the profile “{profile}” holds no credentials: run “aws configure --profile {profile}” or sign in to it"
    return (
        "no AWS credentials were found: set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the "
        "machine a role"
    )


_chains: dict[str | None, _Chain] = {}


@dataclass
class _Chain:
    session: Session
    credentials: Any = None
    trouble: str | None = None
    asked_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass
class _Seen:
    trouble: str | None = None
    asked_at: float = float("-inf")
    busy: bool = False


_seen: dict[str | None, _Seen] = {}

_seen_lock = threading.Lock()


def last_trouble(profile: str | None) -> str | None:
    """Why a profile gives no credentials, as far as is known now; None when it does, or when nobody has looked yet.

    Returns at once and looks again in the background when the answer is old.
    """
    with _seen_lock:
        seen = _seen.setdefault(profile, _Seen())
        if not seen.busy and time.monotonic() - seen.asked_at > ASK_AGAIN_S:
            seen.busy = True
            threading.Thread(target=_ask, args=(profile, seen), name="aws-credentials", daemon=True).start()
        return seen.trouble


def _ask(profile: str | None, seen: _Seen) -> None:
    why: str | None = None
    try:
        why = trouble(profile)
    finally:
        with _seen_lock:
            seen.trouble, seen.asked_at, seen.busy = why, time.monotonic(), False


def look_again() -> None:
    """Look again the next time somebody asks; what was known stays until then."""
    with _seen_lock:
        for seen in _seen.values():
            seen.asked_at = float("-inf")


BEARER_ENV = "AWS_BEARER_TOKEN_BEDROCK"


# Its own threads: those of the loop also read the database.
_THREADS = ThreadPoolExecutor(16, thread_name_prefix="aws-credentials")


async def frozen_soon(profile: str | None) -> ReadOnlyCredentials:
    """`frozen` for a coroutine, given up after `WAIT_S`. Raises `CredentialTrouble`."""
    credentials = asyncio.get_running_loop().run_in_executor(_THREADS, frozen, profile)
    try:
        return await asyncio.wait_for(credentials, WAIT_S)
    except TimeoutError:
        raise CredentialTrouble(late_sentence(profile)) from None


def forget() -> None:
    """Ask the whole chain anew the next time: after somebody signed in, or set a variable."""
    with _lock:
        _chains.clear()


def region_of(region: str | None, profile: str | None) -> str | None:
    """The region of a deployment: its own, else AWS_REGION or AWS_DEFAULT_REGION, else the one of its profile."""
    if region:
        return region
    named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if named:
        return named
    from botocore.exceptions import BotoCoreError

    try:
        configured = _chain(profile).session.get_config_variable("region")
    except (BotoCoreError, configparser.Error, ValueError):
        return None
    return str(configured) if configured else None


def signing(deployment: Deployment, service: str) -> Signing | None:
    """What the requests of a deployment have to be signed for; None when it sends a key of its own instead.

    Raises ValueError in words when no region is known.
    """
    if deployment.key_env:
        return None
    aws = deployment.aws or Aws()
    region = region_of(deployment.region, aws.profile)
    if region is None:
        raise ValueError(
            f"{deployment.name} names no region: give it one in its settings, or set AWS_REGION in the environment."
        )
    return Signing(service, region, aws.profile)
