import json
import re
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m2lib.files import InputError
from m2lib.forecaster import Forecaster, adapter_folder, evaluation, finetune
from m2lib.forecaster.adapters import VIEWS_FILE, read_format
from m2lib.forecaster.evaluation import MODEL, Evaluation
from m2lib.forecaster.sampling import Sampler
from m2lib.forecaster.views import PLAIN, View
from m2lib.model import load_backbone
from m2lib.series import TextFormat
from m2lib.training import loop

ADAPTER = "adapter_model.safetensors"
COLUMNS = {"id_column": None, "timestamp_column": "year", "target": ("hares", "lynx")}
GREEDY = {"prediction_length": 3, "num_samples": 1} | COLUMNS


def table(steps=60):
    wave = 50 + 30 * np.sin(np.arange(steps) / 3)
    return pd.DataFrame({"year": 1900 + np.arange(steps), "hares": wave, "lynx": np.roll(wave, 3)})


def fresh():
    return Forecaster(load_backbone("tiny", device="cpu", dtype="float32"))


def tuned(folder, forecaster=None, said=None, df=None, **options):
    settings = (
        {"prediction_length": 5, "num_steps": 3, "output_dir": folder, "progress": False}
        | COLUMNS
        | options
    )
    say = (said if said is not None else []).append
    return (forecaster or fresh()).fit(table() if df is None else df, say=say, **settings)


def test_an_adapter_its_format_and_its_card(tmp_path):
    said = []
    folder = tmp_path / "mine"
    made = tuned(folder, said=said)
    files = {
        "README.md",
        "adapter_config.json",
        ADAPTER,
        "facts.json",
        "head_bias.safetensors",
        "text_format.json",
    }
    assert {path.name for path in folder.iterdir()} == files
    assert read_format(folder) == made.text_format
    assert said[0].startswith("3 steps of ")
    assert "FLOPs by the rules" in said[0]
    assert said[0].endswith("; forecast before and after: 1 of 1 series, 100 samples of each")
    assert re.fullmatch(
        r"MAE of the last 5 steps: \S+ before, \S+ after; "
        r"the 80% band holds \d+% before, \d+% after",
        said[2],
    )
    assert said[3].endswith(
        "fewer than 6 forecasts prove nothing, and `m2 evaluate --finetune` makes more"
    )
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    assert (facts["recipe"]["steps"], facts["recipe"]["start"]) == (3, "the base")
    card = (folder / "README.md").read_text("utf-8")
    assert facts["data"] in card
    assert f"| nearest analogue | {facts['errors']['nearest analogue']['MAE']:.4g} |" in card
    again = Forecaster.from_pretrained(folder, device="cpu", dtype="float32")
    assert again.predict_df(table(), **GREEDY).equals(made.predict_df(table(), **GREEDY))


def test_of_many_series_some_are_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "MOST_ASKED", 2)
    many = pd.concat([table().assign(item_id=f"{name}") for name in range(5)])
    said = []
    folder = tmp_path / "mine"
    tuned(folder, said=said, df=many, id_column="item_id")
    assert said[0].endswith("; forecast before and after: 2 of 5 series, 100 samples of each")
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    assert "of 2 series" in facts["measured"]
    assert facts["data"].startswith("5 series of ")


def test_samples_are_shared_among_the_series_that_are_forecast(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "FORECASTS", 210)
    many = pd.concat([table().assign(item_id=f"{name}") for name in range(7)])
    said, folder = [], tmp_path / "mine"
    tuned(folder, said=said, df=many, id_column="item_id")
    assert said[0].endswith("7 of 7 series, 30 samples of each")
    assert re.fullmatch(
        r"gain of the training: \S+ in MASE, "
        r"95% interval [+-][\d.]+ to [+-][\d.]+, over 7 series",
        said[3],
    )
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    assert "this adapter (median of 30 samples)" in facts["errors"]


