"""What a deployment may be: the checks that hold for the file, the page, the catalogue and a request alike.

`Deployment.from_json` reads the snapshots of other versions and takes them as they are; a request is refused in
words instead. What the fields may say is judged by `validation`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from services.params import PARAMS
from services.pricing import cost
from services.providers import KINDS
from services.request_fields import RequestFields
from services.security import keys, network, outbound
from services.security.network import on_amazon
from services.types import Aws, Deployment, Limits

MOST_COUNT = 10**9  # `validation` and `cost.check_price` know the real limits and say them


def deployment_of(body: RequestFields) -> Deployment:
    """The deployment of a request. Raises ValueError with one sentence."""
    row: dict[str, Any] = {name: body.text(name) for name in ("name", "kind", "model", "base_url")}
    row |= {name: body.words(name) for name in ("key_env", "region")}
    row |= {name: body.words(name) or "" for name in ("id", "note")}
    row |= {name: list(body.texts(name)) for name in ("params", "labels") if body.has(name)}
    if body.has("wire"):
        row["wire"] = body.text("wire")
    if body.has("context_tokens"):
        row["context_tokens"] = body.whole("context_tokens", 0, MOST_COUNT)
    headers, limits = body.table("headers"), body.table("limits")
    row |= {
        "enabled": body.flag("enabled", True),
        "color_slot": body.whole("color_slot", 0, MOST_COUNT, default=0),
        "headers": {name: headers.text(name) for name in headers.values},
        "extra_body": body.table("extra_body").values,
        "limits": {limit.name: limits.number(limit.name) for limit in fields(Limits) if limits.has(limit.name)},
        "aws": _fields(body.table("aws"), Aws) if body.has("aws") else None,
        "price": _price(body.table("price")),
    }
    return Deployment.from_json(row)


def _fields(table: RequestFields, kind: type[Aws]) -> dict[str, str | None]:
    return {setting.name: table.words(setting.name) for setting in fields(kind)}


def _price(table: RequestFields) -> dict[str, Any]:
    row: dict[str, Any] = {name: table.words(name) for name in ("provider", "model", "per_hour", "instance")}
    if table.has("override"):
        rates = table.table("override")
        row["override"] = {name: rates.text(name) for name in rates.values}
    if table.has("count"):
        row["count"] = table.whole("count", 0, MOST_COUNT)
    return row


KEY_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")

LONGEST_WORD = 19

HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+\Z")

SECRET_HEADER = re.compile(r"(?i)authorization|cookie|(?:^|[-_])(?:apikey|key|token|secret|password|signature)$")


# What the request is made of: given in extra_body it would silently change what is asked or how it is read.
# Under this name in [keys] stand the hosts beside AWS's own that a signature with AWS credentials may go to.
AWS_KEYS = "AWS"


REGION = re.compile(r"[a-z]{2,8}(?:-[a-z0-9]+)+-\d+\Z")

ROLE = re.compile(r"arn:aws[\w-]*:iam::\d{12}:role/[\w+=,.@/-]{1,120}\Z", re.ASCII)


# A bucket and a prefix that Bedrock takes (its names of files are narrower than those of S3).
BATCH_S3 = re.compile(r"s3://[a-z0-9][-.a-z0-9]{1,61}[a-z0-9](?:/[-!_*'().a-z0-9A-Z]+)*/?\Z")


AWS_CHOICES: Mapping[str, tuple[str, ...]] = {
    "service_tier": ("priority", "default", "flex", "reserved"),
    "latency": ("standard", "optimized"),
}

OWN_BODY = ("model", "messages", "input", "stream", "system", "instructions")

LONGEST = {"id": 64, "name": 80, "model": 300, "region": 64, "note": 500}

Fault = tuple[str, str]  # the field, and the rest of a sentence that starts with the deployment's name


def is_key_name(text: str) -> bool:
    """Is it the name of a variable, and not a key that was pasted in its place?"""
    # Names of variables are words joined by "_"; a long run without one is far more likely a key that was pasted.
    longest = max((len(run) for run in text.split("_")), default=0)
    if longest > LONGEST_WORD or not KEY_NAME.match(text):
        return False
    return not keys.LOOKS_LIKE_KEY.search(text) and text not in keys.known_values()


def title(name: Any) -> str:
    """A deployment's name in quotes for a sentence; "" when there is none or when it looks like a key."""
    if not isinstance(name, str) or not name.strip() or keys.scrub(name) != name:
        return ""
    return repr(name.strip()[: LONGEST["name"]])


