"""The form that adds or changes a deployment: it never takes a key, only the name of the variable that holds it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import streamlit as st

from app import session
from app.status import draw_refusal
from services import deployments, pricing
from services.deployment_rules import is_key_name
from services.domain import Deployment, PriceRef, Wire
from services.params import PARAMS
from services.providers import KINDS

PRICES = {"list": "Price list", "own": "Own price per 1M tokens", "hour": "Per hour", "none": "No price"}
RATE_LABELS = {
    "input": "Input", "cache_read": "Cache read", "cache_write_5m": "Cache write, 5 min",
    "cache_write_1h": "Cache write, 1 h", "output": "Output",
}  # fmt: skip
WIRE_WORDS = {"messages": "Messages", "responses": "Responses", "chat": "Chat completions"}
KEY_REFUSED = (
    "The key field takes the name of a variable, for example OPENAI_API_KEY, never a key: what was entered was thrown "
    "away. Put the key into the environment or .streamlit/secrets.toml."
)


def begin(prefix: str, deployment: Deployment | None) -> None:
    """Give the form's fields their first values: empty, or those of a deployment that is to be changed."""
    kind = KINDS[deployment.kind] if deployment else next(iter(KINDS.values()))
    first: dict[str, Any] = {
        "kind": kind.name, "name": "", "model": "", "base_url": "", "wire": kind.wires[0],
        "key_env": kind.default_key_env or "", "context": None, "params": [], "price": "list", "per_hour": "",
        "provider": "", "priced_as": "", **dict.fromkeys(pricing.RATE_NAMES, ""),
    }  # fmt: skip
    if deployment is not None:
        first |= _fields_of(deployment)
    for name, value in first.items():
        st.session_state.setdefault(prefix + name, value)


def _fields_of(d: Deployment) -> dict[str, Any]:
    price = d.price
    form = "own" if price.override else "hour" if price.per_hour is not None else "list" if price.model else "none"
    return {
        "name": d.name, "model": d.model, "base_url": d.base_url, "wire": d.wire, "key_env": d.key_env or "",
        "context": d.context_tokens, "params": list(d.params or ()), "price": form, "per_hour": price.per_hour or "",
        "provider": price.provider or "", "priced_as": price.model or "", **dict(price.override or {}),
    }  # fmt: skip


def draw(prefix: str, deployment: Deployment | None = None) -> None:
    """The form. ``prefix`` keeps the fields of two forms apart; ``deployment`` is what is changed, None adds one."""
    begin(prefix, deployment)
    kind = KINDS[st.session_state[prefix + "kind"]]
    with st.grid(2):
        st.selectbox(
            "Kind", list(KINDS), key=prefix + "kind", format_func=lambda k: KINDS[k].title, on_change=_new_kind,
            args=(prefix,), disabled=deployment is not None,
        )  # fmt: skip
        st.selectbox("Wire", kind.wires, key=prefix + "wire", format_func=lambda w: WIRE_WORDS.get(w, w))
        st.text_input("Name", key=prefix + "name", placeholder="Llama 8B on our server", on_change="ignore")
        st.text_input("Model", key=prefix + "model", placeholder="the name the service knows it by", on_change="ignore")
        st.text_input(
            "Base URL", key=prefix + "base_url", placeholder=kind.default_base_url or "https://host/v1",
            help="The address without the wire's own path. Private addresses only where deployments.toml allows them.",
            on_change="ignore",
        )  # fmt: skip
        st.text_input(
            "Name of the key's variable", key=prefix + "key_env",
            placeholder="none needed" if not kind.key_required else kind.default_key_env,
            help="The key itself stays in the environment or in .streamlit/secrets.toml; this page never sees it.",
            on_change="ignore",
        )  # fmt: skip
        st.number_input(
            "Context tokens", key=prefix + "context", value=None, min_value=1, step=1024, placeholder="not known",
            on_change="ignore",
        )  # fmt: skip
        st.multiselect(
            "Parameters it takes", list(PARAMS), key=prefix + "params", format_func=lambda p: PARAMS[p].label,
            placeholder="whatever the kind takes", on_change="ignore",
        )  # fmt: skip
    _draw_price(prefix)
    st.button(
        "Save changes" if deployment else "Add deployment", key=prefix + "save", type="primary",
        icon=":material/save:", on_click=_save, args=(prefix, deployment),
    )  # fmt: skip
    draw_refusal(prefix + "refusal")


