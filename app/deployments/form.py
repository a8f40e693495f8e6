"""The form that adds or changes a deployment: it never takes a key, only the name of the variable that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import streamlit as st

from app import auth, glossary
from app.widgets.status import draw_refusal
from services.aws.credentials import region_of
from services.deployments import config
from services.deployments.validation import AWS_CHOICES, is_key_name
from services.params import PARAMS
from services.pricing import cost
from services.providers import KINDS
from services.providers.base import Kind
from services.types import Aws, Deployment, PriceRef, Wire

# What the field of the model takes, where it is not simply the model's name.
MODEL_WORDS = {
    "bedrock": ("Model", "anthropic.claude-… or an inference profile, us.anthropic.claude-…"),
    "bedrock-provisioned": ("ARN of the provisioned throughput", "arn:aws:bedrock:us-east-1:…:provisioned-model/…"),
    "sagemaker": ("Endpoint name", "as SageMaker lists it"),
}


MISSING = {"bedrock-provisioned": "ARN of the provisioned throughput", "sagemaker": "endpoint name"}

KEY_REFUSED = (
    "The key field takes the name of a variable, for example OPENAI_API_KEY, never a key: what was entered was thrown "
    "away. Put the key into the environment or .streamlit/secrets.toml."
)


def begin(prefix: str, deployment: Deployment | None) -> None:
    """Give the form's fields their first values: empty, or those of a deployment that is to be changed."""
    kind = KINDS[deployment.kind] if deployment else next(iter(KINDS.values()))
    first: dict[str, Any] = {
        "kind": kind.name,
        "name": "",
        "model": "",
        "base_url": "",
        "wire": kind.wires[0],
        "key_env": kind.default_key_env or "",
        "context": None,
        "params": [],
        **EMPTY_PRICE,
        **EMPTY_AWS,
    }
    if deployment is not None:
        first |= _fields_of(deployment)
    for name, value in first.items():
        st.session_state.setdefault(prefix + name, value)


def _fields_of(d: Deployment) -> dict[str, Any]:
    own = "" if d.base_url == _home(KINDS[d.kind], d.region) and d.aws is not None else d.base_url
    return {
        "name": d.name,
        "model": d.model,
        "base_url": own,
        "wire": d.wire,
        "key_env": d.key_env or "",
        "context": d.context_tokens,
        "params": list(d.params or ()),
        **price_fields(d.price),
        **aws_fields(d),
    }


def _home(kind: Kind, region: str | None) -> str:
    """A kind's own address; "" where it has none."""
    return (kind.default_base_url or "").replace("{region}", region or "").rstrip("/")


def draw(prefix: str, deployment: Deployment | None = None) -> None:
    """The form. ``prefix`` keeps the fields of two forms apart; ``deployment`` is what is changed, None adds one."""
    begin(prefix, deployment)
    kind = KINDS[st.session_state[prefix + "kind"]]
    label, example = MODEL_WORDS.get(kind.name, ("Model", "the name the service knows it by"))
    with st.grid(2):
        st.selectbox(
            "Kind",
            list(KINDS),
            key=prefix + "kind",
            format_func=lambda k: KINDS[k].title,
            on_change=_new_kind,
            args=(prefix,),
            disabled=deployment is not None,
        )
        st.selectbox("Wire", kind.wires, key=prefix + "wire", format_func=lambda w: glossary.WIRE_WORDS.get(w, w))
        st.text_input("Name", key=prefix + "name", placeholder="Llama 8B on our server", on_change="ignore")
        st.text_input(label, key=prefix + "model", placeholder=example, on_change="ignore")
        _draw_address(prefix, kind)
        st.number_input(
            "Context tokens",
            key=prefix + "context",
            value=None,
            min_value=1,
            step=1024,
            placeholder="not known",
            on_change="ignore",
        )
        st.multiselect(
            "Parameters it takes",
            list(PARAMS),
            key=prefix + "params",
            format_func=lambda p: PARAMS[p].label,
            placeholder="whatever the kind takes",
            on_change="ignore",
        )
    draw_aws(prefix, kind)
    draw_price(prefix, kind.name)
    st.button(
        "Save changes" if deployment else "Add deployment",
        key=prefix + "save",
        type="primary",
        icon=":material/save:",
        on_click=_save,
        args=(prefix, deployment),
    )
    draw_refusal(prefix + "refusal")


