"""What an inference server says about itself beside its answers, and what its /metrics page says right now.

Pure functions over the bodies of its own GET addresses; `services.engine.server_metrics` fetches them. Every field is
optional and every byte is hostile: what is not there, or is not what it should be, is None.

Sources: vLLM's and SGLang's model cards carry ``max_model_len`` and ``owned_by``; vLLM's GET /version is
``{"version": …}``; SGLang's GET /get_server_info (later /server_info:
https://docs.sglang.io/basic_usage/native_api.html) holds all of its arguments, its key included, so only three named
fields are ever read; TGI's GET /info is the schema "Info" of https://huggingface.co/docs/text-generation-inference;
llama.cpp's GET /props and the ``meta`` of its model card were read from the embedded server (tests/servers/).

The page is Prometheus text, parsed by `prometheus_client`. A server's page can hold tens of thousands of lines of
histograms, and it is read on the loop that stamps answers: only the few lines whose names are known here are parsed.

Names and units:
- vLLM: https://docs.vllm.ai/en/stable/usage/metrics/ and https://docs.vllm.ai/en/v0.12.0/design/metrics/ (V1:
  ``kv_cache_usage_perc`` is a share from 0 to 1, prefix cache counters count tokens); the ``gpu_`` names of V0 and
  early V1 are in https://docs.vllm.ai/en/v0.8.5/serving/metrics.html.
- SGLang: https://docs.sglang.io/references/production_metrics.html (needs --enable-metrics); ``cache_hit_rate`` is that
  of the last prefill batch only, so the counters are taken where there are any.
- TGI: https://huggingface.co/docs/text-generation-inference/en/reference/metrics.
- llama.cpp: recorded from the embedded server in tests/servers/llamacpp.txt (``prompt_tokens_total`` excludes what came
  from the cache); ``kv_cache_usage_ratio`` was in its README until the cache was made anew in 2025.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypedDict, TypeVar
from urllib.parse import urlsplit, urlunsplit

from prometheus_client.parser import text_string_to_metric_families

from services.providers.decoder import loads
from services.providers.errors import plain
from services.providers.usage import count, obj
from services.types import Deployment

MAX_LINES = 400  # of known names: engines × models, with room

MAX_LINE = 4096  # characters

MOST_REQUESTS, MOST_TOKENS = 1e9, 1e18

Names = tuple[str, ...]

FIGURES = {
    "running": "how many requests it works on",
    "waiting": "how many requests wait",
    "kv": "its KV cache",
    "prefix": "its prefix cache",
}

T = TypeVar("T")


class _Odd(ValueError):
    """A figure is stated, and cannot be: below 0, no number, or more than there can be."""


class NoMetrics(ValueError):
    """A page that tells nothing; the message is one sentence for the reader."""


class GaugeJson(TypedDict):
    """A `Gauge` on the wire."""

    software: str
    running: int | None
    waiting: int | None
    kv_used: float | None
    prefix_queries: float | None
    prefix_hits: float | None
    hit_rate: float | None
    unreadable: list[str]


class FactsJson(TypedDict):
    """A `ServerFacts` on the wire."""

    software: str | None
    version: str | None
    models: list[str]
    context_tokens: int | None
    slots: int | None
    kv_tokens: int | None


class ServerReport(TypedDict):
    """What a deployment's server is and how it is now: either of each pair, both None where there is none to ask."""

    supported: bool
    facts: FactsJson | None
    facts_trouble: str | None
    gauge: GaugeJson | None
    trouble: str | None


@dataclass(frozen=True, slots=True)
class Gauge:
    """A server's state at one moment. Counts of requests; ``kv_used`` from 0 to 1; the two counters are prompt tokens
    (blocks in early V1 of vLLM) since the server started; ``hit_rate`` (0 to 1) is set where a server states only
    that. None: it does not say, or says what cannot be; the latter figures (of `FIGURES`) are in ``unreadable``."""

    software: str
    running: int | None = None
    waiting: int | None = None
    kv_used: float | None = None
    prefix_queries: float | None = None
    prefix_hits: float | None = None
    hit_rate: float | None = None
    unreadable: tuple[str, ...] = ()

    def to_json(self) -> GaugeJson:
        """Plain JSON; `from_json` gives it back unchanged."""
        return {
            "software": self.software,
            "running": self.running,
            "waiting": self.waiting,
            "kv_used": self.kv_used,
            "prefix_queries": self.prefix_queries,
            "prefix_hits": self.prefix_hits,
            "hit_rate": self.hit_rate,
            "unreadable": list(self.unreadable),
        }

    @classmethod
    def from_json(cls, row: GaugeJson) -> Gauge:
        """Inverse of `to_json`; fields it does not know are left out."""
        return cls(
            row["software"],
            row["running"],
            row["waiting"],
            row["kv_used"],
            row["prefix_queries"],
            row["prefix_hits"],
            row["hit_rate"],
            tuple(row["unreadable"]),
        )


