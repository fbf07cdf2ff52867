"""LoRA training: windows of tokens, their loss, and the loop, which a killed run resumes bit for bit."""

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from m2lib.files import InputError
from m2lib.model.attention import blocked_attention
from m2lib.model.lora import inject_lora, trainable
from m2lib.model.vocabulary import COMMA_ID, PAD_ID
from m2lib.training.checkpoints import load_checkpoint, save_checkpoint
from m2lib.training.processes import Processes

ALONE = Processes()


@dataclass(frozen=True)
class TrainConfig:
    """How an adapter is trained. The defaults beyond the first three fields are the report's.

    steps: optimiser steps. learning_rate: the peak rate. rank: of the adapters. alpha: None is the rank.
    batch_size: windows a step. sequence_length: tokens a window. warmup: share of the steps over which the rate rises
    from 0. decay: `constant`, or `cosine`, which would be 0 at step `steps`. clip_norm: largest gradient norm (None: no
    clipping). tail_weight: how much the last token of a window weighs in the loss against the first, linear between.
    units_weight: how much a number's last digit weighs against everything else.
    seed: of the adapters' start and of the order of the windows.
    """

    steps: int
    learning_rate: float
    rank: int
    alpha: float | None = None
    batch_size: int = 2
    sequence_length: int = 512
    warmup: float = 0.0
    decay: str = "constant"
    clip_norm: float | None = None
    tail_weight: float = 1.0
    units_weight: float = 1.0
    seed: int = 0

    def __post_init__(self):
        if min(self.steps, self.rank, self.batch_size) < 1 or self.sequence_length < 2:
            raise ValueError("steps, rank and batch_size must be at least 1, sequence_length at least 2")
        if min(self.learning_rate, self.tail_weight, self.units_weight, self.clip_norm or 1, self.alpha or 1) <= 0:
            raise ValueError("learning_rate, tail_weight, units_weight, clip_norm and alpha must be positive")
        if not 0 <= self.warmup < 1 or self.decay not in ("constant", "cosine"):
            raise ValueError("warmup must be a share below 1, decay `constant` or `cosine`")

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..., steps - 1."""
        warm = round(self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        if self.decay == "constant":
            return self.learning_rate
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))


@dataclass
class TrainLog:
    """What a training run has done so far: completed steps, the loss of each (nats a token), evaluations.

    seconds: of all of it; evaluation_seconds: of its evaluations alone.
    """

    step: int = 0
    losses: list[float] = field(default_factory=list)
    evaluations: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    evaluation_seconds: float = 0.0


def make_windows(texts: list[list[int]], length: int) -> np.ndarray:
    """Windows of `length` tokens over each text, every length // 2 tokens, until one reaches the text's end.

    texts: token ids of whole series. length: even. Returns int64 (windows, length); a short last window is padded on
    the right.
    """
    windows = []
    for ids in texts:
        for start in range(0, max(1, len(ids) - length // 2), length // 2):
            piece = ids[start : start + length]
            windows.append(piece + [PAD_ID] * (length - len(piece)))
    return np.array(windows, dtype=np.int64).reshape(-1, length)


def batch_of(step: int, windows: np.ndarray, config: TrainConfig) -> np.ndarray:
    """The windows (batch_size, length) of a step: each epoch is a fresh permutation, so the step says it all."""
    size = min(config.batch_size, len(windows))
    epoch, place = divmod(step, len(windows) // size)
    order = np.random.default_rng([config.seed, epoch]).permutation(len(windows))
    return windows[order[place * size : (place + 1) * size]]


def loss_weights(windows: torch.Tensor, tail_weight: float = 1.0, units_weight: float = 1.0) -> torch.Tensor:
    """What each predicted token of windows (B, length) weighs in the loss: (B, length - 1), 0 where it is a pad."""
    kept = windows != PAD_ID
    place = torch.arange(windows.shape[1] - 1, device=windows.device) / (kept.sum(1, keepdim=True) - 2).clamp(min=1)
    weights = kept[:, 1:] * (1 + (tail_weight - 1) * place)
    digit = kept & (windows < COMMA_ID)
    weights[:, :-1] *= torch.where(digit[:, 1:-1] & ~digit[:, 2:], units_weight, 1.0)
    return weights


def window_loss(
    model: PreTrainedModel,
    windows: torch.Tensor,
    tail_weight: float = 1.0,
    units_weight: float = 1.0,
    total: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean next-token cross-entropy (nats) at every position of windows (B, length); pads count nowhere.

    total: the sum of `loss_weights` to divide by, for a share of a batch (default: that of these windows). Columns
    that hold only pads are not computed; pads on the right of causal attention are never attended to.
    """
    windows = windows[:, : padded_length(windows)]
    weights = loss_weights(windows, tail_weight, units_weight)
    with blocked_attention(model):
        logits = model(windows, use_cache=False).logits
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), windows[:, 1:], reduction="none")
    return (losses * weights).sum() / (weights.sum() if total is None else total)


def padded_length(windows) -> int:
    """How many columns of windows (B, length), array or tensor, are computed: those of the longest without its pads."""
    return int((windows != PAD_ID).sum(1).max())


