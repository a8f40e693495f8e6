"""What the tests of the vendors' routes share: a deployment at an emulator, a place, and the usual moves."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from services.batch.providers.anthropic import AnthropicRoute
from services.batch.providers.openai import OpenAIRoute
from services.batch.types import Job, Line, LineResult, Polled, SubmitLater, no_of
from services.paths import ROOT
from services.types import Ask, Deployment, Message, PriceRef
from tests.batch.vendors.anthropic_api import AnthropicApi
from tests.batch.vendors.openai_api import OpenAIApi

KEY = "sk-test-5f0c2a9b7d41"
KEY_NAME = "LAB_TEST_VENDOR_KEY"
MODELS = {"openai": "gpt-6-luna", "anthropic": "claude-haiku-5-5"}


@dataclass
class Bench:
    """A place as the worker lends it."""

    folder: Path
    said: list[str] = field(default_factory=list)
    stop: bool = False

    def say(self, text: str) -> None:
        self.said.append(text)

    def note(self, text: str) -> None:
        self.say(text)

    def stopped(self) -> bool:
        return self.stop


def lines(count: int, words: str = "What is line", **params: Any) -> list[Line]:
    return [Line(no, Ask((Message("user", f"{words} {no}?"),), "Be brief.", params)) for no in range(1, count + 1)]


@dataclass
class Vendor:
    """One of the two services with its route."""

    name: str
    api: Any
    url: str
    bench: Bench
    route: Any
    wire: Any

    @property
    def deployment(self) -> Deployment:
        path = "/v1" if self.name == "openai" else ""
        return Deployment(
            id=f"{self.name}-test",
            name="The tested one",
            kind=self.name,
            model=MODELS[self.name],
            base_url=self.url + path,
            wire=self.wire,
            key_env=KEY_NAME,
            labels=("simulated",),
            price=PriceRef(provider=self.name, model=MODELS[self.name]),
        )

    @property
    def faults(self) -> Any:
        return self.api.faults

    def job(self, count: int = 6, token: str = "token-1", no: int = 1, **facts: Any) -> Job:
        return Job("batch-1", no, token, count, facts=facts)

    def submit(self, job: Job | None = None, given: Sequence[Line] | None = None) -> Job:
        job = job or self.job()
        sent: Job = self.route.submit(self.deployment, job, given or lines(job.n_lines), self.bench)
        return sent

    def submit_until_done(self, job: Job | None = None, most: int = 5) -> Job:
        """As the worker does: again whenever it is told "later"."""
        for _ in range(most):
            try:
                return self.submit(job)
            except SubmitLater:
                continue
        raise AssertionError(f"not submitted in {most} tries")

    def poll(self, job: Job) -> Polled:
        found: Polled = self.route.poll(self.deployment, job)
        return found

    def to_end(self, job: Job) -> tuple[Job, Polled]:
        for _ in range(8):
            found = self.poll(job)
            job = replace(job, facts={**job.facts, **found.facts})
            if found.over:
                return job, found
        raise AssertionError(f"never over: {found}")

    def results(self, job: Job) -> list[LineResult]:
        return list(self.route.results(self.deployment, job, self.bench))

    def run(self, count: int = 6, **params: Any) -> dict[int | None, LineResult]:
        """From submit to results, by line; the ones without a known id under None."""
        job, _ = self.to_end(self.submit(self.job(count), lines(count, **params)))
        return {no_of(one.wire_id): one for one in self.results(job)}


def vendor(
    name: str, url: str, folder: Path, api: OpenAIApi | AnthropicApi, wire: str, settle_s: float = 0.0
) -> Vendor:
    route = OpenAIRoute(settle_s) if name == "openai" else AnthropicRoute(settle_s)
    return Vendor(name, api, url, Bench(folder / "batches" / "batch-1"), route, wire)


@contextmanager
def program() -> Iterator[str]:
    """Both emulators in a process of their own, as by hand; yields their address. Jobs end at once."""
    command = [sys.executable, "-m", "tests.batch.vendors", "--port", "0", "--step", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
            assert found is not None
            yield found[0]
        finally:
            process.terminate()
