"""Which account and region the capacity page looks at, what was seen there, which dialog is open, and prices in
words."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import streamlit as st

from app import auth
from app.widgets.status import attempt
from app.widgets.text import plain
from services.aws.control import Identity, Model
from services.aws.instances import HOURS_A_MONTH, HourRate, a_month
from services.aws.provisioned import Commitment, ProvisionedThroughput
from services.aws.sagemaker import SageMakerEndpoint
from services.client import AwsClient

MONTHS: dict[Commitment, int] = {"none": 0, "1-month": 1, "6-month": 6}

TERM_WORDS: dict[Commitment, str] = {"none": "no commitment", "1-month": "1 month", "6-month": "6 months"}

QUOTE = "price unknown: AWS quotes it"


def dollars(amount: Decimal | None) -> str:
    """An amount in US dollars, with cents below 1,000; None as a dash."""
    if amount is None:
        return "–"
    return f"${amount:,.2f}" if amount < 1000 else f"${amount:,.0f}"


def per_hour(units: int, rate: HourRate | None) -> Decimal | None:
    """US dollars an hour of so many units."""
    return None if rate is None else Decimal(rate.usd) * units


def month(amount: Decimal | None) -> Decimal | None:
    """US dollars a month of something that costs ``amount`` an hour."""
    return None if amount is None else a_month(amount)


def ends(commitment: Commitment, start: datetime) -> datetime | None:
    """When a term that starts then is over: the same day of a later month, or that month's last."""
    months = MONTHS[commitment]
    if not months:
        return None
    year, index = divmod(start.month - 1 + months, 12)
    year, number = start.year + year, index + 1
    return start.replace(year=year, month=number, day=min(start.day, calendar.monthrange(year, number)[1]))


def bill(amount: Decimal | None, commitment: Commitment, start: datetime | None = None) -> str:
    """What buying this means, in one sentence; ``amount`` is US dollars an hour of all its units."""
    begin = start or datetime.now(UTC)
    until = ends(commitment, begin)
    if amount is None:
        term = f"; committed until {until:%Y-%m-%d}" if until else ""
        return f"{QUOTE[0].upper()}{QUOTE[1:]}; enter your own figure to see the sum{term}."
    words = f"{dollars(amount)} an hour, about {dollars(a_month(amount))} a month ({HOURS_A_MONTH} h)"
    if until is None:
        return f"{words}, until it is deleted."
    hours = Decimal((until - begin).days * 24)
    return f"{words}, committed until {until:%Y-%m-%d}: {dollars(amount * hours)} in all."


def running(unit: ProvisionedThroughput) -> str:
    """What a provisioned throughput costs now, as the rest of a sentence."""
    amount = per_hour(unit.units, unit.rate)
    if amount is None:
        return "costs what AWS quoted for it (no public price is known)"
    return f"costs {dollars(amount)} an hour, about {dollars(a_month(amount))} a month"


def source(rate: HourRate | None) -> str:
    """Where a rate is from and of which day."""
    return "AWS quotes it" if rate is None else f"{rate.source}, {rate.date}"


DEFAULT = "default chain"

REFUSAL = "cap_refresh_refusal"


def draw() -> Seen | None:
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
            "AWS profile",
            names,
            key="profile",
            bind="query-params",
            width=260,
            help="The profiles of the AWS configuration where the engine runs. The default chain is what every AWS "
            "tool takes: environment, default profile, SSO, the role of the machine.",
        )
        region = st.selectbox(
            "Region",
            regions,
            index=0 if places.region else None,
            key="region",
            bind="query-params",
            width=220,
            accept_new_options=True,
            placeholder="Choose a region",
        )
        st.button(
            "Look again",
            key="cap_again",
            icon=":material/refresh:",
            on_click=_look_again,
            help="Asks AWS anew, and reads the credentials anew: after a sign-in, for instance.",
        )
    if region is None:
        st.caption("Choose a region: no profile, variable or setting names one.")
        return None
    seen = now(None if chosen in (None, DEFAULT) else chosen, str(region))
    _draw_who(seen)
    return seen


def _profile_in_address() -> str | None:
    named = st.session_state.get("profile", st.query_params.get("profile"))
    return None if named in (None, "", DEFAULT) else str(named)


def _look_again() -> None:
    forget()
    attempt(REFUSAL, lambda: auth.engine().aws().refresh())