def evaluated(truth, low, median, high, series=1):
    """An evaluation of one forecast of each of some series, with bands of these ends."""
    forecasts = pd.DataFrame({"truth": truth, "0.1": low, "0.5": median, "0.9": high}, dtype=float)
    errors = pd.DataFrame({MODEL: [0.0] * series})
    return Evaluation(errors, errors, 1, None, 0.0, 0.0, forecasts)


def test_a_spread_by_hand():
    # Truths 0, 1, 2, 3 and 4 half-widths from the median: four of five lie within 3.
    narrow = evaluated([50, 51, 48, 53, 46], [49] * 5, [50] * 5, [51] * 5)
    assert finetune._spread(narrow, 1.2) == (3.6, 0.8)
    # Where the truth lies above, the upper half counts.
    lopsided = evaluated([50, 51, 54, 56, 58], [49.9] * 5, [50] * 5, [52] * 5)
    assert finetune._spread(lopsided, 1.0) == (3.0, 0.8)
    # There is an end to it, and a band without width cannot be mended at all.
    assert finetune._spread(narrow, 2.0) == (4.0, 0.6)
    collapsed = evaluated([50, 51, 52, 53, 54], [50] * 5, [50] * 5, [50] * 5)
    assert finetune._spread(collapsed, 1.64) == (4.0, 0.2)
    # Of one series bands are never narrower than before; of six or more they may be.
    wide = evaluated([50, 51, 50, 49, 50], [40] * 5, [50] * 5, [60] * 5)
    assert finetune._spread(wide, 1.64) == (1.64, 1.0)
    assert finetune._spread(wide, 8.0) == (8.0, 1.0)
    assert finetune._spread(replace(wide, errors=pd.DataFrame({MODEL: [0.0] * 6})), 8.0) == (1.0, 1)


def test_others_forecast_only_once(tmp_path, monkeypatch):
    """What they forecast does not change by the training, and AutoETS takes long."""
    asked = []
    monkeypatch.setattr(evaluation, "_ets_forecasts", lambda *_: asked.append("ETS") or {})
    monkeypatch.setattr(evaluation, "find_spec", lambda name: True)
    tuned(tmp_path / "mine")
    assert asked == ["ETS"]


def test_the_spread_is_measured_after_the_training_and_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "_spread", lambda after, spread: (2.5, 0.75))
    said, folder = [], tmp_path / "mine"
    made = tuned(folder, said=said)
    assert said[4] == "spread measured on these steps: 2.5, with which the band holds 75%"
    assert read_format(folder).spread == made.text_format.spread == 2.5
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    measured = facts["errors"]["this adapter, with the spread 2.5 measured on these steps"]
    assert measured == {"80% band holds": 0.75}
    assert 0 <= facts["errors"]["before"]["80% band holds"] <= 1
    card = (folder / "README.md").read_text("utf-8")
    assert "m2lib reads them 2.50 times as far from their median" in card
    again = Forecaster.from_pretrained(folder, device="cpu", dtype="float32")
    options = {"prediction_length": 3, "num_samples": 4} | COLUMNS
    assert again.predict_df(table(), **options).equals(made.predict_df(table(), **options))


@pytest.mark.parametrize(("held", "warns"), [(0.05, True), (0.59, True), (0.6, False)])
def test_bands_that_have_become_much_too_narrow_are_warned_of(tmp_path, monkeypatch, held, warns):
    real = finetune.evaluate
    monkeypatch.setattr(finetune, "evaluate", lambda *a, **k: replace(real(*a, **k), coverage=held))
    monkeypatch.setattr(finetune, "_spread", lambda after, spread: (10.0, 0.3))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tuned(tmp_path / "mine")
    lines = [str(warning.message) for warning in caught if "too sure" in str(warning.message)]
    line = (
        f"the adapter is too sure of itself: its 80% bands hold {held:.0%} of what was kept back, "
        "and 30% with the new spread; train fewer steps"
    )
    assert lines == [line] * warns


