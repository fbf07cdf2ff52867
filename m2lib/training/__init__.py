"""The LoRA training loop and its checkpoints."""

from .checkpoints import load_checkpoint, save_checkpoint, saved_step
from .config import COSINE, TrainConfig
from .loop import TrainLog, step_costs, train
from .loss import window_loss
from .windows import (
    Endless,
    Source,
    batch_of,
    cut_windows,
    encode_window,
    make_windows,
    pad_windows,
)

__all__ = [
    "COSINE",
    "Endless",
    "Source",
    "TrainConfig",
    "TrainLog",
    "batch_of",
    "cut_windows",
    "encode_window",
    "load_checkpoint",
    "make_windows",
    "pad_windows",
    "save_checkpoint",
    "saved_step",
    "step_costs",
    "train",
    "window_loss",
]
