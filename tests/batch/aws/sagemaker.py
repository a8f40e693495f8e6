"""SageMaker as batches need it: endpoints and their configurations, transform jobs, and asynchronous invocations.

From botocore's model: shapes, and what the documentation in it says (a file with a failed record has no output, and the
job then fails; ``DataProcessing``; the inline limit). From AWS's pages: output keys, "-error.out" of failures.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.aws import shapes
from tests.batch.aws import answers
from tests.batch.aws.jobs import ACCOUNT, REGION, Refused
from tests.batch.aws.script import TRANSFORM_STATES, Script


@dataclass
class Transform:
    """One transform job."""

    request: dict[str, Any]
    script: Script
    states: list[str]
    created: float
    asked: int = 0
    reason: str = ""
    worked: bool = False
    ended: float | None = None

    @property
    def status(self) -> str:
        """What it says now."""
        return self.states[min(self.asked, len(self.states) - 1)]


@dataclass
class SageMaker:
    """The account's SageMaker. ``hold``: asynchronous answers are kept back until `deliver`."""

    s3: Any
    endpoints: dict[str, dict[str, Any]] = field(default_factory=dict)
    transforms: dict[str, Transform] = field(default_factory=dict)
    scripts: list[Script] = field(default_factory=list)
    invocations: list[dict[str, Any]] = field(default_factory=list)
    hold: bool = False
    failing: frozenset[str] = frozenset()  # inference ids whose invocation fails
    _kept: list[tuple[str, bytes]] = field(default_factory=list)

    def endpoint(
        self,
        name: str,
        *,
        instance: str | None = "ml.g5.xlarge",
        count: int = 2,
        answers: str | None = None,
        failures: str | None = None,
        model: str | None = "the-model",
    ) -> None:
        """Put an endpoint there; ``answers``: it is asynchronous and writes to that place in S3."""
        variant = {
            "VariantName": "AllTraffic",
            "InitialInstanceCount": count,
            "InitialVariantWeight": 1.0,
            "ModelName": model,
            "InstanceType": instance,
        }
        variant = {key: value for key, value in variant.items() if value is not None}
        if instance is None:
            variant["ServerlessConfig"] = {"MemorySizeInMB": 2048, "MaxConcurrency": 2}
        places = {"S3OutputPath": answers, **({"S3FailurePath": failures} if failures else {})}
        self.endpoints[name] = {"variant": variant, "async": {"OutputConfig": places} if answers else None}

    # --- control -----------------------------------------------------------------------------------------------------

    def answer(self, operation: str, body: dict[str, Any]) -> dict[str, Any]:
        """The reply to one operation of the control plane."""
        shape = shapes.operation("sagemaker", operation).input_shape
        wrong = list(shapes.problems(body, shape))
        if wrong:
            raise Refused("ValidationException", f"1 validation error detected: {wrong[0]}")
        handler = getattr(self, f"_{operation}", None)
        if handler is None:
            raise Refused("ValidationException", f"The emulator does not know {operation}.")
        said: dict[str, Any] = handler(body)
        return said

    def _find(self, name: str) -> dict[str, Any]:
        if name not in self.endpoints:
            raise Refused("ValidationException", f'Could not find endpoint "{_arn("endpoint", name)}".')
        return self.endpoints[name]

    def _DescribeEndpoint(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["EndpointName"]
        one = self._find(name)
        said = {
            "EndpointName": name,
            "EndpointArn": _arn("endpoint", name),
            "EndpointConfigName": f"{name}-config",
            "EndpointStatus": "InService",
            "CreationTime": 1.7e9,
            "LastModifiedTime": 1.7e9,
        }
        return said | ({"AsyncInferenceConfig": one["async"]} if one["async"] else {})

    def _DescribeEndpointConfig(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["EndpointConfigName"]
        one = self._find(name.removesuffix("-config"))
        said = {
            "EndpointConfigName": name,
            "EndpointConfigArn": _arn("endpoint-config", name),
            "ProductionVariants": [one["variant"]],
            "CreationTime": 1.7e9,
        }
        return said | ({"AsyncInferenceConfig": one["async"]} if one["async"] else {})

    def _CreateTransformJob(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["TransformJobName"]
        if name in self.transforms:
            raise Refused("ResourceInUse", f"Job name must be unique; {name} already exists.")
        if body["MaxConcurrentTransforms"] * body["MaxPayloadInMB"] > 100:
            raise Refused("ValidationException", "MaxConcurrentTransforms times MaxPayloadInMB exceeds 100.")
        script = self.scripts.pop(0) if self.scripts else Script(states=TRANSFORM_STATES)
        self.transforms[name] = Transform(body, script, list(script.states), time.time())
        return {"TransformJobArn": _arn("transform-job", name)}

    def _job(self, name: str) -> Transform:
        if name not in self.transforms:
            raise Refused("ValidationException", f"Could not find requested job with name: {name}")
        return self.transforms[name]

    def _DescribeTransformJob(self, body: dict[str, Any]) -> dict[str, Any]:
        job = self._job(body["TransformJobName"])
        if job.status in ("Completed", "Failed", "Stopped") and not job.worked:
            self._work(job)
        names = (
            "TransformJobName",
            "ModelName",
            "TransformInput",
            "TransformOutput",
            "TransformResources",
            "BatchStrategy",
            "DataProcessing",
            "MaxPayloadInMB",
            "MaxConcurrentTransforms",
        )
        said = {name: job.request[name] for name in names if name in job.request}
        said |= {
            "TransformJobArn": _arn("transform-job", body["TransformJobName"]),
            "TransformJobStatus": job.status,
            "CreationTime": job.created,
            "TransformStartTime": job.created + 60,
        }
        if job.ended is not None:
            said["TransformEndTime"] = job.ended
        if job.reason:
            said["FailureReason"] = job.reason
        job.asked += 1
        return said

    def _StopTransformJob(self, body: dict[str, Any]) -> dict[str, Any]:
        job = self._job(body["TransformJobName"])
        if job.status in ("Completed", "Failed", "Stopped"):
            raise Refused("ValidationException", f"The request was rejected because the transform job is {job.status}.")
        job.states, job.asked = ["Stopping", "Stopped"], 0
        return {}

    def _work(self, job: Transform) -> None:
        """Read every file of the input, write those in which no record failed."""
        job.worked, job.ended, index = True, job.created + 60 + 1800, 0
        processing = job.request["DataProcessing"]
        asked = (processing["InputFilter"], processing["JoinSource"], processing["OutputFilter"])
        if asked != ("$.request", "Input", "$['id','SageMakerOutput']"):
            job.states, job.asked, job.reason = ["Failed"], 0, "The emulator knows no other filters."
            return
        source = job.request["TransformInput"]["DataSource"]["S3DataSource"]["S3Uri"]
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        rows = self.s3.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
        for row in rows[: max(1, int(len(rows) * job.script.finished))]:
            lines = self.s3.get_object(Bucket=bucket, Key=row["Key"])["Body"].read().splitlines()
            records = [json.loads(raw) for raw in lines]
            failed = [index + n for n in range(len(records)) if index + n in job.script.errors]
            index += len(records)
            if failed:
                job.states, job.asked = ["Failed"], 0
                job.reason = "ClientError: 400 from the container, see the job's logs for more information"
                continue
            self._write(job, row["Key"], records)

    def _write(self, job: Transform, key: str, records: list[dict[str, Any]]) -> None:
        out = [{"id": one["id"], "SageMakerOutput": answers.contained(one["request"])} for one in records]
        script = job.script
        out = out[script.missing :] + out[len(out) - script.double :][: script.double]
        out += [{"SageMakerOutput": out[0]["SageMakerOutput"]} for _ in range(script.unknown)]
        if script.shuffled:
            out.reverse()
        data = b"".join(map(answers.line, out))
        bucket, _, prefix = job.request["TransformOutput"]["S3OutputPath"].removeprefix("s3://").partition("/")
        folder, _, name = key.rpartition("/")
        at = f"{prefix.rstrip('/')}/{folder.rpartition('/')[2]}/{name}.out"
        self.s3.put_object(Bucket=bucket, Key=at, Body=data[: len(data) - script.cut] if script.cut else data)

    # --- asynchronous invocations ------------------------------------------------------------------------------------

    def invoke(self, name: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """InvokeEndpointAsync; returns the headers of the reply and the inference id."""
        one = self.endpoints.get(name)
        if one is None or not one["async"]:
            raise Refused("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")
        asked = {
            key.removeprefix("x-amzn-sagemaker-"): value
            for key, value in headers.items()
            if key.startswith("x-amzn-sagemaker-")
        }
        given = asked.get("inputlocation")
        if bool(given) == bool(body):
            raise Refused("ValidationError", "Provide exactly one of Body and InputLocation.")
        if len(body) > 128_000:
            raise Refused("ValidationError", "The inline payload can be up to 128,000 bytes.")
        if given:
            bucket, _, key = given.removeprefix("s3://").partition("/")
            body = self.s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        ident = asked["inference-id"]
        places = one["async"]["OutputConfig"]
        folder = "/".join(
            part for part in (places["S3OutputPath"].rstrip("/"), asked.get("s3outputpathextension")) if part
        )
        out = f"{folder}/{asked.get('filename') or ident + '.out'}"
        wrong = f"{places.get('S3FailurePath', places['S3OutputPath']).rstrip('/')}/{ident}-error.out"
        self.invocations.append({"id": ident, "inline": not given, "headers": dict(asked)})
        if ident in self.failing:
            self._kept.append((wrong, b'Received client error (400) from primary with message "too long".'))
        else:
            self._kept.append((out, json.dumps(answers.contained(json.loads(body))).encode()))
        if not self.hold:
            self.deliver()
        return {"X-Amzn-SageMaker-OutputLocation": out, "X-Amzn-SageMaker-FailureLocation": wrong, "id": ident}

    def deliver(self, most: int = 1_000_000) -> None:
        """Write the answers that were kept back, the first ``most`` of them."""
        now, self._kept = self._kept[:most], self._kept[most:]
        for uri, data in now:
            bucket, _, key = uri.removeprefix("s3://").partition("/")
            self.s3.put_object(Bucket=bucket, Key=key, Body=data)


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name.lower()}"
