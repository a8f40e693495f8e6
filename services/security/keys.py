"""Keys: found by the name of their variable, bound to hosts, and kept out of everything that is written.

A value is never put into an object of ours, a row, a page or a message. `scrub` takes out every value that is loaded,
and what merely looks like a key, from text that leaves the engine.
"""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import sys
import threading
import tomllib
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, quote_plus

log = logging.getLogger(__name__)
HIDDEN = "[hidden]"
SHORTEST = 8  # a shorter value would be found in ordinary text
LARGEST = 2**20  # bytes of a secrets.toml
PROJECT = Path(__file__).resolve().parents[2]
# Keys whose host is known without being told.
BUILT_IN_HOSTS: Mapping[str, tuple[str, ...]] = {
    "ANTHROPIC_API_KEY": ("api.anthropic.com",),
    "OPENAI_API_KEY": ("api.openai.com",),
}
SECRET_NAME = re.compile(r"(?i)api_?key|access_?key|secret|token|password|passwd|credential|_key$|^key$")
ABOUT_SIGN_IN = re.compile(r"(?i)auth|cookie_secret|redirect_uri|metadata_url|client_secret|client_id")
# Each starts at the start of a word and looks a bounded way ahead, so that hostile text costs linear time.
LOOKS_LIKE_KEY = re.compile(
    r"(?<![\w-])(?:sk-[A-Za-z0-9*_-]{8,}"
    r"|(?:sk|pk|rk|gsk|xai|hf|ghp|gho|github_pat|nvapi|r8)[-_](?=[A-Za-z0-9*_-]{0,64}\d)[A-Za-z0-9*_-]{8,}"
    r"|A(?:KIA|SIA)[A-Z0-9]{12,}|AIza[\w-]{30,}|ABSK[\w+/=]{20,}|eyJ[\w-]{8,4000}\.[\w-]{8,4000}\.[\w-]*)"
)
_VALUE = r"(?:(?:bearer|basic|aws4-hmac-sha256)\s+)?[^\s\"'&,;<>{}\\]{6,}"
# A bare word such as "token" is followed by a secret only after "=" or as a quoted name: prose says "Bad token: …".
_PATTERNS = (
    rf"(?P<key>{LOOKS_LIKE_KEY.pattern})",
    r"(?i:(?P<scheme>\b(?:bearer|basic)\s+)[A-Za-z0-9._~+/=*-]{6,})",
    r"(?P<user>\b[a-z][a-z0-9+.-]{1,20}://)[^\s/@\"'<>]{1,300}@",
    r"(?i:(?P<name>\b(?:"
    r"(?:(?:x-)?(?:\w{1,12}-)?api[_-]?key|access[_-]?key|secret[_-]?(?:access[_-]?)?key|authorization"
    r"|x-amz-(?:signature|security-token|credential))(?:[\"']?(?:=|%3D|\s?:\s?)|[\"'],\s?)"
    r"|(?:access_token|refresh_token|client_secret|password|key|token|sig|signature)(?:=|%3D|[\"']\s?[:,]\s?)"
    rf")b?[\"']?){_VALUE})",
)


@dataclass(frozen=True, slots=True)
class _Contents:
    """What one ``secrets.toml`` held when it could last be read, and what is wrong with it now."""

    strings: tuple[tuple[str, str], ...] = ()
    trouble: str | None = None