def _draw_address(prefix: str, kind: Kind) -> None:
    if kind.on_aws:
        label, example = "Endpoint URL", "empty: AWS's own in the region"
        help = (
            "Only for a VPC endpoint or a proxy of yours: hosts that are not AWS's need [keys.AWS] in deployments.toml."
        )
        key_example = "empty: AWS credentials; or AWS_BEARER_TOKEN_BEDROCK"
    else:
        label, example = "Base URL", kind.default_base_url or "https://host/v1"
        if st.session_state.get(prefix + "signed"):
            example = "https://bedrock-mantle.us-east-1.api.aws/v1"
        help = "The address without the wire's own path. Private addresses only where deployments.toml allows them."
        key_example = "none needed" if not kind.key_required else kind.default_key_env or ""
    st.text_input(label, key=prefix + "base_url", placeholder=example, help=help, on_change="ignore")
    if kind.name == "sagemaker":  # it takes signatures only
        return
    st.text_input(
        "Name of the key's variable",
        key=prefix + "key_env",
        placeholder=key_example,
        help="The key itself stays in the environment or in .streamlit/secrets.toml; this page never sees it.",
        on_change="ignore",
    )


def _new_kind(prefix: str) -> None:
    kind = KINDS[st.session_state[prefix + "kind"]]
    st.session_state[prefix + "wire"] = kind.wires[0]
    st.session_state[prefix + "key_env"] = kind.default_key_env or ""
    st.session_state[prefix + "price"] = first_form(kind.name)


def _save(prefix: str, existing: Deployment | None) -> None:
    """Callback: check, save, and clear the form. A refusal is one sentence and leaves what was typed, but for a key."""
    state = st.session_state
    state.pop(prefix + "refusal", None)
    key_env = str(state.get(prefix + "key_env") or "").strip()
    if key_env and not is_key_name(key_env):
        state[prefix + "key_env"] = ""
        state[prefix + "refusal"] = KEY_REFUSED
        return
    try:
        typed = {str(n).removeprefix(prefix): state[n] for n in list(state) if str(n).startswith(prefix)}
        deployment = build(typed, existing)
        config.validate(deployment, auth.sources.config())
        saved = auth.engine().save_deployment(deployment if existing else replace(deployment, id=""))
    except (ValueError, auth.EngineError) as error:
        state[prefix + "refusal"] = str(error)
        return
    for name in [n for n in list(state) if str(n).startswith(prefix)]:
        del state[name]
    state["dp_said"] = f"{saved.name} is saved. Test it to see whether it answers."
    state.pop("dp_editing", None)


def build(fields: Mapping[str, Any], existing: Deployment | None) -> Deployment:
    """The deployment that the fields describe. Raises ValueError in words when something is missing or no number."""
    kind = KINDS[fields["kind"]]
    name = str(fields.get("name") or "").strip()
    model = str(fields.get("model") or "").strip()
    aws, region = aws_of(fields, kind)
    base_url = str(fields.get("base_url") or "").strip().rstrip("/") or _home(kind, region)
    for label, value in (("name", name), (MISSING.get(kind.name, "model"), model), ("base URL", base_url)):
        if not value:
            raise ValueError(f"The {label} is missing: fill it in and save again.")
    start = existing or Deployment(
        id=config.slug(name, ()), name=name, kind=kind.name, model=model, base_url=base_url, origin="page"
    )
    return replace(
        start,
        name=name,
        model=model,
        base_url=base_url,
        wire=cast(Wire, fields["wire"]),
        region=region,
        aws=aws,
        key_env=str(fields.get("key_env") or "").strip() or None,
        context_tokens=fields.get("context"),
        params=tuple(fields.get("params") or ()) or None,
        price=price_of(fields, kind_name=kind.name, model=model),
    )


PRICES = {"list": "Price list", "own": "Own price per 1M tokens", "hour": "Per hour", "none": "No price"}

RATE_LABELS = {
    "input": "Input",
    "cache_read": "Cache read",
    "cache_write_5m": "Cache write, 5 min",
    "cache_write_1h": "Cache write, 1 h",
    "output": "Output",
}

EMPTY_PRICE: Mapping[str, Any] = {
    "price": "list",
    "per_hour": "",
    "instance": "",
    "count": 1,
    "provider": "",
    "priced_as": "",
    **dict.fromkeys(cost.RATE_NAMES, ""),
}


# The table of the price list that a kind's models stand in, when the form names none.
PROVIDERS: Mapping[str, str] = {"anthropic": "anthropic", "openai": "openai", "bedrock": "aws"}


HOURLY_KINDS = frozenset({"bedrock-provisioned", "sagemaker"})


