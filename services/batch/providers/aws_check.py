"""Whether a batch job of AWS's could be submitted, found out by looking only: credentials, bucket, role.

A sentence that begins with `UNSURE` says what could not be found out; all others would make a submit fail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from services.aws import control
from services.aws.explain import AwsTrouble, Place
from services.batch.providers import aws_s3
from services.batch.providers.aws import UNSURE

_UNKNOWN = ("denied", "throttled", "timeout", "unreachable", "failed")


def account(where: Place) -> tuple[str | None, list[str]]:
    """The account's number, and why nothing more can be asked."""
    try:
        return control.identity(where).account, []
    except AwsTrouble as error:
        if error.what in _UNKNOWN:
            return None, [f"{UNSURE}whose credentials these are. {error}"]
        return None, [str(error)]


def bucket(where: Place, batch_s3: str) -> Iterator[str]:
    """What is wrong with the bucket for batches."""
    name = aws_s3.parsed(batch_s3).bucket
    try:
        region = aws_s3.region_of(where, name)
    except AwsTrouble as error:
        if error.what == "not_found":
            yield f"There is no bucket {name}: make it in {where.region}, or correct batch_s3 in the AWS settings."
        elif error.what == "denied":
            needs = "s3:ListBucket, s3:GetObject and s3:PutObject"
            yield f"The bucket {name} belongs to others or may not be used: {where.words} needs {needs} there."
        else:
            yield f"{UNSURE}the bucket {name}. {error}"
        return
    if region is None:
        yield f"{UNSURE}in which region the bucket {name} is; it has to be in {where.region}."
    elif region != where.region:
        yield f"The bucket {name} is in {region} and the jobs run in {where.region}: name one in {where.region}."


def role(where: Place, arn: str, owner: str | None, service: str) -> Iterator[str]:
    """What is wrong with the role that ``service`` ("bedrock.amazonaws.com") is to take; ``owner``: our account."""
    theirs, name = arn.split(":")[4], arn.rpartition("/")[2]
    if owner is not None and theirs != owner:
        yield f"The role {name} belongs to the account {theirs} and the credentials to {owner}: name one of {owner}."
        return
    try:
        found = control.call("iam", where, lambda iam: iam.get_role(RoleName=name))["Role"]
    except AwsTrouble as error:
        if error.what == "not_found":
            yield f"The account has no role {name}: make it, or correct batch_role in the AWS settings."
        else:
            yield f"{UNSURE}the role {name} could not be checked. {error}"
        return
    if found.get("Arn") not in (None, arn):
        yield f"The role {name} is {found['Arn']}: write its ARN that way in batch_role."
    elif not _trusts(found.get("AssumeRolePolicyDocument"), service):
        yield f"The role {name} does not let {service} take it: allow sts:AssumeRole for it in the role's trust policy."


def _trusts(policy: Any, service: str) -> bool:
    """Whether a trust policy lets a service take the role; a policy that cannot be read is taken for one that does."""
    if not isinstance(policy, Mapping):
        return True
    statements = policy.get("Statement")
    for one in statements if isinstance(statements, list) else [statements]:
        if not isinstance(one, Mapping) or one.get("Effect") != "Allow":
            continue
        principal = one.get("Principal")
        named = principal.get("Service") if isinstance(principal, Mapping) else principal
        if named == "*" or service in (named if isinstance(named, list) else [named]):
            return True
    return False
