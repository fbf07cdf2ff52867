"""The training loop: it learns, and a run that is stopped at any point ends as an unbroken one."""

import copy
import io
import itertools
import re
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from m2lib.errors import InputError
from m2lib.model import (
    ALL_TARGETS,
    PAD_ID,
    inject_lora,
    lora_layers,
    save_adapter,
    text_to_ids,
    trainable,
)
from m2lib.series import encode
from m2lib.training import (
    TrainConfig,
    batch_of,
    loop,
    make_windows,
    saved_step,
    train,
    window_loss,
)

CONFIG = TrainConfig(
    steps=12,
    learning_rate=1e-2,
    rank=2,
    sequence_length=32,
    warmup=0.25,
    decay="cosine",
    clip_norm=1,
)


class Killed(Exception):
    """What stops a run between two of its steps; torch's own errors are of other types."""


@pytest.fixture
def model(tiny):
    """Return a model without adapters that a test may change."""
    return copy.deepcopy(tiny.model)


@pytest.fixture
def windows(data):
    """Return windows of 32 tokens of three series."""
    texts = [encode(data.trajectories[number], data.scales[number]) for number in (1, 2, 3)]
    return make_windows([text_to_ids(text) for text in texts], 32)


def adapter_bytes(model):
    """Return the content of each file that a model's adapter is saved in."""
    with TemporaryDirectory() as folder:
        save_adapter(model, Path(folder), "tiny")
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def train_until_killed(model, windows, config, folder):
    """Train with a checkpoint every three steps, and be killed just before that of step 9."""

    def kill_after_step_six(log, _):
        if log.step > 6:
            raise Killed

    with pytest.raises(Killed):
        train(
            model,
            windows,
            config,
            folder,
            checkpoint_every=3,
            on_checkpoint=kill_after_step_six,
            progress=False,
        )
    assert saved_step(folder) == 6


def test_training_lowers_the_loss_and_keeps_the_frozen_weights(model, windows, tmp_path):
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}

    # A folder may be named by a plain text, as in `save_adapter`.
    log = train(model, windows, replace(CONFIG, steps=40), str(tmp_path), progress=False)

    assert log.step == 40
    assert len(log.losses) == 40
    assert np.mean(log.losses[-10:]) < np.mean(log.losses[:10]) - 0.05

    changed = set()
    for name, parameter in model.named_parameters():
        name = name.replace(".base.", ".")  # a layer with an adapter has its frozen one within
        if name not in before or not torch.equal(parameter, before[name]):
            changed.add(name)
    assert changed == set(trainable(model))


def test_checkpoints_have_to_be_some_steps_apart(model, windows, tmp_path):
    with pytest.raises(InputError, match=r"^checkpoint_every is 0; give a whole number of 1"):
        train(model, windows, CONFIG, tmp_path, checkpoint_every=0, progress=False)


@pytest.mark.parametrize(
    "targets", [ALL_TARGETS, ("o_proj",), ("down_proj",), ("k_proj",)], ids=str
)
def test_every_target_is_trained(model, windows, tmp_path, targets):
    train(model, windows, replace(CONFIG, steps=3, targets=targets), tmp_path, progress=False)

    layers = lora_layers(model)
    assert {path.split(".")[-1] for path in layers} == set(targets)
    assert len(layers) == 2 * len(targets)  # tiny has two blocks
    for path, layer in layers.items():
        assert layer.lora_B.abs().max() > 0, path


def test_at_rank_zero_all_weights_are_trained(tiny, model, windows, tmp_path):
    train(model, windows, replace(CONFIG, rank=0), tmp_path, progress=False)
    for (name, trained), original in zip(
        model.named_parameters(), tiny.model.parameters(), strict=True
    ):
        assert not torch.equal(trained, original), name


def test_no_weight_decays(model, windows, tmp_path):
    inject_lora(model, CONFIG.rank, targets=CONFIG.targets)
    before = {path: layer.lora_A.detach().clone() for path, layer in lora_layers(model).items()}

    train(model, windows, replace(CONFIG, steps=1), tmp_path, progress=False)

    # B is zero at first, so that A has no gradient in the first step: it stays as it is.
    after = lora_layers(model)
    for path, lora_a in before.items():
        assert torch.equal(after[path].lora_A, lora_a), path


