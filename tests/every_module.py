"""Every module of the command line and below, loaded before a process of a test loses the right to read files."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

# Those that do something when they are loaded.
PROGRAMS = ("__main__", "services.embedded.server", "services.batch.sandbox_process", "db.migrations")


@cache
def load() -> None:
    for top in ("app.cli", "services", "db"):
        package = importlib.import_module(top)
        for module in pkgutil.walk_packages(package.__path__, f"{top}."):
            if not module.name.endswith(PROGRAMS) and not module.name.startswith(PROGRAMS):
                importlib.import_module(module.name)
    for name in ("app.launcher", "app.server"):
        importlib.import_module(name)
