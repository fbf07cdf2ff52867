"""The training loop, which a killed run resumes bit for bit.

Nothing in a step is left to chance or to the clock: the batch and the rate are functions of the
step, and adapter, optimiser state and log are in the checkpoint.
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
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from m2lib import settings
from m2lib.accounting import Costs, Shape, costs_of, sum_costs, train_step_flops
from m2lib.files import InputError
from m2lib.model import (
    PAD_ID,
    blocked_attention,
    inject_lora,
    lora_layers,
    train_everything,
    trainable,
)
from m2lib.training.checkpoints import load_checkpoint, save_checkpoint
from m2lib.training.config import TrainConfig
from m2lib.training.windows import Source, batch_of, window_loss


@dataclass
class TrainLog:
    """What a training run has done so far, over all the times it was resumed. It is stored in its
    checkpoints."""

    step: int = 0
    """Completed steps."""
    losses: list[float] = field(default_factory=list)
    """The loss of each step's batch before the step is taken, in nats a token."""
    evaluations: list[dict] = field(default_factory=list)
    """What each evaluation returned, and its `step`."""
    seconds: float = 0.0
    """Of all of it, up to the last checkpoint."""
    evaluation_seconds: float = 0.0
    """Of its evaluations alone."""


def train(
    model: PreTrainedModel,
    windows: Source,
    config: TrainConfig,
    checkpoints: Path,
    *,
    checkpoint_every: int = 50,
    on_checkpoint: Callable[[TrainLog, list[Costs]], None] | None = None,
    evaluate: Callable[[], dict] | None = None,
    evaluate_after: Container[int] = (),
    keep: Callable[[int], None] | None = None,
    keep_after: Container[int] = (),
    progress: bool = True,
) -> TrainLog:
    """Train LoRA adapters and the head's bias of a reduced model, in place; or, at rank 0, all its
    weights.

    AdamW without weight decay; adapters in float32, frozen weights as loaded. Adapters that `model`
    has already are trained on; else it gets new ones. `windows` are what `batch_of` takes.
    `checkpoints` is a folder of this run's own: where it holds some, the run goes on from the
    newest one and ends as an unbroken run would. One is written every `checkpoint_every` steps,
    after the first, after two minutes without one, and at the end; just before, `on_checkpoint`
    gets the log and what each step since its last call has cost. `evaluate` is called without
    gradients before the first step, after those in `evaluate_after` and after the last; what it
    returns is kept in the log with the step. `keep` is called with each step in `keep_after` once
    it is taken, and again where the run was killed before its next checkpoint: with the same
    adapter. With `M2_RECOMPUTE` set each block keeps its input only (gradient checkpointing): the
    same adapter, in much less memory and a third more time.

    Raises InputError where the loss is no longer finite, or the checkpoints are another run's;
    KeyboardInterrupt after Ctrl-C, which finishes the step and writes a checkpoint first; pressed
    again it stops at once.
    """
    if not config.rank:
        train_everything(model)
    elif not lora_layers(model):
        generator = torch.Generator().manual_seed(config.seed)
        inject_lora(model, config.rank, config.alpha, targets=config.targets, generator=generator)
    parameters = trainable(model)
    shape, adapter = Shape.of(model.config), {"rank": config.rank, "targets": config.targets}
    optimizer = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, weight_decay=0.0)
    log = TrainLog(**(load_checkpoint(checkpoints, vars(config), parameters, optimizer) or {}))
    started, before, stop = time.perf_counter(), log.seconds, False
    kept, spent = started, list[Costs]()  # spent: not yet handed to on_checkpoint
    recomputing = _recomputing if settings.read("M2_RECOMPUTE") == "1" else nullcontext

    def evaluated() -> None:
        """Evaluate where the step asks for it, unless the log that was resumed from has it
        already."""
        due = log.step in (0, config.steps) or log.step in evaluate_after
        if evaluate and due and not any(entry["step"] == log.step for entry in log.evaluations):
            began = time.perf_counter()
            with torch.no_grad():
                log.evaluations.append({"step": log.step, **evaluate()})
            log.evaluation_seconds += time.perf_counter() - began

    evaluated()
    bar = tqdm(
        total=config.steps,
        initial=log.step,
        desc="train",
        unit="step",
        leave=None,
        disable=not progress,
    )
    with bar, _interrupts() as interrupted:
        while log.step < config.steps and not stop:
            batch = batch_of(log.step, windows, config)
            with recomputing(model):
                rows = torch.from_numpy(batch).to(model.device)
                loss = window_loss(model, rows, config.tail_weight, config.units_weight)
                loss.backward()
            if not math.isfinite(value := loss.item()):
                raise InputError(
                    f"the loss of step {log.step + 1} is {value}; train again with a lower rate"
                )
            if config.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters.values(), config.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = config.rate(log.step)
            optimizer.step()
            optimizer.zero_grad()
            log.step += 1
            log.losses.append(round(value, 6))

            now = time.perf_counter()
            spent.append(step_costs(shape, batch, **adapter))
            bar.set_postfix_str(f"loss {np.mean(log.losses[-20:]):.3f}", refresh=False)
            bar.update()
            # The order matters to a run that is killed between any two lines. The evaluation comes
            # before the checkpoint, whose log then has it. on_checkpoint counts what was spent, and
            # also comes before: killed between the two, the run takes these steps again, and they
            # are counted twice, as they were done twice. The other way round, it would go on after
            # steps that were never counted.
            evaluated()
            if keep and log.step in keep_after:
                keep(log.step)
            stop = bool(interrupted)  # asked once: what is pressed from here on ends the next step
            if (
                stop
                or log.step in (1, config.steps)
                or log.step % checkpoint_every == 0
                or now - kept > 120
            ):
                kept = time.perf_counter()
                log.seconds = before + kept - started
                if on_checkpoint:
                    on_checkpoint(log, spent)
                spent = []
                save_checkpoint(checkpoints, vars(log), vars(config), parameters, optimizer)
        if interrupted:  # only now that the last step is kept
            raise KeyboardInterrupt
    return log


def step_costs(shape: Shape, batch: np.ndarray, **adapter: Any) -> Costs:
    """A training step on a batch (windows, length) of token ids, of adapters of a rank on targets.

    By the rules each window counts at its own length; as executed at the longest one's; as
    published at the full one.
    """
    lengths, windows = (batch != PAD_ID).sum(1).tolist(), len(batch)
    step = partial(costs_of, train_step_flops, shape, **adapter)
    full, longest = step(batch.shape[1], batch=windows), step(max(lengths), batch=windows)
    alone = sum_costs(*(step(tokens, batch=1) for tokens in lengths))
    return alone | {"published": full["published"], "executed": longest["executed"]}


@contextmanager
def _recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Gradient checkpointing; transformers does it in training mode only, which changes nothing
    else here."""
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    try:
        with blocked_attention(model):  # what is computed again attends as it did in `window_loss`
            yield
    finally:
        model.activation_checkpointing_disable()
        model.eval()


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """A list that the first Ctrl-C makes non-empty instead of raising, so that no step is cut in
    half."""
    pressed: list[bool] = []
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Python lets no other thread handle signals
        yield pressed
        return

    def on_interrupt(*_: object) -> None:
        pressed.append(True)
        signal.signal(
            signal.SIGINT, signal.default_int_handler
        )  # so a second Ctrl-C raises at once

    previous = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
