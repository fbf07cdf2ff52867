from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from m2lib.files import InputError
from m2lib.forecaster import Forecaster, Item, calendar_season, evaluate
from m2lib.forecaster.evaluation import MODEL, Evaluation, baselines_for, origins_of
from m2lib.forecaster.sampling import Sampler
from m2lib.series import TextFormat, coverage, crps_fair


def item(values, name="a"):
    values = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    return Item(name, pd.RangeIndex(len(values)), values)


def test_origins_by_hand():
    items = [item(range(30)), item(range(14)), item(range(10))]
    assert origins_of(items, 3, 2, 3) == [(0, 24), (0, 27), (1, 11)]
    assert origins_of(items, 3, 2, 3, least=12) == [(0, 24), (0, 27)]
    assert origins_of(items[:1], 3, 3, 5) == [(0, 17), (0, 22), (0, 27)]
    assert origins_of(items[:1], 3, 1, 3, leave_out=2) == [(0, 25)]
    with pytest.raises(
        InputError, match="a forecast of 25 steps wants a series of 35; ask for fewer steps"
    ):
        origins_of(items, 25, 1, 25)
    with pytest.raises(InputError, match="a series of 40;"):
        origins_of(items, 25, 1, 25, leave_out=5)


def test_the_future_is_not_read(tiny, monkeypatch):
    read = []
    real = Sampler.sample
    monkeypatch.setattr(
        Sampler,
        "sample",
        lambda self, values, *a, **k: read.append(values) or real(self, values, *a, **k),
    )
    values = 50 + 30 * np.sin(np.arange(40) / 2)
    other = np.append(values[:-4], [1e3] * 4)
    one, two = (
        evaluate(Forecaster(tiny), [item(series)], 4, num_samples=3) for series in (values, other)
    )
    assert [len(context) for contexts in read for context in contexts] == [36, 36]
    assert one.errors["last value"].item() == pytest.approx(np.abs(values[-4:] - values[-5]).mean())
    assert two.errors["last value"].item() == pytest.approx(1e3 - values[-5])
    assert one.scaled[MODEL].item() == pytest.approx(one.mae / values[:-4].max() * 1000)


def test_each_moment_has_a_forecaster_of_its_own(tiny):
    learnt = []
    wave = 50 + 30 * np.sin(np.arange(40) / 2)

    def refit(contexts):
        learnt.append([len(context) for context in contexts])
        return Forecaster(tiny, TextFormat(1))

    items = [item(wave), item(wave[:25], "b")]
    found = evaluate(
        Forecaster(tiny, TextFormat(1)), items, 4, origins=3, num_samples=1, refit=refit
    )
    assert learnt == [[28], [32, 17], [36, 21]]  # of ten steps and a horizon at least
    assert found.errors.index.tolist() == [(0, 28), (0, 32), (0, 36), (1, 17), (1, 21)]
    alone = evaluate(Forecaster(tiny, TextFormat(1)), items, 4, origins=3, num_samples=1)
    assert found.errors[MODEL].tolist() == alone.errors.loc[found.errors.index, MODEL].tolist()


def test_what_is_evaluated_is_what_forecasts(tiny):
    """Also where a season hides what would choose another text format: the season's low is below
    half of its high."""
    year = np.array([100, 40, 60, 80, 120, 90, 70, 50, 110, 95, 65, 85.0])
    values = np.tile(year, 6) * np.linspace(1, 1.1, 72)
    dated = Item("a", pd.date_range("2020-01-01", periods=72, freq="MS"), values[:, None])
    forecaster = Forecaster(tiny)
    (ahead,) = forecaster.sample([values[:-12, None]], 12, season=12)
    off = np.abs(np.median(ahead.physical, axis=0) - values[-12:, None])
    assert evaluate(forecaster, [dated], 12).mae == pytest.approx(off.mean())


def test_what_is_kept_back_may_be_negative(tiny):
    profit = item([*(np.arange(40) % 7), 1, -0.5, 2, 3])
    assert np.isfinite(evaluate(Forecaster(tiny), [profit], 4, num_samples=2).mae)


@pytest.mark.parametrize(
    ("freq", "season"),
    [
        *(("h", 24), ("D", 7), ("MS", 12), ("ME", 12), ("BME", 12), ("QS-OCT", 4), ("QE-DEC", 4)),
        *(("YS-JAN", 1), ("2D", 1), ("B", 5), ("BMS", 12), ("BQE", 4), ("2h", 12), ("BYE", 1)),
    ],
)
def test_the_calendar_says_the_season(tiny, freq, season):
    values = np.arange(60.0)[:, None] % 5
    dated = Item("a", pd.date_range("2020-01-01", periods=60, freq=freq), values)
    assert calendar_season([dated, dated]) == season
    found = evaluate(Forecaster(tiny), [dated], 2, num_samples=1).errors
    assert ("last period" if season == 1 else f"{season} steps ago") in found
    undated = Item("a", pd.RangeIndex(60), values)
    assert calendar_season([undated]) == 1
    assert calendar_season([dated, undated]) == 1


