import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from utilsforecast.evaluation import evaluate as utilsforecast_evaluate
from utilsforecast.losses import mae

from m2lib.files import InputError
from m2lib.forecaster import Forecaster, adapter_folder, finetune, format_for
from m2lib.forecaster import sampling as module
from m2lib.forecaster.adapters import GENERAL, base_of, read_format, read_views
from m2lib.model import INT8, devices, inject_lora, load_backbone, save_adapter
from m2lib.model.devices import DTYPES
from m2lib.series import STUDY, Season, TextFormat


@pytest.fixture
def untuned(tiny):
    return Forecaster(tiny)


def waves(steps=40, variables=1, seed=0):
    rng = np.random.default_rng(seed)
    return (
        50
        + 30 * np.sin(np.arange(steps)[:, None] / 3 + np.arange(variables))
        + rng.normal(0, 1, (steps, variables))
    )


@pytest.fixture
def sales():
    """Two series of different lengths, their rows mixed."""
    frames = [
        pd.DataFrame(
            {
                "item_id": name,
                "timestamp": pd.date_range("2024-01-01", periods=steps),
                "target": waves(steps)[:, 0],
            }
        )
        for name, steps in (("b", 40), ("a", 30))
    ]
    return pd.concat(frames).sort_values("timestamp", kind="stable")


def test_a_table_in_a_table_out(untuned, sales):
    made = untuned.predict_df(
        sales, prediction_length=4, quantile_levels=[0.1, 0.5, 0.9], num_samples=5
    )
    assert list(made.columns) == [
        "item_id",
        "timestamp",
        "target_name",
        "predictions",
        "0.1",
        "0.5",
        "0.9",
    ]
    assert made.item_id.tolist() == ["b"] * 4 + ["a"] * 4
    assert made.timestamp.iloc[[0, 4]].tolist() == [
        pd.Timestamp("2024-02-10"),
        pd.Timestamp("2024-01-31"),
    ]
    assert (made["0.1"] <= made["0.5"]).all()
    assert (made["0.5"] <= made["0.9"]).all()
    assert np.allclose(made.predictions, made["0.5"])


@pytest.mark.parametrize("season", [0, -3])
def test_a_season_of_no_steps_is_refused(untuned, sales, season):
    for ask in (untuned.predict_df, untuned.evaluate):
        with pytest.raises(InputError, match=f"^season is {season}; give its number of steps"):
            ask(sales, 2, season=season, num_samples=2)


def test_calendars_that_differ_are_said_once(untuned, sales, tmp_path, monkeypatch):
    """A single weekly series among daily ones switches off the season of all of them."""
    weeks = pd.date_range("2024-01-01", periods=40, freq="W")
    weekly = pd.DataFrame({"item_id": "c", "timestamp": weeks, "target": waves()[:, 0]})
    both = pd.concat([sales, weekly])
    monkeypatch.setattr(finetune, "finetune", lambda *_, **options: options["season"])
    asks = (
        partial(untuned.predict_df, num_samples=2),
        partial(untuned.evaluate, num_samples=2, auto_ets=False),
        partial(untuned.fit, output_dir=tmp_path),
    )
    line = (
        "no season is taken out, because the calendars of the series differ; set season, or bring "
        "all series to one spacing"
    )
    for ask in asks:
        for table, options, expected in (
            (both, {}, [line]),
            (sales, {}, []),
            (both, {"season": 7}, []),
        ):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                ask(table, 2, **options)
            lines = [str(one.message) for one in caught if "calendars" in str(one.message)]
            assert lines == expected
    assert untuned.fit(sales, 2, output_dir=tmp_path) == (7,)


def test_what_is_known_of_the_future_is_refused_by_name(untuned, sales):
    future = sales.assign(price=1.0)
    with pytest.raises(InputError, match=r"^future_df holds covariates, which this model cannot"):
        untuned.predict_df(sales, prediction_length=2, future_df=future)
    inputs = [{"target": waves()[:, 0], "future_covariates": {"price": np.ones(2)}}]
    with pytest.raises(InputError, match=r"^future_covariates holds covariates, which this model"):
        untuned.predict_quantiles(inputs, 2)
    plain, mean = untuned.predict_quantiles([{"target": waves()[:, 0]}], 2, num_samples=2)
    assert (plain.shape, mean.shape) == ((1, 2, 9), (1, 2))


