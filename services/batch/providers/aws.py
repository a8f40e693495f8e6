"""What the batch services of AWS share: accounts, files in S3, endpoints, complete answers, and the check beforehand.

A sentence that begins with `UNSURE` says what could not be found out; all others would make a submit fail.

A batch's line is judged by the code that judges a live call: what counts as an end, what as a refusal, how tokens are
counted. `common.answered` does the same for the wires of Anthropic and OpenAI, which Claude and the chat-shaped models
also speak inside InvokeModel.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from db.batch_rows import JobFacts
from services.aws import control, credentials
from services.aws.control import AwsTrouble, Place, Trouble
from services.batch.providers.common import answered, clean, tag_of, write_atomically
from services.batch.types import (
    UNSURE,
    Job,
    LineResult,
    Polled,
    RouteTrouble,
    SubmitLater,
    SubmitRefused,
)
from services.batch.types import Place as Submitting
from services.formatting import NANODOLLARS
from services.outcomes import STATE_OF, judge
from services.providers import kind_of
from services.providers.bedrock import ConverseDecoder, decoder_of
from services.providers.decoder import WireDecoder, text
from services.providers.errors import stated_error
from services.providers.model_families import family, prompted
from services.providers.sagemaker import TokenDecoder
from services.providers.usage import obj
from services.security import keys
from services.types import Ask, Aws, Deployment, Json, JsonMapping, Usage, WireError
from services.wire.framing import ServerEvent

FRESH_S = 60.0

WAIT_S = 2.0  # a page that asks why a deployment is not offered does not wait longer for AWS


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint. ``model`` None: its variant names none. ``instance`` None: serverless, or a mix of types.

    ``answers`` and ``failures``: S3 places of asynchronous inference; ``answers`` None: it is not asynchronous.
    """

    name: str
    status: str
    variant: str
    model: str | None
    instance: str | None
    instances: int | None
    answers: str | None = None
    failures: str | None = None


def described(deployment: Deployment) -> Endpoint:
    """The endpoint as it is now. Raises `AwsTrouble`."""
    account, aws = place_of(deployment), settings(deployment)
    name = deployment.model.strip()

    def read(sagemaker: Any) -> Endpoint:
        row = sagemaker.describe_endpoint(EndpointName=name)
        config = sagemaker.describe_endpoint_config(EndpointConfigName=row["EndpointConfigName"])
        variants = config.get("ProductionVariants") or [{}]
        variant = next((v for v in variants if v.get("VariantName") == aws.variant), variants[0])
        model = variant.get("ModelName")
        if aws.component:
            component = sagemaker.describe_inference_component(InferenceComponentName=aws.component)
            model = (component.get("Specification") or {}).get("ModelName")
        places = _places(row) or _places(config)
        return Endpoint(
            name,
            str(row.get("EndpointStatus", "")),
            str(variant.get("VariantName", "")),
            model,
            variant.get("InstanceType"),
            variant.get("InitialInstanceCount"),
            places.get("S3OutputPath"),
            places.get("S3FailurePath"),
        )

    return control.call("sagemaker", account, read)


def _places(row: JsonMapping) -> JsonMapping:
    return (row.get("AsyncInferenceConfig") or {}).get("OutputConfig") or {}


def plain_body(deployment: Deployment, ask: Ask) -> Json:
    """The body of one call that does not stream. Raises ValueError in words."""
    body = dict(kind_of(deployment).request(deployment, ask).body)
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


@contextmanager
def asking() -> Iterator[None]:
    """A trouble with AWS comes out as `RouteTrouble`."""
    try:
        yield
    except AwsTrouble as error:
        raise RouteTrouble(f"{error} What was sent there is safe; it is asked again.") from error


# --- without waiting -------------------------------------------------------------------------------------------------
@dataclass
class _Seen:
    endpoint: Endpoint | None = None
    trouble: str | None = None
    read_at: float = float("-inf")
    asking: threading.Thread | None = None


_seen: dict[tuple[str | None, str | None, str], _Seen] = {}

_lock = threading.Lock()


