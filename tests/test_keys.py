"""Keys are found by name, go only where they are bound to, and are in nothing that is written."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from urllib.parse import quote

import pytest
from sqlalchemy.exc import ArgumentError

from db.engine import Refused, database_url, sentence_of
from services.security import keys
from services.security.keys import HIDDEN, KeyStore, allowed_host, scrub

# Twelve planted canaries; none is a real key, and those that are "loaded" look like nothing in particular.
LOADED = {
    "LAB_CANARY_API_KEY": "Zq7plainvaluewithoutanyshape01",
    "LAB_CANARY_TOKEN": "tok/with+odd=chars&more%02",
    "LAB_CANARY_SECRET": 'quote"and\\backslash03',
}
SHAPED = [
    "sk-ant-" + "api03-canary04AAAA_BBBB-CCCC",
    "sk-" + "proj-canary05DDDDEEEEFFFF",
    "AKIA" + "CANARY06GGGGHHHH",
    "ASIA" + "CANARY07IIIIJJJJ",
    "gsk_" + "canary08KKKKLLLLMMMM",
    "AIza" + "Syccanary09NNNNOOOOPPPPQQQQRRRRSSSSTTT",
    "eyJ" + "canary10UUUU.VVVVWWWWXXXX.YYYYZZZZ",
]
CARRIED = {
    "Bearer canary11-opaque-value": "canary11-opaque-value",
    "https://bucket.example/x?X-Amz-Signature=canary12deadbeef&a=1": "canary12deadbeef",
}


@pytest.fixture
def canaries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for name, value in LOADED.items():
        monkeypatch.setenv(name, value)
    planted = [*LOADED.values(), *SHAPED, *CARRIED]
    assert len(planted) == 12
    return planted


def clean(text: str) -> bool:
    return not re.search(r"canary(?:0[4-9]|1[0-2])", text, re.IGNORECASE) and not any(
        value in text for value in LOADED.values()
    )


def test_scrub_takes_out_all_twelve_canaries_and_leaves_the_words_between(canaries: list[str]) -> None:
    text = " | ".join(f"before {one} after" for one in canaries)
    found = scrub(text)
    assert clean(found)
    assert found.count("before") == found.count("after") == 12
    assert found.count(HIDDEN) == 12


@pytest.mark.parametrize("value", LOADED.values())
def test_a_loaded_value_is_found_in_its_url_and_json_forms_too(canaries: list[str], value: str) -> None:
    for text in (f"https://h.example/?q={quote(value, safe='')}", repr({"x": value}), f"{value!a}"):
        found = scrub(text)
        assert value not in found and quote(value, safe="") not in found


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Authorization: Bearer abcdefghijkl", "Authorization: [hidden]"),
        ("{'Authorization': 'Bearer abcdefghijkl'}", "{'Authorization': '[hidden]'}"),
        ("{'x-api-key': 'abcdefghijkl', 'a': 1}", "{'x-api-key': '[hidden]', 'a': 1}"),
        ("[(b'x-api-key', b'abcdefghijkl')]", "[(b'x-api-key', b'[hidden]')]"),
        ('{"api_key": "abcdefghijkl"}', '{"api_key": "[hidden]"}'),
        ("GET /v1?key=abcdefghijkl&alt=sse", "GET /v1?key=[hidden]&alt=sse"),
        ("https://user:pa55w0rd@host.example/v1", "https://[hidden]@host.example/v1"),
        ("postgresql://lab:hunter22@db/lab", "postgresql://[hidden]@db/lab"),
        ("Authorization: Basic dXNlcjpwYXNzd29yZA==", "Authorization: [hidden]"),
        ("bearer abcdefghijkl", "bearer [hidden]"),
        ("Incorrect API key provided: sk-proj-abc***wxyz.", "Incorrect API key provided: [hidden]."),
    ],
)
def test_a_key_is_hidden_in_the_forms_that_errors_show_it_in(text: str, wanted: str) -> None:
    assert scrub(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected token: something at line 3",
        "max_tokens: 4096 must be at most 2048",
        "rows.sort(key=len) for the risk-averse, task-oriented reader",
        "Rate limit reached for gpt-6-luna in organization org on tokens per min (TPM): Limit 200000",
        "the model's key insight, as a whole, is the attention: softmax",
        "from huggingface_hub import hf_hub_download",
        "https://api.openai.com/v1/chat/completions",
        "Keys come from .streamlit/secrets.toml by name: needs ANTHROPIC_API_KEY",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert scrub(text) == text


def test_a_key_is_found_in_the_environment_first_and_then_in_the_secrets_file(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('A_KEY = "from-the-file"\nB_KEY = " also-from-file "\nN = 5\n[auth]\nC_KEY = "nested-value-1"\n')
    store = KeyStore({"A_KEY": "from-the-environment", "E_KEY": ""}, [path])
    assert store.lookup("A_KEY") == "from-the-environment"
    assert store.lookup("B_KEY") == "also-from-file"
    assert store.lookup("C_KEY") is store.lookup("N") is store.lookup("E_KEY") is store.lookup("MISSING") is None
    assert {"from-the-environment", "also-from-file", "nested-value-1"} <= store.known_values()


def test_a_secrets_file_that_changes_is_read_again_and_old_values_stay_hidden(tmp_path: Path) -> None:
    path = tmp_path / "secrets.toml"
    store = KeyStore({}, [path])
    assert store.lookup("A_KEY") is None
    path.write_text('A_KEY = "first-value"\n')
    assert store.lookup("A_KEY") == "first-value"
    path.write_text('A_KEY = "a-second-value"\n')
    assert store.lookup("A_KEY") == "a-second-value"
    path.unlink()
    assert store.lookup("A_KEY") is None
    assert store.scrub("first-value a-second-value") == f"{HIDDEN} {HIDDEN}"


def test_a_broken_secrets_file_costs_the_keys_in_it_and_is_not_quoted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('A_KEY = "unfinished-secret\n')
    assert KeyStore({}, [path]).lookup("A_KEY") is None
    assert "unfinished-secret" not in caplog.text
    assert "secrets.toml" in caplog.text


def test_a_value_that_was_looked_up_is_hidden_whatever_its_name_is() -> None:
    store = KeyStore({"ORDINARY": "looked-up-value", "UNASKED": "never-looked-up"}, [])
    assert store.scrub("looked-up-value") == "looked-up-value"
    store.lookup("ORDINARY")
    assert store.scrub("looked-up-value never-looked-up") == f"{HIDDEN} never-looked-up"


def test_short_values_are_not_hidden_because_they_would_be_found_everywhere() -> None:
    assert KeyStore({"A_KEY": "abc1234"}, []).scrub("xabc1234x") == "xabc1234x"


def test_the_pattern_is_built_once_until_a_secret_changes() -> None:
    environ = {"A_KEY": "first-value"}
    store = KeyStore(environ, [])
    store.scrub("x")
    built = store._pattern
    store.scrub("y")
    assert store._pattern is built
    environ["A_KEY"] = "second-value"
    assert store.scrub("second-value") == HIDDEN
    assert store._pattern is not built


@pytest.mark.parametrize(
    ("key", "host", "may"),
    [
        ("ANTHROPIC_API_KEY", "api.anthropic.com", True),
        ("ANTHROPIC_API_KEY", "https://api.anthropic.com/v1", True),
        ("ANTHROPIC_API_KEY", "API.Anthropic.com.:443", True),
        ("ANTHROPIC_API_KEY", "api.openai.com", False),
        ("ANTHROPIC_API_KEY", "api.anthropic.com.evil.example", False),
        ("ANTHROPIC_API_KEY", "evil-api.anthropic.com", False),
        ("OPENAI_API_KEY", "https://evil.example/api.openai.com", False),
        ("MY_KEY", "vllm.internal:8000", True),
        ("MY_KEY", "vllm.internal", True),
        ("MY_KEY", "gpu.internal:9000", True),
        ("MY_KEY", "gpu.internal:9001", False),
        ("MY_KEY", "[::1]:8000", True),
        ("MY_KEY", "::1", True),
        ("OTHER_KEY", "vllm.internal", False),
        ("OTHER_KEY", "", False),
    ],
)
def test_a_key_goes_only_to_the_hosts_it_is_bound_to(key: str, host: str, may: bool) -> None:
    assert allowed_host(key, host, {"MY_KEY": ("vllm.internal", "gpu.internal:9000", "::1")}) is may


# --- logging ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def filtered() -> None:
    factory, hooks = logging.getLogRecordFactory(), (sys.excepthook, threading.excepthook)
    keys.install_log_filter()
    yield
    logging.setLogRecordFactory(factory)
    sys.excepthook, threading.excepthook = hooks
    for handler in logging.getLogger().handlers:
        handler.filters = [one for one in handler.filters if not isinstance(one, keys._Scrubbed)]


def logged(tmp_path: Path, write: object) -> str:
    handler = logging.FileHandler(tmp_path / "log.txt")
    handler.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("canary")
    logger.addHandler(handler)
    logger.propagate = False  # pytest's own handler raises what others print
    try:
        write(logger)  # type: ignore[operator]  # a callable, whatever it takes
    finally:
        logger.propagate = True
        logger.removeHandler(handler)
        handler.close()
    return (tmp_path / "log.txt").read_text()


def test_messages_arguments_and_tracebacks_hold_no_key(canaries: list[str], filtered: None, tmp_path: Path) -> None:
    def write(logger: logging.Logger) -> None:
        for one in canaries:
            logger.warning("plain " + one)
            logger.warning("argument %s and %r", one, {"headers": [one]})
            try:
                try:
                    raise ConnectionError(f"could not send {one}")
                except ConnectionError as error:
                    raise RuntimeError(f"wrapped {one}") from error
            except RuntimeError:
                logger.exception("failed with %s", one, stack_info=True)

    text = logged(tmp_path, write)
    assert clean(text)
    assert text.count("plain") >= 12 and text.count("RuntimeError: wrapped") == 12
    assert "Traceback (most recent call last)" in text and "direct cause" in text and "Stack (most recent" in text


def test_a_record_keeps_its_number_of_arguments_so_that_access_logs_still_format(filtered: None) -> None:
    seen: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = seen.append  # type: ignore[method-assign]  # the shortest handler there is
    logger = logging.getLogger("canary.access")
    logger.addHandler(handler)
    logger.warning("%s %s %d", "GET", "/x?key=abcdefghijkl", 200)
    logger.removeHandler(handler)
    assert seen[0].args == ("GET", "/x?key=[hidden]", 200)


def test_a_wrong_format_string_is_still_only_a_logging_error(
    filtered: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = logged(tmp_path, lambda logger: logger.warning("%d items " + SHAPED[0], "many"))
    assert clean(text) and clean(capsys.readouterr().err)


def test_the_root_handlers_filter_reaches_extra_fields_and_unpickled_records(canaries: list[str]) -> None:
    record = logging.makeLogRecord({"msg": "m %s", "args": (canaries[0],), "headers": canaries[3], "levelname": "INFO"})
    assert keys._Scrubbed().filter(record)
    assert clean(f"{record.getMessage()} {record.headers}")  # type: ignore[attr-defined]  # given above


def test_an_uncaught_error_in_a_process_or_a_thread_is_printed_without_its_key(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import logging, os, threading
        from services.security import keys
        logging.basicConfig()
        keys.install_log_filter(); keys.install_log_filter()
        def fail(): raise ValueError("thread " + os.environ["LAB_CANARY_API_KEY"])
        worker = threading.Thread(target=fail); worker.start(); worker.join()
        logging.getLogger("x").error("logged %s", os.environ["LAB_CANARY_API_KEY"])
        raise ValueError("process " + os.environ["LAB_CANARY_API_KEY"])
    """)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **LOADED, "PYTHONPATH": str(keys.PROJECT)},
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert clean(done.stdout + done.stderr)
    for words in ("ValueError: thread", "ValueError: process", "logged [hidden]"):
        assert words in done.stderr


