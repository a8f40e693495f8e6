"""deployments.toml: which deployments there are, whose key may go where, who may send. See deployments.example.toml.
Without one there are the catalogue's and the embedded models.

`load` reads the file, `validate` checks one deployment wherever it came from. Both raise `ConfigError`, whose message
is a sentence that never repeats a value which could be a key.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from services import toml_text
from services.aws.credentials import region_of
from services.deployments.toml_table import ConfigError, Source, Table, did_you_mean, plain, read_source
from services.deployments.validation import AWS_KEYS, faults, is_key_name, title
from services.pricing import cost
from services.providers import KINDS
from services.providers.base import Kind
from services.runs.spec import MAX_COLUMNS, MAX_REPETITIONS
from services.security import keys
from services.security import network as security_network
from services.security.access import folded
from services.security.hosts import BadHost, configured_host
from services.security.network import on_amazon
from services.types import Aws, Deployment, Limits, PriceRef, Wire

ANTHROPIC_URL = "https://api.anthropic.com"
OPENAI_URL = "https://api.openai.com/v1"
EMBEDDED_MODEL = "smollm2-135m-instruct"
# A model that nobody has switched on takes none of the few colours: `db.runs` gives it one when it first is.
RESERVED = 1000


def _anthropic(model: str, name: str, context_tokens: int | None, slot: int) -> Deployment:
    return Deployment(
        id=f"anthropic-{model}",
        name=name,
        kind="anthropic",
        model=model,
        base_url=ANTHROPIC_URL,
        wire="messages",
        key_env="ANTHROPIC_API_KEY",
        price=PriceRef(provider="anthropic", model=model),
        color_slot=slot,
        enabled=False,
        origin="catalogue",
        context_tokens=context_tokens,
    )


def _openai(model: str, name: str, context_tokens: int | None, slot: int) -> Deployment:
    return Deployment(
        id=f"openai-{model.replace('.', '-')}",
        name=name,
        kind="openai",
        model=model,
        base_url=OPENAI_URL,
        wire="responses",
        key_env="OPENAI_API_KEY",
        price=PriceRef(provider="openai", model=model),
        color_slot=slot,
        enabled=False,
        origin="catalogue",
        context_tokens=context_tokens,
    )


CATALOGUE: tuple[Deployment, ...] = (
    _anthropic("claude-haiku-5-5", "Claude Haiku 5.5", 1_000_000, RESERVED + 0),
    _anthropic("claude-sonnet-5-5", "Claude Sonnet 5.5", 1_000_000, RESERVED + 1),
    _anthropic("claude-opus-5-5", "Claude Opus 5.5", 1_000_000, RESERVED + 2),
    _anthropic("claude-fable-5-2", "Claude Fable 5.2", 1_000_000, RESERVED + 3),
    _anthropic("claude-haiku-4-5", "Claude Haiku 4.5", 200_000, RESERVED + 4),
    _openai("gpt-6-luna", "GPT-6 Luna", 1_050_000, RESERVED + 5),
    _openai("gpt-6.1-terra", "GPT-6.1 Terra", 1_050_000, RESERVED + 6),
    _openai("gpt-6.1-sol", "GPT-6.1 Sol", 1_050_000, RESERVED + 7),
    _openai("gpt-6.2-sol", "GPT-6.2 Sol", None, RESERVED + 8),
    _openai("gpt-6.2-astra", "GPT-6.2 Astra", None, RESERVED + 9),
)


def _local(
    id: str, name: str, kind: str, wire: Wire, slot: int, *, server: str = "main", context_tokens: int = 2048, note: str
) -> Deployment:
    return Deployment(
        id=id,
        name=name,
        kind=kind,
        model=EMBEDDED_MODEL,
        base_url=f"embedded://{server}",
        wire=wire,
        price=PriceRef(per_hour="0"),
        color_slot=slot,
        origin="embedded",
        context_tokens=context_tokens,
        labels=("local",),
        note=note,
    )


def embedded_deployments() -> tuple[Deployment, ...]:
    """The four deployments on the model servers that this program starts itself (`services.embedded`)."""
    two = "Runs on this machine with two threads and four slots; "
    return (
        _local("local-chat", "SmolLM2 · chat", "openai-compatible", "chat", 0, note=f"{two}Chat Completions wire."),
        _local("local-messages", "SmolLM2 · messages", "anthropic", "messages", 1, note=f"{two}Messages wire."),
        _local(
            "local-one-thread",
            "SmolLM2 · 1 thread",
            "openai-compatible",
            "chat",
            2,
            server="single",
            context_tokens=1024,
            note="Runs on this machine in a process of its own with one thread and one slot.",
        ),
        _local("local-responses", "SmolLM2 · responses", "openai", "responses", 3, note=f"{two}Responses wire."),
    )


__all__ = [
    "DEFAULT_PRIVATE_HOSTS",
    "Access",
    "Config",
    "ConfigError",
    "allowed_private",
    "aws_host_allowed",
    "load",
    "parse",
    "slug",
    "validate",
]

DEFAULT_PRIVATE_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
FIELDS = (
    "name",
    "kind",
    "model",
    "base_url",
    "wire",
    "key_env",
    "region",
    "params",
    "price",
    "labels",
    "limits",
    "extra_body",
    "headers",
    "context_tokens",
    "enabled",
    "id",
    "note",
    "aws",
    "endpoint_url",
    "proxy",
    "proxy_env",
    "ca_file",
)
PRICE_FIELDS = ("provider", "model", *cost.RATE_NAMES, "per_hour", "instance", "count")
BUILT_IN_IDS = frozenset(built_in.id for built_in in (*embedded_deployments(), *CATALOGUE))
SECTIONS = ("deployment", "network", "keys", "privacy", "access", "teams", "batch", "limits")
# Services whose price is known from their address alone.
LISTED_AT: Mapping[str, str] = {"api.anthropic.com": "anthropic", "api.openai.com": "openai"}
# Kinds whose price is known from what they are.
LISTED_FOR: Mapping[str, str] = {"bedrock": "aws"}
MOST_DAYS = 36_500
MOST_CALLS = 100_000
CALLS_PER_PERSON = 2 * MAX_COLUMNS * MAX_REPETITIONS  # the largest run fits, and another beside it


@dataclass(frozen=True, slots=True)
class Access:
    """Who may send prompts: everyone ("open"), or only the people listed ("closed", where the others may look).

    ``trust_email``: the address of a sign-in counts where the provider does not say whether it verified it.
    """

    mode: Literal["open", "closed"] = "open"
    senders: tuple[str, ...] = ()
    admins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()  # names under which browsers may reach the pages, see `services.security.hosts`
    trust_email: bool = False


@dataclass(frozen=True, slots=True)
class Privacy:
    """``store_text`` false: texts are never written. ``text_days`` and ``call_days``: after so many days texts, and
    whole calls, are deleted; None keeps them. Rollups are never deleted."""

    store_text: bool = True
    text_days: int | None = None
    call_days: int | None = None


@dataclass(frozen=True, slots=True)
class Config:
    """All of deployments.toml; ``Config()`` is what holds without the file. A ``…_days`` None: they are privacy."""

    deployments: tuple[Deployment, ...] = ()
    allow_private_hosts: frozenset[str] = DEFAULT_PRIVATE_HOSTS
    key_hosts: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: keys.BUILT_IN_HOSTS)
    store_text: bool = True
    text_days: int | None = None
    call_days: int | None = None
    access: Access = Access()
    teams: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    batch_folders: tuple[str, ...] = ()
    calls_per_person: int = CALLS_PER_PERSON


def load(path: Path) -> Config:
    """Reads and checks a deployments file. Raises `ConfigError`: one sentence with the file's name and line."""
    return parse(read_source(path))


