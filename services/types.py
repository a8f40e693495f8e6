"""The nouns of the product: plain frozen dataclasses that every other module uses.

Times are milliseconds as float unless a name says otherwise; token counts are int;
money is `decimal.Decimal` in US dollars. ``None`` always means "not known", never zero.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypedDict

from db.run_rows import Json as Json
from db.run_rows import JsonMapping as JsonMapping

# What a column shows while a call lives. `PHASES` is the order in which they can follow each other.
Phase = Literal["queued", "connecting", "waiting", "reasoning", "answering", "done"]
PHASES: tuple[Phase, ...] = ("queued", "connecting", "waiting", "reasoning", "answering", "done")

# How a call ended, coarse (docs/metrics.md). Only `succeeded` enters latency statistics; `running` is not an end.
State = Literal[
    "running",
    "succeeded",
    "cancelled",
    "timed_out",
    "throttled",
    "refused",
    "cut_off",
    "failed",
    "denied",
    "lost",
    "replayed",
]

# How a call ended, fine. `services.outcomes` maps each one to a State and to a sentence for the reader.
Outcome = Literal[
    "ok",
    "max_tokens",
    "truncated",
    "empty",
    "refused",
    "filtered",
    "guardrail",
    "http_error",
    "stream_error",
    "throttled",
    "overloaded",
    "not_ready",
    "quota_exhausted",
    "unreachable",
    "unauthorised",
    "not_found",
    "timeout_connect",
    "timeout_headers",
    "timeout_first_token",
    "timeout_idle",
    "timeout_total",
    "protocol_error",
    "cancelled",
    "budget_denied",
    "config_error",
    "proxy_error",
    "lost",
]

# What a response's bytes mean. "converse" and "invoke" are Bedrock's own, "tgi" and "lines" what the older containers
# of SageMaker write.
Wire = Literal["messages", "responses", "chat", "converse", "invoke", "tgi", "lines"]
# How the events of a wire lie in those bytes (`services.wire.framing`).
Framing = Literal["sse", "eventstream", "sagemaker"]
# Prompt caching of one column: prevented, left to the service, or a marked prefix that is kept for so long.
CacheMode = Literal["off", "auto", "5m", "1h"]
Origin = Literal["embedded", "file", "page", "catalogue"]
StartMode = Literal["together", "staggered", "sequential"]


@dataclass(frozen=True, slots=True)
class PriceRef:
    """Where a deployment's price comes from. Exactly one of the three forms is used, in this order:

    1. ``override``: US dollars per 1,000,000 tokens, keys ``input``, ``cache_read``, ``cache_write_5m``,
       ``cache_write_1h``, ``output`` (values as decimal strings);
    2. ``per_hour``: US dollars per hour of one instance or unit being on (decimal string; "0" for a local model);
    3. ``instance``: the same, looked up by instance type in the dated file of instance prices ("ml.g5.xlarge" is
       SageMaker's price, "g5.xlarge" EC2's);
    4. ``provider`` + ``model``: looked up in the price list (`services.pricing.cost`).

    ``count`` is the number of instances or model units that 2. and 3. are paid for.

    All ``None``: the deployment has no price, which is shown as "no price" and never as 0.
    """

    provider: str | None = None
    model: str | None = None
    override: Mapping[str, str] | None = None
    per_hour: str | None = None
    instance: str | None = None
    count: int = 1


@dataclass(frozen=True, slots=True)
class Aws:
    """How a deployment on AWS is signed for and asked. None: the service's own default holds.

    ``profile``: of the ordinary AWS configuration; None takes the ordinary chain (environment, role, SSO …).
    ``service_tier``: priority, default, flex or reserved. ``latency``: standard or optimized. ``guardrail``:
    "identifier:version". ``component`` and ``variant``: of a SageMaker endpoint. ``serves``: the name of the model
    behind an ARN or an endpoint; which parameters Bedrock takes depends on it, and a SageMaker container that serves
    more than one model is told it. ``batch_s3``: where the files of batch jobs are put, "s3://bucket/prefix".
    ``batch_role``: the ARN of the role with which Bedrock reads and writes them.
    """

    profile: str | None = None
    service_tier: str | None = None
    latency: str | None = None
    guardrail: str | None = None
    component: str | None = None
    variant: str | None = None
    serves: str | None = None
    batch_role: str | None = None
    batch_s3: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Deadlines of one call in seconds; each ends in its own outcome (``timeout_*``)."""

    connect_s: float = 5.0
    headers_s: float = 60.0
    first_token_s: float = 120.0
    idle_s: float = 60.0
    total_s: float = 600.0


