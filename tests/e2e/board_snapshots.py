"""Snapshots of the board for tests: every state a column can be in, with invented figures."""

from __future__ import annotations

from typing import Any

ANSWER = (
    "Caching keeps a copy of an expensive result close to where it is needed, so a repeated request skips the slow "
    "work of computing or fetching it again. It also takes load off the system behind it, which makes even the "
    "requests that miss faster. It does not help when"
)
HOSTILE = (
    '<img src=x onerror="document.title=\'pwned\'"> <script>document.title="pwned"</script>\n'
    "![pixel](http://198.51.100.7/p.png) [link](javascript:alert(1)) &lt;b&gt; ${7*7}\n" + "Donaudampfschifffahrt" * 12
)
DONE = {
    "ttft_ms": 12.3,
    "ttfat_ms": 12.3,
    "ttlt_ms": 551.0,
    "end_ms": 560.0,
    "decode_tps": 93.1,
    "decode_est": False,
    "decode_hidden": None,
    "e2e_tps": 91.2,
    "e2e_est": False,
    "in": 41,
    "in_est": False,
    "cached": 40,
    "out": 51,
    "out_est": False,
    "cost": "$39.60 / h",
    "cost_mark": "",
    "self_lag_ms": 0.21,
    "lag_marked": False,
}
NONE: dict[str, Any] = {
    "ttft_ms": None,
    "ttfat_ms": None,
    "ttlt_ms": None,
    "end_ms": None,
    "decode_tps": None,
    "decode_est": True,
    "decode_hidden": None,
    "e2e_tps": None,
    "e2e_est": True,
    "in": 44,
    "in_est": True,
    "cached": None,
    "out": 0,
    "out_est": True,
    "cost": "$39.60 / h",
    "cost_mark": "",
    "self_lag_ms": 0.2,
    "lag_marked": False,
}


def column(i: int, name: str, **changes: Any) -> dict[str, Any]:
    """A finished column, with changes."""
    base = {
        "i": i,
        "deployment": f"d{i}",
        "name": name,
        "badge": "self-hosted",
        "kind": "openai-compatible",
        "model": "smollm2-135m-instruct",
        "color": i,
        "labels": ["local"],
        "rep": 1,
        "reps": 1,
        "attempt": 1,
        "phase": "done",
        "state": "succeeded",
        "words": "done",
        "note": None,
        "elapsed_ms": 560.0,
        "answer_from": 0,
        "answer": "Caching reduces the time it takes to access a service by reusing the same data multiple times. "
        "This is particularly beneficial when data needs to be quickly accessed or processed.",
        "reasoning_from": 0,
        "reasoning": "",
        "typical_ttft_ms": None,
        "typical_n": 0,
        "idle_ms": 0.0,
        "fig": DONE,
        "bar": {"wait_end": 12.3, "reason_end": 12.3, "answer_end": 551.0, "end": 560.0},
        "failed": False,
    }
    return {**base, **changes}


def answering(i: int, name: str = "Haiku, Anthropic API", **changes: Any) -> dict[str, Any]:
    """A column in the middle of its answer, after some reasoning."""
    fig = {
        **NONE,
        "ttft_ms": 240.0,
        "ttfat_ms": 410.0,
        "decode_tps": 112.4,
        "e2e_tps": 92.3,
        "out": 212,
        "cost": "$0.00091",
        "cost_mark": "≥",
    }
    told = {
        "badge": "managed API",
        "model": "claude-haiku-4-5",
        "labels": [],
        "phase": "answering",
        "state": "running",
        "words": "answering",
        "elapsed_ms": 2310.0,
        "answer": ANSWER,
        "fig": fig,
        "color": 1,
        "reasoning": "The reader wants three sentences and one counterexample.",
        "idle_ms": 20.0,
        "bar": {"wait_end": 240.0, "reason_end": 410.0, "answer_end": None, "end": None},
    }
    return column(i, name, **{**told, **changes})


