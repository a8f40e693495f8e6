"""Copied code is run: the request that arrives is the request that the product sends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services.providers import kind_of
from services.runs.snippets import snippets
from services.types import Ask, CacheMode, Deployment, Message, Wire, WireRequest
from tests.fake.fixture import FakeServerThread
from tests.fake.scripts import WIRES

pytestmark = pytest.mark.slow

KINDS = {"messages": "anthropic", "responses": "openai", "chat": "openai-compatible"}
KEY_NAME, KEY = "COPIED_KEY", "a-key-of-the-copy-tests"
HOSTILE = (
    "plain",
    'it\'s "quoted" \\ and `touch pwned` $(touch pwned) ${HOME} %s {braces}',
    "two\nlines\r\nand a\ttab\n\nEOF\n'''\n\"\"\"",
    "Grüße 🙂 \u202egnikcart\u202c \ufeff ­",
    "!history ; rm -rf / & | > pwned",
    "@/etc/passwd",
    "-H x: y",
    "long " * 800,
)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeServerThread]:
    with FakeServerThread() as server:
        yield server


def request(wire: Wire, url: str, prompt: str, **params: Any) -> WireRequest:
    base = url if wire == "messages" else f"{url}/v1"
    to = Deployment("d", "D", KINDS[wire], "fake?tokens=3&itl=1&ttft=1", base, wire, key_env=KEY_NAME)
    ask = Ask((Message("user", "before"), Message("assistant", prompt), Message("user", prompt)), prompt, params)
    return kind_of(to).request(to, ask)


def run(title: str, code: str, folder: Path) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), KEY_NAME: KEY}
    command = ["sh", "-c", code] if title == "curl" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("title", ["curl", "sdk", "httpx"])
def test_copied_code_sends_the_very_same_request(
    fake: FakeServerThread, wire: Wire, title: str, tmp_path: Path
) -> None:
    prompts = HOSTILE if title == "curl" else ["\n".join(HOSTILE)]  # Python takes a second to start
    for prompt in prompts:
        made = request(wire, fake.url, prompt, max_tokens=40, temperature=0.5, stop=["'", '"\\n'])
        found = snippets(made, wire=wire, key_env=KEY_NAME)
        name = next(n for n in found if title in n or (title == "sdk" and n not in ("curl", "Python (httpx)")))
        assert KEY not in found[name]
        since = len(fake.requests)
        said = run(name, found[name], tmp_path)
        arrived = fake.requests[since]
        assert arrived.json == made.body, name
        assert arrived.path.split("?")[0] == made.url.removeprefix(fake.url)
        assert any(KEY in value for value in arrived.headers.values()), "the key comes from the environment"
        assert said.strip(), "the stream is shown"
    assert not any(tmp_path.iterdir()), "nothing of a prompt was run"


def test_without_a_key_the_sdk_gets_a_placeholder(fake: FakeServerThread, tmp_path: Path) -> None:
    made = request("chat", fake.url, "hi")
    found = snippets(made, wire="chat", key_env=None)
    assert all("environ" not in code for code in found.values())
    run("python", found["Python (openai)"], tmp_path)
    assert fake.requests[-1].json == made.body


@pytest.mark.parametrize(
    ("wire", "model", "cache"),
    [
        ("messages", "claude-haiku-4-5", "auto"),
        ("messages", "claude-haiku-4-5", "1h"),
        ("chat", "gpt-6-sol", "auto"),
        ("chat", "gpt-6-sol", "off"),
        ("responses", "gpt-6-sol", "auto"),
        ("responses", "gpt-6-sol", "off"),
    ],
)
def test_copied_sdk_code_asks_for_prompt_caching_as_the_product_does(
    fake: FakeServerThread, wire: Wire, model: str, cache: CacheMode, tmp_path: Path
) -> None:
    base = fake.url if wire == "messages" else f"{fake.url}/v1"
    kind = "anthropic" if wire == "messages" else "openai"
    to = Deployment("d", "D", kind, model, base, wire, key_env=KEY_NAME)
    made = kind_of(to).request(to, Ask((Message("user", "Hi"),), "Long.", {}, cache))
    assert "cache" in str(made.body)
    made = replace(made, body={**made.body, "model": "fake?tokens=3&itl=1&ttft=1"})
    code = next(
        c
        for title, c in snippets(made, wire=wire, key_env=KEY_NAME).items()
        if "(anthropic)" in title or "(openai)" in title
    )
    assert "extra_body" not in code, "the SDK has a name for it"
    run("Python", code, tmp_path)
    assert fake.requests[-1].json == made.body
