"""Keys of both vendors: where they go and where they never show."""

from __future__ import annotations

import json
import logging
import traceback

import pytest

from services.batch.types import RouteTrouble, SubmitLater, SubmitRefused
from tests.batch.vendors.house import KEY, KEY_NAME, Vendor


def test_a_refused_key_is_told_without_the_key(
    any_vendor: Vendor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_NAME, "sk-wrong-9988776655aa")
    any_vendor.faults.echo_key = True
    caplog.set_level(logging.DEBUG, logger="services")

    with pytest.raises(SubmitRefused, match=f"did not accept the key .*check {KEY_NAME}") as refused:
        any_vendor.submit()
    found = any_vendor.route.check(any_vendor.deployment)
    shown = [*found, *traceback.format_exception(refused.value), caplog.text, *any_vendor.bench.said]
    assert found and not any("sk-wrong" in one for one in shown)


def test_no_file_and_no_name_of_a_file_holds_the_key(any_vendor: Vendor) -> None:
    any_vendor.run()
    for path in any_vendor.bench.folder.rglob("*"):
        assert KEY not in str(path)
        assert path.is_dir() or KEY.encode() not in path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("call", ["check", "submit", "poll", "results"])
def test_a_key_is_not_sent_to_a_host_that_it_is_not_bound_to(any_vendor: Vendor, call: str) -> None:
    job = any_vendor.submit()
    seen = len(any_vendor.api.log)
    any_vendor.url = any_vendor.url.replace("127.0.0.1", "localhost")
    place = any_vendor.bench

    with pytest.raises((SubmitRefused, RouteTrouble, AssertionError), match="may not be sent to the host 'localhost'"):
        if call == "check":
            raise AssertionError(any_vendor.route.check(any_vendor.deployment))
        if call == "submit":
            any_vendor.submit(any_vendor.job(token="token-2"))
        if call == "poll":
            any_vendor.poll(job)
        list(any_vendor.route.results(any_vendor.deployment, job, place))
    assert len(any_vendor.api.log) == seen


def test_keys_and_headers_of_the_environment_are_not_sent(any_vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ANTHROPIC_AUTH_TOKEN", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID"):
        monkeypatch.setenv(name, "ambient-1234567890")
    for name in ("ANTHROPIC_CUSTOM_HEADERS", "OPENAI_CUSTOM_HEADERS"):
        monkeypatch.setenv(name, "X-Secret: ambient-1234567890\nAuthorization: Bearer ambient-1234567890")
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    any_vendor.run()

    sent = json.dumps([dict(one.headers) for one in any_vendor.api.log])
    assert "ambient" not in sent and KEY in sent


def test_a_missing_key_is_named_by_its_variable(any_vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_NAME)
    assert any_vendor.route.check(any_vendor.deployment) == [
        f"The tested one needs {KEY_NAME}: put the key into the environment or .streamlit/secrets.toml."
    ]
    with pytest.raises(SubmitRefused, match=KEY_NAME):
        any_vendor.submit()


def test_check_is_content_with_a_key_and_a_model_that_work_and_names_a_model_that_does_not(any_vendor: Vendor) -> None:
    assert any_vendor.route.check(any_vendor.deployment) == []
    any_vendor.api._models = ("another",)
    found = any_vendor.route.check(any_vendor.deployment)
    assert found == [one for one in found if f"has no model “{any_vendor.deployment.model}”" in one] != []


def test_a_server_that_is_not_there_comes_later_and_is_no_doubtful_submit(any_vendor: Vendor) -> None:
    any_vendor.url = "http://127.0.0.1:9"
    with pytest.raises(SubmitLater, match="could not be reached"):
        any_vendor.submit()
    assert any_vendor.route.check(any_vendor.deployment) != []