def price_fields(price: PriceRef) -> dict[str, Any]:
    """The form's fields for a price; `price_of` makes the same price of them again."""
    hourly = price.per_hour is not None or price.instance is not None
    listed = price.provider or price.model
    return {
        "price": "own" if price.override else "hour" if hourly else "list" if listed else "none",
        "per_hour": price.per_hour or "",
        "instance": price.instance or "",
        "count": price.count,
        "provider": price.provider or "",
        "priced_as": price.model or "",
        **dict(price.override or {}),
    }


def first_form(kind_name: str) -> str:
    """The form of price that a kind usually has."""
    return "hour" if kind_name in HOURLY_KINDS else "list"


def draw_price(prefix: str, kind_name: str) -> None:
    """The choice of form and its fields."""
    st.segmented_control(
        "Price",
        list(PRICES),
        key=prefix + "price",
        format_func=PRICES.__getitem__,
        required=True,
        help="A price list entry follows the list's dated snapshots; your own price or an hourly one is used as given. "
        "Without any, costs say “no price”.",
    )
    form = st.session_state[prefix + "price"]
    if form == "own":
        with st.grid(len(RATE_LABELS)):
            for name, label in RATE_LABELS.items():
                _text(f"{label}, $", prefix + name)
    elif form == "hour":
        _draw_hour(prefix, kind_name)
    elif form == "list":
        with st.grid(2):
            _text(
                "Provider in the price list", prefix + "provider", PROVIDERS.get(kind_name, "anthropic, openai, aws …")
            )
            _text("Model in the price list", prefix + "priced_as", "the same as the model")


def _draw_hour(prefix: str, kind_name: str) -> None:
    units = "Model units" if kind_name == "bedrock-provisioned" else "How many instances"
    with st.grid(2 if kind_name == "bedrock-provisioned" else 3):
        if kind_name != "bedrock-provisioned":
            _text(
                "Instance type",
                prefix + "instance",
                "ml.g5.xlarge" if kind_name == "sagemaker" else "g5.xlarge",
                help="Its price is looked up in the dated file of instance prices; “ml.” types are SageMaker's. Leave "
                "it empty to give a price of your own (spot, a contract, your own machine).",
            )
        _text("US dollars per hour of one being on", prefix + "per_hour", "own price; 0 costs nothing")
        st.number_input(
            units,
            key=prefix + "count",
            min_value=1,
            step=1,
            on_change="ignore",
            persist_state="page",
            help="All of them are paid for by the hour, whether they are used or not.",
        )


def _text(label: str, key: str, placeholder: str | None = None, help: str | None = None) -> None:
    st.text_input(label, key=key, placeholder=placeholder, help=help, on_change="ignore", persist_state="page")


def price_of(fields: Mapping[str, Any], *, kind_name: str, model: str) -> PriceRef:
    """The price that the fields describe. Raises ValueError in words."""
    form = fields.get("price")
    if form == "own":
        rates = {name: value for name in cost.RATE_NAMES if (value := _amount(fields, name))}
        if not rates:
            raise ValueError("The own price is empty: give at least the price of input and of output.")
        return PriceRef(override=rates)
    if form == "hour":
        return _by_the_hour(fields, kind_name)
    if form == "list":
        provider = str(fields.get("provider") or "").strip() or PROVIDERS.get(kind_name, "")
        return (
            PriceRef(provider=provider, model=str(fields.get("priced_as") or "").strip() or model)
            if provider
            else PriceRef()
        )
    return PriceRef()


def _amount(fields: Mapping[str, Any], name: str) -> str:
    return str(fields.get(name) or "").strip().removeprefix("$")


def _by_the_hour(fields: Mapping[str, Any], kind_name: str) -> PriceRef:
    per_hour, count = _amount(fields, "per_hour"), int(fields.get("count") or 1)
    instance = "" if kind_name == "bedrock-provisioned" else str(fields.get("instance") or "").strip()
    if per_hour and instance:
        raise ValueError("The price is given twice: leave either the instance type or your own price per hour empty.")
    if not per_hour and not instance:
        raise ValueError("The price per hour is empty: give US dollars, or 0 for a machine that costs nothing.")
    return PriceRef(instance=instance, count=count) if instance else PriceRef(per_hour=per_hour, count=count)


EMPTY_AWS: Mapping[str, Any] = {
    "signed": False,
    "region": "",
    "profile": "",
    "service_tier": None,
    "latency": None,
    "guardrail": "",
    "component": "",
    "variant": "",
    "serves": "",
    "batch_role": "",
    "batch_s3": "",
}

TIERS = {
    "priority": "Priority: before the others, at a higher price",
    "default": "Default",
    "flex": "Flex: cheaper, may wait",
    "reserved": "Reserved: capacity agreed with AWS",
}

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


