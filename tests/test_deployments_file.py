"""deployments.toml is read exactly, mistakes are told with line and remedy, and no key leaks or goes astray."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployments.config import (
    DEFAULT_PRIVATE_HOSTS,
    Access,
    Config,
    ConfigError,
    allowed_private,
    load,
    parse,
    slug,
    validate,
)
from services.deployments.toml_table import Source, to_toml
from services.deployments.validation import is_key_name
from services.pricing import cost
from services.security.network import Forbidden, check_ip, check_url
from services.types import Aws, Deployment, Limits, PriceRef

EXAMPLE = Path(__file__).parent.parent / "deployments.example.toml"
# Lines of the example that are written as comments and can be switched on.
SWITCHES = (
    "# key_env",
    "# text_days",
    "# call_days",
    "# profile",
    "# latency",
    "# guardrail",
    "# endpoint_url",
    "# batch_s3",
    "# batch_role",
    "# [keys.AWS]",
    "# hosts",
)
PASTED = "sk-" + "ant-api03-canaryPASTED0123456789"
ONE = '[[deployment]]\nname = "A"\nkind = "anthropic"\nmodel = "claude-haiku-5-5"\n'
OWN = '[[deployment]]\nname = "A"\nkind = "openai-compatible"\nmodel = "m"\nbase_url = "http://10.0.0.5:8000/v1"\n'
PAGE = Deployment(id="p", name="P", kind="openai-compatible", model="m", base_url="https://h.example/v1", origin="page")


def read(text: str) -> Config:
    return parse(Source("deployments.toml", text))


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        read(text)
    sentence = str(caught.value)
    assert "\n" not in sentence and PASTED not in sentence
    return sentence


def test_the_example_loads_and_shows_every_field() -> None:
    config = load(EXAMPLE)
    assert [one.id for one in config.deployments] == [
        "haiku-for-the-team",
        "gpt-6-1-terra-flex",
        "llama-on-our-gpu",
        "hosted-qwen",
        "nova-pro-on-bedrock-flex",
        "bedrock-model-units",
        "our-endpoint-on-sagemaker",
        "gpt-oss-on-bedrock",
        "vllm-on-ec2",
    ]
    haiku, terra, llama, qwen = config.deployments[:4]
    assert (haiku.base_url, haiku.wire, haiku.key_env) == ("https://api.anthropic.com", "messages", "ANTHROPIC_API_KEY")
    assert haiku.price == PriceRef("anthropic", "claude-haiku-5-5")
    assert terra.params == ("max_tokens", "reasoning_effort") and terra.limits == Limits()
    assert terra.extra_body == {"service_tier": "flex"} and not terra.enabled
    assert llama.price == PriceRef(per_hour="1.21") and llama.key_env is None
    assert qwen.price == PriceRef(override={"input": "0.10", "cache_read": "0.02", "output": "0.40"})
    assert {one.origin for one in config.deployments} == {"file"}
    text = EXAMPLE.read_text()
    for field in (
        "id",
        "wire",
        "region",
        "aws",
        "endpoint_url",
        "params",
        "labels",
        "limits",
        "extra_body",
        "headers",
        "note",
        "text_days",
    ):
        assert f"{field} = " in text


def test_the_example_shows_every_way_to_deploy_on_aws() -> None:
    nova, units, endpoint, mantle, vllm = load(EXAMPLE).deployments[4:]
    assert (nova.kind, nova.wire, nova.base_url) == (
        "bedrock",
        "converse",
        "https://bedrock-runtime.us-east-1.amazonaws.com",
    )
    assert nova.aws == Aws(service_tier="flex") and nova.price == PriceRef("aws", "us.amazon.nova-pro-v1:0")
    assert units.kind == "bedrock-provisioned" and units.price == PriceRef(per_hour="39.60", count=2)
    assert units.aws is not None and units.aws.serves == "anthropic.claude-3-haiku-20240307-v1:0"
    assert (endpoint.kind, endpoint.wire, endpoint.aws) == ("sagemaker", "chat", Aws(component="llama-8b"))
    assert endpoint.price == PriceRef(instance="ml.g5.xlarge", count=2)
    assert (mantle.kind, mantle.aws) == ("openai-compatible", Aws())
    assert vllm.aws is None and vllm.price == PriceRef(instance="g6.xlarge")
    assert not any(one.enabled for one in (nova, units, endpoint, mantle, vllm))


def test_every_price_of_the_example_is_known_or_left_out_on_purpose() -> None:
    priced = {one.id: cost.price_of(one, datetime(2026, 11, 24, tzinfo=UTC)) for one in load(EXAMPLE).deployments}
    assert [name for name, price in priced.items() if price is None] == ["gpt-oss-on-bedrock"]


def test_the_copy_with_every_commented_line_switched_on_loads_too() -> None:
    lines = [
        line.replace("# ", "", 1) if line.startswith(SWITCHES) else line for line in EXAMPLE.read_text().splitlines()
    ]
    config = read("\n".join(lines))
    assert (config.text_days, config.call_days) == (30, 400)
    nova, endpoint = config.deployments[4], config.deployments[6]
    role = "arn:aws:iam::123456789012:role/lab-batch"
    assert nova.aws == Aws("team", "flex", "optimized", "abc123:1", batch_role=role, batch_s3="s3://our-bucket/lab")
    assert endpoint.base_url.startswith("https://vpce-1a2b.")
    assert config.key_hosts["AWS"] == ("vpce.internal",)
    assert config.key_hosts["VLLM_API_KEY"] == ("gpu-1.internal",)


def test_an_empty_file_gives_the_defaults() -> None:
    assert read("") == Config()
    assert Config().allow_private_hosts == DEFAULT_PRIVATE_HOSTS
    assert Config().store_text and Config().text_days is None and Config().access == Access("open")


def test_the_sections_are_read() -> None:
    config = read(
        '[network]\nallow_private_hosts = ["GPU.internal", "10.0.0.0/8"]\n'
        "[privacy]\nstore_text = false\ntext_days = 7\ncall_days = 8\n"
        '[access]\nmode = "closed"\nsenders = ["Ada@Example.com"]\nadmins = ["bob@example.com"]\n'
        '[keys.MY_KEY]\nhosts = ["H.example:8443"]\n'
    )
    assert config.allow_private_hosts == {"gpu.internal", "10.0.0.0/8"}
    assert (config.store_text, config.text_days, config.call_days) == (False, 7, 8)
    assert config.access == Access("closed", ("ada@example.com",), ("bob@example.com",))
    assert config.key_hosts["MY_KEY"] == ("h.example:8443",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[[deployment]]\nname = "A', ["line 2", "not valid TOML"]),
        ("[[deployment]]\nname = \n", ["line 2", "not valid TOML"]),
        (ONE + 'modle = "x"\n', ["line 5", "deployment 'A'", "'modle'", "did you mean 'model'?"]),
        (ONE + ONE.replace('"A"', '"B"') + "zzz = 1\n", ["line 9", "deployment 'B'", "it can be name, kind"]),
        (ONE.replace("anthropic", "antropic"), ["line 3", "'antropic'", "anthropic, openai, openai-compatible"]),
        (ONE + ONE, ["line 6", "same name"]),
        (ONE + 'id = "x"\n' + ONE.replace('"A"', '"B"') + 'id = "x"\n', ["line 10", "same id"]),
        (ONE + 'id = "local-chat"\n', ["line 5", "comes with the program"]),
        (ONE.replace('name = "A"\n', ""), ["line 1", "deployment number 1", "needs 'name'"]),
        (ONE.replace('"A"', "5"), ["line 2", "text in quotes"]),
        (ONE + 'enabled = "yes"\n', ["line 5", "true or false"]),
        (ONE + "context_tokens = 0\n", ["line 5", "1 or more"]),
        (ONE + "context_tokens = true\n", ["line 5", "whole number"]),
        (ONE + 'wire = "chat"\n', ["line 5", "'chat'", "can have messages"]),
        (ONE + 'params = ["temprature"]\n', ["line 5", "'temprature'", "temperature"]),
        (ONE + 'params = "temperature"\n', ["line 5", "a list of texts"]),
        (ONE + "price = { input = 3 }\n", ["line 5", "needs 'output'"]),
        (ONE + "price = { input = 3, output = 15, per_hour = 1 }\n", ["line 5", "two forms"]),
        (ONE + "price = { inptu = 3 }\n", ["line 5", "did you mean 'input'?"]),
        (ONE + 'price = { per_hour = "-1" }\n', ["line 5", "0 or more"]),
        (ONE + 'price = { model = "x" }\n', ["line 5", "without its provider"]),
        (ONE + "limits = { idle = 5 }\n", ["line 5", "did you mean 'idle_s'?"]),
        (ONE + "limits = { idle_s = 0 }\n", ["line 5", "more than 0"]),
        (ONE + 'limits = { idle_s = "5" }\n', ["line 5", "number of seconds"]),
        (ONE + "limits = { idle_s = inf }\n", ["line 5", "at most 86400"]),
        (ONE + "extra_body = { stream = false }\n", ["line 5", "'stream'", "fills in itself"]),
        (ONE + "headers = { a = 1 }\n", ["line 5", "not text"]),
        (ONE + 'headers = { "a b" = "x" }\n', ["line 5", "HTTP does not allow"]),
        (ONE + 'headers = { a = "x\\r\\nb: y" }\n', ["line 5", "HTTP does not allow"]),
        (ONE + 'base_url = "file:///etc/passwd"\n', ["line 5", "https://"]),
        (ONE + 'base_url = "http://169.254.169.254/"\n', ["line 5", "never called"]),
        (ONE + 'base_url = "https://u:p@h.example/"\n', ["line 5", "key_env"]),
        (ONE + 'base_url = "https://h.example/v1?api-version=1"\n', ["line 5", "'?'"]),
        (ONE + 'base_url = "embedded://main"\n', ["line 5", "come with the program"]),
        (OWN.replace('base_url = "http://10.0.0.5:8000/v1"\n', ""), ["line 1", "needs 'base_url'"]),
        (ONE + 'id = "Not A Slug"\n', ["line 5", "'id'"]),
        ('[deployment]\nname = "A"\n', ["line 1", "two brackets"]),
        ('[[deployments]]\nname = "A"\n', ["line 1", "did you mean 'deployment'?"]),
        ("[privacy]\nstore_txt = true\n", ["line 2", "[privacy]", "did you mean 'store_text'?"]),
        ("[privacy]\ntext_days = 0\n", ["line 2", "1 or more"]),
        ("[privacy]\ntext_days = 9\ncall_days = 9\n", ["line 3", "call_days = 9", "more than text_days = 9"]),
        ('# c\n[access]\nmode = "shut"\n', ["line 3", '"open" or "closed"']),
        ('[access]\nadmins = ["bob"]\n', ["line 2", "not an e-mail"]),
        ('[network]\nallow_private = ["x"]\n', ["line 2", "did you mean 'allow_private_hosts'?"]),
        ('[keys.MY_KEY]\nhost = ["x"]\n', ["line 2", "did you mean 'hosts'?"]),
        ('[keys]\nMY_KEY = "x"\n', ["has to be a table"]),
        ("network = 5\n", ["has to be a table"]),
    ],
)
def test_a_mistake_is_told_in_one_sentence_with_its_line(text: str, words: list[str]) -> None:
    sentence = refused(text)
    assert sentence.startswith("deployments.toml")
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f'key_env = "{PASTED}"', "variable's name"),
        (f'headers = {{ "x-extra" = "{PASTED}" }}', "looks like a key"),
        ('headers = { Authorization = "Bearer abcdefgh" }', "looks like a key"),
        ('headers = { "x-api-key" = "anything" }', "looks like a key"),
        ('headers = { "X-Auth-Token" = "anything" }', "looks like a key"),
        (f'extra_body = {{ a = {{ b = ["{PASTED}"] }} }}', "looks like a key"),
        (f'note = "{PASTED}"', "looks like a key"),
        (f'base_url = "https://h.example/{PASTED}/v1"', "holds a key"),
        (f'kind = "{PASTED}"', "unknown kind"),
        (f'wire = "{PASTED}"', "wire"),
        (f'params = ["{PASTED}"]', "unknown parameter"),
        (f'name = "{PASTED}"', "looks like a key"),
        (f'model = "{PASTED}', "not valid TOML"),
    ],
)
def test_a_key_pasted_anywhere_is_refused_and_not_repeated(line: str, words: str) -> None:
    field = line.partition(" ")[0]
    kept = [one for one in ONE.splitlines() if not one.startswith(f"{field} ")]
    assert words in refused("\n".join([*kept, line]) + "\n")


def test_a_value_that_is_a_loaded_key_is_refused_as_a_name_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_CANARY_API_KEY", "nothing_like_a_key_at_all")
    assert "nothing_like" not in refused(ONE + 'key_env = "nothing_like_a_key_at_all"\n')


def test_a_table_named_after_a_key_is_refused_without_repeating_it() -> None:
    assert "name of a variable" in refused(f'[keys.{PASTED}]\nhosts = ["h.example"]\n')


def test_a_missing_or_unreadable_file_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"copy deployments\.example\.toml"):
        load(tmp_path / "deployments.toml")
    (tmp_path / "latin.toml").write_bytes(b'x = "\xe9"')
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "latin.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path)


def test_lines_are_right_with_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "deployments.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (ONE + "zzz = 1\n").replace("\n", "\r\n").encode())
    with pytest.raises(ConfigError, match="line 5"):
        load(path)


# --- where calls may go ----------------------------------------------------------------------------------------------


def test_a_deployment_in_the_file_may_reach_its_own_private_host_and_no_other() -> None:
    config = read(OWN)
    allowed = allowed_private(config.deployments[0], config)
    check_url("http://10.0.0.5:8000/v1", allow_private=allowed)
    with pytest.raises(Forbidden):
        check_url("http://10.0.0.6:8000/v1", allow_private=allowed)


def test_a_name_in_the_file_that_resolves_to_a_metadata_address_is_still_refused() -> None:
    config = read(OWN.replace("10.0.0.5", "gpu.internal"))
    allowed = allowed_private(config.deployments[0], config)
    check_ip("10.9.9.9", "gpu.internal", allowed)
    with pytest.raises(Forbidden):
        check_ip("169.254.169.254", "gpu.internal", allowed)


@pytest.mark.parametrize("origin", ["page", "catalogue"])
def test_a_deployment_added_on_the_page_reaches_only_private_hosts_that_were_allowed(origin: Any) -> None:
    added = replace(PAGE, base_url="http://10.0.0.5:8000/v1", origin=origin)
    with pytest.raises(ConfigError, match="allow_private_hosts"):
        validate(added, Config())
    validate(added, Config(allow_private_hosts=frozenset({"10.0.0.0/8"})))
    validate(replace(added, base_url="http://localhost:8080/v1"), Config())
    assert allowed_private(added, Config()) == DEFAULT_PRIVATE_HOSTS


def test_the_file_binds_its_keys_to_its_hosts() -> None:
    config = read(OWN + 'key_env = "MY_KEY"\n' + ONE.replace('"A"', '"B"'))
    assert config.key_hosts["MY_KEY"] == ("10.0.0.5",)
    assert config.key_hosts["ANTHROPIC_API_KEY"] == ("api.anthropic.com",)


@pytest.mark.parametrize(
    ("key", "base_url", "may"),
    [
        ("OPENAI_API_KEY", "https://api.openai.com/v1", True),
        ("OPENAI_API_KEY", "https://evil.example/v1", False),
        ("OPENAI_API_KEY", "https://api.openai.com.evil.example/v1", False),
        ("MY_KEY", "https://h.example/v1", True),
        ("MY_KEY", "https://other.example/v1", False),
        ("HOME", "https://h.example/v1", False),
        (None, "https://other.example/v1", True),
    ],
)
def test_a_deployment_added_on_the_page_takes_a_key_only_to_the_hosts_it_is_bound_to(
    key: str | None, base_url: str, may: bool
) -> None:
    config = read('[keys.MY_KEY]\nhosts = ["h.example"]\n')
    added = replace(PAGE, key_env=key, base_url=base_url)
    if may:
        validate(added, config)
    else:
        with pytest.raises(ConfigError, match=f"may not send {key}"):
            validate(added, config)


def test_a_deployment_added_on_the_page_does_not_send_its_key_unencrypted() -> None:
    config = read('[keys.MY_KEY]\nhosts = ["h.example", "localhost"]\n')
    with pytest.raises(ConfigError, match="unencrypted"):
        validate(replace(PAGE, key_env="MY_KEY", base_url="http://h.example/v1"), config)
    validate(replace(PAGE, key_env="MY_KEY", base_url="http://localhost:8080/v1"), config)


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 81},
        {"name": "a\nb"},
        {"name": "a\u202eb"},
        {"model": " "},
        {"id": "../x"},
        {"id": "a b"},
        {"kind": "bedrok"},
        {"wire": "messages"},
        {"labels": ("",)},
        {"context_tokens": 0},
        {"base_url": "embedded://main"},
        {"base_url": ""},
        {"extra_body": {"a": object()}},
        {"extra_body": {"a": float("nan")}},
        {"limits": Limits(idle_s=float("nan"))},
        {"price": PriceRef(per_hour="x")},
    ],
)
def test_a_deployment_from_the_page_is_checked_like_one_in_the_file(change: dict[str, Any]) -> None:
    validate(PAGE, Config())
    with pytest.raises(ConfigError):
        validate(replace(PAGE, **change), Config())


# --- as text ---------------------------------------------------------------------------------------------------------

words = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=8)
plain = st.one_of(st.booleans(), st.integers(-(2**53), 2**53), words, st.floats(-1e6, 1e6, allow_nan=False))
rates = st.decimals("0", "1000", places=4).map(lambda value: format(value, "f"))
deployments = st.builds(
    Deployment,
    id=words,
    name=words,
    kind=st.just("openai-compatible"),
    model=words,
    base_url=st.just("http://10.0.0.5:8000/v1"),
    wire=st.just("chat"),
    key_env=st.none() | st.just("MY_KEY"),
    region=st.none() | words,
    params=st.none() | st.just(("temperature", "stop")),
    price=st.one_of(
        st.just(PriceRef()),
        st.builds(PriceRef, provider=words, model=st.none() | words),
        st.builds(PriceRef, per_hour=rates),
        st.builds(PriceRef, override=st.fixed_dictionaries({"input": rates, "output": rates})),
    ),
    color_slot=st.integers(0, 20),
    enabled=st.booleans(),
    headers=st.dictionaries(st.just("x-h"), words),
    limits=st.builds(Limits, idle_s=st.integers(1, 100).map(float)),
    context_tokens=st.none() | st.integers(1, 10**7),
    labels=st.lists(words, max_size=2).map(tuple),
    extra_body=st.dictionaries(words, plain | st.lists(plain) | st.dictionaries(words, plain), max_size=3),
    note=words,
)


@settings(max_examples=40)
@given(deployments)
def test_a_deployment_survives_json_unchanged(one: Deployment) -> None:
    assert Deployment.from_json(json.loads(json.dumps(one.to_json()))) == one


@settings(max_examples=40)
@given(deployments)
def test_a_deployment_survives_toml_unchanged(one: Deployment) -> None:
    one = replace(one, id="an-id", color_slot=0, key_env=None)
    try:
        found = read(to_toml(one)).deployments[0]
    except ConfigError as error:
        assert (
            "looks like a key" in str(error) or "HTTP does not allow" in str(error) or "fills in itself" in str(error)
        )
    else:
        assert found == one


def test_a_snapshot_of_another_version_can_be_read() -> None:
    row = {**PAGE.to_json(), "from_the_future": 1, "limits": {"idle_s": 7.0, "new_s": 1}}
    del row["labels"], row["note"]
    assert Deployment.from_json(row) == replace(PAGE, limits=Limits(idle_s=7.0))


def test_an_identifier_is_short_plain_and_not_taken() -> None:
    assert slug("SmolLM2 · 1 thread", ()) == "smollm2-1-thread"
    assert slug("Café GPT-6.1", {"cafe-gpt-6-1"}) == "cafe-gpt-6-1-2"
    assert slug("模型", {"deployment"}) == "deployment-2"
    assert len(slug("x" * 200, ())) == 48


def test_a_file_that_is_nested_too_deeply_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nested too deeply"):
        parse(Source("deployments.toml", "x = " + "[" * 5000))


def test_days_beyond_any_calendar_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"36,500 or less"):
        parse(Source("deployments.toml", "[privacy]\ntext_days = 999999999999999"))


@pytest.mark.parametrize(
    "pasted", ["qwertyuiopasdfghjklzxcvbnmqwerty", "QWERTYUIOPASDFGHJKLZXCVBNM", "sk-proj-1234567890"]
)
def test_what_looks_like_a_pasted_key_is_no_name_of_a_variable(pasted: str) -> None:
    assert not is_key_name(pasted)


@pytest.mark.parametrize("name", ["OPENAI_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "HUGGINGFACEHUB_API_TOKEN"])
def test_usual_names_of_variables_are_names(name: str) -> None:
    assert is_key_name(name)


def test_a_number_that_python_cannot_read_is_a_sentence_with_its_line(tmp_path: Path) -> None:
    head, file = '[[deployment]]\nname = "x"\nkind = "openai"\nmodel = "m"\n', tmp_path / "deployments.toml"
    flaws = []
    for number in ("9" * 5000, "-" + "9" * 5000, "0x" + "f" * 4000, "1e99999999999999999999", "1_" * 4400 + "1"):
        for field in ("price = { input = %s }", "params = { a = [%s] }", "context_tokens = %s"):
            file.write_text(head + field % number + "\n")
            try:
                load(file)
                flaws.append((number[:9], field, "it was taken"))
            except ConfigError as error:
                if "line 5: this is not valid TOML (a" not in str(error) or len(str(error)) > 200:
                    flaws.append((number[:9], field, str(error)[:200]))
    assert not flaws, flaws


def test_only_an_ordinary_file_of_bounded_size_is_read(tmp_path: Path) -> None:
    pipe, folder, large = tmp_path / "pipe", tmp_path / "folder", tmp_path / "large"
    os.mkfifo(pipe)
    folder.mkdir()
    with large.open("wb") as file:
        file.truncate(2**40)
    cases = {pipe: "a pipe, not a file", Path("/dev/zero"): "a device", folder: "a folder", large: "more than 4 MB"}
    for path, words in cases.items():
        with pytest.raises(ConfigError, match=words):
            load(path)
    assert load(Path(os.devnull)).deployments == ()
