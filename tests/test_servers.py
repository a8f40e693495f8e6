"""What is read from servers' own words: recorded pages, half of a page, and pages that mean harm."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.servers import (
    MAX_LINES,
    MORE,
    Gauge,
    NoMetrics,
    ServerFacts,
    from_models,
    has_server,
    hits_since,
    lacks,
    read_metrics,
    refined,
    root_of,
    unserved,
)
from services.types import Aws, Deployment

HERE = Path(__file__).parent / "servers"
RUNNING = {
    "vLLM": b"vllm:num_requests_running",
    "SGLang": b"sglang:num_running_reqs",
    "TGI": b"tgi_batch_current_size",
    "llama.cpp": b"llamacpp:requests_processing",
}
FIELDS = ("data", "id", "owned_by", "meta", "n_ctx", "max_model_len", "version", "model_id")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner),
)
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
SAID = {
    "vllm": Gauge("vLLM", 3, 1, 0.4196301564722617, 81290.0, 51212.0),
    "vllm_two_engines": Gauge("vLLM", 8, 1, 0.4, 400.0, 300.0),
    "vllm_085": Gauge("vLLM", 2, 0, 0.125, 400.0, 100.0),
    "sglang": Gauge("SGLang", 4, 2, 0.28, 8128902.0, 4064451.0),
    "tgi": Gauge("TGI", 4, 7),
    "llamacpp": Gauge("llama.cpp", 2, 1, None, 105.0, 25.0),
}


def page(name: str) -> bytes:
    return (HERE / f"{name}.txt").read_bytes()


def body(name: str) -> bytes:
    return (HERE / f"{name}.json").read_bytes()


@pytest.mark.parametrize("name", SAID)
def test_each_servers_page_is_read(name: str) -> None:
    assert read_metrics(page(name)) == SAID[name]


@pytest.mark.parametrize("name", SAID)
def test_a_figure_whose_lines_are_missing_is_unknown_and_said_to_be(name: str) -> None:
    whole = SAID[name]
    running = RUNNING[whole.software]
    rest = b"\n".join(line for line in page(name).split(b"\n") if running not in line)
    gauge = read_metrics(rest)
    assert gauge == dataclasses.replace(whole, running=None)
    assert "This server does not report how many requests it works on." in lacks(gauge)


def test_what_a_server_does_not_report_is_said_in_words() -> None:
    assert lacks(SAID["vllm"]) == ()
    assert lacks(SAID["llamacpp"]) == ("This server does not report its KV cache.",)
    assert lacks(SAID["tgi"]) == (
        "This server does not report its KV cache.",
        "This server does not report its prefix cache.",
    )


def test_older_names_of_the_prefix_cache_and_a_rate_without_counters_are_known() -> None:
    plain = page("vllm").replace(b"_queries_total", b"_queries").replace(b"_hits_total", b"_hits")
    assert read_metrics(plain) == SAID["vllm"]
    v0 = b'vllm:num_requests_running{m="x"} 1.0\nvllm:gpu_prefix_cache_hit_rate{m="x"} 0.5\n'
    assert read_metrics(v0) == Gauge("vLLM", 1, hit_rate=0.5)
    bare = b"\n".join(line for line in page("sglang").split(b"\n") if b"_tokens_total" not in line)
    assert read_metrics(bare).hit_rate == 0.0075


@pytest.mark.parametrize("said", [b"NaN", b"+Inf", b"-1", b"1e300", b"0x10", b"", b'"3"', b"\xff"])
def test_a_value_that_cannot_be_is_unknown(said: bytes) -> None:
    gauge = read_metrics(b"vllm:num_requests_waiting 2\nvllm:num_requests_running " + said + b"\n")
    assert (gauge.running, gauge.waiting) == (None, 2)


@pytest.mark.parametrize("said", [b"1e308", b"-1e308", b"NaN", b"+Inf"])
def test_a_figure_that_cannot_be_is_said_to_be_not_readable(said: bytes) -> None:
    names = (
        "num_requests_running",
        "num_requests_waiting",
        "kv_cache_usage_perc",
        "prefix_cache_queries_total",
        "prefix_cache_hits_total",
    )
    # Two engines each: their sum overflows.
    lines = [b'vllm:%s{engine="%d"} %s\n' % (name.encode(), engine, said) for name in names for engine in (0, 1)]
    gauge = read_metrics(b"".join(lines))
    assert gauge == Gauge("vLLM", unreadable=("prefix", "running", "waiting", "kv"))
    assert Gauge.from_json(gauge.to_json()) == gauge
    assert len(lacks(gauge)) == 4 and all(one.endswith("is not readable.") for one in lacks(gauge))
    mixed = read_metrics(b'vllm:num_requests_running{engine="0"} 1\nvllm:num_requests_running{engine="1"} ' + said)
    assert mixed.running is None, "the sum of the others would be too small"


def test_a_cache_that_is_fuller_than_full_and_more_hits_than_questions_are_unknown() -> None:
    gauge = read_metrics(
        b"vllm:num_requests_running 1\nvllm:kv_cache_usage_perc 42.0\n"
        b"vllm:prefix_cache_queries_total 10\nvllm:prefix_cache_hits_total 11\n"
    )
    assert (gauge.kv_used, gauge.prefix_queries, gauge.prefix_hits) == (None, None, None)


@pytest.mark.parametrize(
    "said", [b"", b"<html><body>Not found</body></html>", b'{"error": "no"}', b"\x00\xff" * 99, b"a" * 10**6]
)
def test_what_is_no_metrics_page_is_said_to_be_none(said: bytes) -> None:
    with pytest.raises(NoMetrics, match="is not a metrics page"):
        read_metrics(said)


@pytest.mark.parametrize(
    "said", [b"# TYPE up gauge\nup 1\n", b'http_requests_total{path="/"} 12\n', b"vllm:num_requests_running_total 3\n"]
)
def test_a_metrics_page_of_something_else_is_said_to_be_one(said: bytes) -> None:
    with pytest.raises(NoMetrics, match="holds none of the figures"):
        read_metrics(said)


def test_of_a_page_without_end_only_so_many_lines_are_read() -> None:
    gauge = read_metrics(b'vllm:num_requests_running{engine="0"} 1\n' * (MAX_LINES * 50))
    assert gauge.running == MAX_LINES
    long = b'vllm:num_requests_running{a="' + b"x" * 10**6 + b'"} 7\nvllm:num_requests_running 2\n'
    assert read_metrics(long).running == 2


@given(st.binary(max_size=400), st.sampled_from(sorted(SAID)), st.integers(0, 4000))
def test_no_page_breaks_the_reader(noise: bytes, name: str, at: int) -> None:
    whole = page(name)
    for said in (noise, whole[:at], whole[:at] + noise + whole[at:], b"vllm:num_requests_running" + noise):
        try:
            gauge = read_metrics(said)
        except NoMetrics:
            continue
        assert gauge.kv_used is None or 0 <= gauge.kv_used <= 1
        rate = hits_since(None, gauge)
        assert rate is None or 0 <= rate <= 1


def test_prefix_hits_are_those_since_the_first_look() -> None:
    first = SAID["vllm"]
    later = dataclasses.replace(first, prefix_queries=82290.0, prefix_hits=51842.0)
    assert hits_since(first, later) == pytest.approx(0.63)
    assert hits_since(None, first) == pytest.approx(51212 / 81290)
    assert hits_since(first, first) is None, "nothing was asked"
    assert hits_since(later, first) is None, "the server was started again"
    assert hits_since(first, SAID["tgi"]) is None
    assert hits_since(None, Gauge("SGLang", hit_rate=0.25)) == 0.25


def test_a_gauge_and_facts_come_back_from_json_as_they_were() -> None:
    assert [Gauge.from_json(gauge.to_json()) for gauge in SAID.values()] == list(SAID.values())
    facts = ServerFacts("vLLM", "0.11.2", ("a", "b"), 10)
    assert ServerFacts.from_json(facts.to_json()) == facts


FACTS = {
    "vllm": (("/version", "vllm_version"), ServerFacts("vLLM", "0.11.2", (LLAMA, "sql-lora"), 131072)),
    "sglang": (
        ("/get_server_info", "sglang_server_info"),
        ServerFacts("SGLang", "0.5.4", (LLAMA,), 131072, kv_tokens=444500),
    ),
    "tgi": (("/info", "tgi_info"), ServerFacts("TGI", "3.3.6", (LLAMA,), 8192)),
    "llamacpp": (
        ("/props", "llamacpp_props"),
        ServerFacts("llama.cpp", None, ("smollm2-135m-instruct",), 1024, slots=2),
    ),
}


@pytest.mark.parametrize("name", FACTS)
def test_each_servers_facts_are_read(name: str) -> None:
    (path, more), expected = FACTS[name]
    first = from_models(body(f"{name}_models"), LLAMA)
    assert first is not None
    assert path in MORE[first.software]
    facts = refined(first, path, body(more))
    assert facts == expected
    assert "sk-the-servers-own-key" not in repr(facts)
    for other, ((elsewhere, its), _) in FACTS.items():
        if other != name:
            assert refined(facts, elsewhere, body(its)) == facts, "one server's words mean nothing on another"


@pytest.mark.parametrize("said", [b"", b"[]", b"{}", b'{"data": 3}', b"<html>", b'{"data": {"id": "x"}}', b"\xff"])
def test_what_is_no_list_of_models_is_none(said: bytes) -> None:
    assert from_models(said, "m") is None


@pytest.mark.slow
@given(JSON)
def test_facts_are_read_from_no_json_that_is_not_what_it_should_be(said: object) -> None:
    raw = json.dumps(said).encode()
    facts = from_models(raw, "m") or ServerFacts()
    for software, paths in MORE.items():
        for path in paths:
            read = refined(dataclasses.replace(facts, software=software), path, raw)
            assert read.context_tokens is None or read.context_tokens > 0
            assert read.version is None or read.version


def test_a_model_that_the_server_does_not_list_is_named() -> None:
    facts = ServerFacts("vLLM", models=("a", "b", "c", "d", "e"))
    assert unserved(facts, "b") is None
    assert unserved(ServerFacts("vLLM"), "b") is None
    assert unserved(facts, "x") == "This server does not list the model “x”; it serves a, b, c and 2 more."


@pytest.mark.parametrize(
    ("base", "root"),
    [
        ("http://gpu:8000/v1", "http://gpu:8000"),
        ("http://gpu:8000/v1/", "http://gpu:8000"),
        ("http://gpu:8000", "http://gpu:8000"),
        ("https://gate/llm/v1/chat/completions", "https://gate/llm"),
        ("https://gate/llm/", "https://gate/llm"),
        ("http://[::1]:80/v1", "http://[::1]:80"),
    ],
)
def test_the_servers_own_addresses_hang_under_its_root(base: str, root: str) -> None:
    assert root_of(base) == root


def test_only_servers_of_ones_own_are_asked() -> None:
    own = Deployment("a", "A", "openai-compatible", "m", "http://gpu:8000/v1")
    assert has_server(own)
    assert has_server(dataclasses.replace(own, kind="anthropic", base_url="embedded://main"))
    assert not has_server(dataclasses.replace(own, kind="openai", base_url="https://api.openai.com/v1"))
    assert not has_server(dataclasses.replace(own, aws=Aws(), region="us-east-1"))
