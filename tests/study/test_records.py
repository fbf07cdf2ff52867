"""Records of runs: each comes back as it was saved, and one that cannot be is refused in one line.

The committed records, besides, are those that the code would make now.
"""

import json
import math
import platform
import re
from dataclasses import asdict, replace

import pytest

from m2lib.decoding import DecodeConfig
from m2lib.errors import InputError
from m2lib.files import ROOT
from m2lib.model import BACKBONES, adapter_hash, weight_hash
from m2lib.series import SeriesSet, write_series
from m2lib.training import TrainConfig
from study import cli, paper, plans
from study.experiments import EXPERIMENTS
from study.plans import plan_run
from study.profiles import PROFILES, REPLICATION
from study.records import (
    Plan,
    Record,
    adapter_path,
    load_finished,
    load_record,
    record_path,
    recorded_forecast,
    save_record,
)

COMMITTED = ROOT / "report" / "results"
LAPTOP = COMMITTED / "laptop-smollm2-135m"
RECORDED_ON = ("Linux", "x86_64")
"""The system and the processor of the committed records. Elsewhere PyTorch draws random weights by
other code, so that their last digits, and with them their hash, are others."""
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
    backbone="smollm2-135m",
    weights="w",
    shuffled=False,
    data="d",
    training=None,
    learns_from="nothing",
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
    """Return a record of two series; it is of no data set, so its texts are not read."""
    return Record(
        PLAN,
        dtype="float32",
        batch_size=2,
        series={
            2: ENTRY | {"mae": 1.5, "repairs": 1, "text": "1,2;"},
            1: ENTRY | {"mae": 2.5},
        },
    )


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Make an empty folder the one of recorded runs, and return it."""
    monkeypatch.setenv("M2_RESULTS", str(tmp_path))
    return tmp_path


def test_a_record_comes_back_as_it_was_saved(record, results):
    save_record("laptop", record)
    assert load_record("laptop", "baseline") == record


def test_a_record_lies_in_the_folder_of_its_profile_and_backbone(record, results):
    save_record("laptop", record)
    path = record_path("laptop", "baseline")
    assert path == results / "laptop-smollm2-135m" / "baseline.json"
    assert path.is_file()


def test_a_record_gives_its_errors_by_series_and_all_its_repairs(record):
    assert record.maes() == {2: 1.5, 1: 2.5}
    assert record.repairs == 1


def test_live_results_go_under_build_and_recorded_ones_do_not(tmp_path, monkeypatch):
    monkeypatch.setenv("M2_OUT", str(tmp_path))
    monkeypatch.delenv("M2_RESULTS", raising=False)
    live = replace(PROFILES["slice"], backbone="/models/Some Model.gguf")
    assert record_path(live, "x") == tmp_path / "results" / "slice-some-model" / "x.json"
    assert record_path("laptop", "x") == LAPTOP / "x.json"


def test_a_missing_record_is_refused_with_the_command_that_makes_it(results):
    message = r"no record .*baseline.json; `M2_PROFILE=laptop python -m study run baseline`"
    with pytest.raises(InputError, match=message):
        load_record("laptop", "baseline")


def test_a_missing_record_of_the_replication_is_refused_with_its_backbone_too(results):
    message = "`M2_PROFILE=report M2_BACKBONE=qwen2.5-coder-0.5b python -m study run final` makes"
    with pytest.raises(InputError, match=message):
        load_record(REPLICATION["report"], "final")


def test_a_record_of_a_run_that_goes_on_is_not_finished(record, results):
    save_record("laptop", record)
    message = r"baseline\.json is not finished; `M2_PROFILE=laptop python -m study run baseline`"
    with pytest.raises(InputError, match=message):
        load_finished("laptop", "baseline")


def test_a_record_in_the_folder_of_another_profile_is_refused(record, results):
    save_record("laptop", record)
    path = record_path("report", "baseline")
    path.parent.mkdir()
    record_path("laptop", "baseline").rename(path)
    with pytest.raises(InputError, match=r"plan\.profile is 'laptop'"):
        load_record("report", "baseline")


def test_a_record_of_another_backbone_than_its_folders_is_refused(record, results):
    save_record("laptop", replace(record, plan=replace(PLAN, backbone="tiny")))
    with pytest.raises(InputError, match=r"plan\.backbone is 'tiny'"):
        load_record("laptop", "baseline")


def test_a_name_that_no_experiment_has_is_refused(results):
    with pytest.raises(InputError, match="unknown experiment 'baselin'"):
        load_record("laptop", "baselin")


def test_a_name_that_no_profile_has_is_refused(results):
    with pytest.raises(InputError, match="unknown profile 'laptpo': choose one of slice, laptop"):
        load_record("laptpo", "baseline")


@pytest.mark.parametrize("content", [b"{", b"{}", b"\xff"])
def test_a_file_that_holds_no_record_is_refused(content, results):
    path = record_path("laptop", "baseline")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a run record"):
        load_record("laptop", "baseline")


def test_a_record_of_another_schema_is_refused_with_the_way_to_replace_it(record, results):
    save_record("laptop", record)
    path = record_path("laptop", "baseline")
    stored = path.read_text(encoding="utf-8")
    path.write_text(stored.replace('"schema": 2', '"schema": 99'), encoding="utf-8")

    message = r"schema Input should be 2 .*input_value=99.*; restore it, or `M2_PROFILE=laptop "
    with pytest.raises(InputError, match=message):
        load_record("laptop", "baseline")


def test_where_two_plans_differ_is_said_by_name():
    training = TrainConfig(steps=630, learning_rate=1e-4, rank=2)
    trained = replace(PLAN, training=training)
    same = replace(PLAN, training=replace(training))
    assert trained.difference(same) == ""

    longer = replace(PLAN, training=replace(training, steps=3150))
    assert trained.difference(longer) == "training.steps is 630, not 3150"

    shorter_context = replace(PLAN, protocol=DecodeConfig(context_tokens=512))
    assert PLAN.difference(shorter_context) == "protocol.context_tokens is None, not 512"

    assert PLAN.difference(trained).startswith("training is None, not {'steps': 630")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("plan.name", "../../evil", id="another name"),
        pytest.param("plan.split", 3, id="another type"),
        pytest.param("plan.protocol.rounding", "trunc", id="none of the choices"),
        pytest.param("series.2.mae", math.nan, id="no number"),
        pytest.param("series.x", ENTRY, id="no series id"),
        pytest.param("flops.training.coursework", -1, id="below zero"),
        pytest.param("flops.training", {"coursework": 1}, id="a convention that is missing"),
        pytest.param("flops", {}, id="a kind of cost that is missing"),
        pytest.param("loss_curve", [math.inf], id="infinite"),
        pytest.param("surprise", 1, id="no such field"),
    ],
)
def test_a_record_with_a_value_that_cannot_be_is_refused_in_one_line(
    path, value, record, results, refusal
):
    stored = json.loads(json.dumps(asdict(record)))
    *parents, last = path.split(".")
    place = stored
    for parent in parents:
        place = place[parent]
    place[last] = value
    file = record_path("laptop", "baseline")
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps(stored), encoding="utf-8")

    line = refusal(load_record, "laptop", "baseline")
    first_key, *_ = path.split(".")
    assert str(file) in line
    assert first_key in line


def write_altered(name, alter, results):
    """Write a record of the laptop's, with its series altered, into a folder of results."""
    stored = json.loads((LAPTOP / f"{name}.json").read_text(encoding="utf-8"))
    alter(stored["series"])
    path = results / LAPTOP.name / f"{name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(stored), encoding="utf-8")