BROKEN = {
    "no quotes": (b'GOOD_KEY = "value-good-1"\nBAD_KEY = sk-ant-canary04AAAABBBB\n', "line 2"),
    "no closing quote": (b'BAD_KEY = "sk-ant-canary04AAAABBBB\nGOOD_KEY = "value-good-1"\n', "line 1"),
    "a name twice": (b'\n\nBAD_KEY = "value-one-1"\nBAD_KEY = "value-two-2"\n', "line 4"),
    "a table twice": (b'[auth]\nx = "1"\n[auth]\ny = "2"\n', "line 3"),
    "no equals sign": (b"\nBAD_KEY\n", "line 2"),
    "typographic quotes": ("BAD_KEY = “sk-ant-canary04AAAABBBB”\n".encode(), "line 1"),
    "not UTF-8": (b'# ok\nBAD_KEY = "sk-ant-\xff\xfecanary04"\n', "line 2"),
    "UTF-16": ('BAD_KEY = "sk-ant-canary04AAAABBBB"\n'.encode("utf-16"), "line 1"),
    "a control character": (b'A = "1"\nBAD_KEY = "sk-ant-canary04\x00AAAA"\n', "line 2"),
    "cut off in the middle": (b'A = "1"\n\nBAD_KEY = """sk-ant-canary04', "line 3"),
    "very deep": (b"BAD_KEY = " + b"[" * 20_000, ""),
    "very large": (b"# " + b"x" * 2**20 + b"\n", ""),
}