def known(deployment: Deployment, wait_s: float = WAIT_S) -> tuple[Endpoint | None, str | None]:
    """The endpoint as last seen, or why it is not known; looks again in the background when that is old."""
    key = (settings(deployment).profile, deployment.region, deployment.model.strip())
    with _lock:
        seen = _seen.setdefault(key, _Seen())
        fresh = time.monotonic() - seen.read_at < FRESH_S
        if not fresh and (seen.asking is None or not seen.asking.is_alive()):
            seen.asking = threading.Thread(
                target=_look, args=(deployment, seen), name="sagemaker-endpoint", daemon=True
            )
            seen.asking.start()
        asking = seen.asking
    if not fresh and asking is not None and seen.read_at == float("-inf"):
        asking.join(wait_s)
    if seen.endpoint is None and seen.trouble is None:
        return None, f"SageMaker has not said yet what kind of endpoint {deployment.model} is: look again in a moment."
    return seen.endpoint, seen.trouble


def _look(deployment: Deployment, seen: _Seen) -> None:
    try:
        seen.endpoint, seen.trouble = described(deployment), None
    except AwsTrouble as error:
        seen.endpoint, seen.trouble = None, str(error)
    seen.read_at = time.monotonic()


def forget() -> None:
    """Look again the next time."""
    with _lock:
        _seen.clear()


_UNKNOWN = ("denied", "throttled", "timeout", "unreachable", "failed")


def account(place: Place) -> tuple[str | None, list[str]]:
    """The account's number, and why nothing more can be asked."""
    try:
        return control.identity(place).account, []
    except AwsTrouble as error:
        if error.what in _UNKNOWN:
            return None, [f"{UNSURE}whose credentials these are. {error}"]
        return None, [str(error)]


def bucket(account: Place, batch_s3: str) -> Iterator[str]:
    """What is wrong with the bucket for batches."""
    name = parsed(batch_s3).bucket
    try:
        region = region_of(account, name)
    except AwsTrouble as error:
        if error.what == "not_found":
            yield f"There is no bucket {name}: make it in {account.region}, or correct batch_s3 in the AWS settings."
        elif error.what == "denied":
            needs = "s3:ListBucket, s3:GetObject and s3:PutObject"
            yield f"The bucket {name} belongs to others or may not be used: {account.words} needs {needs} there."
        else:
            yield f"{UNSURE}the bucket {name}. {error}"
        return
    if region is None:
        yield f"{UNSURE}in which region the bucket {name} is; it has to be in {account.region}."
    elif region != account.region:
        yield f"The bucket {name} is in {region} and the jobs run in {account.region}: name one in {account.region}."


def role(account: Place, arn: str, owner: str | None, service: str) -> Iterator[str]:
    """What is wrong with the role that ``service`` ("bedrock.amazonaws.com") is to take; ``owner``: our account."""
    theirs, name = arn.split(":")[4], arn.rpartition("/")[2]
    if owner is not None and theirs != owner:
        yield f"The role {name} belongs to the account {theirs} and the credentials to {owner}: name one of {owner}."
        return
    try:
        attributes = control.call("iam", account, lambda iam: iam.get_role(RoleName=name))["Role"]
    except AwsTrouble as error:
        if error.what == "not_found":
            yield f"The account has no role {name}: make it, or correct batch_role in the AWS settings."
        else:
            yield f"{UNSURE}the role {name} could not be checked. {error}"
        return
    if attributes.get("Arn") not in (None, arn):
        yield f"The role {name} is {attributes['Arn']}: write its ARN that way in batch_role."
    elif not _trusts(attributes.get("AssumeRolePolicyDocument"), service):
        yield f"The role {name} does not let {service} take it: allow sts:AssumeRole for it in the role's trust policy."


def _trusts(policy: Any, service: str) -> bool:
    """Whether a trust policy lets a service take the role; a policy that cannot be read is taken for one that does."""
    if not isinstance(policy, Mapping):
        return True
    statements = policy.get("Statement")
    for statement in statements if isinstance(statements, list) else [statements]:
        if not isinstance(statement, Mapping) or statement.get("Effect") != "Allow":
            continue
        principal = statement.get("Principal")
        named = principal.get("Service") if isinstance(principal, Mapping) else principal
        if named == "*" or service in (named if isinstance(named, list) else [named]):
            return True
    return False


