"""`.streamlit/config.toml`, the look of the pages: whether it can be read, and how the pages start where it cannot."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services import toml_text
from services.paths import ROOT, regular
from services.security import keys

log = logging.getLogger(__name__)

NAME = "config.toml"
LARGEST = 2**20  # bytes
BASES = ("light", "dark")


def files() -> list[Path]:
    """Where Streamlit looks for its settings, the later one winning."""
    ours = ROOT / ".streamlit" / NAME
    try:
        return [Path.home() / ".streamlit" / NAME, ours]
    except RuntimeError:  # nobody knows where the home is
        return [ours]


def trouble() -> str | None:
    """Why the settings of the pages cannot be used, as a sentence with file and line; None when they can."""
    return next((sentence for file in files() if (sentence := _trouble_of(file))), None)


def _trouble_of(file: Path) -> str | None:
    why = _why_not(file)
    if why is None:
        return None
    return f"{file} {keys.scrub(why)}: the pages have their usual look until it is mended and they are started again."


def _why_not(file: Path) -> str | None:
    content = b""
    try:
        with regular(file) as opened:
            content = opened.read(LARGEST + 1)
        if len(content) > LARGEST:
            return f"has more than {LARGEST // 2**20} MB and is not read"
        text = content.decode("utf-8")
        return _unusable(toml_text.loads(text.replace("\r\n", "\n")), text)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return f"cannot be read ({error.strerror or type(error).__name__})"
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        return f"holds bytes in line {line} that are not UTF-8"
    except toml_text.NotToml as error:
        line = error.line or max(1, len(content.splitlines()))
        return f"is no TOML (line {line}: {error.what})"


def _unusable(sections: dict[str, Any], text: str) -> str | None:
    """What Streamlit would fail of although it is TOML."""
    for name, section in sections.items():
        if not isinstance(section, dict):
            return f"has “{name}” outside of any section (line {_line(name, text)})"
    base = sections.get("theme", {}).get("base")
    if base is None or base in BASES:
        return None
    if isinstance(base, str) and ("://" in base or (ROOT / base).is_file()):
        return None
    return f"has a theme base that there is not (line {_line('base', text)}; it can be light or dark)"


def _line(name: str, text: str) -> int:
    match = re.search(rf"(?m)^[ \t]*[\"']?{re.escape(name)}\b", text)
    return text.count("\n", 0, match.start()) + 1 if match else 1


def keep_from_streamlit() -> None:
    """See that Streamlit reads no settings that it would fail of, or wait for: call it before anything of Streamlit's
    asks for a setting, in the folder where it looks for them. It then starts with those that are passed in code.
    """
    unusable = {str(file) for file in files() if _why_not(file)}
    for file in unusable:
        log.warning("%s", _trouble_of(Path(file)))
    from streamlit import config

    listed: Callable[[str], list[str]] = config.get_config_files

    def readable(file_name: str) -> list[str]:
        return [file for file in listed(file_name) if file_name != NAME or file not in unusable]

    if unusable:
        config.get_config_files = readable
    try:
        config.get_config_options(force_reparse=True)
    except Exception as error:
        log.warning("%s cannot be used (%s): the pages have their usual look.", NAME, type(error).__name__)
        unusable |= set(listed(NAME))
        config.get_config_files = readable
        config.get_config_options(force_reparse=True)