def test_a_stopped_training_goes_on_to_the_same_adapter(tmp_path, monkeypatch):
    tuned(tmp_path / "whole", num_steps=4)
    real = loop.save_checkpoint
    batch_of = loop.batch_of
    steps = []

    def stops(*state):
        real(*state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stops)  # the first, after the first step
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "broken", num_steps=4)
    monkeypatch.setattr(
        loop, "batch_of", lambda step, *rest: steps.append(step) or batch_of(step, *rest)
    )
    tuned(tmp_path / "broken", df=table(70), num_steps=2)
    assert steps == [0, 1]  # another table's training begins at its own start
    tuned(tmp_path / "broken", num_steps=4, force=True)
    assert steps[2:] == [1, 2, 3]
    assert (tmp_path / "broken" / ADAPTER).read_bytes() == (
        tmp_path / "whole" / ADAPTER
    ).read_bytes()


def test_a_training_does_not_go_on_from_the_checkpoint_of_another_start(tmp_path, monkeypatch):
    """The adapter that a training starts from is another one by now, in the same folder."""
    first = tuned(tmp_path / "first")
    real = loop.save_checkpoint
    batch_of = loop.batch_of
    steps = []

    def stops(*state):
        real(*state)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stops)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "second", forecaster=first, num_steps=2)
    other = tuned(tmp_path / "first", num_steps=1, force=True)
    monkeypatch.setattr(
        loop, "batch_of", lambda step, *rest: steps.append(step) or batch_of(step, *rest)
    )
    tuned(tmp_path / "second", forecaster=other, num_steps=2)
    assert steps == [0, 1]


def test_a_folder_is_an_adapter_only_when_all_of_it_is_there(tmp_path, monkeypatch):
    tuned(tmp_path / "mine")

    def full(path, content):
        raise InputError("the disk is full")

    monkeypatch.setattr(finetune, "write_atomic", full)
    with pytest.raises(InputError, match="the disk is full"):
        tuned(tmp_path / "mine", force=True)
    with pytest.raises(InputError, match="is no folder with an adapter_config"):
        adapter_folder(tmp_path / "mine")


def test_going_on_from_an_adapter(tmp_path):
    first = tuned(tmp_path / "first")
    before = first.predict_df(table(), **GREEDY)
    second = tuned(tmp_path / "second", forecaster=first, num_steps=1, learning_rate=1e-12)
    assert replace(second.text_format, spread=1.0) == replace(first.text_format, spread=1.0)
    configs = [
        json.loads((tmp_path / name / "adapter_config.json").read_text("utf-8"))
        for name in ("first", "second")
    ]
    assert configs[0] == configs[1]
    assert second.predict_df(table(), **GREEDY).equals(before)
    tuned(tmp_path / "third", forecaster=first, num_steps=1)
    # what a training starts from is left as it is
    assert first.predict_df(table(), **GREEDY).equals(before)
    with pytest.raises(InputError, match="leave out rank 8"):
        tuned(tmp_path / "fourth", forecaster=first, rank=8)


def test_an_adapter_of_a_model_of_ones_own_finds_it_again(tmp_path, monkeypatch):
    tuned(tmp_path / "first").export(tmp_path / "models" / "whole")
    monkeypatch.chdir(tmp_path / "models")
    own = Forecaster.from_pretrained(backbone="./whole", device="cpu", dtype="float32")
    tuned(tmp_path / "mine", own)
    again = Forecaster.from_pretrained(tmp_path / "mine", device="cpu", dtype="float32")
    assert again.backbone.weight_hash == own.backbone.weight_hash
    # What is asked for by name goes before what the adapter says.
    settings = {"backbone": "tiny", "device": "cpu", "dtype": "float32"}
    assert Forecaster.from_pretrained(tmp_path / "mine", **settings).backbone.name == "tiny"
    config = json.loads((tmp_path / "mine" / "adapter_config.json").read_text("utf-8"))
    assert Path(config["base_model_name_or_path"]) == tmp_path / "models" / "whole"


