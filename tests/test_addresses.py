"""No URL reaches what it may not reach, however it is spelled and whatever its name resolves to."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from services.security.network import Forbidden, GuardedResolver, check_ip, check_url, host_of, literal_address

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})

NEVER = [
    "http://169.254.169.254/latest/meta-data/",
    "http://169.254.170.2/v2/credentials",
    "http://2852039166/",
    "http://0xA9FEA9FE/",
    "http://0xA9.0xFE.0xA9.0xFE/",
    "http://0251.0376.0251.0376/",
    "http://169.254.43518/",
    "http://169.16689662/",
    "http://169.254.169.254./",
    "http://①⑥⑨.254.169.254/",
    "http://169。254。169。254/",
    "http://[::ffff:169.254.169.254]/",
    "http://[::ffff:a9fe:a9fe]/",
    "http://[::169.254.169.254]/",
    "http://[64:ff9b::169.254.169.254]/",
    "http://[2002:a9fe:a9fe::]/",
    "http://[fd00:ec2::254]/",
    "http://[fd20:ce::254]/",
    "http://[fe80::1]/",
    "http://[fe80::1%25eth0]/",
    "http://100.100.100.200/",
    "http://168.63.129.16/",
    "http://192.0.0.192/",
    "http://metadata.google.internal/computeMetadata/v1/",
    "http://METADATA.google.internal./",
    "http://metadata/",
    "http://instance-data/latest/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
]
PRIVATE = [
    "http://127.0.0.1:8000/v1",
    "http://127.1/",
    "http://0x7f.1/",
    "http://2130706433/",
    "http://0/",
    "http://0.0.0.0:8000/",
    "http://10.0.0.5/v1",
    "http://172.16.3.4/",
    "http://192.168.1.1/",
    "http://100.64.0.1/",
    "http://[::1]:8080/",
    "http://[::]/",
    "http://[::ffff:10.0.0.5]/",
    "http://[fd12:3456::1]/",
    "http://[2002:7f00:1::]/",
]
MALFORMED = [
    "",
    "api.openai.com/v1",
    "file:///etc/passwd",
    "gopher://127.0.0.1:6379/_INFO",
    "ftp://example.com/",
    "unix:///run/x.sock",
    "javascript:alert(1)",
    "//example.com/v1",
    "http:///x",
    "http://",
    "http://:80/",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://api.openai.com@169.254.169.254/",
    "https://example.com\\@169.254.169.254/",
    "https://example.com/\r\nX-Injected: 1",
    "https://exam\nple.com/",
    "https://example.com/ v1",
    "https://example.com\t/",
    "https://example.com:99999/",
    "https://example.com:port/",
    "https://example.com:0/",
    "https://bücher.example/",
    "https://ⓔxample.com/",
    "https://exa%6dple.com/",
    "https://[::1/",
    "https://[not-an-address]/",
    "https://-example.com/",
]
FINE = [
    "https://api.anthropic.com",
    "https://api.openai.com/v1",
    "http://vllm.internal:8000/v1",
    "https://xn--bcher-kva.example/v1",
    "https://8.8.8.8/v1",
    "https://[2606:4700::1111]/v1",
    "https://EXAMPLE.com./v1",
    "https://model_server-1.example/",
]


@pytest.mark.parametrize("url", NEVER)
def test_a_metadata_or_reserved_address_is_refused_even_when_everything_is_allowed(url: str) -> None:
    host = url.split("/")[2].strip("[]")
    with pytest.raises(Forbidden):
        check_url(url, allow_private=["0.0.0.0/0", "::/0", host, host.lower()])


@pytest.mark.parametrize("url", PRIVATE)
def test_a_private_address_is_refused_unless_it_is_allowed(url: str) -> None:
    with pytest.raises(Forbidden, match="allow_private_hosts"):
        check_url(url, allow_private=())
    check_url(url, allow_private=[host_of(url)])
    check_url(url, allow_private=["0.0.0.0/0", "::/0"])


@pytest.mark.parametrize("url", MALFORMED)
def test_a_url_that_two_readers_could_read_differently_is_refused(url: str) -> None:
    with pytest.raises(Forbidden) as caught:
        check_url(url, allow_private=["0.0.0.0/0", "::/0", "example.com"])
    assert "pass" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("url", FINE)
def test_an_ordinary_address_passes(url: str) -> None:
    check_url(url, allow_private=())


def test_there_are_enough_of_them() -> None:
    assert len({*NEVER, *PRIVATE, *MALFORMED}) >= 60


@pytest.mark.parametrize(
    ("allow", "ip", "passes"),
    [
        (["10.0.0.0/8"], "10.1.2.3", True),
        (["10.0.0.0/8"], "192.168.1.1", False),
        (["10.0.0.5"], "10.0.0.5", True),
        (["10.0.0.5"], "10.0.0.6", False),
        (["VLLM.internal."], "10.0.0.6", True),
        (["other.internal"], "10.0.0.6", False),
        (["fd00::/8"], "fd12::1", True),
        (["fd00::/8"], "fd00:ec2::254", False),
        (["vllm.internal"], "169.254.169.254", False),
        (["vllm.internal"], "fe80::1%2", False),
        ([], "93.184.216.34", True),
        ([], "64:ff9b::5db8:d822", True),
        (["not a host!", "10.0.0.0/99"], "10.0.0.6", False),
    ],
)
def test_names_addresses_and_ranges_can_be_allowed(allow: list[str], ip: str, passes: bool) -> None:
    if passes:
        check_ip(ip, "vllm.internal", allow)
    else:
        with pytest.raises(Forbidden) as caught:
            check_ip(ip, "vllm.internal", allow)
        assert ip.partition("%")[0] not in str(caught.value)


def test_every_numeric_spelling_is_read_as_the_c_library_reads_it() -> None:
    for text in ("2852039166", "0xA9FEA9FE", "0251.0376.0251.0376", "169.254.43518"):
        assert str(literal_address(text)) == "169.254.169.254"
    assert str(literal_address("127.1")) == "127.0.0.1"
    assert literal_address("example.com") is None


# --- with a real client and a real server ----------------------------------------------------------------------------


class Served:
    """A loopback server that counts what reaches it."""

    def __init__(self) -> None:
        self.hits = 0
        self.port = 0

    async def answer(self, _: web.Request) -> web.Response:
        self.hits += 1
        return web.Response(text="hello")


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    counted = Served()
    app = web.Application()
    app.router.add_get("/", counted.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    counted.port = runner.addresses[0][1]
    yield counted
    await runner.cleanup()


@asynccontextmanager
async def client(allow: Collection[str]) -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(resolver=GuardedResolver(lambda: allow))
    async with aiohttp.ClientSession(connector=connector, trust_env=False) as session:
        yield session


@pytest.mark.parametrize("allow", [["localhost"], ["127.0.0.0/8", "::1"]])
async def test_a_name_that_resolves_to_loopback_is_reached_when_it_is_allowed(served: Served, allow: list[str]) -> None:
    async with client(allow) as session, session.get(f"http://localhost:{served.port}/") as response:
        assert await response.text() == "hello"
    assert served.hits == 1


async def test_a_name_that_resolves_to_loopback_is_refused_before_a_connection_is_made(served: Served) -> None:
    async with client(["another.host"]) as session:
        with pytest.raises(Forbidden) as caught:
            await session.get(f"http://localhost:{served.port}/")
    assert served.hits == 0
    assert "127.0.0.1" not in str(caught.value) and "::1" not in str(caught.value)


async def test_the_allowed_hosts_are_asked_at_each_resolution() -> None:
    allow: set[str] = set()
    resolver = GuardedResolver(lambda: allow)
    with pytest.raises(Forbidden):
        await resolver.resolve("localhost", 80)
    allow.add("localhost")
    found = await resolver.resolve("localhost", 80, socket.AF_INET)
    assert [(one["host"], one["port"], one["hostname"]) for one in found] == [("127.0.0.1", 80, "localhost")]


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f000001", "0", "2852039166", "169.254.43518"])
async def test_a_number_that_the_name_service_reads_as_an_address_is_refused_by_the_resolver_too(host: str) -> None:
    with pytest.raises(Forbidden):
        await GuardedResolver(frozenset).resolve(host, 80)


@pytest.mark.parametrize("host", ["metadata.google.internal", "Metadata.Google.Internal."])
async def test_a_metadata_host_is_not_even_resolved(host: str) -> None:
    with pytest.raises(Forbidden):
        await GuardedResolver(lambda: [host, host.lower(), "0.0.0.0/0"]).resolve(host, 80)


async def test_a_name_that_does_not_exist_is_an_ordinary_connection_error() -> None:
    async with client(LOOPBACK) as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get("http://no-such-host.invalid/")
