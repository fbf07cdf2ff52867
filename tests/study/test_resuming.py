"""A run that is interrupted, stopped or killed goes on, and ends as an unbroken one."""

import shutil
from dataclasses import dataclass, replace

import pytest
import torch

from m2lib import provenance
from m2lib.errors import InputError
from study import records, runs
from study.costs import budget_of
from study.plans import plan_run
from study.profiles import Profile
from study.records import Record, adapter_path, load_record, record_path, save_record
from study.runs import Run, run
from study.selections import hard_and_easy
from study.settings import out_dir

SHORT_TRAINING = {"steps": 4, "sequence_length": 64}
SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=5,
    batch_size=2,
    train={"default-warm": SHORT_TRAINING, "default": SHORT_TRAINING},
    checkpoint_every=1,
    watched=0,
)

pytestmark = pytest.mark.usefixtures("store")


@dataclass
class Interruption:
    """Records of a run that replaced a finished one, was interrupted, and went on elsewhere."""

    replaced: Record
    interrupted: Record
    """As it was left, at its third batch."""
    resumed: Record
    batches: list[int]
    """How many series it forecast at a time, the batch that was interrupted included."""


@pytest.fixture(scope="module")
def interruption(data, stored_below, tmp_path_factory):
    """Return the records of a run that goes on with another dtype and on another machine."""
    with stored_below(tmp_path_factory.mktemp("interruption")) as patch:
        replaced = run("baseline", SMALL, data=data)

        batches = []
        real = runs.forecast

        def forecast(backbone, contexts, *arguments, **options):
            batches.append(len(contexts))
            if len(batches) == 3:
                raise KeyboardInterrupt
            return real(backbone, contexts, *arguments, **options)

        patch.setattr(runs, "forecast", forecast)
        with pytest.raises(KeyboardInterrupt):
            run("baseline", SMALL, data=data, fresh=True)
        interrupted = load_record(SMALL, "baseline")

        patch.setenv("M2_DTYPE", "bfloat16")
        patch.setattr(provenance, "processor_name", lambda: "another")
        resumed = run("baseline", SMALL, data=data)
    return Interruption(replaced, interrupted, resumed, batches)


def test_an_interrupted_run_keeps_its_finished_batches(interruption):
    assert interruption.interrupted.status == "running"
    assert len(interruption.interrupted.series) == 4


def test_a_run_goes_on_with_the_batch_that_was_interrupted(interruption):
    assert interruption.batches == [2, 2, 1, 1]


def test_a_run_goes_on_in_its_own_dtype_and_ends_as_an_unbroken_one(interruption):
    unbroken = interruption.replaced
    resumed = interruption.resumed
    both_machines = f"{unbroken.device}; cpu: another, {torch.get_num_threads()} threads"
    assert resumed.device == both_machines
    may_differ = {"seconds": 0, "run": "", "device": "", "flops": {}}
    assert replace(resumed, **may_differ) == replace(unbroken, **may_differ)


def test_what_a_replaced_record_had_spent_is_discarded_and_no_series_is_counted_twice(
    interruption,
):
    unbroken = interruption.replaced
    resumed = interruption.resumed
    assert resumed.flops == unbroken.flops | {"discarded": unbroken.spent()}
    for convention, flops in unbroken.spent().items():
        assert resumed.spent()[convention] == 2 * flops > 0


def test_what_a_run_has_spent_is_no_longer_reserved(interruption, most_flops):
    flops = interruption.interrupted.flops
    for convention, most in most_flops("baseline", SMALL).items():
        assert 0 < flops["forecasts"][convention] < most
        assert flops["forecasts"][convention] + flops["reserved"][convention] == most


def test_a_fresh_run_keeps_the_old_record_and_adapter_aside_and_goes_on_when_stopped(
    data, press_ctrl_c, capsys
):
    old = run("default-warm", SMALL, data=data)
    record = record_path(SMALL, "default-warm")
    adapter = adapter_path(SMALL, "default-warm") / "adapter_model.safetensors"
    old_record = record.read_bytes()
    old_adapter = adapter.read_bytes()
    press_ctrl_c(during_step=2)
    with pytest.raises(KeyboardInterrupt):
        run("default-warm", SMALL, data=data, fresh=True)

    (kept,) = out_dir().glob("replaced/*/laptop-tiny/default-warm.json")
    assert kept.read_bytes() == old_record
    assert (kept.with_suffix("") / "adapter_model.safetensors").read_bytes() == old_adapter
    assert f"the earlier record is now {kept}" in capsys.readouterr().out

    stopped = load_record(SMALL, "default-warm")
    assert stopped.status == "running"
    assert len(stopped.loss_curve) == 3
    assert stopped.flops["discarded"] == old.spent()

    resumed = run("default-warm", SMALL, data=data)
    assert resumed.status == "done"
    assert resumed.steps_run == 4
    assert resumed.loss_curve == old.loss_curve
    assert resumed.flops["discarded"] == old.spent()
    assert adapter.read_bytes() == old_adapter


