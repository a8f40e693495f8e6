"""Where things are on this machine: the data directory, the engine's socket, the deployments file."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def data_dir(given: str | Path | None = None) -> Path:
    """The directory of database, logs and backups: the argument, else LAB_DATA, else ``data`` beside the product."""
    return Path(given or os.environ.get("LAB_DATA") or ROOT / "data").expanduser().resolve()


def socket_path(data: Path) -> Path:
    """The engine's Unix socket for a data directory.

    It lies in a private directory under the system's temporary one: the kernel allows only about 100 characters.
    """
    if given := os.environ.get("LAB_SOCKET"):
        return Path(given)
    private = Path(tempfile.gettempdir()) / f"inference-lab-{os.getuid()}"
    private.mkdir(mode=0o700, exist_ok=True)
    if private.stat().st_uid != os.getuid() or private.stat().st_mode & 0o077:
        raise PermissionError(f"{private} belongs to somebody else or is open to others; remove it and start again.")
    return private / f"{hashlib.sha256(str(data).encode()).hexdigest()[:16]}.sock"


def deployments_file(given: str | Path | None = None) -> Path:
    """The deployments file: the argument, else LAB_DEPLOYMENTS, else ``deployments.toml`` beside the product."""
    return Path(given or os.environ.get("LAB_DEPLOYMENTS") or ROOT / "deployments.toml").expanduser().resolve()
