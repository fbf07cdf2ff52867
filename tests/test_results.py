import errno
import json
import os
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from m2lib import files
from m2lib.files import InputError, write_atomic
from m2lib.metrics import best_and_worst, summarise
from m2lib.profiles import PROFILES
from m2lib.results import Result, fingerprint, load_result, published_maes, result_path, save_result


@pytest.fixture
def record():
    return Result(
        name="baseline",
        profile="laptop",
        fingerprint="f",
        config={},
        backbone={"id": "tiny", "weight_hash": "w", "dtype": "float32"},
        data={"fingerprint": "d", "series": 3},
        batch_size=2,
        seed=0,
        series={2: {"mae": 1.5, "repairs": 1, "text": "1,2;"}, 1: {"mae": 2.5, "repairs": 0, "text": ""}},
    )


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    return tmp_path


def test_record_comes_back(record, store):
    path = save_result("laptop", record)
    assert path == store / "laptop-smollm2-135m" / "baseline.json"
    assert load_result("laptop", "baseline") == record
    assert record.maes() == {2: 1.5, 1: 2.5}
    assert record.repairs == 1
    assert json.loads(path.read_text())["flops"]["training"] == {"coursework": 0, "published": 0, "executed": 0}


def test_live_results_go_under_build_and_recorded_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.delenv("M2_RESULTS", raising=False)
    on_path = replace(PROFILES["slice"], backbone="/models/Some Model.gguf")
    assert result_path(on_path, "x") == tmp_path / "results" / "slice-some-model" / "x.json"
    assert result_path("laptop", "x") == files.ROOT / "report" / "results" / "laptop-smollm2-135m" / "x.json"


def test_missing_broken_and_foreign_records(record, store):
    with pytest.raises(InputError, match=r"no record .*baseline.json; `M2_PROFILE=laptop m2 run baseline` makes it"):
        load_result("laptop", "baseline")
    with pytest.raises(InputError, match="unknown profile 'huge'"):
        load_result("huge", "baseline")
    path = save_result("laptop", record)
    whole = path.read_text()
    for broken in (b"{", b"[]", b"{}", b'{"schema": 1, "series": {}}', b'{"schema": 1, "series": {"x": 1}}', b"\xff"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="not a run record"):
            load_result("laptop", "baseline")
    path.write_text(whole.replace('"schema": 1', '"schema": 99'))
    with pytest.raises(InputError, match="schema 99"):
        load_result("laptop", "baseline")


def refuse(code):
    def raise_error(*_, **__):
        raise OSError(code, os.strerror(code))

    return raise_error


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("tempfile.NamedTemporaryFile", errno.EROFS, "Read-only file system"),
        ("os.fsync", errno.ENOSPC, "No space left on device"),
    ],
)
def test_unwritable_folder_keeps_what_was_there(function, code, message, record, store, monkeypatch):
    path = save_result("laptop", record)
    before = path.read_bytes()
    monkeypatch.setattr(f"m2lib.files.{function}", refuse(code))
    with pytest.raises(InputError, match=message) as error:
        save_result("laptop", replace(record, seconds=9.0))
    assert str(path) in str(error.value)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["baseline.json"]


def test_full_disk_for_real(record, tmp_path, monkeypatch):
    small = tmp_path / "small"
    small.mkdir()
    if (
        not shutil.which("mount")
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", small], capture_output=True).returncode
    ):
        pytest.skip("mounting a small tmpfs needs root")
    try:
        monkeypatch.setenv("M2_RESULTS", str(small))
        path = save_result("laptop", record)
        before = path.read_bytes()
        record.series[1]["text"] = "1,2;" * 20_000
        with pytest.raises(InputError, match="No space left on device"):
            save_result("laptop", record)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == ["baseline.json"]
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        with pytest.raises(InputError, match="Read-only file system"):
            save_result("laptop", record)
    finally:
        subprocess.run(["umount", small], check=True)


def test_written_files_are_readable_by_others(tmp_path):
    write_atomic(tmp_path / "new" / "file", b"x")
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == 0o666 & ~mask


def test_fingerprint_is_of_content():
    assert fingerprint({"a": (1, 2), "b": 3}) == fingerprint({"b": 3, "a": [1, 2]})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_published_numbers():
    baseline = published_maes("baseline")
    best, worst = best_and_worst(baseline, worst=20)
    assert (round(np.mean(list(baseline.values())), 1), round(np.median(list(baseline.values())), 1)) == (123.5, 50.7)
    assert round(summarise(baseline[i] for i in best).mean, 1) == 28.3
    assert round(summarise(baseline[i] for i in worst).mean, 1) == 266.2
    assert list(baseline) == sorted(baseline)
    final = summarise(published_maes("final").values())
    assert (round(final.mean, 1), round(final.median, 1)) == (37.6, 21.5)
    with pytest.raises(InputError, match="no experiment 'nope'; it holds baseline, context/128"):
        published_maes("nope")
