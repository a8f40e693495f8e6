"""A small OIDC provider on 127.0.0.1: it signs in whoever its script says, rightly or in one wrong way."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "lab", "canary-client-secret-5c1d"


@dataclass
class Script:
    """What the provider does. ``claims`` are put over the right ones (None takes one out)."""

    email: str = "ada@example.com"
    claims: dict[str, Any] = field(default_factory=dict)
    lifetime_s: int = 3600
    key: str = "right"  # "other": a key that is not published; "none": no signature
    deny: str = ""  # the error that authorize leads back with
    token_status: int = 200
    down: bool = False


class Provider:
    """The provider as a context manager; ``script`` may be changed at any time."""

    def __init__(self) -> None:
        self.script = Script()
        self.key = RSAKey.generate_key(2048, {"kid": "right", "use": "sig", "alg": "RS256"})
        self.other = RSAKey.generate_key(2048, {"kid": "right"})
        self.codes: dict[str, dict[str, str]] = {}
        self.handed_out: list[str] = []  # tokens and codes, which no log may hold
        self.signed_out = 0
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.get(self)

            def do_POST(self) -> None:
                provider.post(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Provider:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        address = urlsplit(request.path)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        if self.script.down:
            _answer(request, 503, {"error": "down"})
        elif address.path == "/.well-known/openid-configuration":
            _answer(
                request,
                200,
                {
                    "issuer": self.url,
                    "authorization_endpoint": f"{self.url}/authorize",
                    "jwks_uri": f"{self.url}/jwks",
                    "token_endpoint": f"{self.url}/token",
                    "end_session_endpoint": f"{self.url}/end",
                    "id_token_signing_alg_values_supported": ["RS256"],
                    "code_challenge_methods_supported": ["S256"],
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                },
            )
        elif address.path == "/jwks":
            _answer(request, 200, {"keys": [self.key.as_dict(private=False)]})
        elif address.path == "/authorize":
            _lead(request, query["redirect_uri"], self._answer_to(query))
        elif address.path == "/end":
            self.signed_out += 1
            _lead(request, query["post_logout_redirect_uri"], {})
        else:
            _answer(request, 404, {})

    def _answer_to(self, query: dict[str, str]) -> dict[str, str]:
        if self.script.deny:
            return {"error": self.script.deny, "error_description": "no\nway", "state": query["state"]}
        code = secrets.token_urlsafe(24)
        self.codes[code] = query
        self.handed_out.append(code)
        return {"code": code, "state": query["state"]}

    def post(self, request: BaseHTTPRequestHandler) -> None:
        body = parse_qs(request.rfile.read(int(request.headers["Content-Length"])).decode())
        asked = self.codes.pop(body["code"][0], None)  # a code is good for one time
        if self.script.token_status != 200 or asked is None:
            _answer(request, self.script.token_status if asked else 400, {"error": "invalid_grant"})
            return
        digest = hashlib.sha256(body["code_verifier"][0].encode()).digest()
        assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == asked["code_challenge"]
        token, access = self.id_token(asked.get("nonce", "")), secrets.token_urlsafe(32)
        self.handed_out += [token, access]
        _answer(request, 200, {"access_token": access, "id_token": token, "token_type": "Bearer", "expires_in": 3600})

    def id_token(self, nonce: str) -> str:
        """An ID token as the script wants it."""
        now = int(time.time())
        right = {
            "iss": self.url,
            "sub": f"id of {self.script.email}",
            "aud": CLIENT,
            "iat": now,
            "exp": now + self.script.lifetime_s,
            "nonce": nonce,
            "email": self.script.email,
            "email_verified": True,
        }
        claims = {name: value for name, value in (right | self.script.claims).items() if value is not None}
        if self.script.key == "none":
            parts = ({"alg": "none"}, claims)
            return ".".join(base64.urlsafe_b64encode(json.dumps(p).encode()).rstrip(b"=").decode() for p in parts) + "."
        key = self.other if self.script.key == "other" else self.key
        return jwt.encode({"alg": "RS256", "kid": "right"}, claims, key)


def _answer(request: BaseHTTPRequestHandler, status: int, value: Any) -> None:
    body = json.dumps(value).encode()
    request.send_response(status)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    request.wfile.write(body)


def _lead(request: BaseHTTPRequestHandler, where: str, fields: dict[str, str]) -> None:
    request.send_response(302)
    request.send_header("Location", f"{where}?{urlencode(fields)}" if fields else where)
    request.send_header("Content-Length", "0")
    request.end_headers()
