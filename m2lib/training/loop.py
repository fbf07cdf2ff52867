"""The training loop, which a killed run resumes bit for bit.

Nothing in a step depends on chance or on the clock: the batch and the learning rate are functions
of the step, and adapter, optimiser state and log are in the checkpoint. A graphics card is the
exception: PyTorch's fused attention may add up its gradients there in another order each time, so
even two unbroken runs may differ in their last digits.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from m2lib import settings
from m2lib.accounting import TARGETS, Costs, Shape, costs_of, sum_costs, train_step_flops
from m2lib.errors import InputError, check_count
from m2lib.model import (
    PAD_ID,
    adapter_settings,
    blocked_attention,
    inject_lora,
    lora_layers,
    train_everything,
    trainable,
)
from m2lib.training.checkpoints import load_checkpoint, save_checkpoint
from m2lib.training.config import TrainConfig
from m2lib.training.loss import window_loss
from m2lib.training.windows import Windows, batch_of, windows_hash

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MOST_SECONDS = 120  # between two checkpoints, whatever the number of steps


@dataclass
class TrainLog:
    """The history of a training run across all its resumptions; checkpoints store it."""

    step: int = 0
    """Completed steps."""
    losses: list[float] = field(default_factory=list)
    """The loss of each step's batch before the step is taken, in nats a token."""
    evaluations: list[dict] = field(default_factory=list)
    """For each evaluation its `step`, and what `evaluate` returned."""
    seconds: float = 0.0
    """Duration of the run up to the last checkpoint, evaluations included."""
    evaluation_seconds: float = 0.0
    """Duration of the evaluations alone."""


def train(
    model: "PreTrainedModel",
    windows: Windows,
    config: TrainConfig,
    checkpoints: str | Path,
    *,
    checkpoint_every: int = 50,
    on_checkpoint: Callable[[TrainLog, list[Costs]], None] | None = None,
    evaluate: Callable[[], dict] | None = None,
    evaluate_after: Container[int] = (),
    progress: bool = True,
) -> TrainLog:
    """Train LoRA adapters and the head's bias of a reduced model in place; at rank 0 all weights.

    The optimiser is AdamW without weight decay; adapters are float32, and frozen weights stay as
    loaded. With `M2_RECOMPUTE=1` each block keeps its input only (gradient checkpointing), which
    gives the same adapter in much less memory and a third more time.

    Checkpoints are written every `checkpoint_every` steps, after the first step, after two minutes
    without one, and at the end. Ctrl-C finishes the step and writes a checkpoint before
    KeyboardInterrupt is raised; a second one raises it at once.

    Parameters
    ----------
    model : PreTrainedModel
        A model with the 13-token vocabulary. Adapters that it already has are trained further;
        without any it gets new ones.
    windows : ndarray of int64, shape (windows, length), or callable
        The windows of token ids; or a function, such as `random_windows` returns, that takes the
        number of a step, from 0, and returns the windows of that step. It may return another
        number of them than the config's `batch_size`.
    config : TrainConfig
        The settings that decide the numbers.
    checkpoints : str or Path
        A folder for this run alone. If it holds a checkpoint, the run goes on from the newest one
        and ends as an unbroken run would. A checkpoint of another configuration, of another first
        batch, or of a model with other layers is refused.
    checkpoint_every : int, optional
        Steps from one checkpoint to the next.
    on_checkpoint : callable, optional
        Called just before each checkpoint with the log and the costs of every step since its last
        call.
    evaluate : callable, optional
        Called without gradients before the first step, after each step in `evaluate_after` and
        after the last. The log keeps what it returns, with the step.
    evaluate_after : container of int, optional
        Numbers of completed steps.
    progress : bool, optional
        Whether to show a bar.

    Returns
    -------
    TrainLog
        The whole history, which includes that of earlier processes that this one resumes.

    Raises
    ------
    InputError
        If the loss is no longer finite, if the newest checkpoint is damaged or another run's, if
        adapters that the model already has are not of the config's rank, alpha and targets, or if
        `checkpoint_every` is no whole number of 1 or more.
    ValueError
        If all weights are to train (rank 0) and they are not in float32, or if the model lacks one
        of the config's targets.
    """
    check_count("checkpoint_every", checkpoint_every)
    checkpoints = Path(checkpoints)
    if lora_layers(model):
        _check_adapter(model, config)  # refuses rank 0, too, because no adapter has it
    elif config.rank == 0:
        train_everything(model)
    else:
        generator = torch.Generator().manual_seed(config.seed)
        inject_lora(model, config.rank, config.alpha, targets=config.targets, generator=generator)
    parameters = trainable(model)
    shape = Shape.of(model.config)
    optimizer = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, weight_decay=0.0)
    run = vars(config) | {"windows": windows_hash(windows, config)}
    # An earlier call that was stopped in the middle of a step may have left gradients in the model.
    optimizer.zero_grad()
    saved_log = load_checkpoint(checkpoints, run, parameters, optimizer)
    log = TrainLog(**saved_log) if saved_log else TrainLog()
    recomputing = _recomputing if settings.read("M2_RECOMPUTE") == "1" else nullcontext

    earlier_seconds = log.seconds  # of the processes that this one resumes
    started = time.perf_counter()
    checkpoint_at = started  # when the last checkpoint was written
    uncounted: list[Costs] = []  # costs of steps that on_checkpoint has not got yet

    def evaluate_if_due() -> None:
        """Evaluate after this step if asked to, unless the log of a resumed run already has it."""
        is_due = log.step in (0, config.steps) or log.step in evaluate_after
        is_done = any(entry["step"] == log.step for entry in log.evaluations)
        if evaluate and is_due and not is_done:
            start = time.perf_counter()
            with torch.no_grad():
                log.evaluations.append({"step": log.step, **evaluate()})
            log.evaluation_seconds += time.perf_counter() - start

    evaluate_if_due()
    stop = False
    bar = tqdm(
        total=config.steps,
        initial=log.step,
        desc="train",
        unit="step",
        leave=None,
        disable=not progress or settings.bars_are_off(),
    )
    with bar, _interrupts() as interrupted:
        while log.step < config.steps and not stop:
            # 1. Learn from this step's batch.
            batch = batch_of(log.step, windows, config)
            with recomputing(model):
                rows = torch.from_numpy(batch).to(model.device)
                loss = window_loss(model, rows, config.tail_weight, config.units_weight)
                loss.backward()
            loss_value = loss.item()
            if not math.isfinite(loss_value):
                problem = f"the loss of step {log.step + 1} is {loss_value}"
                raise InputError(f"{problem}; train again with a lower rate")
            if config.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters.values(), config.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = config.rate(log.step)
            optimizer.step()
            optimizer.zero_grad()

            # 2. Note what it gave and what it cost.
            log.step += 1
            log.losses.append(round(loss_value, 6))
            now = time.perf_counter()
            costs = step_costs(shape, batch, rank=config.rank, targets=config.targets)
            uncounted.append(costs)
            steps_a_second = bar.format_dict["rate"] or 0.0  # none is known before the first step
            speed = steps_a_second * costs["executed"]
            recent_loss = np.mean(log.losses[-20:])
            bar.set_postfix_str(f"loss {recent_loss:.3f}, {speed:.2g} FLOP/s", refresh=False)
            bar.update()

            # 3. Evaluate and write a checkpoint, where either is due. The order matters to a run
            # that is killed between any two lines. The evaluation comes before the checkpoint,
            # whose log then has it. on_checkpoint counts the costs, and also comes before: killed
            # between the two, the run takes these steps again, and they are counted twice, because
            # they were computed twice. The other way round, it would go on after steps that were
            # never counted.
            evaluate_if_due()
            stop = bool(interrupted)  # read once: a Ctrl-C from here on ends the next step
            is_checkpoint_due = (
                stop
                or log.step in (1, config.steps)
                or log.step % checkpoint_every == 0
                or now - checkpoint_at > MOST_SECONDS
            )
            if is_checkpoint_due:
                checkpoint_at = time.perf_counter()
                log.seconds = earlier_seconds + checkpoint_at - started
                if on_checkpoint:
                    on_checkpoint(log, uncounted)
                uncounted = []
                save_checkpoint(checkpoints, vars(log), run, parameters, optimizer)
        if interrupted:  # raised only now that the last step has its checkpoint
            raise KeyboardInterrupt
    return log


