import copy
import re
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from m2lib.files import InputError
from m2lib.model import (
    ALL_TARGETS,
    PAD_ID,
    inject_lora,
    lora_layers,
    save_adapter,
    text_to_ids,
    trainable,
)
from m2lib.series import TABLES, encode
from m2lib.training import TrainConfig, batch_of, loop, make_windows, saved_step, train, window_loss
from m2lib.training.windows import loss_weights
from study.synthetic import synthetic_windows

CONFIG = TrainConfig(
    steps=12,
    learning_rate=1e-2,
    rank=2,
    sequence_length=32,
    warmup=0.25,
    decay="cosine",
    clip_norm=1,
)


@pytest.fixture
def model(tiny):
    return copy.deepcopy(tiny.model)


@pytest.fixture
def windows(data):
    return make_windows(
        [text_to_ids(encode(data.trajectories[i], data.scales[i])) for i in (1, 2, 3)], 32
    )


def adapter_bytes(model, folder):
    save_adapter(model, folder, "tiny")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_windows_cover_each_text_at_half_steps():
    assert make_windows([[1, 2, 3]], 4).tolist() == [[1, 2, 3, PAD_ID]]
    assert make_windows([[1, 2, 3, 4]], 4).tolist() == [[1, 2, 3, 4]]
    assert make_windows([[1, 2, 3, 4, 5], [6]], 4).tolist() == [
        [1, 2, 3, 4],
        [3, 4, 5, 0],
        [6, 0, 0, 0],
    ]
    assert make_windows([[1, 2, 3, 4, 5, 6, 7]], 4).tolist() == [
        [1, 2, 3, 4],
        [3, 4, 5, 6],
        [5, 6, 7, 0],
    ]


def test_an_epoch_sees_every_window_once():
    windows = np.arange(10).reshape(5, 2)
    config = replace(CONFIG, batch_size=2)
    epochs = [
        [batch_of(step, windows, config)[:, 0] for step in steps] for steps in ((0, 1), (2, 3))
    ]
    for epoch in epochs:
        assert len(set(np.concatenate(epoch))) == 4  # the odd one waits for another epoch
    assert not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(batch_of(3, windows, config), batch_of(3, windows, config))


def test_rates_by_hand():
    config = TrainConfig(steps=10, learning_rate=1.0, rank=1, warmup=0.2, decay="cosine")
    assert [round(config.rate(step), 3) for step in range(10)] == [
        0.5, 1.0, 1.0, 0.962, 0.854, 0.691, 0.5, 0.309, 0.146, 0.038,
    ]  # fmt: skip
    cooled = replace(config, decay="cooldown")
    assert [round(cooled.rate(step), 3) for step in range(10)] == [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.5]
    assert {TrainConfig(steps=5, learning_rate=0.1, rank=1).rate(step) for step in range(5)} == {
        0.1
    }


def test_a_window_has_two_tokens_at_least():
    with pytest.raises(ValueError, match="sequence_length"):
        replace(CONFIG, sequence_length=1)


def test_targets_are_kept_in_one_order():
    # as JSON gives them
    config = TrainConfig(1, 1e-3, 2, targets=["down_proj", "q_proj", "k_proj"])
    assert config.targets == ("q_proj", "k_proj", "down_proj")
    assert config == replace(config, targets=("k_proj", "down_proj", "q_proj"))
    assert CONFIG.targets == ("q_proj", "v_proj")
    for targets in ((), [], ("w_proj",), ("q_proj", "w_proj"), ["q_proj", "q_proj"], "q_proj", ""):
        with pytest.raises(ValueError, match="targets"):
            replace(CONFIG, targets=targets)


@pytest.mark.parametrize("targets", [ALL_TARGETS, ("o_proj",), ("down_proj",), ("k_proj",)])
def test_every_target_is_trained(model, windows, tmp_path, targets):
    train(model, windows, replace(CONFIG, steps=3, targets=targets), tmp_path, progress=False)
    layers = lora_layers(model)
    assert {path.split(".")[-1] for path in layers} == set(targets)
    assert len(layers) == 2 * len(targets)
    assert all(layer.lora_B.abs().max() > 0 for layer in layers.values())


