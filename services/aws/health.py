"""Whether a deployment on AWS could be called, found out by looking only: nothing here runs a model or costs anything.

What is asked: the credential chain, sts:GetCallerIdentity, bedrock:Get… and sagemaker:Describe…, and whether the host
of the calls answers on its port.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from services.aws import bedrock_ids, control, provisioned, sagemaker
from services.aws.control import AwsTrouble, Place
from services.security import keys, outbound
from services.types import Aws, Deployment, Json

CONNECT_S = 4.0
Grade = Literal["ok", "note", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """``grade`` "note": it could not be found out, or may be meant so."""

    grade: Grade
    says: str


def account(profile: str | None, region: str) -> Finding:
    """The credentials of a profile: are there any, and does AWS accept them?"""
    try:
        who = control.identity(Place(profile, region))
    except AwsTrouble as error:
        return Finding("note" if error.what in ("denied", "unreachable", "timeout") else "wrong", str(error))
    return Finding("ok", f"account {who.account}, {who.arn}")


def deployment(d: Deployment) -> Finding:
    """One deployment: its host, then what its kind can be asked about it."""
    try:
        through = outbound.proxy_for(d.base_url, d)
    except outbound.ProxyTrouble as error:
        return Finding("wrong", str(error))
    # What is behind a proxy cannot be knocked at: the questions below go the same way as the calls.
    unreachable = _unreachable(d.base_url) if through is None else None
    if unreachable:
        return Finding("wrong", unreachable)
    if d.key_env:
        is_set = keys.lookup(d.key_env) is not None
        return Finding("ok", f"called with {d.key_env}") if is_set else Finding("wrong", f"{d.key_env} is not set")
    place = Place((d.aws or Aws()).profile, d.region or "", d)
    check = _CHECKS.get(d.kind)
    if check is None:
        if through is not None:
            return Finding("note", f"it is called through the proxy of {through.setting}; its models are not looked at")
        return Finding("ok", f"{urlsplit(d.base_url).hostname} answers; its models are not looked at")
    try:
        return check(d, place)
    except AwsTrouble as error:
        if error.what == "not_found":
            return Finding("wrong", _not_there(d, place))
        return Finding("note" if error.what in ("denied", "throttled") else "wrong", str(error))


def _not_there(d: Deployment, place: Place) -> str:
    """What AWS does not know, and what to do: a name that is written wrong looks the same as another region's."""
    if d.kind == "bedrock":
        return _elsewhere(d.model, place)
    noun = "endpoint" if d.kind == "sagemaker" else "provisioned throughput"
    return (
        f"the account of {place.words} has no {noun} {d.model} in {place.region}: set the deployment's region to the "
        "one that it is in, or correct its name"
    )


def _elsewhere(model: str, place: Place) -> str:
    return (
        f"{model} is not offered in {place.region}: set the deployment's region to one that offers it, or its model to "
        f"a name that {place.region} offers, such as an inference profile"
    )


def _unreachable(url: str) -> str | None:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((host, port), CONNECT_S).close()
    except socket.gaierror:
        return f"the host {host} has no address: check the region and the endpoint URL"
    except OSError as error:
        return f"nothing answers at {host}:{port} ({error.strerror or type(error).__name__}): check host and network"
    return None


def _bedrock(d: Deployment, place: Place) -> Finding:
    named = bedrock_ids.parsed(d.model, place.region)
    if ":application-inference-profile/" in d.model or (named is not None and named.geography is not None):
        control.call("bedrock", place, lambda b: b.get_inference_profile(inferenceProfileIdentifier=d.model))
        model = named.model if named is not None else None
    else:
        model = named.model if named is not None else None
        if model is None:
            return Finding("note", f"{d.model} does not say which model it is, so that is not looked at")
        control.call("bedrock", place, lambda b: b.get_foundation_model(modelIdentifier=model))
    return _access(model, place) if model else Finding("ok", f"its inference profile is there in {place.region}")


def _access(model: str, place: Place) -> Finding:
    """Whether the account may use a model: what the console's page of model access shows."""
    try:
        availability = control.call("bedrock", place, lambda b: b.get_foundation_model_availability(modelId=model))
    except AwsTrouble as error:
        return Finding(
            "note", f"{model} is offered in {place.region}; whether the account may use it was not told: {error}"
        )
    if availability.get("regionAvailability") == "NOT_AVAILABLE":
        return Finding("wrong", _elsewhere(model, place))
    if availability.get("authorizationStatus") == "NOT_AUTHORIZED":
        needs = "its role needs bedrock:InvokeModelWithResponseStream"
        return Finding("wrong", f"no model access: {place.words} may not use {model}; {needs}")
    if availability.get("entitlementAvailability") == "NOT_AVAILABLE":
        return Finding(
            "wrong",
            f"no model access: the account has not agreed to the terms of {model}; open it once in Bedrock's "
            f"model catalogue in {place.region}",
        )
    return Finding("ok", f"{model} is offered in {place.region} and the account may use it")


def _provisioned(d: Deployment, place: Place) -> Finding:
    stated = d.model.split(":")[3] if d.model.startswith("arn:") and d.model.count(":") >= 5 else ""
    if stated and stated != place.region:
        return Finding(
            "wrong", f"its ARN belongs to {stated} but its region is {place.region}: set its region to {stated}"
        )
    throughput = provisioned.fetch(place, d.model)
    if throughput.status not in ("InService", "Updating"):
        why = f": {throughput.failure}" if throughput.failure else ""
        return Finding("wrong", f"{throughput.name} is {throughput.status_words}{why}")
    return Finding(
        "ok",
        f"{throughput.name} is {throughput.status_words}, {throughput.units} model units of {throughput.foundation}",
    )


def _sagemaker(d: Deployment, place: Place) -> Finding:
    endpoint = sagemaker.fetch(place, d.model)
    if endpoint.status not in sagemaker.SERVING:
        why = f": {endpoint.failure}" if endpoint.failure else ""
        return Finding("wrong", f"the endpoint {endpoint.name} is {endpoint.status_words} ({endpoint.status}){why}")
    aws = d.aws or Aws()
    names = [variant.name for variant in endpoint.variants]
    if aws.variant and aws.variant not in names:
        return Finding("wrong", f"the endpoint {endpoint.name} has no variant {aws.variant}; it has {', '.join(names)}")
    if aws.component:
        return _component(endpoint.name, aws.component, place)
    return Finding("ok", f"the endpoint {endpoint.name} is {endpoint.status_words}")


def _component(endpoint: str, name: str, place: Place) -> Finding:
    try:
        row: Json = control.call(
            "sagemaker", place, lambda s: s.describe_inference_component(InferenceComponentName=name)
        )
    except AwsTrouble as error:
        if error.what != "not_found":
            raise
        return Finding("wrong", f"the endpoint {endpoint} has no component {name}: correct its name")
    if row.get("EndpointName") != endpoint:
        return Finding("wrong", f"the component {name} is on the endpoint {row.get('EndpointName')}, not on {endpoint}")
    if row.get("InferenceComponentStatus") != "InService":
        why = f": {row['FailureReason']}" if row.get("FailureReason") else ""
        return Finding("wrong", f"the component {name} is {row.get('InferenceComponentStatus')}{why}")
    return Finding("ok", f"the component {name} on {endpoint} is in service")


_CHECKS: dict[str, Callable[[Deployment, Place], Finding]] = {
    "bedrock": _bedrock,
    "bedrock-provisioned": _provisioned,
    "sagemaker": _sagemaker,
}