def test_each_step_is_taken_at_the_rate_of_the_settings(model, windows, tmp_path, monkeypatch):
    rates = []

    def note_rate(folder, log, config, parameters, optimizer):
        rates.append(optimizer.param_groups[0]["lr"])

    monkeypatch.setattr(loop, "save_checkpoint", note_rate)
    train(model, windows, CONFIG, tmp_path, checkpoint_every=1, progress=False)
    assert rates == [CONFIG.rate(step) for step in range(CONFIG.steps)]


@pytest.mark.parametrize("weight", [{"tail_weight": 4.0}, {"units_weight": 0.25}], ids=str)
def test_the_loss_is_weighed_as_the_settings_say(model, windows, tmp_path, weight):
    config = replace(CONFIG, steps=1, **weight)
    batch = torch.from_numpy(batch_of(0, windows, config))
    with torch.no_grad():  # a new adapter changes nothing
        expected = window_loss(model, batch, **weight).item()

    log = train(model, windows, config, tmp_path, progress=False)

    assert log.losses == pytest.approx([expected], abs=1e-5)


def test_nothing_is_kept_for_gradients_while_a_run_is_evaluated(model, windows, tmp_path):
    def evaluate():
        return {"keeps": torch.is_grad_enabled()}

    log = train(model, windows, replace(CONFIG, steps=1), tmp_path, evaluate=evaluate)
    assert [entry["keeps"] for entry in log.evaluations] == [False, False]


def test_a_gradient_is_clipped(tiny, windows, tmp_path):
    """AdamW's first step is as long as the rate, unless the gradient is far below its 1e-8."""
    longest = {}
    for clip_norm in (None, 1e-12):
        model = copy.deepcopy(tiny.model)
        config = replace(CONFIG, steps=1, clip_norm=clip_norm)
        train(model, windows, config, tmp_path / str(clip_norm), progress=False)
        moves = [layer.lora_B.abs().max().item() for layer in lora_layers(model).values()]
        longest[clip_norm] = max(moves)

    assert longest[None] == pytest.approx(CONFIG.learning_rate, rel=0.01)
    assert longest[1e-12] < 1e-3 * CONFIG.learning_rate


def test_the_seed_of_a_training_decides_where_its_adapter_starts(tiny, windows, tmp_path):
    starts = []
    for seed in (0, 1):
        model = copy.deepcopy(tiny.model)
        config = replace(CONFIG, steps=1, seed=seed)
        train(model, windows, config, tmp_path / str(seed), progress=False)
        layer = lora_layers(model)["model.layers.0.self_attn.q_proj"]
        starts.append(layer.lora_A)  # the first step leaves A as it was
    assert not torch.equal(*starts)


def test_a_new_adapter_has_the_alpha_of_the_settings(model, windows, tmp_path):
    train(model, windows, replace(CONFIG, steps=1, alpha=16.0), tmp_path, progress=False)
    assert {layer.alpha for layer in lora_layers(model).values()} == {16.0}


def test_an_adapter_that_the_model_has_is_trained_further(model, windows, tmp_path):
    inject_lora(model, CONFIG.rank, targets=CONFIG.targets)
    with torch.no_grad():
        for layer in lora_layers(model).values():
            layer.lora_B.fill_(0.5)

    train(model, windows, replace(CONFIG, steps=1), tmp_path, progress=False)

    for layer in lora_layers(model).values():
        distance = (layer.lora_B - 0.5).abs().max().item()
        assert 0 < distance < 2 * CONFIG.learning_rate


@pytest.mark.parametrize(
    "other", [{"rank": 1}, {"rank": 0}, {"targets": ("o_proj",)}, {"alpha": 16.0}], ids=str
)
def test_an_adapter_of_other_settings_is_refused(model, windows, tmp_path, other):
    inject_lora(model, CONFIG.rank, targets=CONFIG.targets)
    with pytest.raises(InputError, match=f"adapter has rank {CONFIG.rank} on q_proj, v_proj; "):
        train(model, windows, replace(CONFIG, **other), tmp_path, progress=False)