STOPPED = {"all weights": {"rank": 0}, "adapters": {"targets": ALL_TARGETS}}
STOPPED["synthetic"] = STOPPED["adapters"] | {"tail_weight": 4.0, "decay": "cooldown"}


@pytest.mark.parametrize("how", STOPPED)
def test_a_stopped_run_ends_as_an_unbroken_one(tiny, windows, tmp_path, how):
    windows = (
        synthetic_windows(200, 5, TABLES.of(1), pair_share=0.5) if how == "synthetic" else windows
    )
    config = replace(CONFIG, **STOPPED[how])
    models = [copy.deepcopy(tiny.model) for _ in range(2)]
    log = train(models[0], windows, config, tmp_path / "whole", progress=False)
    assert np.mean(log.losses[-3:]) < np.mean(log.losses[:3])

    def stop():
        raise RuntimeError

    half = tmp_path / "half"
    with pytest.raises(RuntimeError):
        train(
            copy.deepcopy(tiny.model), windows, config, half, checkpoint_every=3, progress=False,
            on_checkpoint=lambda log, _: stop() if log.step > 6 else None,
        )  # fmt: skip
    assert train(models[1], windows, config, half, progress=False).losses == log.losses
    for (name, first), second in zip(
        models[0].named_parameters(), models[1].parameters(), strict=True
    ):
        assert torch.equal(first, second), name
    if not config.rank:
        assert not any(map(torch.equal, models[0].parameters(), tiny.model.parameters()))


def test_pads_change_nothing(model):
    ids = torch.tensor([text_to_ids("952,1034;948,1029;")])
    padded = torch.nn.functional.pad(ids, (0, 9), value=PAD_ID)
    beside = torch.cat([padded, torch.tensor([text_to_ids("1,2;" * 6 + "12;")])])
    with torch.no_grad():
        alone = window_loss(model, ids)
        other = window_loss(model, beside[1:])
        assert window_loss(model, padded).item() == pytest.approx(alone.item(), abs=1e-5)
        expected = (alone * 17 + other * 26) / (17 + 26)
        assert window_loss(model, beside).item() == pytest.approx(expected.item(), abs=1e-5)
        assert model(ids, labels=ids).loss.item() == pytest.approx(alone.item(), abs=1e-5)


def test_tail_weight_moves_the_loss_toward_the_end(model):
    ids = torch.tensor([text_to_ids("952,1034;948,1029;")])
    with torch.no_grad():
        logits = model(ids).logits
        losses = torch.nn.functional.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="none")
        ramp = torch.linspace(1, 3, 17)
        expected = ((losses * ramp).sum() / ramp.sum()).item()
        assert window_loss(model, ids, 3.0).item() == pytest.approx(expected)
        padded = torch.nn.functional.pad(ids, (0, 9), value=PAD_ID)
        assert window_loss(model, padded, 3.0).item() == pytest.approx(expected, abs=1e-5)


def test_a_numbers_last_digit_can_weigh_less():
    ids = torch.tensor([text_to_ids("952,1034;948,7") + [PAD_ID] * 2])
    weights = loss_weights(ids, units_weight=0.25)[0].tolist()
    assert weights == [1, 0.25, 1, 1, 1, 1, 0.25, 1, 1, 1, 0.25, 1, 0.25, 0, 0]
    assert loss_weights(ids)[0].tolist() == [1.0] * 13 + [0, 0]


def test_training_lowers_the_loss_and_keeps_the_frozen_weights(model, windows, tmp_path):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    log = train(model, windows, replace(CONFIG, steps=40), tmp_path, progress=False)
    assert (log.step, len(log.losses)) == (40, 40)
    assert np.mean(log.losses[-10:]) < np.mean(log.losses[:10]) - 0.05
    after = {name.replace(".base.", "."): parameter for name, parameter in model.named_parameters()}
    assert {
        name for name in after if name not in before or not torch.equal(after[name], before[name])
    } == set(trainable(model))


