import json
import math
import re
from dataclasses import asdict, replace

import pytest

from m2lib import files
from m2lib.accounting import CONVENTIONS
from m2lib.decoding import DecodeConfig
from m2lib.files import InputError
from m2lib.model import adapter_hash, weight_hash
from m2lib.model.weights import BACKBONES
from m2lib.training import TrainConfig
from study import cli, paper, plan_run, plans
from study.experiments import EXPERIMENTS
from study.profiles import PROFILES, REPLICATION
from study.records import (
    Plan,
    Record,
    adapter_path,
    load_record,
    record_path,
    save_record,
)

LAPTOP = files.ROOT / "report" / "results" / "laptop-smollm2-135m"


ENTRY = {
    "mae": 0.0,
    "repairs": 0,
    "text": "",
    "prompt_tokens": 9,
    "padded_tokens": 9,
    "new_tokens": 4,
    "passes": 3,
}


PLAN = Plan(
    name="baseline",
    profile="laptop",
    backbone="tiny",
    weights="w",
    shuffled=False,
    data="d",
    training=None,
    learns_from="nothing",
    text_format=None,
    without="",
    pairs=0.0,
    start="",
    start_adapter="",
    protocol=DecodeConfig(),
    split="validation",
    series=(2, 1),
    codec_version=1,
    decode_version=2,
)


@pytest.fixture
def record():
    return Record(
        PLAN,
        dtype="float32",
        batch_size=2,
        series={
            2: ENTRY | {"mae": 1.5, "repairs": 1, "text": "1,2;"},
            1: ENTRY | {"mae": 2.5, "text": ""},
        },
    )


@pytest.fixture
def results(tmp_path, monkeypatch):
    """The folder of results, empty."""
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    return tmp_path


def test_record_comes_back(record, results):
    save_record("laptop", record)
    path = record_path("laptop", "baseline")
    assert path == results / "laptop-smollm2-135m" / "baseline.json"
    assert load_record("laptop", "baseline") == record
    assert record.maes() == {2: 1.5, 1: 2.5}
    assert record.repairs == 1
    assert set(json.loads(path.read_text(encoding="utf-8"))["flops"]["training"]) == set(
        CONVENTIONS
    )


def test_live_results_go_under_build_and_recorded_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.delenv("M2_RESULTS", raising=False)
    on_path = replace(PROFILES["slice"], backbone="/models/Some Model.gguf")
    assert record_path(on_path, "x") == tmp_path / "results" / "slice-some-model" / "x.json"
    assert (
        record_path("laptop", "x")
        == files.ROOT / "report" / "results" / "laptop-smollm2-135m" / "x.json"
    )


def test_missing_broken_and_foreign_records(record, results):
    with pytest.raises(
        InputError,
        match=r"no record .*baseline.json; `M2_PROFILE=laptop python -m study run baseline`",
    ):
        load_record("laptop", "baseline")
    with pytest.raises(InputError, match="unknown experiment 'baselin'"):
        load_record("laptop", "baselin")
    with pytest.raises(InputError, match="unknown profile 'laptpo': choose one of slice, laptop"):
        load_record("laptpo", "baseline")
    save_record("laptop", record)
    path = record_path("laptop", "baseline")
    whole = path.read_text(encoding="utf-8")
    for broken in (b"{", b"{}", b"\xff"):
        path.write_bytes(broken)
        with pytest.raises(InputError, match="not a run record"):
            load_record("laptop", "baseline")
    path.write_text(whole.replace('"schema": 2', '"schema": 99'), encoding="utf-8")
    with pytest.raises(
        InputError,
        match=r"schema Input should be 2 .*input_value=99.*; restore it, or `python -m study run",
    ):
        load_record("laptop", "baseline")


