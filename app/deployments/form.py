"""The form that adds or changes a deployment: it never takes a key, only the name of the variable that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import streamlit as st

from app import auth
from app.deployments import form_aws as aws_form
from app.deployments import form_price as price_form
from app.deployments.form_price import RATE_LABELS, price_of
from app.widgets.status import draw_refusal
from services.deployments import config
from services.deployments.validation import is_key_name
from services.params import PARAMS
from services.providers import KINDS
from services.providers.base import Kind
from services.types import Deployment, Wire

__all__ = ["RATE_LABELS", "WIRE_WORDS", "begin", "build", "draw", "price_of"]

WIRE_WORDS = {
    "messages": "Messages", "responses": "Responses", "chat": "Chat completions", "converse": "Converse",
    "invoke": "InvokeModel", "tgi": "TGI", "lines": "JSON lines",
}  # fmt: skip
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
        "kind": kind.name, "name": "", "model": "", "base_url": "", "wire": kind.wires[0],
        "key_env": kind.default_key_env or "", "context": None, "params": [], **price_form.EMPTY, **aws_form.EMPTY,
    }  # fmt: skip
    if deployment is not None:
        first |= _fields_of(deployment)
    for name, value in first.items():
        st.session_state.setdefault(prefix + name, value)


def _fields_of(d: Deployment) -> dict[str, Any]:
    own = "" if d.base_url == _home(KINDS[d.kind], d.region) and d.aws is not None else d.base_url
    return {
        "name": d.name, "model": d.model, "base_url": own, "wire": d.wire, "key_env": d.key_env or "",
        "context": d.context_tokens, "params": list(d.params or ()), **price_form.fields_of(d.price),
        **aws_form.fields_of(d),
    }  # fmt: skip


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
            "Kind", list(KINDS), key=prefix + "kind", format_func=lambda k: KINDS[k].title, on_change=_new_kind,
            args=(prefix,), disabled=deployment is not None,
        )  # fmt: skip
        st.selectbox("Wire", kind.wires, key=prefix + "wire", format_func=lambda w: WIRE_WORDS.get(w, w))
        st.text_input("Name", key=prefix + "name", placeholder="Llama 8B on our server", on_change="ignore")
        st.text_input(label, key=prefix + "model", placeholder=example, on_change="ignore")
        _draw_address(prefix, kind)
        st.number_input(
            "Context tokens", key=prefix + "context", value=None, min_value=1, step=1024, placeholder="not known",
            on_change="ignore",
        )  # fmt: skip
        st.multiselect(
            "Parameters it takes", list(PARAMS), key=prefix + "params", format_func=lambda p: PARAMS[p].label,
            placeholder="whatever the kind takes", on_change="ignore",
        )  # fmt: skip
    aws_form.draw(prefix, kind)
    price_form.draw(prefix, kind.name)
    st.button(
        "Save changes" if deployment else "Add deployment", key=prefix + "save", type="primary",
        icon=":material/save:", on_click=_save, args=(prefix, deployment),
    )  # fmt: skip
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
        "Name of the key's variable", key=prefix + "key_env", placeholder=key_example,
        help="The key itself stays in the environment or in .streamlit/secrets.toml; this page never sees it.",
        on_change="ignore",
    )  # fmt: skip


def _new_kind(prefix: str) -> None:
    kind = KINDS[st.session_state[prefix + "kind"]]
    st.session_state[prefix + "wire"] = kind.wires[0]
    st.session_state[prefix + "key_env"] = kind.default_key_env or ""
    st.session_state[prefix + "price"] = price_form.first_form(kind.name)


def _save(prefix: str, before: Deployment | None) -> None:
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
        made = build(typed, before)
        config.validate(made, auth.sources.config())
        saved = auth.engine().save_deployment(made if before else replace(made, id=""))
    except (ValueError, auth.EngineError) as error:
        state[prefix + "refusal"] = str(error)
        return
    for name in [n for n in list(state) if str(n).startswith(prefix)]:
        del state[name]
    state["dp_said"] = f"{saved.name} is saved. Test it to see whether it answers."
    state.pop("dp_editing", None)


def build(fields: Mapping[str, Any], before: Deployment | None) -> Deployment:
    """The deployment that the fields describe. Raises ValueError in words when something is missing or no number."""
    kind = KINDS[fields["kind"]]
    name = str(fields.get("name") or "").strip()
    model = str(fields.get("model") or "").strip()
    aws, region = aws_form.aws_of(fields, kind)
    base_url = str(fields.get("base_url") or "").strip().rstrip("/") or _home(kind, region)
    for label, value in (("name", name), (MISSING.get(kind.name, "model"), model), ("base URL", base_url)):
        if not value:
            raise ValueError(f"The {label} is missing: fill it in and save again.")
    start = before or Deployment(
        id=config.slug(name, ()), name=name, kind=kind.name, model=model, base_url=base_url, origin="page"
    )
    return replace(
        start,
        name=name, model=model, base_url=base_url, wire=cast(Wire, fields["wire"]), region=region, aws=aws,
        key_env=str(fields.get("key_env") or "").strip() or None,
        context_tokens=fields.get("context"), params=tuple(fields.get("params") or ()) or None,
        price=price_of(fields, kind_name=kind.name, model=model),
    )  # fmt: skip
