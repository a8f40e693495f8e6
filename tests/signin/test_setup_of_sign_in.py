"""A sign-in that is set up wrongly says what is missing, and makes nobody the local administrator."""

from __future__ import annotations

import gzip
import os
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from app.access import sign_in
from tests.signin.house import House, Visitor, pages, port_for

pytestmark = pytest.mark.slow

GOOD = """
[auth]
redirect_uri = "https://lab.example.com/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
client_id = "lab"
client_secret = "s"
server_metadata_url = "https://id.example.com/.well-known/openid-configuration"
"""
NAMED = """
[auth]
redirect_uri = "http://localhost:{port}/oauth2callback"
cookie_secret = "0123456789abcdef0123456789abcdef"
[auth.first]
client_id = "one"
client_secret = "s"
server_metadata_url = "https://id.example.com/.well-known/openid-configuration"
client_kwargs = { prompt = "login" }
[auth.second]
client_id = "two"
client_secret = "s"
server_metadata_url = "https://id2.example.com/.well-known/openid-configuration"
"""


def without(key: str) -> str:
    """The good file, one line less."""
    return "\n".join(line for line in GOOD.splitlines() if not line.startswith(key))


BROKEN = {
    **{f"without {key}": (without(key), f'"{key}" in [auth]') for key in (*sign_in.SHARED, *sign_in.OF_PROVIDER)},
    **{
        f"{key} is {value}": (f"{without(key)}\n{key} = {value}", f'"{key}" in [auth]')
        for key in (*sign_in.SHARED, *sign_in.OF_PROVIDER)
        for value in ('""', '"  "', "7", "[]")
    },
    "an empty section": ("[auth]", "is empty"),
    "a word": ('auth = "google"', "is empty"),
    "a list": ("auth = []", "is empty"),
    "another name": (GOOD.replace("[auth]", "[auht]"), "under [auht]; they belong under [auth]"),
    "in capitals": (GOOD.replace("[auth]", "[Auth]"), "under [Auth]; they belong under [auth]"),
    "two deep": (GOOD.replace("[auth]", "[auth.auth]"), '"cookie_secret" in [auth]'),
    "no header": (GOOD.replace("[auth]", ""), "outside of any section"),
    "a list of sections": (GOOD.replace("[auth]", "[[auth]]"), "is empty"),
    "below another section": (GOOD.replace("[auth]", "[login.auth]"), "under [login.auth]; they belong under [auth]"),
    "names in capitals": (
        '[oidc]\nREDIRECT_URI = "x"\nCOOKIE_SECRET = "y"\n',
        "under [oidc]; they belong under [auth]",
    ),
    "only the client": ('[authentication]\nclient_id = "x"\nclient_secret = "y"\n', "under [authentication]"),
    "a guessable secret": (GOOD.replace("0123456789abcdef0123456789abcdef", "xxx"), "shorter than 32 characters"),
    "another path": (GOOD.replace("/oauth2callback", "/"), "redirect_uri in [auth]"),
    "no host": (GOOD.replace("https://lab.example.com", ""), "redirect_uri in [auth]"),
    "a port that goes without saying": (
        GOOD.replace("lab.example.com", "lab.example.com:443"),
        "begin with https://lab.e",
    ),
    "capitals in the host": (GOOD.replace("lab.example", "Lab.Example"), "begin with https://lab.example.com"),
    "capitals in the scheme": (GOOD.replace('"https://lab', '"HTTPS://lab'), "begin with https://lab.example.com"),
    "no scheme": (GOOD.replace("https://id.", "id."), "server_metadata_url in [auth]"),
    "a broken host": (GOOD.replace("https://id.example.com", "https://[x"), "server_metadata_url in [auth]"),
    "one provider of two": (NAMED.replace('client_id = "two"', ""), '"client_id" in [auth.second]'),
    "an underscore": (NAMED.replace("auth.first", "auth.fir_st"), "[auth.fir_st] of secrets.toml has an underscore"),
}


def test_each_way_to_write_it_wrongly_is_named_in_one_sentence() -> None:
    differs = {}
    for case, (text, part) in BROKEN.items():
        how = sign_in.judged(tomllib.loads(text))
        if how.state != "broken" or part not in how.trouble or how.trouble.count(". ") != 1:
            differs[case] = (how.state, how.trouble)
    assert not differs


