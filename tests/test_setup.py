"""What a fresh machine needs to be true of the files that set it up."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.cli.main import app as lab

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = ("requirements.lock", "requirements-dev.lock")
PINNED = re.compile(r"^([a-z0-9][a-z0-9._-]*)(?:\[[a-z0-9,_-]+\])?==(\S+)", re.MULTILINE)


def pins(lock: str) -> dict[str, set[str]]:
    """Versions by name; there can be two, for different versions of Python."""
    found: dict[str, set[str]] = {}
    for name, version in PINNED.findall((ROOT / lock).read_text()):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def files_for_git() -> list[Path]:
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is not a git checkout")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_no_path(lock: str) -> None:
    lines = (ROOT / lock).read_text().splitlines()
    entry = re.compile(r"[a-z0-9]\S*==\S+( ; .+)? \\| {4}--hash=sha256:[0-9a-f]{64}( \\)?| {4}# .+")
    assert [line for line in lines if not entry.fullmatch(line)] == []
    assert [line for line in lines if "/" in line.replace("(pyproject.toml)", "")] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_has_hashes(lock: str) -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", (ROOT / lock).read_text())
    assert len(blocks) == sum(map(len, pins(lock).values())) > 10
    assert [block.split()[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_the_packages_that_would_need_a_compiler_are_in_no_lock() -> None:
    assert not {"llama-cpp-python", "llm"} & (pins(LOCKS[0]).keys() | pins(LOCKS[1]).keys())


@pytest.mark.parametrize(
    ("lock", "declared"),
    [(LOCKS[0], PROJECT["project"]["dependencies"]), (LOCKS[1], PROJECT["dependency-groups"]["dev"])],
)
def test_a_lock_holds_every_declared_dependency_at_a_version_it_allows(lock: str, declared: list[str]) -> None:
    pinned = pins(lock)
    wrong = [
        text
        for text in declared
        if (needed := Requirement(text))
        and not all(map(needed.specifier.contains, pinned.get(canonicalize_name(needed.name), {"0.dev0"})))
    ]
    assert wrong == []


def test_the_two_locks_agree() -> None:
    run, dev = pins(LOCKS[0]), pins(LOCKS[1])
    assert {name: (run[name], dev[name]) for name in run.keys() & dev.keys() if run[name] != dev[name]} == {}


def test_the_environment_that_runs_these_tests_is_the_locked_one() -> None:
    from importlib.metadata import PackageNotFoundError, version

    different = {}
    for lock in LOCKS:
        for line in (ROOT / lock).read_text().splitlines():
            if not PINNED.match(line):
                continue
            needed = Requirement(line.rstrip(" \\"))
            if needed.marker is not None and not needed.marker.evaluate(dict(default_environment())):
                continue
            try:
                found = version(needed.name)
            except PackageNotFoundError:
                found = "missing"
            if not needed.specifier.contains(found if found != "missing" else "0.dev0"):
                different[needed.name] = found
    assert different == {}


def test_no_file_names_a_path_of_this_machine_or_a_package_registry() -> None:
    # Put together here, so that this file does not name them either.
    places = (("work", "shared"), ("work", "main"), ("opt", "pypi"), ("tmp", "w"), ("root", "."))
    paths = [str(ROOT), *(f"/{top}/{name}" for top, name in places)]
    hosts = ["pypi" + ".org", "pythonhosted" + ".org", "registry.npm" + "js.org", "deb.debian" + ".org"]
    named = []
    for file in files_for_git():
        data = file.read_bytes()
        named += [f"{file.relative_to(ROOT)}: {word}" for word in (*paths, *hosts) if word.encode() in data]
    assert named == []


def test_no_file_for_git_holds_a_key_or_the_data_of_somebody() -> None:
    names = {str(file.relative_to(ROOT)) for file in files_for_git()}
    assert not {".streamlit/secrets.toml", "deployments.toml", ".env", "uv.lock"} & names
    assert [name for name in names if name.startswith(("data/", ".venv/")) or name.endswith((".sqlite3", ".pyc"))] == []


def test_a_second_start_does_nothing_but_start() -> None:
    command = ["make", "-n", "-o", ".venv/.run", "run", "RUN=--port 8600"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, env=plain_env()).stdout
    assert said.splitlines() == [".venv/bin/lab run --port 8600"]


def test_make_alone_lists_every_target() -> None:
    said = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True, env=plain_env()).stdout
    listed = {line.split()[1] for line in said.splitlines() if line.startswith("  make ")}
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    assert listed == set(phony[1].split())


def test_ci_is_a_script_that_bash_can_read() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *sorted(str(f.relative_to(ROOT)) for f in ROOT.glob("docs/**/*.md")),
]


@pytest.mark.parametrize("page", DOCUMENTS)
def test_what_the_documents_name_exists(page: str) -> None:
    text = (ROOT / page).read_text()
    links = {
        link for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text) if not ((ROOT / page).parent / link).exists()
    }
    assert links == set()
    files = {
        path.name
        for top in ("app", "pages", "services", "db", "scripts", "tests")
        for path in (ROOT / top).rglob("*.py")
    }
    assert {name for name in re.findall(r"`(\w+\.py)`", text) if name not in files} <= {"NNNN_name.py", "name.py"}
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands = " ".join(re.findall(r"`[^`]+`|^make .*$", text, re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)\b", commands)) <= targets
    assert {command for command in re.findall(r"`lab ([a-z]+)", text)} <= set(lab) - {"--help", "--version"}
    folders = {name for name in re.findall(r"`((?:app|pages|services|db|tests)/[\w/.-]*)", text) if "name" not in name}
    assert {name for name in folders if not (ROOT / name).exists() and "NNNN" not in name} == set()


@pytest.mark.slow
def test_the_documents_that_the_code_cites_are_there() -> None:
    cited = re.compile(r"(?:docs/)?(?:[\w-]+/)*[\w-]+\.md\b")
    names = {
        path.name for top in (".", "docs", "services") for path in ROOT.glob("*.md" if top == "." else f"{top}/**/*.md")
    }
    names.add("report.md")  # what the calculator gives away
    missing = {
        f"{path.relative_to(ROOT)}: {name}"
        for top in ("app", "pages", "services", "db", "scripts")
        for path in (ROOT / top).rglob("*.py")
        for name in cited.findall(path.read_text())
        if Path(name).name not in names
    }
    assert missing == set()


def test_the_image_gets_no_key_and_starts_with_what_exists() -> None:
    ignore = (ROOT / ".dockerignore").read_text().split("\n")
    assert ignore.index("*") < ignore.index("!.streamlit") < ignore.index(".streamlit/secrets.toml")
    assert [name for line in ignore if line.startswith("!") and not (ROOT / (name := line[1:])).exists()] == []
    compose = (ROOT / "compose.yaml").read_text()
    assert re.findall(r"^ +\w*(?:KEY|PASSWORD|SECRET)\w*: *(?!\$\{)(\S.*)$", compose, re.MULTILINE) == []


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with our Makefile, nothing to install and a program of one line; its name has a blank and an umlaut."""
    folder = tmp_path_factory.mktemp("clones") / "a clöne"
    (folder / "app").mkdir(parents=True)
    (folder / "app" / "__init__.py").touch()
    (folder / "app" / "cli.py").write_text("import sys; print('runs in', __file__, *sys.argv[1:])")
    for name in ("pages", "services", "db"):
        (folder / name).mkdir()
    for name in LOCKS:
        (folder / name).touch()
    (folder / "scripts").mkdir()
    for name in ("Makefile", "scripts/set_up.sh"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *words], cwd=folder, capture_output=True, text=True, check=False, env=plain_env() | environment
    )