class KeyStore:
    """Reads keys by name: the environment first, then top-level strings of ``secrets.toml`` files, re-read on change.

    Values once seen stay known for `scrub`: a key that was replaced a minute ago is still a key. A file that cannot be
    read changes nothing: what was read from it before stays, and `trouble` says what is wrong.

    Every log record asks `scrub`, so whatever is logged here comes back here on the same thread: nothing is logged,
    and no file is read, while the lock is held.
    """

    def __init__(self, environ: Mapping[str, str] = os.environ, paths: Sequence[Path] | None = None) -> None:
        self._environ = environ
        self._paths = paths
        self._lock = threading.Lock()
        self._asked: set[str] = set()
        self._contents: dict[Path, _Contents] = {}
        self._files: dict[str, str] = {}
        self._stamp: object = None
        self._seen: frozenset[str] = frozenset()
        self._told: frozenset[str] = frozenset()
        self._pattern = _compile(frozenset())

    def lookup(self, name: str) -> str | None:
        """The key of that name, without surrounding blanks; None when it is missing or empty."""
        self._asked.add(name)
        self._refresh()
        value = (self._environ.get(name) or self._files.get(name) or "").strip()
        return value or None

    def names(self, prefix: str) -> list[str]:
        """The names of the keys that begin so and hold something, sorted."""
        self._refresh()
        return sorted(name for name in {*self._environ, *self._files} if name.startswith(prefix) and self.lookup(name))

    def known_values(self) -> frozenset[str]:
        """Every value of `SHORTEST` characters or more that is or was loaded."""
        self._refresh()
        return self._seen

    def scrub(self, text: str) -> str:
        """``text`` with every known value, and everything that looks like a key, replaced by ``[hidden]``."""
        self._refresh()
        return self._pattern.sub(_hide, text)

    def trouble(self) -> str | None:
        """What is wrong with a ``secrets.toml``, as one sentence with its line; None when nothing is."""
        self._refresh()
        contents = [self._contents.get(path, _Contents()) for path in self._candidates()]
        return next((file.trouble for file in contents if file.trouble), None)

    def remember(self, *values: str) -> None:
        """Take out these values too from now on: secrets that came another way than by a name of ours."""
        fresh = {value for value in values if len(value) >= SHORTEST} - self._told
        if fresh:
            with self._lock:
                self._told |= fresh
                self._stamp = None

    def _refresh(self) -> None:
        paths = self._candidates()
        stamp = (paths, tuple(map(_file_stamp, paths)), self._from_environment())
        if stamp == self._stamp:
            return
        earlier = dict(self._contents)
        contents = {path: _read(path, earlier.get(path, _Contents())) for path in paths}
        with self._lock:
            strings = [pair for path in paths for pair in contents[path].strings]
            self._contents = contents
            self._files = {name: value for name, value in reversed(strings) if "." not in name}
            values = {value for name, value in strings if "." not in name or SECRET_NAME.search(name.split(".")[-1])}
            values |= set(stamp[2])
            values = {value.strip() for value in values}
            self._seen |= {value for value in values if len(value) >= SHORTEST} | self._told
            self._pattern = _compile(self._seen)
            self._stamp = stamp
        for path, file in contents.items():
            if file.trouble and file.trouble != earlier.get(path, _Contents()).trouble:
                log.warning("%s", file.trouble)

    def _candidates(self) -> tuple[Path, ...]:
        if self._paths is not None:
            return tuple(self._paths)
        try:
            folder = Path.cwd()
        except OSError:  # the folder that we were started in was removed or closed
            folder = PROJECT
        return tuple(dict.fromkeys(base / ".streamlit" / "secrets.toml" for base in (folder, PROJECT)))

    def _from_environment(self) -> tuple[str, ...]:
        names = [name for name in self._environ if name in self._asked or _secret_name(name)]
        return tuple(self._environ.get(name, "") for name in names)


_NAMES: dict[str, bool] = {}


def _secret_name(name: str) -> bool:
    """Cached, because `scrub` asks for every variable of the environment each time."""
    is_secret = _NAMES.get(name)
    if is_secret is None:
        is_secret = _NAMES[name] = bool(SECRET_NAME.search(name))
    return is_secret


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


class UnreadableSecrets(ValueError):
    """A ``secrets.toml`` cannot be read. The text is the end of a sentence that begins with the file's name.

    ``content`` is what the file held, None where that is not known: never to be shown, logged or quoted.
    """

    def __init__(self, why: str, content: bytes | None = None) -> None:
        super().__init__(why)
        self.content = content


