import errno
import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import asdict, replace

import pytest

from m2lib import cli, files, paper
from m2lib.files import InputError, write_atomic
from m2lib.model.backbones import weight_hash
from m2lib.model.weights import BACKBONES
from m2lib.study.experiments import EXPERIMENTS
from m2lib.study.profiles import PROFILES, REPLICATION
from m2lib.study.records import Record, fingerprint, load_record, record_path, save_record
from m2lib.study.work import Plan, adapter_hash, adapter_path

LAPTOP = files.ROOT / "report" / "results" / "laptop-smollm2-135m"


ENTRY = {"mae": 0.0, "repairs": 0, "text": "", "prompt_tokens": 9, "padded_tokens": 9, "new_tokens": 4, "passes": 3}


@pytest.fixture
def record():
    return Record(
        name="baseline",
        profile="laptop",
        fingerprint="f",
        config={"decode": {}},
        backbone={"id": "tiny", "weight_hash": "w", "dtype": "float32"},
        data={"fingerprint": "d", "series": 3},
        batch_size=2,
        seed=0,
        series={2: ENTRY | {"mae": 1.5, "repairs": 1, "text": "1,2;"}, 1: ENTRY | {"mae": 2.5, "text": ""}},
    )


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    return tmp_path


def test_record_comes_back(record, store):
    path = save_record("laptop", record)
    assert path == store / "laptop-smollm2-135m" / "baseline.json"
    assert load_record("laptop", "baseline") == record
    assert record.maes() == {2: 1.5, 1: 2.5}
    assert record.repairs == 1
    assert json.loads(path.read_text(encoding="utf-8"))["flops"]["training"] == {
        "coursework": 0,
        "published": 0,
        "executed": 0,
    }


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_the_settings_of_each_experiment_can_be_recorded(name, record, store):
    for profile in PROFILES.values():
        save_record(
            profile, replace(record, series={}, profile=profile.name, config=EXPERIMENTS[name].settings(profile))
        )
        load_record(profile, record.name)


def test_live_results_go_under_build_and_recorded_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.delenv("M2_RESULTS", raising=False)
    on_path = replace(PROFILES["slice"], backbone="/models/Some Model.gguf")
    assert record_path(on_path, "x") == tmp_path / "results" / "slice-some-model" / "x.json"
    assert record_path("laptop", "x") == files.ROOT / "report" / "results" / "laptop-smollm2-135m" / "x.json"


def test_missing_broken_and_foreign_records(record, store):
    with pytest.raises(InputError, match=r"no record .*baseline.json; `M2_PROFILE=laptop m2 run baseline` makes it"):
        load_record("laptop", "baseline")
    with pytest.raises(InputError, match="unknown profile 'huge'"):
        load_record("huge", "baseline")
    path = save_record("laptop", record)
    whole = path.read_text(encoding="utf-8")
    for broken in (b"{", b"[]", b"{}", b'{"schema": 1, "series": {}}', b'{"schema": 1, "series": {"x": 1}}', b"\xff"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="not a run record"):
            load_record("laptop", "baseline")
    path.write_text(whole.replace('"schema": 1', '"schema": 99'), encoding="utf-8")
    with pytest.raises(InputError, match="schema: it is 99, this version reads 1"):
        load_record("laptop", "baseline")


def refuse(code):
    def raise_error(*_, **__):
        raise OSError(code, os.strerror(code))

    return raise_error


@pytest.mark.parametrize(
    ("function", "code", "message"),
    [
        ("Path.mkdir", errno.EROFS, "Read-only file system"),
        ("os.fsync", errno.ENOSPC, "No space left on device"),
    ],
)
def test_unwritable_folder_keeps_what_was_there(function, code, message, record, store, monkeypatch):
    path = save_record("laptop", record)
    before = path.read_bytes()
    monkeypatch.setattr(f"m2lib.files.{function}", refuse(code))
    with pytest.raises(InputError, match=message) as error:
        save_record("laptop", replace(record, seconds=9.0))
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
        path = save_record("laptop", record)
        before = path.read_bytes()
        record.series[1]["text"] = "1,2;" * 20_000
        with pytest.raises(InputError, match="No space left on device"):
            save_record("laptop", record)
        assert path.read_bytes() == before
        assert os.listdir(path.parent) == ["baseline.json"]
        subprocess.run(["mount", "-o", "remount,ro", small], check=True)
        with pytest.raises(InputError, match="Read-only file system"):
            save_record("laptop", record)
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


