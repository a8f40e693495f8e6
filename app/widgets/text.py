"""Text from elsewhere (answers, errors, names) on its way to the screen, shown and never obeyed; short names of
kinds."""

from __future__ import annotations

import re
from collections.abc import Mapping

from services.formatting import md_escape
from services.providers import KINDS

# Streamlit makes links of addresses after it has taken the escapes away, so escapes alone do not stop it. It looks at
# one stretch of text at a time: a directive with nothing in it ends the stretch inside each address, and neither what
# is read nor what is copied changes.
NOTHING = ":small[]"


_ADDRESS = re.compile(r"(?i)https?(?=\\:\\/\\/)|www(?=\\\.)|(?<=[\w+.-])(?=\\@)")


def plain(text: object) -> str:
    """Any text, fit for a Streamlit label or caption: no markdown, no link, no HTML, no directive survives.

    Where Streamlit draws no markdown (options of a selectbox, cells of a dataframe) the text itself is already plain.
    """
    return _ADDRESS.sub(lambda address: address[0] + NOTHING, md_escape(str(text)))


def clip(text: str, limit: int) -> str:
    """The text on one line, at most ``limit`` characters, with an ellipsis where it was cut."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1].rstrip() + "…"


# A title says in brackets what a short name has no room for. These two are told apart by nothing else.
_OWN = {"bedrock": "Amazon Bedrock, on demand", "bedrock-provisioned": "Amazon Bedrock, provisioned"}


KIND_NAMES: Mapping[str, str] = {one: _OWN.get(one, kind.title.partition(" (")[0]) for one, kind in KINDS.items()}