PART_BYTES = 8 << 20

CHUNK_BYTES = 1 << 20


def parsed(text: str) -> Uri:
    """The place that "s3://bucket/prefix/" (or SageMaker's "https://…") names."""
    path = text.partition("://")[2]
    bucket, _, key = path.partition("/")
    return Uri(bucket, key.strip("/"))


def region_of(account: Place, bucket: str) -> str | None:
    """The region of a bucket, which this also reaches; None when S3 does not say."""
    row = control.call("s3", account, lambda s3: s3.head_bucket(Bucket=bucket))
    region = row.get("BucketRegion") or row["ResponseMetadata"]["HTTPHeaders"].get("x-amz-bucket-region")
    return str(region) if region else None


class Uri(NamedTuple):
    """A place in S3; ``key`` without a slash at either end."""

    bucket: str
    key: str

    def under(self, *names: str) -> Uri:
        """A place below this one."""
        return Uri(self.bucket, "/".join(name for name in (self.key, *names) if name))

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}" if self.key else f"s3://{self.bucket}"


class StoredObject(NamedTuple):
    """An object of a listing. ``size`` in bytes."""

    uri: Uri
    size: int

    @property
    def name(self) -> str:
        """The last part of its key."""
        return self.uri.key.rpartition("/")[2]


class Flow(io.RawIOBase):
    """Lines as a file to read from, without ever holding more than one beside what is asked for.

    Counts what has gone through in ``lines`` and ``size`` (bytes). ``watch`` is called before every read and may raise.
    """

    def __init__(self, lines: Iterable[bytes], watch: Callable[[Flow], None]) -> None:
        super().__init__()
        self._lines, self._watch = iter(lines), watch
        self._buffer = bytearray()
        self.lines = self.size = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next ``size`` bytes, fewer only at the end; all of them for a negative ``size``."""
        self._watch(self)
        while size < 0 or len(self._buffer) < size:
            line = next(self._lines, None)
            if line is None:
                break
            self._buffer += line
            self.lines += 1
            self.size += len(line)
        taken = bytes(self._buffer) if size < 0 else bytes(self._buffer[:size])
        del self._buffer[: len(taken)]
        return taken


def upload(account: Place, to: Uri, flow: Flow, marks: dict[str, str]) -> None:
    """Write an object in parts of `PART_BYTES`, one part in memory at a time. It is there whole, or not at all."""
    credentials.load_boto()
    from boto3.s3.transfer import TransferConfig

    parts = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
    extra = {"Metadata": marks, "ContentType": "application/jsonl"}
    control.call("s3", account, lambda s3: s3.upload_fileobj(flow, to.bucket, to.key, ExtraArgs=extra, Config=parts))


def put(account: Place, to: Uri, data: bytes) -> None:
    """Write a small object."""
    control.call("s3", account, lambda s3: s3.put_object(Bucket=to.bucket, Key=to.key, Body=data))


def marks_of(account: Place, uri: Uri) -> dict[str, str] | None:
    """The marks that an object was uploaded with; None when it is not there."""
    try:
        row = control.call("s3", account, lambda s3: s3.head_object(Bucket=uri.bucket, Key=uri.key))
    except AwsTrouble as error:
        if error.what == "not_found":
            return None
        raise
    return dict(row.get("Metadata") or {})


def listed(account: Place, below: Uri) -> list[StoredObject]:
    """Every object whose key begins with ``below`` and a slash, in order."""

    def read(s3: Any) -> list[StoredObject]:
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=below.bucket, Prefix=f"{below.key}/")
        return [
            StoredObject(Uri(below.bucket, row["Key"]), int(row["Size"]))
            for page in pages
            for row in page.get("Contents", [])
        ]

    return control.call("s3", account, read)


def fetch(account: Place, entry: StoredObject, to: Path, place: Submitting) -> Path:
    """A copy of an object in the file ``to``, made anew unless one of its size is there already.

    It does not end when the batch is cancelled: what a stopped job has answered is paid and wanted.
    """
    if not (to.exists() and to.stat().st_size == entry.size):

        def read(s3: Any) -> None:
            body = s3.get_object(Bucket=entry.uri.bucket, Key=entry.uri.key)["Body"]
            write_atomically(to, _with_progress(body.iter_chunks(CHUNK_BYTES), entry, place))

        control.call("s3", account, read)
    return to


def _with_progress(chunks: Iterable[bytes], entry: StoredObject, place: Submitting) -> Iterator[bytes]:
    done = reported = 0
    for chunk in chunks:
        yield chunk
        done += len(chunk)
        if done - reported >= 8 * CHUNK_BYTES:
            reported = done
            place.say(f"Fetching the results from S3: {done / 1e6:,.0f} of {entry.size / 1e6:,.0f} MB of {entry.name}.")


def small(s3: Any, uri: Uri, max_bytes: int = 16 << 20) -> bytes:
    """The first ``max_bytes`` bytes of an object, by a client that the caller holds."""
    return bytes(s3.get_object(Bucket=uri.bucket, Key=uri.key)["Body"].read(max_bytes))


def named(objects: Iterable[StoredObject], ending: str) -> Iterator[StoredObject]:
    """Those whose name ends so."""
    return (entry for entry in objects if entry.name.endswith(ending))


# These mend themselves, or a person mends them without touching the batch: the job waits and is tried again.
_PASSES: Mapping[Trouble, float | None] = {
    "throttled": 60.0,
    "quota": 900.0,
    "conflict": 60.0,
    "unreachable": 60.0,
    "timeout": 60.0,
    "failed": 60.0,
    "credentials": None,
    "expired": None,
}


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
    doubted_before = mark.exists()
    mark.parent.mkdir(parents=True, exist_ok=True)
    mark.touch()
    try:
        yield
    except AwsTrouble as error:
        if doubted_before or error.what in ("conflict", *NO_ANSWER):
            raise
        mark.unlink(missing_ok=True)
        if error.what in _PASSES:
            raise
        raise AwsTrouble(error.what, f"{error} Nothing was submitted.") from error


def unknown(service: str, name: str, account: Place) -> Polled:
    """A job that was stopped and that the service does not know."""
    sentence = (
        f"{service} in {account.region} does not know the job {name}: if it was made with other credentials, stop it "
        "in the console of their account."
    )
    return Polled("cancelled", "unknown", sentence, True, False)


def seconds(moment: Any) -> float | None:
    """A time of boto3's as Unix seconds; None for none."""
    return moment.timestamp() if isinstance(moment, datetime) else None


