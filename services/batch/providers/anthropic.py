"""Anthropic's Message Batches: one request holds the whole job, and its results come as JSON lines.

No second job: the service has neither idempotency keys nor metadata. What it gives back of a line is its custom_id, and
only when the job has ended, so the custom_id is our own (`wire_id`) with a mark of the token behind it
(``r0000000001-3f2a…``), which proves a job ours. Until then a job whose answer was lost is recognised by three things:
it is newer than the newest one before our first try, it holds as many lines, and no other submit of ours has claimed
it. If there is one such job it is taken for ours (facts ``{"adopted": True}``) and proved at its end; if it proves to
be somebody else's, `poll` says "waiting_for_quota" with ``{"resubmit": True}``. If there are several, nothing is sent,
and they are looked at again until the proof can be read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from services.batch.providers import anthropic_results as told
from services.batch.providers import common as providers_common
from services.batch.providers import http as providers_http
from services.batch.providers.base import Place, ResultsGone, RouteTrouble
from services.batch.providers.common import asking, clean, explain, submitting
from services.batch.providers.submit_journal import SETTLE_S, Mark, claimed, id_of, mark_of, results_path, tag_of
from services.batch.types import Job, Line, LineResult, Polled, RouteLimits, RouteName, SubmitLater, wire_id
from services.batch.types import SubmitRefused as Refused
from services.providers import kind_of
from services.types import Deployment

if TYPE_CHECKING:
    from anthropic import Anthropic
    from anthropic.types.messages import MessageBatch

NAME = "Anthropic"
SKEW_S = 600.0  # how far our clock and the service's may differ
UNSURE_WAIT_S = 900.0
LOOK_AT_MOST = 2000
LIVE_ONLY = ("stream", "service_tier")  # a batch is a tier of its own
TAG_BYTES = 13  # "-" and the mark, in every custom_id
AROUND = len(b'{"requests":[]}\n')
_HEAD = b'{"custom_id":"'
# One at a time in this process: two jobs of equal length under way together could be taken for one another.
_one_by_one = threading.Lock()


class AnthropicRoute:
    """Anthropic's batches, over the SDK. ``settle_s``: see `submit_journal`."""

    name: RouteName = "anthropic"
    title = "Anthropic Message Batches"
    counts = False

    def __init__(self, settle_s: float = SETTLE_S) -> None:
        self.settle_s = settle_s

    def why_not(self, deployment: Deployment) -> str | None:
        """Why a deployment cannot be sent to Anthropic's batches; None: it can."""
        if deployment.base_url.startswith("embedded://"):
            return "It runs on this machine, which has no batch service; our own runner sends its lines one by one."
        if deployment.kind != "anthropic":
            return "Anthropic's Message Batches take models of Anthropic's own API."
        if deployment.aws is not None:
            return "It is reached through AWS, which does not offer Anthropic's Message Batches; Bedrock has its own."
        return None

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        """What one job may hold, less the mark that every line gets."""
        found = providers_common.limits_of("anthropic")
        if found.max_bytes is None:
            return found
        return replace(found, max_bytes=found.max_bytes - AROUND - (TAG_BYTES + 1) * (found.max_records or 0))

    def body(self, deployment: Deployment, line: Line) -> bytes:
        """The line: the body of a live call, without streaming and tier. Raises ValueError in words."""
        request = kind_of(deployment).request(deployment, line.ask)
        params = {name: value for name, value in request.body.items() if name not in LIVE_ONLY}
        return providers_common.json_line({"custom_id": wire_id(line.no), "params": params})

    def check(self, deployment: Deployment) -> list[str]:
        """What would make a submit fail: the key, the model, the right to batches. Two short requests.

        Parameters are checked by the service only when it works on a line, so a wrong one fails all of them.
        """
        try:
            with self._client(deployment) as client:
                client.models.retrieve(deployment.model)
                client.messages.batches.list(limit=1)
        except Exception as error:
            said = explain(error, NAME, deployment.key_env)
            if said.outcome == "not_found":
                return [f"{NAME} has no model “{clean(deployment.model, 80)}” for this key: check its name."]
            return [said.text]
        return []

    # --- submit ------------------------------------------------------------------------------------------------------

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        """Write the request, send it from disk. A job that an earlier try made is found and taken instead."""
        mark = mark_of(place.folder, job)
        facts = dict(job.facts)
        with submitting(NAME, deployment.key_env), self._client(deployment) as client, _one_by_one:
            made = mark.vendor_id
            if made is None and mark.doubt and (made := self._found(client, job, mark, place.folder, facts)) is None:
                mark.wait(NAME, self.settle_s)
            path = _path(place.folder, job, mark)
            if made is None:
                providers_common.halt(place, "it was to be sent", doubt=mark.doubt)
                self._write(deployment, job, lines, place, path, mark)
                if mark.before is None:
                    mark.before = [one.id for one in client.messages.batches.list(limit=1).data]
                made = self._create(client, job, path, place, mark, facts)
            mark.settled(made, sure=bool(facts.get("proven")) or not facts.get("adopted"))
            path.unlink(missing_ok=True)  # the service has it; the lines themselves are in our tables
        return replace(job, vendor_id=made, facts=facts)

    def _write(
        self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place, path: Path, mark: Mark
    ) -> None:
        if path.exists():
            return
        place.say(f"Writing the request of job {job.no}.")
        limits = providers_common.limits_of("anthropic")

        def pieces() -> Iterator[bytes]:
            size = AROUND
            yield b'{"requests":['
            for count, line in enumerate(lines, 1):
                piece = self._marked(deployment, line, mark.tag)
                mark.lines = count
                size += len(piece) + 1
                if count > (limits.max_records or count) or size > (limits.max_bytes or size):
                    raise Refused(f"Job {job.no} is larger than {NAME} takes at once: split it into more jobs.")
                if count % 1000 == 0:
                    providers_common.halt(place, "its request was written", doubt=mark.doubt)
                yield piece if count == 1 else b"," + piece
            yield b"]}\n"

        providers_common.write_atomically(path, pieces())

    def _marked(self, deployment: Deployment, line: Line, tag: str) -> bytes:
        try:
            piece = self.body(deployment, line)
        except ValueError as error:
            raise Refused(f"Line {line.no} cannot be sent: {clean(error, 300)}") from None
        end = len(_HEAD) + len(wire_id(line.no))
        return piece[:end] + f"-{tag}".encode() + piece[end:]

    def _create(
        self, client: Anthropic, job: Job, path: Path, place: Place, mark: Mark, facts: dict[str, object]
    ) -> str:
        from anthropic.types.messages import MessageBatch

        mark.trying()
        file = providers_common.Upload(path, place, NAME)
        try:
            with file:
                # What `messages.batches.create` does, but from disk: it would hold 256 MB of objects in memory.
                made = client.post("/v1/messages/batches", cast_to=MessageBatch, content=file)
        except Exception as error:
            said = explain(error, NAME)
            if file.halted:  # the request was not whole, so there is no job
                mark.settled()
                providers_common.halt(place, "its request was sent")
            if not said.maybe:
                mark.settled()
                raise
            found = self._found(client, job, mark, place.folder, facts)
            if found is None:
                mark.wait(NAME, self.settle_s)
                raise SubmitLater(f"{said.text} It is asked again.") from None
            return found
        facts["expires_at"] = made.expires_at.timestamp()
        return made.id

    def _found(self, client: Anthropic, job: Job, mark: Mark, folder: Path, facts: dict[str, object]) -> str | None:
        """The job that an earlier try made. Raises `SubmitLater` when several could be it."""
        ours = claimed(folder, mark)
        unsure: list[str] = []
        for one in self._since(client, mark):
            if one.id in ours or one.id in mark.foreign or told.total(one) != (mark.lines or job.n_lines):
                continue
            proof = self._proof(client, one, mark.tag)
            if proof:
                facts["proven"] = True
                return one.id
            if proof is None:
                unsure.append(one.id)
            else:
                mark.foreign.append(one.id)
        if not unsure:
            return None
        if len(unsure) > 1:
            raise SubmitLater(
                f"The answer of {NAME} to our request was lost, and {len(unsure)} jobs with as many lines were begun "
                "since; which one is ours shows when they have ended. Nothing is sent twice meanwhile; cancel this "
                "batch to leave it at that.",
                UNSURE_WAIT_S,
                leave=True,
            )
        facts["adopted"] = True
        return unsure[0]

    def _since(self, client: Anthropic, mark: Mark) -> Iterator[MessageBatch]:
        """The jobs of the workspace that are newer than our first try, newest first."""
        oldest = (mark.tried_at or 0.0) - SKEW_S
        for count, one in enumerate(client.messages.batches.list(limit=100), 1):
            if one.id in (mark.before or ()) or count > LOOK_AT_MOST:
                return
            if mark.before is None and one.created_at.timestamp() < oldest:
                return
            yield one

    def _proof(self, client: Anthropic, batch: MessageBatch, tag: str) -> bool | None:
        """Whether the first line of its results carries the mark of our token; None while that cannot be read."""
        if batch.processing_status != "ended" or not batch.results_url:
            return None
        with client.messages.batches.with_streaming_response.results(batch.id) as response:
            for line in response.iter_lines():
                if line.strip():
                    return told.carries(line, tag)
        return None

    # --- afterwards --------------------------------------------------------------------------------------------------

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        """How the job stands."""
        with asking(NAME, deployment.key_env), self._client(deployment) as client:
            try:
                batch = client.messages.batches.retrieve(id_of(job))
            except Exception as error:
                if explain(error, NAME).status == 404:
                    return told.unknown(job)
                raise
            found = told.polled(batch, datetime.now(UTC))
            if not _unproven(job):
                return found
            if not found.over:
                return replace(found, said=f"{found.said} {told.TAKEN}")
            proof = self._proof(client, batch, tag_of(job.token))
            return replace(found, facts={**found.facts, "proven": True}) if proof else told.foreign(found, proof)

    def cancel(self, deployment: Deployment, job: Job) -> None:
        """Ask Anthropic to stop it; lines under way may still be answered.

        A job that was only taken for ours could be somebody else's and is left alone; `poll` says so.
        """
        if _unproven(job):
            return
        with asking(NAME, deployment.key_env), self._client(deployment) as client:
            try:
                client.messages.batches.cancel(id_of(job))
            except Exception as error:
                if explain(error, NAME).status not in (400, 409):  # it is over already, which `poll` tells
                    raise

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        """Every line of the results, in whatever order they come. Raises `ResultsGone` after 29 days."""
        path = results_path(place.folder, job, id_of(job))
        if not path.exists():
            with asking(NAME, deployment.key_env), self._client(deployment) as client:
                self._fetch(client, id_of(job), path, place)
        yield from told.read(path, tag_of(job.token))

    def _fetch(self, client: Anthropic, vendor_id: str, path: Path, place: Place) -> None:
        try:
            batch = client.messages.batches.retrieve(vendor_id)
            if batch.processing_status != "ended":
                raise RouteTrouble(f"{NAME} has not ended this job yet, so that there are no results to fetch.")
            if batch.archived_at is not None or not batch.results_url:
                raise ResultsGone(told.gone(batch))
            with client.messages.batches.with_streaming_response.results(vendor_id) as response:
                providers_common.download(response.iter_bytes(providers_common.STEP), path, place, NAME)
        except RouteTrouble:
            raise
        except Exception as error:
            if explain(error, NAME).status in (404, 410):
                raise ResultsGone(f"{NAME} has deleted the results: it keeps them for 29 days.") from None
            raise

    def _client(self, deployment: Deployment) -> Anthropic:
        """A client of the SDK that makes one try for each request. Raises `Forbidden` in words."""
        base = deployment.base_url.rstrip("/").removesuffix("/messages").removesuffix("/v1")
        key = providers_http.access(deployment, base).key
        from anthropic import Anthropic

        return Anthropic(
            api_key=key, base_url=base, max_retries=0, default_headers=dict(deployment.headers),
            http_client=providers_http.http_client(deployment, "x-api-key", key),
        )  # fmt: skip


def _unproven(job: Job) -> bool:
    return bool(job.facts.get("adopted")) and not job.facts.get("proven")


def _path(folder: Path, job: Job, mark: Mark) -> Path:
    return folder / "jobs" / f"lab-{job.no:04d}-{mark.tag}.json"