def train(
    model: PreTrainedModel,
    windows: np.ndarray,
    config: TrainConfig,
    checkpoints: Path,
    *,
    checkpoint_every: int = 50,
    on_checkpoint: Callable[[TrainLog, range], None] | None = None,
    evaluate: Callable[[], dict] | None = None,
    evaluate_every: int = 0,
    processes: Processes = ALONE,
    recompute: bool = False,
    progress: bool = True,
) -> TrainLog:
    """Train LoRA adapters and the head's bias of a reduced model, in place.

    windows: (n, sequence_length) from `make_windows`. checkpoints: a folder of this run's own; where it holds
    checkpoints, the run goes on from the newest good one and ends as an unbroken run would. A checkpoint is written
    every `checkpoint_every` steps, after two minutes without one, and at the end; just before, on_checkpoint gets the
    log and the steps run since its last call. evaluate: called before the first step, every `evaluate_every` steps and
    after the last; what it returns is kept in the log with the step. processes: who trains; each batch is split among
    them, and the lead alone writes. recompute: keep each block's input only and compute the rest again for the
    gradients (gradient checkpointing): the same adapter, in much less memory and about a third more time. AdamW without
    weight decay; adapters in float32, frozen weights as loaded.
    Ctrl-C finishes the step, writes a checkpoint and raises KeyboardInterrupt; pressed again it stops at once.
    Raises InputError where the loss is no longer finite, or the checkpoints are another run's.
    """
    from tqdm.auto import tqdm

    if min(config.batch_size, len(windows)) < processes.count:
        raise InputError(f"{processes.count} processes cannot share batches of {config.batch_size}; start fewer")
    inject_lora(model, config.rank, config.alpha, generator=torch.Generator().manual_seed(config.seed))
    parameters = trainable(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, weight_decay=0.0)
    with processes.lead_first():
        log = TrainLog(**load_checkpoint(checkpoints, vars(config), parameters, optimizer) or {})
    reported = log.step
    started, before = time.perf_counter(), log.seconds
    kept, training, tokens = started, 0.0, 0

    def evaluated():
        due = log.step in (0, config.steps) or (evaluate_every and log.step % evaluate_every == 0)
        if evaluate and due and not any(entry["step"] == log.step for entry in log.evaluations):
            began = time.perf_counter()
            with torch.no_grad():
                log.evaluations.append({"step": log.step, **evaluate()})
            log.evaluation_seconds += time.perf_counter() - began

    evaluated()
    bar = tqdm(total=config.steps, initial=log.step, desc="train", unit="step", leave=None, disable=not progress)
    with bar, _interrupts() as interrupted:
        while log.step < config.steps:
            began = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = config.rate(log.step)
            batch = batch_of(log.step, windows, config)
            whole = torch.from_numpy(batch).to(model.device)
            weighting = config.tail_weight, config.units_weight
            total = loss_weights(whole, *weighting).sum()
            with _recomputing(model, recompute):
                loss = window_loss(model, processes.share(whole), *weighting, total)
                loss.backward()
            # One process's Ctrl-C travels with the gradients, so that all stop after the same step.
            shared = torch.tensor([loss.item(), len(interrupted)], device=model.device)
            processes.total([parameter.grad for parameter in parameters.values()] + [shared])
            value, stop = shared.tolist()
            if not math.isfinite(value):
                raise InputError(f"the loss of step {log.step + 1} is {value}; train again with a lower rate")
            if config.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters.values(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            log.step += 1
            log.losses.append(round(value, 6))

            now = time.perf_counter()
            training, tokens = training + now - began, tokens + np.count_nonzero(batch != PAD_ID)
            bar.set_postfix_str(
                f"loss {np.mean(log.losses[-20:]):.3f}, {tokens / training:.0f} tokens/s", refresh=False
            )
            bar.update()
            evaluated()
            if stop or log.step in (1, config.steps) or log.step % checkpoint_every == 0 or now - kept > 120:
                kept = time.perf_counter()
                log.seconds = before + kept - started
                if on_checkpoint:  # first, so that what it counts is never less than what was done
                    on_checkpoint(log, range(reported, log.step))
                reported = log.step
                if processes.lead:
                    save_checkpoint(checkpoints, vars(log), vars(config), parameters, optimizer)
            if stop:
                raise KeyboardInterrupt
    if interrupted:  # pressed after the last step's gradients were shared
        raise KeyboardInterrupt
    return log


@contextmanager
def _recomputing(model: PreTrainedModel, wanted: bool):
    """Gradient checkpointing; transformers does it in training mode only, which changes nothing else here."""
    if not wanted:
        yield
        return
    kind = "activation" if hasattr(model, "activation_checkpointing_enable") else "gradient"  # renamed in 5.24
    getattr(model, f"{kind}_checkpointing_enable")({"use_reentrant": False})
    model.train()
    try:
        with blocked_attention(model):  # what is computed again attends as it did in `window_loss`
            yield
    finally:
        getattr(model, f"{kind}_checkpointing_disable")()
        model.eval()


@contextmanager
def _interrupts():
    """A list that the first Ctrl-C makes non-empty instead of raising, so that no step is cut in half."""
    pressed = []
    if threading.current_thread() is not threading.main_thread():
        yield pressed
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_interrupt(*_):
        pressed.append(True)
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
