"""The settings that matter are code: a file of settings that is missing, or says otherwise, changes none of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.asgi import SETTINGS
from services.paths import ROOT

pytestmark = pytest.mark.slow

HOSTILE = """
[global]
developmentMode = true
[browser]
gatherUsageStats = true
[client]
allowedOrigins = ["https://evil.example"]
showErrorDetails = "full"
showErrorLinks = "true"
toolbarMode = "developer"
[runner]
magicEnabled = true
postScriptGC = true
[server]
corsAllowedOrigins = ["https://evil.example"]
enableAgentApi = true
enableCORS = false
enableStaticServing = true
enableXsrfProtection = false
fileWatcherType = "auto"
headless = false
maxUploadSize = 100000
runOnSave = true
"""
ASK = """
import json, app.asgi
from streamlit import config
print(json.dumps({name: config.get_option(name) for name in app.asgi.SETTINGS}))
"""


def test_no_file_of_settings_opens_what_is_closed(tmp_path: Path) -> None:
    differing = {}
    for case, text in (("missing", None), ("hostile", HOSTILE)):
        folder = tmp_path / case
        (folder / ".streamlit").mkdir(parents=True)
        if text is not None:
            (folder / ".streamlit" / "config.toml").write_text(text)
        told = subprocess.run(
            [sys.executable, "-c", ASK],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        ).stdout
        options = json.loads(told.splitlines()[-1])
        differing[case] = {name: options[name] for name in SETTINGS if options[name] != SETTINGS[name]}
    assert differing == {"missing": {}, "hostile": {}}
