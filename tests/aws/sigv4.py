"""Who signed a request, found out independently: the signature is computed again by botocore from what arrived.

Only the received method, path, query, headers, body and the secret that the account knows go into it; nothing of the
product's own signing does.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from collections.abc import Collection
from dataclasses import dataclass

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.fake.http import Request

MAX_SKEW_S = 300.0  # AWS refuses a signature that is older or younger
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/,]+)/([^/,]+)/aws4_request, ?"
    r"SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})"
)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class Key:
    """One pair of credentials that the account knows. Everything here is invented."""

    access: str
    secret: str
    token: str | None = None
    expired: bool = False


VALID = Key("AKIAEMULATEDFOREVER0", "emulated/secret/never+real/00000000000000")
SESSION = Key("ASIAEMULATEDSESSION0", "emulated/session/secret/0000000000000000", "emulated-session-token")
EXPIRED = Key("ASIAEMULATEDEXPIRED0", "emulated/expired/secret/0000000000000000", "emulated-old-token", expired=True)
BEARER = "bedrock-api-key-emulated"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found. ``error`` is AWS's name for what is wrong; None: the request is who it says it is."""

    error: str | None = None
    message: str = ""
    access: str = ""
    region: str = ""
    service: str = ""
    by: str = "sigv4"  # or "bearer"


def verify(
    request: Request,
    keys: Collection[Key],
    *,
    regions: Collection[str],
    services: Collection[str],
    bearer: str | None = None,
    now: datetime.datetime | None = None,
) -> Verdict:
    """The verdict on one request. ``bearer``: the token that is as good as a signature, where one is."""
    said = request.headers.get("authorization", "")
    if said.startswith("Bearer "):
        if bearer is not None and said == f"Bearer {bearer}":
            return Verdict(by="bearer")
        return Verdict(
            "AccessDeniedException", "Authentication failed: Please make sure your API Key is valid.", by="bearer"
        )
    if not said:
        return Verdict("MissingAuthenticationTokenException", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(said)
    if found is None:
        return Verdict("IncompleteSignatureException", f"Authorization header is not complete: {said.split(' ')[0]}")
    access, day, region, service, names, signature = found.groups()
    about = {"access": access, "region": region, "service": service}
    key = next((k for k in keys if k.access == access), None)
    if key is None:
        return Verdict("UnrecognizedClientException", "The security token included in the request is invalid.", **about)
    wrong = _scope(request, day, region, service, regions, services, now) or _headers(request, names.split(";"))
    if wrong is None and not hmac.compare_digest(signature, _again(request, key, region, service, names.split(";"))):
        wrong = _MISMATCH
    if wrong is not None:
        return Verdict("InvalidSignatureException", wrong, **about)
    if request.headers.get("x-amz-security-token") != key.token:
        return Verdict("UnrecognizedClientException", "The security token included in the request is invalid.", **about)
    if key.expired:
        return Verdict("ExpiredTokenException", "The security token included in the request is expired", **about)
    return Verdict(**about)


def _scope(
    request: Request,
    day: str,
    region: str,
    service: str,
    regions: Collection[str],
    services: Collection[str],
    now: datetime.datetime | None,
) -> str | None:
    if service not in services:
        return f"Credential should be scoped to correct service: '{sorted(services)[0]}'."
    if region not in regions:
        return f"Credential should be scoped to a valid region, not '{region}'."
    stamp = request.headers.get("x-amz-date", "")
    try:
        signed = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    except ValueError:
        return "The request must contain a valid x-amz-date header."
    if stamp[:8] != day:
        return "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP."
    age = ((now or datetime.datetime.now(datetime.UTC)) - signed).total_seconds()
    if abs(age) > MAX_SKEW_S:
        return f"Signature {'expired' if age > 0 else 'not yet current'}: {stamp} is too far from the service's time."
    return None


def _headers(request: Request, names: list[str]) -> str | None:
    """Host and every x-amz header have to be signed, names sorted; a body hash that is sent has to be the body's."""
    if names != sorted(names) or any(n not in request.headers for n in names):
        return _MISMATCH
    owed = {"host", *(n for n in request.headers if n.startswith("x-amz-"))}
    if missing := sorted(owed - set(names)):
        return f"'{missing[0]}' or other mandatory headers must be a 'SignedHeader' in the AWS Authorization."
    sent = request.headers.get("x-amz-content-sha256")
    if sent not in {None, "UNSIGNED-PAYLOAD", hashlib.sha256(request.body).hexdigest()}:
        return "The provided 'x-amz-content-sha256' header does not match what was computed."
    return None


def _again(request: Request, key: Key, region: str, service: str, names: list[str]) -> str:
    """The signature that botocore computes for what arrived, over exactly the headers that were signed."""
    auth = SigV4Auth(Credentials(key.access, key.secret, key.token), service, region)
    headers = {name: request.headers[name] for name in names}
    url = f"http://{request.headers.get('host', '')}{request.path}"
    again = AWSRequest(method=request.method, url=url, data=request.body, headers=headers)
    again.context["timestamp"] = request.headers["x-amz-date"]
    return str(auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again))