class PriceRefJson(TypedDict):
    """A `PriceRef` as it is stored."""

    provider: str | None
    model: str | None
    override: dict[str, str] | None
    per_hour: str | None
    instance: str | None
    count: int


class DeploymentJson(TypedDict):
    """A `Deployment` as it is stored and sent."""

    id: str
    name: str
    kind: str
    model: str
    base_url: str
    wire: Wire
    key_env: str | None
    region: str | None
    aws: dict[str, str | None] | None
    params: list[str] | None
    price: PriceRefJson
    color_slot: int
    enabled: bool
    origin: Origin
    headers: dict[str, str]
    limits: dict[str, float]
    context_tokens: int | None
    labels: list[str]
    extra_body: Json
    note: str
    proxy: str | None
    proxy_env: str | None
    ca_file: str | None


@dataclass(frozen=True, slots=True)
class Deployment:
    """One way to reach one model. ``id`` is a slug that never changes; ``color_slot`` is its colour for ever."""

    id: str
    name: str
    kind: str
    model: str
    base_url: str  # "https://host/…" without the wire's own path, or "embedded://NAME" for a server of ours
    wire: Wire = "chat"
    key_env: str | None = None  # the *name* of the variable that holds the key; the value is never in an object
    region: str | None = None
    aws: Aws | None = None  # set: requests are signed with AWS credentials, which are never in an object either
    params: tuple[str, ...] | None = None  # parameter names allowed; None = whatever the kind accepts for the model
    price: PriceRef = PriceRef()
    color_slot: int = 0
    enabled: bool = True
    origin: Origin = "file"
    headers: Mapping[str, str] = field(default_factory=dict)  # extra headers that are not secret
    limits: Limits = Limits()
    context_tokens: int | None = None
    labels: tuple[str, ...] = ()  # shown as small badges: "local", "simulated", …
    extra_body: JsonMapping = field(default_factory=dict)  # merged into the request body last
    note: str = ""
    # The way out, where it is another than the environment's (`services.security.outbound`); only the file's are
    # heeded.
    proxy: str | None = None  # "http://host:port" without a password, or "none"
    proxy_env: str | None = None  # the *name* of the variable that holds the proxy's address, with its password
    ca_file: str | None = None  # certificates in PEM form that count beside the usual ones

    def to_json(self) -> DeploymentJson:
        """The deployment as plain JSON values; `from_json` gives it back unchanged. It holds no key."""
        price = self.price
        return {
            "id": self.id,
            "name": self.name,
            "kind": self.kind,
            "model": self.model,
            "base_url": self.base_url,
            "wire": self.wire,
            "key_env": self.key_env,
            "region": self.region,
            "aws": None if self.aws is None else dataclasses.asdict(self.aws),
            "params": None if self.params is None else list(self.params),
            "price": {
                "provider": price.provider,
                "model": price.model,
                "override": None if price.override is None else dict(price.override),
                "per_hour": price.per_hour,
                "instance": price.instance,
                "count": price.count,
            },
            "color_slot": self.color_slot,
            "enabled": self.enabled,
            "origin": self.origin,
            "headers": dict(self.headers),
            "limits": dataclasses.asdict(self.limits),
            "context_tokens": self.context_tokens,
            "labels": list(self.labels),
            "extra_body": json.loads(json.dumps(dict(self.extra_body))),
            "note": self.note,
            "proxy": self.proxy,
            "proxy_env": self.proxy_env,
            "ca_file": self.ca_file,
        }

    @classmethod
    def from_json(cls, row: JsonMapping) -> Deployment:
        """Inverse of `to_json`. Fields it does not know are ignored and missing ones take their defaults, so that
        snapshots of other versions can be read. Raises KeyError without id, name, kind, model or base_url."""
        names = {field.name for field in dataclasses.fields(cls)}
        values = {name: value for name, value in row.items() if name in names}
        for name in ("id", "name", "kind", "model", "base_url"):
            values[name] = row[name]
        values["params"] = None if row.get("params") is None else tuple(row["params"])
        values["labels"] = tuple(row.get("labels") or ())
        values["headers"] = dict(row.get("headers") or {})
        values["extra_body"] = dict(row.get("extra_body") or {})
        values["limits"] = Limits(**_fields_of(Limits, row.get("limits") or {}))
        values["aws"] = None if row.get("aws") is None else Aws(**_fields_of(Aws, row["aws"]))
        values["price"] = PriceRef(**_fields_of(PriceRef, row.get("price") or {}))
        return cls(**values)


