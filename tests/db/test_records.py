"""What is written: lost calls, votes, deployments and their colours, deletion and forgetting."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import update
from sqlalchemy.exc import IntegrityError

from db import run_queries, runs
from db.engine import reader
from db.models import Owner
from tests.db.rows import START, ask, call_row, do, later, put


def states(url):
    return {row.id: row.state for row in ask(url, 'SELECT id, state FROM "call"')}


def adopt(writer, *owners):
    for owner in owners:
        do(writer, runs.adopt_owner, owner_id=owner, pid=1, host="here")


def put_one_call_each(writer, *owners):
    for owner in owners:
        put(writer, f"run-{owner}", {"id": f"of-{owner}", "owner": owner})


def test_a_call_is_finished_once_and_a_second_end_changes_nothing(url, writer):
    put(writer, "run", {})
    first = {"state": "succeeded", "outcome": "ok", "answer": "Hi"}
    assert do(writer, runs.finish_call, call_id="run-0", values=first) is True
    assert do(writer, runs.finish_call, call_id="run-0", values={"state": "lost", "answer": None}) is False
    assert do(writer, runs.finish_call, call_id="unknown", values={"state": "lost"}) is False
    (call,) = run_queries.calls_of_run(reader(url), "run")
    assert (call["state"], call["outcome"], call["answer"]) == ("succeeded", "ok", "Hi")


def test_a_call_without_its_run_is_refused(writer):
    with pytest.raises(IntegrityError):
        do(writer, runs.insert_calls, rows=[call_row("c", "no such run")])


def test_with_one_engine_every_call_of_another_is_lost_and_finished_ones_are_not(url, writer):
    adopt(writer, "dead", "me")
    put_one_call_each(writer, "dead", "me", None)
    put(writer, "old", {"id": "finished", "owner": "dead", "state": "succeeded"})
    lost = do(writer, runs.mark_lost, owner_id="me", stale_after_s=60, single_owner=True)
    assert lost == ["of-None", "of-dead"]
    assert states(url) == {"of-dead": "lost", "of-None": "lost", "of-me": "running", "finished": "succeeded"}
    assert do(writer, runs.mark_lost, owner_id="me", stale_after_s=60, single_owner=True) == []
    assert do(writer, runs.finish_call, call_id="of-dead", values={"state": "succeeded"}) is False


def _rates(*rates, tiers=()):
    return {"rates": dict(rates), "tiers": list(tiers), "per_hour": None}


@pytest.mark.parametrize(
    ("price", "state", "cost"),
    [
        ({"per_hour": "0", "rates": None}, "free", 0),
        ({"per_hour": "0.00"}, "free", 0),
        ({"per_hour": "1.5"}, "by_the_hour", None),
        (_rates(("input", "0"), ("output", "0.0")), "free", 0),
        (_rates(("input", "0"), ("output", "2")), "unknown", None),
        (_rates(("input", "0")), "unknown", None),
        (
            _rates(("input", "0"), ("output", "0"), tiers=[{"above": 9, "rates": {"input": "1", "output": "0"}}]),
            "unknown",
            None,
        ),
        (_rates(("input", "0"), ("output", "0"), tiers=[{"above": 9, "rates": None}]), "unknown", None),
        ({"per_hour": "damaged"}, "unknown", None),
        (None, "unknown", None),
    ],
)
def test_a_lost_call_costs_what_its_price_says_whatever_it_counted_and_else_nobody_knows(
    url, writer, price, state, cost
):
    put(writer, "run", {"id": "one", "owner": "dead", "price": price}, {"id": "done", "state": "succeeded"})
    assert do(writer, runs.mark_lost, owner_id="me", stale_after_s=1, single_owner=True) == ["one"]
    asked = "SELECT cost_state, cost_nanousd, cost_high_nanousd, plain_nanousd FROM call WHERE id = 'one'"
    plain = None if price and "per_hour" in price and price["per_hour"] is not None else cost
    assert ask(url, asked) == [(state, cost, cost, plain)]
    assert ask(url, "SELECT cost_state FROM call WHERE id = 'done'") == [(None,)]


def test_with_several_engines_only_calls_of_stopped_and_silent_ones_are_lost(url, writer):
    adopt(writer, "me", "beating", "silent", "stopped")
    put_one_call_each(writer, "me", "beating", "silent", "stopped", "unknown")
    do(writer, runs.release_owner, owner_id="stopped")
    writer.submit(lambda session: session.execute(update(Owner).values(heartbeat_at=START))).result(30)
    do(writer, runs.heartbeat, owner_id="beating")
    lost = do(writer, runs.mark_lost, owner_id="me", stale_after_s=45, single_owner=False)
    assert lost == ["of-silent", "of-stopped", "of-unknown"]
    assert {state for call, state in states(url).items() if call in ("of-me", "of-beating")} == {"running"}


def test_more_calls_than_one_statement_takes_parameters_become_lost_and_are_deleted(url, writer):
    put(writer, "run")
    rows = [call_row(f"c{n}", "run", owner="dead") for n in range(1200)]
    do(writer, runs.insert_calls, rows=rows)
    lost = do(writer, runs.mark_lost, owner_id="me", stale_after_s=1, single_owner=True)
    assert len(lost) == 1200
    many = ["run", *(f"none{n}" for n in range(1200))]
    assert do(writer, runs.delete_runs, run_ids=many) == 1
    assert states(url) == {}


def test_deleting_a_run_takes_its_calls_and_votes_and_nothing_else(url, writer):
    put(writer, "gone", {}, {})
    put(writer, "kept", {}, parent_run_id="gone")
    for run in ("gone", "kept"):
        do(writer, runs.insert_vote, values=ballot(run, "a"))
    assert do(writer, runs.delete_runs, run_ids=["gone"]) == 1
    assert [row[0] for row in ask(url, "SELECT run_id FROM vote")] == ["kept"]
    assert set(states(url)) == {"kept-0"}
    assert run_queries.run_by_id(reader(url), "gone") is None
    assert run_queries.run_by_id(reader(url), "kept") is not None


def test_notes_tags_and_stars_change_only_what_is_given(url, writer):
    put(writer, "run", tags=["old"])
    assert do(writer, runs.annotate_run, run_id="run", starred=True)
    assert do(writer, runs.annotate_run, run_id="run", tags=[" b ", "a", "b", "", "c\0d"])
    assert do(writer, runs.annotate_run, run_id="run", note="why")
    run = run_queries.run_by_id(reader(url), "run")
    assert run is not None
    assert (run["starred"], run["tags"], run["note"]) == (True, ["a", "b", "c�d"], "why")
    assert not do(writer, runs.annotate_run, run_id="unknown", note="why")


def ballot(run_id, choice, **values):
    a_pair = {"column_a": 0, "column_b": 1, "deployment_a": "one", "deployment_b": "two"}
    ballot.n += 1
    return (
        {"id": f"v{ballot.n}", "run_id": run_id, "person": "ada", "choice": choice, "repetition": 1} | a_pair | values
    )


ballot.n = 0


def test_a_later_vote_replaces_the_same_persons_vote_on_the_same_pair(url, writer):
    put(writer, "run")
    for values in (
        ballot("run", "a"),
        ballot("run", "tie", person="bob"),
        ballot("run", "b", repetition=2),
        ballot("run", "both_bad", column_a=1, column_b=2),
        ballot("run", "b", column_a=1, column_b=0, winner="one"),  # the same pair, shown the other way round
    ):
        do(writer, runs.insert_vote, values=values)
    votes = run_queries.votes_of_run(reader(url), "run")
    assert sorted((v["person"], v["choice"], v["repetition"]) for v in votes) == [
        ("ada", "b", 1),
        ("ada", "b", 2),
        ("ada", "both_bad", 1),
        ("bob", "tie", 1),
    ]


def test_a_later_best_replaces_the_former_best_whatever_column_it_names(url, writer):
    put(writer, "run")
    do(writer, runs.insert_vote, values=ballot("run", "best", column_a=0, column_b=None, winner="one"))
    do(writer, runs.insert_vote, values=ballot("run", "best", column_a=2, column_b=None, winner="three"))
    do(writer, runs.insert_vote, values=ballot("run", "a"))
    votes = run_queries.votes_of_run(reader(url), "run")
    assert sorted((v["choice"], v["winner"]) for v in votes if v["choice"] == "best") == [("best", "three")]
    assert len(votes) == 2


def test_a_vote_that_is_none_is_refused(writer):
    put(writer, "run")
    with pytest.raises(ValueError, match="A vote is one of"):
        do(writer, runs.insert_vote, values=ballot("run", "maybe"))


def declare(writer, deployment_id, *, origin="file", enabled=True, **spec):
    return do(
        writer,
        runs.upsert_deployment,
        deployment_id=deployment_id,
        origin=origin,
        enabled=enabled,
        spec={"id": deployment_id, "enabled": enabled} | spec,
    )


def deployment(url, deployment_id):
    return next(row for row in run_queries.deployment_rows(reader(url)) if row.id == deployment_id)


def test_colours_stay_and_are_never_given_to_another_even_when_archived(url, writer):
    assert [declare(writer, name, color_slot=0) for name in ("a", "b", "c")] == [0, 1, 2]
    do(writer, runs.archive_deployment, deployment_id="b")
    assert declare(writer, "d") == 3
    assert declare(writer, "far", color_slot=7) == 7
    assert declare(writer, "odd", color_slot=-1) == 4
    assert do(writer, runs.archive_missing_deployments, keep=["a"], origins=["file"]) == 5 - 1 - 0
    assert declare(writer, "b", color_slot=0) == 1
    assert deployment(url, "b").archived is False
    assert declare(writer, "c", color_slot=5) == 2


def test_two_writers_that_declare_at_once_never_share_a_colour(url, writer, open_writer):
    writers = [writer, open_writer(url)]

    def many(number: int) -> None:
        for n in range(15):
            declare(writers[number], f"w{number}-{n}")
            declare(writers[number], f"both-{n}")

    threads = [threading.Thread(target=many, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    slots = [row.color_slot for row in run_queries.deployment_rows(reader(url))]
    assert sorted(slots) == list(range(45))


def test_a_switch_set_on_the_page_stays_until_the_declaration_itself_changes(url, writer):
    declare(writer, "d", enabled=True)
    do(writer, runs.set_deployment_enabled, deployment_id="d", enabled=False)
    declare(writer, "d", enabled=True, note="another note")
    assert deployment(url, "d").enabled is False
    declare(writer, "d", enabled=False)
    declare(writer, "d", enabled=True)
    assert deployment(url, "d").enabled is True


def test_a_deployment_of_the_page_is_as_it_was_saved(url, writer):
    declare(writer, "p", origin="page", enabled=False)
    do(writer, runs.set_deployment_enabled, deployment_id="p", enabled=True)
    declare(writer, "p", origin="page", enabled=False)
    assert deployment(url, "p").enabled is False


def test_declaring_the_same_again_changes_nothing_and_a_test_is_kept(url, writer):
    declare(writer, "d")
    do(writer, runs.set_deployment_test, deployment_id="d", test={"ok": True})
    before = deployment(url, "d")
    declare(writer, "d")
    assert deployment(url, "d") == before
    assert before.test == {"ok": True} and before.tested_at is not None


def test_forgetting_removes_texts_of_old_runs_and_keeps_their_figures(url, writer):
    texts = {
        "prompt": "p",
        "system": "s",
        "template": "t",
        "variables": {"a": "b"},
        "note": "n",
        "attachments": [{"name": "f", "chars": 3}],
    }
    said = {"state": "succeeded", "answer": "yes", "reasoning": "hm", "request": {"body": 1}, "ttft_ms": 12.5}
    put(writer, "old", said, **texts)
    put(writer, "busy", said, {"state": "running"}, **texts)
    put(writer, "new", said, created_at=later(days=3), **texts)
    assert do(writer, runs.forget_texts, older_than=later(days=1)) == 1
    run, (call,) = run_queries.run_by_id(reader(url), "old"), run_queries.calls_of_run(reader(url), "old")
    assert run is not None and run["text_stored"] is False and run["prompt_sha256"]
    assert [run[name] for name in texts] == [None] * len(texts)
    assert (call["answer"], call["reasoning"], call["request"], call["ttft_ms"]) == (None, None, None, 12.5)
    for kept in ("busy", "new"):
        run, calls = run_queries.run_by_id(reader(url), kept), run_queries.calls_of_run(reader(url), kept)
        assert run is not None and run["prompt"] == "p" and run["text_stored"] and calls[0]["answer"] == "yes"
    assert do(writer, runs.forget_texts, older_than=later(days=1)) == 0


def test_a_catalogue_model_takes_a_colour_only_when_it_is_first_switched_on(url, writer):
    def slots():
        return {row.id: row.color_slot for row in run_queries.deployment_rows(reader(url))}

    declare(writer, "local", color_slot=0)
    declare(writer, "asleep", color_slot=runs.RESERVED_SLOTS + 3)
    do(writer, runs.set_deployment_enabled, deployment_id="asleep", enabled=False)
    assert slots() == {"local": 0, "asleep": 1003}
    do(writer, runs.set_deployment_enabled, deployment_id="asleep", enabled=True)
    assert slots() == {"local": 0, "asleep": 1}
    declare(writer, "next", color_slot=1)
    do(writer, runs.set_deployment_enabled, deployment_id="asleep", enabled=False)
    do(writer, runs.set_deployment_enabled, deployment_id="asleep", enabled=True)
    assert slots() == {"local": 0, "asleep": 1, "next": 2}
