"""Under which names the pages answer, and to whose pages: the rules alone, then the served process from outside."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import aiohttp
import pytest

from services.deployments.config import ConfigError, load
from services.deployments.configured_hosts import ConfiguredHosts
from services.security.hosts import BadHost, Host, Rules, configured_host, parse_host
from tests.web.conftest import Pages, first_line, serve

SPELLINGS: dict[str, Host | None] = {
    "localhost": Host("localhost"),
    "LocalHost:8501": Host("localhost", 8501),
    "localhost.:80": Host("localhost", 80),
    "127.0.0.1:8501": Host("127.0.0.1", 8501),
    "127.8.9.10": Host("127.8.9.10"),
    "[::1]:8501": Host("::1", 8501),
    "[0:0:0:0:0:0:0:1]": Host("::1"),
    "[::ffff:127.0.0.1]": Host("127.0.0.1"),
    "[::ffff:7f00:1]:1": Host("127.0.0.1", 1),
    "xn--bcher-kva.example": Host("xn--bcher-kva.example"),
    "": None,
    " localhost": None,
    "localhost ": None,
    "localhost:": None,
    "localhost:0": None,
    "localhost:65536": None,
    "localhost:8501:8501": None,
    "localhost:+80": None,
    "localhost:８０": None,
    "user@localhost": None,
    "localhost/": None,
    "localhost#evil.example": None,
    "localhost,evil.example": None,
    "localhost\tevil": None,
    "http://localhost": None,
    "::1": None,
    "[::1": None,
    "[localhost]": None,
    "[::1%25eth0]": None,
    "2130706433": None,
    "0x7f000001": Host("0x7f000001"),  # a name, and none of ours
    "0x7f.1": None,
    "127.1": None,
    "0177.0.0.1": None,
    "127.0.0.1.evil.example": Host("127.0.0.1.evil.example"),
    "..": None,
    "a..b": None,
    ".localhost": None,
    "bücher.example": None,
    "-a.example": None,
    "*": None,
}


def test_a_host_has_one_spelling_and_what_no_browser_sends_is_none() -> None:
    assert {text: parse_host(text) for text in SPELLINGS} == SPELLINGS


def test_only_our_own_names_are_answered() -> None:
    rules = Rules(frozenset({configured_host("lab.example.com"), configured_host("10.1.2.3")}), "Pages.Local.")
    answered = {
        text: rules.answers_to(host, "192.168.7.7")
        for text in (
            "localhost:1",
            "127.0.0.1",
            "127.255.0.9",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "LAB.example.com.:9",
            "10.1.2.3",
            "pages.local:8501",
            "192.168.7.7:8501",
            "evil.example",
            "localhost.evil.example",
            "a.localhost",
            "lab.example.com.evil.example",
            "x.lab.example.com",
            "192.168.7.8",
            "0.0.0.0",
            "[::]",
            "128.0.0.1",
            "0x7f000001",
            "[::7f00:1]",
        )
        if (host := parse_host(text))
    }
    refused = [text for text, inside in answered.items() if not inside]
    assert refused == [
        "evil.example",
        "localhost.evil.example",
        "a.localhost",
        "lab.example.com.evil.example",
        "x.lab.example.com",
        "192.168.7.8",
        "0.0.0.0",
        "[::]",
        "128.0.0.1",
        "0x7f000001",
        "[::7f00:1]",
    ]
    arrived = Host("192.168.7.7")
    assert Rules().answers_to(arrived, "::ffff:192.168.7.7") and not Rules().answers_to(arrived, None)
    assert Rules(started_at="0.0.0.0").answers_to(Host("0.0.0.0"), "127.0.0.1")
    assert Rules(started_at="::1").answers_to(Host("::1"), None)


def test_only_our_own_pages_may_do_more_than_read() -> None:
    rules = Rules(frozenset({configured_host("lab.example.com"), configured_host("odd.example.com:8443")}))
    cases = {
        ("http://localhost:8501", "localhost:8501", "http"): True,
        ("http://LOCALHOST:8501", "localhost.:8501", "http"): True,
        ("http://localhost", "localhost:80", "http"): True,
        ("http://localhost", "localhost", "http"): True,
        ("https://any.example", "any.example", "http"): True,  # TLS ends in front of us, Host is kept
        ("https://any.example", "any.example:443", "https"): True,
        ("https://any.example:8443", "any.example:8443", "https"): True,
        ("https://lab.example.com", "localhost:8501", "http"): True,  # the proxy sends its own Host
        ("http://lab.example.com", "127.0.0.1:8501", "http"): True,
        ("https://odd.example.com:8443", "localhost:8501", "http"): True,
        ("http://[::1]:8501", "[::1]:8501", "http"): True,
        ("http://localhost:3000", "localhost:8501", "http"): False,
        ("http://localhost", "localhost:8501", "http"): False,
        ("http://127.0.0.1:8501", "localhost:8501", "http"): False,
        ("https://lab.example.com:9999", "localhost:8501", "http"): False,
        ("https://odd.example.com", "localhost:8501", "http"): False,
        ("http://any.example", "any.example", "https"): False,
        ("http://any.example", "any.example", "wss"): False,
        ("null", "localhost:8501", "http"): False,
        ("", "localhost:8501", "http"): False,
        ("localhost:8501", "localhost:8501", "http"): False,
        ("file://", "localhost:8501", "http"): False,
        ("chrome-extension://localhost:8501", "localhost:8501", "http"): False,
        ("http://localhost:8501/", "localhost:8501", "http"): False,
        ("http://localhost:8501@evil.example", "localhost:8501", "http"): False,
        ("http://evil.example#localhost:8501", "localhost:8501", "http"): False,
        ("http://localhost:8501 http://evil.example", "localhost:8501", "http"): False,
        ("http://localhost:8501.evil.example", "localhost:8501", "http"): False,
    }
    got = {case: rules.may_come_from(case[0], parse_host(case[1]) or Host(""), case[2]) for case in cases}
    assert got == cases


def test_configured_hosts_are_names_and_a_wrong_one_says_how_it_is_written() -> None:
    assert configured_host(" Bücher.example ") == Host("xn--bcher-kva.example")
    assert configured_host("lab.example.com:8443") == Host("lab.example.com", 8443)
    assert configured_host("fd00::7") == Host("fd00::7") and configured_host("[fd00::7]:80") == Host("fd00::7", 80)
    taken = []
    for wrong in (
        "https://lab.example.com",
        "*",
        "*.example.com",
        "lab.example.com/",
        "0.0.0.0",
        "::",
        "a b",
        "a:b",
        "",
    ):
        try:
            taken.append(configured_host(wrong))
        except BadHost as error:
            assert "write the name" in str(error)
    assert not taken


def test_the_file_names_hosts_and_a_broken_one_opens_nothing_and_closes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, now = tmp_path / "deployments.toml", [0.0]
    configured = ConfiguredHosts(file=lambda: file, clock=lambda: now[0])

    def after(text: str | None) -> set[str]:
        if text is None:
            file.unlink()
        else:
            file.write_text(text)
        now[0] += 2
        os.utime(file, ns=(int(now[0]) * 10**9,) * 2) if file.exists() else None
        return {host.name for host in configured.hosts()}

    assert not configured.hosts()
    broken = '[access]\nhosts = ["evil.example"\n'
    assert after(broken) == set()
    assert after('[access]\nhosts = ["lab.example.com"]\n') == {"lab.example.com"}
    assert after(broken) == {"lab.example.com"}
    assert after('[access]\nhosts = ["lab.example.com", "https://b.example"]\n') == {"lab.example.com"}
    monkeypatch.setenv("LAB_HOSTS", " A.example, , *, b.example:1")
    assert {host.name for host in configured.hosts()} == {"lab.example.com", "a.example", "b.example"}
    assert after("") == {"a.example", "b.example"}
    assert after(None) == {"a.example", "b.example"}
    file.write_text('[access]\nmode = "open"\nhosts = ["ok.example", "*.example"]\n')
    with pytest.raises(
        ConfigError, match=r"line 3: \[access\] has a wrong entry in 'hosts': '\*.example' is not a host"
    ):
        load(file)


ROUTES = (
    "/",
    "/_stcore/health",
    "/_stcore/host-config",
    "/_stcore/metrics",
    "/media/x.png",
    "/component/x/y.js",
    "/_stcore/bidi-components/x/y.js",
    "/auth/login",
    "/auth/logout",
    "/oauth2callback",
    "/static/js/x.js",
    "/_stcore/agent/openapi.json",
    "/api/board/x",
    "/playground",
    "/nothing",
    "/favicon.png",
)


@pytest.mark.slow
async def test_every_route_is_behind_the_door(pages: Pages) -> None:
    open_doors = []
    async with aiohttp.ClientSession() as client:
        for host in (
            "evil.example",
            "evil.example:8501",
            "localhost.evil.example",
            "2130706433",
            "0.0.0.0",
            "a.localhost",
        ):
            for path in ROUTES:
                for method in ("GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE"):
                    headers = {"Host": host, "X-Forwarded-Host": "localhost", "Forwarded": "host=localhost"}
                    async with client.request(
                        method, pages.base + path, headers=headers, allow_redirects=False
                    ) as response:
                        if response.status != 421:
                            open_doors.append((host, method, path, response.status))
            for path in ("/_stcore/stream", "/api/board/x", "/nothing"):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await client.ws_connect(pages.base + path, headers={"Host": host, "Origin": f"http://{host}"})
                if refused.value.status != 421:
                    open_doors.append((host, "WS", path, refused.value.status))
        async with client.get(f"{pages.base}/", headers={"Host": "evil.example"}) as response:
            sentence = await response.text()
    assert not open_doors
    assert "evil.example" in sentence and "[access]" in sentence and "LAB_HOSTS" in sentence


async def test_our_own_names_are_answered_and_odd_requests_are_not(pages: Pages) -> None:
    good = (
        "localhost",
        "LOCALHOST.:1",
        "127.0.0.1",
        "127.9.9.9:80",
        "[::1]:8501",
        "[::ffff:127.0.0.1]",
        "lab.example.com",
        "LAB.example.com:443",
        "odd.example.com",
        "xn--bcher-kva.example",
    )
    get = "GET /_stcore/health HTTP/1.1\r\nHost: {}\r\n\r\n"
    answered = {host: await first_line(pages, get.format(host).encode()) for host in good}
    assert set(answered.values()) == {b"HTTP/1.1 200 OK"}, answered
    odd = {
        "none": b"GET /_stcore/health HTTP/1.0\r\n\r\n",
        "none 1.1": b"GET /_stcore/health HTTP/1.1\r\n\r\n",
        "empty": b"GET /_stcore/health HTTP/1.1\r\nHost:\r\n\r\n",
        "two": b"GET /_stcore/health HTTP/1.0\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        "two alike": b"GET /_stcore/health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        "absolute": b"GET http://evil.example/_stcore/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "absolute 2": b"GET HTTP://evil.example/_stcore/health HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "letters": "GET /_stcore/health HTTP/1.1\r\nHost: bücher.example\r\n\r\n".encode(),
        "user": b"GET /_stcore/health HTTP/1.1\r\nHost: localhost@evil.example\r\n\r\n",
        "fold": b"GET /_stcore/health HTTP/1.1\r\nHost: localhost\r\n evil.example\r\n\r\n",
    }
    lines = {name: await first_line(pages, request) for name, request in odd.items()}
    assert {line.split(b" ")[1] for line in lines.values()} <= {b"421", b"400"}, lines


@pytest.mark.slow
async def test_foreign_pages_are_refused_and_get_no_right_to_read(pages: Pages) -> None:
    own = pages.base
    foreign = (
        "null",
        "http://localhost:3000",
        "http://127.0.0.1:3000",
        f"http://localhost:{pages.port}",
        "http://evil.example",
        f"https://127.0.0.1:{pages.port}.evil.example",
        "https://lab.example.com:444",
        f"{own}/",
        "file://",
        "",
        "chrome-extension://abcdef",
    )
    let_in, rights = [], []
    async with aiohttp.ClientSession() as client:
        for origin in foreign:
            headers = {"Origin": origin}
            for path in ("/_stcore/stream", "/api/board/x"):
                try:
                    await client.ws_connect(own + path, headers=headers)
                    let_in.append((origin, "WS", path))
                except aiohttp.WSServerHandshakeError as error:
                    assert error.status == 403
            for path in ROUTES:
                for method in ("POST", "PUT", "DELETE", "PATCH", "GET", "OPTIONS"):
                    async with client.request(method, own + path, headers=headers, allow_redirects=False) as response:
                        if method not in ("GET", "OPTIONS") and response.status != 403:
                            let_in.append((origin, method, path))
                        rights += [
                            (origin, path, name) for name in response.headers if name.lower().startswith("access-")
                        ]
        # What a browser says of a script, an image or a fetch without CORS of another site, and of a person's click.
        for site, mode, status in (
            ("cross-site", "no-cors", 403),
            ("same-site", "no-cors", 403),
            ("same-site", "cors", 403),
            ("cross-site", "navigate", 200),
            ("same-origin", "cors", 200),
            ("none", "navigate", 200),
        ):
            headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
            async with client.get(f"{own}/_stcore/host-config", headers=headers) as response:
                assert response.status == status, (site, mode)
                assert json.loads(await response.text())["allowedOrigins"] == [] if status == 200 else True
                assert status != 200 or response.headers["cross-origin-resource-policy"] == "same-origin"
    assert not let_in
    assert not rights


async def test_our_page_is_let_in_directly_and_behind_either_kind_of_proxy(pages: Pages) -> None:
    async with aiohttp.ClientSession() as client:
        for host, origin in (
            (None, pages.base),
            ("lab.example.com", "https://lab.example.com"),  # TLS in front, Host kept
            ("localhost:8501", "https://lab.example.com"),  # TLS in front, Host of its own
            ("localhost:8501", "https://odd.example.com:8443"),
            ("localhost", "http://LOCALHOST:80"),
        ):
            headers = {"Origin": origin} | ({"Host": host} if host else {})
            for path in ("/_stcore/stream", "/api/board/x"):
                ws = await client.ws_connect(pages.base + path, headers=headers)
                await ws.close()
        ws = await client.ws_connect(f"{pages.base}/_stcore/stream")  # no browser at all, as before
        await ws.close()
    assert "Rejecting" not in pages.log.read_text()


@pytest.mark.slow
async def test_a_changed_file_holds_without_a_restart(pages: Pages) -> None:
    get = b"GET /_stcore/health HTTP/1.1\r\nHost: new.example.com\r\n\r\n"
    assert b"421" in await first_line(pages, get)
    pages.deployments.write_text('[access]\nhosts = ["new.example.com"]\n')
    end = time.monotonic() + 20
    while b"200" not in (answer := await first_line(pages, get)) and time.monotonic() < end:
        pass
    pages.deployments.unlink()
    assert b"200" in answer


@pytest.mark.slow
async def test_on_every_address_the_one_at_which_a_browser_arrived_is_answered(tmp_path: Path) -> None:
    served = serve(tmp_path, "0.0.0.0", LAB_EVERYONE_IS_ADMIN="1")
    try:
        # 127.0.0.2 is this machine too, and loopback in any case; what counts is that a name still is refused.
        for host, status in (
            ("0.0.0.0", b"200"),
            ("localhost", b"200"),
            ("evil.example", b"421"),
            ("10.9.8.7", b"421"),
        ):
            line = await first_line(served, f"GET /_stcore/health HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            assert status in line, host
    finally:
        served.process.terminate()
        served.process.wait(20)
