from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from m2lib.files import InputError
from m2lib.forecaster import Forecaster, Item, chosen_seasons, evaluate, evaluation
from m2lib.forecaster.evaluation import ETS, MODEL, WQL, Evaluation, baselines_for, origins_of
from m2lib.forecaster.sampling import Sampler
from m2lib.series import DECILES, TextFormat, coverage, crps_fair


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


@pytest.mark.parametrize(
    ("steps", "settings", "line"),
    [
        (0, {}, "prediction_length is 0; give 1 or more"),
        (14, {"origins": 0}, "origins is 0; give 1 or more"),
        (14, {"stride": 0}, "stride is 0; give 1 or more, or leave it out"),
        (14, {"leave_out": -1}, "leave_out is -1; give 0 or more"),
    ],
)
def test_an_argument_out_of_range_is_refused_by_name(tiny, steps, settings, line):
    with pytest.raises(InputError, match=f"^{line}$"):
        evaluate(Forecaster(tiny), [item(range(1000))], steps, **settings)


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
    unit = np.abs(np.diff(values[:-4])).mean()
    assert one.mase[MODEL].item() == pytest.approx(one.mae / unit)


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
    assert chosen_seasons([dated, dated], None)[0] == season
    found = evaluate(Forecaster(tiny), [dated], 2, num_samples=1).errors
    assert ("last period" if season == 1 else f"{season} steps ago") in found
    undated = Item("a", pd.RangeIndex(60), values)
    assert chosen_seasons([undated], None) == (1,)
    assert chosen_seasons([dated, undated], None) == (1,)
    assert chosen_seasons([dated], 9) == (9,)
    assert chosen_seasons([dated], [30, 9]) == (9, 30)


def test_of_a_day_and_a_week_others_repeat_the_one_that_is_taken(tiny, monkeypatch):
    week = np.resize(10 + np.random.default_rng(0).random(168), 800)[:, None]
    hours = Item("a", pd.date_range("2024-01-01", periods=800, freq="h"), week)
    ets_seasons = []

    def ets(contexts, horizon, season):
        ets_seasons.append(season)
        return {}

    monkeypatch.setattr(evaluation, "_ets_forecasts", ets)
    options = {"num_samples": 1, "auto_ets": True}
    whole = evaluate(Forecaster(tiny), [hours], 24, origins=3, **options)
    assert (whole.season, whole.period) == (24, 168)
    assert whole.errors["168 steps ago"].max() == pytest.approx(0, abs=1e-9)
    # Of the first context there are less than three weeks.
    part = evaluate(Forecaster(tiny), [hours], 24, origins=2, stride=280, **options)
    assert (part.season, part.period) == (24, 24)
    assert ets_seasons == [24, 24]  # it takes no longer one


def made(model, simple):
    index = pd.MultiIndex.from_product([[0], range(len(simple))], names=["item", "steps"])
    errors = pd.DataFrame(
        {MODEL: model, "last value": simple, "mean": [1e6] * len(simple)}, index, dtype=float
    )
    return Evaluation(errors, errors, 1, None, 1.0, 0.8, pd.DataFrame())


def test_verdicts():
    better = made([1.0] * 20, [2.0] * 20)
    assert better.verdict == (
        "the language model's error is 50% below that of the best simple forecast here, "
        "last value; with 20 forecasts that is more than chance"
    )
    assert "25% above" in made([2.5] * 20, [2.0] * 20).verdict
    assert "error is equal to that of the best" in made([0.0] * 20, [0.0] * 20).verdict
    assert "error is equal to that of the best" in made([2.0] * 20, [2.0] * 20).verdict
    # of a course that repeats itself
    assert "error is above that of the best" in made([2.5] * 20, [0.0] * 20).verdict
    assert made([1, 3] * 10, [3, 1.01] * 10).verdict.endswith("that may be chance")
    once = better.mase.set_axis(better.mase.index.swaplevel().set_names(["item", "steps"]))
    assert replace(better, mase=once).verdict.endswith(
        "with 20 forecasts, one of each series, that may be chance"
    )
    few = made([1.0] * 4, [2.0] * 4)
    assert few.verdict.endswith("fewer than 6 forecasts prove nothing")
    assert "95% interval" not in few.table()
    assert "95% interval" in made([1.0] * 6, [2.0] * 6).table()
    # Student's interval for six: 2.57 standard errors, where a bootstrap has some 1.7
    uneven = made([0.0] * 6, [1.0, 2, 3, 4, 5, -3])
    assert uneven.table().loc["last value", "95% interval"] == "-0.97 to +4.97"
    assert uneven.verdict.endswith("that may be chance")
    # One value far off: the t interval leaves zero out, and 4 of 64 patterns of signs lie as far.
    one_bad = made([0.0] * 6, [3.0, 3, 3, 3, 3, -0.5])
    assert one_bad.table().loc["last value", "95% interval"].startswith("+0.9")
    assert one_bad.verdict.endswith("that may be chance")
    # Six forecasts that are all worse: 2 of 64 patterns lie as far. Of one other forecaster that is
    # more than chance; of two, of which the luckier is found by the same six, it may be chance.
    worse = made([2.0, 3, 2, 3, 2, 3], [1.0] * 6)
    assert worse.verdict.endswith("that may be chance")
    assert replace(worse, mase=worse.mase.drop(columns="mean")).verdict.endswith("more than chance")
    ets = made([1.0] * 20, [2.0] * 20)
    ets = replace(ets, mase=ets.mase.rename(columns={"last value": ETS}))
    assert "50% below that of AutoETS, the best of the others here; with 20" in ets.verdict
    table = better.table()
    assert list(table.index) == [MODEL, "last value", "mean"]
    assert table.loc["last value"].tolist() == ["2", "2.00", "+1.00", "+1.00 to +1.00", "20 of 20"]