def test_recomputing_changes_nothing_but_memory(tiny, windows, tmp_path, monkeypatch):
    passes = Counter()
    losses = {}
    adapters = {}
    for recompute in ("0", "1"):
        monkeypatch.setenv("M2_RECOMPUTE", recompute)
        model = copy.deepcopy(tiny.model)
        model.model.layers[0].self_attn.register_forward_pre_hook(
            lambda *_, recompute=recompute: passes.update([recompute])
        )
        log = train(model, windows, replace(CONFIG, steps=5), tmp_path / recompute, progress=False)
        losses[recompute] = log.losses
        adapters[recompute] = adapter_bytes(model)

    assert losses["0"] == losses["1"]
    assert adapters["0"] == adapters["1"]
    assert passes == {"0": 5, "1": 10}  # a block runs once more in each step's backward pass


def test_recomputing_is_switched_off_afterwards(model, windows, tmp_path, monkeypatch):
    monkeypatch.setenv("M2_RECOMPUTE", "1")

    train(model, windows, replace(CONFIG, steps=1), tmp_path, progress=False)

    assert not model.training
    for module in model.modules():
        assert not getattr(module, "gradient_checkpointing", False)


def test_evaluations_come_before_between_and_after(model, windows, tmp_path):
    log = train(
        model, windows, CONFIG, tmp_path, evaluate_after=(5, 10), evaluate=lambda: {"loss": 1}
    )
    assert [entry["step"] for entry in log.evaluations] == [0, 5, 10, 12]


def test_a_loss_that_is_not_finite_stops_before_the_checkpoint(model, windows, tmp_path):
    with torch.no_grad():
        model.lm_head.bias[3] = torch.nan
    with pytest.raises(InputError, match="the loss of step 1 is nan"):
        train(model, windows, CONFIG, tmp_path, progress=False)
    assert not list(tmp_path.iterdir())


def drawn_windows(step):
    """Return the windows of a step: digits that ascend, and a window that ends early."""
    rng = np.random.default_rng(step)
    windows = 1 + (rng.integers(10, size=(2, 1)) + np.arange(32)) % 10
    windows[0, rng.integers(16, 32) :] = PAD_ID
    return windows


@pytest.mark.parametrize(
    ("settings", "is_drawn"),
    [
        pytest.param({"rank": 0}, False, id="all weights"),
        pytest.param({"targets": ALL_TARGETS}, False, id="adapters"),
        pytest.param(
            {"targets": ALL_TARGETS, "tail_weight": 4.0, "decay": "cooldown"},
            True,
            id="windows drawn for each step",
        ),
    ],
)
def test_a_stopped_run_ends_as_an_unbroken_one(tiny, windows, tmp_path, settings, is_drawn):
    if is_drawn:
        windows = drawn_windows
    config = replace(CONFIG, **settings)

    unbroken = copy.deepcopy(tiny.model)
    unbroken_log = train(unbroken, windows, config, tmp_path / "unbroken", progress=False)
    assert np.mean(unbroken_log.losses[-3:]) < np.mean(unbroken_log.losses[:3])

    train_until_killed(copy.deepcopy(tiny.model), windows, config, tmp_path / "stopped")
    resumed = copy.deepcopy(tiny.model)
    resumed_log = train(resumed, windows, config, tmp_path / "stopped", progress=False)

    assert resumed_log.losses == unbroken_log.losses
    for (name, expected), parameter in zip(
        unbroken.named_parameters(), resumed.parameters(), strict=True
    ):
        assert torch.equal(parameter, expected), name


def test_gradients_of_an_earlier_call_do_not_count(tiny, windows, tmp_path):
    """A second Ctrl-C, or too little memory, may have stopped it in the middle of a step."""
    adapters = []
    for number, left_over in enumerate((None, 1.0)):
        model = copy.deepcopy(tiny.model)
        start = torch.Generator().manual_seed(0)
        inject_lora(model, CONFIG.rank, targets=CONFIG.targets, generator=start)
        if left_over:
            for parameter in trainable(model).values():
                parameter.grad = torch.full_like(parameter, left_over)
        train(model, windows, replace(CONFIG, steps=1), tmp_path / str(number), progress=False)
        adapters.append(adapter_bytes(model))

    assert adapters[0] == adapters[1]


def test_a_folder_of_other_windows_is_refused(tiny, windows, tmp_path):
    """A finished run's adapter, too, would otherwise be returned as that of these windows."""
    config = replace(CONFIG, steps=2)
    train(copy.deepcopy(tiny.model), windows, config, tmp_path, progress=False)
    fresh = copy.deepcopy(tiny.model)

    with pytest.raises(InputError, match="another run's, which differs in windows;"):
        train(fresh, windows[:, :-1], config, tmp_path, progress=False)