def faults(d: Deployment, allow_private: Collection[str], key_hosts: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    """Everything that keeps ``d`` from being used, as (field, rest of the sentence); nothing when it is fine.

    ``allow_private`` as for `network.check_url`; ``key_hosts``: which hosts each key may be sent to.
    """
    yield from _texts(d)
    yield from _kind(d)
    yield from _address(d, allow_private)
    yield from _key(d, key_hosts)
    yield from _way_out(d)
    yield from _aws(d, key_hosts)
    yield from _request(d)
    yield from _numbers(d)


def _texts(d: Deployment) -> Iterator[Fault]:
    for field, longest in LONGEST.items():
        value = getattr(d, field) or ""
        if not value.strip() and field in ("id", "name", "model"):
            yield field, f"needs {field!r}."
        elif len(value) > longest or not value.isprintable():
            yield field, f"has a {field!r} that is longer than {longest} characters or not one plain line."
        elif keys.scrub(value) != value:
            yield field, f"has a {field!r} that looks like a key: name the variable that holds it in key_env."
    if not re.fullmatch(r"[a-z0-9]+(?:[-_.][a-z0-9]+)*", d.id):
        yield "id", "has an 'id' that is not made of a–z, 0–9 and single '-', '_' or '.' between them."
    for label in d.labels:
        if not label.strip() or len(label) > 24 or not label.isprintable():
            yield "labels", "has a label that is empty, longer than 24 characters or not one plain line."


def _kind(d: Deployment) -> Iterator[Fault]:
    kind = KINDS.get(d.kind)
    if kind is None:
        yield "kind", f"has an unknown kind {keys.scrub(d.kind)[:80]!r}; it can be {', '.join(KINDS)}."
    elif d.wire not in kind.wires:
        wires = ", ".join(kind.wires)
        yield "wire", f"has the wire {keys.scrub(d.wire)[:80]!r}; a deployment of kind {d.kind!r} can have {wires}."


def _address(d: Deployment, allow_private: Collection[str]) -> Iterator[Fault]:
    if d.base_url.startswith("embedded://"):
        if d.origin != "embedded":
            yield (
                "base_url",
                "has an embedded:// address, which only the deployments that come with the program can have.",
            )
        return
    try:
        parts = network.split_url(d.base_url)
        network.check_url(d.base_url, allow_private=allow_private)
    except network.Forbidden as error:
        yield "base_url", f"has an address that cannot be used. {error}"
        return
    if parts.query or parts.fragment:
        yield "base_url", "has a '?' or '#' in its address: give only the part before it."
    elif keys.scrub(d.base_url) != d.base_url:
        yield "base_url", "has an address that holds a key: name the variable that holds it in key_env."
    elif d.key_env and parts.scheme == "http" and d.origin != "file" and not _near(d.base_url):
        yield "base_url", "would send its key unencrypted: use https://."


def _near(base_url: str) -> bool:
    literal = network.literal_address(network.host_of(base_url))
    return network.host_of(base_url) == "localhost" or (literal is not None and literal.is_loopback)


def _key(d: Deployment, key_hosts: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    if d.key_env is None:
        return
    if not is_key_name(d.key_env):
        yield (
            "key_env",
            "has something else than a variable's name in 'key_env': put the key itself into the environment or "
            ".streamlit/secrets.toml, and its name here, for example OPENAI_API_KEY.",
        )
    elif d.base_url.startswith("embedded://"):
        yield "key_env", "is a server of this program, which needs no key: leave 'key_env' out."
    elif not keys.allowed_host(d.key_env, d.base_url, key_hosts):
        yield (
            "key_env",
            f'may not send {d.key_env} to its host: an administrator can allow it with hosts = ["…"] under '
            f"[keys.{d.key_env}] in deployments.toml.",
        )


def _way_out(d: Deployment) -> Iterator[Fault]:
    for name in ("proxy", "proxy_env", "ca_file"):
        value = getattr(d, name)
        if value is None:
            continue
        if d.origin != "file":
            yield name, f"sets {name!r}, which only deployments.toml can: an administrator decides the way out."
        elif not value.strip() or len(value) > LONGEST["model"] or not value.isprintable():
            yield name, f"has {name!r} as something else than one plain line."
    if d.origin != "file":
        return
    if d.proxy is not None and d.proxy_env is not None:
        yield "proxy_env", "has both 'proxy' and 'proxy_env': give one."
    if d.proxy_env is not None and not is_key_name(d.proxy_env):
        yield "proxy_env", "has something else than a variable's name in 'proxy_env', for example TEAM_PROXY."
    if d.proxy is None or d.proxy.lower() == outbound.NONE:
        return
    if "@" in d.proxy or keys.scrub(d.proxy) != d.proxy:
        yield (
            "proxy",
            "has a 'proxy' with a user name or a password: put it into a variable and name that in proxy_env.",
        )
        return
    try:
        outbound.proxy_of(d.proxy, "its 'proxy'")
    except outbound.ProxyTrouble as error:
        yield "proxy", f"cannot be called through its proxy: {error}."


def _aws(d: Deployment, key_hosts: Mapping[str, Sequence[str]]) -> Iterator[Fault]:
    if d.aws is None:
        if KINDS[d.kind].on_aws if d.kind in KINDS else False:
            yield "aws", "is on AWS and needs its 'aws' settings, if only an empty table."
        return
    if not d.region or not REGION.match(d.region):
        yield "region", "needs a 'region' of AWS, for example us-east-1."
    for name, value in dataclasses.asdict(d.aws).items():
        if value is None:
            continue
        if not value.strip() or len(value) > 200 or not value.isprintable():
            yield "aws", f"has {name!r} in 'aws' as something else than one plain line."
        elif keys.scrub(value) != value:
            yield "aws", f"has {name!r} in 'aws' that looks like a key: credentials come from the AWS configuration."
        elif value not in AWS_CHOICES.get(name, (value,)):
            yield "aws", f"has {name} = {value!r} in 'aws'; it can be {', '.join(AWS_CHOICES[name])}."
    if d.aws.guardrail is not None and not re.fullmatch(r"[^:\s]+(?::[^:\s]+)*:(?:DRAFT|\d{1,8})", d.aws.guardrail):
        yield "aws", "has a guardrail that is not written as identifier:version, for example abc123:1 or abc123:DRAFT."
    if d.aws.batch_role is not None and not ROLE.match(d.aws.batch_role):
        yield "aws", "has a batch_role that is not a role's ARN, for example arn:aws:iam::123456789012:role/batch."
    if d.aws.batch_s3 is not None and not BATCH_S3.match(d.aws.batch_s3):
        yield "aws", "has a batch_s3 that is not written as s3://bucket/prefix (letters, digits and -!_*'(). only)."
    at_home = d.origin == "file" or d.key_env is not None or on_amazon(d.base_url)
    if not at_home and not keys.allowed_host(AWS_KEYS, d.base_url, key_hosts):
        yield (
            "base_url",
            "would send AWS signatures to a host that is not AWS's: an administrator can allow it with "
            f'hosts = ["…"] under [keys.{AWS_KEYS}] in deployments.toml.',
        )


def _request(d: Deployment) -> Iterator[Fault]:
    for name, value in d.headers.items():
        if not HEADER_NAME.match(name) or not value.isascii() or not value.isprintable():
            yield "headers", f"has a header {keys.scrub(name)[:80]!r} that HTTP does not allow."
        elif SECRET_HEADER.search(name) or keys.scrub(value) != value or keys.scrub(name) != name:
            yield (
                "headers",
                f"has a header {keys.scrub(name)[:80]!r} that looks like a key: keys are not written here, name the "
                "variable that holds it in key_env.",
            )
    for name in OWN_BODY:
        if name in d.extra_body:
            yield "extra_body", f"sets {name!r} in 'extra_body', which the program fills in itself."
    try:
        body = json.dumps(dict(d.extra_body), allow_nan=False)
    except (TypeError, ValueError):
        yield "extra_body", "has something in 'extra_body' that JSON cannot hold."
    else:
        if keys.scrub(body) != body:
            yield "extra_body", "has something in 'extra_body' that looks like a key: name its variable in key_env."
    for name in d.params or ():
        if name not in PARAMS:
            yield "params", f"has an unknown parameter {keys.scrub(name)[:80]!r}; it can be {', '.join(PARAMS)}."


def _numbers(d: Deployment) -> Iterator[Fault]:
    for name, seconds in dataclasses.asdict(d.limits).items():
        if not math.isfinite(seconds) or not 0 < seconds <= 86_400:
            yield "limits", f"has the limit {name} = {seconds:g}: it has to be more than 0 and at most 86400 seconds."
    if d.context_tokens is not None and d.context_tokens < 1:
        yield "context_tokens", "has fewer than 1 context token."
    try:
        cost.check_price(d.price)
    except ValueError as error:
        yield "price", f"has a price that cannot be used: {error}."