def parse(source: Source) -> Config:
    """`load` for a text that has been read already."""
    try:
        data = toml_text.loads("\n".join(source.lines) + "\n", parse_float=Decimal)
    except toml_text.NotToml as error:
        if error.deep:
            raise source.error("this is nested too deeply to be read: take the inner brackets out.") from None
        raise source.error(
            f"this is not valid TOML ({keys.scrub(error.what)}).", error.line or len(source.lines)
        ) from None
    for section in data:
        if section not in SECTIONS:
            line = source.line_of(section, 0, None) or _line_of_key(source, section)
            raise source.error(f"there is no section {section!r}{did_you_mean(section, SECTIONS)}", line)
    rows = data.get("deployment", [])
    if not isinstance(rows, list):
        line = source.line_of("deployment", 0, None)
        raise source.error("write [[deployment]] with two brackets, once for each deployment.", line)
    tables = [Table(source, "deployment", row, number, _title(row, number)) for number, row in enumerate(rows)]
    deployments = _unique(tables)
    privacy = _privacy(Table(source, "privacy", data.get("privacy", {})))
    network = Table(source, "network", data.get("network", {}))
    network.only(("allow_private_hosts",))
    private = network.texts("allow_private_hosts")
    config = Config(
        deployments=tuple(deployments),
        allow_private_hosts=DEFAULT_PRIVATE_HOSTS if private is None else frozenset(host.lower() for host in private),
        key_hosts=_key_hosts(source, data.get("keys", {}), deployments),
        store_text=privacy.store_text,
        text_days=privacy.text_days,
        call_days=privacy.call_days,
        access=_access(Table(source, "access", data.get("access", {}))),
        teams=_teams(Table(source, "teams", data.get("teams", {}))),
        batch_folders=_batch_folders(Table(source, "batch", data.get("batch", {}))),
        calls_per_person=_calls_per_person(Table(source, "limits", data.get("limits", {}))),
    )
    for table, deployment in zip(tables, deployments, strict=True):
        for name, sentence in faults(deployment, allowed_private(deployment, config), config.key_hosts):
            raise table.error(sentence, name)
    return config


