"""A broken `.streamlit/config.toml`, and sign-in that is half set up: said in words, and neither stops the pages."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit import config

from app import streamlit_config
from tests.lab_command import run_lab

BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no text": (lambda file: file.write_bytes(b"[server]\nx = '\xff'\n"), "in line 2 that are not UTF-8"),
    "a folder": (lambda file: file.mkdir(), "it is a folder"),
    "a pipe": (os.mkfifo, "it is a pipe"),
    "no TOML": (lambda file: file.write_text("\nx = [\n"), "is no TOML (line 2"),
    "a long number": (lambda file: file.write_text("[server]\nport = " + "9" * 5000), "more than 4,300 digits"),
    "theme of nobody": (lambda file: file.write_text('[theme]\nbase = "nix"\n'), "line 2; it can be light or dark"),
    "theme as a number": (lambda file: file.write_text("[theme]\nbase = 3\n"), "line 2; it can be light or dark"),
    "no section": (lambda file: file.write_text("# x\nport = 8501\n"), "“port” outside of any section (line 2)"),
    "large": (lambda file: file.write_text("# " + "x" * 2**21), "more than 1 MB"),
}


def test_broken_settings_of_the_pages_are_said_and_kept_from_streamlit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    flaws = []
    for name, (make, words) in BROKEN.items():
        root = tmp_path / name
        (root / ".streamlit").mkdir(parents=True)
        make(root / ".streamlit" / "config.toml")
        with monkeypatch.context() as patch:
            patch.chdir(root)
            patch.setattr(streamlit_config, "ROOT", root)
            patch.setattr(config, "get_config_files", config.get_config_files)  # put back at the end
            said = streamlit_config.trouble() or ""
            if words not in said or str(root) not in said:
                flaws.append((name, said))
            streamlit_config.keep_from_streamlit()
            if config.get_option("theme.base") is not None:
                flaws.append((name, "Streamlit read it"))
    config.get_config_options(force_reparse=True)
    assert not flaws, flaws


def test_settings_that_only_streamlit_refuses_stop_no_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text("[theme.sidebar.light]\ntextColor = 'red'\n")
    with monkeypatch.context() as patch:
        patch.setenv("HOME", str(tmp_path))
        patch.chdir(tmp_path)
        patch.setattr(streamlit_config, "ROOT", tmp_path)
        patch.setattr(config, "get_config_files", config.get_config_files)
        streamlit_config.keep_from_streamlit()
        assert config.get_option("server.port") == 8501
    config.get_config_options(force_reparse=True)


@pytest.mark.slow
def test_doctor_names_broken_settings_and_sign_in_that_is_half_set_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text("x = [\n")
    secrets = tmp_path / ".streamlit" / "secrets.toml"
    monkeypatch.setenv("HOME", str(tmp_path))
    wrong = []
    for text, words in (
        ('[auth]\nclient_id = "a"\n', 'lacks "redirect_uri"'),
        ('[google]\nredirect_uri = "http://x/oauth2callback"\n', "they belong under [auth]"),
        ("[auth\nclient_id = 3", "Nobody can sign in: secrets.toml has a mistake in line 1"),
        ('OTHER_KEY = "abcdefghijk"\n', ""),
    ):
        secrets.write_text(text)
        done = run_lab("doctor", "--json", "--data", tmp_path / "data", "--deployments", tmp_path / "none.toml")
        said = {row["what"]: row["says"] for row in map(json.loads, done.stdout.splitlines())}
        if words not in said.get("sign-in", "") or bool(words) != ("sign-in" in said):
            wrong.append((text, said))
        assert "is no TOML (line 1" in said["config.toml"]
    assert not wrong, wrong