def aws_fields(d: Deployment) -> dict[str, Any]:
    """The form's fields for a deployment; `aws_of` makes the same settings of them again."""
    aws = d.aws or Aws()
    return {
        "signed": d.aws is not None,
        "region": d.region or "",
        "profile": aws.profile or "",
        "service_tier": aws.service_tier,
        "latency": aws.latency,
        "guardrail": aws.guardrail or "",
        "component": aws.component or "",
        "variant": aws.variant or "",
        "serves": aws.serves or "",
        "batch_role": aws.batch_role or "",
        "batch_s3": aws.batch_s3 or "",
    }


def on_aws(fields: Mapping[str, Any], kind: Kind) -> bool:
    """Whether the fields describe a deployment that is signed for."""
    return kind.on_aws or bool(fields.get("signed"))


def names(kind: Kind) -> tuple[str, ...]:
    """The fields of `Aws` that mean something for a kind."""
    return NAMES.get(kind.name, ("profile", "service_tier"))


def draw_aws(prefix: str, kind: Kind) -> None:
    """The fields of one kind."""
    if not kind.on_aws:
        st.toggle(
            "Sign the calls with AWS credentials",
            key=prefix + "signed",
            persist_state="page",
            help="For Bedrock's endpoints that speak OpenAI's or Anthropic's wire. The credentials come from the "
            "ordinary AWS configuration of the machine that runs the engine.",
        )
    if not on_aws({"signed": st.session_state.get(prefix + "signed")}, kind):
        return
    field_names = names(kind)
    with st.grid(2):
        _aws_text("AWS region", prefix + "region", "us-east-1; empty: AWS_REGION, or the profile's")
        _aws_text(
            "AWS profile",
            prefix + "profile",
            "empty: the ordinary chain",
            help="A profile of the AWS configuration where the engine runs. Empty: environment, role or SSO, as usual.",
        )
        if "service_tier" in field_names:
            _choice("Service tier", prefix, "service_tier", TIERS)
        if "latency" in field_names:
            _choice("Latency", prefix, "latency", LATENCIES)
        if "guardrail" in field_names:
            _aws_text(
                "Guardrail",
                prefix + "guardrail",
                "identifier:version, for example abc123:1",
                help="When it steps in, the call ends as “guardrail”, an outcome of its own.",
            )
        if "serves" in field_names:
            _aws_text(
                "Model behind it",
                prefix + "serves",
                SERVES[kind.name],
                help="An ARN or an endpoint does not say which model it serves; what can be sent depends on it.",
            )
        if "component" in field_names:
            _aws_text("Inference component", prefix + "component", "only for endpoints that hold several models")
            _aws_text("Variant", prefix + "variant", "empty: as the endpoint routes")
        if "batch_s3" in field_names:
            _aws_text(
                "S3 for batches",
                prefix + "batch_s3",
                "s3://bucket/prefix; empty: no batch jobs of AWS's",
                help="Where the files of batch jobs are put, in the region above. Without it batches are sent one by "
                "one, at the full price.",
            )
        if "batch_role" in field_names:
            _aws_text(
                "Role for batches",
                prefix + "batch_role",
                "arn:aws:iam::123456789012:role/batch",
                help="The role that Bedrock reads and writes those files with: it trusts bedrock.amazonaws.com, and "
                "the credentials above may pass it on (iam:PassRole).",
            )


def _aws_text(label: str, key: str, placeholder: str, help: str | None = None) -> None:
    st.text_input(label, key=key, placeholder=placeholder, help=help, on_change="ignore", persist_state="page")


def _choice(label: str, prefix: str, name: str, words: Mapping[str, str]) -> None:
    st.selectbox(
        label,
        AWS_CHOICES[name],
        index=None,
        key=prefix + name,
        format_func=lambda choice: words.get(choice, choice),
        placeholder="not asked for",
        on_change="ignore",
        persist_state="page",
    )


def aws_of(fields: Mapping[str, Any], kind: Kind) -> tuple[Aws | None, str | None]:
    """The AWS settings and the region that the fields describe. Raises ValueError in words when no region is known."""
    if not on_aws(fields, kind):
        return None, str(fields.get("region") or "").strip() or None
    settings = {name: str(fields.get(name) or "").strip() or None for name in names(kind)}
    aws = Aws(**settings)
    region = region_of(str(fields.get("region") or "").strip() or None, aws.profile)
    if region is None:
        raise ValueError("The region is missing: write one, for example us-east-1, and save again.")
    return aws, region
