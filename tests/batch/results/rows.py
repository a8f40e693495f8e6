"""Lines as `db.batches.each_line` gives them, for tests that need no database."""

from __future__ import annotations

from typing import Any

from services.batch.types import Checked, Options, Record
from services.types import Ask, Deployment, Message, PriceRef


def line(no: int, state: str = "succeeded", answer: str | None = "yes", **more: Any) -> dict[str, Any]:
    """One line with its call's figures."""
    found = {
        "batch_id": "b",
        "no": no,
        "line": no + 1,
        "record_id": f"id{no}",
        "state": state,
        "attempts": 1,
        "job_no": None,
        "call_id": f"c{no}",
        "outcome": "ok" if state == "succeeded" else None,
        "message": None,
        "answer": answer if state == "succeeded" else None,
        "request": {"messages": [{"role": "user", "text": f"question {no}"}]},
        "original": {"id": f"id{no}", "prompt": f"question {no}"},
        "lag_marked": False,
        "usage_source": "provider",
    }
    return found | more


def priced(no: int, cost: int, plain: int | None = None, **more: Any) -> dict[str, Any]:
    """A succeeded line with counts and a cost in nano-dollars."""
    counts = {"uncached_input": 100, "cache_read": 0, "answer_output": 20}
    return line(no, cost_state="exact", cost_nanousd=cost, plain_nanousd=plain, **(counts | more))


def deployment(name: str = "one", price: PriceRef | None = None, **more: Any) -> Deployment:
    """A server of one's own that speaks chat completions."""
    base = {"kind": "openai-compatible", "model": "m", "base_url": "http://127.0.0.1:9/v1"}
    return Deployment(id=name, name=name.title(), price=price or PriceRef(), **(base | more))


def checked(n: int, chars: int, *, max_tokens: int | None = None, **more: Any) -> Checked:
    """A file of ``n`` valid lines of the same length, each with the same limit."""
    params = {} if max_tokens is None else {"max_tokens": max_tokens}
    text = "x" * (chars // max(n, 1))
    records = tuple(
        Record(no, no + 1, f"id{no}", {"prompt": text}, Ask((Message("user", text),), None, params))
        for no in range(1, min(n, 3) + 1)
    )
    return Checked(
        "f" * 64,
        chars * 2,
        "csv",
        Options(prompt="{{prompt}}"),
        ("prompt",),
        n,
        n,
        preview=records,
        chars_in=chars,
        longest=len(text),
        max_tokens=None if max_tokens is None else max_tokens * n,
        **more,
    )
