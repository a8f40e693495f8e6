"""A program that writes through `Writer` until it is killed: ``child.py URL ACK_FILE OWNER``.

A line of the ack file is written only after the future resolved: "call ID" (a running call is recorded) or
"done ID" (it is finished).
"""

from __future__ import annotations

import os
import sys
import threading
import uuid

from db import runs
from db.writer import Writer
from tests.db.rows import call_row, do, run_row


def main(url: str, acks: str, owner: str) -> None:
    file = os.open(acks, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    writer = Writer(url)
    writer.start()
    do(writer, runs.adopt_owner, owner_id=owner, pid=os.getpid(), host="here")

    def work() -> None:
        while True:
            run, call = uuid.uuid4().hex, uuid.uuid4().hex

            def begin(session, run=run, call=call):
                runs.insert_run(session=session, values=run_row(run))
                runs.insert_calls(session=session, rows=[call_row(call, run, owner=owner)])

            writer.submit(begin).result()
            os.write(file, f"call {call}\n".encode())
            values = {"state": "succeeded", "outcome": "ok", "answer": call * 20}
            if do(writer, runs.finish_call, call_id=call, values=values):
                os.write(file, f"done {call}\n".encode())

    for _ in range(7):
        threading.Thread(target=work, daemon=True).start()
    work()


if __name__ == "__main__":
    main(*sys.argv[1:])
