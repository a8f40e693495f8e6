"""The row of a run, as it is committed before anything of the run is sent."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any

from services.calls.live import LiveRun


def run_row(run: LiveRun, text: str, *, store: bool) -> dict[str, Any]:
    """Everything about a run but its calls; the texts only where they may be kept (``store``)."""
    spec = run.spec
    return {
        "id": run.id, "created_at": datetime.now(UTC), "person": run.person, "source": spec.source,
        "prompt": text if store else None,
        "prompt_sha256": hashlib.sha256(text.encode("utf-8", "replace")).hexdigest(),
        "system": spec.system if store else None,
        "template": spec.prompt if store else None,
        "variables": dict(spec.variables) if store else {},
        "params": dict(spec.params), "columns": spec.to_json()["columns"],
        "attachments": [
            {"name": a.name, "chars": len(a.text), **({"text": a.text} if store else {})} for a in spec.attachments
        ],
        # The pause of the run, whichever kind its start mode has: between columns, or between repetitions.
        "start_mode": spec.start,
        "stagger_s": spec.pause_s if spec.start == "sequential" else spec.stagger_s,
        "repetitions": spec.repetitions, "blind": spec.blind,
        "parent_run_id": spec.parent_run_id, "starred": False, "tags": list(spec.tags), "text_stored": store,
        "n_calls": len(spec.columns) * spec.repetitions,
    }  # fmt: skip
