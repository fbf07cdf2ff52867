"""The LoRA training loop and its checkpoints."""

from .checkpoints import load_checkpoint, save_checkpoint, saved_step
from .config import TrainConfig
from .loop import TrainLog, step_costs, train
from .loss import window_loss
from .windows import (
    Endless,
    Windows,
    batch_of,
    make_windows,
    pad_windows,
    random_windows,
)

__all__ = [
    "Endless",
    "TrainConfig",
    "TrainLog",
    "Windows",
    "batch_of",
    "load_checkpoint",
    "make_windows",
    "pad_windows",
    "random_windows",
    "save_checkpoint",
    "saved_step",
    "step_costs",
    "train",
    "window_loss",
]
