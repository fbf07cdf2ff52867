"""`--reforecast`: a finished run forecasts its series again, and keeps its training."""

import shutil
from dataclasses import replace

import pytest

from m2lib.accounting import sum_costs
from m2lib.errors import InputError
from m2lib.model import load_adapter, load_backbone
from m2lib.settings import out_dir
from study import runs
from study.plans import plan_run
from study.profiles import Profile
from study.records import adapter_path, load_record, record_path, save_record
from study.runs import Run, run

SMALL = Profile(
    "laptop",
    backbone="tiny",
    most_series=5,
    batch_size=2,
    train={"default-warm": {"steps": 4, "sequence_length": 64}},
    watched=0,
)

pytestmark = pytest.mark.usefixtures("store")


def test_forecasting_again_keeps_the_training(data, monkeypatch, interrupted_at):
    """Even if it is interrupted and goes on, and in the dtype that the profile now prescribes."""
    monkeypatch.setenv("M2_DTYPE", "bfloat16")
    run("default-warm", SMALL, data=data)
    first = load_record(SMALL, "default-warm")
    assert first.forecast_dtype == ""

    in_float32 = replace(SMALL, forecast_dtype="float32")
    monkeypatch.setattr(Run, "train_weights", None)  # it is not called
    with interrupted_at(Run, "forecast_series"):
        run("default-warm", in_float32, data=data, reforecast=True)
    assert load_record(in_float32, "default-warm").status == "running"
    again = run("default-warm", in_float32, data=data)

    assert again.status == "done"
    assert again.forecast_dtype == "float32"
    assert again.series.keys() == first.series.keys()
    for field in ("plan", "loss_curve", "adapter", "steps_run", "run"):
        assert getattr(again, field) == getattr(first, field), field
    assert again.flops["training"] == first.flops["training"]
    assert again.flops["discarded"] == first.flops["forecasts"]

    # The texts are those of the adapter in the new dtype.
    backbone = load_backbone("tiny", dtype="float32")
    load_adapter(backbone.model, adapter_path(in_float32, "default-warm"))
    series_id, entry = next(iter(again.series.items()))
    (forecast,) = runs.forecast(backbone, data.contexts[[series_id]], again.protocol)
    assert forecast.texts == (entry["text"],)

    # The record before, and the adapter, are kept aside.
    (kept,) = out_dir().glob("replaced/*/laptop-tiny/default-warm.json")
    assert kept.with_suffix("").is_dir()


def test_forecasting_again_needs_the_adapter(data):
    run("default-warm", SMALL, data=data)
    before = record_path(SMALL, "default-warm").read_bytes()
    shutil.rmtree(adapter_path(SMALL, "default-warm"))

    message = "is gone; `.* python -m study run default-warm --fresh` trains it again"
    with pytest.raises(InputError, match=message):
        run("default-warm", SMALL, data=data, reforecast=True)
    assert record_path(SMALL, "default-warm").read_bytes() == before


def test_where_the_budget_does_not_allow_it_nothing_is_kept_aside(data):
    run("baseline", SMALL, data=data)
    before = record_path(SMALL, "baseline").read_bytes()
    spent = replace(SMALL, budget=1)

    with pytest.raises(InputError, match="baseline may need"):
        run("baseline", spent, data=data, reforecast=True)

    assert record_path(SMALL, "baseline").read_bytes() == before
    assert not [*out_dir().glob("replaced/*/laptop-tiny/baseline.json")]


def test_what_two_earlier_forecasts_had_cost_is_discarded(data):
    first = run("baseline", SMALL, data=data)
    run("baseline", SMALL, data=data, reforecast=True)
    third = run("baseline", SMALL, data=data, reforecast=True)
    cost = first.flops["forecasts"]
    assert third.flops["forecasts"] == cost
    assert third.flops["discarded"] == sum_costs(cost, cost)


def test_the_time_of_earlier_forecasts_does_not_count(data):
    first = run("baseline", SMALL, data=data)
    save_record(SMALL, replace(first, seconds=10_000.0))
    assert run("baseline", SMALL, data=data, reforecast=True).seconds < 10_000


def test_a_record_has_the_batch_size_that_it_forecast_with_last(data):
    run("baseline", SMALL, data=data)
    larger = replace(SMALL, batch_size=3)
    assert run("baseline", larger, data=data, reforecast=True).batch_size == 3


def test_forecasting_again_takes_a_changed_protocol(data, monkeypatch):
    """The record is refused before, and then says by which plan it has forecast."""
    first = run("default-warm", SMALL, data=data)
    shorter = replace(SMALL, protocol={"default-warm": {"context_tokens": 64}})
    message = (
        r"its protocol\.context_tokens is None, not 64; "
        "`.* python -m study run default-warm --reforecast` forecasts again"
    )
    with pytest.raises(InputError, match=message):
        run("default-warm", shorter, data=data)

    monkeypatch.setattr(Run, "train_weights", None)  # it is not called
    again = run("default-warm", shorter, data=data, reforecast=True)
    assert again.plan == plan_run("default-warm", shorter, data)
    assert again.adapter == first.adapter
    assert again.flops["discarded"] == first.flops["forecasts"]
    assert all(entry["prompt_tokens"] <= 64 for entry in again.series.values())
    assert run("default-warm", shorter, data=data) == again  # and is loaded from now on


def test_forecasting_again_does_not_take_another_training(data):
    run("default-warm", SMALL, data=data)
    before = record_path(SMALL, "default-warm").read_bytes()
    longer = replace(SMALL, train={"default-warm": {"steps": 5, "sequence_length": 64}})
    rounded = replace(SMALL, protocol={"default-warm": {"rounding": "published"}})
    for other in (longer, rounded):  # the texts that it trains on are rounded in the same way
        with pytest.raises(InputError, match=r"is of another run: .* --fresh` replaces it"):
            run("default-warm", other, data=data, reforecast=True)
    assert record_path(SMALL, "default-warm").read_bytes() == before


def test_an_unfinished_run_trains_on_where_only_its_forecasts_have_changed(data, interrupted_at):
    with interrupted_at(Run, "train_weights"):
        run("default-warm", SMALL, data=data)
    fewer = replace(SMALL, most_series=2)
    again = run("default-warm", fewer, data=data, reforecast=True)
    assert len(again.loss_curve) == 4
    assert len(again.series) == 2
