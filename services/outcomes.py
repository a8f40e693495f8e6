"""How a call ended: the final judgement, its coarse state, and one plain sentence about it."""

from __future__ import annotations

from services.providers.base import Decoder
from services.providers.errors import plain
from services.types import Outcome, State

LAB_STOPPED = "the lab was stopped"  # the detail of a call that nobody stopped but the end of our own process

STATE_OF: dict[Outcome, State] = {
    "ok": "succeeded",
    "max_tokens": "succeeded",
    "truncated": "cut_off",
    "empty": "failed",
    "refused": "refused",
    "filtered": "refused",
    "guardrail": "refused",
    "http_error": "failed",
    "stream_error": "failed",
    "throttled": "throttled",
    "overloaded": "failed",
    "not_ready": "failed",
    "quota_exhausted": "failed",
    "unreachable": "failed",
    "unauthorised": "failed",
    "not_found": "failed",
    "timeout_connect": "timed_out",
    "timeout_headers": "timed_out",
    "timeout_first_token": "timed_out",
    "timeout_idle": "timed_out",
    "timeout_total": "timed_out",
    "protocol_error": "failed",
    "cancelled": "cancelled",
    "budget_denied": "denied",
    "config_error": "failed",
    "proxy_error": "failed",
    "lost": "lost",
}

# What each wire calls its normal ends. Anything else is not an end: `finish_norm` says "truncated".
FINISH: dict[str, Outcome] = {
    # Chat Completions
    "stop": "ok",
    "length": "max_tokens",
    "tool_calls": "ok",
    "function_call": "ok",
    "content_filter": "filtered",
    # Messages
    "end_turn": "ok",
    "stop_sequence": "ok",
    "tool_use": "ok",
    "max_tokens": "max_tokens",
    "refusal": "refused",
    "model_context_window_exceeded": "max_tokens",
    "pause_turn": "truncated",
    # Converse, beside the words it shares with Messages
    "guardrail_intervened": "guardrail",
    "content_filtered": "filtered",
    "malformed_model_output": "stream_error",
    "malformed_tool_use": "stream_error",
    # TGI and LMI; the second is the end without a reason, with the whole text
    "eos_token": "ok",
    "generated_text": "ok",
    # Titan
    "FINISH": "ok",
    "FINISHED": "ok",
    "STOP_CRITERIA_MET": "ok",
    "LENGTH": "max_tokens",
    "CONTENT_FILTERED": "filtered",
    # Responses
    "completed": "ok",
    "max_output_tokens": "max_tokens",
    "steered": "truncated",
    "max_messages": "truncated",
}


def finish_norm(raw: str | None) -> Outcome:
    """The outcome that a wire's own finish word means; "truncated" for none and for words that are not known."""
    return FINISH.get(raw or "", "truncated")


def judge(decoder: Decoder, *, saw_content: bool, eof: bool) -> tuple[Outcome, str | None]:
    """The final judgement of a response and its detail, once its stream ended or its terminal signal was seen.

    A call is "ok" only when the wire said that it was finished; never because nothing went wrong. ``saw_content``:
    any non-empty delta arrived, reasoning and tool arguments included. An answer that stops normally without any
    answer text or tool call is "empty", also when reasoning used up the whole token limit.
    """
    if decoder.error is not None:
        return decoder.error.outcome, decoder.error.message or None
    answered = bool(getattr(decoder, "answered", saw_content))
    if not decoder.terminal:
        if eof and not saw_content and not getattr(decoder, "events", 1):
            return "empty", "the service answered 200 with nothing in it"
        return "truncated", _cut_where(decoder)
    outcome = finish_norm(decoder.finish_raw)
    if getattr(decoder, "refused", False) and outcome in ("ok", "max_tokens"):
        outcome = "refused"
    if outcome in ("ok", "max_tokens") and not answered:
        return "empty", _why_empty(outcome, saw_content)
    if outcome == "truncated":
        return outcome, f"the service paused with “{decoder.finish_raw}”"
    if outcome == "stream_error":
        return outcome, f"the service stopped with “{decoder.finish_raw}”"
    if outcome in ("refused", "filtered", "guardrail"):
        return outcome, getattr(decoder, "finish_detail", None)
    return outcome, None


def _cut_where(decoder: Decoder) -> str:
    if decoder.finish_raw:
        return f"the stream ended after “{decoder.finish_raw}” but without its closing signal"
    return "the stream ended without saying that it was finished"


def _why_empty(outcome: Outcome, saw_content: bool) -> str:
    if saw_content and outcome == "max_tokens":
        return "reasoning used up the whole token limit before the answer began"
    if saw_content:
        return "it reasoned and then stopped without an answer"
    return "it stopped normally without any text"


