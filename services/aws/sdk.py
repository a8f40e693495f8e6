"""boto3, imported by one thread: its modules import one another in a circle, so that two threads that begin at
different ones each wait for the other's, and Python lets one of them go on with half a module.

It stays an import of the first call (half a second), not of the program. botocore's package imports nothing of itself
and needs none of this.
"""

from __future__ import annotations

import threading

_lock = threading.Lock()


def loaded() -> None:
    """boto3 is there, whole. To be called before every import of it or of its parts."""
    with _lock:
        import boto3.exceptions
        import boto3.s3.transfer
        import boto3.session  # noqa: F401
