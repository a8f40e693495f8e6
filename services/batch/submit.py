"""What a person asks for when a file is submitted, read with care; `ingest` does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, get_args

from services import params as parameters
from services.alerts import TARGET_PREFIX
from services.batch.types import Format, Options, RouteName, options_to_json
from services.formatting import printable
from services.request_fields import Given, Refused

MOST_LANES = 1024
MOST_PER_MINUTE = 1_000_000
MOST_NANOUSD = 10**15  # a million dollars
MAX_TEMPLATE = 1_000_000  # characters
MAX_NAME = 200
ROUTES: tuple[RouteName, ...] = get_args(RouteName)
FORMATS: tuple[Format, ...] = get_args(Format)


@dataclass(frozen=True, slots=True)
class BatchSpec:
    """A file and what is to be done with it.

    ``path``: a file on the server's own disk (only a role that may "deploy" may name one); None: the upload that lies
    in ``DATA/uploads/<sha256>/``. ``sha256``: of the bytes that were checked. ``budget_nanousd``, ``objective_ms``,
    ``max_lanes``, ``per_minute``: as `db.batch_tables.Batch`. ``notify``: names of ALERT_* variables. ``estimate``: as
    it was shown (`estimate.Estimate.to_json`); the engine makes its own and believes no other. ``again``: although the
    same file was sent before. ``over_budget``: although the high end of the engine's estimate is above the budget.
    """

    deployment_id: str
    sha256: str
    file_name: str
    route: RouteName = "runner"
    path: str | None = None
    options: Options = field(default_factory=Options)
    name: str = ""
    budget_nanousd: int | None = None
    objective_ms: float | None = None
    max_lanes: int | None = None
    per_minute: int | None = None
    notify: tuple[str, ...] = ()
    parent_id: str | None = None
    estimate: Mapping[str, Any] | None = None
    again: bool = False
    over_budget: bool = False

    def to_json(self) -> dict[str, Any]:
        """A JSON object that `from_given` reads back to an equal spec."""
        return {
            "deployment_id": self.deployment_id, "sha256": self.sha256, "file_name": self.file_name,
            "route": self.route, "path": self.path, "options": options_to_json(self.options), "name": self.name,
            "budget_nanousd": self.budget_nanousd, "objective_ms": self.objective_ms, "max_lanes": self.max_lanes,
            "per_minute": self.per_minute, "notify": list(self.notify), "parent_id": self.parent_id,
            "estimate": None if self.estimate is None else dict(self.estimate), "again": self.again,
            "over_budget": self.over_budget,
        }  # fmt: skip


def spec_of(body: Given) -> BatchSpec:
    """The spec that a request holds. Raises `Refused`, or ValueError in words for a value that cannot be."""
    sha256 = body.text("sha256", longest=64).lower()
    if len(sha256) != 64 or any(letter not in "0123456789abcdef" for letter in sha256):
        raise Refused("“sha256” has to be the 64 hexadecimal digits of the file that was checked.")
    objective = body.number("objective_ms") if body.has("objective_ms") else None
    if objective is not None and not 1 <= objective <= 3_600_000:
        raise Refused("“objective_ms” has to be from 1 to 3,600,000 milliseconds.")
    notify = body.texts("notify", longest=MAX_NAME)
    if any(not target.startswith(TARGET_PREFIX) for target in notify):
        raise Refused(f"“notify” has to hold names of variables that begin with {TARGET_PREFIX}.")
    estimate = body.table("estimate").values if body.has("estimate") else None
    return BatchSpec(
        deployment_id=body.text("deployment_id"), sha256=sha256,
        file_name=_file_name(body),
        route=_one_of(body, "route", ROUTES, "runner"), path=body.words("path", longest=4096) or None,
        options=options_of(body.table("options")), name=_name(body),
        budget_nanousd=_whole(body, "budget_nanousd", MOST_NANOUSD), objective_ms=objective,
        max_lanes=_whole(body, "max_lanes", MOST_LANES), per_minute=_whole(body, "per_minute", MOST_PER_MINUTE),
        notify=tuple(dict.fromkeys(notify)), parent_id=body.words("parent_id"), estimate=estimate,
        again=body.flag("again", False), over_budget=body.flag("over_budget", False),
    )  # fmt: skip


def _name(body: Given) -> str:
    """What a batch is called, on one line and without control characters; empty where nothing is left of it."""
    return " ".join(printable(body.words("name") or "").split())[:MAX_NAME]


def _file_name(body: Given) -> str:
    name = body.text("file_name")
    if not name.strip(" .") or any(letter in "/\\" or ord(letter) < 32 or ord(letter) == 127 for letter in name):
        raise Refused("“file_name” has to be the name of a file, without a folder and without control characters.")
    return name[:MAX_NAME]


def options_of(given: Given) -> Options:
    """The options that a request holds. Raises as `spec_of`."""
    params = given.table("params").values
    return Options(
        format=_one_of(given, "format", FORMATS, None),
        encoding=_one_of(given, "encoding", ("utf-8", "cp1252"), "utf-8"),
        delimiter=given.words("delimiter", longest=1) or None,
        id_column=given.words("id_column"),
        prompt=given.words("prompt", longest=MAX_TEMPLATE), system=given.words("system", longest=MAX_TEMPLATE),
        params=parameters.clean(params), suffix_ids=given.flag("suffix_ids", False), sheet=given.words("sheet"),
        leave_out=given.flag("leave_out", False), only_model=given.words("only_model"),
    )  # fmt: skip


def _one_of(given: Given, name: str, choices: tuple[Any, ...], default: Any) -> Any:
    value = given.words(name)
    if value is None:
        return default
    if value not in choices:
        raise Refused(f"“{name}” has to be one of {', '.join(choices)}.")
    return value


def _whole(body: Given, name: str, most: int) -> int | None:
    return body.whole(name, 1, most) if body.has(name) else None
