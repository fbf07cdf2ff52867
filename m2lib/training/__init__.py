"""The LoRA training loop and its checkpoints."""

from .checkpoints import load_checkpoint, save_checkpoint, saved_step
from .config import COSINE, TrainConfig
from .loop import TrainLog, step_costs, train
from .loss import window_loss
from .windows import (
    Endless,
    Windows,
    batch_of,
    encode_window,
    make_windows,
    pad_windows,
    random_windows,
)

__all__ = [
    "COSINE",
    "Endless",
    "TrainConfig",
    "TrainLog",
    "Windows",
    "batch_of",
    "encode_window",
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
