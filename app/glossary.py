"""What each figure means, in the words of docs/metrics.md, and what the wires are called on every page."""

from __future__ import annotations

FIGURES: dict[str, str] = {
    "ttft": (
        "Time to first token: from the first byte of the request handed to an open connection to the first delta "
        "with content of any kind, reasoning or text. Role-only chunks and pings do not count."
    ),
    "ttfat": (
        "Time to first answer token: from the first byte of the request to the first delta of answer text. "
        "Equals the time to first token when the model did not reason."
    ),
    "ttlt": (
        "Time to last token: from the first byte of the request to the last delta with content. "
        "The usage chunk and the end marker come later and are not counted."
    ),
    "ttfb": "Time to first byte: from the first byte of the request to the response headers.",
    "end": "From the first byte of the request to the moment the call was over: end signal, error or stop.",
    "queued": "Our own waiting, from accepting the call to handing it to the transport. Never part of the other times.",
    "waited": "Waiting that earlier attempts of this call cost, shown apart from the times of the last attempt.",
    "connect": (
        "Name lookup, TCP and TLS of a new connection, recorded apart. Zero and “reused” on a warm connection. Through "
        "a proxy it holds the proxy's part too, and every other time holds the way through it."
    ),
    "itl": (
        "Gaps between consecutive deltas with content. A mean would hide stalls, so the median, the 95th and 99th "
        "percentile and the longest are kept. A delta can hold several tokens."
    ),
    "tpot": (
        "Time per output token after the first: (last token − first token) ÷ (output tokens − tokens in the first "
        "delta). Not defined below 2 tokens."
    ),
    "decode": (
        "Decode speed: (output tokens − 1) ÷ (last token − first token). Hidden below 10 tokens or a window of 0.5 s, "
        "which are too short to mean anything."
    ),
    "e2e": "End-to-end speed: output tokens ÷ time to last token. The waiting counts, unlike in decode speed.",
    "input": "All input tokens, cached or not, as the service reports them. ~ marks our own estimate.",
    "cached": "Input tokens that were read from the service's prompt cache.",
    "written": (
        "Input tokens that were written to the prompt cache for later calls: short-lived are those kept for 5 (OpenAI: "
        "30) minutes, long-lived those kept for 1 hour (OpenAI: 12 hours)."
    ),
    "cache": (
        "Cold or warm: warm when at least a twentieth of the input was read from the prompt cache, cold when less or "
        "nothing was. Cold and warm calls are never averaged together. Not every service says it."
    ),
    "output": "All output tokens, reasoning and answer, as the service reports them. ~ marks our own estimate.",
    "cost": (
        "Sum of token count × price for each kind of token. ≥ marks a lower bound (the call was stopped or cut), "
        "~ an estimate. “no price” is not zero: no price is known."
    ),
    "full_use": (
        "Of a deployment that is paid by the hour: the call's time × the price of an hour, as if it had been alone on "
        "a machine that is never idle. What calls cost at the measured use stands on the Deployments page."
    ),
    "self_lag": (
        "Our own error: from the bytes reaching this machine to our stamp. Above 2 ms and 5 % of the median gap the "
        "call is marked and left out of comparisons."
    ),
    "server": "What the service itself reports as its time. The difference to ours is network and queueing.",
    "succeeded": "Calls that ended with the wire's own end signal. Only these enter the times.",
    "median": (
        "The middle value of the repetitions, with a 95 % bootstrap interval. “no difference seen” means that the "
        "interval of the difference contains zero."
    ),
    "state": "How the call ended. Only a call whose stream carried its end signal is “done”.",
    "price": "The price row that was in force when the call was made. It is stored with the call and never changed.",
}

OUTCOME_STATES: dict[str, str] = {
    "running": "running",
    "succeeded": "done",
    "cancelled": "stopped",
    "timed_out": "timed out",
    "throttled": "throttled",
    "refused": "refused",
    "cut_off": "cut off",
    "failed": "failed",
    "denied": "denied",
    "lost": "lost",
}

WIRE_WORDS = {
    "messages": "Messages",
    "responses": "Responses",
    "chat": "Chat completions",
    "converse": "Converse",
    "invoke": "InvokeModel",
    "tgi": "TGI",
    "lines": "JSON lines",
}