def altered(record, **changes):
    """A record as JSON, with the values at some paths (`series.2.mae`) replaced."""
    stored = json.loads(json.dumps(asdict(record)))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = stored
        for parent in parents:
            place = place[parent]
        place[last] = value
    return json.dumps(stored)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("status", None),
        ("status", "finished"),
        ("name", "../../evil"),
        ("name", "default"),
        ("profile", "report"),
        ("series.2", {"repairs": 0}),
        ("series.2.mae", "small"),
        ("series.2.mae", math.nan),
        ("series.2.mae", -1.0),
        ("series.2.texts", ["1,2;"]),
        ("series.2.new_tokens", [4]),
        ("series.x", ENTRY),
        ("flops.training.coursework", "many"),
        ("flops.training.coursework", -1),
        ("flops.training", {}),
        ("flops.forecasts.executed", 0.5),
        ("loss_curve", [math.inf]),
        ("loss_curve", 1.0),
        ("evaluations", [{"step": None}]),
        ("steps_run", -3),
        ("config", {}),
        ("config", {"decode": {"temperature": "hot"}}),
        ("config", {"decode": {"n_samples": 0}}),
        ("config", {"decode": [], "train": 1}),
        ("seconds", math.inf),
        ("surprise", 1),
        ("backbone", []),
    ],
)
def test_a_record_that_cannot_be_is_refused_in_one_line(path, value, record, store):
    place = save_record("laptop", record)
    place.write_text(altered(record, **{path: value}), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_record("laptop", "baseline")
    assert str(place) in str(error.value)
    assert path.split(".")[0] in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_file_of_json_is_refused_in_one_line(record, store):
    place = save_record("laptop", record)
    for content in (b"[" * 100_000, b'{"a":' * 100_000, b"\x00", b"", b"NaN", b'"' + b"x" * 10**6):
        place.write_bytes(content)
        with pytest.raises(InputError, match=r"baseline\.json is not a run record") as error:
            load_record("laptop", "baseline")
        assert len(str(error.value)) < 500
    place.unlink()
    place.mkdir()
    with pytest.raises(InputError, match=r"no record .*baseline\.json"):
        load_record("laptop", "baseline")


@pytest.mark.parametrize(("field", "value"), [("mae", 0.5), ("repairs", 3), ("text", "1,2;" * 20)])
def test_errors_that_are_not_those_of_the_texts_are_refused(
    field, value, data, recipe_file, monkeypatch, tmp_path, capsys
):
    """All errors of the final run set to 0.5, say: neither the command nor the figures show them."""
    stored = json.loads((LAPTOP / "final.json").read_text(encoding="utf-8"))
    for entry in stored["series"].values():
        entry[field] = value
    copy = tmp_path / LAPTOP.name / "final.json"
    copy.parent.mkdir()
    copy.write_text(json.dumps(stored), encoding="utf-8")
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    with pytest.raises(InputError, match=r"final\.json is not a run record \(series\.\d+\.\w+: it is .*, but its text"):
        load_record("laptop", "final", data)
    with pytest.raises(InputError, match="but its text gives"):
        paper.finished_record(PROFILES["laptop"], "final")
    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.setenv("M2_BACKBONE", "smollm2-135m")
    monkeypatch.setenv("M2_DATA", str(recipe_file))
    assert cli.main(["status"]) == 0
    assert re.search(r"^final +.*final\.json is not a run record", capsys.readouterr().out, re.M)


STUDIES = [PROFILES["laptop"], *REPLICATION.values()]
RECORDED = [
    pytest.param(study, path.relative_to(folder).with_suffix("").as_posix(), id=f"{folder.name}/{path.stem}")
    for study in STUDIES
    for folder in [LAPTOP.parent / f"{study.name}-{study.backbone}"]
    for path in sorted(folder.rglob("*.json"))
    if path.name != "adapter_config.json"
]


def test_there_are_committed_records():
    laptop = {param.values[1] for param in RECORDED if param.values[0].name == "laptop"}
    assert {"baseline", "search/expt_8", "context/768", "final", "trial/rate-high"} <= laptop
    assert ("fifth", "baseline") in {(param.values[0].name, param.values[1]) for param in RECORDED}


@pytest.mark.parametrize(("profile", "name"), RECORDED)
def test_a_committed_record_is_what_the_code_would_make_now(profile, name, data, monkeypatch):
    """Its fingerprint, computed anew from the declarations: no change of names or structure asks for another run."""
    monkeypatch.delenv("M2_RESULTS", raising=False)
    record, experiment = load_record(profile, name), EXPERIMENTS[name]
    own = experiment.backbone  # the small one is of random weights
    weights = weight_hash(own) if own else BACKBONES[profile.backbone].gguf_sha256[:16]
    plan = Plan(experiment.at(profile), profile, data, weights)
    if experiment.adapter:
        source = experiment.adapter.chosen(plan.choosing)
        plan = replace(plan, source=source, adapter=load_record(profile, source).adapter)
    assert plan.fingerprint == record.fingerprint
    folder = adapter_path(profile, name)
    assert not folder.is_dir() or adapter_hash(folder) == record.adapter
