"""A chart as a picture, made by another process: the converter holds the interpreter's lock while it draws.

Run as a script it reads one JSON object (`spec`, `format`) and writes the picture.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

DEADLINE_S = 60
SCALE = 2  # pixels of a PNG for each one of the screen
# Each converter takes 150 MB and a core for a second.
_TURN = threading.BoundedSemaphore(2)


def picture(spec: dict[str, Any], kind: Literal["png", "svg"]) -> bytes:
    """A Vega-Lite specification as PNG or SVG. Raises RuntimeError when it cannot be drawn in a minute."""
    request = json.dumps({"spec": spec, "format": kind}).encode()
    command = [sys.executable, "-P", str(Path(__file__).resolve())]
    with _TURN:
        try:
            done = subprocess.run(command, input=request, capture_output=True, timeout=DEADLINE_S, check=False)  # noqa: S603 - this file
        except subprocess.TimeoutExpired:
            raise RuntimeError("The picture took too long to draw; try again when less is going on.") from None
    if done.returncode:
        raise RuntimeError("The picture could not be drawn; the data can still be exported as CSV.")
    return done.stdout


def _main() -> None:
    import vl_convert

    request = json.loads(sys.stdin.buffer.read())
    spec = json.dumps(request["spec"])
    picture: bytes | str
    if request["format"] == "png":
        picture = vl_convert.vegalite_to_png(spec, scale=SCALE, allowed_base_urls=[], show_warnings=False)
    else:
        picture = vl_convert.vegalite_to_svg(spec, allowed_base_urls=[], show_warnings=False)
    # Not sys.stdout.buffer: where Python runs unbuffered, that may take a part of a large picture and say nothing.
    with open(sys.stdout.fileno(), "wb", closefd=False) as out:
        out.write(picture if isinstance(picture, bytes) else picture.encode())


if __name__ == "__main__":
    _main()
