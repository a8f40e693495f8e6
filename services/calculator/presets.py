"""Workloads to begin with, and the shapes of a day. Token counts are starting points, each with where it is from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from services.calculator.types import FLAT, Objectives, Reuse, Spread, Workload

# Weights by hour, 0 to 23. Only their proportions count.
OFFICE = (
    0.1,
    0.1,
    0.1,
    0.1,
    0.1,
    0.2,
    0.4,
    1.0,
    2.0,
    2.6,
    2.8,
    2.6,
    2.0,
    2.4,
    2.6,
    2.4,
    2.0,
    1.2,
    0.6,
    0.3,
    0.2,
    0.1,
    0.1,
    0.1,
)
EVENING = (
    0.8,
    0.4,
    0.2,
    0.1,
    0.1,
    0.2,
    0.3,
    0.5,
    0.7,
    0.8,
    0.8,
    0.9,
    1.0,
    1.0,
    0.9,
    0.9,
    1.0,
    1.2,
    1.6,
    2.2,
    2.6,
    2.4,
    1.9,
    1.3,
)
SHAPES: Mapping[str, tuple[float, ...]] = {"flat": FLAT, "office": OFFICE, "evening": EVENING}
SHAPE_TITLES: Mapping[str, str] = {
    "flat": "Flat, day and night",
    "office": "Office hours",
    "evening": "Evening peak",
    "own": "Own curve",
}


@dataclass(frozen=True, slots=True)
class Preset:
    """A workload to begin with. ``source``: where its token counts are from, or that they are our choice."""

    id: str
    title: str
    sentence: str
    workload: Workload
    objectives: Objectives
    source: str


_OURS = "Our starting point, not a measurement: put your own numbers in."
# Azure LLM inference traces 2023, medians: conversation 1,020 in / 129 out (Patel et al., Splitwise, ISCA 2024, § III).
_AZURE = "Near the medians of Azure's conversation trace 2023 (Splitwise, ISCA 2024: 1,020 in, 129 out)."

PRESETS: tuple[Preset, ...] = (
    Preset(
        "chat",
        "Chat assistant",
        "People ask and read along; the first token counts most.",
        Workload(
            60.0,
            Spread(1000.0, 0.8),
            Spread(300.0, 0.7),
            EVENING,
            prefix_share=0.5,
            reuse=Reuse.BURST,
            calls_per_session=6.0,
        ),
        Objectives(ttft_s=1.0, ttlt_s=None, replicas=2),
        f"{_AZURE} The answer is taken longer.",
    ),
    Preset(
        "extraction",
        "Extraction",
        "Fields out of documents, as JSON; nobody reads along.",
        Workload(40.0, Spread(2000.0, 0.6), Spread(200.0, 0.4), OFFICE, prefix_share=0.3, batch_share=0.5),
        Objectives(ttft_s=3.0, ttlt_s=10.0),
        _OURS,
    ),
    Preset(
        "classification",
        "Classification",
        "One label for each text, many texts.",
        Workload(
            300.0,
            Spread(500.0, 0.5),
            Spread(5.0, 0.3),
            FLAT,
            prefix_share=0.6,
            reuse_per_hour=10_000.0,
            batch_share=0.3,
        ),
        Objectives(ttft_s=1.0, ttlt_s=2.0),
        _OURS,
    ),
    Preset(
        "rag",
        "RAG",
        "A question with passages that were found for it.",
        Workload(60.0, Spread(4000.0, 0.5), Spread(250.0, 0.5), OFFICE, prefix_share=0.2, reuse_per_hour=3_000.0),
        Objectives(ttft_s=3.0, ttlt_s=None, replicas=2),
        _OURS,
    ),
    Preset(
        "backlog",
        "Summarising a backlog",
        "A pile of documents that may take a day.",
        Workload(30.0, Spread(6000.0, 0.7), Spread(400.0, 0.4), FLAT, batch_share=1.0),
        Objectives(ttft_s=None, ttlt_s=None),
        _OURS,
    ),
    Preset(
        "agent",
        "Agent loop",
        "Many calls in a row over a conversation that grows.",
        Workload(
            30.0,
            Spread(20_000.0, 0.8),
            Spread(400.0, 0.8),
            OFFICE,
            burstiness=4.0,
            prefix_share=0.9,
            reuse=Reuse.BURST,
            calls_per_session=20.0,
        ),
        Objectives(ttft_s=3.0, ttlt_s=None),
        _OURS,
    ),
)
BY_ID: Mapping[str, Preset] = {one.id: one for one in PRESETS}
FIRST = PRESETS[0]


def shape_name(shape: tuple[float, ...]) -> str:
    """Which of `SHAPES` it is: "flat", "office", "evening"; "own" for any other."""
    if shape and min(shape) == max(shape) > 0:
        return "flat"
    return next((name for name, weights in SHAPES.items() if weights == tuple(shape)), "own")