def _draw_price(prefix: str) -> None:
    st.segmented_control(
        "Price", list(PRICES), key=prefix + "price", format_func=PRICES.__getitem__, required=True,
        help="A price list entry follows the list's dated snapshots; your own price or an hourly one is used as given. "
        "Without any, costs say “no price”.",
    )  # fmt: skip
    form = st.session_state[prefix + "price"]
    if form == "own":
        with st.grid(len(RATE_LABELS)):
            for name, label in RATE_LABELS.items():
                st.text_input(f"{label}, $", key=prefix + name, on_change="ignore", persist_state="page")
    elif form == "hour":
        st.text_input("US dollars per hour of being on", key=prefix + "per_hour", on_change="ignore",
                      persist_state="page")  # fmt: skip
    elif form == "list":
        with st.grid(2):
            st.text_input("Provider in the price list", key=prefix + "provider", placeholder="anthropic, openai, aws …",
                          on_change="ignore", persist_state="page")  # fmt: skip
            st.text_input("Model in the price list", key=prefix + "priced_as", placeholder="the same as the model",
                          on_change="ignore", persist_state="page")  # fmt: skip


def _new_kind(prefix: str) -> None:
    kind = KINDS[st.session_state[prefix + "kind"]]
    st.session_state[prefix + "wire"] = kind.wires[0]
    st.session_state[prefix + "key_env"] = kind.default_key_env or ""


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
        deployments.validate(made, session.sources.config())
        saved = session.engine().save_deployment(made if before else replace(made, id=""))
    except (ValueError, session.EngineError) as error:
        state[prefix + "refusal"] = str(error)
        return
    for name in [n for n in list(state) if str(n).startswith(prefix)]:
        del state[name]
    state["dp_said"] = f"{saved.name} is saved. Test it to see whether it answers."
    state.pop("dp_editing", None)


def build(fields: Mapping[str, Any], before: Deployment | None) -> Deployment:
    """The deployment that the fields describe. Raises ValueError in words when a number is none."""
    kind = KINDS[fields["kind"]]
    name = str(fields.get("name") or "").strip()
    model = str(fields.get("model") or "").strip()
    base_url = str(fields.get("base_url") or "").strip().rstrip("/") or kind.default_base_url or ""
    for label, value in (("name", name), ("model", model), ("base URL", base_url)):
        if not value:
            raise ValueError(f"The {label} is missing: fill it in and save again.")
    start = before or Deployment(
        id=deployments.slug(name, ()), name=name, kind=kind.name, model=model, base_url=base_url, origin="page"
    )
    return replace(
        start,
        name=name, model=model, base_url=base_url, wire=cast(Wire, fields["wire"]),
        key_env=str(fields.get("key_env") or "").strip() or None,
        context_tokens=fields.get("context"), params=tuple(fields.get("params") or ()) or None,
        price=price_of(fields, kind_name=kind.name, model=model),
    )  # fmt: skip


def price_of(fields: Mapping[str, Any], *, kind_name: str, model: str) -> PriceRef:
    """The price that the fields describe. Raises ValueError in words."""
    form = fields.get("price")
    if form == "own":
        rates = {n: str(fields.get(n) or "").strip().removeprefix("$") for n in pricing.RATE_NAMES}
        given = {name: value for name, value in rates.items() if value}
        if not given:
            raise ValueError("The own price is empty: give at least the price of input and of output.")
        return PriceRef(override=given)
    if form == "hour":
        per_hour = str(fields.get("per_hour") or "").strip().removeprefix("$")
        if not per_hour:
            raise ValueError("The price per hour is empty: give US dollars, or 0 for a machine that costs nothing.")
        return PriceRef(per_hour=per_hour)
    if form == "list":
        provider = str(fields.get("provider") or "").strip() or (kind_name if kind_name in PROVIDERS else "")
        return PriceRef(provider=provider, model=str(fields.get("priced_as") or "").strip() or model) if provider \
            else PriceRef()  # fmt: skip
    return PriceRef()


PROVIDERS = frozenset({"anthropic", "openai"})
