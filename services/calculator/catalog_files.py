"""Reads the catalogue's dated files in ``services/data``: one function a file, each row with its source and date."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files

from services.aws import instances
from services.aws.bedrock_ids import US_REGIONS
from services.calculator.assumptions import ApiSpeed
from services.calculator.catalog_rows import PRICE_CONTEXTS, AccountQuota, ApiModel, Instance, Unit
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
        for row in instances.prices().values()
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
        for row in instances.unit_prices()
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
