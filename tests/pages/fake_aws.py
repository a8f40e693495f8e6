"""An AWS account in memory for page tests: what `services.client.AwsClient` answers, without an engine."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.aws.control import Identity, Model
from services.aws.instances import HourRate, of_instance, of_unit
from services.aws.provisioned import ProvisionedThroughput
from services.aws.sagemaker import Component, SageMakerEndpoint, Variant
from services.client import EngineError, Places
from services.security import access

ARN = "arn:aws:bedrock:us-east-1:123456789012:provisioned-model/"
CLAUDE = "anthropic.claude-v2:1"


def unit(name: str, *, months: int = 0, days_left: int = 20, **changes: Any) -> ProvisionedThroughput:
    """A provisioned throughput in service; ``months`` 1 or 6 is committed."""
    term: Any = {0: "none", 1: "1-month", 6: "6-month"}[months]
    now = datetime.now(UTC)
    made = ProvisionedThroughput(
        name=name,
        arn=ARN + name.ljust(12, "0"),
        model=f"arn:aws:bedrock:us-east-1::foundation-model/{CLAUDE}",
        units=2,
        desired_units=2,
        status="InService",
        commitment=term,
        commitment_ends=now + timedelta(days=days_left) if months else None,
        created=now,
        foundation=CLAUDE,
        rate=of_unit(CLAUDE, term, "us-east-1"),
    )
    return replace(made, **changes)


def endpoint(name: str, **changes: Any) -> SageMakerEndpoint:
    """An endpoint in service on two instances of a type that the file of prices knows."""
    variant = Variant("AllTraffic", "ml.g5.xlarge", 2, 2, 1.0, rate=of_instance("ml.g5.xlarge", "us-east-1"))
    made = SageMakerEndpoint(
        name,
        f"arn:aws:sagemaker:us-east-1:123456789012:endpoint/{name}",
        "InService",
        variants=(variant,),
        created=datetime.now(UTC),
    )
    return replace(made, **changes)


@dataclass
class Account:
    """What there is; ``refuses`` maps a method's name to the sentence that it fails with."""

    units: list[ProvisionedThroughput] = field(default_factory=lambda: [unit("free"), unit("held", months=1)])
    ends: list[SageMakerEndpoint] = field(default_factory=lambda: [endpoint("chat")])
    models: list[Model] = field(default_factory=lambda: [Model(CLAUDE, "Anthropic Claude", True, True)])
    refuses: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[Any, ...]] = field(default_factory=list)


class Aws:
    """One visitor's client of the account."""

    def __init__(self, account: Account, role: str, profile: str | None, region: str | None) -> None:
        self._account, self._role, self._where = account, role, (profile, region)

    def _ask(self, name: str, action: access.Action, *said: Any) -> Account:
        try:
            access.require(self._role, action)
        except access.Denied as error:
            raise EngineError(str(error)) from error
        self._account.asked.append((name, *self._where, *said))
        if name in self._account.refuses:
            raise EngineError(self._account.refuses[name])
        return self._account

    def places(self) -> Places:
        self._ask("places", "look")
        return Places(("default", "team"), ("eu-west-1", "us-east-1"), "us-east-1")

    def who(self) -> Identity:
        self._ask("who", "look")
        return Identity("123456789012", "arn:aws:iam::123456789012:user/*ada*")

    def provisioned(self) -> tuple[list[ProvisionedThroughput], bool]:
        return list(self._ask("provisioned", "look").units), False

    def endpoints(self) -> tuple[list[SageMakerEndpoint], bool]:
        return list(self._ask("endpoints", "look").ends), False

    def models(self) -> tuple[list[Model], list[Model]]:
        return self._ask("models", "look").models, []

    def refresh(self) -> None:
        self._ask("refresh", "look")

    def create(self, **order: Any) -> ProvisionedThroughput:
        account = self._ask("create", "deploy", order)
        made = unit(order["name"], units=order["units"], desired_units=order["units"], status="Creating")
        account.units.insert(0, made)
        return made

    def rename(self, arn: str, name: str) -> ProvisionedThroughput:
        account = self._ask("rename", "deploy", arn, name)
        account.units = [replace(u, name=name) if u.arn == arn else u for u in account.units]
        return account.units[0]

    def delete(self, arn: str, confirm: str) -> None:
        account = self._ask("delete", "deploy", arn, confirm)
        if confirm != next(u.name for u in account.units if u.arn == arn):
            raise EngineError("Nothing was done: type the name exactly.")
        account.units = [u for u in account.units if u.arn != arn]


NO_RATE: HourRate | None = None
COMPONENTS = (Component("llama", "AllTraffic", "InService"), Component("qwen", "AllTraffic", "InService"))
