"""What is said of a clicked mark: hours that no call stands behind, calls that are not there, and the file of calls."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.charts import theme
from app.history import calls as history_calls
from app.history import cost, throughput
from db import runs
from db.models import Powered
from services.dashboard import figures
from services.dashboard.cost import BY_THE_HOUR
from services.dashboard.figures import Filter
from tests.pages.lab import Lab, page, said
from tests.pages.test_history_page import fill, load

HOUR = timedelta(hours=1)


def rent(lab: Lab, deployment_id: str, hours: int, usd: str = "1.5") -> None:
    """A deployment that was on for some hours until an hour ago."""
    off = datetime.now(UTC) - HOUR

    def unit(*, session: Any) -> None:
        session.add(
            Powered(deployment_id=deployment_id, on_at=off - hours * HOUR, off_at=off, usd_per_hour=usd, price={})
        )

    lab.write(unit)


def opened(lab: Lab, mark: history_calls.Mark) -> Any:
    at = page("history").run()
    at.session_state["hs_scatter_mark"] = (mark, "another chart")
    at.run()
    assert not at.exception
    return at


def amounts(text: str) -> list[float]:
    return [float(one.replace(",", "")) for one in re.findall(r"\$([\d,.]*\d)(?!/h)(?= )", text)]


@pytest.mark.parametrize("by", ["deployment", "model", "kind", "day"])
def test_calls_and_hours_of_a_clicked_bar_add_up_to_it(lab: Lab, by: str) -> None:
    fill(lab, 60, 2)
    rent(lab, "d1", 30)
    data = load(lab)
    frame = figures.cost(data, by)
    found = 0
    for key, group in frame.groupby("key"):
        mark = cost.mark_of(data, by, {"key": key})
        assert mark is not None
        if not group["driver"].str.startswith("hours").any():
            assert mark.paid is None
            continue
        assert mark.paid is not None and mark.paid.total == int(group["nanousd"].sum())
        text = said(opened(lab, mark))
        (line,) = [one for one in text.splitlines() if "in this bar" in one]
        # Early in a UTC day its bar may hold hours and no call: then the sentence has one amount.
        whole, *parts = amounts(line)
        assert len(parts) == (2 if mark.paid.n else 0)
        assert sum(parts) == pytest.approx(whole if parts else 0) and whole == pytest.approx(
            mark.paid.total / 1e9, abs=0.006
        )
        assert " at $1.50/h, of which " in line and "no call stands behind them." in line
        found += 1
    assert found >= 1


def test_the_bar_of_hours_says_that_no_call_is_behind_it(lab: Lab) -> None:
    fill(lab, 40, 2)
    rent(lab, "d1", 30)
    mark = cost.mark_of(load(lab), "person", {"key": BY_THE_HOUR})
    assert mark is not None
    text = said(opened(lab, mark))
    assert "no call is behind this" in text and "$45.00 in this bar are 30 h at $1.50/h" in text


def empty_bucket(lab: Lab) -> history_calls.Mark:
    """A mark of a bucket of the window in which nothing happened."""
    data = load(lab)
    labels = throughput.bucket_labels(data)
    frame = figures.throughput(data).groupby("bucket")["calls"].sum()
    at = next(at for at, label in labels.items() if not frame[label])
    return history_calls.Mark(theme.bucket_words(data, labels[at]), {"bucket": labels[at]})


def test_where_no_call_was_made_nothing_is_said_to_be_forgotten(lab: Lab) -> None:
    fill(lab, 3, 1)
    text = said(opened(lab, empty_bucket(lab)))
    assert "no call was made there" in text and "forgotten" not in text


def test_retention_that_forgot_nothing_of_a_bucket_is_not_mentioned(lab: Lab) -> None:
    fill(lab, 3, 1, days=1.0)
    lab.write(runs.forget_calls, older_than=datetime.now(UTC) - timedelta(days=2))
    assert "no call was made there" in said(opened(lab, empty_bucket(lab)))


def test_forgotten_calls_are_told_with_the_day_before_which_they_were_forgotten(lab: Lab) -> None:
    fill(lab, 400, 1)
    before = datetime.now(UTC) - timedelta(days=3)
    assert lab.write(runs.forget_calls, older_than=before)
    data = load(lab, Filter(range="7d"))
    first = figures.throughput(data).query("calls > 0")["bucket"].iloc[0]
    mark = history_calls.Mark("the first", {"bucket": first})
    text = said(opened(lab, mark))
    assert f"no call is kept: those of the days before {before:%-d %b %Y} (UTC) were forgotten" in text
    everything = said(opened(lab, history_calls.Mark("all", {})))
    assert "newest first · those of the days before" in everything


def test_of_calls_that_ended_otherwise_it_is_said_how_many_there_were(lab: Lab) -> None:
    fill(lab, 200, 1)
    text = said(opened(lab, history_calls.Mark("lost calls", {}, ("lost",))))
    assert "200 calls were made there, none of them lost" in text


def test_the_file_of_a_mark_holds_all_of_its_calls_and_no_key_or_formula(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lab, 80, 2)
    key = "sk-" + "a1" * 12
    hostile = f'=HYPERLINK("http://x") {key}'

    def spoil(*, session: Any) -> None:
        from sqlalchemy import text

        session.execute(text("UPDATE call SET message = :said WHERE id = 'c1'"), {"said": hostile})

    lab.write(spoil)
    data = load(lab)
    wanted = history_calls.wanted_behind(data, deployment_id="d1")
    lines = list(csv.DictReader(io.StringIO(history_calls.csv_of(data, wanted, history_calls.Behind()), newline="")))
    assert len(lines) == 40 > history_calls.PAGE_SIZE
    assert {one["deployment"] for one in lines} == {"Name 1"}
    assert [one["sent"] for one in lines] == sorted((one["sent"] for one in lines), reverse=True)
    (one,) = [one for one in lines if one["call_id"] == "c1"]
    assert one["message"].startswith("'=") and key not in one["message"]
    assert (one["output_tokens"], one["run_id"][0]) in {("300", "r"), ("0", "r")}
    monkeypatch.setattr(history_calls, "IN_FILE", 30)
    assert len(history_calls.csv_of(data, wanted, history_calls.Behind()).splitlines()) == 31
    mark = history_calls.Mark("Name 1", {"deployment_id": "d1"})
    labels = [one.proto.label for one in opened(lab, mark).get("download_button")]
    assert "CSV of the newest 30" in labels


def test_a_mark_with_calls_offers_their_file_and_one_without_does_not(lab: Lab) -> None:
    fill(lab, 20, 1)
    one = opened(lab, history_calls.Mark("Name 0", {"deployment_id": "d0"}))
    none = opened(lab, history_calls.Mark("nobody", {"deployment_id": "d9"}))
    offered = [[b.proto.label for b in at.get("download_button") if b.proto.label == "CSV"] for at in (one, none)]
    assert offered == [["CSV"], []]