def test_an_unfit_series_is_left_out_and_a_gap_is_filled(untuned, sales):
    sales.loc[(sales.item_id == "a"), "target"] = 1.0
    gaps = sales.drop(index=5)
    options = {"prediction_length": 2, "num_samples": 2}
    with pytest.raises(InputError, match=r"row 11, .*; --skip leaves series 'b' out \("):
        untuned.predict_df(gaps, **options)
    with pytest.warns(UserWarning, match="series 'a' is left out: .* the series is 1 throughout"):
        made = untuned.predict_df(gaps, skip=True, fill="linear", **options)
    assert made.item_id.tolist() == ["b", "b"]


def test_a_series_that_the_model_cannot_read_is_said_before_the_work(untuned, sales, monkeypatch):
    general = replace(untuned, text_format=TextFormat(0, 3, 100.0, 0.5, separate=True, room=2.0))
    closed = sales[sales.item_id == "b"].assign(item_id="closed")
    closed.loc[10:, "target"] = 0.0
    table = pd.concat([closed, sales])
    options = {"prediction_length": 2, "num_samples": 2}
    # The shop closed thirty steps ago, and the model reads twenty.
    monkeypatch.setattr(Forecaster, "readable_steps", lambda *_: 20)
    with monkeypatch.context() as no_work:
        no_work.setattr(Forecaster, "sample", None)
        with pytest.raises(InputError, match=r"^series closed has no scale: .* or --skip it"):
            general.predict_df(table, season=1, **options)
        with pytest.raises(InputError, match=r"^series closed has no scale: .*; drop it$"):
            general.predict_df(closed, season=1, skip=True, **options)
    with pytest.warns(UserWarning, match="^left out: series closed has no scale: what is read is"):
        made = general.predict_df(table, season=1, skip=True, **options)
    assert made.item_id.unique().tolist() == ["b", "a"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("skip", [False, True])
def test_what_is_wrong_with_the_call_is_not_said_of_a_series(untuned, sales, skip):
    with pytest.raises(InputError, match=r"^context_length is 5; give 10 steps or more, or leave"):
        untuned.predict_df(sales, 2, context_length=5, skip=skip)
    with pytest.raises(
        InputError, match=r"^2000 steps are more than tiny can write; ask for fewer$"
    ):
        untuned.predict_df(sales, 2000, skip=skip)


@pytest.mark.filterwarnings("ignore:of a series longer")
@pytest.mark.parametrize(
    ("steps", "closed_for", "stuck_at", "context_length"),
    [(200, 65, 0.0, 60), (1100, 300, 0.0, None), (1100, 300, 17.0, None)],
)
def test_a_closed_shop_is_forecast_with_every_view(
    untuned, steps, closed_for, stuck_at, context_length
):
    """Also with the view that leaves the season in, because it varies only without its season."""
    text_format = TextFormat(0, 3, 100.0, 0.5, separate=True, room=2.0)
    general = replace(untuned, text_format=text_format, views=read_views(GENERAL))
    week = np.resize([5.0, 6, 7, 8, 9, 20, 0], steps)
    closed = week * np.random.default_rng(0).uniform(1, 1.1, steps)
    closed[-closed_for:] = stuck_at
    days = pd.date_range("2020-01-01", periods=steps)
    table = pd.DataFrame({"item_id": "closed", "timestamp": days, "target": closed})
    made = general.predict_df(table, 2, num_samples=3, context_length=context_length)
    assert np.isfinite(made.predictions).all()


def test_samples_and_their_mean_come_out_where_asked(untuned, sales):
    options = {"quantile_levels": [0.1, 0.9], "num_samples": 3}
    plain = untuned.predict_df(sales, 4, **options)
    made = untuned.predict_df(sales, 4, return_samples=True, **options)
    columns = ["mean", "sample_0", "sample_1", "sample_2"]
    assert list(made.columns) == [*plain.columns, *columns]
    assert made[plain.columns].equals(plain)
    samples = made[columns[1:]]
    assert made["mean"].to_numpy() == pytest.approx(samples.mean(axis=1).to_numpy())
    assert made.predictions.tolist() == samples.median(axis=1).tolist()
    (first, _) = untuned.sample(
        [sales[sales.item_id == name][["target"]].to_numpy() for name in "ba"],
        4,
        num_samples=3,
        season=7,
    )
    assert samples[:4].to_numpy().T.tolist() == first.physical[..., 0].tolist()


def test_the_device_may_be_named_as_chronos_names_it():
    for name, device_map in (("cpu", "auto"), ("cuda:99", "cpu"), (None, "cpu")):
        made = Forecaster.from_pretrained(
            "none", backbone="tiny", device=name, device_map=device_map
        )
        assert made.backbone.device.type == "cpu"
    with pytest.raises(InputError, match="cannot use device 'abacus'"):
        Forecaster.from_pretrained("none", backbone="tiny", device_map="abacus")


def test_it_forecasts_in_int8_where_that_is_asked_for_or_fastest(sales, monkeypatch):
    def load(**settings):
        return Forecaster.from_pretrained("none", backbone="tiny", device="cpu", **settings)

    for int8_rate, fastest in ((2.0, True), (0.5, False)):
        rates = dict.fromkeys(DTYPES, 1.0) | {INT8: int8_rate}
        monkeypatch.setattr(devices, "measured_rates", rates.copy)
        assert load().int8 is fastest
        assert "int8 on cpu" in repr(load(dtype="int8"))
        assert load(dtype="bfloat16").dtype == "bfloat16"
    monkeypatch.setenv("M2_DTYPE", "int8")
    whole = load()
    assert (whole.dtype, whole.backbone.dtype) == ("int8", "float32")
    monkeypatch.setenv("M2_DTYPE", "float32")
    plain = load()
    assert plain.dtype == "float32"

    x = torch.linspace(-1, 1, whole.backbone.model.config.hidden_size)[None]
    rounded, exact = (one._bare().blocks[0].out(x) for one in (whole, plain))
    assert 1e-4 < float((rounded - exact).norm() / exact.norm()) < 0.05
    assert len(whole.predict_df(sales, 3, num_samples=2)) == 6
    with pytest.raises(InputError, match="int8 is for a CPU, not for cuda"):
        Forecaster.from_pretrained("none", backbone="tiny", device="cuda", dtype="int8")
    with pytest.raises(InputError, match="unknown dtype 'int8'"):
        load_backbone("tiny", device="cpu", dtype="int8")


def test_utilsforecast_reads_what_comes_out(untuned, sales):
    made = untuned.predict_df(sales.groupby("item_id").head(27), prediction_length=3, num_samples=3)
    both = made.merge(sales, on=["item_id", "timestamp"])
    assert len(both) == 6
    scored = utilsforecast_evaluate(
        both,
        metrics=[mae],
        models=["predictions"],
        id_col="item_id",
        time_col="timestamp",
        target_col="target",
    )
    expected = (both.predictions - both.target).abs().groupby(both.item_id).mean()
    assert scored.set_index("item_id").predictions.to_dict() == pytest.approx(expected.to_dict())


@pytest.mark.filterwarnings("ignore:of a series longer")  # eight variables leave 25 steps of room
@pytest.mark.parametrize("variables", [1, 3, 8])
def test_several_variables_and_negative_values(untuned, variables):
    frame = pd.DataFrame(waves(30, variables) - 60, columns=[f"v{i}" for i in range(variables)])
    targets = list(frame.columns)
    columns = {"id_column": None, "timestamp_column": None, "target": targets}
    made = untuned.predict_df(frame, prediction_length=2, num_samples=3, **columns)
    assert made.target_name.tolist() == [name for name in targets for _ in range(2)]
    assert made.timestamp.tolist() == [30, 31] * variables
    assert np.isfinite(made.predictions).all()


def test_quantiles_have_the_shapes_of_chronos(untuned):
    one = waves(30)[:, 0]
    two = waves(40)[:, 0]
    options = {"prediction_length": 3, "quantile_levels": [0.2, 0.8], "num_samples": 4}
    quantiles, mean = untuned.predict_quantiles([torch.tensor(one), torch.tensor(two)], **options)
    assert (quantiles.shape, mean.shape) == ((2, 3, 2), (2, 3))
    alone, _ = untuned.predict_quantiles(one, **options)
    assert alone.shape == (1, 3, 2)
    together, _ = untuned.predict_quantiles(np.stack([one, one[::-1]]), **options)
    assert together.shape == (2, 3, 2)
    several, mean = untuned.predict_quantiles([waves(30, 2).T], **options)
    assert (several.shape, mean.shape) == ((1, 2, 3, 2), (1, 2, 3))


def test_python_in_two_ways_gives_one_forecast(untuned, sales):
    sales["other"] = 100 - sales.target
    options = {"prediction_length": 3, "quantile_levels": [0.1, 0.9], "num_samples": 4, "seed": 7}
    made = untuned.predict_df(sales, target=["target", "other"], **options)
    values = [sales[sales.item_id == name][["target", "other"]].to_numpy().T for name in ("b", "a")]
    # the table's calendar says 7 days
    quantiles, medians = untuned.predict_quantiles(values, season=7, **options)
    assert made.predictions.to_numpy() == pytest.approx(medians.numpy().ravel(), rel=1e-6)
    assert made[["0.1", "0.9"]].to_numpy() == pytest.approx(
        quantiles.numpy().reshape(-1, 2), rel=1e-6
    )


def test_a_season_is_taken_out_and_put_back(untuned):
    series = waves(40) * np.resize([1.0, 1.2, 0.9, 1.1], 40)[:, None]
    season = Season.of(series, 4)
    (with_it,), (without,) = (
        untuned.sample([series], 5, season=4),
        untuned.sample([season.without(series)], 5),
    )
    assert with_it.texts == without.texts
    assert np.allclose(with_it.physical, without.physical * season.factor[np.arange(40, 45) % 4])
    assert not np.allclose(with_it.physical, without.physical)


def test_the_oldest_steps_drop_out_and_this_is_said(untuned):
    long = waves(500)
    said = "of a series longer than the model's window the last 204 steps are read"
    with pytest.warns(UserWarning, match=said):
        (whole,) = untuned.sample([long], 2, num_samples=1)
    (kept,) = untuned.sample([long[-204:]], 2, num_samples=1)
    assert whole.texts == kept.texts


def test_an_adapter_knows_its_own_format(tiny, sales):
    tuned = Forecaster(tiny, STUDY)
    with pytest.raises(InputError, match="series b does not fit the adapter's text format"):
        tuned.predict_df(sales, prediction_length=2)
    with pytest.raises(
        InputError, match=r"^the series .* \(variables: 2, negative numbers: no\); take"
    ):
        tuned.predict_df(
            sales[["target"]], prediction_length=2, id_column=None, timestamp_column=None
        )
    with pytest.raises(InputError, match="series 1 does not fit"):
        tuned.sample([np.ones((20, 2)), np.arange(-1.0, 19.0).reshape(10, 2)], 2)


@pytest.mark.parametrize(
    ("context", "settings", "line"),
    [
        (
            np.append(waves(12), np.nan),
            {},
            "series 0 is not finite at 1 of its steps, the first of which is 12; cut them off",
        ),
        (np.ones(12), {}, "series 0 has no scale"),
        (
            waves(12)[:, 0],
            {"prediction_length": 2000},
            "2000 steps are more than tiny can write; ask for fewer",
        ),
        (
            [waves(12)[:, 0], waves(9)[:, 0]],
            {},
            "series 1 has 9 steps, fewer than 10; bring more, or drop it",
        ),
        ([waves(2, 2).T], {"ids": ["a"]}, "series a has 2 steps, fewer than 10"),
        (
            [np.ones((12, 20))],
            {},
            r"series 0 has 12 variables, more than 8; give it as \(variables, steps\)",
        ),
        (waves(12)[:, 0], {"prediction_length": 0}, "prediction_length is 0; give 1 or more"),
        (
            waves(12)[:, 0],
            {"temperature": 0.0},
            "at temperature 0 all samples are the same; give a temperature",
        ),
    ],
)
def test_what_cannot_be_forecast_is_said_in_one_line(untuned, context, settings, line):
    with pytest.raises(ValueError, match=line) as error:
        untuned.predict_quantiles(context, **{"prediction_length": 2, **settings})
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("levels", [[10, 50, 90], [-0.1], [0.5, float("nan")]])
def test_a_level_out_of_range_is_refused_before_the_work(untuned, sales, monkeypatch, levels):
    monkeypatch.setattr(Forecaster, "sample", None)
    options = {"prediction_length": 2, "quantile_levels": levels}
    for ask, what in ((untuned.predict_df, sales), (untuned.predict_quantiles, waves()[:, 0])):
        with pytest.raises(
            InputError, match=r"^quantile_levels are \[.*\]; give numbers between 0"
        ):
            ask(what, **options)


def test_a_format_for_a_table():
    zero = waves()
    level = 1000 + waves()
    below = waves() - 60
    assert format_for([zero]) == TextFormat(1, percentile=100)
    assert format_for([level]) == format_for([below]) == TextFormat(1, percentile=100, offset=0.3)
    assert format_for([waves(variables=3)]).separate


def test_batches_fit_into_memory(tiny, monkeypatch):
    sizes = []
    forecast = module.forecast
    monkeypatch.setattr(
        module,
        "forecast",
        lambda *of, batch_size, **how: sizes.append(batch_size) or forecast(*of, **how),
    )
    # A series takes its 12 steps once, for all samples, and a step of each. Two layers hold keys
    # and values, of two heads of 16 numbers in 4 bytes.
    one = (12 + 3 * 1) * module.format_for([waves(12)]).longest_step * 2 * 2 * 2 * 16 * 4
    for bytes_held in (2 * one, 2 * 10**9):
        monkeypatch.setattr(module, "CACHE", bytes_held)
        Forecaster(tiny).sample([waves(12)] * 3, 1, num_samples=3)
    assert sizes == [2, 85]


def test_the_adapter_that_comes_with_the_package_has_a_name():
    assert adapter_folder("general") == GENERAL


def test_an_adapter_is_found_by_its_folder(tmp_path):
    model = inject_lora(load_backbone("tiny", device="cpu", dtype="float32").model, 2)
    folder = tmp_path / "results" / "laptop-tiny" / "trial" / "mine"
    save_adapter(model, folder, "tiny")
    assert adapter_folder(folder) == adapter_folder(str(folder)) == folder
    assert base_of(folder) == "tiny"
    assert read_format(folder) == STUDY
    for pattern in ("trial/*", "trial/min?", "*/mine"):  # a name is no pattern
        with pytest.raises(InputError, match="is no folder"):
            adapter_folder(pattern)
    with pytest.raises(
        InputError,
        match=r"'other' is no folder with an adapter_config\.json; give an adapter's folder",
    ):
        adapter_folder("other")
    with pytest.raises(InputError, match="has a text format of its own"):
        Forecaster.from_pretrained(folder, text_format=STUDY)
    (folder / "text_format.json").write_text('{"digits": 9}', encoding="utf-8")
    with pytest.raises(InputError, match=r"text_format\.json cannot be read \(a text format has"):
        read_format(folder)
    (folder / "adapter_config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"adapter_config\.json cannot be read"):
        base_of(folder)


def test_a_folder_that_is_called_as_a_backbone_is_not_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "text_format.json").write_text('{"digits": 3}', encoding="utf-8")
    assert Forecaster.from_pretrained("none", backbone="tiny").text_format is None


def test_a_spread_never_takes_a_forecast_below_zero_where_no_value_is(untuned):
    untuned = replace(untuned, text_format=TextFormat(1, percentile=100, offset=0.5, spread=10.0))
    sales = waves() * (waves() > 40)
    profit = waves() - 50
    made = untuned.sample([sales, profit], 4, num_samples=8)
    assert made[0].physical.min() == 0
    assert made[1].physical.min() < profit.min()
    (both,) = replace(untuned, text_format=replace(untuned.text_format, variables=2)).sample(
        [np.hstack([sales, profit])], 4, num_samples=8
    )
    assert both.physical[..., 0].min() == 0 > both.physical[..., 1].min()
