"""``python -m tests.batch.vendors --port N``: both emulators in one process, their jobs moving with the clock.

Prints the entries for deployments.toml. Faults are switched over HTTP: ``curl -X POST HOST/faults/openai -d
'{"errors": [1, 2], "cut": 20}'`` (names of `faults.Faults`; a number of tokens is not charged to anybody).
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import threading

from tests.batch.vendors.anthropic_api import AnthropicApi
from tests.batch.vendors.faults import Faults
from tests.batch.vendors.openai_api import OpenAIApi
from tests.batch.vendors.server import Pace, Reply, Request, Server

ENTRY = """[[deployment]]
name = "Simulated {title} batch"
kind = "{kind}"
wire = "{wire}"
model = "{model}"
base_url = "{url}{path}"
key_env = "LAB_SIMULATED_KEY"  # any value
labels = ["simulated"]
price = {{ provider = "{kind}", model = "{model}" }}
"""


class Switches:
    """Takes the faults of the two services over HTTP."""

    def __init__(self, services: dict[str, OpenAIApi | AnthropicApi]) -> None:
        self.faults, self.log = Faults(), list[Request]()
        self._services = services

    def answer(self, request: Request) -> Reply | None:
        """POST /faults/NAME replaces all switches of a service; GET shows them."""
        found = re.fullmatch(r"/faults/(\w+)", request.path)
        if found is None or found[1] not in self._services:
            return None
        service = self._services[found[1]]
        if request.method == "POST":
            try:
                given = json.loads(request.body or b"{}")
                sets = {
                    name: set(value) if name in ("errors", "missing", "double") else value
                    for name, value in given.items()
                }
                service.faults = Faults(**sets)
            except (TypeError, ValueError) as error:
                return Reply({"error": str(error)}, 400)
        return Reply(
            {name: sorted(value) if isinstance(value, set) else value for name, value in vars(service.faults).items()}
        )


def main() -> None:
    """Parse the command line and serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m tests.batch.vendors", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--step", type=float, default=15.0, help="seconds from one state of a job to the next")
    given = parser.parse_args()
    openai, anthropic = OpenAIApi(pace=Pace(given.step)), AnthropicApi(pace=Pace(given.step))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with Server(Switches({"openai": openai, "anthropic": anthropic}), anthropic, openai, port=given.port) as server:
        print(f"# The emulators answer at {server.url}; for deployments.toml:")
        for kind, wire, model, path in (
            ("openai", "responses", "gpt-6-luna", "/v1"),
            ("anthropic", "messages", "claude-haiku-5-5", ""),
        ):
            print(ENTRY.format(title=kind, kind=kind, wire=wire, model=model, url=server.url, path=path), flush=True)
        stop.wait()


if __name__ == "__main__":
    main()