def instance_cost_nanousd(facts: JobFacts) -> int | None:
    """What the instances of a job of their own cost, from the facts that a transform job leaves behind.

    None while it runs, and where no price of its instance type is known.
    """
    rate, count = facts.get("usd_per_hour"), facts.get("instance_count")
    start, end = facts.get("started_at"), facts.get("ended_at")
    if not (isinstance(rate, str) and isinstance(count, int) and start is not None and end is not None):
        return None
    hours = Decimal(str(max(0.0, float(end) - float(start)))) / 3600
    return int((Decimal(rate) * count * hours * NANODOLLARS).to_integral_value())


Event = tuple[str, JsonMapping]


def converse(wire_id: str, body: JsonMapping) -> LineResult:
    """The line whose answer is ``body``, a whole reply of Converse (or of Nova over InvokeModel, which is the same)."""
    return _line_result(wire_id, ConverseDecoder(), _converse(body))


def invoked(wire_id: str, model: str, body: JsonMapping) -> LineResult:
    """The line whose answer is ``body``, a whole reply of InvokeModel from ``model``."""
    kind = family(model)
    if kind == "nova":
        return converse(wire_id, body)
    if kind == "claude":
        return answered(wire_id, "messages", body, None)
    if kind in ("llama", "titan") or (kind == "mistral" and prompted(model)):
        return _line_result(wire_id, decoder_of(model), [_chunk(_titan(body) if kind == "titan" else body)])
    return answered(wire_id, "chat", _chat(body), None)


def contained(wire_id: str, wire: str, body: Any) -> LineResult:
    """The line whose answer is ``body``, a whole reply of a container on SageMaker that speaks ``wire``."""
    first = body[0] if isinstance(body, list) and body else body
    if not isinstance(first, Mapping):
        return unreadable("An answer of the container is no JSON object.", wire_id)
    if wire == "chat":
        return answered(wire_id, "chat", first, None)
    return _line_result(wire_id, TokenDecoder(), _tokens(first))


