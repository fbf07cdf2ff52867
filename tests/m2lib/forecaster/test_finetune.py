"""Fine-tuning on a table: what is trained, measured and written, and what is said of it.

The last steps of each series are kept back. A training that is stopped goes on where it was.
"""

import json
import re
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from m2lib.accounting import Shape
from m2lib.errors import InputError
from m2lib.forecaster import Forecaster, View, adapter_folder, finetune, rolling
from m2lib.forecaster.adapters import VIEWS_FILE, read_format
from m2lib.forecaster.evaluation import MODEL, Evaluation
from m2lib.forecaster.sampling import Sampler, Sampling
from m2lib.forecaster.views import PLAIN
from m2lib.model import ALL_TARGETS, adapter_hash, load_backbone, save_adapter
from m2lib.series import Season, TextFormat
from m2lib.training import loop, step_costs

WEIGHTS = "adapter_model.safetensors"
COLUMNS = {"id_column": None, "timestamp_column": "year", "target": ("hares", "lynx")}


def pelts(steps=60):
    """Return a table of one series of two variables."""
    wave = 50 + 30 * np.sin(np.arange(steps) / 3)
    return pd.DataFrame({"year": 1900 + np.arange(steps), "hares": wave, "lynx": np.roll(wave, 3)})


def several_series(count):
    """Return a table of several series with names, which are all the same."""
    return pd.concat([pelts().assign(item_id=str(number)) for number in range(count)])


def untuned():
    """Return a forecaster without an adapter."""
    return Forecaster(load_backbone("tiny", device="cpu", dtype="float32"))


def tuned(folder, forecaster=None, df=None, **options):
    """Train an adapter, in three steps unless options say otherwise, and return its forecaster."""
    settings = {
        "prediction_length": 5,
        "num_steps": 3,
        "output_dir": folder,
        "progress": False,
        "say": lambda line: None,
    }
    forecaster = forecaster or untuned()
    return forecaster.fit(pelts() if df is None else df, **(settings | COLUMNS | options))


def load(folder, **options):
    """Return a forecaster from an adapter's folder, in float32 on the CPU."""
    return Forecaster.from_pretrained(folder, device="cpu", dtype="float32", **options)


def greedy(forecaster):
    """Return a forecaster's single greedy forecast of the table."""
    return forecaster.predict_df(pelts(), 3, num_samples=1, **COLUMNS)


def facts_of(folder):
    """Return the facts beside an adapter."""
    return json.loads((folder / "facts.json").read_text("utf-8"))


def config_of(folder):
    """Return an adapter's configuration, as PEFT reads it."""
    return json.loads((folder / "adapter_config.json").read_text("utf-8"))


def card_of(folder):
    """Return the model card beside an adapter."""
    return (folder / "README.md").read_text("utf-8")


