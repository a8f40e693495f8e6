"""The interface of a batch service. Each service has one file in this folder; our own runner is not one of them.

Everything here blocks (the SDKs do): the worker calls it in threads. Every function may raise `SubmitLater` or
`SubmitRefused` at submit, and `RouteTrouble` elsewhere; no other error may come out, and no text may hold a key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from services.batch.types import Job, Line, LineResult, Polled, RouteLimits, RouteName
from services.types import Deployment


class RouteTrouble(Exception):
    """The service could not be asked just now; what was sent is safe there. The text is a sentence for the person."""


class Place(Protocol):
    """What the worker lends a route: a folder of the batch for its files, and a word on how far it has come."""

    folder: Path

    def say(self, text: str) -> None:
        """Show this sentence on the page, until there is another."""

    def note(self, text: str) -> None:
        """Show this sentence, and keep it with what is said of the job when it is over."""

    def stopped(self) -> bool:
        """Whether the person cancelled: long uploads and downloads should end."""


class Route(Protocol):
    """One batch service."""

    name: RouteName
    title: str
    # Whether `poll` tells counts while a job runs; Anthropic's do not move until it ends.
    counts: bool

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to this service, in a sentence; None: it can."""

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold. ``ask``: ask the account's own quotas too, where the service tells them."""

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """The line as it stands in the uploaded file, with its end of line. Raises ValueError in words for a line that
        this service cannot take."""

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail (no key, no bucket, no role …), each in a sentence; asks the service."""

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Send one job; returns it with its ``vendor_id`` and facts. Never makes a second one for the same token: it
        looks for the first where the service has no idempotency of its own. Of a batch that was cancelled (``place``
        says so) nothing more is sent: what an earlier try left at the service is returned, and `SubmitStopped` is
        raised when that is nothing."""

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How it stands."""

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask the service to stop it; `poll` tells what became of that."""

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """Every line that the service answered, in any order, from success and error files alike. A line that cannot
        be read (truncated, no JSON) is told as a `LineResult` with an empty ``wire_id``, outcome "protocol_error"."""


Get = Callable[[RouteName], Route]


class ResultsGone(RouteTrouble):
    """The service keeps the results no longer, so that asking again is of no use; what it gave before stands."""