def test_an_adapter_whose_record_was_moved_away_is_kept_aside(data, capsys):
    run("default-warm", SMALL, data=data)
    adapter = adapter_path(SMALL, "default-warm") / "adapter_model.safetensors"
    old_adapter = adapter.read_bytes()
    record_path(SMALL, "default-warm").unlink()

    run("default-warm", SMALL, data=data)

    (kept,) = out_dir().glob("replaced/*/laptop-tiny/default-warm")
    assert (kept / "adapter_model.safetensors").read_bytes() == old_adapter
    assert f"the adapter of an earlier run is now {kept}" in capsys.readouterr().out


def test_a_run_stopped_between_training_and_forecasts_goes_on(data, interrupted_at):
    watched = replace(SMALL, watched=2, watched_forecasts=("default-warm",))
    unbroken = run("default-warm", watched, data=data)
    with interrupted_at(Run, "forecast_series"):
        run("default-warm", watched, data=data, fresh=True)
    stopped = load_record(watched, "default-warm")
    assert stopped.status == "running"
    assert stopped.series == {}
    assert len(stopped.loss_curve) == 4

    resumed = run("default-warm", watched, data=data)
    for field in ("loss_curve", "series", "evaluations", "steps_run", "training", "adapter"):
        assert getattr(resumed, field) == getattr(unbroken, field), field
    assert resumed.training.alpha is None
    assert resumed.training.batch_size == 2
    before, after = resumed.evaluations
    assert before["step"] == 0
    assert after["step"] == 4
    assert before.keys() == after.keys() == {"step", "loss", "mae_mean", "mae_median"}
    assert 0 < resumed.train_seconds <= resumed.seconds


def test_checkpoints_belong_to_one_run(data, monkeypatch, press_ctrl_c, tmp_path):
    """Another store of results, or a record that was deleted, does not inherit them."""
    press_ctrl_c(during_step=2)
    with pytest.raises(KeyboardInterrupt):
        run("default-warm", SMALL, data=data)
    with monkeypatch.context() as patch:
        patch.setenv("M2_RESULTS", str(tmp_path / "another"))
        assert run("default-warm", SMALL, data=data).steps_run == 4

    record_path(SMALL, "default-warm").unlink()
    assert run("default-warm", SMALL, data=data).steps_run == 4
    # The checkpoints of the run that was stopped are left, and no others.
    assert len(list((tmp_path / "build" / "checkpoints").iterdir())) == 1


def test_what_is_still_needed_is_counted_from_the_checkpoint(
    data, press_ctrl_c, most_flops, tmp_path
):
    """If a run was stopped after three of four steps, and its checkpoints are gone, it needs all
    four again."""
    baseline = run("baseline", SMALL, data=data)
    chosen = hard_and_easy(baseline.maes())
    need = most_flops("default", SMALL, num_forecasts=len(chosen))
    tight = replace(SMALL, budget=baseline.spent()["coursework"] + need["coursework"])
    press_ctrl_c(during_step=2)
    with pytest.raises(KeyboardInterrupt):
        run("default", tight, data=data)
    shutil.rmtree(tmp_path / "build")

    with pytest.raises(InputError, match="default may need"):
        run("default", tight, data=data)
    assert budget_of(tight).spent <= tight.budget


def test_a_run_that_goes_on_asks_the_budget_for_the_rest_of_it_alone(
    data, most_flops, interrupted_at
):
    tight = replace(SMALL, budget=most_flops("baseline", SMALL)["coursework"])
    with interrupted_at(runs, "forecast", call=3):
        run("baseline", tight, data=data)
    assert len(load_record(SMALL, "baseline").series) == 4

    assert run("baseline", tight, data=data).status == "done"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_killed_run_is_not_refused_for_its_own_reservation(
    fresh, data, most_flops, interrupted_at
):
    tight = replace(SMALL, budget=most_flops("baseline", SMALL)["coursework"])
    with interrupted_at(runs, "forecast"):
        run("baseline", tight, data=data)
    reserved = load_record(SMALL, "baseline").flops["reserved"]
    assert reserved["coursework"] == tight.budget

    assert run("baseline", tight, data=data, fresh=fresh).status == "done"


def test_forecasts_of_an_adapter_that_is_gone_do_not_count(data):
    record = run("default-warm", SMALL, data=data)
    first = min(record.series)
    series_before = {first: record.series[first] | {"padded_tokens": 9}}
    with_another_adapter = replace(
        record, status="running", adapter="another", series=series_before
    )
    save_record(SMALL, with_another_adapter)
    assert run("default-warm", SMALL, data=data).series == record.series


def test_a_run_that_was_killed_before_it_had_an_adapter_has_trained_none(data):
    plan = plan_run("default-warm", SMALL, data)
    losses = [1.0] * plan.training.steps
    killed = Record(plan, dtype="float32", batch_size=2, loss_curve=losses)
    assert not records.has_trained_adapter(killed, SMALL)