@pytest.mark.parametrize(("field", "value"), [("mae", 0.5), ("repairs", 3), ("text", "1,2;" * 20)])
def test_errors_that_are_not_those_of_the_texts_are_refused(
    field, value, data, recipe_file, results, monkeypatch, capsys
):
    """All errors of the final run set to 0.5, say: neither command nor figures show them."""

    def alter(series):
        for entry in series.values():
            entry[field] = value

    write_altered("final", alter, results)
    message = r"final\.json is not a run record \(series\.\d+\.\w+: it is .*, but its text"
    with pytest.raises(InputError, match=message):
        load_record("laptop", "final", data)
    with pytest.raises(InputError, match="but its text gives"):
        paper.finished_record(PROFILES["laptop"], "final")

    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.setenv("M2_BACKBONE", "smollm2-135m")
    monkeypatch.setenv("M2_DATA", str(recipe_file))
    assert cli.main(["status", "--check"]) == 0
    assert re.search(r"^final +.*final\.json is not a run record", capsys.readouterr().out, re.M)


def test_a_record_of_other_series_is_not_checked_and_this_is_said(
    data, results, monkeypatch, capsys
):
    write_altered("final", lambda series: None, results)  # as it is
    other = results / "other.h5"
    write_series(SeriesSet(data.trajectories[:3], data.time, "three"), other)
    monkeypatch.setenv("M2_PROFILE", "laptop")
    monkeypatch.setenv("M2_BACKBONE", "smollm2-135m")
    monkeypatch.setenv("M2_DATA", str(other))

    assert cli.main(["status", "--check"]) == 0
    said = r"^final +done, .*; not checked, because M2_DATA holds other series$"
    assert re.search(said, capsys.readouterr().out, re.M)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        pytest.param(
            "final",
            lambda entry: {"mae": 0.9999 * entry["mae"]},
            "but its text gives",
            id="errors a little smaller than the texts give",
        ),
        pytest.param(
            "final-sampled",
            lambda entry: {"crps": 0.99 * entry["crps"]},
            r"series\.\d+\.crps: it is .*, but its text gives",
            id="a CRPS that is not that of the texts",
        ),
        pytest.param(
            "final",
            lambda entry: {"texts": [entry["text"]] * 2},
            r"series\.\d+: it has 2 texts, not 1",
            id="another number of texts than the plan asks for",
        ),
    ],
)
def test_series_that_do_not_fit_their_texts_are_refused(name, change, message, data, results):
    def alter(series):
        for entry in series.values():
            entry.update(change(entry))

    write_altered(name, alter, results)
    with pytest.raises(InputError, match=message):
        load_record("laptop", name, data)


