"""``python -m tests.batch.aws --port N``: the emulator, with moto behind it; prints the environment to use."""

from __future__ import annotations

import argparse
import shlex
import signal
import threading

from moto.server import ThreadedMotoServer

from tests.aws.fixture import environ
from tests.batch.aws.cloud import BUCKET, ROLE, Cloud


def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m tests.batch.aws", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--minimum", type=int, default=100, help="records that a Bedrock job needs")
    given = parser.parse_args()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    with Cloud(f"http://{host}:{port}", given.port) as cloud:
        cloud.furnish()
        cloud.jobs.minimum = given.minimum
        cloud.sagemaker.endpoint("plain")
        cloud.sagemaker.endpoint("later", answers=f"s3://{BUCKET}/answers", failures=f"s3://{BUCKET}/failures")
        print(f"# AWS's batch services answer at {cloud.url}, S3 at {cloud.moto}")
        print(f"# batch_s3 = s3://{BUCKET}/lab, batch_role = arn:aws:iam::123456789012:role/{ROLE}")
        print("# SageMaker endpoints: plain, later (asynchronous)")
        for name, value in (environ() | cloud.environ).items():
            print(f"export {name}={shlex.quote(value)}", flush=True)
        stop.wait()
    moto.stop()


if __name__ == "__main__":
    main()