def test_what_is_right_is_taken_and_what_is_not_about_sign_in_is_left_alone() -> None:
    assert dict(sign_in.judged(tomllib.loads(GOOD)).clients) == {"default": "lab"}
    assert dict(sign_in.judged(tomllib.loads(NAMED)).clients) == {"first": "one", "second": "two"}
    for text in ("", 'ANTHROPIC_API_KEY = "sk"', '[other]\nclient_id = "x"'):
        assert sign_in.judged(tomllib.loads(text)).state == "off"


# What lies where secrets.toml should → part of the sentence; None: nobody has to sign in.
FILES: dict[str, tuple[str | bytes | None, str | None]] = {
    "a typo": (
        GOOD + 'API_KEY = "sk-1234567890',
        "secrets.toml has a mistake in line 8 and cannot be read, and it may",
    ),
    "another encoding": (GOOD.encode() + b'\nNAME = "\xe4"', "holds bytes in line 9 that are not UTF-8, and it may"),
    "UTF-16": (GOOD.encode("utf-16"), "holds bytes in line 1 that are not UTF-8, and it may"),
    "compressed": (gzip.compress(GOOD.encode()), "holds bytes in line 1 that are not UTF-8, and it may"),
    "a folder": (None, "secrets.toml is not an ordinary file, and it may"),
    "a pipe": (None, "secrets.toml is not an ordinary file, and it may"),
    "a date": (GOOD + "since = 2026-11-30", "[auth] of secrets.toml holds a value that is neither text"),
    "not complete": (without("cookie_secret"), 'secrets.toml lacks "cookie_secret" in [auth]'),
    "a typo among keys": ('OPENAI_API_KEY = "x', None),
    "a comment in another encoding": ('# Schlüssel\nOPENAI_API_KEY = "x"'.encode("latin-1"), None),
}


def test_a_file_that_cannot_be_read_opens_no_door_that_it_may_have_closed(tmp_path: Path) -> None:
    differs = {}
    for number, (case, (text, part)) in enumerate(FILES.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        if case == "a folder":
            (folder / ".streamlit" / "secrets.toml").mkdir(parents=True)
        if case == "a pipe":
            (folder / ".streamlit").mkdir()
            os.mkfifo(folder / ".streamlit" / "secrets.toml")
        with pages(folder, text, port_for(20 + number)) as house:
            seen = Visitor(house).look()
            inside = "Send one prompt" in seen.words
            if inside if part is not None else not inside:
                differs[case] = seen.words
            if part is not None and (part not in seen.words or "start the app again" not in seen.words):
                differs[case] = seen.words or _tail(house)
    assert not differs


def test_what_becomes_of_the_file_while_people_sign_in_lets_nobody_in_and_hangs_nothing(tmp_path: Path) -> None:
    port = port_for(31)
    text = NAMED.replace("{port}", str(port))
    file = tmp_path / ".streamlit" / "secrets.toml"
    later: dict[str, Callable[[], object]] = {
        "emptied": lambda: file.write_text(""),
        "only other keys": lambda: file.write_text('OPENAI_API_KEY = "x"\n'),
        "a typo": lambda: file.write_text(text + '"'),
        "not a table": lambda: file.write_text('auth = "x"\n'),
        "not UTF-8": lambda: file.write_bytes(text.encode("utf-16")),
        "gone": lambda: file.unlink(),
        "a pipe": lambda: os.mkfifo(file),
        "mended": lambda: (file.unlink(), file.write_text(text)),
    }
    with pages(tmp_path, text, port) as house:
        differs = {}
        for case, happens in later.items():
            happens()
            seen = Visitor(house).look()
            if "Send one prompt" in seen.words or set(seen.buttons) != {"Sign in with first", "Sign in with second"}:
                differs[case] = seen.words or _tail(house)
        assert not differs
        assert "Traceback" not in house.log


def test_each_of_several_providers_has_a_button_of_its_own(tmp_path: Path) -> None:
    port = port_for(30)
    with pages(tmp_path, NAMED.replace("{port}", str(port)), port) as house:
        visitor = Visitor(house)
        assert set(visitor.look().buttons) == {"Sign in with first", "Sign in with second"}
        assert visitor.press("Sign in with second").redirect.startswith("/auth/login?provider=")


def _tail(house: House) -> str:
    return house.log[-500:]
