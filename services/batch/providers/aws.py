"""What the three batch services of AWS share: where they are, what a job is called, and what its troubles mean."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from services.aws import control
from services.aws.explain import AwsTrouble, Place, Trouble
from services.batch.providers.base import Place as Submitting
from services.batch.providers.base import RouteTrouble
from services.batch.providers.submit_journal import tag_of
from services.batch.types import Job, Polled, SubmitLater, SubmitRefused
from services.pricing.cost import NANO
from services.types import Aws, Deployment

# Stands before a sentence of `check` that says what could not be found out: it need not be wrong.
UNSURE = "Not checked: "
# These mend themselves, or a person mends them without touching the batch: the job waits and is tried again.
_PASSES: Mapping[Trouble, float | None] = {
    "throttled": 60.0, "quota": 900.0, "conflict": 60.0, "unreachable": 60.0, "timeout": 60.0, "failed": 60.0,
    "credentials": None, "expired": None,
}  # fmt: skip
# The answer did not come, so the job may have been made.
NO_ANSWER: tuple[Trouble, ...] = ("timeout", "unreachable", "failed")
_TOKEN = re.compile(r"[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,127}\Z")
_NAME = re.compile(r"[a-zA-Z0-9](?:-?[a-zA-Z0-9]){0,57}\Z")


def place_of(deployment: Deployment) -> Place:
    """The account and region of a deployment. Raises `AwsTrouble`."""
    return replace(control.place((deployment.aws or Aws()).profile, deployment.region), deployment=deployment)


def settings(deployment: Deployment) -> Aws:
    """Its AWS settings."""
    return deployment.aws or Aws()


def for_batch(deployment: Deployment) -> Deployment:
    """The deployment without a service tier and a latency mode: a batch is a tier of its own."""
    return replace(deployment, aws=replace(settings(deployment), service_tier=None, latency=None))


def job_name(job: Job) -> str:
    """What a job is called at AWS: legal everywhere, and the same at every try to submit it."""
    plain = f"lab-{job.token}"
    return plain if _NAME.match(plain) else f"lab-{hashlib.sha256(job.token.encode()).hexdigest()[:40]}"


def request_token(job: Job) -> str:
    """The job's token as Bedrock takes it."""
    return job.token if _TOKEN.match(job.token) else hashlib.sha256(job.token.encode()).hexdigest()


@contextmanager
def asking() -> Iterator[None]:
    """A trouble with AWS comes out as `RouteTrouble`."""
    try:
        yield
    except AwsTrouble as error:
        raise RouteTrouble(f"{error} What was sent there is safe; it is asked again.") from error


@contextmanager
def submitting() -> Iterator[None]:
    """A trouble with AWS comes out as `SubmitLater` when it can pass, else as `SubmitRefused` in AWS's own words."""
    try:
        yield
    except AwsTrouble as error:
        if error.what in _PASSES:
            raise SubmitLater(f"{error} It is tried again by itself.", _PASSES[error.what]) from error
        raise SubmitRefused(str(error)) from error


def doubted(place: Submitting, job: Job) -> Path:
    """The file that is there while it is not known whether AWS has a job: it was asked, and no answer came."""
    return place.folder / "jobs" / f"{job.no:04d}-{tag_of(job.token)}.asked"


@contextmanager
def creating(place: Submitting, job: Job) -> Iterator[None]:
    """Around the request that makes a job: `doubted` is there from before it until it is answered with a no."""
    mark = doubted(place, job)
    before = mark.exists()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield
    except AwsTrouble as error:
        if before or error.what in ("conflict", *NO_ANSWER):
            raise
        mark.unlink(missing_ok=True)
        if error.what in _PASSES:
            raise
        raise AwsTrouble(error.what, f"{error} Nothing was submitted.") from error


def unknown(service: str, name: str, where: Place) -> Polled:
    """A job that was stopped and that the service does not know."""
    said = (
        f"{service} in {where.region} does not know the job {name}: if it was made with other credentials, stop it in "
        "the console of their account."
    )
    return Polled("cancelled", "unknown", said, True, False)


def seconds(at: Any) -> float | None:
    """A time of boto3's as Unix seconds; None for none."""
    return at.timestamp() if isinstance(at, datetime) else None


def instance_cost_nanousd(facts: Mapping[str, Any]) -> int | None:
    """What the instances of a job of their own cost, from the facts that a transform job leaves behind.

    None while it runs, and where no price of its instance type is known.
    """
    rate, count = facts.get("usd_per_hour"), facts.get("instance_count")
    start, end = facts.get("started_at"), facts.get("ended_at")
    if not (isinstance(rate, str) and isinstance(count, int) and start is not None and end is not None):
        return None
    hours = Decimal(str(max(0.0, float(end) - float(start)))) / 3600
    return int((Decimal(rate) * count * hours * NANO).to_integral_value())
