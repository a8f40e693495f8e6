"""What the emulated account holds: models, inference profiles, provisioned throughput, access."""

from __future__ import annotations

import datetime
import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal

ACCOUNT = "123456789012"
TERMS = {"OneMonth": 30, "SixMonths": 182}  # days
UTC = datetime.UTC


class Refused(Exception):
    """The account does not do that: AWS's error name and message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


@dataclass(frozen=True, slots=True)
class Model:
    """A foundation model of the catalogue."""

    id: str
    name: str
    provider: str
    inference: tuple[str, ...] = ("ON_DEMAND",)
    streaming: bool = True


MODELS: tuple[Model, ...] = (
    Model("anthropic.claude-fake-v1:0", "Claude Fake", "Anthropic", ("ON_DEMAND", "PROVISIONED")),
    Model("anthropic.claude-profile-v1:0", "Claude by profile", "Anthropic", ("INFERENCE_PROFILE",)),
    Model("amazon.nova-fake-v1:0", "Nova Fake", "Amazon"),
    Model("amazon.titan-text-fake-v1", "Titan Fake", "Amazon", ("ON_DEMAND", "PROVISIONED")),
    Model("meta.llama-fake-v1:0", "Llama Fake", "Meta"),
    Model("mistral.mistral-fake-v1:0", "Mistral Fake", "Mistral AI"),
    Model("openai.gpt-oss-fake-v1:0", "gpt-oss Fake", "OpenAI"),
    Model("qwen.qwen-fake-v1:0", "Qwen Fake", "Qwen"),
)
GEOGRAPHIES = ("us", "eu", "apac", "global")
Status = Literal["Creating", "InService", "Updating", "Failed"]


@dataclass(frozen=True, slots=True)
class Provisioned:
    """One provisioned model throughput. ``ready``: when Creating or Updating becomes InService."""

    arn: str
    name: str
    model_id: str
    units: int
    commitment: str | None
    created: datetime.datetime
    changed: datetime.datetime
    ready: datetime.datetime
    waiting: Status = "Creating"
    desired_model: str | None = None
    failure: str | None = None

    @property
    def ends(self) -> datetime.datetime | None:
        """When the commitment is over."""
        return self.created + datetime.timedelta(days=TERMS[self.commitment]) if self.commitment else None

    def status(self, now: datetime.datetime) -> Status:
        """The status at that time."""
        if self.failure:
            return "Failed"
        return "InService" if now >= self.ready else self.waiting


@dataclass
class Account:
    """The state that requests change. ``creating_s``: how long a new throughput says Creating (and Updating)."""

    region: str = "us-east-1"
    creating_s: float = 0.2
    denied: set[str] = field(default_factory=set)  # model ids and endpoint names without access
    endpoints: set[str] | None = None  # the SageMaker endpoints there are; None: any name answers
    known_only: bool = False  # refuse model ids that are neither in MODELS nor "fake"
    quota_units: int = 10  # model units that the account may hold
    provisioned: dict[str, Provisioned] = field(default_factory=dict)  # by ARN
    tokens: dict[str, tuple[str, tuple[Any, ...]]] = field(default_factory=dict)  # clientRequestToken → (ARN, what)
    clock_ahead: datetime.timedelta = datetime.timedelta()

    def now(self) -> datetime.datetime:
        """The account's time; `later` moves it."""
        return datetime.datetime.now(UTC) + self.clock_ahead

    def later(self, **delta: float) -> None:
        """Let time pass: ``later(days=31)``."""
        self.clock_ahead += datetime.timedelta(**delta)

    def model_arn(self, model_id: str) -> str:
        """The ARN of a foundation model, or what already is one."""
        return (
            model_id if model_id.startswith("arn:") else f"arn:aws:bedrock:{self.region}::foundation-model/{model_id}"
        )

    def find(self, name_or_arn: str) -> Provisioned:
        """By name, id or ARN. Raises `Refused`."""
        for arn, one in self.provisioned.items():
            if name_or_arn in {arn, one.name, arn.rpartition("/")[2]}:
                return one
        raise Refused("ResourceNotFoundException", f"The provisioned model {name_or_arn} was not found.")

    def create(
        self, name: str, model_id: str, units: int, commitment: str | None = None, token: str | None = None
    ) -> Provisioned:
        """Buy throughput. The same ``token`` with the same wish gives the same one. Raises `Refused`."""
        what = (name, model_id, units, commitment)
        if token and token in self.tokens:
            arn, before = self.tokens[token]
            if before != what:
                raise Refused("ConflictException", "The client request token was used with other parameters.")
            return self.provisioned[arn]
        if commitment is not None and commitment not in TERMS:
            raise Refused("ValidationException", "commitmentDuration must be one of OneMonth, SixMonths.")
        if units < 1:
            raise Refused("ValidationException", "modelUnits must be at least 1.")
        if any(one.name == name for one in self.provisioned.values()):
            raise Refused("ValidationException", f"A provisioned model with the name {name} already exists.")
        if sum(one.units for one in self.provisioned.values()) + units > self.quota_units:
            raise Refused("ServiceQuotaExceededException", "You have exceeded the number of model units you may hold.")
        if not any(m.id == model_id.rpartition("/")[2] for m in MODELS) and "custom-model/" not in model_id:
            raise Refused("ResourceNotFoundException", "The provided model identifier was not found.")
        now = self.now()
        digest = hashlib.sha256(f"{name}{now.timestamp()}".encode()).hexdigest()[:12]
        arn = f"arn:aws:bedrock:{self.region}:{ACCOUNT}:provisioned-model/{digest}"
        ready = now + datetime.timedelta(seconds=self.creating_s)
        self.provisioned[arn] = one = Provisioned(arn, name, model_id, units, commitment, now, now, ready)
        if token:
            self.tokens[token] = (arn, what)
        return one

    def update(self, name_or_arn: str, name: str | None, model_id: str | None) -> None:
        """Rename it, or give it another model. Raises `Refused`."""
        one, now = self.find(name_or_arn), self.now()
        if one.status(now) == "Creating":
            raise Refused("ValidationException", "The provisioned model is still being created.")
        ready = now + datetime.timedelta(seconds=self.creating_s if model_id else 0)
        self.provisioned[one.arn] = replace(
            one, name=name or one.name, model_id=model_id or one.model_id, changed=now, ready=ready, waiting="Updating"
        )

    def delete(self, name_or_arn: str) -> None:
        """Give it back; refused before the end of its commitment. Raises `Refused`."""
        one = self.find(name_or_arn)
        if one.ends is not None and self.now() < one.ends:
            message = "You can't delete a Provisioned Throughput before the commitment term is complete."
            raise Refused("ConflictException", message)
        del self.provisioned[one.arn]

    def check_endpoint(self, name: str) -> None:
        """Raises `Refused` for a SageMaker endpoint without access, or that is not there."""
        if name in self.denied:
            raise Refused(
                "AccessDeniedException", f"User is not authorized to perform: sagemaker:InvokeEndpoint on {name}"
            )
        if self.endpoints is not None and name not in self.endpoints:
            raise Refused("ValidationError", f"Endpoint {name} of account {ACCOUNT} not found.")

    def resolve(self, model_id: str) -> str:
        """The foundation model behind what a runtime request names. Raises `Refused`."""
        if ":provisioned-model/" in model_id:
            one = self.find(model_id)
            if one.status(self.now()) == "Creating":
                raise Refused("ModelNotReadyException", "The provisioned model is not ready yet.")
            model_id = one.model_id
        base = model_id.rpartition("/")[2] if model_id.startswith("arn:") else model_id
        geography, _, rest = base.partition(".")
        profiled = geography in GEOGRAPHIES
        base = rest if profiled else base
        if base in self.denied or model_id in self.denied:
            raise Refused("AccessDeniedException", "You don't have access to the model with the specified model ID.")
        known = next((m for m in MODELS if m.id == base), None)
        if known is not None and known.inference == ("INFERENCE_PROFILE",) and not profiled:
            raise Refused(
                "ValidationException",
                f"Invocation of model ID {base} with on-demand throughput isn\u2019t supported. Retry your request "
                "with the ID or ARN of an inference profile that contains this model.",
            )
        if known is None and self.known_only and base != "fake":
            raise Refused("ValidationException", "The provided model identifier is invalid.")
        return model_id if ":imported-model/" in model_id else base