def test_baselines_that_a_context_is_too_short_for_are_left_out(tiny):
    with pytest.warns(
        UserWarning, match="left out, as a context is too short for it: nearest analogue"
    ):
        found = evaluate(
            Forecaster(tiny),
            [item(values := 50 + 30 * np.sin(np.arange(15)))],
            5,
            num_samples=20,
            auto_ets=False,
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
    for flat in (Forecaster(tiny), Forecaster(tiny, TextFormat(1))):
        with pytest.raises(
            InputError, match="there is nothing to forecast from: what is read never"
        ):
            evaluate(flat, [item(np.append(np.full(36, 5.0), wave[:4]))], 4, num_samples=1)


def test_a_moment_at_which_nothing_is_left_without_the_season_is_left_out(tiny):
    # The level falls early, and then each season is exactly like the last; in one of the two series
    # noise follows.
    regular = np.resize([8.0, 24.0], 84)
    regular[:20] *= 2
    noisy = np.concatenate([regular, 8 + np.random.default_rng(0).uniform(0, 9, 40)])
    forecaster = Forecaster(tiny, TextFormat(1, percentile=100, offset=0.3))
    options = {"season": 2, "context_length": 30, "num_samples": 1, "auto_ets": False}
    with pytest.warns(UserWarning, match="left out, as what is read never changes or .*: 1$"):
        found = evaluate(forecaster, [item(noisy), item(regular)], 4, **options)
    assert found.errors.index.tolist() == [(0, 120)]


def test_a_long_series_of_zeros_that_ends_in_a_wave_has_an_error(tiny):
    wave = 50 + 30 * np.sin(np.arange(304) / 2)
    late = item(np.concatenate([np.zeros(2000), wave]))
    with pytest.warns(UserWarning, match="longer than the model's window") as warned:
        found = evaluate(Forecaster(tiny, TextFormat(1)), [late, item(wave)], 4, num_samples=1)
    assert not any("left out" in str(one.message) for one in warned)
    assert found.mase.index.tolist() == [(0, 2300), (1, 300)]
    assert np.isfinite(found.mase[MODEL]).all()


def test_simple_forecasts_are_those_of_scaled_variables_in_the_tables_units(tiny):
    steps = np.arange(40) / 2
    below = item(np.stack([np.sin(steps) - 5, 1e3 * np.cos(steps)], axis=1))
    found = evaluate(Forecaster(tiny), [below], 4, num_samples=1, auto_ets=False)
    context = below.values[:36]
    truth = below.values[36:]
    low = context.min(axis=0)
    unit = (context - low).max(axis=0) / 1000
    for name, baseline in baselines_for().items():
        forecast = baseline(((context - low) / unit)[None], 4)[0] * unit + low
        expected = np.abs(forecast - truth).mean()
        assert found.errors[name].item() == pytest.approx(expected), name
    assert found.crps == found.mae
    assert found.coverage is None


def test_a_tables_units_change_no_simple_forecast(tiny):
    rng = np.random.default_rng(0)
    values = 1 + rng.gamma(3, 1, (60, 2)) + 3 * np.sin(np.arange(60) / 2)[:, None] ** 2
    units = np.array([0.01, 500])
    found, other = (
        evaluate(Forecaster(tiny), [item(table)], 4, num_samples=1, auto_ets=False).forecasts
        for table in (values, values * units)
    )
    rows_units = np.where(found.target_name == "0", *units)
    for name in baselines_for():
        assert (other[name] / rows_units).to_numpy() == pytest.approx(found[name].to_numpy()), name


def shops(count=3, steps=40):
    """A table of shops with two columns of numbers, whose days have seasons of a week."""
    frames = []
    for shop in range(count):
        rng = np.random.default_rng(shop)
        week = np.arange(steps) % 7
        days = pd.date_range("2024-01-01", periods=steps)
        frame = pd.DataFrame(
            {"shop": f"s{shop}", "day": days, "sold": week + rng.gamma(5, 1, steps)}
        )
        frames.append(frame.assign(back=100 * rng.gamma(5, 1, steps)))
    return pd.concat(frames, ignore_index=True)


COLUMNS = {"id_column": "shop", "timestamp_column": "day", "target": ("sold", "back")}


def test_all_forecasts_are_in_one_table(tiny):
    table = shops()
    found = Forecaster(tiny).evaluate(table, 4, origins=2, num_samples=5, auto_ets=False, **COLUMNS)
    rows = found.forecasts
    assert list(rows.columns) == [
        *("shop", "day", "target_name", "cutoff", "truth", "predictions", *map(str, DECILES)),
        *("last value", "mean", "7 steps ago", "nearest analogue", "log-VAR(3)", "mase_unit"),
    ]
    assert len(rows) == 3 * 2 * 2 * 4  # shops, origins, variables, steps
    assert rows.cutoff.unique().tolist() == [pd.Timestamp("2024-02-01"), pd.Timestamp("2024-02-05")]
    assert (rows.day - rows.cutoff).dt.days.tolist() == [1, 2, 3, 4] * 12
    known = table.melt(["shop", "day"], var_name="target_name", value_name="known")
    both = rows.merge(known, on=["shop", "day", "target_name"])
    assert len(both) == len(rows)
    assert both.truth.equals(both.known)
    cutoffs = known.rename(columns={"day": "cutoff", "known": "at cutoff"})
    assert rows.merge(cutoffs, on=["shop", "cutoff", "target_name"])["at cutoff"].tolist() == (
        rows["last value"].tolist()
    )
    assert rows.predictions.to_numpy() == pytest.approx(rows["0.5"].to_numpy())
    off = (rows.predictions - rows.truth).abs()
    assert off.mean() == pytest.approx(found.mae)
    assert ((rows["0.1"] <= rows.truth) & (rows.truth <= rows["0.9"])).mean() == found.coverage


def test_errors_by_series_are_those_of_a_well_kept_library(tiny):
    from utilsforecast.losses import mase, quantile_loss

    table = shops().rename(columns={"day": "ds"})
    columns = COLUMNS | {"target": "sold", "timestamp_column": "ds"}
    found = Forecaster(tiny).evaluate(table, 4, origins=2, num_samples=5, auto_ets=False, **columns)
    by_series, rows = found.by_series(), found.forecasts
    assert by_series.index.tolist() == ["s0", "s1", "s2"]
    names = {"id_col": "shop", "target_col": "truth"}
    known = table.rename(columns={"sold": "truth"})
    others = ["predictions", *found.errors.columns.drop(MODEL)]
    scaled = mase(rows, others, seasonality=7, train_df=known, **names)
    scaled = scaled.groupby("shop")[others].mean().rename(columns={"predictions": MODEL})
    pd.testing.assert_frame_equal(by_series.drop(columns=WQL), scaled[by_series.columns[:-1]])
    by_item = found.mase.groupby("item").mean()
    assert by_item[MODEL].tolist() == pytest.approx(scaled[MODEL].tolist())
    losses = []
    for level in map(str, DECILES):
        loss = quantile_loss(rows, {level: level}, q=float(level), **names)
        losses.append(loss.groupby("shop")[level].mean())
    sizes = rows.truth.abs().groupby(rows.shop).mean()
    weighted = 2 * pd.concat(losses, axis=1).mean(axis=1) / sizes
    assert by_series[WQL].to_numpy() == pytest.approx(weighted.to_numpy())
    # The order of the table's columns does not matter.
    backwards = replace(found, forecasts=rows[rows.columns[::-1]])
    pd.testing.assert_frame_equal(backwards.by_series(), by_series)


def test_a_series_that_repeats_itself_is_measured_by_its_steps(tiny):
    week = np.tile(np.arange(1.0, 8), 6)
    wave = 50 + 30 * np.sin(2 * np.pi * np.arange(42) / 7)  # which repeats itself but for rounding
    for values in (week, wave):
        again = replace(item(values), times=pd.date_range("2024-01-01", periods=42))
        found = evaluate(Forecaster(tiny), [again], 3, num_samples=2, auto_ets=False)
        assert found.season == 7
        step = np.abs(np.diff(values[:-3])).mean()
        assert found.forecasts["mase_unit"].tolist() == pytest.approx([step] * 3)
    assert found.mase["last value"].item() == pytest.approx(
        found.errors["last value"].item() / step
    )
    assert found.by_series()["last value"].item() == found.mase["last value"].item()


def test_where_less_than_two_seasons_are_known_steps_are_the_unit(tiny):
    values = 50 + 30 * np.sin(np.arange(40) / 2)
    for season, lag in ((18, 18), (19, 1)):  # 36 steps are known
        found = evaluate(
            Forecaster(tiny), [item(values)], 4, season=season, num_samples=1, auto_ets=False
        )
        unit = np.abs(values[lag:36] - values[: 36 - lag]).mean()
        assert found.forecasts["mase_unit"].tolist() == pytest.approx([unit] * 4)


def test_a_variable_that_never_changed_does_not_count(tiny):
    wave = 50 + 30 * np.sin(np.arange(40) / 2)
    late = np.append(np.full(34, 20.0), [25, 30, 35, 30, 30, 30])
    both = item(np.stack([wave, late], axis=1))
    forecaster = Forecaster(tiny, TextFormat(2))
    found = evaluate(forecaster, [both], 4, origins=2, stride=3, num_samples=1, auto_ets=False)
    alone = [
        np.abs(series[steps : steps + 4] - series[steps - 1]).mean()
        / np.abs(np.diff(series[:steps])).mean()
        for series, steps in ((wave, 33), (wave, 36), (late, 36))
    ]
    expected = [alone[0], (alone[1] + alone[2]) / 2]
    assert found.mase["last value"].tolist() == pytest.approx(expected)
    assert found.by_series()["last value"].item() == pytest.approx(np.mean(expected))


def test_less_of_a_series_may_be_read(tiny):
    table = shops()
    short = table.groupby("shop").tail(15)
    settings = {"num_samples": 3, "season": 1, **COLUMNS}
    forecaster = Forecaster(tiny)
    made = forecaster.predict_df(table, 4, context_length=15, **settings)
    pd.testing.assert_frame_equal(made, forecaster.predict_df(short, 4, **settings))
    known = table.groupby("shop").head(36).groupby("shop").tail(15)
    found = forecaster.evaluate(table, 4, context_length=15, auto_ets=False, **settings).forecasts
    made = forecaster.predict_df(known, 4, **settings)
    assert found.predictions.tolist() == made.predictions.tolist()

    # What is read has to change, and there has to be enough of it, before any work begins.
    flat = item(np.append(50 + 30 * np.sin(np.arange(30)), [5.0] * 15))
    forecaster = Forecaster(tiny, TextFormat(1, percentile=100, offset=0.3))
    assert forecaster.readable([flat], 4) == [flat]
    with pytest.raises(InputError, match="has no scale"):
        forecaster.readable([flat], 4, context_length=15)
    with pytest.raises(InputError, match="context_length is 0; give 10 steps or more"):
        evaluate(forecaster, [flat], 4, context_length=0, refit=lambda _: pytest.fail("trained"))


class Smoothing:
    """Stands in for statsforecast's AutoETS: it forecasts the season that it was told of."""

    def __init__(self, season_length):
        self.season = season_length

    def forecast(self, y, h):
        if len(y) < 12:
            raise Exception("series too short")
        return {"mean": np.full(h, float(self.season))}


def test_exponential_smoothing_stands_beside_where_it_is_installed(tiny, monkeypatch):
    from m2lib.forecaster import evaluation

    monkeypatch.setattr(evaluation, "find_spec", lambda name: name == "statsforecast" or None)
    monkeypatch.setattr(evaluation, "import_module", lambda _: SimpleNamespace(AutoETS=Smoothing))
    settings = {"num_samples": 2, **COLUMNS}
    found = Forecaster(tiny).evaluate(shops(), 4, **settings)
    assert found.forecasts[ETS].tolist() == [7.0] * 24
    assert ETS in found.by_series()
    assert ETS in found.table().index
    # a season that is too long for it is none
    found = Forecaster(tiny).evaluate(shops(steps=90), 4, season=25, **settings)
    assert set(found.forecasts[ETS]) == {1.0}
    assert ETS not in Forecaster(tiny).evaluate(shops(), 4, auto_ets=False, **settings).errors
    with pytest.warns(UserWarning, match=r"left out, as it fails: AutoETS \(series too short\)"):
        assert ETS not in Forecaster(tiny).evaluate(shops(steps=15), 4, **settings).errors
    monkeypatch.setattr(evaluation, "find_spec", lambda name: None)
    assert ETS not in Forecaster(tiny).evaluate(shops(), 4, **settings).errors


def test_exponential_smoothing_itself(tiny):
    pytest.importorskip("statsforecast")
    found = Forecaster(tiny).evaluate(shops(), 7, num_samples=2, **COLUMNS)
    assert found.errors[ETS].mean() < found.errors["last value"].mean()
