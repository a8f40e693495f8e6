"""Prompts to begin with: short and long answers, extraction, classification, and three templates with variables."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sample:
    """One suggestion. ``shows`` says in a few words what it makes visible; ``max_tokens`` fits its answer."""

    title: str
    prompt: str
    max_tokens: int
    shows: str
    system: str | None = None


SAMPLES: tuple[Sample, ...] = (
    Sample(
        "Explain caching",
        "Explain in three sentences why caching makes a service faster, and name one case where it does not.",
        256,
        "a short explanation: first token and last token both matter",
    ),
    Sample(
        "Answer in one word",
        "Is the following review positive or negative? Answer with one word.\n\n"
        "“The battery lasts two days, but the screen scratched within a week and support never replied.”",
        16,
        "classification: input dominates, the last token follows the first at once",
    ),
    Sample(
        "Extract fields",
        "Extract the name, the date and the amount from this note as JSON with the keys name, date and amount.\n\n"
        "“Hi, Maria Jensen here. I paid the 1,250 kroner for the workshop on 3 October and need a receipt.”",
        100,
        "extraction: a short answer in a fixed form",
    ),
    Sample(
        "Summarise",
        "Summarise the following text in two sentences.\n\n"
        "Inference is running a trained model to get an output for an input. Latency is how long one request takes: "
        "the time to the first token is how soon the model begins to speak, the time to the last token is when it is "
        "finished. Throughput is how many requests or tokens the whole system serves in a unit of time. The two pull "
        "against each other, because batching requests raises throughput and makes each one wait. What it costs is "
        "decided by the tokens that go in, the tokens that come out, and the tier of the model.",
        120,
        "a longer input with a short answer: watch the time to the first token",
    ),
    Sample(
        "Write about 20 tokens",
        "Name five colours, separated by commas.",
        32,
        "one of three lengths: what moves, the first token or the last?",
    ),
    Sample(
        "Write about 200 tokens",
        "Describe a walk along a beach in the early morning in about 150 words.",
        220,
        "one of three lengths: what moves, the first token or the last?",
    ),
    Sample(
        "Write about 1,000 tokens",
        "Write a story of about 700 words about a lighthouse keeper who receives a letter meant for somebody else.",
        1000,
        "one of three lengths: decode speed decides the time to the last token",
    ),
    Sample(
        "Small arithmetic",
        "A train leaves at 14:10 and arrives at 16:55. How long does it travel? Think step by step, then give the "
        "answer on the last line.",
        256,
        "reasoning: compare the answers, not only the clocks",
    ),
)

TEMPLATES: tuple[Sample, ...] = (
    Sample("Translate", "Translate into {{language}}:\n\n{{text}}", 256, "a template with two variables"),
    Sample(
        "Classify",
        "Put the following message into one of these classes: {{classes}}. Answer with the class only.\n\n{{message}}",
        16,
        "a template for classification",
    ),
    Sample(
        "Answer from a text",
        "Answer the question with the text below and nothing else. If the text does not say, answer “not stated”."
        "\n\nText:\n{{text}}\n\nQuestion: {{question}}",
        200,
        "a template for retrieval-augmented generation",
    ),
)

SUGGESTED = SAMPLES[0]
