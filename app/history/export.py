"""What leaves the History page as CSV: any table, and the calls behind a mark."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from app.charts import theme as looks
from services.dashboard.figures import Data
from services.runs import view
from services.runs.export import safe_cell
from services.security import keys

# What a figure is called in the services → in an export, where each unit is in the column's name.
COLUMNS: Mapping[str, str] = {
    "success": "success_share", "share": "share_of_calls", "decode_p50": "decode_p50_tokens_per_s",
    "out_tokens": "output_tokens", "usd_per_1000": "spend_usd_per_1000_calls",
    "usd_per_1m_output": "spend_usd_per_1m_output_tokens", "utilisation": "paid_hours_used_share",
    "n": "calls", "n_unpriced": "calls_without_known_cost", "still_running": "bucket_is_partial",
    "running": "bucket_is_partial", "weekday": "weekday_from_monday_0", "hour": "hour_of_day", "idle": "is_idle",
}  # fmt: skip


def with_units(frame: pd.DataFrame) -> pd.DataFrame:
    """A panel's table as it is exported: `COLUMNS` for its names, and nano-dollars as dollars, empty where no cost is
    known."""
    found = frame.rename(columns=COLUMNS)
    if "nanousd" in found:
        unknown = (frame["nanousd"] == 0) & (frame["n_unpriced"] > 0) & (frame["n_unpriced"] == _calls(frame))
        spent = [None if no else _usd(one) for no, one in zip(unknown, frame["nanousd"], strict=True)]
        found["nanousd"] = pd.Series(spent, index=found.index, dtype=object)
        found = found.rename(columns={"nanousd": "spend_usd"})
    return found


def _calls(frame: pd.DataFrame) -> pd.Series:
    return frame["calls" if "calls" in frame else "n"]


def to_csv(frame: pd.DataFrame) -> str:
    """A table as CSV (RFC 4180, CRLF), fit for a spreadsheet: no cell is taken for a formula, no key is in it."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([safe_cell(str(name)) for name in frame.columns])
    for row in frame.itertuples(index=False, name=None):
        writer.writerow(["" if _nothing(value) else safe_cell(_plain(value)) for value in row])
    return keys.scrub(out.getvalue())


def _nothing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def _plain(value: Any) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def calls_table(data: Data, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Calls as they are exported, each unit in the column's name; what is not known of a call stays empty."""
    zone, names = ZoneInfo(data.window.zone), looks.names_of(data)
    columns = {
        "sent": [row["created_at"].astimezone(zone).isoformat() for row in rows],
        "deployment": [names.get(row["deployment_id"], row["deployment_id"]) for row in rows],
        **{name: [row[name] for row in rows] for name in ("deployment_id", "model", "state", "ttft_ms", "ttlt_ms")},
        "decode_tokens_per_s": [row["decode_tps"] for row in rows],
        "input_tokens": [view.input_tokens(row) for row in rows],
        "output_tokens": [view.output_tokens(row) for row in rows],
        "cost_usd": [_usd(row["cost_nanousd"]) for row in rows],
        **{name: [row[name] for row in rows] for name in ("cost_state", "person", "source", "message", "run_id")},
        "call_id": [row["id"] for row in rows],
    }
    # As they are: a column of numbers with gaps would turn counts into fractions.
    return pd.DataFrame(columns, dtype=object)


def _usd(nanousd: int | None) -> str | None:
    return None if nanousd is None else format(Decimal(int(nanousd)) / 10**9, "f")
