"""A run whose steps a longer one has already taken takes them from there, and computes none.

Here `context/512` is two steps long, and `final`, whose settings are the same, four.
"""

import shutil
from dataclasses import replace

import pytest
import torch

from m2lib import provenance
from study import runs
from study.experiments import EXPERIMENTS
from study.profiles import Profile
from study.records import adapter_path, load_record, record_path, save_record
from study.runs import run

LONG = {"steps": 4, "sequence_length": 64, "learning_rate": 1e-2, "rank": 2}
SHORT = LONG | {"steps": 2}
SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=5,
    batch_size=2,
    train={"final": LONG, "context": SHORT},
    protocol={kind: {"max_new_tokens": 20} for kind in ("default", "final", "context")},
    as_reported=True,
    checkpoint_every=1,
    evaluate_every=2,
    watched=2,
)


@pytest.fixture(autouse=True)
def marked(store, monkeypatch):
    """Let `final` keep its adapter after two steps too, where `context/512` ends."""
    monkeypatch.setitem(EXPERIMENTS, "final", replace(EXPERIMENTS["final"], marks=(2,)))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_steps_that_are_taken_give_the_same_record(dtype, data, monkeypatch, press_ctrl_c, store):
    monkeypatch.setenv("M2_DTYPE", dtype)
    alone = run("context/512", SMALL, data=data)
    assert alone.taken_from == ""
    assert alone.steps_run == 2

    # The longer run need not be finished, only far enough.
    monkeypatch.setenv("M2_RESULTS", str(store / "other"))
    press_ctrl_c(during_step=2)
    with pytest.raises(KeyboardInterrupt):
        run("final", SMALL, data=data)
    monkeypatch.setattr(runs, "train", None)  # it is not called
    taken = run("context/512", SMALL, data=data)

    assert taken.status == "done"
    assert taken.taken_from == "final"
    assert taken.steps_run == 0
    for field in ("plan", "dtype", "adapter", "loss_curve", "evaluations", "series", "device"):
        assert getattr(taken, field) == getattr(alone, field), field
    for kind in ("training", "forecasts"):
        assert taken.flops[kind] == alone.flops[kind], kind

    # Two of the three steps that the longer run has taken.
    longer = load_record(SMALL, "final")
    seconds = (longer.train_seconds - longer.evaluation_seconds) * 2 / 3
    assert taken.train_seconds == pytest.approx(seconds, abs=0.01)


def test_a_run_that_takes_its_steps_is_evaluated_at_its_end_if_the_longer_one_was_not(data):
    rarely = replace(SMALL, evaluate_every=3)
    run("final", rarely, data=data)
    taken = run("context/512", rarely, data=data)
    assert taken.taken_from == "final"
    start, end = taken.evaluations
    assert start["step"] == 0
    assert end["step"] == 2
    assert 0 < end["loss"] != start["loss"]


def test_after_steps_that_are_taken_all_is_computed_in_their_dtype(
    data, monkeypatch, forecast_dtypes
):
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    run("final", SMALL, data=data)
    monkeypatch.setenv("M2_DTYPE", "float32")
    forecast_dtypes.clear()
    taken = run("context/512", SMALL, data=data)

    assert taken.taken_from == "final"
    assert taken.dtype == "bfloat16"
    assert set(forecast_dtypes) == {"bfloat16"}


@pytest.mark.parametrize(
    ("long", "short"),
    [
        pytest.param(LONG | {"seed": 1}, SHORT, id="other settings"),
        # A rate that falls to the end of a run falls faster in the shorter one.
        pytest.param(LONG | {"decay": "cosine"}, SHORT | {"decay": "cosine"}, id="other rates"),
    ],
)
def test_steps_are_not_taken_from_a_run_that_was_trained_otherwise(long, short, data):
    apart = replace(SMALL, train={"final": long, "context": short})
    run("final", apart, data=data)
    assert adapter_path(apart, "final", 2).is_dir()
    assert run("context/512", apart, data=data).taken_from == ""


def test_steps_that_the_longer_runs_record_does_not_have_yet_are_not_taken(data, press_ctrl_c):
    """The longer run was killed between keeping its adapter and saving its record."""
    press_ctrl_c(during_step=2)
    with pytest.raises(KeyboardInterrupt):
        run("final", SMALL, data=data)
    longer = load_record(SMALL, "final")
    longer.loss_curve = longer.loss_curve[:1]
    save_record(SMALL, longer)

    assert run("context/512", SMALL, data=data).taken_from == ""


def test_steps_are_not_taken_from_adapters_whose_record_is_gone(data):
    run("final", SMALL, data=data)
    record_path(SMALL, "final").unlink()
    assert run("context/512", SMALL, data=data).taken_from == ""


def test_steps_that_were_taken_are_computed_if_their_adapter_is_gone(data, interrupted_at):
    run("final", SMALL, data=data)
    with interrupted_at(runs, "forecast", call=2):
        run("context/512", SMALL, data=data)
    stopped = load_record(SMALL, "context/512")
    assert stopped.taken_from == "final"
    assert stopped.steps_run == 0
    shutil.rmtree(adapter_path(SMALL, "context/512"))

    computed = run("context/512", SMALL, data=data)

    assert computed.taken_from == ""
    assert computed.steps_run == 2


def test_a_record_of_steps_that_were_taken_names_both_machines(data, press_ctrl_c, monkeypatch):
    press_ctrl_c(during_step=2)
    with pytest.raises(KeyboardInterrupt):
        run("final", SMALL, data=data)
    here = provenance.provenance(torch.device("cpu"))
    there = here | {"device": "cpu: another"}
    monkeypatch.setattr(runs, "provenance", lambda _: there)

    taken = run("context/512", SMALL, data=data)

    assert taken.taken_from == "final"
    assert taken.device == f"{here['device']}; cpu: another"
