import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from m2lib.files import InputError
from m2lib.forecaster import Forecaster, adapter_folder, finetune
from m2lib.forecaster.windows import cutter
from m2lib.model import ids_to_text, load_backbone
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
    settings = {"prediction_length": 5, "num_steps": 3, "output_dir": folder} | COLUMNS | options
    say = (said if said is not None else []).append
    return finetune(forecaster or fresh(), table() if df is None else df, say=say, **settings)


def test_windows_are_written_as_forecasts_are():
    values, shape = (
        [np.arange(1.0, 61.0)[:, None], np.arange(100.0, 60.0, -1.0)[:, None]],
        TextFormat(1, percentile=100),
    )
    windows = cutter(values, shape, 5, 204, batch_size=3)
    seen = set()
    for step in range(300):
        for row in windows(step):
            numbers = np.array([int(number) for number in ids_to_text(row).split("<pad>")[0].split(";")[:-1]])
            assert numbers[:-5].max() == 1000  # the scale is the context's
            seen.add((bool(numbers[-1] > numbers[0]), len(numbers)))
    assert {length for rising, length in seen if rising} == set(range(15, 61))  # from the first end to the last
    assert {length for rising, length in seen if not rising} == set(range(15, 41))
    assert np.array_equal(windows(7), cutter(values, shape, 5, 204, batch_size=3)(7))
    assert not np.array_equal(windows(7)[:, :40], windows(8)[:, :40])


def test_a_long_horizon_leaves_the_context_whole():
    series = np.tile(np.arange(1.0, 101.0), 10)[:, None]
    windows = cutter([series], TextFormat(1, percentile=100), 250, 100)
    longest = max(ids_to_text(windows(step)[0]).count(";") for step in range(20))
    assert longest == 350


def test_what_trains_is_said_before_it_starts(tmp_path):
    for wrong in ({"rank": 0}, {"seed": -1}):
        with pytest.raises(InputError, match="give a rank of at least 1, and a seed of at least 0"):
            tuned(tmp_path / "mine", **wrong)
    assert not (tmp_path / "mine").exists()


def test_less_memory_where_the_setting_asks_for_it(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setenv("M2_RECOMPUTE", "1")
    monkeypatch.setattr("m2lib.training.loop._recomputing", lambda _, wanted: asked.append(wanted) or nullcontext())
    tuned(tmp_path / "mine")
    assert asked == [True] * 3


def test_an_adapter_of_a_model_of_ones_own_finds_it_again(tmp_path, monkeypatch):
    tuned(tmp_path / "first").export(tmp_path / "models" / "whole")
    monkeypatch.chdir(tmp_path / "models")
    own = Forecaster.from_pretrained(backbone="./whole", device="cpu", dtype="float32")
    tuned(tmp_path / "mine", own)
    again = Forecaster.from_pretrained(tmp_path / "mine", device="cpu", dtype="float32")
    assert again.backbone.weight_hash == own.backbone.weight_hash
    path = tmp_path / "mine" / "adapter_config.json"
    config = json.loads(path.read_text("utf-8"))
    assert Path(config["base_model_name_or_path"]) == tmp_path / "models" / "whole"
    path.write_text(json.dumps(config | {"base_model_name_or_path": str(tmp_path / "gone")}), encoding="utf-8")
    with pytest.raises(InputError, match=r"mine names it: give the model with backbone= \(--backbone\)$"):
        Forecaster.from_pretrained(tmp_path / "mine")


@pytest.mark.parametrize(("field", "value"), [("digits", 4.0), ("digits", 2.5), ("separate", "no")])
def test_a_text_format_of_other_types_is_refused(tmp_path, field, value):
    tuned(tmp_path / "mine")
    path = tmp_path / "mine" / "text_format.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {field: value}), encoding="utf-8")
    with pytest.raises(InputError, match=f"text_format.json: not a text format .{field} is .*; take the file from"):
        Forecaster.from_pretrained(tmp_path / "mine")


def test_values_beyond_the_text_are_written_as_the_nearest_number():
    series = np.concatenate([np.linspace(1, 2, 20), [1e4] * 5])[:, None]
    windows = cutter([series], TextFormat(1, percentile=100), 5, 204)
    assert any("9999;" in ids_to_text(windows(step)[0]) for step in range(60))
    rounding = np.concatenate([np.arange(15) * 1e-18, np.linspace(1, 2, 30)])[:, None]
    windows = cutter([rounding], TextFormat(1, percentile=100), 5, 10)  # some contexts hold nothing else
    assert all(ids_to_text(windows(step)[0]).count(";") == 15 for step in range(60))
    flat = np.concatenate([np.zeros(30), np.ones(5)])[:, None]
    with pytest.raises(InputError, match="are all flat"):
        cutter([flat], TextFormat(1), 5, 204)(0)


def test_an_adapter_its_format_and_its_card(tmp_path):
    said, folder = [], tmp_path / "mine"
    made = tuned(folder, said=said)
    files = {path.name for path in folder.iterdir()}
    assert files == {"README.md", "adapter_config.json", ADAPTER, "head_bias.safetensors", "text_format.json"}
    assert TextFormat(**json.loads((folder / "text_format.json").read_text("utf-8"))) == made.text_format
    assert said[0].startswith("3 steps of ")
    assert "FLOPs by the rules" in said[0]
    assert said[2].startswith("MAE of the last 5 steps: ")
    card = (folder / "README.md").read_text("utf-8")
    assert "hares, lynx" in card
    assert "nearest analogue" in card
    again = Forecaster.from_pretrained(folder, device="cpu", dtype="float32")
    assert again.predict_df(table(), **GREEDY).equals(made.predict_df(table(), **GREEDY))


def test_a_stopped_training_goes_on_to_the_same_adapter(tmp_path, monkeypatch):
    tuned(tmp_path / "whole", num_steps=4)
    real, batch_of, steps = loop.save_checkpoint, loop.batch_of, []

    def stops(folder, log, *rest):
        real(folder, log, *rest)
        if log["step"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", stops)
        with pytest.raises(KeyboardInterrupt):
            tuned(tmp_path / "broken", num_steps=4)
    monkeypatch.setattr(loop, "batch_of", lambda step, *rest: steps.append(step) or batch_of(step, *rest))
    tuned(tmp_path / "broken", num_steps=4)
    assert steps == [1, 2, 3]
    assert (tmp_path / "broken" / ADAPTER).read_bytes() == (tmp_path / "whole" / ADAPTER).read_bytes()


def test_checkpoints_are_of_one_model(tmp_path, monkeypatch):
    real, stopped = loop.save_checkpoint, []

    def stops(*arguments):
        real(*arguments)
        if not stopped:
            stopped.append(1)
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "save_checkpoint", stops)
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path / "mine")
    other = fresh()
    other.backbone.model.lm_head.bias.data += 1.0
    other = Forecaster(replace(other.backbone, weight_hash="another"))
    said = []
    tuned(tmp_path / "mine", forecaster=other, said=said)
    assert said[1].startswith("3 steps")
    assert len(list((tmp_path / "mine").glob("checkpoints-*"))) == 1  # of the first model, which may yet go on


