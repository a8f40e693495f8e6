"""The sandbox process: matches texts against a pattern or a JSON schema, each within a time limit.

A person's regular expression can run for ever, and Python cannot stop it in a thread. So it runs in a process that
imports nothing else of ours: an alarm stops one text after its time, and whoever asked ends the process if even that
does not help.

Lines of JSON: first ``{"kind": "regex"|"schema", "what": …, "flags": int, "seconds": float}`` ("what" None: each text
brings its own), answered by ``{"ok": bool, "why": …}``; then ``[what or null, text]`` for each text, answered by
``[verdict, why]``: verdict true, false or null, which is "not known".
"""

from __future__ import annotations

import json
import re
import signal
import sys
from collections.abc import Callable
from functools import lru_cache

Look = Callable[[str], tuple[bool, str]]
SHOWN = 200
SLOW = "slow"


class TooLong(Exception):
    """The time of one text is over."""


def main() -> None:
    """Answer until the input ends."""
    request = json.loads(sys.stdin.readline())

    @lru_cache(maxsize=64)
    def compiled_check(pattern: str) -> Look:
        return by_regex(pattern, request["flags"]) if request["kind"] == "regex" else by_schema(pattern)

    alarms = hasattr(signal, "setitimer")
    if alarms:
        signal.signal(signal.SIGALRM, _too_long)
    usual = request["what"]
    try:
        if usual is not None:
            compiled_check(usual)
    except Exception as error:  # whatever a pattern or a schema can do wrong: it is told
        say({"ok": False, "why": _short(error)})
        return
    say({"ok": True, "why": ""})
    for line in sys.stdin:
        pattern, text = json.loads(line)
        verdict: tuple[bool | None, str]
        try:
            if alarms:
                signal.setitimer(signal.ITIMER_REAL, request["seconds"])
            verdict = compiled_check(usual if pattern is None else pattern)(text)
        except TooLong:
            verdict = None, SLOW
        except RecursionError:
            verdict = None, "it is nested too deeply"
        except Exception as error:  # as above, of a pattern that came with the text
            verdict = None, _short(error)
        finally:
            if alarms:
                signal.setitimer(signal.ITIMER_REAL, 0)
        say(verdict)


def _too_long(_number: int, _frame: object) -> None:
    raise TooLong


def _short(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error)  # of a schema's error the rest is pages long
    return " ".join(text.split())[:SHOWN].rstrip(".") or type(error).__name__


def say(value: object) -> None:
    """One line of JSON to whoever asked."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def by_regex(pattern: str, flags: int) -> Look:
    """Whether the pattern is found anywhere in a text."""
    compiled = re.compile(pattern, flags)

    def look(text: str) -> tuple[bool, str]:
        matched = compiled.search(text) is not None
        return matched, "" if matched else "the pattern is not in the answer"

    return look


def by_schema(schema_text: str) -> Look:
    """Whether a text is JSON that fits a schema. References to other addresses are never followed."""
    from jsonschema.validators import validator_for
    from referencing import Registry

    schema = json.loads(schema_text)
    kind = validator_for(schema)
    kind.check_schema(schema)
    # Told that there are no other documents, because by itself it would fetch a "$ref" from the network.
    validator = kind(schema, registry=Registry())

    def look(text: str) -> tuple[bool, str]:
        error = next(iter(validator.iter_errors(json.loads(text))), None)
        if error is None:
            return True, ""
        location = "/".join(str(step) for step in error.absolute_path)
        return False, f"{f'at “{location}”: ' if location else ''}{error.message}"[:SHOWN]

    return look


if __name__ == "__main__":
    main()