@dataclass(frozen=True, slots=True)
class _Dialect:
    """A software's names for each figure. The first name that is there is taken; ``queries`` are added up."""

    software: str
    running: Names
    waiting: Names
    kv: Names = ()
    queries: Names = ()
    hits: Names = ()
    rate: Names = ()

    @property
    def names(self) -> Names:
        return self.running + self.waiting + self.kv + self.queries + self.hits + self.rate


VLLM, SGLANG, TGI, LLAMACPP = "vLLM", "SGLang", "TGI", "llama.cpp"

_VLLM = _Dialect(
    VLLM,
    running=("vllm:num_requests_running",),
    waiting=("vllm:num_requests_waiting",),
    kv=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    queries=("vllm:prefix_cache_queries_total",),
    hits=("vllm:prefix_cache_hits_total",),
    rate=("vllm:gpu_prefix_cache_hit_rate",),
)

DIALECTS = (
    _VLLM,
    dataclasses.replace(_VLLM, queries=("vllm:prefix_cache_queries",), hits=("vllm:prefix_cache_hits",)),
    dataclasses.replace(
        _VLLM, queries=("vllm:gpu_prefix_cache_queries_total",), hits=("vllm:gpu_prefix_cache_hits_total",)
    ),
    dataclasses.replace(_VLLM, queries=("vllm:gpu_prefix_cache_queries",), hits=("vllm:gpu_prefix_cache_hits",)),
    _Dialect(
        SGLANG,
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv=("sglang:token_usage",),
        queries=("sglang:prompt_tokens_total",),
        hits=("sglang:cached_tokens_total",),
        rate=("sglang:cache_hit_rate",),
    ),
    _Dialect(TGI, running=("tgi_batch_current_size",), waiting=("tgi_queue_size",)),
    _Dialect(
        LLAMACPP,
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv=("llamacpp:kv_cache_usage_ratio",),
        queries=("llamacpp:prompt_tokens_total", "llamacpp:prompt_tokens_cached_total"),
        hits=("llamacpp:prompt_tokens_cached_total",),
    ),
)

_KNOWN = frozenset(name for dialect in DIALECTS for name in dialect.names)

_STARTS = tuple(b"\n" + name.encode() for name in sorted(_KNOWN))

_ANY = re.compile(rb"^(?:# (?:TYPE|HELP) \S|[A-Za-z_:][\w:]*(?:\{| +[-+0-9NI.]))", re.MULTILINE)

_START_OF_PAGE = 65_536  # bytes that are looked at to tell a metrics page from another


# Ranks of one engine work on the same requests: only the first of them is counted.
_RANKS = ("tp_rank", "pp_rank", "moe_ep_rank")


Series = dict[str, list[float]]


def read_metrics(page: bytes) -> Gauge:
    """The state that a /metrics page tells. Raises `NoMetrics` in words."""
    series = _series(_lines(page))
    if not series:
        if _ANY.search(page[:_START_OF_PAGE]) is None:
            raise NoMetrics("What this address answers at /metrics is not a metrics page.")
        raise NoMetrics("This server's /metrics holds none of the figures of vLLM, SGLang, TGI or llama.cpp.")
    gauges = [_gauge(dialect, series) for dialect in DIALECTS]
    return max(gauges, key=_told)


def _told(gauge: Gauge) -> tuple[int, int]:
    """How much a reading tells, to choose among dialects: its figures, then those that stand there unreadably."""
    figures = (gauge.running, gauge.waiting, gauge.kv_used, gauge.prefix_queries, gauge.prefix_hits, gauge.hit_rate)
    return sum(value is not None for value in figures), len(gauge.unreadable)


def _lines(page: bytes) -> Iterator[str]:
    """The lines of known names. Looked for one name after the other: ten times faster than one pattern for all."""
    page = b"\n" + page
    taken = 0
    for start in _STARTS:
        start_of_line = page.find(start)
        while start_of_line >= 0 and taken < MAX_LINES:
            end = page.find(b"\n", start_of_line + 1)
            line = page[start_of_line + 1 : end if end >= 0 else len(page)]
            if line[len(start) - 1 : len(start)] in (b"{", b" ", b"\t") and len(line) <= MAX_LINE:
                taken += 1
                yield line.decode("utf-8", "replace")
            start_of_line = page.find(start, start_of_line + 1)


