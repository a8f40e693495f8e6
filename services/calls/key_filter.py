"""A key that a server sends back as its answer is taken out as it arrives, wherever the pieces are cut."""

from __future__ import annotations

from services.security.keys import HIDDEN, SHORTEST


class Echo:
    """Feed it a text in pieces; it gives back the text without the key.

    Only what could be the beginning of the key is held back, until the next piece shows that it is not.
    """

    __slots__ = ("_first", "_held", "_key")

    def __init__(self, key: str) -> None:
        self._key = key if len(key) >= SHORTEST else ""
        self._first = self._key[:1]
        self._held = ""

    def feed(self, piece: str) -> str:
        """What may be shown of the text so far and was not given back yet; "" while it could be the key."""
        if not self._first or (not self._held and self._first not in piece):
            return piece
        text = (self._held + piece).replace(self._key, HIDDEN)
        keep = self._beginning(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def rest(self) -> str:
        """What was still held back when the text ended: part of a key at most."""
        held, self._held = self._held, ""
        return held if len(held) < SHORTEST else HIDDEN

    def _beginning(self, text: str) -> int:
        """How many characters at the end of ``text`` the key begins with."""
        at = text.find(self._first, max(0, len(text) - len(self._key) + 1))
        while at >= 0:
            if self._key.startswith(text[at:]):
                return len(text) - at
            at = text.find(self._first, at + 1)
        return 0
