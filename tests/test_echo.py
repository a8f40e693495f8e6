"""A key that a server sends back never reaches a text of ours, however its pieces are cut."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.calls.stream import Echo

KEY = "zebra-Qx71-zeb-zebra-Q9"


def run(pieces: list[str], key: str = KEY) -> str:
    echo = Echo(key)
    return "".join([echo.feed(piece) for piece in pieces] + [echo.rest()])


@given(
    st.lists(st.sampled_from([KEY, "z", "ze", "zebra-", "Q", " ", "text ", KEY[:9], KEY[9:]]), max_size=12), st.data()
)
def test_no_cut_of_the_pieces_lets_the_key_through(parts: list[str], data: st.DataObject) -> None:
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=20)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    shown = run(pieces)
    assert KEY not in shown
    assert shown == run([text])


@given(st.lists(st.text(max_size=6), max_size=10))
def test_a_text_without_the_key_comes_back_whole(pieces: list[str]) -> None:
    whole = "".join(pieces)
    if KEY[:8] not in whole:
        assert run(pieces) == whole


def test_a_key_that_breaks_off_at_the_end_is_hidden_too() -> None:
    assert run(["the key is ", KEY[:15]]) == "the key is [hidden]"
    assert run(["it ends with z"]) == "it ends with z"


def test_without_a_key_every_piece_is_given_back_at_once() -> None:
    echo = Echo("")
    assert [echo.feed(piece) for piece in ("a", "", "b")] == ["a", "", "b"]
