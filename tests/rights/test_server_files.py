"""Which files of the server a visitor can make it read: those that are meant and no others, however it is tried."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from services import paths
from services.batch import server_files
from services.batch.server_files import Allowed, allowed, copied, loopback, named

SECRET = "the-secret-of-the-server"
BELOW = (
    "../data/lab.csv",
    "../elsewhere/other.csv",
    "sub/../../data/lab.csv",
    "out/other.csv",
    "up/data/lab.csv",
    "./../data//lab.csv",
    "pipe.csv",
    "folder.csv",
    "loop.csv",
    "dangling.csv",
    "zero.csv",
    "environment.csv",
    "",
    "ok.csv\0.pem",
    "a" * 300 + ".csv",
    "\ud800.csv",
    "*.csv",
)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A folder of prompts, a data directory and a home, with what must never be read in each."""
    found = {name: tmp_path / name for name in ("prompts", "data", "home", "elsewhere")}
    for folder in found.values():
        folder.mkdir()
    monkeypatch.setenv("HOME", str(found["home"]))
    monkeypatch.delenv("LAB_HOSTS", raising=False)
    (found["prompts"] / "ok.csv").write_text("word\none\n")
    (found["prompts"] / "sub").mkdir()
    (found["prompts"] / "sub" / "ok.jsonl.gz").write_bytes(b"x")
    (found["home"] / "mine.csv").write_text("word\ntwo\n")
    for secret in (
        "prompts/.env",
        "prompts/.hidden.csv",
        "prompts/secrets.toml",
        "prompts/server.pem",
        "prompts/server.key",
        "prompts/credentials.json",
        "prompts/credentials",
        "prompts/.aws/x.csv",
        "prompts/client_secret_1.json",
        "prompts/gcp-service-account.json",
        "prompts/id_rsa.txt",
        "prompts/api-keys.txt",
        "prompts/token.json",
        "prompts/passwords.txt",
        "prompts/no_ending",
        "prompts/script.py",
        "prompts/a.sqlite3",
        "data/uploads/x/other.csv",
        "data/lab.csv",
        "data/logs/engine.txt",
        "elsewhere/other.csv",
        "home/.aws/x.csv",
        "home/.ssh/x.txt",
        "home/.config/app/x.json",
        "home/.streamlit/x.csv",
        "home/.netrc",
        "home/accessKeys.csv",
        "home/Passwords.csv",
    ):
        file = tmp_path / secret
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(SECRET)
    return found


def rule_for(places: dict[str, Path], person: str, role: str, address: str | None, *folders: Path) -> Allowed | None:
    return allowed(
        person=person,
        role=role,
        folders=tuple(str(one) for one in folders),
        address=address,
        data=places["data"],
        file=places["elsewhere"] / "deployments.toml",
    )


def everybody(places: dict[str, Path]) -> dict[str, Allowed | None]:
    prompts = places["prompts"]
    return {
        "an administrator with a folder": rule_for(places, "ada@example.com", "admin", "0.0.0.0", prompts),
        "the local one with a folder": rule_for(places, "local", "admin", "127.0.0.1", prompts),
        "the local one without": rule_for(places, "local", "admin", "127.0.0.1"),
    }


def test_only_those_may_name_a_file_who_are_meant_to(places: dict[str, Path]) -> None:
    mine, prompts = str(places["home"] / "mine.csv"), places["prompts"]
    cases = (
        ("local", "admin", "127.0.0.1", (), True),
        ("local", "admin", "::1", (), True),
        ("local", "admin", "localhost", (), True),
        ("local", "admin", "0.0.0.0", (), False),
        ("local", "admin", "::", (), False),
        ("local", "admin", "", (), False),
        ("local", "admin", None, (), False),
        ("local", "admin", "192.168.1.5", (), False),
        ("local", "admin", "lab.example.com", (), False),
        ("ada", "admin", "127.0.0.1", (), False),
        ("local", "member", "127.0.0.1", (), False),
        ("local", "viewer", "127.0.0.1", (), False),
        ("local", "root", "127.0.0.1", (), False),
        ("local", "admin", "0.0.0.0", (prompts,), False),
        ("local", "admin", "127.0.0.1", (prompts,), True),
    )
    wrong = []
    for person, role, address, folders, may in cases:
        try:
            named(mine, rule_for(places, person, role, address, *folders))
            read = True
        except ValueError:
            read = False
        if read is not may:
            wrong.append((person, role, address, folders))
    assert not wrong
    for role, may in (("admin", True), ("member", False), ("viewer", False)):
        rule = rule_for(places, "ada", role, "0.0.0.0", prompts)
        assert (rule is not None) is may
    assert named(str(prompts / "ok.csv"), rule_for(places, "ada", "admin", "0.0.0.0", prompts)).name == "ok.csv"


