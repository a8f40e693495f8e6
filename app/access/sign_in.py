"""Sign-in with an OIDC provider: whether it is set up, who a cookie names, and what ends it.

Streamlit speaks the protocol and keeps the claims of the ID token in a signed cookie. It does not look at whether the
token has ended, whom it was made for, or whether its address was verified: that is done here, at each use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import re
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

import streamlit as st
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # it has no stubs
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from streamlit.auth_util import get_origin_from_redirect_uri, is_authlib_installed
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime.secrets import secrets_singleton
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_server_config import AUTH_COOKIE_MAX_AGE_SECONDS, USER_COOKIE_NAME
from streamlit.web.server.starlette.starlette_websocket import (
    _get_signed_cookie_with_chunks,
    _parse_decoded_user_cookie,
)

from services.security import access
from services.security.keys import ABOUT_SIGN_IN, UnreadableSecrets, read_secrets
from services.security.listening import OF_PROVIDER, SHARED

log = logging.getLogger(__name__)

LEEWAY_S = 60  # clocks differ
SHORTEST_SECRET = 32  # characters of cookie_secret: whoever guesses it can be anybody
NO_PROVIDER = ("client_kwargs",)  # tables in [auth] that are settings
NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")  # signs that no text has: this is compressed, or a picture
FILES = ("/_stcore/upload_file", "/media/")  # what is uploaded to pages, and what they give to download
ADDRESS = re.compile(r"[^@\s]+@[^@\s]+")

ENDED = "Your sign-in has ended; sign in again."
# Why the provider's pages sent somebody back → what the page with the button says.
CAME_BACK: Mapping[str, str] = {
    "denied": "The sign-in was cancelled at the provider, so you are not signed in. You can try again.",
    "refused": "The provider refused the sign-in, so you are not signed in. Try again; if it stays so, tell whoever "
    "runs this server.",
    "failed": "The provider's answer could not be verified, so you are not signed in. Try again; if it stays so, tell "
    "whoever runs this server.",
    "stale": "That sign-in had already been used or had waited too long, so you are not signed in. Try again.",
    "unreachable": "The provider could not be reached, so you are not signed in. Try again in a moment; if it stays "
    "so, tell whoever runs this server.",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """How sign-in is set up: not at all, so that it works, or in a way that has to be mended first (``trouble``)."""

    state: Literal["off", "on", "broken"]
    trouble: str = ""
    clients: Mapping[str, str] = field(default_factory=dict)  # provider → the id that it knows us by


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody who is signed in: what they are called here, until when (Unix seconds), and a mark of this sign-in."""

    name: str
    expires: int
    mark: str


class NotSignedIn(Exception):
    """Nobody is let in by these claims; the text is a sentence for the person, empty before the first sign-in.

    ``signed``: there is a sign-in to sign out of.
    """

    def __init__(self, sentence: str, *, signed: bool) -> None:
        super().__init__(sentence)
        self.signed = signed


# --- how it is set up ------------------------------------------------------------------------------------------------


_frozen: Setup | None = None
_freezing = threading.Lock()


def setup() -> Setup:
    """How sign-in is set up in secrets.toml, as it was at the first look: `app.server` takes it before it serves.

    What becomes of the file afterwards changes nothing until the next start. A file that is saved empty for a moment,
    or without its section, must not make everybody the administrator of a server that asked people to sign in; and
    Streamlit, which would look at the file again and again, waits for ever at a named pipe.
    """
    global _frozen
    with _freezing:
        if _frozen is None:
            paths = [Path(name) for name in st.get_option("secrets.files")]
            how, auth = _at_start(paths)
            config.set_option("secrets.files", [], "app/access/sign_in.py")
            try:
                secrets_singleton.merge_programmatic_secrets({"auth": auth} if how.state == "on" else {})
            except TypeError:
                how = _broken("[auth] of secrets.toml holds a value that is neither text, a number, a list nor a table")
            _frozen = how
        return _frozen


def look(paths: Sequence[Path]) -> Setup:
    """How sign-in is set up by these files, the later ones winning, as they are now."""
    return _at_start(paths)[0]


def _at_start(paths: Sequence[Path]) -> tuple[Setup, dict[str, Any]]:
    """How sign-in is set up by these files, the later ones winning, and what Streamlit has to know of it."""
    secrets: dict[str, Any] = {}
    for path in paths:
        if path.suffix != ".toml" and path.exists():
            return _broken(f"secrets.files in config.toml names {path.name}, which is no TOML file"), {}
        try:
            secrets |= read_secrets(path) or {}
        except UnreadableSecrets as error:
            if _may_be_about_sign_in(error.content):
                return _broken(f"{path.name} {error}, and it may hold how people sign in"), {}
    how, auth = judged(secrets), secrets.get("auth")
    return how, auth if isinstance(auth, dict) else {}


