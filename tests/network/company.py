"""A company's network: a proxy that is the only one to know names, and an authority that nobody else trusts.

``Company`` runs both in a thread of its own. The proxy answers CONNECT (and plain requests) as it is told to, keeps
what it was asked, and ends TLS for each host with a certificate of the authority, as companies' proxies do.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROXY_VARIABLES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
CA_VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "AWS_CA_BUNDLE")
VARIABLES = (*PROXY_VARIABLES, *(name.lower() for name in PROXY_VARIABLES), *CA_VARIABLES)


class Authority:
    """Certificates of an authority that was made a moment ago. ``file``: its own, in PEM form."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company's authority")])
        made = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, None), critical=True)
        self.file = folder / "company.pem"
        self.file.write_bytes(made.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def context(self, host: str) -> ssl.SSLContext:
        """What a server needs that calls itself ``host``."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:60])])
        names = x509.SubjectAlternativeName([x509.DNSName(host)])
        made = self._builder(name, key).add_extension(names, critical=False).sign(self._key, hashes.SHA256())
        file = self._folder / f"{host}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + made.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _builder(self, name: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )


class Company:
    """``with Company(folder) as company:``. ``hosts``: name → address of the plain server that stands behind it.

    ``login`` ("user:password") is asked for; ``answer`` is the status of every CONNECT instead of 200; ``hang_up``
    ends every connection without an answer, ``silent`` leaves it without one. ``asked`` holds what the proxy was asked,
    "CONNECT host:port" or a plain request's line, and ``seen`` every header line that it could read.
    """

    def __init__(self, folder: Path) -> None:
        self.authority = Authority(folder)
        self.hosts: dict[str, str] = {}
        self.login: str | None = None
        self.answer: int | None = None
        self.hang_up = self.silent = False
        self.asked: list[str] = []
        self.seen: list[str] = []
        self.port = self.safe_port = 0  # the second is the one of https://localhost
        self._fronts: dict[str, int] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="a company's proxy", daemon=True)

    @property
    def proxy(self) -> str:
        """The proxy's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connects(self) -> list[str]:
        """The hosts that tunnels were asked to."""
        return [line.split()[1].rpartition(":")[0] for line in self.asked if line.startswith("CONNECT")]

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        server = self._loop.run_until_complete(asyncio.start_server(self._proxied, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        tls = self.authority.context("localhost")
        safe = self._loop.run_until_complete(asyncio.start_server(self._proxied, "127.0.0.1", 0, ssl=tls))
        self.safe_port = safe.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _proxied(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *headers = head.split("\r\n")
            self.asked.append(first)
            self.seen += headers
            if self.silent:
                await reader.read()
                writer.close()
                return
            if self.hang_up:
                writer.close()
                return
            wanted = f"proxy-authorization: basic {base64.b64encode((self.login or '').encode()).decode()}"
            if self.login is not None and wanted.lower() not in {line.lower() for line in headers}:
                await self._says(writer, 407)
            elif self.answer is not None:
                await self._says(writer, self.answer)
            elif first.startswith("CONNECT"):
                await self._tunnel(first.split()[1].rpartition(":")[0], reader, writer)
            else:
                await self._plain(first, headers, reader, writer)

    async def _says(self, writer: asyncio.StreamWriter, status: int) -> None:
        writer.write(f"HTTP/1.1 {status} No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async def _tunnel(self, host: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if host not in self.hosts:
            await self._says(writer, 502)
            return
        if host not in self._fronts:
            front = await asyncio.start_server(
                lambda r, w: self._pipe(self.hosts[host], r, w), "127.0.0.1", 0, ssl=self.authority.context(host)
            )
            self._fronts[host] = front.sockets[0].getsockname()[1]
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await self._pipe(f"http://127.0.0.1:{self._fronts[host]}", reader, writer)

    async def _plain(
        self, first: str, headers: list[str], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        method, url, version = first.split()
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        start = "\r\n".join([f"{method} {path} {version}", *headers]).encode("latin-1")
        await self._pipe(self.hosts[parts.hostname or ""], reader, writer, start)

    async def _pipe(
        self, to: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: bytes = b""
    ) -> None:
        place = urlsplit(to)
        far_reader, far_writer = await asyncio.open_connection(place.hostname, place.port)
        far_writer.write(start)
        await asyncio.gather(_copied(reader, far_writer), _copied(far_reader, writer))


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        writer.close()