@pytest.mark.parametrize("season", [None, 4])
def test_the_last_steps_are_kept_back(tmp_path, season):
    changed = table()
    changed.loc[55:, ["hares", "lynx"]] = [
        [7e3, 5.0],
        [6e3, 4.0],
        [5e3, 3.0],
        [6e3, 2.0],
        [7e3, 1.0],
    ]
    for name, frame in (("one", table()), ("other", changed)):
        tuned(tmp_path / name, df=frame, num_steps=2, season=season)
    assert (tmp_path / "one" / ADAPTER).read_bytes() == (tmp_path / "other" / ADAPTER).read_bytes()


def test_what_stands_in_the_way_is_said_before_anything_is_done(tmp_path, monkeypatch):
    monkeypatch.setattr(Sampler, "sample", None)
    monkeypatch.setattr(finetune, "train", None)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "adapter_config.json").write_text("{}", encoding="utf-8")
    (tmp_path / "file").write_text("", encoding="utf-8")
    for name, line, options in (
        ("taken", "taken holds an adapter already; name another folder, or give --force", {}),
        ("file", "cannot write into .*file", {}),
        ("new", "60", {"prediction_length": 30}),
        ("new", "prediction_length is 0; give 1 or more", {"prediction_length": 0}),
        ("new", "rank is 0; give one of at least 1", {"rank": 0}),
        ("new", "num_steps is 0; give at least 1", {"num_steps": 0}),
        ("new", "batch_size is 0; give at least 1", {"batch_size": 0}),
        ("new", "learning_rate is -1; give one above 0", {"learning_rate": -1}),
        (
            "new",
            "does not fit the adapter's text format",
            {"forecaster": replace(fresh(), text_format=TextFormat(1))},
        ),
    ):
        with pytest.raises(InputError, match=line):
            tuned(tmp_path / name, **options)
    assert not (tmp_path / "new").exists()


def test_a_tuned_adapter_reads_a_series_as_it_has_learned_it(tmp_path):
    """It has learned from series that were shown in one way, whatever it started from."""
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / VIEWS_FILE).write_text('[{"steps": 20}]', encoding="utf-8")  # of an adapter before
    made = tuned(folder, replace(fresh(), views=(View(20), View())))
    assert made.views == PLAIN
    assert Forecaster.from_pretrained(folder, device="cpu", dtype="float32").views == PLAIN


def test_what_is_said_of_the_training_is_what_was_measured(tmp_path, monkeypatch):
    """As if the error had been 3 before, and 2 after."""
    real = finetune.evaluate
    sizes = iter((3.0, 2.0))

    def evaluate(*asked, **options):
        found = real(*asked, **options)
        size = next(sizes)
        return replace(found, errors=0 * found.errors + size, mase=0 * found.mase + size)

    monkeypatch.setattr(finetune, "evaluate", evaluate)
    said, folder = [], tmp_path / "mine"
    tuned(folder, said=said)
    assert said[2].startswith("MAE of the last 5 steps: 3 before, 2 after; the 80% band holds ")
    assert said[3].startswith("gain of the training: +1.000 in MASE; ")
    facts = json.loads((folder / "facts.json").read_text("utf-8"))
    errors = {name: row.get("MAE") for name, row in facts["errors"].items()}
    assert (errors["before"], errors["this adapter (median of 100 samples)"]) == (3, 2)
    # All windows are of other lengths than the first, by which the cost is judged beforehand.
    judged = float(re.search(r"tokens: (\S+) FLOPs", said[0])[1])
    assert 0.2 < facts["flops"] / judged < 5


def test_a_batch_has_as_many_windows_as_are_asked_for(tmp_path):
    tokens = []
    for batch_size in (1, 4):
        said = []
        tuned(tmp_path / str(batch_size), said=said, batch_size=batch_size, num_steps=1)
        tokens.append(int(re.match(r"1 steps of (\d+) tokens", said[0])[1]))
    assert tokens[1] >= 4 * tokens[0]  # the first of the four is the same
