"""LoRA training: windows of tokens, their loss, and the loop, which a killed run resumes bit for bit.

Nothing in a step is left to chance or to the clock: the batch and the rate are functions of the step, and adapter,
optimiser state and log are in the checkpoint.
"""

import math
import signal
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from transformers import PreTrainedModel

from m2lib.accounting import TARGETS
from m2lib.files import InputError
from m2lib.model import (
    ALL_TARGETS,
    COMMA_ID,
    PAD_ID,
    blocked_attention,
    checkpoint_activations,
    inject_lora,
    load_adapter,
    train_everything,
    trainable,
)
from m2lib.training.checkpoints import load_checkpoint, save_checkpoint
from m2lib.training.processes import Processes

ALONE = Processes()
COOLDOWN = 0.2
"""The share of the steps over which `cooldown` lowers the rate."""


@dataclass(frozen=True)
class TrainConfig:
    """How an adapter is trained. The defaults beyond the first three fields are the report's."""

    steps: int
    """Optimiser steps."""
    learning_rate: float
    """Peak rate of AdamW."""
    rank: int
    """Of the adapters; 0: there are none, and all weights train."""
    alpha: float | None = None
    """Strength of the adapters, rank times the factor of B A; None: the rank."""
    batch_size: int = 2
    """Windows a step, over all processes."""
    sequence_length: int = 512
    """Tokens a window."""
    warmup: float = 0.0
    """Share of the steps over which the rate rises from 0."""
    decay: str = "constant"
    """What the rate does after the warm-up: `constant`; `cosine`; or `cooldown`, constant until the last fifth of the
    steps. The last two would be 0 at step `steps`."""
    clip_norm: float | None = None
    """Largest norm of the gradient of all that trains; None: no clipping."""
    tail_weight: float = 1.0
    """How much the last token of a window weighs in the loss against the first, linear between."""
    units_weight: float = 1.0
    """How much a number's last digit weighs in the loss against everything else."""
    seed: int = 0
    """Of the adapters' start and of the order of the windows."""
    targets: tuple[str, ...] = TARGETS
    """The projections that get adapters, some of ALL_TARGETS; kept in its order, whatever order or list is given."""

    def __post_init__(self) -> None:
        """Raise ValueError for settings that cannot be trained with."""
        if min(self.steps, self.batch_size) < 1 or self.rank < 0 or self.sequence_length < 2:
            raise ValueError("steps and batch_size must be at least 1, rank 0 or more, sequence_length at least 2")
        # `or 1` lets a None pass: it stands for a value that is fine.
        if min(self.learning_rate, self.tail_weight, self.units_weight, self.clip_norm or 1, self.alpha or 1) <= 0:
            raise ValueError("learning_rate, tail_weight, units_weight, clip_norm and alpha must be positive")
        if not 0 <= self.warmup < 1 or self.decay not in ("constant", "cosine", "cooldown"):
            raise ValueError("warmup must be a share below 1, decay `constant`, `cosine` or `cooldown`")
        targets = tuple(name for name in ALL_TARGETS if name in self.targets)
        if not targets or len(targets) != len(self.targets):  # one more is given than found: unknown, or repeated
            raise ValueError(f"targets must be some of {', '.join(ALL_TARGETS)}, each once")
        object.__setattr__(self, "targets", targets)  # the class is frozen

    def rate(self, step: int) -> float:
        """The learning rate of one step.

        It rises in a straight line, then stays at the peak, falls as half a cosine wave [1]_, or stays there and falls
        in a straight line over the last fifth of the steps [2]_: what was learned until then is what any longer run
        would have learned by then, too.

        Parameters
        ----------
        step : int
            0, 1, ..., steps - 1.

        Returns
        -------
        float
            The rate that AdamW takes this step with.

        References
        ----------
        .. [1] Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", ICLR 2017.
        .. [2] Hägele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training Durations", NeurIPS 2024.
        """
        # Ten steps, warmup 0.2, cosine, as shares of the peak: 0.5 and 1 (a step at rate 0 would be wasted), then
        # 1, 0.96, 0.85, 0.69, 0.5, 0.31, 0.15, 0.04; the 0 would come at step 10, which there is not. With cooldown:
        # 0.5, then 1 from the second to the ninth, of which the last two are cool, as (10 - 8) / 2 = 1, and then 1 / 2.
        warm = round(self.warmup * self.steps)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        if self.decay == "constant":
            return self.learning_rate
        if self.decay == "cooldown":
            return self.learning_rate * min(1.0, (self.steps - step) / max(1, COOLDOWN * self.steps))
        return self.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / (self.steps - warm)))