def test_a_server_that_answers_to_other_names_has_no_local_administrator(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAB_HOSTS", "lab.example.com")
    with pytest.raises(ValueError, match="only in the folders"):
        named(str(places["home"] / "mine.csv"), rule_for(places, "local", "admin", "127.0.0.1"))


def test_addresses_of_this_machine_are_told_from_all_others() -> None:
    here = ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost")
    there = ("0.0.0.0", "::", "", None, "10.0.0.1", "localhost.example.com", "127.0.0.1.example.com", "0")
    assert [one for one in here if not loopback(one)] == []
    assert [one for one in there if loopback(one)] == []


@pytest.mark.slow
def test_no_path_leads_to_what_is_private(places: dict[str, Path], tmp_path: Path) -> None:
    prompts, home = places["prompts"], places["home"]
    secrets = [file for file in sorted(tmp_path.rglob("*")) if file.is_file() and file.read_text("latin-1") == SECRET]
    assert len(secrets) == 28
    other = places["elsewhere"] / "other.csv"
    made = []
    for number, secret in enumerate(secrets):
        link = prompts / f"link{number}.csv"
        link.symlink_to(secret)
        made.append(link)
    (prompts / "out").symlink_to(places["elsewhere"])
    (prompts / "up").symlink_to("..")
    (home / "data.csv").symlink_to(places["data"] / "lab.csv")
    os.mkfifo(prompts / "pipe.csv")
    (prompts / "folder.csv").mkdir()
    (prompts / "loop.csv").symlink_to(prompts / "loop.csv")
    (prompts / "dangling.csv").symlink_to(prompts / "nothing")
    (prompts / "zero.csv").symlink_to("/dev/zero")
    (prompts / "environment.csv").symlink_to("/proc/self/environ")
    tries = [
        *map(str, secrets),
        *map(str, made),
        *["/etc/passwd", "/etc/shadow", "/etc/hosts.csv", "/dev/zero", "/dev/stdin", "/sys/kernel/notes", "/run/x.csv"],
        *["/proc/self/environ", "/proc/self/fd/0", "/proc/self/root/etc/passwd"],
        f"/proc/self/root{other}",
        f"//{str(places['data'])[1:]}/lab.csv",
        f"{places['data']}/lab.csv/",
        f"{home}/data.csv",
        *(f"{prompts}/{rest}" for rest in BELOW),
        *("", ".", "..", "ok.csv", "./ok.csv", "~root/x.csv", "~nobody-there/x.csv", "~/.aws/x.csv"),
        "/" + "a/" * 3000 + "x.csv",
        *("file:///etc/passwd", "http://127.0.0.1/x.csv", "\\\\server\\share\\x.csv", "$HOME/mine.csv", "`id`", "| id"),
        str(paths.ROOT / ".streamlit" / "config.toml"),
        str(paths.ROOT / ".streamlit" / "x.csv"),
    ]
    plain = {str(other), f"/proc/self/root{other}", *(f"{prompts}/{one}" for one in BELOW if one.endswith("other.csv"))}
    plain.add(str(next(link for link in made if link.resolve() == other)))
    read = []
    for who, rule in everybody(places).items():
        for path in tries:
            if "local" in who and os.path.realpath(path.encode("utf-8", "replace").partition(b"\0")[0]) == os.fsencode(
                other
            ):
                continue  # a plain file of theirs
            for read_it in (named, lambda asked, rule: copied(asked, rule, tmp_path / "uploads")):
                try:
                    read_it(path, rule)
                except ValueError as error:
                    said = str(error)
                    if not said.endswith(".") or len(said) > 300 or SECRET in said or "Errno" in said:
                        read.append((who, path, said))
                else:
                    read.append((who, path, "it was read"))
    assert not read
    os.link(places["data"] / "lab.csv", prompts / "hard.csv")
    for rule in everybody(places).values():
        with pytest.raises(ValueError, match="hard link"):
            named(f"{prompts}/hard.csv", rule)
    for rule in everybody(places).values():
        assert named(str(prompts / "ok.csv"), rule).n_bytes == 9
    gz = named(f"{prompts}/sub/../sub/ok.jsonl.gz", everybody(places)["an administrator with a folder"])
    assert gz.path == str(prompts / "sub" / "ok.jsonl.gz")


def test_whether_a_file_is_there_is_not_told_of_places_that_may_not_be_named(places: dict[str, Path]) -> None:
    rule = everybody(places)["an administrator with a folder"]
    told = set()
    for path in (
        "/etc/passwd",
        "/etc/nothing",
        "/root/x.csv",
        "/nowhere/x.csv",
        str(places["data"] / "lab.csv"),
        str(places["data"] / "none.csv"),
        str(places["prompts"] / ".." / "home" / "mine.csv"),
    ):
        with pytest.raises(ValueError) as raised:
            named(path, rule)
        told.add(str(raised.value))
    assert len(told) == 1


@pytest.mark.slow
def test_a_path_that_is_swapped_all_the_time_never_gives_a_secret(places: dict[str, Path], tmp_path: Path) -> None:
    """A link is turned back and forth, and a folder on the way with it, while the file is taken again and again."""
    prompts, stopped = places["prompts"], threading.Event()
    (prompts / "real").mkdir()
    for name in ("real", ""):
        (prompts / name / "swap.csv").write_text("word\nmine\n")
    (places["data"] / "swap.csv").write_text(SECRET)
    link, folder = prompts / "swap.link.csv", prompts / "way"
    link.symlink_to(prompts / "swap.csv")
    folder.symlink_to(prompts / "real")

    def swap() -> None:
        turn = 0
        while not stopped.is_set():
            turn += 1
            secret = turn % 2 == 0
            for at, to in (
                (link, places["data"] / "swap.csv" if secret else prompts / "swap.csv"),
                (folder, places["data"] if secret else prompts / "real"),
            ):
                new = at.with_name(f"{at.name}.new")
                new.symlink_to(to)
                new.replace(at)

    swapper = threading.Thread(target=swap)
    swapper.start()
    rule, got, refused = everybody(places)["the local one with a folder"], set(), 0
    try:
        for number in range(600):
            try:
                file = copied(str(link if number % 2 else folder / "swap.csv"), rule, tmp_path / "uploads")
            except ValueError:
                refused += 1
            else:
                got.add(file.read_text())
    finally:
        stopped.set()
        swapper.join()
    assert got == {"word\nmine\n"}, "only what lies in the folder"
    assert refused, "and both were tried"


def test_a_check_made_before_the_file_is_open_is_not_what_decides(
    places: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst moment for a swap: just between the look at the path and the opening."""
    link = places["prompts"] / "link.csv"
    link.symlink_to(places["prompts"] / "ok.csv")
    opened = server_files.regular

    def swapped(path: Path) -> object:
        link.unlink()
        link.symlink_to(places["data"] / "lab.csv")
        return opened(path)

    monkeypatch.setattr(server_files, "regular", swapped)
    with pytest.raises(ValueError, match=r"never read|only in the folders"):
        named(str(link), everybody(places)["the local one with a folder"])


def test_a_file_that_grows_is_not_followed_for_ever(places: dict[str, Path], tmp_path: Path) -> None:
    file = places["prompts"] / "grows.csv"
    file.write_text("word\n" * 500_000)

    def grow(_: object) -> None:
        with file.open("a") as more:
            more.write("word\n" * 500_000)

    rule = everybody(places)["the local one with a folder"]
    with pytest.raises(ValueError, match="still being written"):
        copied(str(file), rule, tmp_path / "uploads", on_progress=grow)
    assert not [one for one in (tmp_path / "uploads").rglob("*") if one.is_file()], "and nothing of it is kept"


def test_the_data_directory_is_known_by_another_name_too(places: dict[str, Path]) -> None:
    """As where a disk is mounted twice: here the rule names it by a link, and the file by its real path."""
    other = places["home"] / "alias"
    other.symlink_to(places["data"])
    rule = everybody(places)["the local one without"]
    assert rule is not None
    with pytest.raises(ValueError, match="never read"):
        named(str(places["data"] / "lab.csv"), replace(rule, never=(other,)))
