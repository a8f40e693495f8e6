"""A batch service that lies in a folder, and a worker that knows it: ``python -m tests.batch.runner.fake_service DIR``.

``service/plan.json`` says how it behaves; ``service/jobs.json`` is what it has. Both outlive every worker.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import orjson

from services.batch import worker
from services.batch.types import (
    Job,
    Line,
    LineResult,
    Place,
    Polled,
    RouteLimits,
    RouteName,
    RouteTrouble,
    SubmitLater,
    SubmitRefused,
    SubmitStopped,
    wire_id,
)
from services.types import Deployment, Usage


class FolderService:
    """Plan: ``later`` (submits to turn away), ``refuse``, ``break`` (once), ``lose_answer`` (die after a submit),
    ``polls`` (until it is over), ``trouble`` (once), ``end``, ``per_job``, ``untakeable``, ``leave_out``, ``failed``,
    ``double``, ``strange``, ``die_in_results`` (once), ``later_after`` (once: it has the job and does not say so),
    ``give_back`` (once: the job is over and has to be sent anew), ``checks`` (what `check` finds), ``few`` (the least
    number of records), ``notes`` (what is noted while the results are read)."""

    name: RouteName = "openai"
    title = "The folder"
    counts = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()  # several jobs are submitted at once, each in a thread

    def plan(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "plan.json").read_text()))

    def jobs(self) -> dict[str, Any]:
        file = self.folder / "jobs.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def keep(self, jobs: dict[str, Any]) -> None:
        part = self.folder / "jobs.part"
        part.write_text(json.dumps(jobs))
        part.replace(self.folder / "jobs.json")

    def once(self, what: str) -> bool:
        """Whether this happens for the first time."""
        mark = self.folder / f"did-{what}"
        if mark.exists():
            return False
        mark.touch()
        return True

    def why_not(self, deployment: Deployment) -> str | None:
        return None

    def limits(self, deployment: Deployment, *, ask: bool = False) -> RouteLimits:
        return RouteLimits(min_records=self.plan().get("few", 1), max_records=self.plan().get("per_job"))

    def body(self, deployment: Deployment, line: Line) -> bytes:
        if line.no in self.plan().get("untakeable", ()):
            raise ValueError("The folder cannot take this line.")
        return orjson.dumps({"id": wire_id(line.no), "text": line.ask.messages[-1].text}) + b"\n"

    def check(self, deployment: Deployment) -> list[str]:
        return list(self.plan().get("checks", ()))

    def submit(self, deployment: Deployment, job: Job, lines: Iterable[Line], place: Place) -> Job:
        if self.plan().get("break") and self.once("break"):
            raise RuntimeError("a route with a mistake in it")
        with self.lock:
            return self._submit(job, lines, place)

    def _submit(self, job: Job, lines: Iterable[Line], place: Place) -> Job:
        plan, jobs = self.plan(), self.jobs()
        if plan.get("refuse"):
            raise SubmitRefused("The folder does not like this file.")
        if jobs.get("_turned_away", 0) < plan.get("later", 0):
            self.keep(jobs | {"_turned_away": jobs.get("_turned_away", 0) + 1})
            raise SubmitLater("The folder is full just now.", 0.5)
        found = next((one for one in jobs.values() if isinstance(one, dict) and one["token"] == job.token), None)
        if found is None and place.stopped():
            raise SubmitStopped("Stopped by hand; nothing was submitted.")
        if found is None:
            ids = [wire_id(line.no) for line in lines]
            found = {"id": f"job-{len(jobs) + 1}", "token": job.token, "ids": ids, "polls": 0, "cancelled": False}
            place.say(f"{len(ids)} lines are on their way.")
            self.keep(jobs | {found["id"]: found})
            if plan.get("lose_answer") and self.once("lose_answer"):
                os.kill(os.getpid(), signal.SIGKILL)
            if plan.get("later_after") and self.once("later_after"):
                raise SubmitLater("The folder is full just now.", 60.0)
        return Job(job.batch_id, job.no, job.token, job.n_lines, found["id"], {"seen": True})

    def poll(self, deployment: Deployment, job: Job) -> Polled:
        with self.lock:
            return self._poll(job)

    def _poll(self, job: Job) -> Polled:
        plan, jobs = self.plan(), self.jobs()
        assert job.facts.get("seen"), "facts come back"
        one = jobs[job.vendor_id]
        one["polls"] += 1
        self.keep(jobs)
        if plan.get("trouble") and self.once("trouble"):
            raise RouteTrouble("The folder does not answer.")
        if one["cancelled"]:
            return Polled("cancelled", "STOPPED", "", over=True, collectable=True)
        if plan.get("give_back") and self.once("give_back"):
            facts = {"resubmit": True, "resubmit_after_s": 60.0}
            return Polled("waiting_for_quota", "FULL", "The folder gave it back.", True, False, facts=facts)
        if one["polls"] <= plan.get("polls", 1):
            return Polled("running", "GOING", "", over=False, collectable=False, counts={"total": len(one["ids"])})
        end = plan.get("end", "ended")
        return Polled(end, end.upper(), plan.get("said", ""), over=True, collectable=plan.get("collectable", True))

    def cancel(self, deployment: Deployment, job: Job) -> None:
        with self.lock:
            jobs = self.jobs()
            jobs[job.vendor_id]["cancelled"] = True
            self.keep(jobs)

    def results(self, deployment: Deployment, job: Job, place: Place) -> Iterator[LineResult]:
        with self.lock:
            plan, one = self.plan(), self.jobs()[job.vendor_id]
        for text in plan.get("notes", ()):
            place.note(text)
        usage = Usage(uncached_input=10, answer_output=5, source="provider")
        answers = [identity for identity in reversed(one["ids"]) if int(identity[1:]) not in plan.get("leave_out", ())]
        answers = answers[: len(answers) // 2] if one["cancelled"] else answers
        for count, identity in enumerate(answers):
            if plan.get("die_in_results") and count == 250 and self.once("die_in_results"):
                time.sleep(0.5)  # what came before is recorded by then
                os.kill(os.getpid(), signal.SIGKILL)
            if int(identity[1:]) in plan.get("failed", ()):
                yield LineResult(identity, "failed", "http_error", message="It did not like it.", http_status=400)
            else:
                yield LineResult(identity, "succeeded", "ok", answer=f"to {identity}", usage=usage, finish_raw="stop")
            if int(identity[1:]) in plan.get("double", ()):
                yield LineResult(identity, "succeeded", "ok", answer="again", usage=usage)
        if plan.get("strange"):
            yield LineResult("r9999999999", "succeeded", "ok", answer="whose?")
            yield LineResult("", "failed", "protocol_error", message="cut")


def main() -> None:
    data, file = Path(sys.argv[1]), Path(sys.argv[2])
    service = FolderService(data / "service")
    worker.work(data, file, say=lambda words: print(json.dumps(words), flush=True), get=lambda _name: service)


if __name__ == "__main__":
    main()
