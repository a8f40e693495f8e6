"""The rows of runs, calls and votes, as their statements read them; those of batches stand with their own tables.

They stay dicts, for the reason that stands in `db.run_queries`. Times are ms from t0, money is nano-dollars. Nothing of
the database's is imported, so that the names can be had without it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NotRequired, TypedDict

# JSON whose keys are somebody else's, or those of a layer above us (`services.types.Json`).
Json = dict[str, Any]
JsonMapping = Mapping[str, Any]

# The token counts of a call.
Counted = Literal[
    "uncached_input", "cache_read", "cache_write_5m", "cache_write_1h", "reasoning_output", "answer_output"
]

CacheMode = Literal["off", "auto", "5m", "1h"]  # as `services.types.CacheMode`


class RunColumn(TypedDict):
    """One column of a run (`services.runs.spec.ColumnSpec`). ``params``: by the product's own names."""

    deployment_id: str
    use_shared_params: bool
    params: Json
    cache: CacheMode | None


class RunAttachment(TypedDict):
    """A file that was sent with the prompt, and its text where texts are kept."""

    name: str
    chars: int
    text: NotRequired[str]


class NewRun(TypedDict):
    """A run as it is recorded, before anything of it is sent."""

    id: str
    created_at: datetime
    person: str
    source: str
    prompt: str | None
    prompt_sha256: str | None
    system: str | None
    template: str | None
    variables: dict[str, str] | None
    params: Json | None
    columns: list[RunColumn] | None
    attachments: list[RunAttachment] | None
    start_mode: str
    stagger_s: float
    repetitions: int
    blind: bool
    parent_run_id: str | None
    starred: bool
    tags: list[str] | None
    text_stored: bool
    n_calls: int


class RunRow(NewRun):
    """A row of `db.models.Run`."""

    note: str | None


class ListedRun(RunRow):
    """A run with how many of its calls are in which state, and the ids of the deployments that were called."""

    states: dict[str, int]
    deployments: list[str]


class StoredMessage(TypedDict):
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str


class StoredAsk(TypedDict):
    """What a call was asked (`services.types.Ask`)."""

    messages: list[StoredMessage]
    system: str | None
    params: Json
    cache: CacheMode | None


class StoredRequest(TypedDict):
    """How a call was sent. ``key_env``: the name of the variable that holds its key. ``refused``: why no request was
    made. ``ask`` is there where texts are kept, the rest where there was a request."""

    key_env: str | None
    refused: str | None
    ask: NotRequired[StoredAsk]
    method: NotRequired[str]
    url: NotRequired[str]
    headers: NotRequired[dict[str, str]]
    auth: NotRequired[list[str] | None]
    sign: NotRequired[Json | None]


class MeasuredCall(TypedDict):
    """What the rollups take from a call."""

    id: str
    created_at: datetime
    deployment_id: str
    model: str
    kind: str
    source: str
    person: str
    outcome: str | None
    state: str
    lag_marked: bool | None
    cost_state: str | None
    cost_nanousd: int | None
    plain_nanousd: int | None
    cost_drivers: dict[str, int] | None
    usage_source: str | None
    end_ms: float | None
    uncached_input: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    reasoning_output: int | None
    answer_output: int | None
    ttft_ms: float | None
    ttfat_ms: float | None
    ttlt_ms: float | None
    tpot_ms: float | None
    decode_tps: float | None
    e2e_tps: float | None


class HistoryCall(MeasuredCall):
    """A call as the panels of the history take it."""

    run_id: str


class ListedCall(HistoryCall):
    """A call in a list of calls."""

    column_no: int
    repetition: int
    attempt_no: int
    message: str | None


class CallRow(ListedCall):
    """A row of `db.models.Call`. ``rolled``: it is in the rollups."""

    retry_of: str | None
    deployment: Json
    wire: str
    owner: str | None
    phase: str | None
    error_type: str | None
    error_code: str | None
    http_status: int | None
    retry_after_s: float | None
    started_at: datetime | None
    ended_at: datetime | None
    waited_ms: float | None
    queued_ms: float | None
    connect_ms: float | None
    reused: bool | None
    ttfb_ms: float | None
    itl_p50_ms: float | None
    itl_p95_ms: float | None
    itl_p99_ms: float | None
    itl_max_ms: float | None
    n_deltas: int | None
    decode_hidden: str | None
    self_lag_ms: float | None
    server_ms: float | None
    buffered_suspect: bool | None
    cache_mode: CacheMode | None
    region: str | None
    tier_asked: str | None
    tier_served: str | None
    facts: Json | None
    usage_raw: Json | None
    cost_high_nanousd: int | None
    price: Json | None
    finish_raw: str | None
    model_reported: str | None
    response_id: str | None
    answer: str | None
    reasoning: str | None
    answer_sha256: str | None
    request: StoredRequest | None
    sent_params: Json | None
    dropped_params: dict[str, str] | None
    delta_us: bytes | None
    delta_kinds: bytes | None
    n_events: int | None
    n_bytes: int | None
    keepalives: int | None

    rolled: bool


class RecentCall(TypedDict):
    """What a call took, for a workload that is measured."""

    created_at: datetime
    deployment_id: str
    kind: str
    model: str
    source: str
    ttft_ms: float | None
    ttlt_ms: float | None
    decode_tps: float | None
    uncached_input: int | None
    cache_read: int | None
    cache_write_5m: int | None
    cache_write_1h: int | None
    reasoning_output: int | None
    answer_output: int | None
    lag_marked: bool | None


class HoldingCall(TypedDict):
    """From when to when a call held its deployment. ``output``: tokens; None where they were not counted."""

    created_at: datetime
    started_at: datetime | None
    end_ms: float | None
    state: str
    usage_source: str | None
    output: int | None


class Ballot(TypedDict):
    """What a person says of a pair of answers, or of the best: "a", "b", "tie", "both_bad" or "best". ``winner``: the
    id of a deployment."""

    blind: bool
    choice: str
    column_a: int | None
    column_b: int | None
    deployment_a: str | None
    deployment_b: str | None
    winner: str | None
    repetition: int


class KnownCost(TypedDict, total=False):
    """The columns of a call's cost where its price alone decides them."""

    cost_state: str
    cost_nanousd: int
    cost_high_nanousd: int
    cost_drivers: dict[str, int]
    plain_nanousd: int


class NewVote(Ballot):
    """A vote as it is recorded."""

    id: str
    run_id: str
    person: str


class VoteRow(NewVote):
    """A row of `db.models.Vote`."""

    created_at: datetime
