"""Adds a model to ``llms.csv``, or makes its row anew, from the config.json that its authors published.

    python -m scripts.refresh_llms path/to/config.json --name Llama-3.1-8B \\
        --hf meta-llama/Llama-3.1-8B-Instruct \\
        --source "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct/blob/main/config.json"

``--date`` is the day of the reading (default: today), ``--note`` free text. Nothing is fetched.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path

from services.calculator.hf_config import llm_from_config
from services.calculator.types import Llm

FILE = Path(__file__).resolve().parents[1] / "services" / "data" / "llms.csv"
COLUMNS = tuple(field.name for field in fields(Llm))


def write(rows: Iterable[dict[str, str]], path: Path = FILE) -> None:
    """The whole file."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def cells(llm: Llm) -> dict[str, str]:
    """A row of the file: whole numbers without a point, "yes" for tied embeddings."""
    return {name: _cell(value) for name, value in asdict(llm).items()}


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def put(llm: Llm, path: Path = FILE) -> None:
    """Replaces the row of that name, or adds one at the end."""
    rows: list[dict[str, str]] = []
    if path.exists():
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    places = [i for i, row in enumerate(rows) if row["name"] == llm.name]
    if places:
        rows[places[0]] = cells(llm)
    else:
        rows.append(cells(llm))
    write(rows, path)


def main() -> None:
    """The command of the docstring above."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("config", type=Path)
    for name in ("name", "source"):
        options.add_argument(f"--{name}", required=True)
    options.add_argument("--hf", default="")
    options.add_argument("--note", default="")
    options.add_argument("--date", default=datetime.now(UTC).date().isoformat())
    arguments = options.parse_args()
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    llm = llm_from_config(
        config,
        name=arguments.name,
        hf_id=arguments.hf,
        source=arguments.source,
        date=arguments.date,
        note=arguments.note,
    )
    put(llm)
    print(f"{llm.name}: {llm.params_b:g} billion parameters, {llm.active_b:g} for one token")


if __name__ == "__main__":
    main()
