"""The services' token counts, normalised once to five disjoint counts (docs/metrics.md, "Counts and cost").

A count that a service did not give stays None, an explicit zero stays zero, and the parts always sum to the
service's own total.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeGuard

from services.types import JsonMapping, Usage

MOST_TOKENS = 10**9


def count(value: Any) -> int | None:
    """A token count if this is one, else None: an int from 0 to a thousand million, more than any call of any service;
    beyond, its cost would overflow what a database adds up."""
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MOST_TOKENS else None


def obj(value: Any) -> JsonMapping:
    """``value`` if it is a JSON object, else an empty one."""
    return value if type(value) is dict or isinstance(value, Mapping) else {}


def from_messages(raw: JsonMapping, *, final: bool) -> Usage:
    """Usage of the Messages wire, where ``input_tokens`` excludes what was read from or written to the cache.

    ``final`` False: only message_start was seen, whose ``output_tokens`` is a placeholder and is not taken. Cache
    writes without a split by TTL are 5-minute ones, the API's default.
    """
    written = count(raw.get("cache_creation_input_tokens"))
    split = obj(raw.get("cache_creation"))
    short, long = count(split.get("ephemeral_5m_input_tokens")), count(split.get("ephemeral_1h_input_tokens"))
    if written is None:
        write_5m, write_1h = short, long
    else:
        write_1h = None if long is None else min(long, written)
        write_5m = written - (write_1h or 0)
    output = count(raw.get("output_tokens")) if final else None
    reasoning, answer = _split_output(output, count(obj(raw.get("output_tokens_details")).get("thinking_tokens")))
    return Usage(
        uncached_input=count(raw.get("input_tokens")),
        cache_read=count(raw.get("cache_read_input_tokens")),
        cache_write_5m=write_5m,
        cache_write_1h=write_1h,
        reasoning_output=reasoning,
        answer_output=answer,
        source="provider" if final else "partial",
        raw=dict(raw),
    )


def from_openai(raw: JsonMapping, *, source: Literal["provider", "partial"] = "provider") -> Usage | None:
    """Usage of the Chat and Responses wires, where the input count includes cached tokens and the output count
    includes reasoning. None when the object holds no count at all.

    Cache writes with 30-minute retention stand with the short-lived ones (``cache_write_5m``), 12-hour ones with the
    long-lived (``cache_write_1h``). Services that count reasoning (or cache reads) beside their total instead of
    inside it are recognised by the total they state (or by a part larger than its whole).
    """
    inputs = count(raw.get("prompt_tokens"))
    inputs = count(raw.get("input_tokens")) if inputs is None else inputs
    outputs = count(raw.get("completion_tokens"))
    outputs = count(raw.get("output_tokens")) if outputs is None else outputs
    if inputs is None and outputs is None:
        return None
    details = obj(raw.get("prompt_tokens_details")) or obj(raw.get("input_tokens_details"))
    cached = count(details.get("cached_tokens"))
    cached = count(raw.get("prompt_cache_hit_tokens")) if cached is None else cached  # DeepSeek's own name
    write_short, write_long = _openai_writes(details)
    parts = (cached or 0) + (write_short or 0) + (write_long or 0)
    uncached = inputs - parts if inputs is not None and parts <= inputs else inputs
    out_details = obj(raw.get("completion_tokens_details")) or obj(raw.get("output_tokens_details"))
    thought = count(out_details.get("reasoning_tokens"))
    if outputs is not None and thought and _beside(inputs, outputs, thought, count(raw.get("total_tokens"))):
        reasoning: int | None = thought
        answer: int | None = outputs
    else:
        reasoning, answer = _split_output(outputs, thought)
    return Usage(uncached, cached, write_short, write_long, reasoning, answer, source, dict(raw))


def from_converse(raw: JsonMapping) -> Usage | None:
    """Usage of the Converse wire, where ``inputTokens`` excludes what was read from or written to the cache.

    ``cacheDetails`` splits the writes by TTL; writes without it are 5-minute ones, the service's default. Models whose
    ``inputTokens`` includes the cached ones are recognised by the total they state. None when there is no count.
    """
    inputs, outputs = count(raw.get("inputTokens")), count(raw.get("outputTokens"))
    if inputs is None and outputs is None:
        return None
    read, written = count(raw.get("cacheReadInputTokens")), count(raw.get("cacheWriteInputTokens"))
    read = count(raw.get("cacheReadInputTokenCount")) if read is None else read  # Nova's names over InvokeModel
    written = count(raw.get("cacheWriteInputTokenCount")) if written is None else written
    details = raw.get("cacheDetails")
    listed = map(obj, details) if _is_list(details) else ()
    by_ttl = {str(write.get("ttl")): count(write.get("inputTokens")) for write in listed}
    long = by_ttl.get("1h")
    if written is None:
        short = by_ttl.get("5m")
    else:
        long = None if long is None else min(long, written)
        short = written - (long or 0)
    cached = (read or 0) + (short or 0) + (long or 0)
    total = count(raw.get("totalTokens"))
    if inputs is not None and cached and cached <= inputs and total == inputs + (outputs or 0):
        inputs -= cached
    return Usage(inputs, read, short, long, None, outputs, "provider", dict(raw))


def from_invocation(raw: JsonMapping) -> Usage | None:
    """``amazon-bedrock-invocationMetrics``: Bedrock's own counts at the end of an InvokeModel stream, whose
    ``inputTokenCount`` excludes what was read from or written to the cache. None when there is no count."""
    inputs, outputs = count(raw.get("inputTokenCount")), count(raw.get("outputTokenCount"))
    if inputs is None and outputs is None:
        return None
    read, written = count(raw.get("cacheReadInputTokenCount")), count(raw.get("cacheWriteInputTokenCount"))
    return Usage(inputs, read, written, None, None, outputs, "provider", dict(raw))


def from_tokens(input_count: Any, output_count: Any, raw: JsonMapping) -> Usage | None:
    """Usage of the older wires, which count input and output and nothing else. None when neither is a count."""
    inputs, outputs = count(input_count), count(output_count)
    if inputs is None and outputs is None:
        return None
    return Usage(uncached_input=inputs, answer_output=outputs, source="provider", raw=dict(raw))


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _openai_writes(details: JsonMapping) -> tuple[int | None, int | None]:
    written = count(details.get("cache_write_tokens"))
    long = count(obj(details.get("cache_write_tokens_details")).get("ttl_12h_tokens"))
    if written is None:
        return None, None
    if long is None:
        return written, None
    return written - min(long, written), min(long, written)


def _beside(inputs: int | None, outputs: int, thought: int, total: int | None) -> bool:
    return thought > outputs or (total is not None and total == (inputs or 0) + outputs + thought)


def _split_output(output: int | None, thought: int | None) -> tuple[int | None, int | None]:
    if output is None:
        return None, None
    if thought is None:
        return None, output
    return min(thought, output), output - min(thought, output)
