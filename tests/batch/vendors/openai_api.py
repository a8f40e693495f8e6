"""OpenAI's files and batches as far as batches need them, with the service's own checks of a file."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field
from typing import Any

from tests.batch.vendors.faults import Faults
from tests.batch.vendors.server import Pace, Reply, Request, jsonl, spread

STEPS = ("validating", "in_progress", "finalizing", "completed")
ENDPOINTS = ("/v1/responses", "/v1/chat/completions", "/v1/embeddings", "/v1/completions")


@dataclass
class File:
    id: str
    name: str
    purpose: str
    data: bytes
    created_at: int = field(default_factory=lambda: int(time.time()))

    def told(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": "file",
            "bytes": len(self.data),
            "created_at": self.created_at,
            "filename": self.name,
            "purpose": self.purpose,
            "status": "processed",
        }


@dataclass
class Job:
    id: str
    endpoint: str
    file_id: str
    metadata: dict[str, str] | None
    lines: list[dict[str, Any]]
    hidden_for: int = 0
    at: int = -1
    created_at: float = field(default_factory=time.time)
    errors: list[dict[str, Any]] = field(default_factory=list)
    cancelled: bool = False
    expired: bool = False
    files: dict[str, str] = field(default_factory=dict)


class OpenAIApi:
    """Holds files and jobs; ``key``: the only one that is taken, None for any."""

    def __init__(self, *, key: str | None = None, pace: Pace | None = None, models: tuple[str, ...] = ()) -> None:
        self.faults = Faults()
        self.log: list[Request] = []
        self.files: dict[str, File] = {}
        self.jobs: dict[str, Job] = {}
        self._key, self._pace, self._models = key, pace or Pace(), models

    def answer(self, request: Request) -> Reply | None:
        """The reply to one request under /v1."""
        if "x-api-key" in request.headers or not request.path.startswith("/v1/"):
            return None
        self.log.append(request)
        if self._key is not None and request.headers.get("authorization") != f"Bearer {self._key}":
            said = f" {request.headers.get('authorization')}" if self.faults.echo_key else ""
            return _error(401, f"Incorrect API key provided:{said}.", "invalid_request_error", "invalid_api_key")
        path = request.path.removeprefix("/v1")
        for method, pattern, serve in (
            ("POST", r"/files", self._upload),
            ("GET", r"/files", self._list_files),
            ("GET", r"/files/([^/]+)/content", self._content),
            ("GET", r"/models/(.+)", self._model),
            ("POST", r"/batches", self._create),
            ("GET", r"/batches", self._list),
            ("GET", r"/batches/([^/]+)", self._retrieve),
            ("POST", r"/batches/([^/]+)/cancel", self._cancel),
        ):
            found = re.fullmatch(pattern, path)
            if request.method == method and found:
                return serve(request, *found.groups())
        return None

    def _model(self, request: Request, name: str) -> Reply:
        if self._models and name not in self._models:
            return _error(404, f"The model '{name}' does not exist", code="model_not_found")
        return Reply({"id": name, "object": "model", "created": 1, "owned_by": "openai"})

    def _upload(self, request: Request) -> Reply:
        fields, name, data = _multipart(request)
        file = File(f"file-{len(self.files) + 1:04d}", name, fields.get("purpose", ""), data)
        self.files[file.id] = file
        return Reply(file.told())

    def _list_files(self, request: Request) -> Reply:
        known = [one for one in self.files.values() if one.purpose == request.query.get("purpose", one.purpose)]
        return _page([one.told() for one in reversed(known)], request)

    def _content(self, request: Request, file_id: str) -> Reply:
        file = self.files.get(file_id)
        if file is None or (self.faults.gone and file.purpose == "batch_output"):
            return _error(404, f"No such File object: {file_id}")
        return Reply(file.data)

    def _create(self, request: Request) -> Reply:
        if self.faults.throttle:
            status, wait = self.faults.throttle.pop(0)
            headers = {} if wait is None else {"retry-after": f"{wait:g}"}
            return _error(status, "Rate limit reached for requests", "requests", "rate_limit_exceeded", headers)
        if self.faults.dropped:
            self.faults.dropped -= 1
            return Reply(drop=True)
        body = json.loads(request.body)
        file = self.files.get(body.get("input_file_id"))
        if file is None:
            return _error(400, f"No such File object: {body.get('input_file_id')}")
        if body.get("completion_window") != "24h" or body.get("endpoint") not in ENDPOINTS:
            return _error(400, "Invalid value: 'completion_window' or 'endpoint'.")
        lines = [json.loads(line) for line in file.data.splitlines() if line.strip()]
        job = Job(f"batch_{len(self.jobs) + 1:04d}", body["endpoint"], file.id, body.get("metadata"), lines)
        job.errors = self._faulty(job)
        self.jobs[job.id] = job
        if self.faults.lost:
            self.faults.lost -= 1
            job.hidden_for = self.faults.late
            return Reply(drop=True)
        return Reply(self._told(job))

    def _faulty(self, job: Job) -> list[dict[str, Any]]:
        if self.faults.over_quota:
            words = "Enqueued token limit reached for gpt-6-luna in organization org-1. Limit: 90,000 enqueued tokens."
            return [{"code": "token_limit_exceeded", "message": words, "line": None, "param": None}]
        if self.faults.refuse is not None:
            return [{"code": "invalid_json_line", "message": self.faults.refuse, "line": 2, "param": None}]
        found = []
        seen: set[str] = set()
        for number, line in enumerate(job.lines, 1):
            body = line.get("body") or {}
            for wrong, code in (
                (line.get("custom_id") in seen, "duplicate_custom_id"),
                (line.get("method") != "POST", "invalid_method"),
                (line.get("url") != job.endpoint, "mismatched_url"),
                (body.get("stream"), "stream_not_supported"),
                (body.get("model") != job.lines[0]["body"].get("model"), "mismatched_model"),
            ):
                if wrong:
                    found.append({"code": code, "message": f"{code} on line {number}", "line": number, "param": None})
            seen.add(line["custom_id"])
        return found

    def _list(self, request: Request) -> Reply:
        shown = []
        for job in reversed(self.jobs.values()):
            if job.hidden_for > 0:
                job.hidden_for -= 1
            else:
                shown.append(self._told(job))
        return _page(shown, request)

    def _retrieve(self, request: Request, job_id: str) -> Reply:
        if self.faults.bad_polls:
            self.faults.bad_polls -= 1
            return _error(500, "The server had an error while processing your request", "server_error")
        job = self.jobs.get(job_id)
        if job is None:
            return _error(404, f"No batch found with id '{job_id}'.")
        if not self.faults.hold:
            job.at = self._pace.step(job.at, job.created_at, len(STEPS) - 1)
        if self.faults.expire_after is not None and job.at >= 2 and not job.cancelled:
            job.expired = True
        return Reply(self._told(job))

    def _cancel(self, request: Request, job_id: str) -> Reply:
        job = self.jobs[job_id]
        if self._state(job) in ("completed", "failed", "expired", "cancelled"):
            return _error(409, f"Cannot cancel a batch with status '{self._state(job)}'.")
        job.cancelled = True
        return Reply(self._told(job) | {"status": "cancelling"})

    def _state(self, job: Job) -> str:
        if job.errors and job.at >= 1:
            return "failed"
        if job.cancelled:
            return "cancelled" if job.at >= 2 else "cancelling"
        return "expired" if job.expired else STEPS[max(job.at, 0)]

    def _told(self, job: Job) -> dict[str, Any]:
        state = self._state(job)
        over = state in ("completed", "expired", "cancelled")
        if over and not job.files:
            self._finish(job)
        fates = [self.faults.fate(i, stopped=job.cancelled, expired=job.expired) for i in range(len(job.lines))]
        done = fates if over or state == "finalizing" else fates[: len(fates) // 2] if state == "in_progress" else []
        created = int(job.created_at)
        return {
            "id": job.id,
            "object": "batch",
            "endpoint": job.endpoint,
            "input_file_id": job.file_id,
            "status": state,
            "completion_window": "24h",
            "created_at": created,
            "expires_at": created + 86400,
            "metadata": job.metadata,
            "errors": {"object": "list", "data": job.errors} if state == "failed" else None,
            "output_file_id": job.files.get("output"),
            "error_file_id": job.files.get("error"),
            "request_counts": {
                "total": len(job.lines) if job.at >= 1 and not job.errors else 0,
                "completed": done.count("ok"),
                "failed": len(done) - done.count("ok"),
            },
        }

    def _finish(self, job: Job) -> None:
        good: list[tuple[int, Any]] = []
        bad: list[tuple[int, Any]] = []
        for index, line in enumerate(job.lines):
            fate = self.faults.fate(index, stopped=job.cancelled, expired=job.expired)
            row = {"id": f"batch_req_{index}", "custom_id": line["custom_id"], "response": None, "error": None}
            if fate == "ok":
                row["response"] = {"status_code": 200, "request_id": f"req_{index}", "body": self._body(job, line)}
                good.append((index, row))
            elif fate == "error":
                error = {"message": "Unsupported value: 'temperature'", "type": "invalid_request_error", "code": None}
                row["response"] = {"status_code": 400, "request_id": f"req_{index}", "body": {"error": error}}
                bad.append((index, row))
            else:
                words = {
                    "expired": "This request could not be executed before the completion window expired.",
                    "cancelled": "This request was not executed because the batch was cancelled.",
                }
                row["error"] = {"code": f"batch_{fate}", "message": words[fate]}
                bad.append((index, row))
        other = {"status_code": 200, "request_id": "x", "body": self._body(job, job.lines[0])}
        strange = [
            {"id": "x", "custom_id": f"nobody-{n}", "response": other, "error": None}
            for n in range(self.faults.unknown)
        ]
        for kind, rows in (("output", spread(good, self.faults) + strange), ("error", spread(bad, self.faults))):
            if rows:
                file = File(f"file-{kind}-{job.id}", f"{job.id}_{kind}.jsonl", "batch_output", jsonl(rows, self.faults))
                self.files[file.id] = file
                job.files[kind] = file.id

    def _body(self, job: Job, line: dict[str, Any]) -> dict[str, Any]:
        asked = line["body"]
        if job.endpoint == "/v1/responses":
            words = asked["input"][-1]["content"]
            usage = self.faults.usage or {
                "input_tokens": len(words.split()),
                "output_tokens": 4,
                "total_tokens": len(words.split()) + 4,
            }
            part = {"type": "output_text", "text": f"Answer to: {words}", "annotations": []}
            output = [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [part]}]
            return {
                "id": f"resp_{line['custom_id']}",
                "object": "response",
                "model": asked["model"],
                "error": None,
                "status": "completed",
                "output": output,
                "usage": usage,
                "service_tier": "default",
            }
        words = asked["messages"][-1]["content"]
        usage = self.faults.usage or {
            "prompt_tokens": len(words.split()),
            "completion_tokens": 4,
            "total_tokens": len(words.split()) + 4,
        }
        message = {"role": "assistant", "content": f"Answer to: {words}", "refusal": None}
        return {
            "id": f"chatcmpl-{line['custom_id']}",
            "object": "chat.completion",
            "created": 1,
            "usage": usage,
            "model": asked["model"],
            "service_tier": "default",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        }


def _page(rows: list[dict[str, Any]], request: Request) -> Reply:
    limit, after = int(request.query.get("limit", 20)), request.query.get("after")
    start = next((i + 1 for i, row in enumerate(rows) if row["id"] == after), 0)
    data = rows[start : start + limit]
    ends = {"first_id": data[0]["id"] if data else None, "last_id": data[-1]["id"] if data else None}
    return Reply({"object": "list", "data": data, "has_more": start + limit < len(rows), **ends})


def _error(
    status: int,
    message: str,
    kind: str = "invalid_request_error",
    code: str | None = None,
    headers: dict[str, str] | None = None,
) -> Reply:
    return Reply({"error": {"message": message, "type": kind, "param": None, "code": code}}, status, headers or {})


def _multipart(request: Request) -> tuple[dict[str, str], str, bytes]:
    boundary = request.headers["content-type"].partition("boundary=")[2].strip('"').encode()
    fields: dict[str, str] = {}
    name, data = "", b""
    for part in request.body.split(b"--" + boundary)[1:-1]:
        head, _, body = part.strip(b"\r\n").partition(b"\r\n\r\n") if b"filename" not in part else _file_part(part)
        words = head.decode()
        field_name = re.search(r'name="([^"]*)"', words)
        file_name = re.search(r'filename="([^"]*)"', words)
        if file_name:
            name, data = file_name[1], body
        elif field_name:
            fields[field_name[1]] = body.decode()
    return fields, name, data


def _file_part(part: bytes) -> tuple[bytes, bytes, bytes]:
    head, sep, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
    return head, sep, body.removesuffix(b"\r\n")
