"""Batches as pages and the command line ask for them: of the engine, which is the only one that writes.

What is there already is read from the database (`db.batches`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from services.batch.submit import BatchSpec

NO_SUCH = "This batch is not in the records; it may have been deleted."  # as the engine says of an id
SUBMIT_WITHIN_S = 600.0  # a small file is checked once more before the answer, and a large one is hashed


class BatchClient:
    """Everything that is done with batches. Every method raises `EngineError`, whose text is a sentence."""

    def __init__(self, engine: Callable[..., Any]) -> None:
        self._engine = engine

    def submit(self, spec: BatchSpec) -> str:
        """Submit a file; the id of its batch. Its lines are recorded while this has already returned.

        Refused, in words, for a file that changed or cannot be sent, for one that was sent before (unless
        ``spec.again``), and for an estimate above the budget (unless ``spec.over_budget``).
        """
        return str(self._engine("POST", "/batches", spec.to_json(), timeout=SUBMIT_WITHIN_S)["batch_id"])

    def pause(self, batch_id: str) -> None:
        """Let the lines under way end and send no others; for our own runner."""
        self._engine("POST", f"/batches/{_known(batch_id)}/pause", {})

    def resume(self, batch_id: str, budget_nanousd: int | None = None) -> None:
        """Go on with a paused batch; ``budget_nanousd``: its budget from now on, None leaves it as it is."""
        self._engine("POST", f"/batches/{_known(batch_id)}/resume", {"budget_nanousd": budget_nanousd})

    def cancel(self, batch_id: str) -> None:
        """Stop a batch; what was answered is kept."""
        self._engine("POST", f"/batches/{_known(batch_id)}/cancel", {})

    def resend(self, batch_id: str) -> str:
        """Send the lines that were not answered again, as a batch linked to this one; its id."""
        found = self._engine("POST", f"/batches/{_known(batch_id)}/resend", {}, timeout=SUBMIT_WITHIN_S)
        return str(found["batch_id"])

    def delete(self, batch_id: str) -> None:
        """Delete a batch that is over, with its lines, its calls and its files."""
        self._engine("DELETE", f"/batches/{_known(batch_id)}", timeout=SUBMIT_WITHIN_S)

    def workers(self) -> dict[str, Any]:
        """Who works on batches: ``{"workers": rows of db.batches.workers with "alive", "said": sentence or None}``."""
        return dict(self._engine("GET", "/batches/workers"))

    def vote(self, batch_a: str, batch_b: str, no: int, choice: str | None) -> None:
        """Keep which answer to one line is liked better ("a", "b", "tie"); None takes it back (`db.batch_votes`)."""
        self._engine("POST", "/batches/votes", {"batch_a": batch_a, "batch_b": batch_b, "no": no, "choice": choice})

    def embedded_server(self, name: str) -> tuple[str, str]:
        """Address and key of a server of the local model, for the worker; waits until it is ready."""
        server = self._engine("GET", f"/embedded/{_quoted(name)}/url", timeout=120)
        return str(server["url"]), str(server["key"])


def _quoted(name: str) -> str:
    """A name as one part of a path, also one that a path would take for a step up."""
    return quote(name, safe="", errors="replace").replace(".", "%2E")


def _known(batch_id: str) -> str:
    """A batch's id, fit for a path. What comes out of an address could be anything. Raises `EngineError`."""
    if not batch_id:
        from services.client import EngineError

        raise EngineError(NO_SUCH)
    return _quoted(batch_id)
