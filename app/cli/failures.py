"""What ended a command, in words: whatever it is, a person is told a sentence and not a traceback."""

from __future__ import annotations

import sqlite3
import sys
import traceback
from datetime import UTC, datetime
from itertools import pairwise

import psycopg
from sqlalchemy.exc import SQLAlchemyError

from app.cli.terminal import output_failed
from db.engine import Refused, sentence_of
from db.migrate import DatabaseTooNew
from db.writer import WriteFailed
from services import paths
from services.deployments.toml_table import ConfigError
from services.engine_connection import EngineError
from services.security import keys

WITH_SENTENCE = (DatabaseTooNew, Refused, WriteFailed, ConfigError, EngineError)  # their texts are sentences


def describe_error(error: Exception) -> str:
    """One sentence for the person at the terminal, without keys."""
    return keys.scrub(_sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, WITH_SENTENCE):
        return str(error)
    if isinstance(error, OSError):
        if output_failed(error):
            return f"The output cannot be written ({error.strerror or error}): send it elsewhere."
        if error.errno is None or isinstance(error, paths.Unusable):
            return str(error)
        if not error.filename:
            return f"The data directory cannot be used: {error.strerror}; give another with --data."
        return f"{error.filename} cannot be used ({error.strerror}): see that you may read and write it."
    if isinstance(error, (SQLAlchemyError, sqlite3.Error, psycopg.Error)):
        return sentence_of(error)
    return f"This could not be done ({type(error).__name__}). {_keep_traceback(error)}"


def _keep_traceback(error: Exception) -> str:
    """Where the traceback was put, for whoever reports it."""
    report = keys.scrub("".join(traceback.format_exception(error)))
    try:
        log = paths.data_dir(_data_option()) / "logs" / "lab.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}\n{report}\n")
    except (OSError, ValueError):
        return "Please report it with the command that you gave."
    return f"What happened is in {log}: please report it."


def _data_option() -> str | None:
    for option, word in pairwise([*sys.argv, ""]):
        if option == "--data":
            return word or None
        if option.startswith("--data="):
            return option.removeprefix("--data=") or None
    return None