def validate(deployment: Deployment, config: Config) -> None:
    """Raises `ConfigError` in words when a deployment, from the page or from anywhere, cannot be used as it is."""
    for _, sentence in faults(deployment, allowed_private(deployment, config), config.key_hosts):
        raise ConfigError(f"{title(deployment.name) or 'The deployment'} {sentence}")


def allowed_private(deployment: Deployment, config: Config) -> frozenset[str]:
    """Hosts, addresses and ranges with private addresses that calls of ``deployment`` may reach.

    A deployment in the file may reach its own host wherever that is, because an administrator wrote it there; one from
    the page only what ``allow_private_hosts`` names. Metadata addresses are refused later whatever this returns.
    """
    if deployment.origin != "file":
        return config.allow_private_hosts
    try:
        return config.allow_private_hosts | {security_network.host_of(deployment.base_url)}
    except security_network.Forbidden:
        return config.allow_private_hosts


def aws_host_allowed(deployment: Deployment, url: str, config: Config) -> bool:
    """May a request that is signed with AWS credentials go to ``url``?

    To hosts of AWS, to whatever an administrator wrote into the file, and to hosts listed under [keys.AWS]: a signature
    carries the session token of temporary credentials.
    """
    return deployment.origin == "file" or on_amazon(url) or keys.allowed_host(AWS_KEYS, url, config.key_hosts)