def sentence(
    outcome: Outcome,
    *,
    name: str,
    tokens: int | None = None,
    tokens_estimated: bool = False,
    seconds: float | None = None,
    status: int | None = None,
    detail: str | None = None,
    retry_after_s: float | None = None,
    key_env: str | None = None,
    url_host: str | None = None,
    model: str | None = None,
    aws: bool = False,
) -> str:
    """One plain sentence for the reader: what failed, what was kept, what to do next.

    ``tokens``: output tokens that arrived and were kept (None or 0: none), ours when ``tokens_estimated``.
    ``seconds``: the deadline that passed. ``detail``: the service's or the judgement's own words; control characters
    are taken out here. ``aws``: the call is signed with AWS credentials, and its details about them say what to do.
    """
    who = plain(name, 80) or "The deployment"
    reason = plain(detail).rstrip(" .;:,") if detail else ""
    because = f" ({reason})" if reason else ""
    number = status if status and status >= 300 else None  # 200 says nothing about an error inside the stream
    coded = f" ({number}: {reason})" if number and reason else f" ({number})" if number else because
    about = "about " if tokens_estimated else "the "
    saved = f"{about}{tokens:,} tokens received were kept" if tokens else "there was no text to keep"
    late = f" after {seconds:g} s" if seconds else ""
    if aws and outcome == "unauthorised":
        todo = "" if reason else ": check the profile, the region and what it may use"
        return f"{who} could not use its AWS credentials{coded}; {saved}{todo}."
    key = key_env or "its key"
    location, place = ("in this region", "the region") if aws else ("at this address", "the base URL")
    host = url_host or "its address"
    wait = f"in {retry_after_s:,.0f} s" if retry_after_s else "in a minute"
    if outcome == "cancelled" and detail == LAB_STOPPED:
        return f"{who} was cut off because the lab was stopped; {saved}: run it again."
    sentences: dict[Outcome, str] = {
        "ok": f"{who} answered completely.",
        "max_tokens": f"{who} stopped at the token limit; {saved}: raise “Max output tokens” for a longer answer.",
        "truncated": f"{who} was cut off before it had finished{because}; {saved}: run it again.",
        "empty": f"{who} sent no answer{because}; {saved}: run it again, or raise “Max output tokens”.",
        "refused": f"{who} refused to answer{because}; {saved}: change the prompt.",
        "filtered": f"{who}'s content filter stopped the answer{because}; {saved}: change the prompt.",
        "guardrail": f"{who} was stopped by the guardrail of its settings{because}; {saved}: change the prompt or the "
        "guardrail.",
        "http_error": f"{who} rejected the request{coded}; {saved}: check the parameters and the model.",
        "stream_error": f"{who} broke off with an error of its own{because}; {saved}: run it again.",
        "throttled": f"{who} takes no more requests for now{coded}; {saved}: try again {wait}.",
        "overloaded": f"{who} is overloaded{coded}; {saved}: try again {wait}.",
        "not_ready": f"{who} is not ready to answer yet{coded}; {saved}: its model is being loaded, try again {wait}.",
        "quota_exhausted": f"{who}'s account is out of credit or over its spending limit{because}; {saved}: top it up "
        "or raise the limit at the provider.",
        "unreachable": f"{who} could not be reached at {host}{because}; {saved}: check its address and that it runs.",
        "unauthorised": f"{who} did not accept the key{coded}; {saved}: check {key} and what it may use.",
        "not_found": f"{who} has no model “{plain(model, 80)}” {location}{coded}; {saved}: check the model's "
        f"name and {place}.",
        "timeout_connect": f"{who} could not be connected to{late}{because}; {saved}: check its address and that it "
        "runs.",
        "timeout_headers": f"{who} did not begin to answer{late}{coded}; {saved}: run it again later.",
        "timeout_first_token": f"{who} sent no token{late}{because}; {saved}: run it again, or allow it more time.",
        "timeout_idle": f"{who} fell silent{late} without a token{because}; {saved}: run it again.",
        "timeout_total": f"{who} was still writing{late} and was stopped{because}; {saved}: ask for less, or allow it "
        "more time.",
        "protocol_error": f"{who} sent something that is not the expected stream{because}; {saved}: check the base URL "
        "and the wire.",
        "cancelled": f"{who} was stopped by hand; {saved}: retry it when you like.",
        "budget_denied": f"{who} was not called because the budget does not allow it{because}; {saved}: ask for a "
        "higher budget.",
        "config_error": f"{who} is not set up correctly{because}; {saved}: correct its settings.",
        "proxy_error": f"{who} could not be reached through the proxy{because}; {saved}: check the proxy's settings, "
        "lab doctor shows them.",
        "lost": f"{who} was being called when our own process ended; {saved}: run it again.",
    }
    if outcome == "http_error" and number and number >= 500:
        return f"{who} failed inside the service{coded}; {saved}: run it again, or see that the service is well."
    if outcome == "http_error" and number and number < 400:
        return f"{who} sent us to another address{coded}; {saved}: correct the base URL."
    return sentences[outcome]
