"""Which account and region the page looks at, and whose credentials the engine uses there. Never a key."""

from __future__ import annotations

import streamlit as st

from app import auth
from app.capacity import account as look
from app.widgets.status import attempt
from app.widgets.text import plain

DEFAULT = "default chain"
REFUSAL = "cap_refresh_refusal"


def draw() -> look.Seen | None:
    """The choice of profile and region, part of the page's address; what was found there, or None without a region."""
    profile = _profile_in_address()
    try:
        places = auth.engine().aws(profile).places()
    except auth.EngineError as error:
        st.warning(plain(error), icon=":material/link_off:")
        return None
    # An own profile called “default” is what the chain takes by itself; listing it twice would only confuse.
    names = [DEFAULT, *(name for name in places.profiles if name != "default")]
    regions = list(dict.fromkeys([*([places.region] if places.region else []), *places.regions]))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "AWS profile", names, key="profile", bind="query-params", width=260,
            help="The profiles of the AWS configuration where the engine runs. The default chain is what every AWS "
            "tool takes: environment, default profile, SSO, the role of the machine.",
        )  # fmt: skip
        region = st.selectbox(
            "Region", regions, index=0 if places.region else None, key="region", bind="query-params", width=220,
            accept_new_options=True, placeholder="Choose a region",
        )  # fmt: skip
        st.button(
            "Look again", key="cap_again", icon=":material/refresh:", on_click=_look_again,
            help="Asks AWS anew, and reads the credentials anew: after a sign-in, for instance.",
        )  # fmt: skip
    if region is None:
        st.caption("Choose a region: no profile, variable or setting names one.")
        return None
    seen = look.now(None if chosen in (None, DEFAULT) else chosen, str(region))
    _draw_who(seen)
    return seen


def _profile_in_address() -> str | None:
    named = st.session_state.get("profile", st.query_params.get("profile"))
    return None if named in (None, "", DEFAULT) else str(named)


def _look_again() -> None:
    look.forget()
    attempt(REFUSAL, lambda: auth.engine().aws().refresh())


def _draw_who(seen: look.Seen) -> None:
    when = f"seen at {seen.at:%H:%M:%S} UTC"
    if seen.who is not None:
        st.caption(f"Account {plain(seen.who.account)} · {plain(seen.who.arn)} · {when}")
        return
    said = seen.troubles.get("who", "")
    if said and said not in [text for name, text in seen.troubles.items() if name != "who"]:
        st.caption(f":orange[:material/warning: {plain(said)}] · {when}")
    else:
        st.caption(f"The account is not known · {when}")


def draw_trouble(seen: look.Seen, part: str) -> bool:
    """Why a part could not be read, once for parts that failed alike. True when it failed."""
    said = seen.troubles.get(part)
    if said is None:
        return False
    shared = [name for name in ("provisioned", "endpoints") if seen.troubles.get(name) == said]
    if shared and part != shared[0]:
        st.caption("Not known, for the reason above.")
    else:
        st.warning(plain(said), icon=":material/error:")
    return True