def slug(name: str, taken: Collection[str]) -> str:
    """A short identifier made from ``name`` (a–z, 0–9, "-") that is not in ``taken``."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    base = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:48].strip("-") or "deployment"
    candidate, number = base, 1
    while candidate in taken:
        number += 1
        candidate = f"{base}-{number}"
    return candidate


# --- reading the file ------------------------------------------------------------------------------------------------


def _title(row: Any, number: int) -> str:
    name = title(row.get("name")) if isinstance(row, Mapping) else ""
    return f"deployment {name}" if name else f"deployment number {number + 1}"


def _line_of_key(source: Source, key: str) -> int | None:
    pattern = re.compile(rf"\s*(?:\[+\s*)?[\"']?{re.escape(key)}\b")
    return next((index for index, line in enumerate(source.lines, 1) if pattern.match(line)), None)


def _unique(tables: list[Table]) -> list[Deployment]:
    deployments: list[Deployment] = []
    for table in tables:
        deployment = _deployment(table, {earlier.id for earlier in deployments})
        for name in ("name", "id"):
            if getattr(deployment, name) in {getattr(earlier, name) for earlier in deployments}:
                raise table.error(f"has the same {name} as a deployment above: each needs its own.", name)
        if deployment.id in BUILT_IN_IDS:
            raise table.error("has the id of a deployment that comes with the program: give it another id.", "id")
        deployments.append(deployment)
    return deployments


def _deployment(table: Table, taken: set[str]) -> Deployment:
    table.only(FIELDS)
    for needed in ("name", "kind", "model"):
        if not table.text(needed):
            raise table.error(f"needs {needed!r}.")
    name, kind_name = table.text("name") or "", table.text("kind") or ""
    kind = KINDS.get(kind_name)
    if kind is None:
        raise table.error(f"has an unknown kind {keys.scrub(kind_name)!r}; it can be {', '.join(KINDS)}.", "kind")
    aws = _aws(table, kind)
    region = table.text("region")
    if aws is not None:
        region = region_of(region, aws.profile)
        if region is None:
            raise table.error("needs 'region', for example \"us-east-1\".")
    if table.text("base_url") and table.text("endpoint_url"):
        raise table.error("has both 'base_url' and 'endpoint_url', which are the same thing: give one.", "endpoint_url")
    base_url = table.text("base_url") or table.text("endpoint_url") or kind.default_base_url
    if not base_url:
        raise table.error(f"needs 'base_url': a deployment of kind {kind_name!r} has no address of its own.")
    base_url = base_url.replace("{region}", region or "")
    at_home = base_url.rstrip("/") == (kind.default_base_url or "").rstrip("/")
    headers = table.table("headers")
    if not all(isinstance(value, str) for value in headers.values()):
        raise table.error("has a header whose value is not text in quotes.", "headers")
    return Deployment(
        id=table.text("id") or slug(name, taken),
        name=name,
        kind=kind_name,
        model=table.text("model") or "",
        base_url=base_url.rstrip("/"),
        wire=table.text("wire") or kind.wires[0],  # type: ignore[arg-type]  # `faults` compares it with the kind's wires
        key_env=table.text("key_env") or (kind.default_key_env if at_home else None),
        region=region,
        aws=aws,
        params=table.texts("params"),
        price=_price(table, base_url),
        enabled=table.flag("enabled", True),
        origin="file",
        headers=headers,
        limits=_limits(table),
        context_tokens=table.whole("context_tokens", minimum=1),
        labels=table.texts("labels") or (),
        extra_body=plain(table.table("extra_body")),
        note=table.text("note") or "",
        proxy=table.text("proxy"),
        proxy_env=table.text("proxy_env"),
        ca_file=table.text("ca_file"),
    )


def _aws(table: Table, kind: Kind) -> Aws | None:
    row = table.table("aws")
    if not row and not kind.on_aws and "aws" not in table.values:
        return None
    names = [field.name for field in fields(Aws)]
    for key, value in row.items():
        if key not in names:
            raise table.error(f"has an unknown field {key!r} in 'aws'{did_you_mean(key, names)}", "aws")
        if not isinstance(value, str) or not value.strip():
            raise table.error(f"has the field {key!r} of 'aws' as something else than text in quotes.", "aws")
    return Aws(**{key: value.strip() for key, value in row.items()})


def _price(table: Table, base_url: str) -> PriceRef:
    row = table.table("price")
    for key in row:
        if key not in PRICE_FIELDS:
            raise table.error(f"has an unknown price field {key!r}{did_you_mean(key, PRICE_FIELDS)}", "price")
    texts = {key: str(value) for key, value in row.items()}
    rates = {key: texts[key] for key in cost.RATE_NAMES if key in texts}
    if "count" in texts and not {"per_hour", "instance"} & set(texts):
        raise table.error(
            "has a price with 'count' alone: it counts instances or units of 'per_hour' or 'instance'.", "price"
        )
    forms = [bool(rates), "per_hour" in texts, "instance" in texts, "provider" in texts or "model" in texts]
    if sum(forms) > 1:
        raise table.error(
            "has a price in two forms: give rates, or per_hour, or instance, or provider and model.", "price"
        )
    if not any(forms):
        listed = LISTED_AT.get(base_url.partition("://")[2].partition("/")[0]) or LISTED_FOR.get(
            table.text("kind") or ""
        )
        return PriceRef(provider=listed, model=table.text("model")) if listed else PriceRef()
    count = row.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or count < 1:
        raise table.error("has a price whose 'count' is not a whole number of at least 1.", "price")
    return PriceRef(
        texts.get("provider"), texts.get("model"), rates or None, texts.get("per_hour"), texts.get("instance"), count
    )


def _limits(table: Table) -> Limits:
    row = table.table("limits")
    names = [field.name for field in fields(Limits)]
    for key, value in row.items():
        if key not in names:
            raise table.error(f"has an unknown limit {key!r}{did_you_mean(key, names)}", "limits")
        if isinstance(value, bool) or not isinstance(value, int | Decimal):
            raise table.error(f"has the limit {key!r} as something else than a number of seconds.", "limits")
    return Limits(**{key: float(value) for key, value in row.items()})


def _key_hosts(source: Source, data: Any, deployments: list[Deployment]) -> dict[str, tuple[str, ...]]:
    bound = {name: list(hosts) for name, hosts in keys.BUILT_IN_HOSTS.items()}
    for name, row in Table(source, "keys", data).values.items():
        if not is_key_name(name):
            raise source.error(
                "[keys.NAME] takes the name of a variable, never a key itself.", _line_of_key(source, "keys")
            )
        table = Table(source, f"keys.{name}", row)
        table.only(("hosts",))
        bound.setdefault(name, []).extend(host.lower() for host in table.texts("hosts") or ())
    for deployment in deployments:
        if deployment.key_env and deployment.base_url.startswith(("http://", "https://")):
            host = deployment.base_url.partition("://")[2].partition("/")[0].lower()
            bound.setdefault(deployment.key_env, []).append(re.sub(r":\d+\Z", "", host))
    return {name: tuple(dict.fromkeys(hosts)) for name, hosts in bound.items()}


def _access(table: Table) -> Access:
    table.only(("mode", "senders", "admins", "hosts", "trust_email"))
    mode = table.text("mode") or "open"
    if mode not in ("open", "closed"):
        raise table.error('has an unknown mode; it can be "open" or "closed".', "mode")
    people = {}
    for role in ("senders", "admins"):
        people[role] = tuple(folded(address) for address in table.texts(role) or ())
        for address in people[role]:
            if not re.fullmatch(r"[^@\s]+@[^@\s]+", address):
                raise table.error(f"has {address!r} in {role!r}, which is not an e-mail address.", role)
    hosts = table.texts("hosts") or ()
    for host in hosts:
        try:
            configured_host(host)
        except BadHost as error:
            raise table.error(f"has a wrong entry in 'hosts': {error}", "hosts") from None
    return Access(
        mode="closed" if mode == "closed" else "open",
        senders=people["senders"],
        admins=people["admins"],
        hosts=hosts,
        trust_email=table.flag("trust_email", False),
    )


def _privacy(table: Table) -> Privacy:
    """The section as it is written."""
    table.only(("store_text", "text_days", "call_days"))
    texts = table.whole("text_days", minimum=1, maximum=MOST_DAYS)
    calls = table.whole("call_days", minimum=1, maximum=MOST_DAYS)
    if texts is not None and calls is not None and calls <= texts:
        raise table.error(
            f"has call_days = {calls}: calls go with their texts, so it has to be more than text_days = {texts}.",
            "call_days",
        )
    return Privacy(table.flag("store_text", True), texts, calls)


def _teams(table: Table) -> Mapping[str, tuple[str, ...]]:
    """Team → its people (e-mail addresses, or names where nobody signs in), as they are recorded."""
    teams: dict[str, tuple[str, ...]] = {}
    for name in table.values:
        if not name.strip():
            raise table.error("has a team without a name.", name)
        teams[name] = tuple(
            dict.fromkeys(folded(member) if "@" in member else member for member in table.texts(name) or ())
        )
    return teams


def _batch_folders(table: Table) -> tuple[str, ...]:
    """The folders whose files may be named on the Batch page."""
    table.only(("folders",))
    folders = tuple(folder.strip() for folder in table.texts("folders") or ())
    for folder in folders:
        if not Path(folder).is_absolute() or os.path.normpath(folder) == "/" or "\0" in folder:
            raise table.error(
                f"has {folder!r} in 'folders': write the whole path of a folder, like \"/data/prompts\".", "folders"
            )
    return folders


def _calls_per_person(table: Table) -> int:
    """How many calls one person may have under way or waiting in runs."""
    table.only(("calls_per_person",))
    return table.whole("calls_per_person", minimum=1, maximum=MOST_CALLS) or CALLS_PER_PERSON
