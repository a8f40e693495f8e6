"""Alerts, notes, the budget and the demo data, as the History page draws them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.history.alerts import marks
from app.widgets.text import NOTHING, plain
from db import small_tables
from services.alerts import Alert
from services.dashboard import demo
from services.pricing import budget
from tests.pages.fake_history import History
from tests.pages.lab import Lab, buttons, said

AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
SLOW = Alert("p95_ttft", 2000.0, 900, ("local-chat",), ("ALERT_WEBHOOK",), "Slow")
NAMES = {"local-chat": "SmolLM2 *chat*"}


def panel() -> None:
    from zoneinfo import ZoneInfo

    import streamlit as st

    from app import auth
    from app.history import alerts, cost, filters

    person = auth.person_and_role()
    source = filters.source(person)
    zone, names = ZoneInfo("Europe/Berlin"), {"local-chat": "SmolLM2 *chat*"}
    if source.ready:
        alerts.banner(source.database, names, zone)
        alerts.manage(source.database, names, zone, person, demo=source.demo)
        alerts.manage_notes(source.database, zone, person, demo=source.demo)
        cost.manage(source.database, person, demo=source.demo)
        st.caption(f"now {source.now:%Y-%m-%d %H:%M}")


def opened(**query: str) -> AppTest:
    at = AppTest.from_function(panel, default_timeout=30)
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception
    return at


def fire(lab: Lab, sentence: str = "p95 was 2.31 s over the last 15 min (412 calls): above 2 s.") -> None:
    lab.write(small_tables.save, alert_id="a", values=SLOW.to_values(), person="ada", at=AT)
    event = {"id": "e", "sentence": sentence, "delivered": "sent to ALERT_WEBHOOK"}
    lab.write(
        small_tables.checked,
        seen=small_tables.alerts(lab.database())[0],
        at=AT,
        value=2310.0,
        n=412,
        firing=True,
        event=event,
    )


@pytest.mark.slow
def test_a_firing_alert_is_a_line_with_its_figures_and_since_when(lab: Lab) -> None:
    assert not opened().warning
    fire(lab)
    at = opened()
    assert len(at.warning) == 1
    assert "2.31 s over the last 15 min (412 calls): above 2 s. Since 20 Nov 10:30 (Europe/Berlin)." in said(at)
    assert "Sent to ALERT_WEBHOOK." in said(at)


def test_many_firing_alerts_are_one_banner_with_the_first_and_the_others_below_it(lab: Lab) -> None:
    for number in range(12):
        lab.write(small_tables.save, alert_id=f"a{number:02}", values=SLOW.to_values(), person="ada", at=AT)
    for row in small_tables.alerts(lab.database()):
        event = {"id": f"e-{row.id}", "sentence": f"{row.id} was high.", "delivered": ""}
        lab.write(small_tables.checked, seen=row, at=AT, value=2310.0, n=412, firing=True, event=event)
    at = opened()
    (banner,) = at.warning
    assert "12 alerts fire" in banner.value and banner.value.count("was high") == 3
    (more,) = [one for one in at.expander if one.label == "9 more alerts fire"]
    assert more.markdown[0].value.count("was high") == 9


@pytest.mark.slow
def test_drawing_the_page_again_asks_the_engine_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = History.alerts
    monkeypatch.setattr(History, "alerts", lambda self: asked.append("alerts") or ask(self))
    lab.targets = ["ALERT_WEBHOOK"]
    at = opened()
    assert len(asked) == 1
    for _ in range(3):
        at.run()
    assert len(asked) == 1 and at.multiselect(key="hx_alert_targets").options == ["ALERT_WEBHOOK"]
    lab.down = True
    assert not opened().exception


def test_a_name_among_the_choices_is_written_as_it_is(lab: Lab) -> None:
    assert opened().multiselect(key="hx_alert_deployments").options == ["SmolLM2 *chat*"]


ADDRESSES = [
    "see https://evil.example/x?y=1",
    "HTTP://www.evil.example",
    "www.evil.example",
    "x@evil.example",
    "(https://evil.example)",
    "wwww.evil.example",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_in_a_text_is_no_link(address: str) -> None:
    escaped = plain(address)
    stretches = escaped.replace("\\", "").split(NOTHING)
    assert len(stretches) > 1 and "".join(stretches) == address
    # As remark-gfm looks for them, in each stretch of text by itself.
    link = re.compile(r"(?i)(https?://|www(?=\.))[-.\w]+|[-.\w+]+@[-\w]+(\.[-\w]+)+")
    assert link.search(address) and not [one for one in stretches if link.search(one)]


def test_text_without_an_address_is_only_escaped() -> None:
    assert plain("p95: 2 s, @home, www") == r"p95\: 2 s\, \@home\, www"


def test_a_note_that_holds_an_address_is_no_link(lab: Lab) -> None:
    lab.write(small_tables.add, note_id="n", at=AT, note="see https://evil.example/x", person="ada")
    (line,) = [one.value for one in opened().markdown if "evil" in one.value]
    assert f"https{NOTHING}" in line


def test_text_of_a_name_is_shown_and_never_obeyed(lab: Lab) -> None:
    fire(lab, "p95 of **bold** [x](http://evil.example) was high.")
    assert r"\*\*bold\*\*" in opened().warning[0].value


def test_an_alert_is_added_in_the_units_of_a_reader_switched_off_and_deleted(lab: Lab) -> None:
    lab.targets = ["ALERT_WEBHOOK"]
    at = opened()
    at.selectbox(key="hx_alert_metric").select("error_rate").run()
    at.number_input(key="hx_alert_limit_error_rate").set_value(5.0)
    at.selectbox(key="hx_alert_window").select("1 hour")
    at.multiselect(key="hx_alert_deployments").select("local-chat")
    at.multiselect(key="hx_alert_targets").select("ALERT_WEBHOOK")
    at.button(key="hx_alert_add").click().run()
    assert not at.exception
    (row,) = small_tables.alerts(lab.database())
    assert (row.metric, row.threshold, row.window_s) == ("error_rate", pytest.approx(0.05), 3600)
    assert (row.deployments, row.targets) == (["local-chat"], ["ALERT_WEBHOOK"])
    assert "Error rate of SmolLM2 *chat* above 5 % over 1 hour · to ALERT_WEBHOOK" in said(at)
    at.button(key=f"hx_alert_on_{row.id}").click().run()
    assert not small_tables.alerts(lab.database())[0].enabled and "switched off" in said(at)
    at.button(key=f"hx_alert_del_{row.id}").click().run()
    assert small_tables.alerts(lab.database()) == []


def test_a_refusal_is_a_sentence_beside_the_form(lab: Lab) -> None:
    at = opened()
    at.button(key="hx_alert_add").click().run()
    assert "Write above which value the alert fires." in said(at)
    at.selectbox(key="hx_alert_metric").select("error_rate").run()
    at.number_input(key="hx_alert_limit_error_rate").set_value(400.0)
    at.button(key="hx_alert_add").click().run()
    assert "below 100 %" in said(at) and small_tables.alerts(lab.database()) == []


def test_a_refused_limit_is_told_in_the_form_which_stays_open_with_what_was_typed(lab: Lab) -> None:
    lab.write(small_tables.save, alert_id="a", values=SLOW.to_values(), person="ada", at=AT)
    at = opened()
    refused = ((None, "Write above which value"), (-1.0, "above 0"), (0.0, "above 0"), (1e20, "at most 3,600 s"))
    for typed, told in refused:
        at.number_input(key="hx_alert_limit_p95_ttft").set_value(typed)
        at.text_input(key="hx_alert_name").input("Mine")
        at.button(key="hx_alert_add").click().run()
        (form,) = [one for one in at.expander if one.label == "Add an alert"]
        assert told in " ".join(one.value.replace("\\", "") for one in form.caption)
        assert said(at).count(told) == 1
        assert at.number_input(key="hx_alert_limit_p95_ttft").value == typed
        assert at.text_input(key="hx_alert_name").value == "Mine"
    assert len(small_tables.alerts(lab.database())) == 1


def test_after_an_alert_was_added_its_limit_is_out_of_the_field_and_small_ones_are_shown_in_full(lab: Lab) -> None:
    at = opened()
    field = at.number_input(key="hx_alert_limit_p95_ttft")
    assert field.proto.format % 0.001 == "0.001" and not field.proto.has_min
    field.set_value(0.001)
    at.button(key="hx_alert_add").click().run()
    assert small_tables.alerts(lab.database())[0].threshold == pytest.approx(1.0)
    proto = at.number_input(key="hx_alert_limit_p95_ttft").proto
    # A field is emptied in the browser only by being told so.
    assert proto.set_value and not proto.HasField("value")


def test_an_alert_that_was_kept_with_a_huge_limit_is_still_shown(lab: Lab) -> None:
    lab.write(small_tables.save, alert_id="a", values=SLOW.to_values() | {"threshold": 1e23}, person="ada", at=AT)
    assert "Slow" in said(opened())


def test_a_note_is_kept_at_the_moment_of_the_page_s_zone_and_deleted(lab: Lab) -> None:
    at = opened()
    at.text_input(key="hx_note_text").input("moved to Haiku")
    at.datetime_input(key="hx_note_at").set_value(datetime(2026, 7, 1, 12, 0))
    next(b for b in at.button if b.label == "Add note").click().run()
    (row,) = small_tables.notes(lab.database())
    assert (row.note, row.at) == ("moved to Haiku", datetime(2026, 7, 1, 10, 0, tzinfo=UTC))
    drawn = marks(lab.database(), datetime(2026, 7, 1, tzinfo=UTC), datetime(2026, 7, 2, tzinfo=UTC))
    assert drawn["note"].tolist() == ["moved to Haiku"] and str(drawn["at"].dtype).endswith("UTC]")
    assert len(marks(lab.database(), AT, AT + timedelta(days=1))) == 0
    at.button(key=f"hx_note_{row.id}").click().run()
    assert small_tables.notes(lab.database()) == []


def test_the_budget_is_set_as_it_is_typed_and_taken_away(lab: Lab) -> None:
    at = opened()
    assert "No budget is set." in said(at)
    at.text_input(key="hx_budget_usd").input("$6,000")
    next(b for b in at.button if b.label == "Set budget").click().run()
    assert budget.monthly(lab.database()) == 6000 and "$6,000.00 a month" in said(at)
    at.text_input(key="hx_budget_usd").input("-1")
    next(b for b in at.button if b.label == "Set budget").click().run()
    assert budget.monthly(lab.database()) == 6000


@pytest.mark.parametrize(
    ("typed", "shown"), [("1,000.50", "1,000.50"), ("1000.5", "1,000.50"), ("$ 1000", "1,000"), ("0.01", "0.01")]
)
def test_the_budget_that_is_kept_stands_in_the_field(lab: Lab, typed: str, shown: str) -> None:
    at = opened()
    at.text_input(key="hx_budget_usd").input(typed)
    next(b for b in at.button if b.label == "Set budget").click().run()
    assert not at.exception and at.text_input(key="hx_budget_usd").value == shown
    assert budget.monthly(lab.database()) == Decimal(shown.replace(",", ""))


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed",
    [
        "-1",
        "0",
        "many",
        "1e400",
        "9999999",
        "1.000,50",
        "1.000",
        "1,00",
        "1,0000",
        "0.00001",
        "1_000",
        "5 000",
        "١٠٠",
        "1e3",
    ],
)
def test_a_refused_budget_is_told_in_words_about_budgets(lab: Lab, typed: str) -> None:
    at = opened()
    at.text_input(key="hx_budget_usd").input(typed)
    next(b for b in at.button if b.label == "Set budget").click().run()
    assert "This budget cannot be kept: it must be a number of US dollars above 0" in said(at)
    assert "price" not in said(at) and budget.monthly(lab.database()) is None


def test_who_may_only_look_sees_everything_and_changes_nothing(lab: Lab) -> None:
    fire(lab)
    lab.close_doors()
    at = opened()
    assert at.warning and "Slow" in said(at)
    assert not [b for b in buttons(at) if b in ("Add alert", "Delete", "Add note", "Set budget", "Switch off")]


@pytest.mark.slow
def test_demo_data_is_offered_made_and_labelled_and_never_mixed(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(demo.make, "__defaults__", (400,))
    fire(lab)
    at = opened()
    assert "demo" not in at.query_params and "simulated" not in said(at)
    at.toggle(key="hx_demo").set_value(True).run()
    assert "There is no demo data on this server yet" in said(at) and "simulated" in said(at) and not at.warning
    at.button(key="hx_demo_make").click().run()
    assert not at.exception
    assert at.query_params["demo"] in ("1", ["1"])
    assert "demo data, simulated" in said(at)
    assert not at.warning, "the alert of the real records"
    assert "simulated: nobody was told" in said(at).lower() and "Slow first token" in said(at)
    assert not [b for b in buttons(at) if b in ("Add alert", "Delete", "Add note", "Set budget", "Switch off")]
    again = opened(demo="1")
    assert again.toggle(key="hx_demo").value is True and "demo data, simulated" in said(again)
    again.toggle(key="hx_demo").set_value(False).run()
    assert again.warning and "demo" not in again.query_params and "simulated" not in said(again)


def test_demo_data_of_last_month_is_looked_at_from_its_own_end(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_DATA", str(tmp_path))
    demo.make(demo.file(tmp_path), 50, days=3, end=AT)
    assert "now 2026-11-20 09:30" in said(opened(demo="1"))


def test_a_viewer_is_told_how_demo_data_is_made_but_cannot_fill_the_disk(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_DATA", str(tmp_path / "data"))
    lab.close_doors()
    at = opened(demo="1")
    assert "lab demo" in said(at) and "Make demo data" not in buttons(at)
