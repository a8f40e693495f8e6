"""What a view of the history is narrowed to, and the words for it in an address. A view that is sent to somebody is
these words and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, get_args
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

Range = Literal["1h", "24h", "7d", "30d", "90d", "365d", "mtd", "all", "custom"]
RANGES: tuple[Range, ...] = get_args(Range)
RANGE_WORDS: Mapping[Range, str] = {
    "1h": "Last hour",
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "90d": "Last 90 days",
    "365d": "Last 365 days",
    "mtd": "This month",
    "all": "All",
    "custom": "From … to …",
}
DEFAULT_RANGE: Range = "7d"
# What the service said of its prompt cache; "unknown": it said nothing.
CACHES = ("warm", "cold", "unknown")
# Field → its word in the address and on the command line.
LISTS: Mapping[str, str] = {
    "deployments": "deployment",
    "kinds": "kind",
    "models": "model",
    "persons": "person",
    "teams": "team",
    "tags": "tag",
    "sources": "source",
    "caches": "cache",
}
SINGLE = ("range", "from", "to", "zone")
# Nothing was measured before, nor will be after; a century is what any zone and any difference of two moments can hold.
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
SEPARATOR = ","


@dataclass(frozen=True, slots=True)
class Filter:
    """Which calls are looked at. Each list that is not empty narrows them; within a list any value will do.

    ``start`` and ``end`` (aware, ``end`` exclusive) count only with the range "custom". ``zone`` is an IANA name: days
    and hours are those of that zone. ``teams`` are the names of ``[teams]`` in deployments.toml. ``ignored`` says in
    sentences what an address held that means nothing here.
    """

    range: Range = DEFAULT_RANGE
    start: datetime | None = None
    end: datetime | None = None
    zone: str = "UTC"
    deployments: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    persons: tuple[str, ...] = ()
    teams: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    caches: tuple[str, ...] = ()
    ignored: tuple[str, ...] = field(default=(), compare=False)

    @property
    def timezone(self) -> ZoneInfo:
        """The zone itself."""
        return ZoneInfo(self.zone)

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but time is filtered."""
        return any(getattr(self, name) for name in LISTS)

    def but(self, **changes: Any) -> Filter:
        """The same filter with some fields changed."""
        return replace(self, **changes)

    def to_params(self) -> dict[str, str]:
        """The filter as the parameters of an address; `from_params` gives it back. What is usual is left out."""
        params: dict[str, str] = {}
        if self.range != DEFAULT_RANGE:
            params["range"] = self.range
        if self.range == "custom":
            for name, moment in (("from", self.start), ("to", self.end)):
                if moment is not None:
                    params[name] = moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
        if self.zone != "UTC":
            params["zone"] = self.zone
        for name, word in LISTS.items():
            if values := getattr(self, name):
                params[word] = joined(values)
        return params

    @classmethod
    def from_params(cls, params: Mapping[str, str], *, script: bool = False) -> Filter:
        """Inverse of `to_params`. Values that mean nothing are left out, each with a sentence in ``ignored``.

        "from" and "to" may be days ("2026-10-25"; "to" includes its day) or moments; without an offset they are of
        ``zone``. Parameters of other names are somebody else's. ``script``: the sentences say what may be given, for
        somebody who is refused, and not what is shown in its place.
        """
        consequence = "" if script else "; the last 7 days are shown"
        ignored: list[str] = []
        values: dict[str, Any] = {}
        values["zone"] = zone = _zone(params.get("zone"), ignored, script=script)
        for name, word in LISTS.items():
            if word in params:
                values[name] = tuple(dict.fromkeys(_split(params[word])))
        _only(values, "caches", CACHES, ignored)
        chosen = params.get("range", "custom" if "from" in params or "to" in params else DEFAULT_RANGE)
        if chosen not in RANGES:
            named = f"; it can be {', '.join(RANGES)}" if script else consequence
            ignored.append(f"There is no range “{chosen[:40]}”{named}.")
            chosen = DEFAULT_RANGE
        if chosen == "custom":
            values["start"] = _moment(params.get("from"), zone, ignored, whole_day=False)
            values["end"] = _moment(params.get("to"), zone, ignored, whole_day=True)
            if values["start"] and values["end"] and values["start"] >= values["end"]:
                ignored.append(f"The range ends before it begins{consequence}.")
                chosen, values["start"], values["end"] = DEFAULT_RANGE, None, None
            elif not values["start"] and not values["end"]:
                ignored.append(f"The range “custom” needs a day or a moment to begin or to end at{consequence}.")
                chosen = DEFAULT_RANGE
        return cls(range=chosen, ignored=tuple(ignored), **values)


PARAMS = (*SINGLE, *LISTS.values())


def _zone(name: str | None, ignored: list[str], *, script: bool) -> str:
    if not name:
        return "UTC"
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):  # not found, no name at all, the name of a directory
        instead = "it can be UTC or a name like Europe/Berlin" if script else "times are UTC"
        ignored.append(f"There is no time zone “{name[:40]}”; {instead}.")
        return "UTC"


def _only(values: dict[str, Any], name: str, allowed: tuple[str, ...], ignored: list[str]) -> None:
    wrong = [value for value in values.get(name, ()) if value not in allowed]
    if wrong:
        ignored.append(f"There is no {LISTS[name]} “{wrong[0][:40]}”; it can be {', '.join(allowed)}.")
        values[name] = tuple(value for value in values[name] if value in allowed)


def _moment(text: str | None, zone: str, ignored: list[str], *, whole_day: bool) -> datetime | None:
    """A day or a moment of an address, as UTC; None when there is none. A day that ends a range is part of it."""
    if not text:
        return None
    try:
        if len(text) == len("2026-10-25"):
            day = date.fromisoformat(text) + timedelta(days=1 if whole_day else 0)
            moment = datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)
        else:
            given = datetime.fromisoformat(text)
            moment = (given if given.tzinfo else given.replace(tzinfo=ZoneInfo(zone))).astimezone(UTC)
    except ValueError:
        ignored.append(f"“{text[:40]}” is no date; write it like 2026-10-25 or 2026-10-25T14:30.")
        return None
    except OverflowError:  # a date that no zone can hold
        moment = datetime.min.replace(tzinfo=UTC)
    if not EARLIEST <= moment <= LATEST:
        span = f"between the years {EARLIEST.year} and {LATEST.year}"
        ignored.append(f"“{text[:40]}” is out of range: a history begins and ends {span}.")
        return None
    return moment


def joined(values: Iterable[str]) -> str:
    """Values as one parameter: commas between them, and a backslash before a comma that is part of a value."""
    return SEPARATOR.join(value.replace("\\", "\\\\").replace(SEPARATOR, "\\" + SEPARATOR) for value in values)


def _split(text: str) -> list[str]:
    """Values between commas; a backslash takes the meaning from the comma (or backslash) behind it."""
    parts, letters = [""], iter(text)
    for letter in letters:
        if letter == "\\":
            parts[-1] += next(letters, "")
        elif letter == SEPARATOR:
            parts.append("")
        else:
            parts[-1] += letter
    return [words for words in parts if words]


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
