"""Who may look at a run, and who may stop it."""

from __future__ import annotations

import pytest

from app.tickets import LIFETIME_S, BadTicket, board_token, check_token, role_in

RUN = "run-1"


def test_a_token_says_who_may_do_what_and_stays_the_same_across_reruns() -> None:
    token = board_token(RUN, "Ådä", "member", now=1_000_000_200)
    assert token == board_token(RUN, "Ådä", "member", now=1_000_000_300)
    ticket = check_token(token, RUN, now=1_000_000_200)
    assert (ticket.person, ticket.role, ticket.may_act) == ("Ådä", "member", True)
    assert role_in(token) == "member"
    assert role_in("rubbish") == "viewer"
    with pytest.raises(BadTicket):
        check_token(token, RUN, now=1_000_000_200 + LIFETIME_S)


def test_replicas_share_tokens_only_through_a_shared_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    token = board_token(RUN, "ada", "viewer")
    monkeypatch.setenv("LAB_BOARD_SECRET", "shared by all replicas")
    with pytest.raises(BadTicket):
        check_token(token, RUN)
    assert check_token(board_token(RUN, "ada", "viewer"), RUN).role == "viewer"
