"""Answers that are no event stream: what each of them means."""

from __future__ import annotations

import email.utils
import json
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.providers.errors import http_error, plain, retry_after
from services.types import Outcome


def _body(**error: object) -> bytes:
    return json.dumps({"type": "error", "error": error}).encode()


HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
ROWS: list[tuple[int, bytes, Outcome]] = [
    (400, _body(type="invalid_request_error", message="temperature: unknown field"), "http_error"),
    (
        400,
        _body(type="invalid_request_error", message="Your credit balance is too low to access the API"),
        "quota_exhausted",
    ),
    (400, _body(code="content_policy_violation", message="x"), "filtered"),
    (401, _body(type="authentication_error", message="invalid x-api-key"), "unauthorised"),
    (401, b"", "unauthorised"),
    (402, _body(type="billing_error", message="x"), "quota_exhausted"),
    (403, _body(type="permission_error", message="x"), "unauthorised"),
    (404, _body(type="not_found_error", message="model: claude-9"), "not_found"),
    (404, b'{"detail":"Not Found"}', "not_found"),
    (400, _body(type="invalid_request_error", code="model_not_found", message="x"), "not_found"),
    (408, b"", "timeout_headers"),
    (413, _body(type="request_too_large", message="x"), "http_error"),
    (422, b'{"detail":[{"loc":["body","stream_options"],"msg":"Extra inputs are not permitted"}]}', "http_error"),
    (429, _body(type="rate_limit_error", message="x"), "throttled"),
    (429, b"slow down", "throttled"),
    (429, _body(type="insufficient_quota", code="insufficient_quota", message="x"), "quota_exhausted"),
    (429, _body(code="credit_balance_exhausted", message="x"), "quota_exhausted"),
    (
        429,
        _body(type="rate_limit_error", message="x", details={"error_code": "enforced_spend_limit_reached"}),
        "quota_exhausted",
    ),
    (500, _body(type="api_error", message="Internal server error"), "http_error"),
    (500, HTML, "http_error"),
    (502, HTML, "http_error"),
    (503, _body(code=503, message="Loading model", type="unavailable_error"), "overloaded"),
    (503, HTML, "overloaded"),
    (504, HTML, "timeout_headers"),
    (529, _body(type="overloaded_error", message="Overloaded"), "overloaded"),
    (302, b"", "http_error"),
    (200, HTML, "protocol_error"),
    (200, b'{"choices":[{"message":{"content":"not streamed"}}]}', "protocol_error"),
    (200, b"OK", "protocol_error"),
    (200, _body(type="overloaded_error", message="x"), "overloaded"),
    (200, b'{"object":"error","message":"boom","type":"internal_error","code":500}', "stream_error"),
    (200, b"  ", "empty"),
]


@pytest.mark.parametrize(("status", "body", "outcome"), ROWS)
def test_each_answer_has_its_own_outcome(status: int, body: bytes, outcome: Outcome) -> None:
    assert http_error(status, {"content-type": "text/html" if body == HTML else "application/json"}, body).outcome == (
        outcome
    )


def test_the_services_own_words_are_kept() -> None:
    error = http_error(400, {}, _body(type="invalid_request_error", code="bad_thing", message="max_tokens: too big"))
    assert (error.type, error.code, error.message) == ("invalid_request_error", "bad_thing", "max_tokens: too big")


def test_an_error_inside_a_list_or_as_a_plain_text_is_found() -> None:
    assert http_error(400, {}, b'[{"error":{"message":"in a list"}}]').message == "in a list"
    assert http_error(400, {}, b'{"error":"just a text"}').message == "just a text"
    assert http_error(422, {}, b'{"detail":[{"msg":"why"}]}').message == '[{"msg":"why"}]'


def test_a_redirect_names_its_host_and_says_that_it_is_not_followed() -> None:
    error = http_error(307, {"Location": "https://user:pass@login.example/x?token=SECRET"}, b"")
    assert error.message == "it redirects to login.example and redirects are not followed"


def test_a_web_page_is_named_as_such_and_not_quoted_at_length() -> None:
    error = http_error(200, {"content-type": "text/html"}, HTML * 50)
    assert "a web page instead of a stream" in error.message
    assert len(error.message) <= 200
    assert http_error(502, {}, HTML).message == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "12"}, 12.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500"}, 1.5),
        ({}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_the_wait_the_service_asks_for_is_read(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds
    assert http_error(429, headers, b"").retry_after_s == seconds


def test_the_wait_may_be_a_date() -> None:
    wait = retry_after({"retry-after": email.utils.formatdate(time.time() + 3600, usegmt=True)})
    assert wait is not None
    assert 3000 < wait <= 3600


@given(st.text(max_size=600))
def test_a_message_never_carries_control_characters_or_more_than_200(text: str) -> None:
    line = plain(text)
    assert len(line) <= 200
    assert not any(unicodedata.category(c).startswith("C") for c in line)


def test_hidden_and_direction_changing_characters_are_taken_out() -> None:
    assert plain("a\x1b[31m\u202eb\u200bc\r\nd\x00\ue000") == "a [31mbc d"


@given(
    status=st.integers(200, 599),
    body=st.binary(max_size=200),
    headers=st.dictionaries(
        st.sampled_from(["content-type", "retry-after", "location", "retry-after-ms"]), st.text(max_size=20)
    ),
)
@settings(max_examples=300)
def test_no_answer_whatever_raises(status: int, body: bytes, headers: dict[str, str]) -> None:
    error = http_error(status, headers, body)
    assert error.outcome not in ("ok", "max_tokens")
    assert len(error.message) <= 200


@pytest.mark.slow
@given(
    status=st.integers(200, 599),
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "type", "code", "message", "detail", "details", "error_code", "object"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ),
)
@settings(max_examples=300)
def test_no_json_whatever_raises(status: int, body: object) -> None:
    assert http_error(status, {}, json.dumps(body).encode()).outcome not in ("ok", "max_tokens")
