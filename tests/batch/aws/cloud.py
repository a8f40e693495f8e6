"""The emulator's socket: Bedrock's control plane, SageMaker's two planes and Service Quotas, with moto behind for S3.

Every request's signature is computed again by botocore (`tests.aws.sigv4`), every request body held against botocore's
shapes. Faults of a submit are taken from ``faults``, one for each attempt.
"""

from __future__ import annotations

import json
import re
import threading
from collections import deque
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import boto3

from tests.aws.sigv4 import VALID, verify
from tests.batch.aws.jobs import REGION, Jobs, Refused
from tests.batch.aws.sagemaker import SageMaker
from tests.batch.aws.script import Fault
from tests.fake.http import Request

BUCKET, ROLE = "lab-batches", "lab-batch"
SERVICES = {"bedrock", "sagemaker", "servicequotas"}
_FAULTS = {
    "throttling": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "quota": (400, "ServiceQuotaExceededException", "You have exceeded the sum of in-progress and submitted jobs."),
    "conflict": (400, "ConflictException", "A job of this name is being made."),
    "validation": (400, "ValidationException", "The provided model does not support batch, key AKIAIOSFODNN7EXAMPLE."),
    "denied": (403, "AccessDeniedException", "User is not authorized to perform: iam:PassRole."),
    "broken": (500, "InternalServerException", "An internal error occurred."),
}
_STATUS = {"ResourceNotFoundException": 404, "AccessDeniedException": 403}
_SUBMITS = re.compile(
    r"POST (?:/model-invocation-job|/endpoints/[^/]+/async-invocations|SageMaker\.CreateTransformJob)\Z"
)


class Closed(Exception):
    """Close the connection without a word."""


@cache
def _clients(moto: str) -> tuple[Any, Any]:
    keys = {"aws_access_key_id": VALID.access, "aws_secret_access_key": VALID.secret, "region_name": REGION}
    return boto3.client("s3", endpoint_url=moto, **keys), boto3.client("iam", endpoint_url=moto, **keys)


class Cloud:
    """``with Cloud(moto_url) as cloud``: one account."""

    def __init__(self, moto: str, port: int = 0) -> None:
        self.moto = moto
        self.s3, self.iam = _clients(moto)
        self.jobs = Jobs(self.s3)
        self.sagemaker = SageMaker(self.s3)
        self.faults: deque[Fault] = deque()
        self.quotas: list[tuple[str, float]] = []
        self.denied: set[str] = set()  # operations that the credentials may not use
        self.log: list[str] = []  # what was asked, in order
        self._lock = threading.RLock()
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @property
    def environ(self) -> dict[str, str]:
        """The variables that lead every AWS SDK here and to moto."""
        ours = {
            f"AWS_ENDPOINT_URL_{name}": self.url
            for name in ("BEDROCK", "SAGEMAKER", "SAGEMAKER_RUNTIME", "SERVICE_QUOTAS")
        }
        return ours | {f"AWS_ENDPOINT_URL_{name}": self.moto for name in ("S3", "STS", "IAM")}

    def furnish(self) -> None:
        """A bucket, and a role that Bedrock may take."""
        self.s3.create_bucket(Bucket=BUCKET)
        self.role(ROLE, "bedrock.amazonaws.com")

    def role(self, name: str, service: str) -> None:
        """A role that ``service`` may take."""
        trust = {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}],
        }
        self.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="batch-cloud", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> tuple[int, dict[str, str], bytes]:
        """The reply to one request. Raises `Closed`."""
        with self._lock:
            target = request.headers.get("x-amz-target", "")
            path = urlsplit(request.path).path
            what = f"{request.method} {target or unquote(path)}"
            self.log.append(what)
            try:
                verdict = verify(request, [VALID], regions={REGION}, services=SERVICES)
                if verdict.error:
                    raise Refused(verdict.error, verdict.message)
                fault = self.faults.popleft() if self.faults and _SUBMITS.match(what) else None
                if fault == "unheard":
                    raise Closed
                if fault in _FAULTS:
                    return _refusal(*_FAULTS[fault])
                reply = self._of(request, target, path)
                if fault == "lost":
                    raise Closed
                return reply
            except Refused as error:
                return _refusal(_STATUS.get(error.code, 400), error.code, error.message)

    def _of(self, request: Request, target: str, path: str) -> tuple[int, dict[str, str], bytes]:
        query = {name: values[-1] for name, values in parse_qs(urlsplit(request.path).query).items()}
        operation = target.rpartition(".")[2] or path.strip("/").partition("/")[0]
        if operation in self.denied:
            raise Refused("AccessDeniedException", f"User is not authorized to perform: {operation}")
        if target.startswith("ServiceQuotas"):
            return _said({"Quotas": [{"QuotaName": name, "Value": value} for name, value in self.quotas]})
        if target.startswith("SageMaker."):
            return _said(self.sagemaker.answer(operation, request.parse()))
        if found := re.fullmatch(r"/endpoints/([^/]+)/async-invocations", path):
            headers = self.sagemaker.invoke(found[1], request.headers, request.body)
            return 202, headers, json.dumps({"InferenceId": headers.pop("id")}).encode()
        if path == "/model-invocation-job":
            return _said(self.jobs.create(request.parse()))
        if path == "/model-invocation-jobs":
            return _said(self.jobs.list(query))
        if found := re.fullmatch(r"/model-invocation-job/(.+?)(/stop)?", unquote(path)):
            return _said(self.jobs.stop(found[1]) if found[2] else self.jobs.get(found[1]))
        raise Refused("ResourceNotFoundException", f"There is nothing at {path}.")

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                try:
                    status, more, said = cloud.answer(Request(self.command, self.path, headers, body))
                except Closed:
                    self.close_connection = True
                    return
                self.send_response(status)
                for name, value in {"content-type": "application/json", **more}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            do_GET = do_POST = _serve

            def log_message(self, *_: Any) -> None:
                """Nothing."""

        return Handler


def _said(value: Any) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps(value).encode()


def _refusal(status: int, code: str, message: str) -> tuple[int, dict[str, str], bytes]:
    body = {"__type": code, "message": message, "Message": message}
    return status, {"x-amzn-ErrorType": code}, json.dumps(body).encode()
