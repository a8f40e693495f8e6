"""Where the engine's socket and the pages can be, and where they must not be."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from services import paths
from services.security import listening
from services.security.listening import Address, CannotListen

AUTH = """[auth]
redirect_uri = "https://lab.example.com/oauth2callback"
cookie_secret = "a-long-one"
"""
PROVIDER = 'client_id = "x"\nclient_secret = "y"\nserver_metadata_url = "https://login.example.com/.well-known"\n'


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("LAB_SOCKET", "XDG_RUNTIME_DIR", listening.EVERYONE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(listening, "secrets_files", lambda: (tmp_path / "secrets.toml",))


def elsewhere(temporary: str, data: Path) -> str:
    """The socket that a new process finds, whose TMPDIR is another one."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from services import paths\n"
            "print(paths.socket_path(Path(sys.argv[1])))",
            str(data),
        ],
        env={**os.environ, "TMPDIR": temporary, "PYTHONPATH": str(paths.ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.mark.slow
def test_whatever_tmpdir_is_there_is_a_socket_and_every_process_names_the_same(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    long = tmp_path / ("x" * 120)
    long.mkdir()
    for temporary in (str(long), str(tmp_path / "missing"), "/proc", "relative", "/dev/null", ""):
        chosen = elsewhere(temporary, data)
        assert len(os.fsencode(chosen)) <= paths.LONGEST_SOCKET, temporary
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(chosen)
            paths.note_socket(data, Path(chosen))
            assert {elsewhere(other, data) for other in (str(tmp_path), str(long), "/tmp")} == {chosen}
        Path(chosen).unlink()


def test_what_lies_in_the_socket_s_place_is_left_there_and_another_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: str(tmp_path))
    first = paths.new_socket_path(tmp_path)
    first.mkdir()
    second = paths.new_socket_path(tmp_path)
    assert second != first and second.parent == first.parent
    second.write_text("a file of somebody")
    assert paths.new_socket_path(tmp_path).parent != first.parent
    assert second.read_text() == "a file of somebody"
    monkeypatch.setenv("LAB_SOCKET", str(second))
    with pytest.raises(paths.NoPlace, match="something else than a socket"):
        paths.new_socket_path(tmp_path)


@pytest.mark.parametrize("squatter", ["file", "open to others", "link"])
def test_a_private_directory_that_is_not_ours_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, squatter: str
) -> None:
    monkeypatch.setattr(paths.tempfile, "gettempdir", lambda: str(tmp_path))
    private = tmp_path / f"inference-lab-{os.getuid()}"
    if squatter == "file":
        private.write_text("")
    elif squatter == "link":
        private.symlink_to(tmp_path / "away", target_is_directory=True)
    else:
        private.mkdir()
        private.chmod(0o777)
    assert paths.new_socket_path(tmp_path).parent != private


def test_where_no_place_fits_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = tmp_path / ("x" * 120)
    monkeypatch.setattr(paths, "_private_directories", lambda _data: iter((long,)))
    with pytest.raises(paths.NoPlace, match="Set TMPDIR to a short path"):
        paths.new_socket_path(tmp_path)


def test_an_address_is_loopback_only_where_all_that_it_means_is() -> None:
    cases = {
        "127.0.0.1": True,
        "127.1.2.3": True,
        "127.1": True,
        "::1": True,
        "[::1]": True,
        "localhost": True,
        "::ffff:127.0.0.1": True,
        " 127.0.0.1 ": True,
        "0.0.0.0": False,
        "::": False,
        "0": False,
        "10.1.2.3": False,
        "::ffff:10.0.0.1": False,
        "2001:db8::1": False,
        "fe80::1%lo": False,
    }
    assert {given: listening.resolve(given).loopback for given in cases} == cases


def test_an_address_of_ipv4_in_the_clothes_of_ipv6_is_listened_on_as_what_it_is() -> None:
    forms = {"::ffff:127.0.0.1": "127.0.0.1", "[::ffff:7f00:1]": "127.0.0.1", "::ffff:0.0.0.0": "0.0.0.0"}
    assert {given: listening.resolve(given).host for given in forms} == forms
    assert listening.resolve("::ffff:127.0.0.1").url(8501) == "http://localhost:8501"


def test_what_is_no_address_is_said_to_be_none() -> None:
    for nonsense in (
        "",
        "http://localhost",
        "localhost:8501",
        "127.0.0.1:80",
        "a b",
        "nobody.invalid",
        "é" * 70,
        "[x",
        "fe80::1%nothing9",
        "999.1.1.1",
    ):
        with pytest.raises(CannotListen):
            listening.resolve(nonsense)


def test_an_address_of_ipv6_stands_in_brackets() -> None:
    urls = {
        "::1": "http://[::1]:8501",
        "::": "http://[::1]:8501",
        "fe80::1%eth0": "http://[fe80::1%25eth0]:8501",
        "0.0.0.0": "http://localhost:8501",
        "127.0.0.1": "http://localhost:8501",
        "10.0.0.1": "http://10.0.0.1:8501",
    }
    assert {host: Address(host).url(8501) for host in urls} == urls


def test_a_port_that_anybody_has_in_either_family_is_not_taken() -> None:
    for host, asked in (("127.0.0.1", "127.0.0.1"), ("::1", "127.0.0.1"), ("::1", "::1"), ("::1", "0.0.0.0")):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as other:
            other.bind((host, 0))
            other.listen()
            taken = other.getsockname()[1]
            assert listening.free_port(asked, taken) != taken, (host, asked)


def test_an_address_that_this_machine_lacks_is_said() -> None:
    with pytest.raises(CannotListen, match=r"cannot listen on 192\.0\.2\.7"):
        listening.free_port("192.0.2.7", 8501)


def test_sign_in_counts_only_with_all_that_streamlit_needs(tmp_path: Path) -> None:
    file = tmp_path / "secrets.toml"
    cases = {
        "": False,
        "[auth": False,
        "auth = 3": False,
        AUTH: False,
        "[auth]\n" + PROVIDER: False,
        AUTH + PROVIDER: True,
        AUTH + "[auth.google]\n" + PROVIDER: True,
        AUTH + "[auth.my_own]\n" + PROVIDER: False,
        AUTH + PROVIDER.replace('"y"', '""'): False,
        AUTH + PROVIDER.replace('"y"', "7"): False,
    }
    for text, right in cases.items():
        file.write_text(text)
        assert listening.sign_in_configured((tmp_path / "none", file)) is right, text
    file.write_bytes(b"\xff\xfe")
    assert not listening.sign_in_configured((file, tmp_path))


def test_an_open_door_needs_sign_in_or_the_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door = Address("0.0.0.0")
    for closed in ("127.0.0.1", "::1"):
        listening.refuse_open_door(Address(closed), everyone_is_admin=False)
    for address in (door, Address("::"), Address("10.0.0.1")):
        with pytest.raises(CannotListen, match=r"\[auth\] in \.streamlit/secrets\.toml, or give --everyone-is-admin"):
            listening.refuse_open_door(address, everyone_is_admin=False)
    listening.refuse_open_door(door, everyone_is_admin=True)
    monkeypatch.setenv(listening.EVERYONE, "0")
    with pytest.raises(CannotListen):
        listening.refuse_open_door(door, everyone_is_admin=False)
    monkeypatch.setenv(listening.EVERYONE, "1")
    listening.refuse_open_door(door, everyone_is_admin=False)
    monkeypatch.delenv(listening.EVERYONE)
    (tmp_path / "secrets.toml").write_text(AUTH + PROVIDER)
    listening.refuse_open_door(door, everyone_is_admin=False)


def test_the_pages_alone_refuse_an_open_door_too() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "app.server", "--address", "0.0.0.0", "--port", "1"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(paths.ROOT)},
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "--everyone-is-admin" in done.stderr
