"""The address of the History page: its own words, those of the command line, and those of other parts of the app."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qs, urlsplit

from services.dashboard.filters import LISTS, SEPARATOR, SINGLE

# The words of `Filter.to_params` → those of the address. Other pages bind widgets to "deployment", "person", "from" …,
# and Streamlit lets nobody else write a name that was bound a moment ago.
ADDRESS: Mapping[str, str] = {
    "range": "range",
    "zone": "zone",
    "from": "since",
    "to": "until",
    **{word: name for name, word in LISTS.items()},
}
# The command line's words, which the page reads too: it takes them once and writes its own in their place.
ALIASES = tuple(word for word, name in ADDRESS.items() if word != name)
DEMO = "demo"
# What other parts of the app keep in an address: panels of this page, and pages that somebody may come from.
OTHERS = frozenset(
    {
        DEMO,
        "batch",
        "run",
        "d",
        "by",
        "failures",
        "metric",
        "spread",
        "today",
        "page",
        "profile",
        "q",
        "region",
        "signin",
        "starred",
        "state",
    }
)
NAMED = 3


def params_of(query: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """The parameters of `Filter.from_params` from an address's words, each with all its values.

    The page's own word goes before the command line's. A list's values may be joined by commas or given again.
    """
    words = {}
    for word, name in ADDRESS.items():
        values = query.get(name) or query.get(word)
        if values:
            words[word] = values[-1] if word in SINGLE else SEPARATOR.join(values)
    return words


def unknown(words: Iterable[str]) -> str | None:
    """A sentence that names the words of an address which nothing here knows; None where there is none."""
    own_words = {*ADDRESS, *ADDRESS.values(), *OTHERS, "embed", "embed_options"}
    strange = [f"“{word[:40]}”" for word in dict.fromkeys(words) if word not in own_words]
    if not strange:
        return None
    if len(strange) == 1:
        return f"The address has a word this page does not know: {strange[0]}."
    others = f" and {len(strange) - NAMED} more" if len(strange) > NAMED else ""
    return f"The address has words this page does not know: {', '.join(strange[:NAMED])}{others}."


def params_of_url(url: str) -> dict[str, str]:
    """The parameters of `Filter.from_params` from a whole address, as a browser shows it.

    Raises ValueError with one sentence for another page's address and for one that says something unknown.
    """
    try:
        parts = urlsplit(url.strip())
        query = parse_qs(parts.query, keep_blank_values=True)
    except ValueError:
        raise ValueError("This is no address; copy it from the browser while it shows the History page.") from None
    page = parts.path.rstrip("/").rpartition("/")[2]
    if page != "history" and (parts.netloc or parts.path):
        raise ValueError("This is not the address of the History page, which ends in /history and its filters.")
    if strange := unknown(query):
        raise ValueError(strange.replace("this page does", "the History page does"))
    if query.get(DEMO, [""])[-1] == "1":
        raise ValueError("This address shows the demo data, which is not read here; switch it off on the page first.")
    return params_of(query)