def test_a_folder_is_an_adapter_only_when_all_of_it_is_there(tmp_path, monkeypatch):
    tuned(tmp_path / "mine")

    def full(path, content):
        raise InputError("the disk is full")

    monkeypatch.setattr(sys.modules[finetune.__module__], "write_atomic", full)
    with pytest.raises(InputError, match="the disk is full"):
        tuned(tmp_path / "mine", force=True)
    with pytest.raises(InputError, match="is no folder with an adapter_config"):
        adapter_folder(tmp_path / "mine")


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    tuned("~/mine")
    assert adapter_folder("~/mine") == tmp_path / "mine"


def test_going_on_from_an_adapter(tmp_path):
    first = tuned(tmp_path / "first")
    before = first.predict_df(table(), **GREEDY)
    second = tuned(tmp_path / "second", forecaster=first, num_steps=1, learning_rate=1e-12)
    assert second.text_format == first.text_format
    configs = [json.loads((tmp_path / name / "adapter_config.json").read_text("utf-8")) for name in ("first", "second")]
    assert configs[0] == configs[1]
    assert second.predict_df(table(), **GREEDY).equals(before)


def test_the_last_steps_are_kept_back(tmp_path):
    changed = table()
    changed.loc[55:, ["hares", "lynx"]] = [[7e3, 5.0], [6e3, 4.0], [5e3, 3.0], [6e3, 2.0], [7e3, 1.0]]
    for name, frame in (("one", table()), ("other", changed)):
        tuned(tmp_path / name, df=frame, num_steps=2)
    assert (tmp_path / "one" / ADAPTER).read_bytes() == (tmp_path / "other" / ADAPTER).read_bytes()


def test_what_stands_in_the_way_is_said_before_anything_is_done(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="taken holds an adapter already; name another folder, or give --force"):
        tuned(tmp_path / "taken")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot write"):
        tuned(tmp_path / "file")
    with pytest.raises(InputError, match="60"):
        tuned(tmp_path / "new", prediction_length=30)
    with pytest.raises(InputError, match="rank"):
        tuned(tmp_path / "new", rank=-1)
    with pytest.raises(InputError, match="the adapter's text format 1"):
        tuned(tmp_path / "new", forecaster=Forecaster(fresh().backbone, TextFormat(1)))
    assert not (tmp_path / "new").exists()


def test_the_cost_is_said_before_anything_is_forecast(tmp_path, monkeypatch):
    said = []
    real = Forecaster.sample
    monkeypatch.setattr(Forecaster, "sample", lambda self, *a, **k: said.append("forecast") or real(self, *a, **k))
    tuned(tmp_path / "mine", said=said, num_steps=1)
    assert said[0].endswith("; before and after, the series is forecast")
    assert [said[1], said[2]] == ["forecast"] * 2
