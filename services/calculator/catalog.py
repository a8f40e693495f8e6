"""What the calculator can choose from: models, GPUs, machines, units and services, each row with source and date.

The rows are dated files (docs/data.md says how each is made anew); `merged` lays the user's own over them.
"""

from __future__ import annotations

import csv
import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from functools import cache, cached_property
from importlib.resources import files
from typing import Any

from services.aws import instances as aws_instances
from services.aws.bedrock_ids import US_REGIONS
from services.calculator import hf_config
from services.calculator.assumptions import PRICE_CONTEXTS, AccountQuota, ApiModel, ApiSpeed, Instance, Own, Unit
from services.calculator.hf_config import ConfigError
from services.calculator.types import Gpu, Llm, Way
from services.pricing import sources

Row = Mapping[str, str]


def rows(file: str) -> list[dict[str, str]]:
    """The rows of one file of ``services/data``."""
    text = (files("services.data") / file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


def optional(cell: str) -> float | None:
    """A number, None for an empty cell."""
    return float(cell) if cell else None


def whole(cell: str) -> int | None:
    """A whole number, None for an empty cell."""
    return int(cell) if cell else None


@cache
def gpu_rows() -> tuple[tuple[Gpu, tuple[str, ...]], ...]:
    """Each GPU of ``gpus.csv`` with the other names it goes by."""
    return tuple((_gpu(row), tuple(row["aliases"].split(";")) if row["aliases"] else ()) for row in rows("gpus.csv"))


def _gpu(row: Row) -> Gpu:
    return Gpu(
        name=row["name"],
        memory_gib=float(row["memory_gib"]),
        bandwidth_gb_s=float(row["bandwidth_gb_s"]),
        tflops_bf16=float(row["tflops_bf16"]),
        tflops_fp8=optional(row["tflops_fp8"]),
        tflops_fp4=optional(row["tflops_fp4"]),
        link=row["link"],
        link_gb_s=float(row["link_gb_s"]),
        source=row["source"],
        date=row["date"],
        note=row["note"],
    )


@cache
def llm_rows() -> tuple[Llm, ...]:
    """Every model of ``llms.csv``; the columns are the fields of `Llm`."""
    return tuple(_llm(row) for row in rows("llms.csv"))


def _llm(row: Row) -> Llm:
    values: dict[str, object] = {}
    for field in fields(Llm):
        cell = row[field.name]
        if field.type in ("int", "float"):
            values[field.name] = int(cell) if field.type == "int" else float(cell)
        else:
            values[field.name] = cell == "yes" if field.type == "bool" else cell
    return Llm(**values)  # type: ignore[arg-type]  # each value was made by its field's type above


@cache
def instance_rows() -> tuple[Instance, ...]:
    """EC2's and SageMaker's instances that have a price (`services.aws.instances`)."""
    memory = {gpu.name: gpu.memory_gib for gpu, _ in gpu_rows()}
    return tuple(
        Instance(
            row.instance,
            Way.SAGEMAKER if row.instance.startswith("ml.") else Way.EC2,
            row.gpu,
            row.gpu_count,
            float(row.usd_per_hour),
            row.source,
            row.date,
            row.region,
            memory.get(row.gpu),
            row.note,
        )
        for row in aws_instances.prices().values()
    )


@cache
def unit_rows(region: str = "us") -> Sequence[Unit]:
    """Provisioned throughput of a region ("us": the US regions): the models that AWS sells units of without publishing
    their price (``bedrock_units.csv``, one row for each commitment), then the priced rows, which take their place."""
    regions = US_REGIONS if region == "us" else {region}
    priced = [
        Unit(
            row.provider,
            row.model,
            _unit_title(row.model),
            row.commitment,
            None if row.usd_per_unit_hour is None else float(row.usd_per_unit_hour),
            row.input_tpm,
            row.output_tpm,
            row.source,
            row.date,
            row.note,
            families().get(row.model, ""),
            region,
            row.unit,
        )
        for row in aws_instances.unit_prices()
        if row.region in {"*", "global", *regions, *(("us",) if region in ("us", *US_REGIONS) else ())}
    ]
    return tuple({(unit.provider, unit.model_id, unit.commitment): unit for unit in [*_quoted(), *priced]}.values())


def _quoted() -> list[Unit]:
    return [
        Unit(
            "bedrock",
            row["model_id"],
            row["title"],
            commitment,
            None,
            None,
            None,
            row["source"],
            row["date"],
            row["note"],
            row["family"],
        )
        for row in rows("bedrock_units.csv")
        for commitment in row["commitments"].split(";")
        if commitment
    ]


def _unit_title(model: str) -> str:
    return next((row["title"] for row in rows("bedrock_units.csv") if row["model_id"] == model), model)


@cache
def families() -> Mapping[str, str]:
    """Whose weights a name of a price list stands for."""
    pairs = [(row["model_ref"], row["family"]) for row in rows("model_families.csv")]
    return dict(pairs) | {row["model_id"]: row["family"] for row in rows("bedrock_units.csv")}


@cache
def api_rows() -> tuple[ApiModel, ...]:
    """The models of ``model_families.csv`` that a price list has a standard price for."""
    models = (_api_model(row) for row in rows("model_families.csv"))
    return tuple(model for model in models if "standard" in model.contexts)


def _api_model(row: Row) -> ApiModel:
    now = datetime.now(UTC)
    priced = [
        name
        for name, context in PRICE_CONTEXTS.items()
        if sources.listed(row["provider"], row["model_ref"], now, context) is not None
    ]
    return ApiModel(
        Way(row["way"]),
        row["provider"],
        row["model_ref"],
        row["title"],
        row["family"],
        tuple(priced),
        whole(row["max_context"]),
        whole(row["max_output"]),
        row["source"],
        row["date"],
        row["note"],
    )


@cache
def speed_rows() -> Mapping[str, ApiSpeed]:
    """Published speeds of services by "way/model_ref"; what is not here is not known."""
    return {
        f"{row['way']}/{row['model_ref']}": ApiSpeed(
            optional(row["ttft_p50_s"]),
            optional(row["ttft_p95_s"]),
            optional(row["tok_s_p50"]),
            optional(row["tok_s_p10"]),
            row["source"],
            row["date"],
            "list",
            whole(row["n"]),
        )
        for row in rows("api_speeds.csv")
    }


@cache
def quota_rows() -> tuple[AccountQuota, ...]:
    """Published default limits of accounts (``calculator_quotas.csv``)."""
    return tuple(
        AccountQuota(
            Way(row["way"]),
            row["model_ref"],
            optional(row["rpm"]),
            optional(row["tpm"]),
            float(row["output_weight"] or 1),
            optional(row["input_tpm"]),
            optional(row["output_tpm"]),
            row["source"],
            row["date"],
            row["note"],
        )
        for row in rows("calculator_quotas.csv")
    )


WORD = re.compile(r"[a-z]+|\d+(?:\.\d+)*[a-z]*")
IDLE = frozenset(
    {
        "instruct",
        "chat",
        "it",
        "hf",
        "meta",
        "base",
        "sft",
        "nvidia",
        "geforce",
        "tesla",
        "amd",
        "instinct",
        "gpu",
        "gpus",
        "accelerator",
        "gb",
        "quantized",
    }
)
# How weights are stored, and the kind of memory, say nothing of which row is meant.
STORED = re.compile(r"(?<![a-z0-9])(?:(?:nv|mx)?fp\d+|bf16|awq|gptq|int\d|w\da\d+|hbm\d\w?)(?![a-z0-9])")
NEAREST = 3


def words(name: str) -> tuple[str, ...]:
    """The words of a name, sorted. "A100-SXM4-80GB" and "A100-80GB-SXM" have the same."""
    text = STORED.sub(" ", re.sub(r"sxm\d", "sxm", name.strip().lower().rpartition("/")[2]))
    return tuple(sorted(word for word in WORD.findall(text) if word not in IDLE))


def index(names: Iterable[tuple[str, str]]) -> Mapping[tuple[str, ...], str]:
    """(what may be written, the row's name) → lookup table; the first of two rows with the same words keeps them."""
    by_words: dict[tuple[str, ...], str] = {}
    for written, row in names:
        by_words.setdefault(words(written), row)
    return by_words


def find(name: str, table: Mapping[tuple[str, ...], str], kind: str, listed: Iterable[str]) -> str:
    """The row's name. LookupError in words when there is none. ``kind``: "model", "GPU" …"""
    row = table.get(words(name)) if words(name) else None
    if row is not None:
        return row
    close = nearest(name, listed)
    hint = f" The nearest are {', '.join(close)}." if close else ""
    raise LookupError(f'The catalogue has no {kind} "{name}".{hint} Add it as your own to use it.')


def nearest(name: str, listed: Iterable[str]) -> list[str]:
    """Up to three names that look most like it."""
    by_words = {" ".join(words(name)): name for name in listed}
    close = difflib.get_close_matches(" ".join(words(name)), list(by_words), NEAREST, 0.4)
    return [by_words[key] for key in close]


__all__ = [
    "PRICE_CONTEXTS",
    "AccountQuota",
    "ApiModel",
    "Catalog",
    "ConfigError",
    "Instance",
    "Unit",
    "api_model",
    "api_models",
    "base",
    "gpu",
    "gpus",
    "instances",
    "llm",
    "llm_from_config",
    "llms",
    "merged",
    "quotas",
    "speeds",
    "units",
]


@dataclass(frozen=True)
class Catalog:
    """All rows, by name where they have one. ``speeds``: by "way/model_ref"."""

    gpus: Mapping[str, Gpu]
    llms: Mapping[str, Llm]
    instances: Mapping[str, Instance]
    units: Sequence[Unit]
    api_models: Sequence[ApiModel]
    speeds: Mapping[str, ApiSpeed]
    quotas: Sequence[AccountQuota]

    def llm(self, name: str) -> Llm:
        """A model by its name as people write it; LookupError with the nearest names when there is none."""
        if name in self.llms:
            return self.llms[name]
        return self.llms[find(name, self._llm_names, "model", self.llms)]

    def gpu(self, name: str) -> Gpu:
        """A GPU by its name as people write it; LookupError with the nearest names when there is none."""
        if name in self.gpus:
            return self.gpus[name]
        return self.gpus[find(name, self._gpu_names, "GPU", self.gpus)]

    def instance(self, name: str) -> Instance:
        """A machine by its exact name (case does not matter); LookupError in words when there is none."""
        row = self.instances.get(name.strip().lower()) or self.instances.get(name)
        if row is None:
            close = nearest(name, self.instances)
            hint = f" The nearest are {', '.join(close)}." if close else ""
            raise LookupError(f'The catalogue has no priced instance "{name}".{hint} Add it as your own to use it.')
        return row

    def api_model(self, way: str, model_ref: str) -> ApiModel | None:
        """The service's model of exactly that name."""
        return next((model for model in self.api_models if (model.way, model.model_ref) == (way, model_ref)), None)

    def speed(self, way: str, model_ref: str) -> ApiSpeed | None:
        """The published speed of a service's model; None: not known."""
        return self.speeds.get(f"{way}/{model_ref}")

    def quota(self, way: str, model_ref: str) -> AccountQuota | None:
        """The published default limits of an account for that model, the row of its family ("*" at the end) else."""
        own = [quota for quota in self.quotas if quota.way == way]
        exact = [quota for quota in own if quota.model_ref == model_ref]
        wide = [quota for quota in own if quota.model_ref.endswith("*") and quota.model_ref[:-1] in model_ref]
        return next(iter([*exact, *sorted(wide, key=lambda quota: -len(quota.model_ref))]), None)

    @cached_property
    def families(self) -> Mapping[str, str]:
        """The ids that models are judged and ranked by (weights, not services) with their titles."""
        api = {model.family: model.title.partition(" on Bedrock")[0] for model in reversed(self.api_models)}
        sold = {unit.family: unit.title for unit in self.units if unit.provider == "bedrock" and unit.family}
        return sold | api | {name: name for name in self.llms}

    def model_ids(self) -> list[str]:
        """The ids of `families` in alphabetical order, upper and lower case alike."""
        return sorted(self.families, key=str.lower)

    @cached_property
    def contexts(self) -> Mapping[str, int]:
        """The longest context of each family: the largest that any way of running it offers. None
        is known of models that are only sold by the unit."""
        contexts = {name: row.max_context for name, row in self.llms.items()}
        for api in self.api_models:
            if api.max_context is not None:
                contexts[api.family] = max(contexts.get(api.family, 0), api.max_context)
        return contexts

    @cached_property
    def _llm_names(self) -> Mapping[tuple[str, ...], str]:
        by_name = [(name, name) for name in self.llms]
        return index([*by_name, *((llm.hf_id, name) for name, llm in self.llms.items() if llm.hf_id)])

    @cached_property
    def _gpu_names(self) -> Mapping[tuple[str, ...], str]:
        aliases = [(alias, gpu.name) for gpu, other_names in gpu_rows() for alias in other_names]
        return index([*((name, name) for name in self.gpus), *(pair for pair in aliases if pair[1] in self.gpus)])


@cache
def base() -> Catalog:
    """The catalogue as shipped."""
    return Catalog(
        gpus={gpu.name: gpu for gpu, _ in gpu_rows()},
        llms={llm.name: llm for llm in llm_rows()},
        instances={instance.name: instance for instance in instance_rows()},
        units=unit_rows(),
        api_models=api_rows(),
        speeds=speed_rows(),
        quotas=quota_rows(),
    )


def merged(own: Own | None = None) -> Catalog:
    """The catalogue with the user's own rows over it; one of the same name takes the place of ours."""
    ours = base()
    if own is None or own == Own():
        return ours
    units = {(unit.provider, unit.model_id, unit.commitment): unit for unit in [*ours.units, *own.units]}
    apis = {(model.way, model.model_ref): model for model in [*ours.api_models, *own.api_models]}
    return Catalog(
        gpus={**ours.gpus, **{gpu.name: gpu for gpu in own.gpus}},
        llms={**ours.llms, **{llm.name: llm for llm in own.llms}},
        instances={**ours.instances, **{instance.name: instance for instance in own.instances}},
        units=tuple(units.values()),
        api_models=tuple(apis.values()),
        speeds=ours.speeds,
        quotas=ours.quotas,
    )


def gpus() -> Mapping[str, Gpu]:
    """Every GPU by its name."""
    return base().gpus


def llms() -> Mapping[str, Llm]:
    """Every self-hosted model by its name, which is its catalogue id."""
    return base().llms


def instances() -> Mapping[str, Instance]:
    """Every priced machine by its name ("g5.xlarge", "ml.g5.xlarge")."""
    return base().instances


def units() -> Sequence[Unit]:
    """Every unit of provisioned throughput in the US regions."""
    return base().units


def api_models() -> Sequence[ApiModel]:
    """Every model that is paid by the token and has a standard price."""
    return base().api_models


def speeds() -> Mapping[str, ApiSpeed]:
    """Published speeds of services by "way/model_ref"."""
    return base().speeds


def quotas() -> Sequence[AccountQuota]:
    """Published default limits of accounts."""
    return base().quotas


def llm(name: str) -> Llm:
    """A model by its name as people write it ("meta-llama/Llama-3.1-8B-Instruct", "llama 3.1 8b")."""
    return base().llm(name)


def gpu(name: str) -> Gpu:
    """A GPU by its name as people write it ("A100-SXM4-80GB")."""
    return base().gpu(name)


def api_model(way: str, model_ref: str) -> ApiModel | None:
    """The service's model of exactly that name."""
    return base().api_model(way, model_ref)


def llm_from_config(config: Mapping[str, Any] | str, *, name: str = "", hf_id: str = "", source: str = "") -> Llm:
    """A model from a Hugging Face config.json (its text, or read already). `ConfigError` says what is wrong."""
    if isinstance(config, str):
        try:
            config = json.loads(config)
        except ValueError as error:
            raise ConfigError("The file is not JSON; give the config.json of the model.") from error
    if not isinstance(config, Mapping):
        raise ConfigError("The file holds no settings of a model; give the config.json of the model.")
    return hf_config.llm_from_config(config, name=name, hf_id=hf_id, source=source or "config.json, yours")