def _draw_who(seen: Seen) -> None:
    when = f"seen at {seen.at:%H:%M:%S} UTC"
    if seen.who is not None:
        st.caption(f"Account {plain(seen.who.account)} · {plain(seen.who.arn)} · {when}")
        return
    trouble = seen.troubles.get("who", "")
    if trouble and trouble not in [text for name, text in seen.troubles.items() if name != "who"]:
        st.caption(f":orange[:material/warning: {plain(trouble)}] · {when}")
    else:
        st.caption(f"The account is not known · {when}")


def draw_trouble(seen: Seen, name: str) -> bool:
    """Why a part could not be read, once for parts that failed alike. True when it failed."""
    trouble = seen.troubles.get(name)
    if trouble is None:
        return False
    shared = [name for name in ("provisioned", "endpoints") if seen.troubles.get(name) == trouble]
    if shared and name != shared[0]:
        st.caption("Not known, for the reason above.")
    else:
        st.warning(plain(trouble), icon=":material/error:")
    return True


OPEN, DIALOG_REFUSAL, SAID = "cap_open", "cap_dialog_refusal", "cap_said"


def button(label: str, action: str, of: str, *, icon: str, primary: bool = False, disabled: bool = False) -> None:
    """A button that opens the dialog ``action`` of one thing."""
    st.button(
        label,
        key=f"cap_{action}",
        icon=icon,
        type="primary" if primary else "secondary",
        disabled=disabled,
        on_click=_open,
        args=(action, of),
    )


def _open(action: str, of: str) -> None:
    st.session_state.pop(DIALOG_REFUSAL, None)
    st.session_state[OPEN] = (action, of)


def wanted(action: str, of: str) -> bool:
    """Whether that dialog is to be drawn."""
    return st.session_state.get(OPEN) == (action, of)


def close() -> None:
    """Callback: nothing is open any more."""
    st.session_state.pop(DIALOG_REFUSAL, None)
    st.session_state.pop(OPEN, None)


def done(message: str) -> None:
    """The dialog did its work: close it, say so on the page, and draw the page anew."""
    close()
    st.session_state[SAID] = message
    st.rerun()


SEEN = "cap_seen"


@dataclass(frozen=True, slots=True)
class Seen:
    """The answers, each None where AWS gave none; ``troubles`` says why, by the field's name."""

    profile: str | None
    region: str
    at: datetime
    who: Identity | None = None
    provisioned: tuple[list[ProvisionedThroughput], bool] | None = None
    endpoints: tuple[list[SageMakerEndpoint], bool] | None = None
    models: tuple[list[Model], list[Model]] | None = None
    troubles: dict[str, str] = field(default_factory=dict)


def client(seen: Seen) -> AwsClient:
    """The control planes that ``seen`` came from, in the visitor's name."""
    return auth.engine().aws(seen.profile, seen.region)


def now(profile: str | None, region: str) -> Seen:
    """What is known of this account and region; asked of AWS when it is not, which takes seconds."""
    last = st.session_state.get(SEEN)
    if isinstance(last, Seen) and (last.profile, last.region) == (profile, region):
        return last
    with st.spinner(f"Asking AWS in {region} …", show_time=True):
        answer = _ask(profile, region)
    st.session_state[SEEN] = answer
    return answer


def _ask(profile: str | None, region: str) -> Seen:
    aws = auth.engine().aws(profile, region)
    parts: dict[str, Callable[[], Any]] = {
        "who": aws.who,
        "provisioned": aws.provisioned,
        "endpoints": aws.endpoints,
        "models": aws.models,
    }
    answers: dict[str, Any] = {}
    troubles: dict[str, str] = {}
    # Side by side: a region that does not answer costs the longest wait and not the sum of all.
    with ThreadPoolExecutor(len(parts)) as threads:
        waiting = {name: threads.submit(ask) for name, ask in parts.items()}
    for name, future in waiting.items():
        try:
            answers[name] = future.result()
        except auth.EngineError as error:
            troubles[name] = str(error)
    return Seen(profile, region, datetime.now(UTC), troubles=troubles, **answers)


def again(seen: Seen) -> Seen:
    """The provisioned throughputs as they are now; everything else as it was seen."""
    try:
        fresh = replace(seen, provisioned=client(seen).provisioned(), at=datetime.now(UTC))
    except auth.EngineError as error:
        fresh = replace(seen, troubles={**seen.troubles, "provisioned": str(error)})
    st.session_state[SEEN] = fresh
    return fresh


def forget() -> None:
    """Ask AWS anew with the next run of the page."""
    st.session_state.pop(SEEN, None)
