"""What tests of the routes share: deployments, lines, jobs, and a worker's place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.batch.types import Job, Line, LineResult, Route, no_of, wire_id
from services.types import Ask, Aws, Deployment, Message
from tests.batch.aws.cloud import BUCKET, ROLE, Cloud

AWS = Aws(batch_s3=f"s3://{BUCKET}/lab", batch_role=f"arn:aws:iam::123456789012:role/{ROLE}")
HAIKU = "us.anthropic.claude-haiku-4-5-20251001-v1:0"


class Desk:
    """A `Place` that remembers what was said; ``stop_after``: how often it may be asked before it says stopped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.stop_after: int | None = None

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, text: str) -> None:
        self.say(text)

    def stopped(self) -> bool:
        if self.stop_after is None:
            return False
        self.stop_after -= 1
        return self.stop_after < 0


def bedrock(model: str = HAIKU, wire: Any = "converse", **more: Any) -> Deployment:
    """A deployment on Bedrock."""
    made = Deployment(
        "b",
        "On Bedrock",
        "bedrock",
        model,
        "https://bedrock-runtime.us-east-1.amazonaws.com",
        wire,
        region="us-east-1",
        aws=AWS,
    )
    return replace(made, **more)


def sagemaker(cloud: Cloud, endpoint: str, wire: Any = "chat", **more: Any) -> Deployment:
    """A deployment on SageMaker, whose runtime is the emulator."""
    made = Deployment("s", "Own endpoint", "sagemaker", endpoint, cloud.url, wire, region="us-east-1", aws=AWS)
    return replace(made, **more)


def lines(n: int) -> Iterator[Line]:
    """So many lines, each with a prompt of its own."""
    for no in range(1, n + 1):
        yield Line(no, Ask((Message("user", f"prompt {no}"),), params={"max_tokens": 50}))


def job(n: int, token: str = "b1-0-abc") -> Job:
    """A job that was not submitted."""
    return Job("b1", 0, token, n)


def finish(route: Route, deployment: Deployment, made: Job, most: int = 20) -> Job:
    """Poll until it is over; the job with its last facts."""
    for _ in range(most):
        polled = route.poll(deployment, made)
        made = replace(made, facts={**made.facts, **polled.facts})
        if polled.over:
            return made
    raise AssertionError("it does not end")


def by_no(results: Iterable[LineResult]) -> dict[int, LineResult]:
    """Results by line; of a line that came twice the last."""
    return {no: one for one in results if (no := no_of(one.wire_id)) is not None}


def ids(n: int) -> list[str]:
    """The wire ids of the first ``n`` lines."""
    return [wire_id(no) for no in range(1, n + 1)]