def step_costs(
    shape: Shape, batch: np.ndarray, *, rank: int, targets: tuple[str, ...] = TARGETS
) -> Costs:
    """Return the costs of a training step on a batch (windows, length) of token ids, by convention.

    By the coursework's rules each window counts at its own length without pads. As executed, each
    has the length of the longest; as published, the full length of the batch.
    """
    count = partial(costs_of, train_step_flops, shape, rank=rank, targets=targets)
    lengths = (batch != PAD_ID).sum(1).tolist()
    costs = sum_costs(*[count(tokens, batch=1) for tokens in lengths])
    costs["published"] = count(batch.shape[1], batch=len(batch))["published"]
    costs["executed"] = count(max(lengths), batch=len(batch))["executed"]
    return costs


def _check_adapter(model: "PreTrainedModel", config: TrainConfig) -> None:
    """Raise InputError for a config whose adapters are others than the model has."""
    adapter = adapter_settings(model)
    alpha = config.rank if config.alpha is None else config.alpha
    expected = (config.rank, alpha, set(config.targets))
    if (adapter["rank"], adapter["alpha"], set(adapter["targets"])) != expected:
        raise InputError(
            f"the model's adapter has rank {adapter['rank']} on {', '.join(adapter['targets'])}; "
            f"its alpha is {adapter['alpha']:g}; train it with these, "
            "or load the backbone without it"
        )


@contextmanager
def _recomputing(model: "PreTrainedModel") -> Iterator[None]:
    """Switch on gradient checkpointing, for which transformers wants training mode.

    Training mode changes nothing else here, because these models have no dropout.
    """
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    try:
        # The backward pass recomputes each block, so it too must attend as in `window_loss`.
        with blocked_attention(model):
            yield
    finally:
        model.activation_checkpointing_disable()
        model.eval()


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """Yield a list that the first Ctrl-C fills instead of raising, so that no step is cut short."""
    pressed: list[bool] = []
    # Python lets only the main thread handle signals.
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return

    def on_interrupt(*_: object) -> None:
        pressed.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a second Ctrl-C raises at once

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