def made(model, simple):
    index = pd.MultiIndex.from_product([[0], range(len(simple))], names=["item", "steps"])
    errors = pd.DataFrame(
        {MODEL: model, "last value": simple, "mean": [1e6] * len(simple)}, index, dtype=float
    )
    return Evaluation(errors, errors, 1, None, 1.0, 0.8)


def test_verdicts():
    better = made([1.0] * 20, [2.0] * 20)
    assert better.verdict == (
        "the language model's error is 50% below that of the best simple forecast here, "
        "last value; with 20 forecasts that is more than chance"
    )
    assert "25% above" in made([2.5] * 20, [2.0] * 20).verdict
    assert "error is equal to that of the best" in made([0.0] * 20, [0.0] * 20).verdict
    # of a course that repeats itself
    assert "error is above that of the best" in made([2.5] * 20, [0.0] * 20).verdict
    assert made([1, 3] * 10, [3, 1.01] * 10).verdict.endswith("that may be chance")
    once = better.scaled.set_axis(better.scaled.index.swaplevel().set_names(["item", "steps"]))
    assert replace(better, scaled=once).verdict.endswith(
        "with 20 forecasts, one of each series, that may be chance"
    )
    few = made([1.0] * 4, [2.0] * 4)
    assert few.verdict.endswith("fewer than 5 forecasts prove nothing")
    assert "95% interval" not in few.table()
    table = better.table()
    assert list(table.index) == [MODEL, "last value", "mean"]
    assert table.loc["last value"].tolist() == ["2", "2.0", "+1.0", "+1.0 to +1.0", "20 of 20"]


def test_baselines_that_a_context_is_too_short_for_are_left_out(tiny):
    with pytest.warns(
        UserWarning, match="left out, as a context is too short for it: nearest analogue"
    ):
        found = evaluate(
            Forecaster(tiny), [item(values := 50 + 30 * np.sin(np.arange(15)))], 5, num_samples=20
        )
    assert {*found.errors} == {"last value", "mean", "last period", "log-VAR(3)", MODEL}
    (drawn,) = Forecaster(tiny).sample([values[:10, None]], 5, num_samples=20)
    assert found.crps == pytest.approx(crps_fair(drawn.physical, values[10:, None]))
    assert 0 < found.coverage == coverage(drawn.physical, values[10:, None], 0.8) < 1


def test_an_origin_with_a_flat_context_is_left_out(tiny):
    wave = 50 + 30 * np.sin(np.arange(40) / 2)
    late = np.concatenate([np.zeros(33), wave[:7]])  # nothing is sold for 33 steps
    with pytest.warns(
        UserWarning, match="forecasts left out, as what is read never changes or is mostly 0: 2"
    ):
        found = evaluate(
            Forecaster(tiny),
            [item(wave), replace(item(late), name="late")],
            4,
            origins=3,
            num_samples=1,
        )
    assert found.errors.index.tolist() == [(0, 28), (0, 32), (0, 36), (1, 36)]
    assert found.record()["origins"][-1] == {"item": 1, "steps": 36}
    with pytest.raises(InputError, match="has no scale"):
        evaluate(Forecaster(tiny), [item(np.ones(40))], 4, num_samples=1)


def test_errors_are_scaled_by_what_the_model_reads(tiny):
    wave = 50 + 30 * np.sin(np.arange(304) / 2)
    late = item(np.concatenate([np.zeros(2000), wave]))
    with pytest.warns(UserWarning, match="longer than the model's window"):
        found = evaluate(Forecaster(tiny, TextFormat(1)), [late], 4, num_samples=1)
    assert np.isfinite(found.scaled[MODEL]).all()


def test_simple_forecasts_take_the_tables_own_numbers(tiny):
    below = item(np.stack([np.sin(np.arange(40) / 2) - 5, 1e3 * np.cos(np.arange(40) / 2)], axis=1))
    found = evaluate(Forecaster(tiny), [below], 4, num_samples=1)
    context = below.values[None, :36]
    truth = below.values[36:]
    for name, baseline in baselines_for().items():
        expected = np.abs(baseline(context - context.min(), 4)[0] + context.min() - truth).mean()
        assert found.errors[name].item() == pytest.approx(expected), name
    assert found.crps == found.mae
    assert found.coverage is None
