"""Who may look at a run, and who may stop it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import tickets
from app.tickets import LIFETIME_S, BadTicket, Ticket, board_token, check_token, role_in

RUN = "run-1"


def test_a_token_says_who_may_do_what_and_stays_the_same_across_reruns() -> None:
    token = board_token(RUN, "Ådä", "member", now=1_000_000_200)
    assert token == board_token(RUN, "Ådä", "member", now=1_000_000_300)
    ticket = check_token(token, RUN, now=1_000_000_200)
    assert (ticket.person, ticket.role, ticket.may_act) == ("Ådä", "member", True)
    assert role_in(token) == "member"
    assert not check_token(board_token(RUN, "ada", "viewer", now=1_000_000_200), RUN, now=1_000_000_200).may_act
    assert role_in("rubbish") == "viewer"
    with pytest.raises(BadTicket):
        check_token(token, RUN, now=1_000_000_200 + LIFETIME_S)


def test_replicas_share_tokens_only_through_a_shared_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    token = board_token(RUN, "ada", "viewer")
    monkeypatch.setenv("LAB_BOARD_SECRET", "shared by all replicas")
    with pytest.raises(BadTicket):
        check_token(token, RUN)
    assert check_token(board_token(RUN, "ada", "viewer"), RUN).role == "viewer"


def test_a_ticket_ends_with_the_sign_in_that_it_was_made_in() -> None:
    token = board_token(RUN, "ada", "member", until=1_000_000_500, mark="m", now=1_000_000_200)
    assert check_token(token, RUN, now=1_000_000_499) == Ticket(RUN, "ada", "member", 1_000_000_500, "m")
    with pytest.raises(BadTicket):
        check_token(token, RUN, now=1_000_000_500)
    late = board_token(RUN, "ada", "member", until=2_000_000_000, now=1_000_000_200)
    assert check_token(late, RUN, now=1_000_000_200).expires == 1_000_000_200 // 600 * 600 + LIFETIME_S


def signed(body: bytes) -> str:
    """A token with any body, signed by our own secret, as another version of us may have made it."""
    return base64.urlsafe_b64encode(body).decode() + "." + tickets._sign(body)


def verdict(token: str) -> Any:
    """The ticket, or BadTicket; anything else is raised."""
    role_in(token)
    try:
        return check_token(token, RUN, now=1)
    except BadTicket:
        return BadTicket


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([RUN, "ada", "member", ""]),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.slow
@given(JSON)
def test_a_signed_body_of_any_shape_is_a_ticket_or_refused(value: Any) -> None:
    got = verdict(signed(json.dumps(value).encode()))
    assert got is BadTicket or [got.run_id, got.person, got.role, got.expires, got.mark] == value


@given(st.text(st.characters()) | st.binary().map(signed) | st.binary().map(lambda raw: raw.decode("latin-1") + ".x"))
def test_a_token_of_any_text_is_refused_and_never_an_error(token: str) -> None:
    assert verdict(token) is BadTicket


def test_tokens_that_came_close_are_refused() -> None:
    good = [RUN, "ada", "member", 2, "m"]
    assert isinstance(verdict(signed(json.dumps(good).encode())), Ticket)
    bodies = [
        json.dumps(part)
        for part in (
            good[:4],
            [*good, 1],
            [RUN, "ada", "root", 2, "m"],
            [RUN, "ada", "member", 2.5, "m"],
            [RUN, "ada", "member", True, "m"],
            [RUN, "ada", "member", float("inf"), "m"],
            [RUN, "ada", "member", float("nan"), "m"],
            [RUN, "ada", ["admin"], 2, "m"],
            ["run-2", *good[1:]],
            [RUN, None, *good[2:]],
            dict(enumerate(good)),
            [RUN, "ada", "member", -(10**400), "m"],
        )
    ]
    bodies += ["[" * 5000 + "]" * 5000, "[" * 2000, f'["{RUN}","ada","member",{"9" * 5000},"m"]', "", "\ufeff[]"]
    assert [body[:60] for body in bodies if verdict(signed(body.encode())) is not BadTicket] == []
    token = signed(json.dumps(good).encode())
    assert verdict("!" + token) is BadTicket and verdict(token[:5] + "\n" + token[5:]) is BadTicket
