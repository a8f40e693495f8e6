"""What the calculator can choose from: models, GPUs, machines, units and services, each row with source and date.

The rows are dated files (docs/data.md says how each is made anew); `merged` lays the user's own over them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from services.calculator import catalog_files, hf_config, names
from services.calculator.assumptions import ApiSpeed, Own
from services.calculator.catalog_rows import PRICE_CONTEXTS, AccountQuota, ApiModel, Instance, Unit
from services.calculator.hf_config import ConfigError
from services.calculator.types import Gpu, Llm

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
        return self.llms[names.find(name, self._llm_names, "model", self.llms)]

    def gpu(self, name: str) -> Gpu:
        """A GPU by its name as people write it; LookupError with the nearest names when there is none."""
        if name in self.gpus:
            return self.gpus[name]
        return self.gpus[names.find(name, self._gpu_names, "GPU", self.gpus)]

    def instance(self, name: str) -> Instance:
        """A machine by its exact name (case does not matter); LookupError in words when there is none."""
        row = self.instances.get(name.strip().lower()) or self.instances.get(name)
        if row is None:
            close = names.nearest(name, self.instances)
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
        return names.index([*by_name, *((llm.hf_id, name) for name, llm in self.llms.items() if llm.hf_id)])

    @cached_property
    def _gpu_names(self) -> Mapping[tuple[str, ...], str]:
        aliases = [(alias, gpu.name) for gpu, other_names in catalog_files.gpu_rows() for alias in other_names]
        return names.index([*((name, name) for name in self.gpus), *(pair for pair in aliases if pair[1] in self.gpus)])


@cache
def base() -> Catalog:
    """The catalogue as shipped."""
    return Catalog(
        gpus={gpu.name: gpu for gpu, _ in catalog_files.gpu_rows()},
        llms={llm.name: llm for llm in catalog_files.llm_rows()},
        instances={instance.name: instance for instance in catalog_files.instance_rows()},
        units=catalog_files.unit_rows(),
        api_models=catalog_files.api_rows(),
        speeds=catalog_files.speed_rows(),
        quotas=catalog_files.quota_rows(),
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