def test_where_two_plans_differ_is_said_by_name():
    training = TrainConfig(steps=630, learning_rate=1e-4, rank=2)
    trained = replace(PLAN, training=training)
    longer = replace(PLAN, training=replace(training, steps=3150))
    assert trained.difference(replace(PLAN, training=replace(training))) == ""
    assert trained.difference(longer) == "training.steps is 630, not 3150"
    other = replace(PLAN, protocol=DecodeConfig(context_tokens=512))
    assert PLAN.difference(other) == "protocol.context_tokens is None, not 512"
    assert PLAN.difference(trained).startswith("training is None, not {'steps': 630")


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
        ("plan.name", "../../evil"),
        ("plan.split", 3),
        ("plan.protocol.rounding", "trunc"),
        ("series.2.mae", math.nan),
        ("series.x", ENTRY),
        ("flops.training.coursework", -1),
        ("loss_curve", [math.inf]),
        ("surprise", 1),
    ],
)
def test_a_record_that_cannot_be_is_refused_in_one_line(path, value, record, results):
    save_record("laptop", record)
    place = record_path("laptop", "baseline")
    place.write_text(altered(record, **{path: value}), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_record("laptop", "baseline")
    assert str(place) in str(error.value)
    assert path.split(".")[0] in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("field", "value"), [("mae", 0.5), ("repairs", 3), ("text", "1,2;" * 20)])
def test_errors_that_are_not_those_of_the_texts_are_refused(
    field, value, data, recipe_file, monkeypatch, tmp_path, capsys
):
    """All errors of the final run set to 0.5, say: neither the command nor the figures show
    them."""
    stored = json.loads((LAPTOP / "final.json").read_text(encoding="utf-8"))
    for entry in stored["series"].values():
        entry[field] = value
    copy = tmp_path / LAPTOP.name / "final.json"
    copy.parent.mkdir()
    copy.write_text(json.dumps(stored), encoding="utf-8")
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    with pytest.raises(
        InputError,
        match=r"final\.json is not a run record \(series\.\d+\.\w+: it is .*, but its text",
    ):
        load_record("laptop", "final", data)
    with pytest.raises(InputError, match="but its text gives"):
        paper.finished_record(PROFILES["laptop"], "final")
    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.setenv("M2_BACKBONE", "smollm2-135m")
    monkeypatch.setenv("M2_DATA", str(recipe_file))
    assert cli.main(["status", "--check"]) == 0
    assert re.search(r"^final +.*final\.json is not a run record", capsys.readouterr().out, re.M)


def test_a_finished_record_without_all_of_its_series_is_refused(data, results):
    stored = json.loads((LAPTOP / "final.json").read_text(encoding="utf-8"))
    stored["series"].pop(max(stored["series"], key=lambda one: stored["series"][one]["mae"]))
    copy = results / LAPTOP.name / "final.json"
    copy.parent.mkdir()
    copy.write_text(json.dumps(stored), encoding="utf-8")
    with pytest.raises(InputError, match=r"series: it is done, but has 49 of 50"):
        load_record("laptop", "final", data)


STUDIES = [PROFILES["laptop"], *REPLICATION.values()]
RECORDED = [
    pytest.param(
        study, path.relative_to(folder).with_suffix("").as_posix(), id=f"{folder.name}/{path.stem}"
    )
    for study in STUDIES
    for folder in [LAPTOP.parent / f"{study.name}-{study.backbone}"]
    for path in sorted(folder.rglob("*.json"))
    # Those of an adapter lie in its folder.
    if not (path.parent / "adapter_config.json").exists() and path.stem != "removed"
]


def test_there_are_committed_records():
    laptop = {param.values[1] for param in RECORDED if param.values[0].name == "laptop"}
    assert {"baseline", "best", "final", "trial/rate-high"} <= laptop
    fifth = {param.values[1] for param in RECORDED if param.values[0].name == "fifth"}
    assert {"final", "search/expt_8", "search/second_2", "context/768"} <= fifth


@pytest.mark.parametrize(("profile", "name"), RECORDED)
def test_a_committed_record_is_what_the_code_would_make_now(profile, name, data, monkeypatch):
    """Its plan is the one that the declarations give: no change of names or structure asks for
    another run."""
    monkeypatch.delenv("M2_RESULTS", raising=False)
    record = load_record(profile, name)
    small = EXPERIMENTS[name].backbone  # of random weights
    weights = weight_hash(small) if small else BACKBONES[profile.backbone].gguf_sha256[:16]
    monkeypatch.setattr(plans, "weight_hash", lambda _: weights)  # the files need not be here
    assert record.plan.difference(plan_run(name, profile, data)) == ""
    folder = adapter_path(profile, name)
    assert not folder.is_dir() or adapter_hash(folder) == record.adapter