def _may_be_about_sign_in(content: bytes | None) -> bool:
    """Whether a file that cannot be read may hold the settings of sign-in. What cannot be seen may."""
    if content is None:
        return True
    # In UTF-16 and UTF-32 every other letter is a zero; what else is no text may be anything.
    text = content.replace(b"\0", b"").decode("utf-8", errors="replace")
    return ABOUT_SIGN_IN.search(text) is not None or NO_TEXT.search(text) is not None


def _broken(what: str) -> Setup:
    return Setup("broken", f"Nobody can sign in: {what}. Mend it and start the app again.")


def judged(secrets: Mapping[str, Any]) -> Setup:
    """How sign-in is set up by secrets that could be read."""
    if "auth" not in secrets:
        if stray := next(_stray(secrets), None):
            where = f"under [{'.'.join(stray)}]" if stray[0] else "outside of any section"
            return _broken(f"secrets.toml has the settings of sign-in {where}; they belong under [auth]")
        return Setup("off")
    auth = secrets["auth"]
    if not isinstance(auth, Mapping) or not auth:
        return _broken("[auth] of secrets.toml is empty")
    providers = {name: value for name, value in auth.items() if isinstance(value, Mapping) and name not in NO_PROVIDER}
    if not providers or any(key in auth for key in OF_PROVIDER):
        providers = {"default": auth, **providers}
    missing = [f'"{key}" in [auth]' for key in SHARED if not _text(auth, key)]
    for name, provider in providers.items():
        header = "auth" if provider is auth else f"auth.{name}"
        missing += [f'"{key}" in [{header}]' for key in OF_PROVIDER if not _text(provider, key)]
        if "_" in name:
            return _broken(f"the provider's name in [{header}] of secrets.toml has an underscore")
    if missing:
        return _broken(f"secrets.toml lacks {', '.join(missing)}")
    if len(_text(auth, "cookie_secret")) < SHORTEST_SECRET:
        return _broken(f"cookie_secret in [auth] of secrets.toml is shorter than {SHORTEST_SECRET} characters")
    redirect = _text(auth, "redirect_uri")
    if not _http_url(redirect) or not redirect.endswith("/oauth2callback"):
        return _broken("redirect_uri in [auth] of secrets.toml is not http(s)://…/oauth2callback")
    if redirect.partition("/oauth2callback")[0] != _as_browsers_write(redirect):
        # Else nobody is ever signed in: Streamlit compares the address with the one that the browser sends.
        return _broken(f"redirect_uri in [auth] of secrets.toml has to begin with {_as_browsers_write(redirect)}")
    if not all(_http_url(_text(provider, "server_metadata_url")) for provider in providers.values()):
        return _broken("server_metadata_url in [auth] of secrets.toml is not an http(s) address")
    if not is_authlib_installed():
        return _broken("the library Authlib is not installed; `make run` installs it")
    return Setup("on", clients={name: _text(provider, "client_id") for name, provider in providers.items()})


def _text(table: Mapping[str, Any], key: str) -> str:
    value = table.get(key)
    return value.strip() if isinstance(value, str) else ""


