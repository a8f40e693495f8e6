"""A check reads its file once, as a stream: constant memory, progress, a way to stop, and the hash of what was read."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import tracemalloc
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import services
from services.batch.files import Cancelled, check, records, sha256_of, source, spool
from services.batch.files.read import Ids, key_of
from services.batch.files.source import safe_name
from services.batch.types import Options
from tests.batch.files.made import checked, jsonl, put

WORDS = "time flies like an arrow: fruit flies like a banana, " * 8


def lines_of(n: int) -> bytes:
    return b"".join(b'{"id": "row-%d", "prompt": "%d %s"}\n' % (i, i, WORDS.encode()) for i in range(n))


def peak(path: Path, options: Options) -> int:
    """The most bytes that Python held while it checked and read."""
    tracemalloc.start()
    try:
        found = check(path, options)
        n = sum(1 for _ in records(path, found.options))
        assert n == found.n_valid > 0
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json", "a.jsonl.gz", "faults.jsonl"])
def test_memory_does_not_grow_with_the_file(tmp_path, name):
    sizes = []
    for n in (4_000, 40_000):  # about 2 and 20 MB
        data = lines_of(n)
        if name == "a.csv":
            data = b"id,prompt\n" + b"".join(b'row-%d,"%d %s\n"\n' % (i, i, WORDS.encode()) for i in range(n))
        elif name == "a.json":
            data = b"[" + data.replace(b"}\n", b"},\n").rstrip(b",\n") + b"]"
        elif name == "a.jsonl.gz":
            digests = (hashlib.sha256(b"%d" % i).hexdigest().encode() for i in range(n))
            data = gzip.compress(b"".join(b'{"id": "%s", "prompt": "x"}\n' % digest for digest in digests))
        elif name == "faults.jsonl":
            data = data.replace(b'{"id"', b'{"id" 1') + lines_of(1)
        path = put(tmp_path, data, name)
        sizes.append(peak(path, Options(format="json" if name == "a.json" else None, leave_out=True)))
    small, large = sizes
    # 24 bytes for each id are kept, and twice that while they are sorted.
    assert large - small < 36_000 * 24 * 3 + 300_000, sizes
    assert large < 12_000_000, sizes


@pytest.mark.slow
def test_the_whole_process_stays_as_small(tmp_path):
    code = (
        "import sys, resource; from pathlib import Path; from services.batch.files import check; "
        "from services.batch.types import Options; found = check(Path(sys.argv[1]), Options()); "
        "assert found.n_valid > 0, found; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    used = []
    for n in (4_000, 40_000):
        path = put(tmp_path, lines_of(n))
        root = Path(services.__file__).parent.parent
        command = [sys.executable, "-c", code, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
        used.append(int(done.stdout) / 1024)
    assert used[1] - used[0] < 6, used  # MB, of 18 more in the file


@pytest.mark.slow
def test_progress_is_told_with_every_piece_that_is_read_and_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(source, "_TELL_EVERY_S", 0)
    path = put(tmp_path, lines_of(20_000))
    heard = []
    found = check(path, Options(), on_progress=heard.append)
    assert heard[-1] == (found.n_bytes, found.n_bytes, 20_000)
    assert [one.n_records for one in heard] == sorted(one.n_records for one in heard)
    done = [one.done_bytes for one in heard]
    assert done == sorted(done)
    assert found.n_bytes > 4 * source.CHUNK, "a file of several pieces"
    assert max(b - a for a, b in pairwise([0, *done])) <= source.CHUNK


@pytest.mark.parametrize("name", ["a.jsonl", "a.xlsx", "a.parquet", "a.json"])
def test_a_check_can_be_stopped(tmp_path, name):
    import io

    import openpyxl
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = lines_of(2_000)
    if name == "a.xlsx":
        book, kept = openpyxl.Workbook(), io.BytesIO()
        for row in [["prompt"], *[["x"]] * 500]:
            book.active.append(row)
        book.save(kept)
        data = kept.getvalue()
    elif name == "a.parquet":
        kept = io.BytesIO()
        pq.write_table(pa.table({"prompt": ["x"] * 2_000}), kept)
        data = kept.getvalue()
    elif name == "a.json":
        data = b"[" + data.replace(b"}\n", b"},\n").rstrip(b",\n") + b"]"
    path = put(tmp_path, data, name)
    with pytest.raises(Cancelled):
        check(path, Options(), stopped=lambda: True)


def test_the_hash_is_that_of_the_file_whatever_was_read_of_it(tmp_path):
    for data, name in (
        (lines_of(500), "a.jsonl"),
        (b"id;prompt\n" + b"1;a\n" * 50_000, "a.csv"),
        (b"%PDF" + b"x" * 300_000, "a"),
        (gzip.compress(b"prompt\na\n"), "a.csv.gz"),
        (b'prompt\n"open\n' + b"x\n" * 200_000, "a.csv"),
    ):
        found = checked(tmp_path, data, name)
        assert found.sha256 == hashlib.sha256(data).hexdigest() == sha256_of(tmp_path / name)
        assert found.n_bytes == len(data)


def test_a_file_that_cannot_be_read_any_more_is_told_in_words(tmp_path):
    found = checked(tmp_path, lines_of(3))
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(ValueError, match=r"There is no file at .*a\.jsonl; check the path\."):
        list(records(tmp_path / "a.jsonl", found.options))
    found = checked(tmp_path, "id,prompt\n1,a\n2,b\n", "a.csv")
    put(tmp_path, 'id,prompt\n1,a\n2,"b\n', "a.csv")
    with pytest.raises(ValueError, match="Quote opened on line 3 is never closed"):
        list(records(tmp_path / "a.csv", found.options))
    put(tmp_path, "id,other\n1,a\n", "a.csv")
    with pytest.raises(ValueError, match="No column 'prompt'"):
        list(records(tmp_path / "a.csv", found.options))
    with pytest.raises(ValueError, match="cannot be read any more"):
        sha256_of(tmp_path / "gone")


def test_double_ids_far_apart_are_found_and_only_the_first_is_kept(tmp_path):
    n = 6_000
    rows = [{"id": f"r{i % (n - 5)}", "prompt": str(i)} for i in range(n)]
    found = checked(tmp_path, jsonl(*rows), leave_out=True)
    assert (found.n_valid, found.n_faults) == (n - 5, 5)
    assert [fault.line for fault in found.faults] == list(range(n - 4, n + 1))
    assert found.faults[0].text.startswith(f"Line {n - 4}: id 'r0' on lines 1 and {n - 4}")
    assert found.faults[0].record == n - 4


@pytest.mark.slow
def test_one_id_for_all_is_found_in_bounded_time(tmp_path):
    data = b'{"id": "x", "prompt": "a"}\n' * 20_000
    assert checked(tmp_path, data).n_faults == 19_999
    found = checked(tmp_path, data, suffix_ids=True)
    assert found.n_valid == 20_000
    ids = [one.id for one in records(tmp_path / "a.jsonl", found.options)]
    assert len(set(ids)) == 20_000


def test_only_valid_records_take_an_id(tmp_path):
    found = checked(tmp_path, jsonl({"id": "a", "prompt": ""}, {"id": "a", "prompt": "x"}))
    assert [(fault.line, fault.code) for fault in found.faults] == [(1, "empty_prompt")]


def test_ids_are_looked_up_like_in_a_dictionary():
    rng = np.random.default_rng(5)
    ids, known = Ids(), {}
    line = 0
    for _ in range(60):
        batch = [f"k{one}" for one in rng.integers(0, 4_000, 150)]
        keys = [key_of(one) for one in batch]
        assert ids.look(keys) == [known.get(one, 0) for one in batch]
        fresh = {}
        for one, key in zip(batch, keys, strict=True):
            line += 1
            if one not in known and one not in fresh:
                fresh[one] = (key, line)
        ids.add([key for key, _ in fresh.values()], [no for _, no in fresh.values()])
        known |= {one: no for one, (_, no) in fresh.items()}
    assert len(known) > 3_000


def test_ids_that_meet_in_half_of_their_digest_are_still_told_apart():
    ids = Ids()
    first = b"12345678"
    ids.add([first + b"aaaaaaaa", first + b"bbbbbbbb"], [3, 4])
    assert ids.look([first + b"bbbbbbbb", first + b"cccccccc", first + b"aaaaaaaa"]) == [4, 0, 3]


# --- uploads -----------------------------------------------------------------------------------------------------


def test_an_upload_lies_under_its_hash(tmp_path):
    place = spool(iter([b"id,prompt\n", b"1,a\n"]), tmp_path / "uploads", "../../my data?.csv")
    digest = hashlib.sha256(b"id,prompt\n1,a\n").hexdigest()
    assert place == tmp_path / "uploads" / digest / "my data_.csv"
    assert place.read_bytes() == b"id,prompt\n1,a\n"
    assert place.stat().st_mode & 0o077 == 0
    assert spool([b"id,prompt\n1,a\n"], tmp_path / "uploads", "my data?.csv") == place
    assert Counter(path.is_file() for path in (tmp_path / "uploads").rglob("*")) == {True: 1, False: 1}


def test_an_upload_that_breaks_off_leaves_nothing(tmp_path):
    def broken():
        yield b"half"
        raise ConnectionError("gone")

    with pytest.raises(ConnectionError):
        spool(broken(), tmp_path / "uploads", "a.csv")
    assert list((tmp_path / "uploads").rglob("*")) == []


def test_a_place_that_takes_no_file_is_told_in_words(tmp_path):
    put(tmp_path, b"x", "uploads")
    with pytest.raises(ValueError, match=r"a\.csv could not be stored \(.*\); nothing was kept"):
        spool([b"x"], tmp_path / "uploads", "a.csv")


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a.csv", "a.csv"),
        ("C:\\x\\ü b.jsonl", "ü b.jsonl"),
        ("..", "upload"),
        ("", "upload"),
        ("/", "upload"),
        ("a\0\n.csv", "a_.csv"),
        ("x" * 300 + ".parquet", "x" * 80 + ".parquet"),
    ],
)
def test_names_are_made_safe_and_keep_their_end(given, kept):
    assert safe_name(given) == kept


# --- the sample --------------------------------------------------------------------------------------------------


def test_the_sample_is_200_short_lines_without_a_fault():
    path = Path(services.__file__).parent / "data" / "batch_sample.csv"
    found = check(path, Options())
    assert (found.n_valid, found.n_faults, found.notices, found.columns) == (200, 0, (), ("id", "category", "text"))
    assert found.options.prompt == "{{text}}"
    assert found.longest < 120
    kinds = Counter(one.original["category"] for one in records(path, found.options))
    assert len(kinds) == 8
    assert set(kinds.values()) == {25}