def test_the_progress_bar_shows_loss_and_speed(model, windows, tmp_path, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    # A bar is drawn at most every 0.1 s, and two steps may take less: this one is drawn each time.
    drawn = io.StringIO()
    monkeypatch.setattr(loop, "tqdm", partial(loop.tqdm, file=drawn, mininterval=0))

    log = train(model, windows, replace(CONFIG, steps=2), tmp_path)

    printed = drawn.getvalue()
    assert f"loss {np.mean(log.losses):.3f}, " in printed
    assert re.search(r"[1-9]e\+\d+ FLOP/s", printed)  # of step 2: before step 1 none is known


def test_the_environment_may_switch_the_bar_off(model, windows, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    train(model, windows, replace(CONFIG, steps=1), tmp_path)
    assert capsys.readouterr().err == ""


@pytest.fixture
def slow_windows(windows, monkeypatch):
    """Return windows of which each batch takes 50 seconds, by the training's clock."""
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def batches(step):
        now[0] += 50
        return batch_of(step, windows, CONFIG)

    return batches


def test_a_checkpoint_is_never_older_than_two_minutes(model, slow_windows, tmp_path):
    steps = []
    train(
        model,
        slow_windows,
        CONFIG,
        tmp_path,
        checkpoint_every=10**6,
        on_checkpoint=lambda log, _: steps.append(log.step),
        progress=False,
    )
    assert steps == [1, 4, 7, 10, 12]


def test_the_seconds_of_a_run_are_those_of_all_its_processes(tiny, slow_windows, tmp_path):
    train_until_killed(copy.deepcopy(tiny.model), slow_windows, CONFIG, tmp_path)
    log = train(
        copy.deepcopy(tiny.model),
        slow_windows,
        CONFIG,
        tmp_path,
        checkpoint_every=3,
        progress=False,
    )

    assert log.seconds == 50 * CONFIG.steps  # those after the last checkpoint do not count twice


def test_the_seconds_of_all_evaluations_count(model, windows, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def evaluate():
        now[0] += 7
        return {}

    config = replace(CONFIG, steps=1)
    log = train(model, windows, config, tmp_path, evaluate=evaluate, progress=False)

    assert log.evaluation_seconds == 14  # before the step and after it
    assert log.seconds == 14


def test_costs_are_counted_before_their_checkpoint_is_written(model, windows, tmp_path):
    """Killed in between, a run takes these steps again, and none goes uncounted."""
    counted = []

    def count(log, costs):
        counted.append((saved_step(tmp_path), log.step, len(costs)))

    train(
        model,
        windows,
        CONFIG,
        tmp_path,
        checkpoint_every=5,
        on_checkpoint=count,
        progress=False,
    )
    # The step that is saved so far, the step that is to be, and the costs between the two.
    assert counted == [(0, 1, 1), (1, 5, 4), (5, 10, 5), (10, 12, 2)]


@pytest.mark.parametrize(
    ("presses", "last_checkpoint"),
    [
        pytest.param(1, 5, id="one finishes the step and keeps it"),
        pytest.param(2, 1, id="a second one does not wait for the step"),
    ],
)
def test_ctrl_c_stops_a_run(model, windows, tmp_path, presses, last_checkpoint):
    # Where tests run in the background, it is not Python's own, because Ctrl-C is ignored there.
    handler_before = signal.getsignal(signal.SIGINT)
    steps = itertools.count()

    def press_after_step_five():
        if next(steps) == 5:
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
        return {}

    with pytest.raises(KeyboardInterrupt):
        train(
            model,
            windows,
            CONFIG,
            tmp_path,
            evaluate=press_after_step_five,
            evaluate_after=range(100),
            progress=False,
        )

    assert saved_step(tmp_path) == last_checkpoint
    assert signal.getsignal(signal.SIGINT) is handler_before


def test_a_run_may_train_in_any_thread(model, windows, tmp_path):
    """Ctrl-C is the main thread's, so in another one nothing is arranged for it."""
    config = replace(CONFIG, steps=1)
    with ThreadPoolExecutor(1) as threads:
        log = threads.submit(train, model, windows, config, tmp_path, progress=False).result()
    assert log.step == 1