def _stray(table: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The tables that hold settings of sign-in, each by its path; ("",) for those outside of any section."""
    names = {name.casefold() for name in table}
    if names & {*SHARED, "server_metadata_url"} or {"client_id", "client_secret"} <= names:
        yield path or ("",)
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _stray(value, (*path, name))


def _http_url(text: str) -> bool:
    try:
        parts = urlsplit(text.replace("{port}", "1"))
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _as_browsers_write(url: str) -> str:
    """An address up to its last part: small letters, no port that goes without saying, no user."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower().removesuffix({"http": ":80", "https": ":443"}[parts.scheme])
    return f"{parts.scheme}://{host}{parts.path.removesuffix('/oauth2callback')}"


# --- whom the claims name --------------------------------------------------------------------------------------------


def identify(claims: Mapping[str, Any], how: Setup, *, trust_email: bool, now: float | None = None) -> Identity:
    """Who is signed in by the claims of a cookie that was signed by us. Raises `NotSignedIn` in words.

    ``trust_email``: the address counts where the provider says nothing about having verified it. ``now`` is Unix
    seconds (default: the clock).
    """
    if claims.get("is_logged_in") is not True:
        raise NotSignedIn("", signed=False)
    client, audience = how.clients.get(str(claims.get("provider"))), claims.get("aud")
    # Authlib lets a token for another application pass where its `azp` names us.
    if client is None or client not in (audience if isinstance(audience, list) else [audience]):
        raise NotSignedIn("This sign-in was made for another application, so it does not count here.", signed=True)
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not math.isfinite(expires):
        raise NotSignedIn("This sign-in does not say when it ends, so it does not count here.", signed=True)
    if _over(claims, now):
        raise NotSignedIn(ENDED, signed=True)
    return Identity(_name(claims, trust_email=trust_email), int(expires) + LEEWAY_S, mark_of(claims))


def _over(claims: Mapping[str, Any], now: float | None = None) -> bool:
    """Whether somebody signed out of the sign-in with these claims, or its time has passed."""
    expires = claims.get("exp")
    timed = isinstance(expires, int | float) and (time.time() if now is None else now) >= expires + LEEWAY_S
    return timed or mark_of(claims) in ended


def mark_of(claims: Mapping[str, Any]) -> str:
    """A mark of one sign-in: the same in every tab that has its cookie, another for the next sign-in."""
    parts = [claims.get(key) for key in ("provider", "iss", "sub", "aud", "iat", "exp", "nonce", "at_hash")]
    return hashlib.sha256(json.dumps(parts, default=str).encode()).hexdigest()


def _name(claims: Mapping[str, Any], *, trust_email: bool) -> str:
    email = claims.get("email")
    if email in (None, ""):
        subject, issuer = claims.get("sub"), claims.get("iss")
        if not (isinstance(subject, str) and subject and isinstance(issuer, str) and issuer):
            raise NotSignedIn("The provider did not say who you are, so you cannot be let in.", signed=True)
        # With a blank in it, so that it is never an address of a list.
        return access.person_name(f"{subject} ({issuer})")
    if not isinstance(email, str) or not ADDRESS.fullmatch(email) or not _visible(email):
        raise NotSignedIn("The provider gave an e-mail address that is none, so you cannot be let in.", signed=True)
    verified = claims.get("email_verified")
    # Some providers write the word. Anything else than a plain yes is a no.
    if verified is True or verified == "true" or (verified is None and trust_email):
        return access.person_name(access.folded(email))
    raise NotSignedIn(
        "Your e-mail address is not verified, so you cannot be let in. Verify it with your provider and sign in again, "
        "or ask whoever runs this server.",
        signed=True,
    )


def _visible(text: str) -> bool:
    return not any(unicodedata.category(letter)[0] in "CZ" for letter in text)


def claims_in(cookies: Mapping[str, str], origin: str) -> Mapping[str, Any]:
    """The claims of the identity cookie in a request from a page at ``origin``; none when it is not ours."""
    try:
        raw = _get_signed_cookie_with_chunks(dict(cookies), USER_COOKIE_NAME) if get_cookie_secret() else None
        claims = _parse_decoded_user_cookie(raw, origin) if raw else {}
    except (ValueError, RecursionError, AttributeError, OSError):  # signed by us, and yet not what we write
        return {}
    return claims if isinstance(claims, dict) else {}


# --- what ends it ----------------------------------------------------------------------------------------------------


class EndedSignIns:
    """Sign-ins that somebody signed out of, by their mark: the cookie's other tabs and its copies end with it.

    Kept in memory until they would have ended by themselves; thread-safe. Another replica of the pages learns of it
    only from the browser, which has lost the cookie.
    """

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    def add(self, claims: Mapping[str, Any]) -> None:
        """From now on the sign-in that these claims come from counts no more."""
        expires = claims.get("exp")
        now = time.time()
        longest = now + AUTH_COOKIE_MAX_AGE_SECONDS + 86400
        stated = float(expires) if isinstance(expires, int | float) and math.isfinite(expires) else longest
        with self._lock:
            self._until = {mark: until for mark, until in self._until.items() if until > now}
            self._until[mark_of(claims)] = min(stated + 2 * LEEWAY_S, longest)

    def __contains__(self, mark: str) -> bool:
        return mark in self._until


ended = EndedSignIns()


# --- the addresses of the protocol -----------------------------------------------------------------------------------


class SignInRoutes:
    """ASGI middleware around Streamlit's sign-in addresses: whatever fails there leads back to the page, with a word.

    Streamlit answers such a failure with a bare error page, or leads back without saying anything. A page whose
    sign-in is over is drawn as a whole, whatever part of it is asked for: the door is in the whole. And files of pages
    are for whom the pages are for: Streamlit takes and gives them without asking who it is.
    """

    def __init__(self, app: ASGIApp, lets_in: Callable[[Mapping[str, str], str], bool]) -> None:
        self.app = app
        self._lets_in = lets_in  # by cookies and the origin of the page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        base = base_path()
        if scope["type"] == "websocket" and scope["path"] == f"{base}/_stcore/stream":
            await self.app(scope, _at_the_door(scope, receive), send)
            return
        route = scope["path"].removeprefix(base) if scope["type"] == "http" else ""
        if route == "/auth/logout":
            connection = HTTPConnection(scope)
            if claims := claims_in(connection.cookies, own_origin()):
                ended.add(claims)
        if route.startswith(FILES) and not self._lets_in(HTTPConnection(scope).cookies, own_origin()):
            await PlainTextResponse("Sign in first.", status_code=401)(scope, receive, send)
            return
        if route not in ("/auth/login", "/auth/logout", "/oauth2callback"):
            await self.app(scope, receive, send)
            return
        messages: list[Message] = []

        async def keep(message: Message) -> None:
            messages.append(message)

        try:
            await self.app(scope, receive, keep)
        except Exception as error:
            log.warning("%s failed: %s", route, type(error).__name__)
            messages = []
        for message in _explained(route, scope, messages, base):
            await send(message)


def _at_the_door(scope: Scope, receive: Receive) -> Receive:
    """What a page's browser sends; once its sign-in is over, a request for a fragment becomes one for the page."""
    connection = HTTPConnection(scope)
    claims = claims_in(connection.cookies, connection.headers.get("origin", ""))
    if not claims:
        return receive

    async def as_a_whole() -> Message:
        message = await receive()
        if message["type"] != "websocket.receive" or not message.get("bytes") or not _over(claims):
            return message
        asked = BackMsg()
        try:
            asked.ParseFromString(message["bytes"])
        except DecodeError:
            return message
        if asked.WhichOneof("type") == "rerun_script":
            asked.rerun_script.ClearField("fragment_id")
            asked.rerun_script.ClearField("is_auto_rerun")
        return {**message, "bytes": asked.SerializeToString()}

    return as_a_whole


def base_path() -> str:
    """The path that the pages are served below: "" or "/name"."""
    base = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{base}" if base else ""


def own_origin() -> str:
    """The origin that cookies are made for: that of redirect_uri."""
    with contextlib.suppress(Exception):
        return get_origin_from_redirect_uri() or ""
    return ""


def _explained(route: str, scope: Scope, messages: list[Message], base: str) -> list[Message]:
    """Streamlit's answer, or one that leads back to the page with the word for what went wrong."""
    start = next((message for message in messages if message["type"] == "http.response.start"), None)
    headers = [(name.lower(), value) for name, value in start["headers"]] if start else []
    location = next((value.decode("latin-1") for name, value in headers if name == b"location"), None)
    cookies = [value for name, value in headers if name == b"set-cookie"]
    failed = start is None or start["status"] >= 400
    word = None
    if route == "/oauth2callback":
        word = _word(scope["query_string"], cookies) or ("failed" if failed else None)
    elif route == "/auth/login" and (failed or location == f"{base}/"):
        word = "unreachable" if failed else "stale"
    if word is None and not failed:
        return messages
    log.warning("%s did not succeed: %s.", route, word or "failed")
    # Cookies that are cleared stay cleared.
    kept = [(b"set-cookie", cookie) for cookie in cookies]
    more = [
        (b"location", (f"{base}/?signin={word}" if word else f"{base}/").encode()),
        (b"content-length", b"0"),
        *kept,
    ]
    return [
        {"type": "http.response.start", "status": 302, "headers": [*more, (b"cache-control", b"no-store")]},
        {"type": "http.response.body", "body": b""},
    ]


def _word(query: bytes, cookies: list[bytes]) -> str | None:
    """Why the provider led somebody back without a sign-in; None when it is one, or comes back from a sign-out."""
    if any(re.match(rb'_streamlit_user=[^";]{8}', cookie) for cookie in cookies):
        return None
    try:
        fields = parse_qs(query.decode("latin-1"), max_num_fields=50)
    except ValueError:
        return "refused"
    if "error" in fields:
        return "denied" if fields["error"][0] == "access_denied" else "refused"
    if not {"code", "state"} & set(fields):
        return None
    return "failed" if any(cookie.startswith(b"_streamlit_user=") for cookie in cookies) else "stale"


ERROR_NAME = re.compile(r"(?m)^([A-Za-z_]\w*(?:\.\w+)*)(?::|$)")  # in a trace


class _ShortWords(logging.Filter):
    """What Streamlit logs of a sign-in: the kind of failure, not the trace of it, which can quote a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else ""
        if record.exc_text:
            kind = (ERROR_NAME.findall(record.exc_text) or [""])[-1]
        text = "".join(letter if letter.isprintable() else "?" for letter in record.getMessage()[:300])
        record.msg, record.args = (f"{text} ({kind[:100]})" if kind else text), None
        record.exc_info = record.exc_text = None
        return True


def install_log_filter() -> None:
    """From now on a failed sign-in is one line in the log. Can be called again."""
    logger = logging.getLogger("streamlit.web.server.starlette.starlette_auth_routes")
    if not any(isinstance(one, _ShortWords) for one in logger.filters):
        logger.addFilter(_ShortWords())