def failed(wire_id: str, stated: Any, status: int | None) -> LineResult:
    """The line that the service answered with an error: what it said, and the HTTP status it would have had."""
    error = stated_error(stated, status=status)
    return LineResult(
        wire_id,
        "failed",
        error.outcome,
        message=clean(error.message) or None,
        http_status=status,
        error_type=error.type,
        error_code=error.code,
    )


def unreadable(why: str, wire_id: str = "") -> LineResult:
    """A line of a results file that holds no answer."""
    return LineResult(wire_id, "failed", "protocol_error", message=why)


def _line_result(wire_id: str, reader: WireDecoder, events: Iterable[Event]) -> LineResult:
    texts: dict[str, list[str]] = {"answer": [], "reasoning": [], "tool": []}
    for name, value in events:
        for delta in reader.feed(ServerEvent(name, orjson.dumps(value))):
            texts[delta.kind].append(delta.text)
    outcome, detail = judge(reader, saw_content=reader.spoke, eof=True)
    error = reader.error or WireError(outcome)
    return LineResult(
        wire_id,
        "succeeded" if STATE_OF[outcome] == "succeeded" else "failed",
        outcome,
        "".join(texts["answer"] or texts["tool"]),
        "".join(texts["reasoning"]),
        keys.scrub(detail) if detail else None,
        reader.usage or Usage(),
        reader.finish_raw,
        reader.model_reported,
        reader.response_id,
        None,
        error.type,
        error.code,
        reader.server_ms,
        reader.served_tier,
    )


def _converse(body: JsonMapping) -> Iterator[Event]:
    content = obj(obj(body.get("output")).get("message")).get("content")
    for index, block in enumerate(map(obj, content if isinstance(content, list) else ())):
        for delta in _blocks(block):
            if "toolUse" in delta:
                yield "contentBlockStart", {"contentBlockIndex": index, "start": {"toolUse": {}}}
            yield "contentBlockDelta", {"contentBlockIndex": index, "delta": delta}
    yield "messageStop", {"stopReason": body.get("stopReason")}
    names = ("usage", "metrics", "trace", "performanceConfig", "serviceTier")
    yield "metadata", {name: body[name] for name in names if name in body}


def _blocks(block: JsonMapping) -> Iterator[JsonMapping]:
    if "text" in block:
        yield {"text": text(block["text"])}
    if "reasoningContent" in block:
        thought = obj(obj(block["reasoningContent"]).get("reasoningText")) or obj(block["reasoningContent"])
        yield {"reasoningContent": {"text": text(thought.get("text"))}}
    if "toolUse" in block:
        yield {"toolUse": {"input": orjson.dumps(obj(block["toolUse"]).get("input")).decode()}}


def _chunk(body: JsonMapping) -> Event:
    return "chunk", {"bytes": base64.b64encode(orjson.dumps(dict(body))).decode()}


def _titan(body: JsonMapping) -> JsonMapping:
    results = body.get("results")
    first = obj(results[0]) if isinstance(results, list) and results else {}
    return {
        "outputText": first.get("outputText"),
        "completionReason": first.get("completionReason"),
        "inputTextTokenCount": body.get("inputTextTokenCount"),
        "totalOutputTextTokenCount": first.get("tokenCount"),
    }


def _chat(body: JsonMapping) -> JsonMapping:
    """Mistral's newer models call the finish reason ``stop_reason``."""
    choices = body.get("choices")
    first = obj(choices[0]) if isinstance(choices, list) and choices else {}
    if first.get("finish_reason") or not first.get("stop_reason"):
        return body
    return {**body, "choices": [{**first, "finish_reason": first["stop_reason"]}]}


def _tokens(body: JsonMapping) -> Iterator[Event]:
    details = obj(body.get("details"))
    if body.get("error"):
        yield "", body
    yield (
        "",
        {
            "token": {"text": text(body.get("generated_text"))},
            "generated_text": body.get("generated_text"),
            **({"details": details} if details else {}),
        },
    )
