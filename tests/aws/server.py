"""The emulator itself: the fake server's socket, schedule and log, with AWS's paths and signatures in front."""

from __future__ import annotations

import uuid
from collections import deque
from urllib.parse import urlsplit

from tests.aws import control, errors, operations
from tests.aws.account import Account, Refused
from tests.aws.operations import Operation, Script
from tests.aws.scripts import parse
from tests.aws.sigv4 import BEARER, EXPIRED, SESSION, VALID, Key, Verdict, verify
from tests.fake.connection import Connection
from tests.fake.http import Request, plain_response
from tests.fake.plan import Compiled
from tests.fake.record import CanaryHit, Record
from tests.fake.replies import error_reply
from tests.fake.server import Core

SERVICES = {"bedrock": ("bedrock",), "mantle": ("bedrock", "bedrock-mantle"), "sagemaker": ("sagemaker",)}


class AwsConnection(Connection):
    """A connection whose replies carry the request ids of AWS."""

    def _head(self, plan: Compiled, record: Record) -> bytes:
        return plan.head + f"x-amzn-RequestId: {self.core.request_ids[record.id]}\r\n\r\n".encode()  # type: ignore[attr-defined]  # the core is an AwsCore


class AwsCore(Core):
    """One listening socket that is Bedrock runtime, Bedrock control, SageMaker runtime, mantle and STS at once.

    ``verdicts[i]`` belongs to ``requests[i]``: what the check of its signature found. Use `tests.aws.fixture`.
    """

    def __init__(self, *, port: int = 0, default: Script | str | None = None, region: str = "us-east-1") -> None:
        super().__init__(port=port, default=parse(f"?{default}") if isinstance(default, str) else default)
        self.region = region
        self.account = Account(region)
        self.keys: list[Key] = [VALID, SESSION, EXPIRED]
        self.bearer = BEARER
        self.verdicts: list[Verdict] = []
        self.operations: list[Operation | None] = []
        self.request_ids: list[str] = []
        self.served: dict[str, Script] = {}
        self._waiting: deque[tuple[str | None, str | None, Script]] = deque()

    def enqueue(self, *scripts: Script | str, route: str | None = None, model: str | None = None) -> None:  # type: ignore[override]  # chosen by route and model, not by wire
        """The next requests (of that route, or operation such as "invoke"; for that model) get these scripts.

        A string is a script's options, as behind the ``?`` of a name: ``"tokens=3&fault=stall"``.
        """
        for script in scripts:
            self._waiting.append((route, model, parse(f"?{script}") if isinstance(script, str) else script))

    def serve(self, name: str, script: Script | str) -> None:
        """From now on every request for this model id or endpoint name gets this script."""
        self.served[name] = parse(f"?{script}") if isinstance(script, str) else script

    def reset(self) -> None:
        """Forget the log, the queue, what names were assigned, and the account's state."""
        super().reset()
        for log in (self.verdicts, self.operations, self.request_ids, self._waiting, self.served):
            log.clear()
        self.account = Account(self.region)

    def _accept(self) -> None:
        for _ in range(256):
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            self.connections.add(AwsConnection(self, sock, self.accepted))

    def handle(self, connection: Connection, request: Request, first_ns: int, now: int) -> None:
        """One whole request has been read."""
        path = urlsplit(request.path).path
        if path.startswith("/_control/"):
            connection.raw(self._control(request, path))
            return
        if path.startswith("/canary"):
            self.canary_hits.append(CanaryHit(now, request.method, request.path, request.headers))
        operation = operations.of_request(request.method, path)
        record = Record(
            len(self.requests),
            connection.number,
            request.method,
            request.path,
            request.headers,
            request.body,
            request.parse(),
            first_byte_ns=first_ns,
            received_ns=now,
        )
        self.request_ids.append(str(uuid.uuid5(uuid.NAMESPACE_OID, f"{self.port} {len(self.request_ids)}")))
        self.operations.append(operation)
        self.verdicts.append(self._verdict(request, operation, path))
        self.requests.append(record)
        self.live += 1
        self.most_live = max(self.most_live, self.live)
        record.concurrent = self.live
        plan = self._plan(record, request, operation, path)
        record.status = int(plan.head.split(b" ", 2)[1])
        connection.play(record, plan)

    def _control(self, request: Request, path: str) -> bytes:
        if path == "/_control/enqueue" and request.method == "POST":
            body = request.parse()
            self.enqueue(*body.get("scripts", []), route=body.get("route"), model=body.get("model"))
            return plain_response(200, b'{"queued":%d}' % len(self._waiting))
        return super()._control(request, path)

    def _verdict(self, request: Request, operation: Operation | None, path: str) -> Verdict:
        service = operation.service if operation else "sts" if path == "/" else "bedrock"
        bearer = None if service in {"sagemaker", "sts"} else self.bearer
        services = SERVICES.get(service, (service,))
        return verify(request, self.keys, regions={self.region}, services=services, bearer=bearer)

    def _plan(self, record: Record, request: Request, operation: Operation | None, path: str) -> Compiled:
        verdict = self.verdicts[record.id]
        if path == "/" and request.method == "POST":
            return operations.ready(control.sts(request, verdict))
        if verdict.error:
            if operation is not None and operation.wire is not None:
                return operations.ready(error_reply(401, operation.wire, verdict.message))
            service = operation.service if operation else "bedrock"
            return operations.ready(errors.reply(verdict.error, verdict.message, service=service))
        if control.is_control(path):
            return operations.ready(control.answer(self.account, request))
        if operation is None:
            return operations.ready(errors.reply("ResourceNotFoundException", "There is nothing at this path."))
        name = operation.name or str(record.json.get("model", ""))
        try:
            script, base = self._script(operation, name)
            record.script = script
            return operations.answer(record, operation, script, base)
        except Refused as error:
            return operations.ready(errors.reply(error.code, error.message, service=operation.service))
        except (ValueError, KeyError) as error:
            message = f"The emulator does not understand this name: {error}"
            return operations.ready(errors.reply("ValidationException", message, service=operation.service))

    def _script(self, operation: Operation, name: str) -> tuple[Script, str]:
        base, asked, _ = name.partition("?")
        if operation.service == "bedrock":
            base = self.account.resolve(base)
        elif operation.service == "sagemaker":
            self.account.check_endpoint(base)
        for queued in list(self._waiting):
            route, model, script = queued
            if route in {None, operation.kind, *operations.routes_of(operation, base)} and model in {None, name, base}:
                self._waiting.remove(queued)
                return script, base
        for known in (name, name.partition("?")[0], base):
            if known in self.served:
                return self.served[known], base
        if not asked and self.default is not None:
            return self.default, base
        return operations.script_of(operation, name), base