def waiting(i: int, name: str = "Haiku, provisioned", **changes: Any) -> dict[str, Any]:
    """A column that waits longer than is usual for it."""
    told = {
        "badge": "1 model unit · us-east-1",
        "model": "claude-haiku-4-5",
        "labels": [],
        "phase": "waiting",
        "state": "running",
        "words": "waiting",
        "elapsed_ms": 2310.0,
        "answer": "",
        "fig": NONE,
        "typical_ttft_ms": 380.0,
        "typical_n": 212,
        "color": 2,
        "bar": {"wait_end": None, "reason_end": None, "answer_end": None, "end": None},
    }
    return column(i, name, **{**told, **changes})


def cut(i: int, name: str = "Llama 8B, SageMaker", **changes: Any) -> dict[str, Any]:
    """A column whose stream ended without its end signal."""
    fig = {
        **DONE,
        "ttft_ms": 620.0,
        "ttlt_ms": 1900.0,
        "decode_tps": 74.0,
        "e2e_tps": 51.0,
        "in": 44,
        "in_est": True,
        "cached": None,
        "out": 96,
        "out_est": True,
        "decode_est": True,
        "e2e_est": True,
        "self_lag_ms": 12.3,
        "lag_marked": True,
        "cost": "$0.00012",
        "cost_mark": "≥",
    }
    told = {
        "badge": "vLLM",
        "model": "llama-3.1-8b-instruct",
        "labels": [],
        "state": "cut_off",
        "words": "cut off after 96 tokens",
        "failed": True,
        "fig": fig,
        "color": 3,
        "elapsed_ms": 1910.0,
        "answer": "A cache stores the results of expensive operations so that later requests can be answered without "
        "doing the work again.",
        "note": "The endpoint closed the stream before its end signal. The text is kept; the call counts as failed.",
        "bar": {"wait_end": 620.0, "reason_end": 620.0, "answer_end": 1900.0, "end": 1910.0},
    }
    return column(i, name, **{**told, **changes})


def thinking(i: int, name: str = "o5-mini, OpenAI", **changes: Any) -> dict[str, Any]:
    """A column that reasons and has stalled."""
    told = {
        "phase": "reasoning",
        "words": "reasoning",
        "answer": "",
        "idle_ms": 12300.0,
        "elapsed_ms": 14310.0,
        "color": 4,
        "model": "o5-mini",
        "bar": {"wait_end": 900.0, "reason_end": None, "answer_end": None, "end": None},
    }
    return answering(i, name, **{**told, **changes})


GAUGE = {"running": 3, "waiting": 1, "kv": 0.4196, "hit": 0.6297}
FOUR = [column(0, "SmolLM2 local", gauge=GAUGE), answering(1, gauge=GAUGE), waiting(2), cut(3)]
EIGHT = [
    *FOUR,
    thinking(4, gauge={"running": 0, "waiting": None, "kv": None, "hit": None}),
    column(5, "SmolLM2 · 1 thread", rep=3, reps=10, attempt=2, words="done, at the token limit"),
    column(6, "A deployment with a very long name that does not fit anywhere", answer=HOSTILE, color=6),
    column(7, "Ninth colour", color=8, state="cancelled", words="stopped", answer=ANSWER),
]
CASES: dict[str, dict[str, Any]] = {
    "one": {"columns": [column(0, "SmolLM2 local")]},
    "two": {"columns": [column(0, "SmolLM2 local"), column(1, "Haiku, Anthropic API", color=1, answer=ANSWER * 6)]},
    "four": {"columns": FOUR, "live": True},
    "eight": {"columns": EIGHT, "live": True},
    "blind": {"columns": FOUR, "blind": True, "live": True},
    "hostile": {
        "columns": [column(0, HOSTILE[:60], answer=HOSTILE, note=HOSTILE, words=HOSTILE[:40], reasoning=HOSTILE)]
    },
}


def snapshot(case: str) -> dict[str, Any]:
    """The snapshot frame of a case."""
    return {"type": "snapshot", "run": case, "seq": 7, "live": False, "blind": False, **CASES[case]}