def read_secrets(path: Path) -> dict[str, Any] | None:
    """The tables of a ``secrets.toml``; None where there is none. Raises `UnreadableSecrets`, and never waits."""
    content = None
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode):  # reading a named pipe would wait for whoever writes to it
            raise UnreadableSecrets("is not an ordinary file")
        if info.st_size > LARGEST:
            raise UnreadableSecrets(f"is larger than {LARGEST // 2**20} MB")
        content = path.read_bytes()
        return tomllib.loads(content.decode("utf-8-sig").replace("\r\n", "\n"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnreadableSecrets(f"cannot be read ({error.strerror or type(error).__name__})") from None
    except UnreadableSecrets:
        raise
    except UnicodeDecodeError as error:
        line = (content or b"")[: error.start].count(b"\n") + 1
        raise UnreadableSecrets(f"holds bytes in line {line} that are not UTF-8", content) from None
    except RecursionError:
        raise UnreadableSecrets("is nested too deeply to be read", content) from None
    except ValueError as error:
        # Never the error's own text: it can quote the line, and with it the key.
        place = re.search(r"at line (\d+)", str(error))
        line = int(place[1]) if place else (content or b"").count(b"\n") + 1
        raise UnreadableSecrets(f"has a mistake in line {line} and cannot be read", content) from None


def _read(path: Path, earlier: _Contents) -> _Contents:
    """A file's strings as they are now; those of ``earlier``, with a sentence, where it cannot be read."""
    try:
        return _Contents(tuple(_walk(read_secrets(path) or {}, "")))
    except UnreadableSecrets as error:
        consequence = "the keys read from it before are still used" if earlier.strings else "none of its keys is used"
        name = "/".join(path.parts[-2:])  # the folder tells which file; the whole path is nobody's business on a page
        trouble = f"{name} {error}; {consequence}. Mend it and save it: it is read again by itself."
        return _Contents(earlier.strings, trouble)


def _walk(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in table.items():
        if isinstance(value, str):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from _walk(value, f"{prefix}{name}.")


def names_in(table: Mapping[str, Any]) -> Iterator[str]:
    """The name of every setting and section of a table, at any depth."""
    for name, value in table.items():
        yield name
        if isinstance(value, Mapping):
            yield from names_in(value)


def _compile(values: frozenset[str]) -> re.Pattern[str]:
    forms = {
        form
        for value in values
        for form in (
            value,
            quote(value, safe=""),
            quote_plus(value),
            json.dumps(value)[1:-1],
            json.dumps(value, ensure_ascii=False)[1:-1],  # as orjson and the services write it
        )
    }
    exact = [re.escape(form) for form in sorted(forms, key=len, reverse=True)]
    return re.compile("|".join([*exact, *_PATTERNS]))


def _hide(match: re.Match[str]) -> str:
    prefix = match.group("scheme") or match.group("name") or ""
    return f"{match.group('user')}{HIDDEN}@" if match.group("user") else prefix + HIDDEN


_store = KeyStore()


def lookup(name: str) -> str | None:
    """The key of that name: the environment first, then ``.streamlit/secrets.toml``; None when it is missing."""
    return _store.lookup(name)


def names(prefix: str) -> list[str]:
    """The names of the keys that begin with ``prefix`` and hold something."""
    return _store.names(prefix)


def trouble() -> str | None:
    """What is wrong with ``.streamlit/secrets.toml``, as one sentence with its line; None when nothing is."""
    return _store.trouble()


def known_values() -> frozenset[str]:
    """The values of every key that is or was loaded (8 characters or more). For tests and for `scrub`; never show."""
    return _store.known_values()


def scrub(text: str) -> str:
    """``text`` without keys: loaded values (also URL-quoted) and what looks like one become ``[hidden]``."""
    return _store.scrub(text)


def remember(*values: str) -> None:
    """From now on `scrub` takes these values out too: temporary credentials of AWS, for instance."""
    _store.remember(*values)


def allowed_host(key_env: str, host: str, bound: Mapping[str, Sequence[str]]) -> bool:
    """May the key named ``key_env`` be sent to ``host`` ("host", "host:port" or a URL)?

    Only to a host it is bound to, in ``bound`` or `BUILT_IN_HOSTS`. A binding that names a port holds for that port
    only. No wildcards: whoever can get a subdomain of a shared domain would get the key.
    """
    address = host.partition("://")[2].partition("/")[0] if "://" in host else host
    address = address.lower().rstrip(".")
    name = address if address.count(":") > 1 and "]" not in address else re.sub(r":\d+\Z", "", address).strip("[]")
    names = {address, name.rstrip(".")}
    return any(
        host_name.lower().rstrip(".") in names
        for host_name in (*BUILT_IN_HOSTS.get(key_env, ()), *bound.get(key_env, ()))
    )


# --- nothing that is logged holds a key ------------------------------------------------------------------------------


class _Scrubbed(logging.Filter):
    """Last wall on a handler: also reaches records that came by pickle, and fields given as ``extra``."""

    def filter(self, record: logging.LogRecord) -> bool:
        _scrub_record(record)
        for name, value in vars(record).items():
            if isinstance(value, str) and name not in ("msg", "exc_text"):
                vars(record)[name] = scrub(value)
        return True


def install_log_filter() -> None:
    """From now on no log record of any logger, and no traceback of an uncaught error, holds a key. Can be called again.

    It replaces the record factory, so that handlers which are added later are covered as well.
    """
    inner = logging.getLogRecordFactory()
    if not getattr(inner, "scrubs", False):

        def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
            return _scrub_record(inner(*args, **kwargs))

        factory.scrubs = True  # type: ignore[attr-defined]  # a mark on the function, so that it is installed once
        logging.setLogRecordFactory(factory)
        sys.excepthook = _excepthook
        threading.excepthook = _thread_excepthook
    for handler in logging.getLogger().handlers:
        if not any(isinstance(log_filter, _Scrubbed) for log_filter in handler.filters):
            handler.addFilter(_Scrubbed())


def _scrub_record(record: logging.LogRecord) -> logging.LogRecord:
    message = _message(record)
    if scrub(message) != message:
        record.msg = scrub(str(record.msg))
        if isinstance(record.args, tuple):  # kept in number: uvicorn's access log unpacks them
            record.args = tuple(scrub(argument) if isinstance(argument, str) else argument for argument in record.args)
        message = _message(record)
        if scrub(message) != message:
            record.msg, record.args = scrub(message), None
    if record.exc_info and record.exc_info[0] is not None:
        record.exc_text = scrub("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        record.exc_info = None
    elif record.exc_text:
        record.exc_text = scrub(record.exc_text)
    if record.stack_info:
        record.stack_info = scrub(record.stack_info)
    return record


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # A wrong format string: logging reports it itself when the record is handled, with these arguments.
        return repr((record.msg, record.args))


def _excepthook(kind: type[BaseException], error: BaseException, tb: TracebackType | None) -> None:
    sys.stderr.write(scrub("".join(traceback.format_exception(kind, error, tb))))


def _thread_excepthook(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit:
        sys.stderr.write(scrub("".join(traceback.format_exception(args.exc_type, args.exc_value, args.exc_traceback))))
