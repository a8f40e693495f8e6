"""AWS Signature Version 4 of one request, by botocore, so that our own reader can carry the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from services.types import Signing

if TYPE_CHECKING:
    from botocore.credentials import ReadOnlyCredentials

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
