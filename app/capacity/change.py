"""The two dialogs that change a provisioned throughput: another name, and the end of it."""

from __future__ import annotations

import streamlit as st

from app.capacity import account as look
from app.capacity import dialogs
from app.capacity import text as words
from app.widgets.status import attempt, draw_refusal
from app.widgets.text import plain
from services.aws.provisioned import ProvisionedThroughput


@st.dialog("Rename", on_dismiss=dialogs.close)
def rename(one: ProvisionedThroughput, seen: look.Seen) -> None:
    """Ask for another name."""
    st.markdown("The ARN stays, so deployments that use it go on working. It costs what it did.")
    st.text_input("New name", value=one.name, key="cap_new_name", max_chars=63)
    if st.button("Rename", key="cap_rename_now", type="primary"):
        name = str(st.session_state["cap_new_name"]).strip()
        with st.spinner("Asking AWS …", show_time=True):
            done = attempt(dialogs.REFUSAL, lambda: look.client(seen).rename(one.arn, name))
        if done:
            look.forget()
            dialogs.done(f"{one.name} is called {name} now.")
    draw_refusal(dialogs.REFUSAL)


@st.dialog("Delete this provisioned throughput?", on_dismiss=dialogs.close)
def delete(one: ProvisionedThroughput, seen: look.Seen) -> None:
    """Say what ends and what it costs, and ask for its name."""
    units = f"{one.units} model unit{'' if one.units == 1 else 's'}"
    st.markdown(
        f"{plain(one.name)} has {units} and {plain(words.running(one))}. Deleting gives them back, and nothing more is "
        "paid. Deployments that use it stop answering; what was recorded stays. Units can only be bought again where "
        "AWS has some left."
    )
    st.text_input(f"Type “{plain(one.name)}” to delete it", key="cap_delete_typed")
    if st.button("Delete it", key="cap_delete_now", type="primary", icon=":material/delete:"):
        typed = str(st.session_state["cap_delete_typed"])
        with st.spinner("Asking AWS …", show_time=True):
            done = attempt(dialogs.REFUSAL, lambda: look.client(seen).delete(one.arn, typed))
        if done:
            look.forget()
            dialogs.done(f"{one.name} is deleted; it costs nothing from now on.")
    draw_refusal(dialogs.REFUSAL)
