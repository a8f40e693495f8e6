"""`lab worker`: a worker of batches in this terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from services.batch import worker


def work_until_stopped(data: Path, file: Path, *, as_json: bool) -> int:
    """Work until Ctrl-C or SIGTERM; the process ends with it. Exit code 4 when it could not begin."""

    def say(words: dict[str, Any]) -> None:
        if as_json:
            print(json.dumps(words), flush=True)
        elif "error" in words:
            print(words["error"], file=sys.stderr, flush=True)
        else:
            print(f"The worker {words['worker']} sends batches of {data}; stop it with Ctrl-C.", flush=True)

    worker.work(data, file, say=say)
    return 0
