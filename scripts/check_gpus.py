"""Says where ``gpus.csv`` and the system files of NVIDIA's aiconfigurator disagree, from a wheel of it.

    pip download aiconfigurator-core --no-deps -d /tmp/aic
    python -m scripts.check_gpus /tmp/aic/aiconfigurator_core-*.whl

Nothing is changed and no code of the package is run; a difference is for a person to judge.
"""

from __future__ import annotations

import csv
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "services" / "data" / "gpus.csv"
INSIDE = "aiconfigurator_core/systems/{}.yaml"
SYSTEMS: Mapping[str, str] = {
    "A30": "a30",
    "L4": "l4",
    "L40S": "l40s",
    "A100-80GB-SXM": "a100_sxm",
    "A100-80GB-PCIe": "a100_pcie",
    "H100-SXM": "h100_sxm",
    "H100-PCIe": "h100_pcie",
    "H200-SXM": "h200_sxm",
    "B200-SXM": "b200_sxm",
    "B300-SXM": "b300_sxm",
    "GB200": "gb200",
    "RTX PRO 6000 Server": "rtx_pro_6000_server",
}
# Our column → their key, and how many of their units make one of ours.
KEYS: Mapping[str, tuple[str, float]] = {
    "bandwidth_gb_s": ("mem_bw", 1e9),
    "tflops_bf16": ("bfloat16_tc_flops", 1e12),
    "tflops_fp8": ("fp8_tc_flops", 1e12),
    "tflops_fp4": ("fp4_tc_flops", 1e12),
    "link_gb_s": ("intra_node_bw", 1e9),
}
TOLERANCE = 0.005


def differences(row: Mapping[str, str], system: str) -> Iterator[str]:
    """A sentence for each figure that is not the same; figures that only one of the two has are left out."""
    for column, (key, unit) in KEYS.items():
        match = re.search(rf"^\s*{key}:\s*(\d+)", system, re.MULTILINE)
        if match is None or not row[column]:
            continue
        ours, theirs = float(row[column]), int(match[1]) / unit
        if abs(ours - theirs) > TOLERANCE * theirs:
            yield f"{row['name']}: {column} is {ours:g} here and {theirs:g} in aiconfigurator."


def main(wheel: str) -> None:
    """The command of the docstring above."""
    rows = {row["name"]: row for row in csv.DictReader(FILE.read_text(encoding="utf-8").splitlines())}
    with zipfile.ZipFile(wheel) as archive:
        texts = {name: archive.read(INSIDE.format(file)).decode() for name, file in SYSTEMS.items()}
    sentences = [line for name, text in texts.items() for line in differences(rows[name], text)]
    print("\n".join(sentences) or f"The {len(texts)} GPUs that aiconfigurator knows are the same here.")


if __name__ == "__main__":
    main(sys.argv[1])