def test_recomputing_changes_nothing_but_memory(tiny, windows, tmp_path, monkeypatch):
    models = [copy.deepcopy(tiny.model) for _ in range(2)]
    logs = []
    passes = {"0": [], "1": []}
    for recompute, model in zip("01", models, strict=True):
        monkeypatch.setenv("M2_RECOMPUTE", recompute)
        model.model.layers[0].self_attn.register_forward_pre_hook(
            lambda *_, seen=passes[recompute]: seen.append(1)
        )
        logs.append(
            train(model, windows, replace(CONFIG, steps=5), tmp_path / recompute, progress=False)
        )
    assert {recompute: len(seen) for recompute, seen in passes.items()} == {"0": 5, "1": 10}
    assert logs[0].losses == logs[1].losses
    assert adapter_bytes(models[0], tmp_path / "a") == adapter_bytes(models[1], tmp_path / "b")
    assert not models[1].training
    assert not any(
        getattr(module, "gradient_checkpointing", False) for module in models[1].modules()
    )


def test_evaluations_come_before_between_and_after(model, windows, tmp_path):
    log = train(
        model, windows, CONFIG, tmp_path, evaluate_after=(5, 10), evaluate=lambda: {"loss": 1}
    )
    assert [entry["step"] for entry in log.evaluations] == [0, 5, 10, 12]


def test_an_adapter_kept_on_the_way_is_that_of_a_shorter_run(tiny, windows, tmp_path):
    """At a constant rate; also where the run is killed right after it, and takes the step again."""

    def trained(steps, folder, killed=False):
        model = copy.deepcopy(tiny.model)

        def keep(step):
            kept.append((step, adapter_bytes(model, tmp_path / f"{folder}-{len(kept)}")))
            if killed and len(kept) == 2:
                raise RuntimeError

        constant = replace(CONFIG, steps=steps, decay="constant", warmup=0.0)
        train(
            model,
            windows,
            constant,
            tmp_path / folder,
            keep=keep,
            keep_after=(5, 7),
            progress=False,
        )
        return adapter_bytes(model, tmp_path / f"{folder}-end")

    kept = []
    trained(12, "whole")
    five, seven = kept
    assert five == (5, trained(5, "short"))
    kept = []
    with pytest.raises(RuntimeError):
        trained(12, "killed", killed=True)
    trained(12, "killed")
    # the last checkpoint before was that of the first step
    assert kept == [
        five,
        seven,
        five,
        seven,
    ]


