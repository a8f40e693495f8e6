"""When AWS cannot be asked, or says no: one sentence that names the right thing, says what is kept and what to do."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

from services.aws.control import Place, explained
from services.batch.providers import get
from services.batch.types import Job, RouteTrouble, SubmitLater, SubmitRefused, SubmitStopped
from tests.batch.aws import house
from tests.batch.aws.cloud import BUCKET, Cloud
from tests.batch.aws.house import Desk, bedrock, finish, lines, sagemaker
from tests.batch.aws.script import Script

ROUTE = get("bedrock")
DENIED = b"<?xml version='1.0'?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


class _No(BaseHTTPRequestHandler):
    def _no(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(403)
        self.send_header("content-length", str(len(DENIED)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(DENIED)

    do_GET = do_PUT = do_POST = do_HEAD = _no

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def bucket_denied(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """S3 says no to everything."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _No)
    Thread(target=server.serve_forever, daemon=True).start()
    with monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.server_port}")
        yield
    server.shutdown()
    server.server_close()


def submit(desk: Desk, n: int = 120) -> Job:
    return ROUTE.submit(bedrock(), house.job(n), lines(n), desk)


@pytest.mark.slow
def test_a_bucket_that_may_not_be_written_refuses_the_job_and_names_what_the_role_needs(
    cloud: Cloud, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bucket_denied(monkeypatch), pytest.raises(SubmitRefused, match=r"its role needs s3:\w+"):
        submit(desk)
    assert not cloud.jobs.made


@pytest.mark.slow
def test_answers_that_may_not_be_read_are_said_to_stay_where_they_are(
    cloud: Cloud, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = finish(ROUTE, bedrock(), submit(desk))
    with bucket_denied(monkeypatch), pytest.raises(RouteTrouble, match="its role needs s3") as caught:
        list(ROUTE.results(bedrock(), made, desk))
    assert f"The answers stay in s3://{BUCKET}/lab/" in str(caught.value)
    assert len(list(ROUTE.results(bedrock(), made, desk))) == 120


@pytest.mark.slow
def test_a_disk_that_takes_nothing_is_not_told_as_a_silent_service(cloud: Cloud, desk: Desk) -> None:
    made = finish(ROUTE, bedrock(), submit(desk))
    (desk.folder / "results").symlink_to("/proc/version")
    with pytest.raises(RouteTrouble) as caught:
        list(ROUTE.results(bedrock(), made, desk))
    full = explained(OSError(errno.ENOSPC, "No space left on device"), "s3", Place(None, "us-east-1"))
    for text in (str(full), str(caught.value)):
        assert "could not be used" in text
        assert "network" not in text


def test_a_cancel_after_a_lost_answer_does_not_say_that_nothing_was_submitted(cloud: Cloud, desk: Desk) -> None:
    cloud.faults.extend(["unheard"] * 2)
    with pytest.raises(SubmitLater, match="It is tried again by itself"):
        submit(desk)
    desk.stop_after = 0
    with pytest.raises(SubmitStopped, match="look at the service's own console"):
        submit(desk)


@pytest.mark.slow
def test_a_cancel_after_a_plain_no_says_that_nothing_was_submitted(cloud: Cloud, desk: Desk) -> None:
    cloud.faults.extend(["throttling"] * 2)
    with pytest.raises(SubmitLater, match=r"asks to slow down.* It is tried again by itself"):
        submit(desk)
    desk.stop_after = 0
    with pytest.raises(SubmitStopped, match="nothing was submitted"):
        submit(desk)


def test_a_refused_job_says_that_nothing_was_submitted(cloud: Cloud, desk: Desk) -> None:
    cloud.faults.append("denied")
    with pytest.raises(SubmitRefused, match=r"needs bedrock:CreateModelInvocationJob.* Nothing was submitted\."):
        submit(desk)


@pytest.mark.parametrize("route", ["bedrock", "transform"])
def test_a_job_that_aws_does_not_know_is_asked_for_until_the_person_cancels(
    cloud: Cloud, desk: Desk, route: Any
) -> None:
    cloud.sagemaker.endpoint("plain")
    own = bedrock() if route == "bedrock" else sagemaker(cloud, "plain")
    made = get(route).submit(own, house.job(120), lines(120), desk)
    cloud.jobs.made.clear()
    cloud.sagemaker.transforms.clear()
    with pytest.raises(RouteTrouble, match="know"):
        get(route).poll(own, made)
    get(route).cancel(own, made)
    polled = get(route).poll(own, replace(made, facts={**made.facts, "cancel_asked": True}))
    assert (polled.state, polled.over, polled.collectable) == ("cancelled", True, False)
    assert "does not know the job" in polled.sentence and "console" in polled.sentence


@pytest.mark.parametrize(
    ("state", "advice"),
    [
        ("Failed", "send the lines again"),
        ("Expired", "send the lines again"),
        ("PartiallyCompleted", "send the others again"),
    ],
)
def test_an_end_without_all_answers_says_what_to_do(cloud: Cloud, desk: Desk, state: str, advice: str) -> None:
    script = Script(states=("InProgress", state), message="the model was withdrawn", finished=0.5)
    cloud.jobs.scripts.append(script)
    made = submit(desk)
    while not (polled := ROUTE.poll(bedrock(), made)).over:
        pass
    assert advice in polled.sentence and "It says: the model was withdrawn" in polled.sentence