def test_a_slip_in_the_secrets_file_is_one_sentence_with_its_line_and_what_was_read_before_stays(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: dict[str, str | None] = {}
    for n, (name, (content, line)) in enumerate(BROKEN.items()):
        path = tmp_path / f"{n}.toml"
        path.write_text('BAD_KEY = "the-value-before"\n')
        store = KeyStore({}, [path])
        assert store.lookup("BAD_KEY") == "the-value-before" and store.trouble() is None
        path.write_bytes(content)
        sentence = store.trouble()
        good = (
            sentence is not None
            and line in sentence
            and "still used" in sentence
            and not re.search("canary|\n|Traceback", sentence)
            and store.lookup("BAD_KEY") == "the-value-before"
        )
        path.write_text('BAD_KEY = "the-value-after"\n')
        if not good or store.trouble() is not None or store.lookup("BAD_KEY") != "the-value-after":
            wrong[name] = sentence
        fresh = KeyStore({}, [tmp_path / "none.toml", path])
        path.write_bytes(content)
        if "none of its keys is used" not in (fresh.trouble() or ""):
            wrong[f"{name}, from the start"] = fresh.trouble()
    assert wrong == {}
    assert not re.search("canary", caplog.text)


def test_what_is_no_file_is_a_sentence_too(tmp_path: Path) -> None:
    folder, pipe, loop = tmp_path / "folder", tmp_path / "pipe", tmp_path / "loop"
    folder.mkdir()
    os.mkfifo(pipe)
    loop.symlink_to(loop)
    sentences = [KeyStore({}, [path]).trouble() for path in (folder, pipe, loop)]
    assert [sentence is not None and "\n" not in sentence for sentence in sentences] == [True, True, True]
    assert KeyStore({}, [tmp_path / "missing" / "secrets.toml"]).trouble() is None


@pytest.mark.slow
def test_a_broken_secrets_file_hangs_nothing_that_logs(tmp_path: Path) -> None:
    """The log asks the keys, the keys log: in a process of its own, since what hangs cannot be ended otherwise."""
    (tmp_path / ".streamlit").mkdir()
    secrets = tmp_path / ".streamlit" / "secrets.toml"
    secrets.write_text("OPENAI_API_KEY = sk-without-quotes\n")
    program = """
        import logging, pathlib, threading
        from services.security import keys
        logging.basicConfig(level="INFO", format="%(message)s")
        keys.install_log_filter()
        logging.info("first")
        secrets = pathlib.Path(".streamlit/secrets.toml")
        def write(n):
            for i in range(50):
                secrets.write_text(f"A_KEY = {n}{i}x")
                logging.info("thread %d says %d", n, i)
                keys.remember(f"remembered-{n}-{i}")
                keys.lookup("A_KEY"), keys.names("A"), keys.known_values(), keys.trouble()
        threads = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print("done", keys.trouble())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(keys.PROJECT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.startswith("done .streamlit/secrets.toml has a mistake in line 1"), done.stderr[-2000:]
    assert "Traceback" not in done.stderr


def test_keys_are_found_where_the_folder_that_we_were_started_in_is_gone(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    program = "import os; os.rmdir(os.getcwd()); from services.security import keys; print(keys.lookup('LAB_GONE_KEY'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=gone,
        env={**os.environ, "PYTHONPATH": str(keys.PROJECT), "LAB_GONE_KEY": "value-gone-1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.strip() == "value-gone-1", done.stderr[-500:]


def test_the_examples_of_our_own_sentences_are_left_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "lab")
    with pytest.raises(Refused) as refused:
        database_url(Path())
    for sentence in (str(refused.value), sentence_of(ArgumentError())):
        assert keys.scrub(sentence) == sentence and "postgresql://" in sentence


def test_a_key_with_quotes_backslashes_and_umlauts_is_found_in_json_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", value := 'p"ass\\wörd-123456')
    for text in (json.dumps({"x": value}), json.dumps({"x": value}, ensure_ascii=False)):
        assert "ass" not in scrub(text), text