@pytest.mark.slow
def test_a_clone_that_is_moved_renamed_or_whose_python_is_gone_still_starts(clone: Path) -> None:
    first = make(clone, "run", "RUN=--port 8600")
    assert f"runs in {clone}/app/cli.py run --port 8600" in first.stdout, first.stderr
    second = make(clone, "run")
    assert second.stdout == f"runs in {clone}/app/cli.py run\n"

    moved = clone.with_name("renamed & moved")
    clone.rename(moved)
    third = make(moved, "run")
    assert third.stdout == f"runs in {moved}/app/cli.py run\n", third.stderr
    link = moved.with_name("lab")
    link.symlink_to(moved / ".venv" / "bin" / "lab")
    anywhere = subprocess.run([link, "runs"], cwd="/", capture_output=True, text=True, check=False)
    assert anywhere.stdout == f"runs in {moved}/app/cli.py runs\n", anywhere.stderr

    python = moved / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3.11")
    fourth = make(moved, "run")
    assert fourth.stdout.endswith(f"runs in {moved}/app/cli.py run\n"), fourth.stderr

    # What `uv venv` makes has no pip; and two who start at the same moment wait for each other.
    shutil.rmtree(moved / ".venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", ".venv"], cwd=moved, check=True)
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda _: make(moved, "run"), range(2)))
    assert [done.stdout.splitlines()[-1] for done in both] == [f"runs in {moved}/app/cli.py run"] * 2, both
    assert sum("waiting for it" in done.stdout for done in both) == 1, both
    (moved / ".venv" / "bin" / "lab").unlink()
    assert make(moved, "run").stdout.endswith(f"runs in {moved}/app/cli.py run\n")
    moved.rename(clone)


@pytest.mark.slow
def test_what_make_cannot_do_is_a_sentence_and_leaves_no_stamp(clone: Path) -> None:
    no_uv = make(clone, "lock", PATH="/usr/bin:/bin")
    assert no_uv.returncode and "The locks were not changed: make lock needs uv" in no_uv.stdout
    no_python = make(clone, "run", "VENV=.other", "PYTHON=")
    assert no_python.returncode and "No Python 3.11 or later" in no_python.stdout
    for stamp in (".run", ".test"):
        (clone / ".venv" / stamp).unlink(missing_ok=True)
    (clone / LOCKS[0]).write_text("nothing-of-that-name==1.0 --hash=sha256:" + "0" * 64 + "\n")
    no_network = make(clone, "run", PIP_NO_INDEX="1")
    assert no_network.returncode and "Setting up stopped: the packages could not be installed" in no_network.stdout
    assert not (clone / ".venv" / ".run").exists()


@pytest.mark.slow
def test_nobody_gets_a_package_that_would_not_work(tmp_path: Path) -> None:
    missed = {}
    for words in (["wheel", "--no-deps", "-w", str(tmp_path)], ["install", "--no-deps", "--target", str(tmp_path)]):
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words, str(ROOT)]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        text = " ".join((done.stdout + done.stderr).split())
        if done.returncode == 0 or "Inference Lab is not a package to install" not in text or "Traceback" in text:
            missed[words[0]] = text
    assert missed == {} and list(tmp_path.iterdir()) == []


def plain_env() -> dict[str, str]:
    """The environment without what an outer make hands down, which would change what the inner one prints."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
