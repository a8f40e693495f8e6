"""What is not a live call goes the same way: batches by the SDKs, AWS's control planes, alerts, servers' gauges."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from app.cli import doctor
from services import alerts
from services.aws import control
from services.aws.control import AwsTrouble, Place
from services.batch import providers
from services.batch.types import SubmitLater
from services.client import EngineClient, EngineDown
from services.deployments.config import Config
from tests.aws.fixture import AwsEmulator
from tests.batch.aws.house import bedrock
from tests.batch.vendors.anthropic_api import AnthropicApi
from tests.batch.vendors.house import KEY, KEY_NAME, MODELS, Vendor, vendor
from tests.batch.vendors.openai_api import OpenAIApi
from tests.batch.vendors.server import Server
from tests.engine.house import House, table
from tests.network.company import Company

HOSTS = {"openai": "api.openai.com", "anthropic": "api.anthropic.com"}


@pytest.fixture
def bound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv(KEY_NAME, KEY)
    config = Config(key_hosts={KEY_NAME: tuple(HOSTS.values())})
    providers.configure(lambda: config)
    yield
    providers.configure(None)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(HOSTS))
def test_a_batch_goes_through_the_proxy_from_submit_to_results_and_a_proxy_that_fails_is_named(
    name: str, company: Company, bound: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wire, models = {"openai": "responses", "anthropic": "messages"}[name], (MODELS[name],)
    host = HOSTS[name]
    api = OpenAIApi(key=KEY, models=models) if name == "openai" else AnthropicApi(key=KEY, models=models)
    with Server(api) as server:
        company.hosts[host] = server.url
        made = vendor(name, f"https://{host}", tmp_path, api, wire)
        if isinstance(api, AnthropicApi):
            api.results_at = f"https://{host}"
        assert made.route.check(made.deployment) == []
        results = made.run(3)
        assert sorted(results) == [1, 2, 3] and {one.state for one in results.values()} == {"succeeded"}
        assert set(company.connects) == {host} and not any(KEY in line for line in company.seen)
        _fails(made, company, monkeypatch)


def _fails(made: Vendor, company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = {
        "login": "wants a user name and a password (407)",
        "refused": "did not connect to the host (403)",
        "browser": "wants a sign-in page in a browser first (302)",
        "certificate": "a certificate that is not trusted here",
        "gone": "does not answer",
    }
    for number, (case, words) in enumerate(cases.items()):
        with monkeypatch.context() as patch:
            company.login = "ada:sesame-4711" if case == "login" else None
            company.answer = {"refused": 403, "browser": 302}.get(case)
            if case == "certificate":
                patch.setenv("SSL_CERT_FILE", "")
            if case == "gone":
                patch.setenv("HTTPS_PROXY", "http://ada:sesame-4711@127.0.0.1:1")
            with pytest.raises(SubmitLater) as later:
                made.submit(made.job(token=f"fails-{number}"))
        assert words in str(later.value) and "proxy of HTTPS_PROXY" in str(later.value), (case, str(later.value))
        assert "sesame" not in str(later.value)
    company.login = company.answer = None


@pytest.fixture
def aws(company: Company, monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEmulator]:
    with AwsEmulator() as emulator:
        emulator.apply(monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "")
        monkeypatch.setenv("AWS_CA_BUNDLE", "")
        for service in ("sts", "bedrock"):
            company.hosts[f"{service}.us-east-1.amazonaws.com"] = emulator.url
        control.forget()
        yield emulator
        control.forget()


@pytest.mark.slow
def test_boto3_goes_through_the_proxy_by_every_setting_and_says_what_the_proxy_did(
    aws: AwsEmulator, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Place(None, "us-east-1")
    assert control.identity(where).arn and control.models(where)
    assert set(company.connects) == {"sts.us-east-1.amazonaws.com", "bedrock.us-east-1.amazonaws.com"}

    company.asked.clear()
    monkeypatch.setenv("HTTPS_PROXY", "")
    monkeypatch.setenv("ALL_PROXY", company.proxy)
    assert control.identity(where).arn and company.connects

    monkeypatch.setenv("ALL_PROXY", "")
    monkeypatch.setenv("SSL_CERT_FILE", "")
    monkeypatch.setenv("TEAM_PROXY", company.proxy.replace("//", "//ada:sesame-4711@"))
    company.login = "ada:sesame-4711"

    own = replace(bedrock(), origin="file", proxy_env="TEAM_PROXY", ca_file=str(company.authority.file))
    assert control.identity(replace(where, deployment=own)).arn

    cases = {
        "ada:another": "(407)",
        "": "did not connect to AWS (403)",
        "302": "in a browser first (302)",
        "gone": "does not answer",
    }
    for login, words in cases.items():
        company.login, company.answer = login or None, 403 if not login else None
        if login == "302":
            company.login, company.answer = None, 302
        if login == "gone":
            monkeypatch.setenv("TEAM_PROXY", "http://ada:sesame-4711@127.0.0.1:1")
        with pytest.raises(AwsTrouble) as trouble:
            control.identity(replace(where, deployment=own))
        assert words in str(trouble.value) and "The proxy of TEAM_PROXY" in str(trouble.value), str(trouble.value)
        assert "sesame" not in str(trouble.value)


@pytest.mark.slow
def test_an_alert_goes_through_the_proxy_with_the_companys_certificates_and_to_this_machine_directly(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[str] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            taken.append(self.headers["host"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Hook) as hook:
        threading.Thread(target=hook.serve_forever, daemon=True).start()
        company.hosts["hooks.company.test"] = f"http://127.0.0.1:{hook.server_port}"
        monkeypatch.setenv("ALERT_FAR", "jsons://hooks.company.test/x")
        monkeypatch.setenv("ALERT_NEAR", f"json://127.0.0.1:{hook.server_port}/x")
        sent = [alerts.send(name, "hello") for name in ("ALERT_FAR", "ALERT_NEAR")]
        assert [one.words for one in sent] == ["sent to ALERT_FAR", "sent to ALERT_NEAR"]
        assert company.connects == ["hooks.company.test"] and len(taken) == 2
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        failed = alerts.send("ALERT_FAR", "hello")
        assert not failed.ok and "proxy of HTTPS_PROXY" in failed.words
        hook.shutdown()


async def test_the_state_of_a_server_is_asked_through_the_proxy(house: House, company: Company) -> None:
    company.hosts["models.company.test"] = house.fake.url
    await house.declare(table("far", "fake", "https://models.company.test"))
    await house.engine.gauges.server("far")
    assert set(company.connects) == {"models.company.test"}


def test_a_file_of_certificates_that_cannot_be_read_keeps_nobody_from_the_engine_or_from_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("no certificate")
    for path in (broken, tmp_path / "gone.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(EngineDown):
            EngineClient(tmp_path / "no.sock").health()
        doctor.examine(tmp_path / "data", tmp_path / "none.toml", as_json=False)
        assert "FIX   certificates: SSL_CERT_FILE names a file" in capsys.readouterr().out


def test_doctor_names_proxy_exemptions_and_certificates_without_the_password(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://ada:sesame-4711@proxy.company.test:3128")
    monkeypatch.setenv("HTTP_PROXY", "socks5://proxy.company.test")
    monkeypatch.setenv("NO_PROXY", "internal.example,10.0.0.0/8")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    file = tmp_path / "deployments.toml"
    file.write_text(
        '[[deployment]]\nname = "own"\nkind = "anthropic"\nmodel = "m"\nproxy = "http://p.company.test:1"\n'
        f'ca_file = "{file}"\n[[deployment]]\nname = "bare"\nkind = "openai"\nmodel = "m"\nproxy = "none"\n'
    )
    found = [(one.state, one.subject, one.says) for one in doctor._outbound(tmp_path, file)]
    shown = "\n".join(" ".join(one) for one in found)
    expected = [
        "ok proxy HTTPS_PROXY: https:// addresses are called through http://proxy.company.test:3128, with a user name",
        "wrong proxy HTTP_PROXY names a proxy of the kind SOCKS5",
        "ok NO_PROXY exempts internal.example, 10.0.0.0/8",
        "ok proxy of own http://p.company.test:1, by its own settings",
        "ok proxy of bare none, by its own settings",
        f"ok certificates SSL_CERT_FILE adds those of {company.authority.file}",
        "wrong certificates REQUESTS_CA_BUNDLE names a file that is not there",
        "wrong certificates of own ca_file names a file without a certificate",
    ]
    assert [line for line in expected if line not in shown] == [], shown
    assert "sesame" not in shown
