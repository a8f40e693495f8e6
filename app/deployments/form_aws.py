"""What a deployment on AWS needs beside the rest: region, profile, tier, guardrail, the endpoint's parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from services.aws.credentials import region_of
from services.deployments.validation import AWS_CHOICES
from services.providers.base import Kind
from services.types import Aws, Deployment

EMPTY: Mapping[str, Any] = {
    "signed": False, "region": "", "profile": "", "service_tier": None, "latency": None, "guardrail": "",
    "component": "", "variant": "", "serves": "", "batch_role": "", "batch_s3": "",
}  # fmt: skip
TIERS = {
    "priority": "Priority: before the others, at a higher price", "default": "Default",
    "flex": "Flex: cheaper, may wait", "reserved": "Reserved: capacity agreed with AWS",
}  # fmt: skip
LATENCIES = {"standard": "Standard", "optimized": "Latency-optimised, where the model offers it"}
SERVES = {
    "bedrock": "only when the model is given as an ARN",
    "bedrock-provisioned": "anthropic.claude-…, the model the units were bought for",
    "sagemaker": "only when the container serves several",
}
NAMES: Mapping[str, tuple[str, ...]] = {
    "bedrock": ("profile", "service_tier", "latency", "guardrail", "serves", "batch_role", "batch_s3"),
    "bedrock-provisioned": ("profile", "latency", "guardrail", "serves"),
    "sagemaker": ("profile", "component", "variant", "serves", "batch_s3"),
}


def fields_of(d: Deployment) -> dict[str, Any]:
    """The form's fields for a deployment; `aws_of` makes the same settings of them again."""
    aws = d.aws or Aws()
    return {
        "signed": d.aws is not None, "region": d.region or "", "profile": aws.profile or "",
        "service_tier": aws.service_tier, "latency": aws.latency, "guardrail": aws.guardrail or "",
        "component": aws.component or "", "variant": aws.variant or "", "serves": aws.serves or "",
        "batch_role": aws.batch_role or "", "batch_s3": aws.batch_s3 or "",
    }  # fmt: skip


def on_aws(fields: Mapping[str, Any], kind: Kind) -> bool:
    """Whether the fields describe a deployment that is signed for."""
    return kind.on_aws or bool(fields.get("signed"))


def names(kind: Kind) -> tuple[str, ...]:
    """The fields of `Aws` that mean something for a kind."""
    return NAMES.get(kind.name, ("profile", "service_tier"))


def draw(prefix: str, kind: Kind) -> None:
    """The fields of one kind."""
    if not kind.on_aws:
        st.toggle(
            "Sign the calls with AWS credentials", key=prefix + "signed", persist_state="page",
            help="For Bedrock's endpoints that speak OpenAI's or Anthropic's wire. The credentials come from the "
            "ordinary AWS configuration of the machine that runs the engine.",
        )  # fmt: skip
    if not on_aws({"signed": st.session_state.get(prefix + "signed")}, kind):
        return
    shown = names(kind)
    with st.grid(2):
        _text("AWS region", prefix + "region", "us-east-1; empty: AWS_REGION, or the profile's")
        _text(
            "AWS profile", prefix + "profile", "empty: the ordinary chain",
            help="A profile of the AWS configuration where the engine runs. Empty: environment, role or SSO, as usual.",
        )  # fmt: skip
        if "service_tier" in shown:
            _choice("Service tier", prefix, "service_tier", TIERS)
        if "latency" in shown:
            _choice("Latency", prefix, "latency", LATENCIES)
        if "guardrail" in shown:
            _text("Guardrail", prefix + "guardrail", "identifier:version, for example abc123:1",
                  help="When it steps in, the call ends as “guardrail”, an outcome of its own.")  # fmt: skip
        if "serves" in shown:
            _text(
                "Model behind it", prefix + "serves", SERVES[kind.name],
                help="An ARN or an endpoint does not say which model it serves; what can be sent depends on it.",
            )  # fmt: skip
        if "component" in shown:
            _text("Inference component", prefix + "component", "only for endpoints that hold several models")
            _text("Variant", prefix + "variant", "empty: as the endpoint routes")
        if "batch_s3" in shown:
            _text(
                "S3 for batches", prefix + "batch_s3", "s3://bucket/prefix; empty: no batch jobs of AWS's",
                help="Where the files of batch jobs are put, in the region above. Without it batches are sent one by "
                "one, at the full price.",
            )  # fmt: skip
        if "batch_role" in shown:
            _text(
                "Role for batches", prefix + "batch_role", "arn:aws:iam::123456789012:role/batch",
                help="The role that Bedrock reads and writes those files with: it trusts bedrock.amazonaws.com, and "
                "the credentials above may pass it on (iam:PassRole).",
            )  # fmt: skip


def _text(label: str, key: str, placeholder: str, help: str | None = None) -> None:
    st.text_input(label, key=key, placeholder=placeholder, help=help, on_change="ignore", persist_state="page")


def _choice(label: str, prefix: str, name: str, words: Mapping[str, str]) -> None:
    st.selectbox(
        label, AWS_CHOICES[name], index=None, key=prefix + name, format_func=lambda one: words.get(one, one),
        placeholder="not asked for", on_change="ignore", persist_state="page",
    )  # fmt: skip


def aws_of(fields: Mapping[str, Any], kind: Kind) -> tuple[Aws | None, str | None]:
    """The AWS settings and the region that the fields describe. Raises ValueError in words when no region is known."""
    if not on_aws(fields, kind):
        return None, str(fields.get("region") or "").strip() or None
    given = {name: str(fields.get(name) or "").strip() or None for name in names(kind)}
    aws = Aws(**given)
    region = region_of(str(fields.get("region") or "").strip() or None, aws.profile)
    if region is None:
        raise ValueError("The region is missing: write one, for example us-east-1, and save again.")
    return aws, region
