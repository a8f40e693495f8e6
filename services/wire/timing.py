"""From stamps to figures: the one place where the times of a call are computed (docs/metrics.md defines each).

All stamps are nanoseconds of one monotonic clock (`time.perf_counter_ns`); all figures are milliseconds from t0.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise
from operator import sub

from services.types import Timing

MS = 1_000_000
MIN_TOKENS_FOR_SPEED = 10
MIN_WINDOW_MS = 500.0
MIN_GAPS_P95 = 20
MIN_GAPS_P99 = 100
LAG_FLOOR_MS = 2.0
LAG_SHARE_OF_ITL = 0.05
BURST_SHARE_OF_DELTAS = 0.9
BURST_SHARE_OF_TIME = 0.05
KIND_CODES = {"answer": 97, "reasoning": 114, "tool": 116}
KIND_NAMES = {code: name for name, code in KIND_CODES.items()}


@dataclass(frozen=True, slots=True)
class Stamps:
    """What one attempt noted, in ns of the monotonic clock; ``deltas`` are (arrival, kind) in order of arrival."""

    accepted: int
    handed: int
    t0: int
    end: int
    deltas: Sequence[tuple[int, str]] = ()
    connect_start: int | None = None
    connect_end: int | None = None
    reused: bool = False
    headers: int | None = None
    self_lag_ns: int | None = None
    server_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LiveFigures:
    """Provisional speeds while a call streams; None while too little has come to mean anything."""

    decode_tps: float | None
    e2e_tps: float | None


def figures(stamps: Stamps, *, output_tokens: int | None, first_delta_tokens: int = 1) -> Timing:
    """Every time of one attempt.

    ``output_tokens`` is the number billed (or estimated); ``first_delta_tokens`` how many of them the first delta
    held, one where nothing better is known. Raises ValueError when the stamps run backwards.
    """
    _check_order(stamps)
    t0 = stamps.t0
    times = [ns for ns, _ in stamps.deltas]
    ttft = _ms(times[0] - t0) if times else None
    ttlt = _ms(times[-1] - t0) if times else None
    answers = [ns for ns, kind in stamps.deltas if kind == "answer"]
    gaps = [_ms(ns) for ns in sorted(map(sub, islice(times, 1, None), times))]
    p50 = _percentile(gaps, 0.50) if gaps else None
    decode, hidden = _decode_speed(ttft, ttlt, output_tokens)
    lag = _ms(stamps.self_lag_ns) if stamps.self_lag_ns is not None else None
    new_connection = stamps.connect_start is not None and stamps.connect_end is not None
    return Timing(
        queued_ms=_ms(stamps.handed - stamps.accepted),
        connect_ms=0.0 if stamps.reused else _span(stamps.connect_start, stamps.connect_end),
        reused=stamps.reused and not new_connection,
        ttfb_ms=_span(t0, stamps.headers),
        ttft_ms=ttft,
        ttfat_ms=_ms(answers[0] - t0) if answers else None,
        ttlt_ms=ttlt,
        end_ms=_ms(stamps.end - t0),
        itl_p50_ms=p50,
        itl_p95_ms=_percentile(gaps, 0.95) if len(gaps) >= MIN_GAPS_P95 else None,
        itl_p99_ms=_percentile(gaps, 0.99) if len(gaps) >= MIN_GAPS_P99 else None,
        itl_max_ms=gaps[-1] if gaps else None,
        n_deltas=len(times),
        tpot_ms=_tpot(ttft, ttlt, output_tokens, first_delta_tokens),
        decode_tps=decode,
        decode_hidden=hidden,
        e2e_tps=output_tokens / ttlt * 1000 if output_tokens and ttlt else None,
        self_lag_ms=lag,
        lag_marked=lag is not None and lag > max(LAG_FLOOR_MS, LAG_SHARE_OF_ITL * (p50 or 0.0)),
        server_ms=stamps.server_ms,
        buffered_suspect=_buffered(times, t0),
    )


def live_figures(*, t0: int | None, now: int, first: int | None, last: int | None, tokens: int) -> LiveFigures:
    """Provisional speeds from a running estimate of the tokens; constant time, called for every frame."""
    if t0 is None or first is None or last is None or tokens < MIN_TOKENS_FOR_SPEED:
        return LiveFigures(None, None)
    window = (last - first) / MS
    decode = (tokens - 1) / window * 1000 if window >= MIN_WINDOW_MS else None
    elapsed = max(now, last) - t0
    return LiveFigures(decode, tokens / elapsed * 1e9 if elapsed > 0 else None)


def pack_deltas(stamps: Stamps) -> tuple[bytes, bytes]:
    """Arrivals as little-endian uint32 microseconds from t0, and one byte of kind each; for the row of the call."""
    packed = array("I", (min(max(ns - stamps.t0, 0) // 1000, 2**32 - 1) for ns, _ in stamps.deltas))
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes(), bytes(KIND_CODES[kind] for _, kind in stamps.deltas)


def unpack_deltas(delta_us: bytes, delta_kinds: bytes) -> list[tuple[int, str]]:
    """The reverse of `pack_deltas`: (microseconds from t0, kind) of each delta."""
    packed = array("I")
    packed.frombytes(delta_us)
    if sys.byteorder == "big":
        packed.byteswap()
    return [(us, KIND_NAMES.get(code, "answer")) for us, code in zip(packed, delta_kinds, strict=True)]


def _check_order(stamps: Stamps) -> None:
    order = [stamps.accepted, stamps.handed, stamps.t0]
    order += [stamps.headers] if stamps.headers is not None else []
    order += [ns for ns, _ in stamps.deltas]
    order.append(stamps.end)
    if any(b < a for a, b in pairwise(order)):
        raise ValueError("The stamps of this call run backwards; its times cannot be computed.")


def _decode_speed(ttft: float | None, ttlt: float | None, tokens: int | None) -> tuple[float | None, str | None]:
    if ttft is None or ttlt is None:
        return None, "no token arrived"
    if tokens is None:
        return None, "the number of tokens is not known"
    if tokens < MIN_TOKENS_FOR_SPEED:
        return None, f"too short to mean anything: {tokens} tokens, at least {MIN_TOKENS_FOR_SPEED} are needed"
    window = ttlt - ttft
    if window < MIN_WINDOW_MS:
        return None, f"too short to mean anything: {window:.0f} ms of writing, at least {MIN_WINDOW_MS:.0f} are needed"
    return (tokens - 1) / window * 1000, None


def _tpot(ttft: float | None, ttlt: float | None, tokens: int | None, first: int) -> float | None:
    if ttft is None or ttlt is None or tokens is None or tokens < 2 or tokens <= first:
        return None
    return (ttlt - ttft) / (tokens - first)


def _buffered(times: Sequence[int], t0: int) -> bool:
    """Whether nearly everything came in one burst at the end, as behind a proxy that buffers the stream."""
    if len(times) < MIN_TOKENS_FOR_SPEED or times[-1] <= t0:
        return False
    total = times[-1] - t0
    burst = sum(1 for ns in times if times[-1] - ns <= BURST_SHARE_OF_TIME * total)
    return burst >= BURST_SHARE_OF_DELTAS * len(times) and times[0] - t0 >= (1 - 2 * BURST_SHARE_OF_TIME) * total


def _percentile(ordered: Sequence[float], q: float) -> float:
    """Linear interpolation between closest ranks (numpy's default) of an ordered, non-empty sequence."""
    rank = q * (len(ordered) - 1)
    low = int(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def _ms(ns: int) -> float:
    return round(ns / MS, 4)


def _span(start: int | None, end: int | None) -> float | None:
    return _ms(end - start) if start is not None and end is not None else None
