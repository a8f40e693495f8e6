"""Which models people voted for in the playground: whom to call good enough."""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Engine, func, select
from sqlmodel import col

from db import run_queries
from db.models import Vote
from services.calculator import catalog


def wins(engine: Engine) -> dict[str, int]:
    """Votes won by each family of the catalogue, most first. A deployment whose model the catalogue does not know is
    left out, as is a tie."""
    with engine.connect() as connection:
        rows = connection.execute(
            select(col(Vote.winner), func.count()).where(col(Vote.winner).is_not(None)).group_by(col(Vote.winner))
        ).all()
    models = {row["id"]: str((row["spec"] or {}).get("model") or "") for row in run_queries.deployment_rows(engine)}
    counted: Counter[str] = Counter()
    for deployment_id, n in rows:
        if family := family_of(models.get(deployment_id, "")):
            counted[family] += int(n)
    return dict(counted.most_common())


def family_of(model: str) -> str | None:
    """The family of what a deployment calls; None where the catalogue does not know it."""
    if not model:
        return None
    found = next((one.family for one in catalog.api_models() if one.model_ref == model), None)
    if found is not None:
        return found
    try:
        return catalog.llm(model).name
    except LookupError:
        return None
