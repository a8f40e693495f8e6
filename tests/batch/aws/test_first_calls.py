"""The first calls to AWS of a process, from several threads at once: boto3 is imported once, and whole."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from services.paths import ROOT
from tests.aws.fixture import CLEARED

pytestmark = pytest.mark.slow

# Every module of the SDKs is slow to be found, so that the threads meet in the middle of their imports.
PROGRAM = """
import sys, threading, time

class Slow:
    def find_spec(self, name, path=None, target=None):
        if name.startswith(("boto3", "botocore")):
            time.sleep(0.002)

sys.meta_path.insert(0, Slow())
from services.aws import control
from services.batch.providers import aws as aws_s3

where = control.Place(None, "us-east-1")
assert "boto3" not in sys.modules, "it is imported by the first call"
asks = [control.regions, lambda: control.call("s3", where, lambda s3: s3.meta.region_name),
        lambda: control.call("bedrock", where, lambda bedrock: bedrock.meta.region_name), control.profiles] * 2
gate = threading.Barrier(len(asks))

def ask(one):
    gate.wait()
    try:
        one()
    except BaseException as error:
        print(repr(error))

threads = [threading.Thread(target=ask, args=(one,)) for one in asks]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_the_first_batches_of_a_process_may_begin_at_the_same_moment() -> None:
    kept = {name: value for name, value in os.environ.items() if name not in CLEARED}
    keys = {"AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE", "AWS_SECRET_ACCESS_KEY": "example"}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=kept | keys, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
