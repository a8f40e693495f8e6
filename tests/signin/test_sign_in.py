"""Who gets in through a provider, who does not, and what they are told: the real pages and a real wire."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest

from app.access import sign_in
from app.live.websocket import OVER
from app.tickets import board_token
from tests.signin.house import BOARD_SECRET, COOKIE_SECRET, House, Visitor, cookie_for
from tests.signin.oidc import CLIENT, SECRET, Provider, Script

pytestmark = pytest.mark.slow

NOT_VERIFIED = "Your e-mail address is not verified"
NO_ADDRESS = "The provider gave an e-mail address that is none"
INSIDE = "Send one prompt to several deployments"
# What the provider does → what the page says then.
WRONG: dict[str, tuple[Script, str]] = {
    "made for another application": (Script(claims={"aud": "other"}), sign_in.CAME_BACK["failed"]),
    "made for another application, handed to us": (
        Script(claims={"aud": "other", "azp": CLIENT}),
        "another application",
    ),
    "made for others only": (Script(claims={"aud": ["a", "b"], "azp": CLIENT}), "another application"),
    "another issuer": (Script(claims={"iss": "https://elsewhere.example"}), sign_in.CAME_BACK["failed"]),
    "another nonce": (Script(claims={"nonce": "x"}), sign_in.CAME_BACK["failed"]),
    "no nonce": (Script(claims={"nonce": None}), sign_in.CAME_BACK["failed"]),
    "expired": (Script(lifetime_s=-7200), sign_in.CAME_BACK["failed"]),
    "no expiry": (Script(claims={"exp": None}), sign_in.CAME_BACK["failed"]),
    "expired a while ago": (Script(lifetime_s=-90), sign_in.ENDED),
    "signed by another": (Script(key="other"), sign_in.CAME_BACK["failed"]),
    "not signed": (Script(key="none"), sign_in.CAME_BACK["failed"]),
    "not verified": (Script(claims={"email_verified": False}), NOT_VERIFIED),
    "not verified, as a word": (Script(claims={"email_verified": "false"}), NOT_VERIFIED),
    "verified, as a number": (Script(claims={"email_verified": 1}), NOT_VERIFIED),
    "verified, as a list": (Script(claims={"email_verified": ["true"]}), NOT_VERIFIED),
    "nothing said about it": (Script(claims={"email_verified": None}), NOT_VERIFIED),
    "a list as address": (Script(claims={"email": ["ada@example.com"]}), NO_ADDRESS),
    "two addresses": (Script(email="ada@example.com,eve@example.com"), NO_ADDRESS),
    "two lines as address": (Script(email="ada@example.com\nx"), NO_ADDRESS),
    "an invisible letter": (Script(email="ada\u200b@example.com"), NO_ADDRESS),
    "a name as address": (Script(email="local"), NO_ADDRESS),
    "no token": (Script(token_status=500), sign_in.CAME_BACK["failed"]),
    "no token for us": (Script(token_status=401), sign_in.CAME_BACK["failed"]),
    "cancelled": (Script(deny="access_denied"), sign_in.CAME_BACK["denied"]),
    "refused": (Script(deny="server_error"), sign_in.CAME_BACK["refused"]),
    "down": (Script(down=True), sign_in.CAME_BACK["unreachable"]),
}


def test_whatever_a_provider_answers_wrongly_ends_in_a_sentence_and_a_button(house: House, provider: Provider) -> None:
    differs = {}
    for case, (script, sentence) in WRONG.items():
        provider.script = script
        visitor = Visitor(house)
        answer = visitor.sign_in()
        seen = visitor.look(urlsplit(str(answer.url)).query)
        if answer.status_code != 200 or sentence not in seen.words or INSIDE in seen.words:
            differs[case] = (answer.status_code, str(answer.url), seen.words)
        if not {"Sign in", "Sign out"} & set(seen.buttons):
            differs[case] = ("no way on", seen.words)
        provider.script = Script()
        if case == "down" and INSIDE not in _in(visitor):
            differs[case] = ("no second try", seen.words)
    assert not differs
    for secret in (SECRET, COOKIE_SECRET, BOARD_SECRET, "Traceback", *provider.handed_out):
        assert secret not in house.log, "the log holds what nobody may read there"


def _in(visitor: Visitor) -> str:
    visitor.sign_in()
    return visitor.look().words


# Who signs in, under which [access] → the line that says who they are.
RIGHT: dict[str, tuple[Script, str, str]] = {
    "verified": (Script(), "", "ada@example.com · member"),
    "verified, as a word": (Script(claims={"email_verified": "true"}), "", "ada@example.com · member"),
    "an administrator in other letters": (
        Script(email="ADA@Example.com"),
        'admins = ["Ada@example.COM"]',
        "ada@example.com · admin",
    ),
    "composed otherwise": (
        Script(email="a\u0308da@example.com"),
        'admins = ["äda@example.com"]',
        "äda@example.com · admin",
    ),
    "not the one without dots": (
        Script(email="ada@example.com"),
        'mode = "closed"\nsenders = ["äda@example.com"]',
        "ada@example.com · viewer",
    ),
    "not the one with other dots": (
        Script(email="öda@example.com"),
        'mode = "closed"\nsenders = ["äda@example.com"]',
        "öda@example.com · viewer",
    ),
    "a kelvin is no k": (
        Script(email="\u212aate@example.com"),
        'admins = ["kate@example.com"]',
        "\u212aate@example.com · member",
    ),
    "ß is not ss": (Script(email="weiß@example.com"), 'admins = ["weiss@example.com"]', "weiß@example.com · member"),
    "a Cyrillic а is no a": (
        Script(email="\u0430da@example.com"),
        'admins = ["ada@example.com"]',
        "\u0430da@example.com · member",
    ),
    "trusted without a word": (
        Script(claims={"email_verified": None}),
        "trust_email = true",
        "ada@example.com · member",
    ),
    "no address": (
        Script(claims={"email": None, "sub": "root@example.com"}),
        'admins = ["root@example.com"]',
        "root@example.com (http://127.0.0.1:",
    ),
    "many groups": (Script(claims={"groups": ["group " * 5] * 400}), "", "ada@example.com · member"),
}


def test_a_verified_address_is_the_person_and_no_other_counts_as_it(house: House, provider: Provider) -> None:
    differs = {}
    for case, (script, rules, line) in RIGHT.items():
        provider.script = script
        house.access(rules)
        words = _in(Visitor(house))
        if line not in words or (case == "no address" and "· member" not in words):
            differs[case] = words[:200]
    house.access("trust_email = true")
    provider.script = Script(claims={"email_verified": False})
    if NOT_VERIFIED not in _in(Visitor(house)):
        differs["trusted against the provider's word"] = ""
    house.access("")
    assert not differs


def test_a_role_changes_with_the_file_and_without_a_new_sign_in(house: House, provider: Provider) -> None:
    visitor = Visitor(house)
    visitor.sign_in()
    roles = []
    for rules in ('admins = ["ada@example.com"]', 'mode = "closed"', 'mode = "closed', "mode = 7"):
        house.access(rules)
        roles.append(visitor.look().words.partition("· ")[2].partition("\n")[0])
    provider.script = Script(claims={"email_verified": None})
    house.access("trust_email = true\nmode = 7")
    assert "ada@example.com · viewer" in _in(Visitor(house))
    house.access("")
    assert roles == ["admin", "viewer", "viewer", "viewer"], "a broken file must not give anybody more"


def test_a_callback_that_is_used_again_or_is_somebody_elses_signs_nobody_in(house: House, provider: Provider) -> None:
    ada, eve = Visitor(house), Visitor(house)
    ada.http.follow_redirects = False
    to_provider = ada.http.get(ada.press("Sign in").redirect).headers["location"]
    callback = ada.http.get(to_provider).headers["location"]
    assert str(eve.http.get(callback).url).endswith("signin=stale"), "a callback that eve did not ask for"
    before = dict(ada.cookies())
    assert ada.http.get(callback).headers["location"] == "/"
    assert INSIDE in ada.look().words
    replay = Visitor(house)
    replay.http.cookies.update(before)
    assert str(replay.http.get(callback).url).endswith("signin=failed")
    assert INSIDE not in replay.look().words
    for odd in (
        "",
        "?state=x",
        "?error=",
        "?code=1&state=1",
        "?" + "&".join(f"a{n}=1" for n in range(60)),
        "?error=%ff",
    ):
        answer = eve.http.get(f"/oauth2callback{odd}")
        assert answer.status_code == 200 and INSIDE not in eve.look(urlsplit(str(answer.url)).query).words, odd
    assert str(eve.http.post("/oauth2callback").url).endswith("signin=failed")
    for odd in ("", "?provider=x", "?provider=" + "e" * 5000):
        assert str(eve.http.get(f"/auth/login{odd}").url).endswith("signin=stale"), odd
    assert "Traceback" not in house.log


def claims(provider: Provider, **more: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": provider.url,
        "sub": "s",
        "aud": CLIENT,
        "iat": now,
        "exp": now + 600,
        "nonce": "n",
        **more,
        "email": "ada@example.com",
        "email_verified": True,
    }


def test_a_sign_in_ends_in_pages_that_stay_open_and_what_was_typed_can_be_copied(
    house: House, provider: Provider
) -> None:
    async def walk() -> str:
        visitor = Visitor(house)
        ends = time.time() - sign_in.LEEWAY_S + 4
        visitor.http.cookies.set(
            "_streamlit_user", cookie_for(claims(provider, exp=ends), house.url), domain="localhost.local"
        )
        async with visitor.open() as tab:
            seen = await tab.draw()
            assert INSIDE in seen.words
            async with asyncio.timeout(30):
                while INSIDE in seen.words:
                    seen = await tab.draw(texts={seen.fields["Prompt"]: "a long thought"})
            assert {"Sign in"} == set(seen.buttons)
            return (await tab.draw()).words

    words = asyncio.run(walk())
    assert sign_in.ENDED in words and "a long thought" in words


def test_a_cookie_that_is_not_ours_or_holds_no_sense_lets_nobody_in(house: House, provider: Provider) -> None:
    good = claims(provider)
    forged = {
        "another secret": cookie_for(good, house.url, secret="x" * 40),
        "another origin": cookie_for(good, "http://evil.example"),
        "no origin": cookie_for(good, ""),
        "a provider that is none": cookie_for({**good, "provider": "x"}, house.url),
        "exp as text": cookie_for({**good, "exp": "9999999999"}, house.url),
        "exp as true": cookie_for({**good, "exp": True}, house.url),
        "exp without end": cookie_for({**good, "exp": float("inf")}, house.url),
        "logged in, as a word": cookie_for({**good, "is_logged_in": "true"}, house.url),
        "half a letter": cookie_for({**good, "email": "ada\ud800@example.com"}, house.url),
        "rubbish": "rubbish",
        "empty": "",
        "chunks of nothing": cookie_for({}, house.url, body="chunks-9"),
        "a list": cookie_for({}, house.url, body="[1]"),
        "a number": cookie_for({}, house.url, body="1"),
    }
    differs = {}
    for case, cookie in forged.items():
        visitor = Visitor(house)
        visitor.http.cookies.set("_streamlit_user", cookie, domain="localhost.local")
        words = visitor.look().words
        if INSIDE in words or "Inference Lab" not in words:
            differs[case] = words
        if _board(house, visitor, "ada@example.com", "member") != 4401:
            differs[f"{case}, board"] = ""
    assert not differs


def test_signing_out_in_one_tab_ends_the_others_and_every_copy_of_the_cookie(house: House, provider: Provider) -> None:
    async def walk(way: str) -> None:
        visitor, thief = Visitor(house), Visitor(house)
        button = (await _press(visitor, "Sign in")).redirect
        visitor.http.get(button)
        thief.http.cookies.update(visitor.http.cookies)
        async with visitor.open() as first, visitor.open() as second, _socket(house, thief, "ada@example.com") as board:
            assert INSIDE in (await second.draw()).words
            seen = await first.draw()
            assert INSIDE in seen.words
            before = provider.signed_out
            if way == "button":
                assert (await first.draw(press=seen.buttons["Sign out"])).redirect == "/auth/logout"
            if way == "address":
                visitor.http.get("/auth/logout")
                assert provider.signed_out == before + 1
            assert sign_in.ENDED in (await second.draw(press=seen.buttons["Send"])).words, way
            assert sign_in.ENDED in (await second.draw()).words, way
            assert await _closed(board, {"stop": "all"}) == ([OVER], 4401), way
        async with thief.open() as tab:
            assert sign_in.ENDED in (await tab.draw()).words, way
        visitor.http.get("/auth/logout")
        assert not [name for name in visitor.cookies() if "_streamlit_user" in name]
        async with visitor.open() as tab:
            assert INSIDE not in (await tab.draw()).words

    for way in ("button", "address"):
        asyncio.run(walk(way))
    again = Visitor(house)
    assert INSIDE in _in(again), "a new sign-in of the same person is another one"


def test_a_part_of_a_page_is_not_drawn_by_itself_once_the_sign_in_is_over(house: House, provider: Provider) -> None:
    async def walk() -> None:
        visitor = Visitor(house)
        visitor.http.get((await _press(visitor, "Sign in")).redirect)
        async with visitor.open() as tab:
            seen = await tab.draw(page="calculator")
            assert seen.fragment
            part = await tab.draw(page="calculator", fragment=seen.fragment)
            assert part.fragment == seen.fragment and "ada@example.com" not in part.words
            visitor.http.get("/auth/logout")
            assert sign_in.ENDED in (await tab.draw(page="calculator", fragment=seen.fragment)).words

    asyncio.run(walk())


def test_files_of_pages_are_for_whom_the_pages_are_for(house: House, provider: Provider) -> None:
    ada = Visitor(house)

    def files() -> set[int]:
        return {
            ada.http.get("/media/0123.csv").status_code,
            ada.http.put("/_stcore/upload_file/session/file", files={"file": b"x" * 1000}).status_code,
        }

    assert files() == {401}
    ada.sign_in()
    assert 401 not in files()
    stolen = dict(ada.http.cookies)
    ada.http.get("/auth/logout")
    ada.http.cookies.update(stolen)
    assert files() == {401}


async def _press(visitor: Visitor, label: str) -> Any:
    async with visitor.open() as tab:
        seen = await tab.draw()
        return await tab.draw(press=seen.buttons[label])


# --- the board -------------------------------------------------------------------------------------------------------


class _socket:
    """A board socket of a visitor with a ticket that the page would have made."""

    def __init__(self, house: House, visitor: Visitor, person: str, role: Any = "member", **more: Any) -> None:
        self.house, self.visitor, self.person, self.role, self.more = house, visitor, person, role, more

    async def __aenter__(self) -> aiohttp.ClientWebSocketResponse:
        self.client = aiohttp.ClientSession()
        cookies = "; ".join(f"{name}={value}" for name, value in self.visitor.cookies().items())
        self.ws = await self.client.ws_connect(
            f"{self.house.url}/api/board/run-1", headers={"Origin": self.house.url, "Cookie": cookies}
        )
        token = board_token("run-1", self.person, self.role, **self.more)
        await self.ws.send_str(json.dumps({"token": token, "have": []}))
        return self.ws

    async def __aexit__(self, *_: object) -> None:
        await self.client.close()


async def _closed(ws: aiohttp.ClientWebSocketResponse, message: Any = None) -> tuple[list[str], int]:
    """The sentences that are not about the engine, until the socket closes; and with which code."""
    if message is not None:
        await ws.send_str(json.dumps(message))
    notices = []
    async with asyncio.timeout(20):
        while (got := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
            frame = json.loads(got.data)
            if frame["type"] == "notice":
                notices.append(frame["sentence"])
    return notices, int(got.data)


def _board(house: House, visitor: Visitor, person: str, role: Any, **more: Any) -> int:
    """With which code a ticket is refused; 0 when it is taken."""

    async def run() -> int:
        async with _socket(house, visitor, person, role, **more) as ws:
            async with asyncio.timeout(20):
                message = await ws.receive()
            return int(message.data) if message.type is aiohttp.WSMsgType.CLOSE else 0

    return asyncio.run(run())


@pytest.fixture(autouse=True)
def _one_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_BOARD_SECRET", BOARD_SECRET)


def test_a_board_ticket_needs_the_cookie_of_its_person_and_ends_with_the_role(house: House, provider: Provider) -> None:
    ada, nobody = Visitor(house), Visitor(house)
    ada.sign_in()
    assert _board(house, nobody, "ada@example.com", "member") == 4401, "a ticket without a sign-in"
    assert _board(house, ada, "eve@example.com", "member") == 4401, "somebody else's ticket"
    assert _board(house, ada, "local", "admin") == 4401, "a ticket from before sign-in was set up"
    assert _board(house, ada, "ada@example.com", "member", until=int(time.time()) - 1) == 4401, "a sign-in that ended"
    assert _board(house, ada, "ada@example.com", "member") == 0

    async def demoted() -> tuple[list[str], int]:
        async with _socket(house, ada, "ada@example.com", "admin") as ws:
            await ws.receive()
            house.access('mode = "closed"')
            return await _closed(ws, {"retry": 0})

    sentences, code = asyncio.run(demoted())
    house.access("")
    assert code == 4401 and len(sentences) == 1 and "role has changed" in sentences[0]
