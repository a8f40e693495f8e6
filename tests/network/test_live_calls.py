"""Live calls through a company's proxy: every wire, every failure of the proxy, and what never goes there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from services.aws import credentials
from services.call_record import from_row
from services.deployments.config import ConfigError, parse
from services.deployments.toml_table import Source, to_toml
from services.runs.record import of_call
from services.security import keys, outbound
from services.security.network import Forbidden
from services.types import Deployment
from tests.aws.fixture import AwsEmulator
from tests.aws.test_wires import VENDORS
from tests.aws.test_wires import table as aws_table
from tests.engine.house import KEY, KEY_NAME, House, table
from tests.network.company import Company

QUICK = "fake?tokens=3&itl=1&ttft=1"
WIRES = {"messages": "api.anthropic.com", "responses": "api.openai.com", "chat": "models.company.test"}
AWS = "bedrock-runtime.us-east-1.amazonaws.com"
PASSWORD = "sesame-4711-öpen"


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[AwsEmulator]:
    with AwsEmulator() as emulator:
        emulator.apply(monkeypatch)
        monkeypatch.setenv("AWS_ENDPOINT_URL", "")
        credentials.forget()
        yield emulator
    credentials.forget()


def named(wire: str, name: str = "") -> str:
    return table(name or wire, QUICK, f"https://{WIRES[wire]}", wire, key_env=KEY_NAME)


@pytest.mark.slow
async def test_every_wire_reaches_a_host_that_only_the_proxy_can_resolve_and_says_that_it_went_that_way(
    house: House, company: Company, aws: AwsEmulator
) -> None:
    company.hosts = dict.fromkeys(WIRES.values(), house.fake.url)
    company.hosts |= {AWS: aws.url, "runtime.sagemaker.us-east-1.amazonaws.com": aws.url}
    tables = {wire: named(wire) for wire in WIRES}
    for route, model in VENDORS.items():
        host = "runtime.sagemaker.us-east-1.amazonaws.com" if route.startswith("sagemaker") else AWS
        tables[route] = aws_table(route.replace(":", "-"), route, model, f"https://{host}")
    await house.declare(*tables.values())
    wrong = {}
    names = [name.replace(":", "-") for name in tables]
    for some in (names[:6], names[6:]):
        for row in await house.ask(some):
            if (
                row["state"] != "succeeded"
                or row["facts"].get("proxy") != "HTTPS_PROXY"
                or not (row["connect_ms"] or row["reused"])
            ):
                wrong[row["deployment_id"]] = row["message"], row["facts"], row["connect_ms"]
            elif of_call(from_row(row))["facts"]["proxy"] != "HTTPS_PROXY":
                wrong[row["deployment_id"]] = "its JSON says nothing of the proxy"
    assert wrong == {}
    assert set(company.connects) == set(company.hosts)
    assert not any(KEY in line for line in company.seen), "the proxy read the key"


async def test_a_second_call_uses_the_tunnel_of_the_first(house: House, company: Company) -> None:
    company.hosts[WIRES["messages"]] = house.fake.url
    await house.declare(named("messages"))
    first, second = [(await house.ask(["messages"]))[0] for _ in range(2)]
    assert (first["reused"], second["reused"]) == (False, True)
    assert second["facts"]["proxy"] == "HTTPS_PROXY" and len(company.connects) == 1


async def test_a_proxy_with_a_login_is_used_over_tls_and_for_plain_addresses_without_showing_the_login_to_hosts(
    house: House, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.login = f"ada:{PASSWORD}"
    company.hosts = {WIRES["messages"]: house.fake.url, "models.company.test": house.fake.url}
    login = "ada:sesame-4711-%C3%B6pen"
    monkeypatch.setenv("HTTPS_PROXY", f"https://{login}@localhost:{company.safe_port}")
    monkeypatch.setenv("HTTP_PROXY", f"{login}@127.0.0.1:{company.port}")
    await house.declare(named("messages"), table("plain", QUICK, "http://models.company.test"))
    for row in await house.ask(["messages", "plain"]):
        assert row["state"] == "succeeded", row["message"]
    assert not any("authorization" in {name.lower() for name in one.headers} for one in house.fake.requests)


async def test_each_failure_of_a_proxy_has_its_own_class_and_a_sentence_that_says_proxy(
    house: House, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.hosts[WIRES["messages"]] = house.fake.url
    await house.declare(named("messages"))
    host, port = "127.0.0.1", company.port
    cases = {
        "wants a login": ({"login": "ada:" + PASSWORD}, f"http://{host}:{port}", "proxy_login", "wants a user name"),
        "another login": ({"login": "ada:x"}, f"http://ada:wrong-password@{host}:{port}", "proxy_login", "not accept"),
        "refuses": ({"answer": 403}, f"http://{host}:{port}", "proxy_refused", "refused to connect to the host (403)"),
        "cannot reach": ({"answer": 502}, f"http://{host}:{port}", "proxy_refused", "not reach the host (502)"),
        "wants a browser": ({"answer": 302}, f"http://{host}:{port}", "proxy_login", "sign-in page in a browser first"),
        "hangs up": ({"hang_up": True}, f"http://{host}:{port}", "proxy_unreachable", "closed the connection"),
        "is not there": ({}, f"http://{host}:1", "proxy_unreachable", "does not answer"),
        "has no address": ({}, "http://proxy.company.test:3128", "proxy_unreachable", "could not be resolved"),
    }
    wrong = {}
    for name, (told, proxy, error_type, words) in cases.items():
        company.login, company.answer, company.hang_up = None, None, False
        for field, value in told.items():
            setattr(company, field, value)
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        row = (await house.ask(["messages"]))[0]
        shown = orjson.dumps(row, default=repr).decode()
        if row["outcome"] != "proxy_error" or row["error_type"] != error_type or words not in row["message"]:
            wrong[name] = row["outcome"], row["error_type"], row["message"]
        elif "proxy of HTTPS_PROXY" not in row["message"] or "wrong-password" in shown or host in row["message"]:
            wrong[name] = shown
    assert wrong == {}


@pytest.mark.slow
async def test_a_proxy_that_says_nothing_runs_into_the_deadline_of_connecting_and_is_named(
    house: House, company: Company
) -> None:
    company.silent = True
    host = f"https://{WIRES['messages']}"
    await house.declare(table("a", QUICK, host, "messages", key_env=KEY_NAME, connect_s=0.3))
    row = (await house.ask(["a"]))[0]
    assert row["outcome"] == "timeout_connect" and "the proxy of HTTPS_PROXY" in row["message"], row["message"]


@pytest.mark.slow
async def test_a_certificate_of_an_unknown_authority_is_told_with_the_setting_that_would_mend_it(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "")
    missing, no_pem = tmp_path / "gone.pem", tmp_path / "no.pem"
    no_pem.write_text("no certificate")
    company.hosts[WIRES["messages"]] = "http://127.0.0.1:1"
    cases = {
        "": "name the company's own in SSL_CERT_FILE or ca_file",
        str(missing): "SSL_CERT_FILE names a file that is not there",
        str(no_pem): "SSL_CERT_FILE names a file without a certificate",
    }
    for number, (value, words) in enumerate(cases.items()):
        monkeypatch.setenv("SSL_CERT_FILE", value)
        folder = tmp_path / str(number)
        folder.mkdir()
        async with House(folder) as house:
            await house.declare(named("messages"))
            row = (await house.ask(["messages"]))[0]
        assert (row["outcome"], row["error_type"]) == ("proxy_error", "proxy_tls"), row["message"]
        assert words in row["message"] and "proxy of HTTPS_PROXY" in row["message"]


async def test_a_deployment_has_a_proxy_and_certificates_of_its_own(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, "")
    company.login = f"ada:{PASSWORD}"
    monkeypatch.setenv("TEAM_PROXY", f"http://ada:sesame-4711-%C3%B6pen@127.0.0.1:{company.port}")
    async with House(tmp_path) as house:
        company.hosts[WIRES["messages"]] = house.fake.url
        ca = f'ca_file = "{company.authority.file}"\n'
        near = table("near", QUICK, house.fake.url) + f'proxy = "{company.proxy}"\n'
        gone = 'ca_file = "/nowhere/company.pem"\nproxy_env = "TEAM_PROXY"\n'
        await house.declare(
            named("messages", "by name").replace('id = "by name"', 'id = "by-name"')
            + f'proxy_env = "TEAM_PROXY"\n{ca}',
            named("messages", "bare").rstrip() + f'\nproxy = "{company.proxy}"\n{ca}',
            named("messages", "gone").rstrip() + f"\n{gone}",
            named("messages", "unset").rstrip() + '\nproxy_env = "NO_SUCH_PROXY"\n',
            near,
        )
        rows = {row["deployment_id"]: row for row in await house.ask(["by-name", "bare", "gone", "unset", "near"])}
        record = orjson.dumps(list(rows.values()), default=repr).decode()
    assert rows["by-name"]["state"] == "succeeded" and rows["by-name"]["facts"]["proxy"] == "TEAM_PROXY"
    assert rows["bare"]["error_type"] == "proxy_login" and "its own settings" in rows["bare"]["message"]
    assert (
        rows["gone"]["outcome"] == "config_error"
        and "ca_file names a file that is not there" in rows["gone"]["message"]
    )
    assert rows["unset"]["outcome"] == "config_error" and "NO_SUCH_PROXY" in rows["unset"]["message"]
    assert rows["near"]["state"] == "succeeded" and "proxy" not in rows["near"]["facts"], (
        "this machine is always direct"
    )
    assert "sesame" not in record
    assert keys.scrub(f"x sesame-4711-%C3%B6pen y {PASSWORD} z") == "x [hidden] y [hidden] z"


async def test_none_calls_directly_whatever_the_environment_says(house: House, company: Company) -> None:
    await house.declare(named("chat").rstrip() + '\nproxy = "none"\n')
    row = (await house.ask(["chat"]))[0]
    assert row["outcome"] == "unreachable" and row["error_type"] == "dns" and company.asked == []


async def test_servers_of_the_own_network_are_called_directly_and_keys_do_not_pass_a_proxy_unencrypted(
    house: House, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    company.hosts["models.company.test"] = house.fake.url
    monkeypatch.setitem(outbound._names, "gpu-box.company.test", (float("inf"), ("10.1.2.3",)))
    await house.declare(
        table("here", QUICK, house.fake.url),
        table("local", QUICK, house.fake.url.replace("127.0.0.1", "localhost")),
        table("open", QUICK, "http://models.company.test"),
        table("key", QUICK, "http://models.company.test", key_env=KEY_NAME),
        table("lan", QUICK, "http://gpu-box.company.test", connect_s=2),
    )
    rows = {row["deployment_id"]: row for row in await house.ask(["here", "local", "open", "key", "lan"])}
    assert [rows[name]["state"] for name in ("here", "local", "open")] == ["succeeded"] * 3
    assert rows["open"]["facts"]["proxy"] == "HTTP_PROXY"
    assert rows["key"]["outcome"] == "config_error" and "would pass the proxy of HTTP_PROXY" in rows["key"]["message"]
    assert rows["lan"]["error_type"] == "dns", "directly: only our own resolver can have said that"
    assert [line.split()[1].split("/")[2] for line in company.asked] == ["models.company.test"]
    assert not any(KEY in line for line in company.seen)


async def test_a_deployment_of_the_page_reaches_nothing_private_through_a_proxy(
    house: House, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, ip in {"inside": "10.1.2.3", "meta": "169.254.169.254", "mapped": "::ffff:10.0.0.1"}.items():
        monkeypatch.setitem(outbound._names, f"{name}.company.test", (float("inf"), ("93.184.216.34", ip)))
    literals = "10.0.0.7 192.168.1.1 169.254.169.254 [fd00:ec2::254] [::ffff:10.0.0.7] 0xA9FEA9FE 2130706434"
    names = "metadata.google.internal inside.company.test meta.company.test mapped.company.test"
    hosts = f"{literals} {names}".split()
    reached = []
    for host in hosts:
        d = Deployment(
            id="x", name="x", kind="openai-compatible", model="m", base_url=f"https://{host}/v1", origin="page"
        )
        try:
            outbound.way_of(d, f"https://{host}/v1", house.engine.registry.allowed_private(d))
        except Forbidden:
            continue
        reached.append(host)
    assert reached == []
    for field in ({"proxy": company.proxy}, {"proxy_env": "X_PROXY"}, {"ca_file": "/etc/passwd"}):
        d = Deployment(
            id="", name="Mine", kind="openai-compatible", model="m", base_url="https://models.company.test/v1"
        )
        with pytest.raises(ValueError, match=r"only deployments\.toml can"):
            await house.engine.registry.save(replace(d, **field))
    assert company.asked == []


def test_no_proxy_exempts_names_suffixes_ports_ranges_and_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        ("example.com", "example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        (".example.com", "api.example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("example.com", "notexample.com", 443, False),
        ("example.com:443", "example.com", 443, True),
        ("example.com:8443", "example.com", 443, False),
        ("Example.COM.", "example.com", 443, True),
        ("8.8.0.0/16", "8.8.4.4", 443, True),
        ("8.8.0.0/16", "8.9.4.4", 443, False),
        ("8.8.8.8", "8.8.8.8", 1, True),
        ("2001:db8::/32", "2001:db8::1", 443, True),
        ("[2001:db8::1]:443", "2001:db8::1", 443, True),
        ("*", "anything.example", 443, True),
        ("*:80", "anything.example", 443, False),
        ("", "example.com", 443, False),
        ("a b, example.com ,", "example.com", 443, True),
        ("", "127.0.0.1", 443, True),
        ("", "[::1]", 443, False),
        ("", "::1", 443, True),
        ("", "localhost", 443, True),
        ("", "x.localhost", 443, True),
        ("", "localhost.example.com", 443, False),
    ]
    wrong = []
    for name in ("NO_PROXY", "no_proxy"):
        for text, host, port, expected in cases:
            with monkeypatch.context() as patch:
                patch.setenv(name, text)
                if outbound.exempt(host, port) is not expected:
                    wrong.append((name, text, host, port))
    assert wrong == []


def test_the_proxy_of_an_address_is_the_one_of_its_scheme_in_either_letter_case(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "proxy.company.test:3128")
            proxy = outbound.proxy_for("https://api.openai.com/v1")
            assert proxy is not None and (proxy.url, proxy.setting) == ("http://proxy.company.test:3128", name)
            assert (outbound.proxy_for("http://example.com") is None) == ("https" in name.lower())
    for text in ("socks5://127.0.0.1:1080", "http://", "ftp://x", "http://proxy:99999", "http://pro xy:1"):
        monkeypatch.setenv("HTTPS_PROXY", text)
        with pytest.raises(outbound.ProxyTrouble, match="HTTPS_PROXY"):
            outbound.proxy_for("https://api.openai.com/v1")


def test_a_password_in_deployments_toml_is_refused_and_the_settings_survive_the_text_forms() -> None:
    def read(extra: str):
        text = '[[deployment]]\nname = "a"\nkind = "anthropic"\nmodel = "m"\n' + extra
        return parse(Source("deployments.toml", text)).deployments[0]

    wrong = {
        'proxy = "http://ada:sesame-4711@proxy:3128"': "proxy_env",
        'proxy = "socks5://proxy:1080"': "SOCKS5",
        'proxy = "http://"': "address of a proxy",
        'proxy = "http://p:1"\nproxy_env = "P_X"': "give one",
        'proxy_env = "http://ada:sesame-4711@proxy:3128"': "name",
    }
    for extra, words in wrong.items():
        with pytest.raises(ConfigError, match=words) as refused:
            read(extra)
        assert "sesame" not in str(refused.value)
    for extra in ('proxy = "http://p:1"\nca_file = "/a.pem"', 'proxy_env = "TEAM_PROXY"', 'proxy = "none"'):
        made = read(extra)
        assert Deployment.from_json(made.to_json()) == made
        again = parse(Source("deployments.toml", to_toml(made))).deployments[0]
        assert again == made


@pytest.mark.slow
async def test_each_variable_of_certificates_counts_as_a_file_and_as_a_folder(
    company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "authorities"
    folder.mkdir()
    (folder / "company.pem").write_bytes(company.authority.file.read_bytes())
    (folder / "broken.pem").write_text("no certificate")
    (folder / "README").write_text("not one either")
    cases = [(name, company.authority.file) for name in outbound.CA_VARIABLES if name != "SSL_CERT_DIR"]
    cases += [(name, folder) for name in outbound.CA_VARIABLES if name != "SSL_CERT_FILE"]
    monkeypatch.delenv("SSL_CERT_FILE")
    wrong = []
    for name, path in cases:
        with monkeypatch.context() as patch:
            patch.setenv(name, str(path))
            names = [one["subject"] for one in outbound.trust().get_ca_certs()]
            if not any("A company's authority" in str(one) for one in names) or len(names) < 20:
                wrong.append((name, path))
    assert wrong == []
    assert not any("A company's authority" in str(one) for one in outbound.trust().get_ca_certs())