def test_a_finished_record_without_all_of_its_series_is_refused(results):
    """A run could look better without its worst series, say."""

    def alter(series):
        worst = max(series, key=lambda series_id: series[series_id]["mae"])
        del series[worst]

    write_altered("final", alter, results)
    with pytest.raises(InputError, match=r"series: it is done, but has 49 of 50"):
        load_record("laptop", "final")


def test_a_finished_record_without_all_of_its_steps_is_refused(record, results):
    training = TrainConfig(steps=3, learning_rate=1e-4, rank=2)
    plan = replace(PLAN, training=training, learns_from="the training split")
    save_record("laptop", replace(record, plan=plan, status="done", loss_curve=[1.0, 0.9]))
    with pytest.raises(InputError, match=r"loss_curve: it is done, but has 2 of 3"):
        load_record("laptop", "baseline")


def test_a_forecast_is_not_read_beside_other_series(data):
    final = load_record("laptop", "final")
    other = SeriesSet(data.trajectories[::-1], data.time, "other")
    message = "the forecasts of final are of other series than other; unset M2_DATA"
    with pytest.raises(InputError, match=message):
        recorded_forecast(final, other, min(final.series))


def committed_records():
    """Return the profile and the experiment's name of each committed record."""
    found = []
    for profile in (PROFILES["laptop"], *REPLICATION.values()):
        folder = COMMITTED / f"{profile.name}-{profile.backbone}"
        for path in sorted(folder.rglob("*.json")):
            is_of_an_adapter = (path.parent / "adapter_config.json").exists()
            if not is_of_an_adapter and path.stem != "removed":
                name = path.relative_to(folder).with_suffix("").as_posix()
                found.append((profile, name))
    return found


RECORDED = committed_records()


def test_there_are_committed_records():
    laptop = {name for profile, name in RECORDED if profile.name == "laptop"}
    fifth = {name for profile, name in RECORDED if profile.name == "fifth"}
    assert {"baseline", "best", "final", "trial/rate-high"} <= laptop
    assert {"final", "search/expt_8", "search/second_2", "context/768"} <= fifth


@pytest.mark.parametrize(
    ("profile", "name"), RECORDED, ids=[f"{profile.name}/{name}" for profile, name in RECORDED]
)
def test_a_committed_record_is_what_the_code_would_make_now(profile, name, data, monkeypatch):
    """Its plan is the one that the declarations give: no change of names or structure asks for
    another run."""
    monkeypatch.delenv("M2_RESULTS", raising=False)
    record = load_record(profile, name)
    random_backbone = EXPERIMENTS[name].backbone
    if not random_backbone:  # the real weights need not be here; which they are is declared
        weights = BACKBONES[profile.backbone].gguf_sha256[:16]
    elif (platform.system(), platform.machine()) == RECORDED_ON:
        weights = weight_hash(random_backbone)
    else:
        weights = record.plan.weights
    monkeypatch.setattr(plans, "weight_hash", lambda _: weights)

    assert record.plan.difference(plan_run(name, profile, data)) == ""
    adapter = adapter_path(profile, name)
    if adapter.is_dir():
        assert adapter_hash(adapter) == record.adapter