def test_the_progress_bar_shows_loss_and_speed(model, windows, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    log = train(model, windows, replace(CONFIG, steps=2), tmp_path)
    shown = capsys.readouterr().err
    assert f"loss {np.mean(log.losses):.3f}, " in shown
    assert re.search(r"\d FLOP/s|e\+\d+ FLOP/s", shown)


def test_the_environment_may_switch_the_bar_off(model, windows, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    train(model, windows, replace(CONFIG, steps=1), tmp_path)
    assert capsys.readouterr().err == ""


@pytest.fixture
def slow_windows(windows, monkeypatch):
    """Windows of which each batch takes 50 seconds, by the training's clock."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def batches(step):
        now[0] += 50
        return batch_of(step, windows, CONFIG)

    return batches


def test_a_checkpoint_is_never_older_than_two_minutes(model, slow_windows, tmp_path):
    steps = []
    kept = {"checkpoint_every": 10**6, "on_checkpoint": lambda log, _: steps.append(log.step)}
    train(model, slow_windows, CONFIG, tmp_path, **kept, progress=False)
    assert steps == [1, 4, 7, 10, 12]


def test_the_seconds_of_a_run_are_those_of_all_its_processes(tiny, slow_windows, tmp_path):
    def killed(log, _):
        if log.step == 9:
            raise RuntimeError

    options = {"checkpoint_every": 3, "progress": False}
    with pytest.raises(RuntimeError):
        train(
            copy.deepcopy(tiny.model),
            slow_windows,
            CONFIG,
            tmp_path,
            on_checkpoint=killed,
            **options,
        )
    log = train(copy.deepcopy(tiny.model), slow_windows, CONFIG, tmp_path, **options)
    assert log.seconds == 50 * CONFIG.steps  # those after the last checkpoint do not count twice


def test_ctrl_c_finishes_the_step_and_keeps_it(model, windows, tmp_path):
    def press():
        if len(lora_layers(model)) and next(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return {}

    # ignored, where tests run in the background
    calls = iter(range(100))
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(
            model,
            windows,
            CONFIG,
            tmp_path,
            evaluate=press,
            evaluate_after=range(100),
            progress=False,
        )
    assert saved_step(tmp_path) == 5  # pressed during the evaluation after step 5
    assert signal.getsignal(signal.SIGINT) is before


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(model, windows, tmp_path):
    with torch.no_grad():
        model.lm_head.bias[3] = torch.nan
    with pytest.raises(InputError, match="the loss of step 1 is nan"):
        train(model, windows, CONFIG, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("other", [{"rank": 1}, {"targets": ("o_proj",)}, {"alpha": 16.0}])
def test_an_adapter_of_other_settings_is_refused(model, windows, tmp_path, other):
    inject_lora(model, CONFIG.rank, targets=CONFIG.targets)
    with pytest.raises(InputError, match=f"adapter has rank {CONFIG.rank} on q_proj, v_proj; "):
        train(model, windows, replace(CONFIG, **other), tmp_path, progress=False)


WRONG = {
    "steps": 0,
    "learning_rate": 0.0,
    "warmup": 1.0,
    "alpha": 0.0,
    "clip_norm": 0.0,
    "decay": "linear",
    "step": 3,
}


@pytest.mark.parametrize("settings", [{name: value} for name, value in WRONG.items()])
def test_contradictions_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        replace(CONFIG, **settings)


def test_no_weight_decays(model, windows, tmp_path):
    """B is zero at first, so that A has no gradient in the first step: it stays as it is."""
    inject_lora(model, CONFIG.rank, targets=CONFIG.targets)
    before = [layer.lora_A.detach().clone() for layer in lora_layers(model).values()]
    train(model, windows, replace(CONFIG, steps=1), tmp_path, progress=False)
    after = [layer.lora_A for layer in lora_layers(model).values()]
    assert all(map(torch.equal, before, after))


def test_a_gradient_is_clipped(tiny, windows, tmp_path):
    """AdamW's first step is as long as the rate, unless the gradient is far below its 1e-8."""
    longest = []
    for clip_norm in (None, 1e-12):
        model = copy.deepcopy(tiny.model)
        config = replace(CONFIG, steps=1, clip_norm=clip_norm)
        train(model, windows, config, tmp_path / str(clip_norm), progress=False)
        moved = [layer.lora_B.abs().max().item() for layer in lora_layers(model).values()]
        longest.append(max(moved))
    assert longest[0] == pytest.approx(CONFIG.learning_rate, rel=0.01)
    assert longest[1] < 1e-3 * CONFIG.learning_rate


def test_the_seed_decides_the_start_and_the_order(tiny, windows, tmp_path):
    starts = []
    for seed in (0, 1):
        model = copy.deepcopy(tiny.model)
        config = replace(CONFIG, steps=1, seed=seed)
        train(model, windows, config, tmp_path / str(seed), progress=False)
        starts.append(lora_layers(model)["model.layers.0.self_attn.q_proj"].lora_A)
    assert not torch.equal(*starts)  # the first step leaves A as it was
    first, second = (batch_of(0, windows, replace(CONFIG, seed=seed)) for seed in (0, 1))
    assert not np.array_equal(first, second)


def test_an_adapter_that_the_model_has_is_trained_further(model, windows, tmp_path):
    inject_lora(model, CONFIG.rank, targets=CONFIG.targets)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.fill_(0.5)
    train(model, windows, replace(CONFIG, steps=1), tmp_path, progress=False)
    for layer in lora_layers(model).values():
        away = (layer.lora_B - 0.5).abs().max().item()
        assert 0 < away < 2 * CONFIG.learning_rate


def test_costs_are_counted_before_their_checkpoint_is_written(model, windows, tmp_path):
    """Killed in between, a run takes these steps again, and none goes uncounted."""
    counted = []

    def count(log, costs):
        counted.append((saved_step(tmp_path), log.step, len(costs)))

    options = {"checkpoint_every": 5, "progress": False}
    train(model, windows, CONFIG, tmp_path, on_checkpoint=count, **options)
    assert counted == [(0, 1, 1), (1, 5, 4), (5, 10, 5), (10, 12, 2)]
