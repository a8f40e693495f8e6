"""What people keep (alerts, notes, the budget, scenarios): asked of the engine, which is the only one that writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote, urlencode

from services.alerts import Alert


class HistoryClient:
    """What people add to the history. Every method raises `EngineError`, whose text is a sentence."""

    def __init__(self, engine: Callable[..., Any]) -> None:
        self._engine = engine

    def alerts(self) -> tuple[list[dict[str, Any]], list[str]]:
        """Every alert as a row of its table, and the names of the variables that one can be sent to."""
        row = self._engine("GET", "/history/alerts")
        return list(row["alerts"]), list(row["targets"])

    def save_alert(self, alert: Alert) -> str:
        """Add an alert (empty id) or change one; its id."""
        return str(self._engine("POST", "/history/alerts", alert.to_values() | {"id": alert.id})["id"])

    def delete_alert(self, alert_id: str) -> None:
        """Take an alert and its events away."""
        self._engine("DELETE", f"/history/alerts/{quote(alert_id, safe='')}")

    def events(self, alert_id: str | None = None, limit: int = 20) -> list[dict[str, Any]]:
        """The last events, newest first."""
        asked = {"limit": limit} | ({"alert": alert_id} if alert_id else {})
        return list(self._engine("GET", f"/history/events?{urlencode(asked)}"))

    def add_note(self, at: datetime, note: str) -> str:
        """Keep a note on a moment (aware); its id."""
        return str(self._engine("POST", "/history/notes", {"at": at.isoformat(), "note": note})["id"])

    def delete_note(self, note_id: str) -> None:
        """Take a note away."""
        self._engine("DELETE", f"/history/notes/{quote(note_id, safe='')}")

    def save_scenario(self, name: str, state: Mapping[str, str]) -> str:
        """Keep a scenario of the calculator, in place of one of that name; ``state``: its address's words. Its id."""
        return str(self._engine("POST", "/scenarios", {"name": name, "state": dict(state)})["id"])

    def delete_scenario(self, scenario_id: str) -> None:
        """Take a scenario away."""
        self._engine("DELETE", f"/scenarios/{quote(scenario_id, safe='')}")

    def unroll(self, day: datetime) -> int:
        """Take the rollups of a UTC day away, to be made anew from its calls; returns how many those are."""
        return int(self._engine("POST", "/rollups/unroll", {"day": day.isoformat()}, timeout=600)["unmarked"])

    def fold(self) -> int:
        """Add some of the calls that are not in the rollups yet; returns how many, 0 when none is left."""
        return int(self._engine("POST", "/rollups/fold", {}, timeout=120)["added"])

    def budget(self) -> str | None:
        """US dollars a month as text; None where there is no budget."""
        value = self._engine("GET", "/history/budget")["monthly_usd"]
        return None if value is None else str(value)

    def set_budget(self, usd: str | None) -> None:
        """Set the monthly budget; None or "" removes it."""
        self._engine("PUT", "/history/budget", {"monthly_usd": usd})