def _series(lines: Iterable[str]) -> Series:
    """The values under each known name, whatever they are. A line that cannot be parsed is no line."""
    series: Series = {}
    for line in lines:
        try:
            samples = [sample for family in text_string_to_metric_families(line + "\n") for sample in family.samples]
        except Exception:  # noqa: S112 - the parser raises whatever a line makes it trip over
            continue
        for sample in samples:
            first = all(sample.labels.get(rank, "0") in ("0", "") for rank in _RANKS)
            if sample.name in _KNOWN and first:
                series.setdefault(sample.name, []).append(float(sample.value))
    return series


def _gauge(dialect: _Dialect, series: Series) -> Gauge:
    odd: dict[str, None] = {}

    def take(figure: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except _Odd:
            odd[figure] = None
            return None

    queries, hits = take("prefix", lambda: _counters(dialect, series)) or (None, None)
    return Gauge(
        dialect.software,
        running=take("running", lambda: _whole(_sum(dialect.running, series))),
        waiting=take("waiting", lambda: _whole(_sum(dialect.waiting, series))),
        kv_used=take("kv", lambda: _share(dialect.kv, series)),
        prefix_queries=queries,
        prefix_hits=hits,
        hit_rate=None if queries is not None else take("prefix", lambda: _share(dialect.rate, series)),
        unreadable=tuple(odd),
    )


def _counters(dialect: _Dialect, series: Series) -> tuple[float, float] | None:
    """Tokens that were asked and those that were hits; None when one of the two is not stated."""
    queries = _sum(dialect.queries, series) if all(name in series for name in dialect.queries) else None
    hits = _sum(dialect.hits, series)
    if queries is None or hits is None:
        return None
    if hits > queries:
        raise _Odd
    return queries, hits


def _sum(names: Names, series: Series) -> float | None:
    """The sum over engines and names; None when there is none of them. One value that cannot be spoils it: the rest
    would be too small a sum. Raises `_Odd`."""
    values = [value for name in names for value in series.get(name, ())]
    if not all(0 <= value <= MOST_TOKENS for value in values):
        raise _Odd
    return math.fsum(values) if values else None


def _whole(value: float | None) -> int | None:
    if value is not None and value >= MOST_REQUESTS:
        raise _Odd
    return None if value is None else round(value)


def _share(names: Names, series: Series) -> float | None:
    """The mean over engines of the first name that is there; None when there is none. Raises `_Odd`."""
    values: list[float] = next((series[name] for name in names if name in series), [])
    if not all(0 <= value <= 1.001 for value in values):
        raise _Odd
    return min(math.fsum(values) / len(values), 1.0) if values else None


def hits_since(earlier: Gauge | None, now: Gauge) -> float | None:
    """The share (0 to 1) of prompt tokens that came from the prefix cache between two looks.

    None when nothing was asked between them, when the server does not count, or when it was started again (its counters
    fell). Without ``earlier``: since the server started.
    """
    if now.prefix_queries is None or now.prefix_hits is None:
        return now.hit_rate
    queries, hit = now.prefix_queries, now.prefix_hits
    if earlier is not None:
        if earlier.prefix_queries is None or earlier.prefix_hits is None:
            return None
        queries, hit = queries - earlier.prefix_queries, hit - earlier.prefix_hits
    return hit / queries if queries > 0 and 0 <= hit <= queries else None


def lacks(gauge: Gauge) -> tuple[str, ...]:
    """One sentence for each figure that this server does not report, or reports as something that cannot be."""
    values = {
        "running": gauge.running,
        "waiting": gauge.waiting,
        "kv": gauge.kv_used,
        "prefix": gauge.prefix_queries if gauge.hit_rate is None else gauge.hit_rate,
    }
    return tuple(
        f"What this server reports as {FIGURES[name]} is not readable."
        if name in gauge.unreadable
        else f"This server does not report {FIGURES[name]}."
        for name, value in values.items()
        if value is None
    )


MAX_MODELS = 50

_OWNERS = {"vllm": VLLM, "sglang": SGLANG, "llamacpp": LLAMACPP, "llama.cpp": LLAMACPP}

_VERSION = re.compile(r"^v\d+[a-z0-9]*$")


# Where each software tells more; whoever does not say what it is is asked for the one address that is TGI's own.
MORE: Mapping[str | None, tuple[str, ...]] = {
    VLLM: ("/version",),
    SGLANG: ("/get_server_info", "/server_info"),
    LLAMACPP: ("/props",),
    None: ("/info",),
}


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """A server's own account of itself. ``slots``: how many requests it works on at once; ``kv_tokens``: how many
    tokens its KV cache holds in all."""

    software: str | None = None
    version: str | None = None
    models: tuple[str, ...] = ()
    context_tokens: int | None = None
    slots: int | None = None
    kv_tokens: int | None = None

    def to_json(self) -> FactsJson:
        """Plain JSON; `from_json` gives it back unchanged."""
        return {
            "software": self.software,
            "version": self.version,
            "models": list(self.models),
            "context_tokens": self.context_tokens,
            "slots": self.slots,
            "kv_tokens": self.kv_tokens,
        }

    @classmethod
    def from_json(cls, row: FactsJson) -> ServerFacts:
        """Inverse of `to_json`; fields it does not know are left out."""
        return cls(
            row["software"],
            row["version"],
            tuple(row["models"]),
            row["context_tokens"],
            row["slots"],
            row["kv_tokens"],
        )


def has_server(deployment: Deployment) -> bool:
    """Whether there is a server of one's own behind a deployment, which can be asked for its state."""
    if deployment.base_url.startswith("embedded://"):
        return True
    return deployment.kind == "openai-compatible" and deployment.aws is None


def root_of(base_url: str) -> str:
    """The address that /metrics and /version hang under: the base URL without a wire's path and its version."""
    parts = urlsplit(base_url.strip())
    segments = parts.path.rstrip("/").split("/")
    for place, segment in enumerate(segments):
        if _VERSION.match(segment):
            segments = segments[:place]
            break
    return urlunsplit((parts.scheme, parts.netloc, "/".join(segments).rstrip("/"), "", ""))


def from_models(body: bytes, model: str) -> ServerFacts | None:
    """What GET /v1/models says, with the context length of ``model`` (or of the only one). None: no list of models."""
    listed = obj(loads(body)).get("data")
    if not isinstance(listed, list):
        return None
    cards = [card for card in map(obj, listed[:MAX_MODELS]) if isinstance(card.get("id"), str)]
    named = [card for card in cards if card["id"] == model] or (cards if len(cards) == 1 else [])
    card = named[0] if named else {}
    meta = obj(card.get("meta"))
    owners = {str(c.get("owned_by", "")).lower() for c in cards}
    return ServerFacts(
        software=next((_OWNERS[owner] for owner in owners if owner in _OWNERS), None),
        models=tuple(plain(c["id"], 200) for c in cards),
        context_tokens=_size(card.get("max_model_len")) or _size(meta.get("n_ctx")),
    )


def refined(facts: ServerFacts, path: str, body: bytes) -> ServerFacts:
    """``facts`` with what the server said at one of the addresses of `MORE`; unchanged when that was nothing known."""
    answer = obj(loads(body))
    if path == "/version" and facts.software == VLLM:
        return replace(facts, version=_words(answer.get("version")))
    if path == "/props" and facts.software == LLAMACPP:
        settings = obj(answer.get("default_generation_settings"))
        return replace(
            facts,
            version=_words(answer.get("build_info")),
            slots=_size(answer.get("total_slots")),
            context_tokens=_size(settings.get("n_ctx")) or facts.context_tokens,
        )
    if path in MORE[SGLANG] and facts.software == SGLANG:
        return replace(
            facts,
            version=_words(answer.get("version")),
            kv_tokens=_size(answer.get("max_total_num_tokens")),
            context_tokens=facts.context_tokens or _size(answer.get("context_length")),
        )
    if path == "/info" and facts.software is None and isinstance(answer.get("model_id"), str):
        if "max_total_tokens" not in answer and answer.get("router") != "text-generation-router":
            return facts
        return replace(
            facts,
            software=TGI,
            version=_words(answer.get("version")),
            context_tokens=_size(answer.get("max_total_tokens")),
            kv_tokens=_size(answer.get("max_batch_total_tokens")),
        )
    return facts


def unserved(facts: ServerFacts, model: str) -> str | None:
    """A sentence when the server lists its models and the deployment's is not among them, else None."""
    if not facts.models or model in facts.models:
        return None
    and_more = f" and {len(facts.models) - 3} more" if len(facts.models) > 3 else ""
    return f"This server does not list the model “{model}”; it serves {', '.join(facts.models[:3])}{and_more}."


def _size(value: object) -> int | None:
    return count(value) or None


def _words(value: object) -> str | None:
    # llama.cpp that was built outside its repository calls itself "b0-unknown".
    is_known = isinstance(value, str) and "unknown" not in value
    return plain(value, 60) or None if is_known else None