def _fields_of(kind: type[Limits] | type[PriceRef] | type[Aws], row: JsonMapping) -> Json:
    return {field.name: row[field.name] for field in dataclasses.fields(kind) if field.name in row}


class ServerState(TypedDict):
    """How a local model server is; ``restarts``: how many times it was started again."""

    state: str
    sentence: str
    url: str | None
    restarts: int
    pid: int | None


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Ask:
    """What one column is asked: the text side of a call, the same for every wire.

    ``messages`` ends with a user turn. ``params`` uses the product's own names (`services.params.PARAMS`):
    temperature, top_p, top_k, max_tokens, stop (list of str), seed, reasoning_effort, frequency_penalty,
    presence_penalty. ``cache`` None: nothing is said about prompt caching, and the service does what it does by
    itself.
    """

    messages: tuple[Message, ...]
    system: str | None = None
    params: JsonMapping = field(default_factory=dict)
    cache: CacheMode | None = None


@dataclass(frozen=True, slots=True)
class Signing:
    """What a request has to be signed for with AWS Signature Version 4. It holds no credential."""

    service: str  # the name in the signature's scope: "bedrock", "bedrock-mantle", "sagemaker"
    region: str
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class WireRequest:
    """An HTTP request ready to be sent. ``body`` is the JSON object; ``headers`` hold no key (see `auth`)."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: JsonMapping
    # Header that carries the key, and its template with "{key}": ("x-api-key", "{key}"). None: no key is sent.
    auth: tuple[str, str] | None = None
    framing: Framing = "sse"
    sign: Signing | None = None
    sent_params: JsonMapping = field(default_factory=dict)
    dropped_params: Mapping[str, str] = field(default_factory=dict)  # name -> why it was not sent


@dataclass(frozen=True, slots=True)
class Usage:
    """Five disjoint counts (cache writes by TTL). A field is None when the service did not say.

    ``source``: "provider" (the service's own final figures), "partial" (the service's, but the stream ended
    before its final ones), "estimated" (ours, from what arrived), "none"; None: the call has not been counted yet.
    """

    uncached_input: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    reasoning_output: int | None = None
    answer_output: int | None = None
    source: Literal["provider", "partial", "estimated", "none"] | None = "none"
    raw: JsonMapping | None = None  # the service's own usage object, unchanged

    @property
    def input_total(self) -> int | None:
        """All input tokens, cached or not; None when no part is known."""
        parts = [self.uncached_input, self.cache_read, self.cache_write_5m, self.cache_write_1h]
        stated = [p for p in parts if p is not None]
        return sum(stated) if stated else None

    @property
    def output_total(self) -> int | None:
        """All output tokens, reasoning and answer; None when neither is known."""
        stated = [p for p in (self.reasoning_output, self.answer_output) if p is not None]
        return sum(stated) if stated else None


# --- what a wire decoder says --------------------------------------------------------------------------------------


class Delta(NamedTuple):
    """Content that arrived. ``text`` is never empty. ``tool`` is tool-call arguments: it stops the TTFT clock too."""

    kind: Literal["answer", "reasoning", "tool"]
    text: str


@dataclass(frozen=True, slots=True)
class WireError:
    """An error the service stated, before or inside the stream."""

    outcome: Outcome
    type: str | None = None
    code: str | None = None
    message: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Every time of one attempt, in milliseconds from t0 unless said otherwise (docs/metrics.md). None = unknown."""

    queued_ms: float | None = None  # accepted by us → handed to the transport
    connect_ms: float | None = None  # DNS + TCP + TLS of a new connection; 0.0 when `reused`
    reused: bool | None = False
    ttfb_ms: float | None = None  # t0 → response headers
    ttft_ms: float | None = None  # t0 → first non-empty delta of any kind
    ttfat_ms: float | None = None  # t0 → first non-empty answer delta
    ttlt_ms: float | None = None  # t0 → last content delta
    end_ms: float | None = None  # t0 → the call was over (terminal signal, error or abort)
    itl_p50_ms: float | None = None
    itl_p95_ms: float | None = None  # None below 20 gaps
    itl_p99_ms: float | None = None  # None below 100 gaps
    itl_max_ms: float | None = None
    n_deltas: int | None = 0
    tpot_ms: float | None = None
    decode_tps: float | None = None
    decode_hidden: str | None = None  # why decode_tps is None
    e2e_tps: float | None = None
    self_lag_ms: float | None = None
    lag_marked: bool | None = False  # self_lag above max(2 ms, 5 % of the median ITL)
    server_ms: float | None = None  # what the service itself reports
    buffered_suspect: bool | None = False