@dataclass
class TrainLog:
    """What a training run has done so far, over all the times it was resumed. It is stored in its checkpoints."""

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


def make_windows(texts: list[list[int]], length: int) -> np.ndarray:
    """Cut each text into windows that overlap by half: one every length // 2 tokens, until one reaches the text's end.

    Parameters
    ----------
    texts : list of list of int
        Token ids of whole series.
    length : int
        Tokens a window; even.

    Returns
    -------
    ndarray of int64, shape (windows, length)
        Token ids, text after text; a short last window is padded on the right.
    """
    # A text of 1100 tokens and windows of 512: range(0, 844, 256) starts them at 0, 256, 512 and 768, and the last
    # holds 332 tokens and 180 pads. One of 1024: range(0, 768, 256), because the window from 512 ends with the text,
    # and one from 768 would only repeat its second half. One of 200: max(1, -56) leaves the start 0.
    windows = []
    for ids in texts:
        for start in range(0, max(1, len(ids) - length // 2), length // 2):
            piece = ids[start : start + length]
            windows.append(piece + [PAD_ID] * (length - len(piece)))
    return np.array(windows, dtype=np.int64).reshape(-1, length)


Source = np.ndarray | Callable[[int], np.ndarray]
"""What a run learns from: all its windows, or what gives those of a step, without end."""


def batch_of(step: int, windows: Source, config: TrainConfig) -> np.ndarray:
    """The windows of one step: each epoch is a fresh permutation, so the step says it all.

    Parameters
    ----------
    step : int
        From 0.
    windows : ndarray of int64, shape (n, length), or callable
        All that there are; or a function of the step that gives its windows, (batch_size, length), itself.
    config : TrainConfig
        Its batch_size and seed are read.

    Returns
    -------
    ndarray of int64, shape (batch_size, length)
        Fewer rows where there are fewer windows than that.
    """
    if callable(windows):
        return windows(step)
    # Five windows, two a step: an epoch has 5 // 2 = 2 steps, and one window waits for another epoch. Step 3 is
    # divmod(3, 2) = epoch 1, place 1: the third and fourth of epoch 1's permutation, which seed and epoch decide.
    size = min(config.batch_size, len(windows))
    epoch, place = divmod(step, len(windows) // size)
    order = np.random.default_rng([config.seed, epoch]).permutation(len(windows))
    return windows[order[place * size : (place + 1) * size]]


def loss_weights(windows: torch.Tensor, tail_weight: float = 1.0, units_weight: float = 1.0) -> torch.Tensor:
    """How much each predicted token weighs in the loss.

    Parameters
    ----------
    windows : Tensor of int64, shape (B, length)
        Token ids, pads on the right.
    tail_weight : float, optional
        Of a window's last token that is no pad, against 1 for the first that is predicted; linear between.
    units_weight : float, optional
        Factor for a number's last digit, the one that a digit does not follow.

    Returns
    -------
    Tensor of float32, shape (B, length - 1)
        Column i is the weight of the token in column i + 1, which is predicted from columns 0 to i; 0 for a pad.
    """
    # One row, at tail_weight 3 and units_weight 1/4. Nothing predicts column 0, so a token's weight stands one column
    # earlier in what is returned than the token in its window; here it stands below its token.
    #   token                1     2     ,     3     ;   pad   pad
    #   place                      0   1/3   2/3     1   4/3   5/3    column / (5 tokens - 2): 1 at the last one
    #   1 + (3 - 1) place          1   5/3   7/3     3     0     0    and nothing for pads
    #   digit              yes   yes    no   yes    no    no    no
    #   a last digit        no   yes    no   yes    no    no     ?    a digit, and the column after it is none
    #   weight                   1/4   5/3  7/12     3     0     0
    # What follows a window's very last column is not known: its weight is left as it is. A window of two tokens
    # predicts one, whose place clamp makes 0 / 1 and not 0 / 0.
    kept = windows != PAD_ID
    place = torch.arange(windows.shape[1] - 1, device=windows.device) / (kept.sum(1, keepdim=True) - 2).clamp(min=1)
    weights = kept[:, 1:] * (1 + (tail_weight - 1) * place)
    digit = kept & (windows < COMMA_ID)  # ids 1 to 10; a pad is 0
    weights[:, :-1] *= torch.where(digit[:, 1:-1] & ~digit[:, 2:], units_weight, 1.0)
    return weights


def window_loss(
    model: PreTrainedModel,
    windows: torch.Tensor,
    tail_weight: float = 1.0,
    units_weight: float = 1.0,
    total: torch.Tensor | None = None,
) -> torch.Tensor:
    """The mean next-token cross-entropy over every position of windows; pads count nowhere.

    Columns that hold only pads are not computed; pads on the right of causal attention are never attended to.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary.
    windows : Tensor of int64, shape (B, length)
        Token ids on the model's device, pads on the right.
    tail_weight, units_weight : float, optional
        As in `loss_weights`; at 1 the mean is the plain one.
    total : Tensor of float, shape (), optional
        The sum of `loss_weights` to divide by, for a share of a batch: the shares' losses then add up to the batch's.
        Default: that of these windows.

    Returns
    -------
    Tensor of float32, shape ()
        In nats a token.
    """
    windows = windows[:, : padded_length(windows)]
    weights = loss_weights(windows, tail_weight, units_weight)
    with blocked_attention(model):
        logits = model(windows, use_cache=False).logits
    # Column i's logits predict the token in column i + 1. `cross_entropy` wants the 13 classes on axis 1.
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), windows[:, 1:], reduction="none")
    return (losses * weights).sum() / (weights.sum() if total is None else total)


def padded_length(windows: np.ndarray | torch.Tensor) -> int:
    """How many columns of windows are computed.

    Parameters
    ----------
    windows : ndarray or Tensor of int64, shape (B, length)
        Token ids, pads on the right.

    Returns
    -------
    int
        The length of the longest window without its pads.
    """
    return int((windows != PAD_ID).sum(1).max())


def train(
    model: PreTrainedModel,
    windows: Source,
    config: TrainConfig,
    checkpoints: Path,
    *,
    checkpoint_every: int = 50,
    on_checkpoint: Callable[[TrainLog, range], None] | None = None,
    evaluate: Callable[[], dict] | None = None,
    evaluate_after: Container[int] = (),
    processes: Processes = ALONE,
    recompute: bool = False,
    progress: bool = True,
    start: Path | None = None,
    flops_of: Callable[[np.ndarray], int] | None = None,
) -> TrainLog:
    """Train LoRA adapters and the head's bias of a reduced model, in place; or, at rank 0, all its weights.

    AdamW without weight decay; adapters in float32, frozen weights as loaded.

    Parameters
    ----------
    model : PreTrainedModel
        With a reduced vocabulary and without adapters, which are put into it; on the device to train on.
    windows : ndarray of int64, shape (n, sequence_length), or callable
        From `make_windows`; or what gives the windows of a step, see `batch_of`.
    config : TrainConfig
        How to train.
    checkpoints : Path
        A folder of this run's own. Where it holds checkpoints, the run goes on from the newest good one and ends as
        an unbroken run would.
    checkpoint_every : int, optional
        A checkpoint is written every so many steps, after the first, after two minutes without one, and at the end.
    on_checkpoint : callable, optional
        Gets the log and the steps run since its last call, just before a checkpoint is written.
    evaluate : callable, optional
        Called in every process before the first step, after those in `evaluate_after` and after the last, without
        gradients; the dict that it returns is kept in the log with the step.
    evaluate_after : container of int, optional
        Numbers of completed steps, such as `range(100, 2000, 100)`.
    processes : Processes, optional
        Who trains; each batch is split among them, and the lead alone writes. Default: this process alone.
    recompute : bool, optional
        Keep each block's input only and compute the rest again for the gradients (gradient checkpointing): the same
        adapter, in much less memory and about a third more time.
    progress : bool, optional
        Show a bar with loss and tokens/s.
    start : Path, optional
        The folder of an adapter to start from, of the rank, alpha and targets in `config`. Default: new ones.
    flops_of : callable, optional
        Gives the FLOPs of a step from its batch, for the bar to show FLOP/s of each process as well.

    Returns
    -------
    TrainLog
        Of the whole run, what it had done before it was resumed included.

    Raises
    ------
    InputError
        Where the loss is no longer finite, the checkpoints are another run's, or a batch has fewer windows than there
        are processes.
    KeyboardInterrupt
        After Ctrl-C, which finishes the step and writes a checkpoint first; pressed again it stops at once.
    """
    from tqdm.auto import tqdm

    if min(config.batch_size, config.batch_size if callable(windows) else len(windows)) < processes.count:
        raise InputError(f"{processes.count} processes cannot share batches of {config.batch_size}; start fewer")
    generator = torch.Generator().manual_seed(config.seed)
    if start:
        load_adapter(model, start)
    elif config.rank:
        inject_lora(model, config.rank, config.alpha, targets=config.targets, generator=generator)
    else:
        train_everything(model)
    parameters = trainable(model)
    optimizer = torch.optim.AdamW(parameters.values(), lr=config.learning_rate, weight_decay=0.0)
    # The lead goes first because it renames damaged files. `**x or {}` is `**(x or {})`: a new run's log is empty.
    with processes.lead_first():
        log = TrainLog(**load_checkpoint(checkpoints, vars(config), parameters, optimizer) or {})
    reported = log.step  # steps before this one have been handed to on_checkpoint
    started, before = time.perf_counter(), log.seconds
    # When the last checkpoint was; seconds, tokens and FLOPs of the bar's speed.
    kept, training, tokens, flops = started, 0.0, 0, 0

    def evaluated() -> None:
        """Evaluate where the step asks for it, unless the log that was resumed from has it already."""
        due = log.step in (0, config.steps) or log.step in evaluate_after
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
            # Ctrl-C may reach one process only, or each in another step. One that stopped alone would leave the others
            # waiting for its gradients for ever. So the count of Ctrl-Cs travels with the gradients: all read the same
            # sum, and all stop after the same step. The loss is a share's sum over the batch's weights: these add up.
            shared = torch.tensor([loss.item(), len(interrupted)], device=model.device)
            processes.total([parameter.grad for parameter in parameters.values()] + [shared])
            value, stop = shared.tolist()
            if not math.isfinite(value):
                raise InputError(f"the loss of step {log.step + 1} is {value}; train again with a lower rate")
            if config.clip_norm:  # only now: the norm is that of the whole batch's gradient
                torch.nn.utils.clip_grad_norm_(parameters.values(), config.clip_norm)
            optimizer.step()
            optimizer.zero_grad()
            log.step += 1
            log.losses.append(round(value, 6))

            now = time.perf_counter()
            training, tokens = training + now - began, tokens + int(np.count_nonzero(batch != PAD_ID))
            flops += flops_of(batch) // processes.count if flops_of else 0
            speed = f"{tokens / training:.0f} tokens/s" + (f", {flops / training:.2g} FLOP/s" if flops_of else "")
            bar.set_postfix_str(f"loss {np.mean(log.losses[-20:]):.3f}, {speed}", refresh=False)
            bar.update()
            # The order matters to a run that is killed between any two lines. The evaluation comes before the
            # checkpoint, whose log then has it. on_checkpoint counts what was spent, and also comes before: killed
            # between the two, the run takes these steps again, and they are counted twice, as they were done twice.
            # The other way round, it would go on after steps that were never counted.
            evaluated()
            if stop or log.step in (1, config.steps) or log.step % checkpoint_every == 0 or now - kept > 120:
                kept = time.perf_counter()
                log.seconds = before + kept - started
                if on_checkpoint:
                    on_checkpoint(log, range(reported, log.step))
                reported = log.step
                if processes.lead:  # all hold the same adapter, optimiser state and log
                    save_checkpoint(checkpoints, vars(log), vars(config), parameters, optimizer)
            if stop:  # only now that the step is kept
                raise KeyboardInterrupt
    if interrupted:  # pressed after the last step's gradients were shared
        raise KeyboardInterrupt
    return log


@contextmanager
def _recomputing(model: PreTrainedModel, wanted: bool) -> Iterator[None]:
    """Gradient checkpointing; transformers does it in training mode only, which changes nothing else here."""
    if not wanted:
        yield
        return
    checkpoint_activations(model, True)
    model.train()
    try:
        with blocked_attention(model):  # what is computed again attends as it did in `window_loss`
            yield
    finally:
        checkpoint_activations(model, False)
        model.eval()


@contextmanager
def _interrupts() -> Iterator[list[bool]]:
    """A list that the first Ctrl-C makes non-empty instead of raising, so that no step is cut in half."""
    pressed: list[bool] = []
    if threading.current_thread() is not threading.main_thread():  # Python lets no other thread handle signals
        yield pressed
        return
    previous = signal.getsignal(signal.SIGINT)

    def on_interrupt(*_: object) -> None:
        pressed.append(True)
        signal.signal(signal.SIGINT, previous)  # so a second Ctrl-C raises at once

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield pressed
    finally:
        signal.signal(signal.SIGINT, previous)
