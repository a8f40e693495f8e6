"""What is in the pictures of the History page: legends, notes that hide nothing, labels inside the edge, their time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from app.charts import theme
from app.charts.picture import picture
from app.charts.vega import standalone
from app.history import alerts, cost, overview, panel, throughput
from db.models import Annotation
from services.dashboard import figures
from services.dashboard.figures import Data, Filter
from tests.pages.lab import Lab
from tests.pages.test_history_page import fill, load

pytestmark = pytest.mark.slow

AT = datetime(2026, 11, 20, 9, 30, tzinfo=UTC)
DRAW = Any  # a fragment: a function that has `__wrapped__`


def exported(data: Data, monkeypatch: pytest.MonkeyPatch, draw: DRAW) -> tuple[Any, str]:
    """The export of a panel: what is drawn, and the subtitle of the picture."""
    kept: list[tuple[Any, str]] = []

    def export(of: Data, what: panel.Export, title: str, subtitle: str) -> None:
        kept.append((what, f"{subtitle} · {panel.span(of)}"))

    monkeypatch.setattr(panel, "export", export)
    # Outside of a page a fragment draws nothing; the function in it does.
    draw.__wrapped__(data)
    ((what, subtitle),) = kept
    return what, subtitle


@pytest.mark.parametrize("deployments", [1, 3])
def test_the_picture_of_throughput_says_which_colour_is_which_deployment(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, deployments: int
) -> None:
    fill(lab, 60, deployments)
    what, _ = exported(load(lab), monkeypatch, throughput.draw)
    drawn = picture(standalone(what.chart(), theme.LIGHT, "Throughput", ""), "svg").decode()
    for number in range(deployments):
        # Once: three charts share the colours.
        assert drawn.count(f">Name {number}</text>") == 1


@pytest.mark.parametrize("draw", [throughput.draw_states, cost.draw])
def test_the_other_pictures_with_colours_have_their_legend_too(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, draw: DRAW
) -> None:
    fill(lab, 60, 2)
    what, _ = exported(load(lab), monkeypatch, draw)
    assert "role-legend" in picture(standalone(what.chart(), theme.LIGHT, "", ""), "svg").decode()


def test_the_picture_of_the_month_tells_the_month_and_not_the_range_of_the_filter(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(lab, 20, 1)
    now = datetime.now(UTC)
    data = load(lab, Filter(range="custom", start=now - timedelta(days=200), end=now - timedelta(days=100)))
    _, subtitle = exported(data, monkeypatch, cost.draw_month)
    assert f"{now:%Y-%m}-01 00:00 to {now:%Y-%m-%d}" in subtitle
    assert f"{now - timedelta(days=200):%Y-%m-%d}" not in subtitle


def axis() -> dict[str, Any]:
    low, high = (int(one) for one in theme.millis([AT, AT + timedelta(hours=10)]))
    return {"scale": {"domain": [low, high]}, "axis": {}}


def note(hours: float, words: str) -> Annotation:
    return Annotation(at=AT + timedelta(hours=hours), note=words, person="ada")


def test_a_note_is_drawn_behind_the_bars_and_its_sign_above_them(lab: Lab) -> None:
    fill(lab, 5, 1)
    data = load(lab)
    notes = [Annotation(at=data.window.start + timedelta(hours=1), note="moved", person="ada")]
    found = throughput.stack(data, figures.throughput(data), "calls_per_min", "deployment_id", data.ids)
    spec = throughput.chart(data, found, "calls_per_min", theme.LIGHT, notes)
    marks = [one["mark"]["type"] for one in spec["layer"]]
    assert marks.index("rule") < marks.index("rect") < marks.index("point")
    rule = spec["layer"][0]["mark"]
    assert rule["strokeWidth"] <= 1 and rule["opacity"] <= 0.5
    top = spec["layer"][1]["encoding"]["y"]["scale"]["domain"][1]
    # The sign and its words need 12 pixels above the highest bar.
    assert (1 - found["to"].max() / top) * throughput.HEIGHT >= 12


def test_words_of_notes_stay_beside_their_rules_and_out_of_each_other() -> None:
    alone, _ = alerts.rules([note(1, "moved to Haiku")], theme.LIGHT, axis())
    assert alone[0]["mark"]["type"] == "rule"
    _, front = alerts.rules(
        [note(1, "moved to Haiku"), note(1.2, "and back"), note(9, "twice as many people")], theme.LIGHT, axis()
    )
    rows = front[0]["data"]
    assert rows["words"].tolist()[0] == "", "the next note is too near"
    assert rows["side"].tolist() == ["left", "left", "right"]
    assert rows["words"].tolist()[2].startswith("twice")
    assert alerts.rules([], theme.LIGHT, axis()) == ([], [])


@pytest.mark.parametrize("length", [8, 20, 30])
@pytest.mark.parametrize("place", [(0.02, 0.5), (0.5, 0.5), (0.98, 0.5), (0.98, 0.98), (0.5, 0.02), (0.6, 0.98)])
def test_a_label_of_a_bubble_stays_inside_the_plot(length: int, place: tuple[float, float]) -> None:
    wide, _ = overview.PLOT
    others = [(0.9, 0.45), (0.8, 0.5), (0.3, 0.55)]
    at = [place, *others]
    found = pd.DataFrame(
        {
            "usd": [10 ** (4 * x) for x, _ in at],
            "s": [10 ** (2 * y) for _, y in at],
            "n": 50,
            "name": "M" * length,
        }
    )
    overview.place_labels(found, (1.0, 1e4), (1.0, 1e2))
    for (x, _), row in zip(at, found.itertuples(), strict=True):
        size = length * overview.LETTER
        left = x * wide + row.dx - {"left": 0, "center": size / 2, "right": size}[row.align]
        if not row.named:
            continue
        assert left >= -0.01 and left + size <= wide + 0.01, (row.align, left, size)


def test_a_label_in_a_narrower_plot_ends_in_an_ellipsis_and_is_not_cut(lab: Lab) -> None:
    fill(lab, 120, 3)
    data = load(lab)
    spec = overview.chart(data, figures.scatter(data), theme.LIGHT)
    limits = [one["mark"]["limit"] for one in spec["layer"] if one["mark"]["type"] == "text" and "limit" in one["mark"]]
    assert limits and all("width" in one["expr"] or "scale" in one["expr"] for one in limits)
    drawn = picture(standalone({**spec, "width": 60}, theme.LIGHT, "", ""), "svg").decode()
    assert "…" in drawn
