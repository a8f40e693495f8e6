"""The engine's door for alerts, notes and the budget, as page tests see it: it writes to the lab's own database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from db import small_tables
from services import alerts
from services.client import EngineError
from services.pricing import budget
from services.runs.spec import new_id


class History:
    """Like `services.client.HistoryClient`."""

    def __init__(self, lab: Any, may: Callable[[Any], None], person: str) -> None:
        self._lab, self._may, self._person = lab, may, person

    def _write(self, unit: Any, **values: Any) -> None:
        try:
            self._lab.write(unit, **values)
        except ValueError as error:
            raise EngineError(str(error)) from error

    def alerts(self) -> tuple[list[dict[str, Any]], list[str]]:
        self._may("look")
        return [alert.model_dump() for alert in small_tables.alerts(self._lab.database())], list(self._lab.targets)

    def save_alert(self, alert: alerts.Alert) -> str:
        self._may("deploy")
        alert_id = alert.id or new_id()
        self._write(
            small_tables.save, alert_id=alert_id, values=alert.to_values(), person=self._person, at=datetime.now(UTC)
        )
        return alert_id

    def delete_alert(self, alert_id: str) -> None:
        self._may("deploy")
        self._write(small_tables.remove, alert_id=alert_id)

    def add_note(self, at: datetime, note: str) -> None:
        self._may("annotate")
        self._write(small_tables.add, note_id=new_id(), at=at, note=note, person=self._person)

    def delete_note(self, note_id: str) -> None:
        self._may("annotate")
        self._write(small_tables.remove_note, note_id=note_id)

    def set_budget(self, usd: str | None) -> None:
        self._may("deploy")
        self._write(budget.set_monthly, usd=usd)
