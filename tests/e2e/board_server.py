"""The UI process as it is served, with `board_page.py` in place of the product's pages: `board_server.py PORT`."""

from __future__ import annotations

import sys
from pathlib import Path

from services.paths import ROOT

if __name__ == "__main__":
    port = int(sys.argv[1])
    sys.argv = [str(ROOT / "lab")]
    from app.asgi import create, run

    run(create(Path(__file__).with_name("board_page.py")), port, "127.0.0.1")
