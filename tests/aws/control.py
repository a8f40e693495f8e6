"""The control plane of Bedrock (provisioned throughput, models, profiles) and STS's GetCallerIdentity."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.aws import errors
from tests.aws.account import ACCOUNT, GEOGRAPHIES, MODELS, Account, Model, Provisioned, Refused
from tests.aws.sigv4 import Verdict
from tests.fake.http import Request
from tests.fake.plan import Plan
from tests.fake.replies import body_reply
from tests.fake.wires import dumps

_JSON = ("content-type", "application/json")
Query = Mapping[str, str]


def is_control(path: str) -> bool:
    """Paths of the control plane."""
    first = path.strip("/").partition("/")[0]
    return first in {
        "provisioned-model-throughput",
        "provisioned-model-throughputs",
        "foundation-models",
        "inference-profiles",
        "foundation-model-availability",
    }


def answer(account: Account, request: Request) -> Plan:
    """The reply to a control request."""
    parts = urlsplit(request.path)
    first, _, rest = parts.path.strip("/").partition("/")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    try:
        handler = _HANDLERS[(request.method, first, bool(rest))]
    except KeyError:
        return errors.reply("ResourceNotFoundException", "There is nothing at this path.")
    try:
        status, body = handler(account, unquote(rest), request.parse(), query)
    except Refused as error:
        return errors.reply(error.code, error.message)
    return body_reply(status, dumps(body).encode(), _JSON)


def _time(at: datetime.datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _provisioned(account: Account, one: Provisioned) -> dict[str, Any]:
    arn = account.model_arn(one.model_id)
    said: dict[str, Any] = {
        "provisionedModelName": one.name,
        "provisionedModelArn": one.arn,
        "modelArn": arn,
        "desiredModelArn": arn,
        "foundationModelArn": arn,
        "modelUnits": one.units,
        "desiredModelUnits": one.units,
        "status": one.status(account.now()),
        "creationTime": _time(one.created),
        "lastModifiedTime": _time(one.changed),
    }
    if one.ends is not None:
        said |= {"commitmentDuration": one.commitment, "commitmentExpirationTime": _time(one.ends)}
    return said


def _create(account: Account, _rest: str, body: dict[str, Any], _query: Query) -> tuple[int, Any]:
    try:
        name, model, units = str(body["provisionedModelName"]), str(body["modelId"]), int(body["modelUnits"])
    except KeyError as error:
        raise Refused("ValidationException", f"{error.args[0]} is required.") from error
    one = account.create(name, model, units, body.get("commitmentDuration"), body.get("clientRequestToken"))
    return 201, {"provisionedModelArn": one.arn}


def _get(account: Account, rest: str, _body: dict[str, Any], _query: Query) -> tuple[int, Any]:
    one = account.find(rest)
    failure = {"failureMessage": one.failure} if one.failure else {}
    return 200, _provisioned(account, one) | failure


def _list(account: Account, _rest: str, _body: dict[str, Any], query: Query) -> tuple[int, Any]:
    found = [_provisioned(account, one) for one in account.provisioned.values()]
    found.sort(key=lambda s: s["creationTime"], reverse=query.get("sortOrder", "Descending") == "Descending")
    found = [s for s in found if query.get("statusEquals") in {None, s["status"]}]
    found = [s for s in found if query.get("nameContains", "") in s["provisionedModelName"]]
    found = [s for s in found if query.get("modelArnEquals") in {None, s["modelArn"]}]
    start, size = int(query.get("nextToken", "0")), int(query.get("maxResults", "1000"))
    page: dict[str, Any] = {"provisionedModelSummaries": found[start : start + size]}
    return 200, page | ({"nextToken": str(start + size)} if start + size < len(found) else {})


def _update(account: Account, rest: str, body: dict[str, Any], _query: Query) -> tuple[int, Any]:
    account.update(rest, body.get("desiredProvisionedModelName"), body.get("desiredModelId"))
    return 200, {}


def _delete(account: Account, rest: str, _body: dict[str, Any], _query: Query) -> tuple[int, Any]:
    account.delete(rest)
    return 200, {}


def _model(account: Account, one: Model) -> dict[str, Any]:
    supported = [i for i in one.inference if i != "INFERENCE_PROFILE"]
    return {
        "modelArn": account.model_arn(one.id),
        "modelId": one.id,
        "modelName": one.name,
        "providerName": one.provider,
        "inputModalities": ["TEXT"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": one.streaming,
        "customizationsSupported": [],
        "inferenceTypesSupported": supported,
        "modelLifecycle": {"status": "ACTIVE"},
    }


def _models(account: Account, _rest: str, _body: dict[str, Any], query: Query) -> tuple[int, Any]:
    provider, kind = query.get("byProvider"), query.get("byInferenceType")
    wanted = [m for m in MODELS if provider is None or m.provider.lower() == provider.lower()]
    return 200, {"modelSummaries": [_model(account, m) for m in wanted if kind is None or kind in m.inference]}


def _one_model(account: Account, rest: str, _body: dict[str, Any], _query: Query) -> tuple[int, Any]:
    found = next((m for m in MODELS if m.id == rest.rpartition("/")[2]), None)
    if found is None:
        raise Refused("ResourceNotFoundException", "The provided model identifier was not found.")
    return 200, {"modelDetails": _model(account, found)}


def _availability(account: Account, rest: str, _body: dict[str, Any], _query: Query) -> tuple[int, Any]:
    found = next((m for m in MODELS if m.id == rest), None)
    if found is None:
        raise Refused("ResourceNotFoundException", "The provided model identifier was not found.")
    has = "NOT_AVAILABLE" if found.id in account.denied else "AVAILABLE"
    return 200, {
        "modelId": found.id,
        "agreementAvailability": {"status": has},
        "entitlementAvailability": has,
        "authorizationStatus": "AUTHORIZED",
        "regionAvailability": "AVAILABLE",
    }


def _profile(account: Account, geography: str, one: Model) -> dict[str, Any]:
    arn = f"arn:aws:bedrock:{account.region}:{ACCOUNT}:inference-profile/{geography}.{one.id}"
    return {
        "inferenceProfileName": f"{geography.upper()} {one.name}",
        "inferenceProfileArn": arn,
        "inferenceProfileId": f"{geography}.{one.id}",
        "status": "ACTIVE",
        "type": "SYSTEM_DEFINED",
        "createdAt": "2026-01-01T00:00:00Z",
        "updatedAt": "2026-01-01T00:00:00Z",
        "models": [{"modelArn": account.model_arn(one.id)}],
    }


def _profiles(account: Account, _rest: str, _body: dict[str, Any], query: Query) -> tuple[int, Any]:
    if query.get("type") == "APPLICATION":
        return 200, {"inferenceProfileSummaries": []}
    found = [_profile(account, g, m) for g in GEOGRAPHIES[:2] for m in MODELS if m.provider == "Anthropic"]
    return 200, {"inferenceProfileSummaries": found}


def _one_profile(account: Account, rest: str, _body: dict[str, Any], query: Query) -> tuple[int, Any]:
    listed = _profiles(account, "", {}, query)[1]["inferenceProfileSummaries"]
    for found in listed:
        if rest in {found["inferenceProfileArn"], found["inferenceProfileId"]}:
            return 200, found
    raise Refused("ResourceNotFoundException", "The inference profile was not found.")


_THROUGHPUT = "provisioned-model-throughput"
_HANDLERS: dict[tuple[str, str, bool], Callable[[Account, str, dict[str, Any], Query], tuple[int, Any]]] = {
    ("POST", _THROUGHPUT, False): _create,
    ("GET", _THROUGHPUT, True): _get,
    ("GET", f"{_THROUGHPUT}s", False): _list,
    ("PATCH", _THROUGHPUT, True): _update,
    ("DELETE", _THROUGHPUT, True): _delete,
    ("GET", "foundation-models", False): _models,
    ("GET", "foundation-models", True): _one_model,
    ("GET", "foundation-model-availability", True): _availability,
    ("GET", "inference-profiles", False): _profiles,
    ("GET", "inference-profiles", True): _one_profile,
}

# --- STS -----------------------------------------------------------------------------------------------------------

_STS_NAMES = {
    "UnrecognizedClientException": "InvalidClientTokenId",
    "ExpiredTokenException": "ExpiredToken",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "IncompleteSignatureException": "IncompleteSignature",
    "AccessDeniedException": "AccessDenied",
}


def sts(request: Request, verdict: Verdict) -> Plan:
    """GetCallerIdentity in the query protocol; any other action is unknown."""
    if verdict.error:
        return errors.sts_reply(_STS_NAMES.get(verdict.error, verdict.error), verdict.message)
    action = parse_qs(request.body.decode()).get("Action", [""])[0]
    if action != "GetCallerIdentity":
        return errors.sts_reply("InvalidAction", f"Could not find operation {action} for version 2011-06-15")
    body = (
        '<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">\n  <GetCallerIdentityResult>\n'
        f"    <Arn>arn:aws:iam::{ACCOUNT}:user/emulated</Arn>\n    <UserId>AIDAEMULATED000000000</UserId>\n"
        f"    <Account>{ACCOUNT}</Account>\n  </GetCallerIdentityResult>\n  <ResponseMetadata>\n"
        "    <RequestId>00000000-0000-4000-8000-000000000000</RequestId>\n  </ResponseMetadata>\n"
        "</GetCallerIdentityResponse>\n"
    )
    return body_reply(200, body.encode(), ("content-type", "text/xml"))
