"""Presets and the shapes of a day."""

from services.calculator import presets


def test_the_presets_are_those_that_the_issue_names() -> None:
    assert [one.id for one in presets.PRESETS] == ["chat", "extraction", "classification", "rag", "backlog", "agent"]
    assert all(one.source for one in presets.PRESETS)


def test_every_shape_has_24_hours_and_is_found_again_by_its_name() -> None:
    for name, shape in presets.SHAPES.items():
        assert len(shape) == 24
        assert presets.shape_name(shape) == name
    assert presets.shape_name((5.0,) * 24) == "flat"
    assert presets.shape_name((0.0,) * 24) == "own"


def test_the_peaks_are_where_their_names_say() -> None:
    assert 9 <= max(range(24), key=presets.OFFICE.__getitem__) <= 15
    assert 18 <= max(range(24), key=presets.EVENING.__getitem__) <= 22
