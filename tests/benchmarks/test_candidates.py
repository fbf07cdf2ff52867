"""An adapter goes into the package because it was better than the one before it.

What the page on real tables has of the record is checked in `tests/test_real_tables_page.py`.
"""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from benchmarks import candidates
from benchmarks.candidates import CANDIDATES, CHOSEN, PREY_AND_PREDATORS, SECOND
from benchmarks.rows import recorded_rows
from benchmarks.textbook import cuts_of
from m2lib.errors import InputError
from m2lib.forecaster import read_format
from m2lib.model import adapter_hash
from m2lib.model.adapter_files import ADAPTER_FILE, BIAS_FILE, CONFIG_FILE
from m2lib.series import FORMAT_FILE, TABLES, split_ids
from study import PROFILES, adapter_path, load_record
from study.paper.textbook import CHOOSING
from study.settings import results_dir


@pytest.fixture(scope="module")
def recorded():
    """Return the recorded rows, one for each source and candidate."""
    return recorded_rows(results_dir() / candidates.RECORD)


def test_the_adapters_of_all_candidates_are_those_of_the_recorded_runs():
    for runs in CANDIDATES.values():
        for run in runs:
            record = load_record(PROFILES["laptop"], run)
            assert record.adapter == adapter_hash(adapter_path("laptop", run))


@pytest.fixture
def low_and_high(tmp_path, monkeypatch):
    """Make two candidates of two runs, whose adapters hold nothing but ones, and fours."""
    folders = {}
    for run, weight in {"low": 1.0, "high": 4.0}.items():
        folder = tmp_path / run
        folder.mkdir()
        (folder / CONFIG_FILE).write_text("{}", encoding="utf-8")
        (folder / FORMAT_FILE).write_text(json.dumps(TABLES.settings()), encoding="utf-8")
        for file in (ADAPTER_FILE, BIAS_FILE):
            save_file({"weights": torch.full((2,), weight)}, folder / file)
        folders[run] = folder
    monkeypatch.setattr(candidates, "adapter_path", lambda profile, run: folders[run])
    monkeypatch.setattr(candidates, "CANDIDATES", {"both": ("low", "high"), "one": ("high",)})


@pytest.mark.parametrize(("candidate", "weight"), [("both", 2.5), ("one", 4.0)])
def test_a_candidate_has_the_mean_weights_of_its_runs(low_and_high, tmp_path, candidate, weight):
    candidates.write_candidate(tmp_path / candidate, candidate)
    written = load_file(tmp_path / candidate / ADAPTER_FILE)
    assert written["weights"].tolist() == [weight, weight]


def test_where_a_runs_adapter_is_missing_nothing_is_written(low_and_high, tmp_path):
    (tmp_path / "low" / CONFIG_FILE).unlink()
    folder = tmp_path / "high"  # an adapter that is replaced, such as the package's own
    before = {path: path.read_bytes() for path in folder.iterdir()}

    with pytest.raises(InputError, match="is no folder with an adapter_config"):
        candidates.write_candidate(folder, "both")

    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_candidate_has_a_spread_of_its_own(low_and_high, tmp_path):
    candidates.write_candidate(tmp_path / "both", "both")
    assert read_format(tmp_path / "both").spread == candidates.SPREAD


@pytest.mark.parametrize("candidate", CANDIDATES)
def test_each_candidate_is_recorded_on_each_source(recorded, candidate):
    rows = [row for row in recorded if row["forecaster"] == candidate]
    sources = {source.name for source in candidates.candidate_sources()}
    assert {row["source"] for row in rows} == sources
    assert {tuple(row["runs"]) for row in rows} == {CANDIDATES[candidate]}


def test_only_the_half_for_choosing_chooses(recorded):
    assert {row["split"] for row in recorded} == {CHOOSING}


def test_the_chosen_one_is_better_than_the_one_before_and_none_is_better_than_it(recorded):
    other = "the mean of general-even and general-more"
    assert candidates.better(recorded, SECOND) == [other, CHOSEN]
    assert candidates.better(recorded, CHOSEN) == []


def row_of(candidate, source, errors):
    """Return a row of a record, with an error for each series of a source."""
    return {
        "forecaster": candidate,
        "source": source,
        "series": list(range(len(errors))),
        "mase": errors,
    }


def test_a_better_candidate_is_better_on_both_parts_and_surely_on_one(monkeypatch):
    errors = {  # on four tables, and on two series of prey and predators
        "chosen": ([1.0, 1.0, 1.0, 1.0], [1.0, 1.0]),
        "surely on tables": ([0.8, 0.81, 0.8, 0.79], [0.5, 1.9]),
        "surely on pairs": ([0.5, 1.5, 0.9, 1.0], [0.8, 0.801]),
        "surely on neither": ([0.5, 1.5, 0.9, 1.0], [0.5, 1.9]),
        "worse on pairs": ([0.8, 0.81, 0.8, 0.79], [0.6, 1.9]),
    }
    rows = []
    for name, (on_tables, on_pairs) in errors.items():
        rows.append(row_of(name, "sales", on_tables))
        rows.append(row_of(name, PREY_AND_PREDATORS.name, on_pairs))
    # Neither of these counts, however good it is: one has not forecast both parts, and the other
    # is no longer among the candidates.
    rows.append(row_of("asked in part", "sales", [0.1]))
    rows.append(row_of("of old", "sales", [0.1]))
    listed = [*errors, "asked in part"]
    monkeypatch.setattr(candidates, "CANDIDATES", dict.fromkeys(listed, ()))

    assert candidates.better(rows, "chosen") == ["surely on tables", "surely on pairs"]


def test_prey_and_predators_are_the_first_validation_series(data):
    cuts = cuts_of(PREY_AND_PREDATORS)
    assert len(cuts) == candidates.PAIRS

    _, context, truth = cuts[3]
    fourth = split_ids(len(data)).validation[3]
    assert np.array_equal(context, data.contexts[fourth])
    assert np.array_equal(truth, data.truths[fourth])