def weights_of(folder):
    """Return the bytes of an adapter's weights."""
    return (folder / WEIGHTS).read_bytes()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return the forecaster and the folder of an adapter, and the lines its training has said."""
    folder = tmp_path_factory.mktemp("trained") / "mine"
    lines = []
    forecaster = tuned(folder, say=lines.append)
    return SimpleNamespace(forecaster=forecaster, folder=folder, lines=lines)


# What is written, measured and said.


def test_an_adapters_folder_holds_its_weights_its_format_and_its_card(trained):
    assert {path.name for path in trained.folder.iterdir()} == {
        "README.md",
        "adapter_config.json",
        WEIGHTS,
        "facts.json",
        "head_bias.safetensors",
        "m2lib_version.txt",
        "text_format.json",
    }
    assert read_format(trained.folder) == trained.forecaster.text_format


def test_an_adapter_is_found_from_another_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    forecasters = [tuned("mine"), load("mine")]
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for number, forecaster in enumerate(forecasters):
        assert forecaster.adapter == tmp_path / "mine"
        tuned(f"further-{number}", forecaster)


def test_no_bar_is_shown_where_none_is_wanted(tmp_path, monkeypatch, capfd):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr("m2lib.decoding.forecasts.DELAY", 0)  # else short work shows none
    forecaster = tuned(tmp_path / "mine")
    capfd.readouterr()
    greedy(forecaster)
    assert "forecast:" in capfd.readouterr().err

    tuned(tmp_path / "further", forecaster)  # with progress=False
    quiet = replace(forecaster, progress=False)
    greedy(quiet)
    tuned(tmp_path / "quiet", quiet, progress=None)
    finetune.refitter(quiet, 5, num_steps=1)([pelts()[["hares", "lynx"]].to_numpy()])
    assert capfd.readouterr().err == ""


def test_an_adapter_that_is_loaded_again_forecasts_the_same(trained):
    again = load(trained.folder)
    assert greedy(again).equals(greedy(trained.forecaster))


def test_facts_and_card_say_what_was_trained_and_measured(trained):
    facts = facts_of(trained.folder)
    assert facts["recipe"]["steps"] == 3
    assert facts["recipe"]["start"] == "the base"

    card = card_of(trained.folder)
    assert facts["data"] in card
    analogue = facts["errors"]["nearest analogue"]["MAE"]
    assert f"| nearest analogue | {analogue:.4g} |" in card


def test_targets_may_be_called_by_numbers(tmp_path):
    numbered = pelts().rename(columns={"hares": 1, "lynx": 2})
    tuned(tmp_path / "new", df=numbered, num_steps=1, target=[1, 2])
    assert facts_of(tmp_path / "new")["data"].startswith("1 series of 1, 2, ")


def test_a_training_says_its_cost_first_and_its_gain_afterwards(trained):
    cost, _, errors, gain, *_ = trained.lines
    assert cost.startswith("3 steps of ")
    assert "FLOPs by the rules" in cost
    assert cost.endswith("; forecast before and after: 1 of 1 series, 100 samples of each")

    assert re.fullmatch(
        r"MAE of the last 5 steps: \S+ before, \S+ after; "
        r"the 80% band holds \d+% before, \d+% after",
        errors,
    )
    assert gain.endswith(
        "fewer than 6 forecasts prove nothing, and `m2 evaluate --finetune` makes more"
    )


def test_what_is_said_of_the_training_is_what_was_measured(tmp_path, monkeypatch):
    measure = finetune.evaluate
    mases = iter((3.0, 2.0))  # as if the MASE had been 3 before, and 2 after, and the MAE 100 times

    def measured(*arguments, **options):
        result = measure(*arguments, **options)
        mase = next(mases)
        measures = {"errors": 0 * result.errors + 100 * mase, "mase": 0 * result.mase + mase}
        return replace(result, measures=measures)

    monkeypatch.setattr(finetune, "evaluate", measured)
    lines = []
    tuned(tmp_path / "mine", say=lines.append)
    assert lines[2].startswith("MAE of the last 5 steps: 300 before, 200 after; the 80% band hold")
    assert lines[3].startswith("gain of the training: +1.000 in MASE; ")

    errors = facts_of(tmp_path / "mine")["errors"]
    assert errors["before"]["MAE"] == 300
    assert errors["this adapter (median of 100 samples)"]["MAE"] == 200


def test_trainings_have_the_recipe_that_is_documented(trained):
    new = finetune._config(untuned())
    assert new.steps == 200
    assert new.learning_rate == 0.004
    assert new.rank == 4
    assert new.targets == ALL_TARGETS

    further = finetune._config(trained.forecaster)
    assert further.steps == 20
    assert further.learning_rate == 0.0003

    for config in (new, further):
        assert (config.warmup, config.decay, config.clip_norm) == (0.05, "cosine", 1.0)


def test_the_cost_is_that_of_the_windows_that_were_read(tmp_path, monkeypatch):
    batches = []
    batch_of = loop.batch_of

    def noted(*arguments):
        batch = batch_of(*arguments)
        batches.append(batch)
        return batch

    monkeypatch.setattr(loop, "batch_of", noted)
    forecaster = tuned(tmp_path / "mine")

    shape = Shape.of(forecaster.backbone.model.config)
    costs = []
    for batch in batches:
        costs.append(step_costs(shape, batch, rank=4, targets=ALL_TARGETS)["coursework"])
    assert len(set(costs)) > 1
    assert facts_of(tmp_path / "mine")["flops"] == sum(costs)


def test_the_cost_is_judged_well_beforehand(trained):
    # It is judged by the first window, and all windows have other lengths.
    judged = re.search(r"tokens: (\S+) FLOPs", trained.lines[0])
    assert 0.2 < facts_of(trained.folder)["flops"] / float(judged[1]) < 5


def test_the_seconds_of_a_training_are_judged_by_those_of_a_forward_pass(tmp_path, monkeypatch):
    clock = iter([10.0, 12.0] * 2)  # a forward pass takes two seconds, and a step 2.5 times as long
    monkeypatch.setattr(finetune, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    costs = []
    flops = []
    for steps in (1, 4):
        lines = []
        tuned(tmp_path / str(steps), num_steps=steps, say=lines.append)
        costs.append(lines[0])
        flops.append(facts_of(tmp_path / str(steps))["flops"])

    assert "some 5 s here" in costs[0]
    # Both trainings begin with the same window, and the others have lengths of their own.
    assert f"some {5 * flops[1] / flops[0]:.0f} s here" in costs[1]


def test_some_of_many_series_are_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "MOST_ASKED", 2)
    lines = []
    tuned(tmp_path / "mine", df=several_series(5), id_column="item_id", say=lines.append)
    assert lines[0].endswith("; forecast before and after: 2 of 5 series, 100 samples of each")

    facts = facts_of(tmp_path / "mine")
    assert "of 2 series" in facts["measured"]
    assert facts["data"].startswith("5 series of ")


def test_the_seed_draws_the_series_that_are_forecast_and_they_keep_their_order(monkeypatch):
    monkeypatch.setattr(finetune, "MOST_ASKED", 5)
    drawn = finetune._some_of(range(100), seed=0)
    assert drawn == sorted(drawn)
    assert drawn != finetune._some_of(range(100), seed=1)


def test_a_series_that_could_not_be_forecast_does_not_count_as_measured(tmp_path):
    closed = pelts().assign(item_id="closed")
    closed.loc[:54, ["hares", "lynx"]] = 7.0  # it moves in the last five steps, which are kept back
    table = pd.concat([several_series(2), closed])
    with pytest.warns(UserWarning, match="forecasts left out"):
        tuned(tmp_path / "mine", df=table, id_column="item_id")
    assert "of 2 series" in facts_of(tmp_path / "mine")["measured"]


def test_samples_are_shared_among_the_series_that_are_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "FORECASTS", 210)
    lines = []
    tuned(tmp_path / "mine", df=several_series(7), id_column="item_id", say=lines.append)
    assert lines[0].endswith("7 of 7 series, 30 samples of each")
    assert "this adapter (median of 30 samples)" in facts_of(tmp_path / "mine")["errors"]

    # With seven series the gain has an interval.
    assert re.fullmatch(
        r"gain of the training: \S+ in MASE, "
        r"95% interval [+-][\d.]+ to [+-][\d.]+, over 7 series",
        lines[3],
    )


def test_errors_are_measured_with_the_season_and_the_seed_of_the_training(tmp_path):
    made = tuned(tmp_path / "mine", num_steps=1, season=4, seed=5)
    errors = facts_of(tmp_path / "mine")["errors"]
    # The new spread was measured on these forecasts, so they were read without it.
    after = replace(made, text_format=replace(made.text_format, spread=1.0))

    asked = {"season": 4, "seed": 5, "num_samples": 100, "auto_ets": False} | COLUMNS
    for forecaster, name in (
        (untuned(), "before"),
        (after, "this adapter (median of 100 samples)"),
    ):
        evaluation = forecaster.evaluate(pelts(), 5, **asked)
        assert errors[name]["MAE"] == pytest.approx(evaluation.mae)
        assert errors[name]["CRPS"] == pytest.approx(evaluation.crps)


def test_others_forecast_only_once(tmp_path, monkeypatch):
    """What they forecast does not change by the training, and AutoETS takes long."""
    calls = []

    def ets_forecasts(*arguments):
        calls.append("ETS")
        return {"ETS": [np.zeros((5, 2))]}

    monkeypatch.setattr(rolling, "ets_forecasts", ets_forecasts)
    monkeypatch.setattr(rolling, "find_spec", lambda name: True)
    tuned(tmp_path / "mine")
    assert calls == ["ETS"]
    mean_of_the_truths = pelts()[["hares", "lynx"]].to_numpy()[-5:].mean()
    assert facts_of(tmp_path / "mine")["errors"]["ETS"]["MAE"] == pytest.approx(mean_of_the_truths)


# The spread: how far samples are moved away from their median so that 80% bands hold 80%.


def evaluated(truth, low, high, series=1):
    """Return an evaluation of five forecasts of 50, by the truths and the ends of the 80% bands."""
    forecasts = pd.DataFrame({"truth": truth, "0.1": low, "0.5": 50, "0.9": high}, dtype=float)
    errors = pd.DataFrame({MODEL: [0.0] * series})
    return Evaluation(
        measures={"errors": errors, "mase": errors},
        season=1,
        period=None,
        crps=0.0,
        coverage=0.0,
        forecasts=forecasts,
    )


# The truths are 0, 1, 2, 3 and 4 half-widths away from the median.
NARROW = evaluated([50, 51, 48, 53, 46], 49, 51)


def test_the_spread_is_the_one_with_which_four_of_five_truths_lie_in_the_band():
    # The fourth lies 3 half-widths away, of bands that were read with a spread of 1.2.
    assert finetune._spread(NARROW, 1.2) == (3.6, 0.8)


def test_the_half_of_the_band_on_which_the_truth_lies_counts():
    above = evaluated([50, 51, 54, 56, 58], 49.9, 52)
    assert finetune._spread(above, 1.0) == (3.0, 0.8)


def test_the_spread_is_rounded_up_so_that_the_truth_that_decides_is_held():
    barely = evaluated([50, 51, 48, 53.004, 46], 49, 51)
    assert finetune._spread(barely, 1.0) == (3.01, 0.8)


def test_there_is_an_end_to_the_spread():
    assert finetune._spread(NARROW, 2.0) == (4.0, 0.6)


def test_a_band_without_width_cannot_be_mended():
    collapsed = evaluated([50, 51, 52, 53, 54], 50, 50)
    assert finetune._spread(collapsed, 1.64) == (4.0, 0.2)


@pytest.mark.parametrize("spread", [1.64, 8.0])
def test_bands_of_one_series_never_become_narrower(spread):
    wide = evaluated([50, 51, 50, 49, 50], 40, 60)
    assert finetune._spread(wide, spread) == (spread, 1.0)


def test_bands_of_six_series_may_become_narrower():
    wide = evaluated([50, 51, 50, 49, 50], 40, 60, series=6)
    assert finetune._spread(wide, 8.0) == (1.0, 1.0)


def test_the_spread_is_measured_after_the_training_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "_spread", lambda after, spread: (2.5, 0.75))
    folder = tmp_path / "mine"
    lines = []
    made = tuned(folder, say=lines.append)
    assert lines[4] == "spread measured on these steps: 2.5, with which the band holds 75%"
    assert made.text_format.spread == 2.5
    assert read_format(folder).spread == 2.5

    errors = facts_of(folder)["errors"]
    with_spread = errors["this adapter, with the spread 2.5 measured on these steps"]
    assert with_spread == {"80% band holds": 0.75}
    assert 0 <= errors["before"]["80% band holds"] <= 1
    assert "m2lib reads them 2.50 times as far from their median" in card_of(folder)

    options = {"prediction_length": 3, "num_samples": 4} | COLUMNS
    again = load(folder).predict_df(pelts(), **options)
    assert again.equals(made.predict_df(pelts(), **options))


def test_the_spread_is_measured_on_that_with_which_the_forecasts_were_read(tmp_path, monkeypatch):
    spreads = []

    def noted(after, spread):
        spreads.append(spread)
        return spread, 0.8

    monkeypatch.setattr(finetune, "_spread", noted)
    tuned(tmp_path / "mine", replace(untuned(), text_format=TextFormat(2, spread=1.7)), num_steps=1)
    assert spreads == [1.7]


@pytest.mark.parametrize(
    ("held", "warns"),
    [
        pytest.param(0.05, True, id="hardly anything"),
        pytest.param(0.59, True, id="a little less than 60%"),
        pytest.param(0.6, False, id="60%"),
    ],
)
def test_bands_that_have_become_much_too_narrow_are_warned_of(tmp_path, monkeypatch, held, warns):
    measure = finetune.evaluate

    def measured(*arguments, **options):
        return replace(measure(*arguments, **options), coverage=held)

    monkeypatch.setattr(finetune, "evaluate", measured)
    monkeypatch.setattr(finetune, "_spread", lambda after, spread: (10.0, 0.3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuned(tmp_path / "mine")

    lines = [str(warning.message) for warning in caught if "too sure" in str(warning.message)]
    line = (
        f"the adapter is too sure of itself: its 80% bands hold {held:.0%} of what was kept back, "
        "and 30% with the new spread; train fewer steps"
    )
    assert lines == ([line] if warns else [])


# What is trained.


@pytest.mark.filterwarnings("ignore:the adapter is too sure")  # of a future that is far away
@pytest.mark.parametrize("season", [None, 4])
def test_the_last_steps_are_kept_back(tmp_path, season):
    changed = pelts()
    changed.loc[55:, "hares"] = [7e3, 6e3, 5e3, 6e3, 7e3]
    changed.loc[55:, "lynx"] = [5.0, 4.0, 3.0, 2.0, 1.0]
    tuned(tmp_path / "one", num_steps=2, season=season)
    tuned(tmp_path / "other", df=changed, num_steps=2, season=season)
    assert weights_of(tmp_path / "one") == weights_of(tmp_path / "other")


def test_what_is_learned_from_is_without_its_season(tmp_path):
    values = pelts()[["hares", "lynx"]].to_numpy()
    season = Season.of(values[:-5], 4)  # that of the steps which are not kept back
    assert season.kinds == ("multiplied", "multiplied")
    without = pelts()
    without[["hares", "lynx"]] = season.without(values)

    tuned(tmp_path / "seasonal", num_steps=2, season=4)
    tuned(tmp_path / "without", df=without, num_steps=2, season=1)
    assert weights_of(tmp_path / "without") == weights_of(tmp_path / "seasonal")


def test_a_batch_has_as_many_windows_as_are_asked_for(tmp_path):
    tokens = []
    for batch_size in (1, 4):
        lines = []
        tuned(tmp_path / str(batch_size), say=lines.append, batch_size=batch_size, num_steps=1)
        cost = re.match(r"1 steps of (\d+) tokens", lines[0])
        tokens.append(int(cost[1]))
    # The first of the four is that of one alone, and shorter ones are padded.
    assert tokens[1] >= 4 * tokens[0]


def test_the_seed_draws_the_windows(trained, tmp_path):
    """Nothing else is drawn where a training goes on from an adapter."""
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        folder = tmp_path / str(number)
        tuned(folder, forecaster=trained.forecaster, num_steps=1, seed=seed)
        weights.append(weights_of(folder))
    assert weights[0] == weights[1] != weights[2]


@pytest.fixture
def steps_taken(note_calls):
    """Return a list to which the number of each training step is added."""
    return note_calls(loop, "batch_of", lambda call: call.step)


def stop_after_a_step(monkeypatch, folder, **options):
    """Begin a training that is stopped at its first checkpoint, which is that of its first step."""
    save = loop.save_checkpoint

    def save_and_stop(*state):
        save(*state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            tuned(folder, **options)


def test_a_stopped_training_goes_on_to_the_same_adapter(tmp_path, monkeypatch, steps_taken):
    tuned(tmp_path / "whole", num_steps=4)
    stop_after_a_step(monkeypatch, tmp_path / "broken", num_steps=4)

    # Another table's training begins at its own start.
    steps_taken.clear()
    tuned(tmp_path / "broken", df=pelts(70), num_steps=2)
    assert steps_taken == [0, 1]

    steps_taken.clear()
    tuned(tmp_path / "broken", num_steps=4, force=True)
    assert steps_taken == [1, 2, 3]
    assert weights_of(tmp_path / "broken") == weights_of(tmp_path / "whole")


def test_a_training_does_not_go_on_from_the_checkpoint_of_another_start(
    tmp_path, monkeypatch, steps_taken
):
    first = tuned(tmp_path / "first")
    stop_after_a_step(monkeypatch, tmp_path / "second", forecaster=first, num_steps=2)

    # The adapter that a training starts from is another one by now, in the same folder.
    other = tuned(tmp_path / "first", num_steps=1, force=True)
    steps_taken.clear()
    tuned(tmp_path / "second", forecaster=other, num_steps=2)
    assert steps_taken == [0, 1]


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        pytest.param("bfloat16", {}, id="another dtype"),
        pytest.param("float32", {"learning_rate": 1e-3}, id="other settings"),
    ],
)
def test_a_training_does_not_go_on_from_the_checkpoint_of_one_that_differs(
    tmp_path, monkeypatch, steps_taken, dtype, settings
):
    stop_after_a_step(monkeypatch, tmp_path / "mine", num_steps=2)
    forecaster = Forecaster(load_backbone("tiny", device="cpu", dtype=dtype))
    steps_taken.clear()
    tuned(tmp_path / "mine", forecaster, num_steps=2, **settings)
    assert steps_taken == [0, 1]


def test_a_folder_is_an_adapter_only_when_all_of_it_is_there(tmp_path, monkeypatch):
    tuned(tmp_path / "mine")

    def full(path, content):
        raise InputError("the disk is full")

    monkeypatch.setattr(finetune, "write_atomic", full)
    with pytest.raises(InputError, match="the disk is full"):
        tuned(tmp_path / "mine", force=True)
    with pytest.raises(InputError, match="is no folder with an adapter_config"):
        adapter_folder(tmp_path / "mine")


def test_a_folder_in_which_an_adapter_was_written_in_part_takes_one(tmp_path):
    for name in ("facts.json", "README.md"):  # which are written before the adapter's config
        (tmp_path / name).write_text("{}", encoding="utf-8")
    finetune._check_output_dir(tmp_path, force=False)  # it raises nothing


def test_what_is_tuned_for_an_evaluation_depends_on_the_seed(tmp_path):
    contexts = [pelts()[["hares", "lynx"]].to_numpy()]
    hashes = []
    for number, seed in enumerate((1, 1, 2)):
        made = finetune.refitter(untuned(), 5, num_steps=1, sampling=Sampling(seed=seed))(contexts)
        save_adapter(made.backbone.model, tmp_path / str(number), "tiny")
        hashes.append(adapter_hash(tmp_path / str(number)))
    assert hashes[0] == hashes[1] != hashes[2]


# What a training starts from.


def test_a_training_goes_on_from_an_adapter_in_its_format(trained, tmp_path):
    # At this learning rate nothing changes.
    second = tuned(
        tmp_path / "second", forecaster=trained.forecaster, num_steps=1, learning_rate=1e-12
    )
    assert greedy(second).equals(greedy(trained.forecaster))

    # The spread alone is measured anew.
    first_format = trained.forecaster.text_format
    assert replace(second.text_format, spread=1.0) == replace(first_format, spread=1.0)
    assert config_of(tmp_path / "second") == config_of(trained.folder)


def test_what_a_training_starts_from_is_left_as_it_is(trained, tmp_path):
    before = greedy(trained.forecaster)
    tuned(tmp_path / "second", forecaster=trained.forecaster, num_steps=1)
    assert greedy(trained.forecaster).equals(before)


def test_an_adapter_to_go_on_from_keeps_its_rank(trained, tmp_path):
    with pytest.raises(InputError, match="leave out rank 8"):
        tuned(tmp_path / "second", forecaster=trained.forecaster, rank=8)


def test_an_adapter_of_a_model_of_ones_own_finds_it_again(trained, tmp_path, monkeypatch):
    models = tmp_path / "models"
    trained.forecaster.export(models / "whole")
    monkeypatch.chdir(models)
    own = load(None, backbone="./whole")
    folder = tmp_path / "mine"
    tuned(folder, own)
    assert load(folder).backbone.weight_hash == own.backbone.weight_hash
    assert Path(config_of(folder)["base_model_name_or_path"]) == models / "whole"

    # What is asked for by name goes before what the adapter says.
    assert load(folder, backbone="tiny").backbone.name == "tiny"


def test_a_tuned_adapter_reads_a_series_as_it_has_learned_it(tmp_path):
    """It has learned from series that were shown in one way, whatever it started from."""
    folder = tmp_path / "mine"
    folder.mkdir()
    # An adapter that was in this folder before had views.
    (folder / VIEWS_FILE).write_text('[{"steps": 20}]', encoding="utf-8")
    made = tuned(folder, replace(untuned(), views=(View(20), View())))
    assert made.views == PLAIN
    assert load(folder).views == PLAIN


# What stands in the way is said before anything is done.


@pytest.fixture
def no_work(monkeypatch):
    """Let every forecast and every training fail."""
    monkeypatch.setattr(Sampler, "sample", None)
    monkeypatch.setattr(finetune, "train", None)


@pytest.mark.usefixtures("no_work")
def test_a_folder_that_holds_an_adapter_is_refused(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "adapter_config.json").write_text("{}", encoding="utf-8")
    message = "taken holds an adapter already; name another folder, or give --force"
    with pytest.raises(InputError, match=message):
        tuned(tmp_path / "taken")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize("name", ["README.md", "config.json"])
def test_a_folder_of_something_else_is_refused_even_with_force(tmp_path, name):
    (tmp_path / name).write_text("mine", encoding="utf-8")
    with pytest.raises(InputError, match=f"holds a {name} that is no adapter's; name another"):
        tuned(tmp_path, force=True)
    assert (tmp_path / name).read_text(encoding="utf-8") == "mine"


@pytest.mark.usefixtures("no_work")
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot write into .*file"):
        tuned(tmp_path / "file")


@pytest.mark.usefixtures("no_work")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prediction_length": 30}, "the series has 60 steps, fewer than 70"),
        ({"prediction_length": 0}, "prediction_length is 0; give a whole number"),
        ({"rank": 0}, "rank is 0; give a whole number of 1 or more"),
        ({"num_steps": 0}, "num_steps is 0; give a whole number of 1 or more"),
        ({"batch_size": 0}, "batch_size is 0; give a whole number of 1 or more"),
        ({"seed": -1}, "seed is -1; give a whole number of 0 or more"),
        ({"learning_rate": -1}, "learning_rate is -1; give a number above 0"),
        ({"learning_rate": float("inf")}, "learning_rate is inf; give a number above 0"),
    ],
)
def test_an_argument_out_of_range_is_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        tuned(tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


@pytest.mark.usefixtures("no_work")
def test_a_table_that_does_not_fit_the_adapters_format_is_refused(tmp_path):
    of_one_variable = replace(untuned(), text_format=TextFormat(1))
    with pytest.raises(InputError, match="does not fit the adapter's text format"):
        tuned(tmp_path / "new", of_one_variable)
    assert not (tmp_path / "new").exists()
