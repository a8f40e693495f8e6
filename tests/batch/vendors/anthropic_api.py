"""Anthropic's message batches, with the service's own checks of a request."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.batch.vendors.faults import Faults
from tests.batch.vendors.server import Pace, Reply, Request, jsonl, spread

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
LAST = 2  # at 0 and 1 a batch is in progress, at 2 it has ended


@dataclass
class Job:
    id: str
    requests: list[dict[str, Any]]
    hidden_for: int = 0
    at: int = -1
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    cancelled: datetime | None = None
    archived: bool = False
    results: bytes | None = None
    fates: list[str] = field(default_factory=list)


class AnthropicApi:
    """Holds batches; ``key``: the only one that is taken, None for any."""

    def __init__(self, *, key: str | None = None, pace: Pace | None = None, models: tuple[str, ...] = ()) -> None:
        self.faults = Faults()
        self.log: list[Request] = []
        self.jobs: dict[str, Job] = {}
        self.results_at: str | None = None  # another origin that results_url names
        self._key, self._pace, self._models = key, pace or Pace(), models

    def somebody_elses(self, requests: int) -> Job:
        """A batch of the same workspace that another program made."""
        made = [
            {
                "custom_id": f"other-{n}",
                "params": {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]},
            }
            for n in range(requests)
        ]
        return self._made(made)

    def answer(self, request: Request) -> Reply | None:
        """The reply to one request under /v1."""
        if "x-api-key" not in request.headers or not request.path.startswith("/v1/"):
            return None
        self.log.append(request)
        key = request.headers["x-api-key"]
        if self._key is not None and key != self._key:
            return _error(401, "authentication_error", f"invalid x-api-key{f' {key}' if self.faults.echo_key else ''}")
        if "anthropic-version" not in request.headers:
            return _error(400, "invalid_request_error", "anthropic-version: header is required")
        path = request.path.removeprefix("/v1")
        for method, pattern, serve in (
            ("GET", r"/models/(.+)", self._model),
            ("POST", r"/messages/batches", self._create),
            ("GET", r"/messages/batches", self._list),
            ("GET", r"/messages/batches/([^/]+)", self._retrieve),
            ("POST", r"/messages/batches/([^/]+)/cancel", self._cancel),
            ("GET", r"/messages/batches/([^/]+)/results", self._results),
        ):
            found = re.fullmatch(pattern, path)
            if request.method == method and found:
                return serve(request, *found.groups())
        return None

    def _model(self, request: Request, name: str) -> Reply:
        if self._models and name not in self._models:
            return _error(404, "not_found_error", f"model: {name}")
        return Reply({"type": "model", "id": name, "display_name": name, "created_at": "2026-01-01T00:00:00Z"})

    def _create(self, request: Request) -> Reply:
        if self.faults.throttle:
            status, wait = self.faults.throttle.pop(0)
            headers = {} if wait is None else {"retry-after": f"{wait:g}"}
            kind = {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error")
            return _error(status, kind, "Number of batch requests has exceeded your rate limit", headers)
        if self.faults.dropped:
            self.faults.dropped -= 1
            return Reply(drop=True)
        requests = json.loads(request.body)["requests"]
        if self.faults.refuse is not None:
            return _error(400, "invalid_request_error", self.faults.refuse)
        seen: set[str] = set()
        for number, one in enumerate(requests):
            if not CUSTOM_ID.fullmatch(one["custom_id"]):
                words = f"requests.{number}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'"
                return _error(400, "invalid_request_error", words)
            if one["custom_id"] in seen:
                return _error(400, "invalid_request_error", f"requests.{number}.custom_id: must be unique")
            if one["params"].get("stream") or one["params"].get("max_tokens", 0) < 1:
                return _error(400, "invalid_request_error", f"requests.{number}.params: stream or max_tokens")
            seen.add(one["custom_id"])
        job = self._made(requests)
        if self.faults.lost:
            self.faults.lost -= 1
            job.hidden_for = self.faults.late
            return Reply(drop=True)
        return Reply(self._told(job, request))

    def _made(self, requests: list[dict[str, Any]]) -> Job:
        job = Job(f"msgbatch_{len(self.jobs) + 1:04d}", requests)
        self.jobs[job.id] = job
        return job

    def _list(self, request: Request) -> Reply:
        shown = []
        for job in reversed(self.jobs.values()):
            if job.hidden_for > 0:
                job.hidden_for -= 1
            else:
                shown.append(self._told(job, request))
        limit, after = int(request.query.get("limit", 20)), request.query.get("after_id")
        start = next((i + 1 for i, row in enumerate(shown) if row["id"] == after), 0)
        data = shown[start : start + limit]
        ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
        return Reply({"data": data, "has_more": start + limit < len(shown), **ends})

    def _retrieve(self, request: Request, job_id: str) -> Reply:
        if self.faults.bad_polls:
            self.faults.bad_polls -= 1
            return _error(500, "api_error", "Internal server error")
        job = self.jobs.get(job_id)
        if job is None:
            return _error(404, "not_found_error", f"Message batch {job_id} was not found")
        self.move(job)
        return Reply(self._told(job, request))

    def move(self, job: Job) -> None:
        """One step on, unless jobs are held."""
        if not self.faults.hold:
            job.at = self._pace.step(job.at, job.created_at.timestamp(), LAST)

    def end(self, job: Job) -> None:
        """To its end at once."""
        job.at = LAST

    def _cancel(self, request: Request, job_id: str) -> Reply:
        job = self.jobs[job_id]
        if job.at >= LAST:
            return _error(400, "invalid_request_error", f"Batch {job_id} cannot be canceled because it has ended")
        job.cancelled = datetime.now(UTC)
        return Reply(self._told(job, request))

    def _results(self, request: Request, job_id: str) -> Reply:
        job = self.jobs[job_id]
        self._finish(job)
        if self.faults.gone:
            return _error(404, "not_found_error", "Batch results are no longer available")
        return Reply(job.results or b"")

    def _told(self, job: Job, request: Request) -> dict[str, Any]:
        ended = job.at >= LAST
        if ended:
            self._finish(job)
        where = f"{self.results_at or request.origin}/v1/messages/batches/{job.id}/results"
        names = {"ok": "succeeded", "error": "errored", "cancelled": "canceled", "expired": "expired"}
        counts = {word: job.fates.count(fate) if ended else 0 for fate, word in names.items()}
        status = "ended" if ended else "canceling" if job.cancelled else "in_progress"
        return {
            "id": job.id,
            "type": "message_batch",
            "processing_status": status,
            "created_at": job.created_at.isoformat(),
            "expires_at": (job.created_at + timedelta(hours=24)).isoformat(),
            "ended_at": datetime.now(UTC).isoformat() if ended else None,
            "cancel_initiated_at": job.cancelled.isoformat() if job.cancelled else None,
            "archived_at": datetime.now(UTC).isoformat() if job.archived else None,
            "request_counts": {"processing": 0 if ended else len(job.requests), **counts},
            "results_url": where if ended and not job.archived else None,
        }

    def _finish(self, job: Job) -> None:
        if job.results is not None:
            return
        rows = []
        expired = self.faults.expire_after is not None and job.cancelled is None
        for index, one in enumerate(job.requests):
            fate = self.faults.fate(index, stopped=job.cancelled is not None, expired=expired)
            job.fates.append(fate)
            rows.append((index, {"custom_id": one["custom_id"], "result": self._result(fate, one["params"], index)}))
        strange = [
            {"custom_id": f"nobody-{n}", "result": self._result("ok", job.requests[0]["params"], n)}
            for n in range(self.faults.unknown)
        ]
        job.results = jsonl(spread(rows, self.faults) + strange, self.faults)

    def _result(self, fate: str, params: dict[str, Any], index: int) -> dict[str, Any]:
        if fate == "error":
            error = {"type": "invalid_request_error", "message": "max_tokens: 200000 > 64000"}
            return {"type": "errored", "error": {"type": "error", "error": error, "request_id": f"req_{index}"}}
        if fate != "ok":
            return {"type": {"cancelled": "canceled"}.get(fate, fate)}
        content = params["messages"][-1]["content"]
        words = content if isinstance(content, str) else content[-1]["text"]
        usage = self.faults.usage or {
            "input_tokens": len(words.split()),
            "output_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "service_tier": "batch",
        }
        message = {
            "id": f"msg_{index}",
            "type": "message",
            "role": "assistant",
            "model": params["model"],
            "usage": usage,
            "content": [{"type": "text", "text": f"Answer to: {words}"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
        }
        return {"type": "succeeded", "message": message}


def _error(status: int, kind: str, message: str, headers: dict[str, str] | None = None) -> Reply:
    return Reply(
        {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}, status, headers or {}
    )
