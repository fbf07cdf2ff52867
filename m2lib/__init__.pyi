__version__: str

from . import accounting, decoding, model, series, training
from .accounting import Shape, forecast_flops, forward_flops, total, train_step_flops
from .decoding import DecodeConfig, forecast
from .errors import InputError
from .model import (
    ids_to_text,
    inject_lora,
    load_adapter,
    load_backbone,
    merge_lora,
    save_adapter,
    text_to_ids,
)
from .series import (
    decode,
    encode,
    generate_series,
    load_series,
    scale_of,
    series_mae,
    split_ids,
    summarise,
)
from .training import TrainConfig, make_windows, train

__all__ = [
    "DecodeConfig",
    "InputError",
    "Shape",
    "TrainConfig",
    "accounting",
    "decode",
    "decoding",
    "encode",
    "forecast",
    "forecast_flops",
    "forward_flops",
    "generate_series",
    "ids_to_text",
    "inject_lora",
    "load_adapter",
    "load_backbone",
    "load_series",
    "make_windows",
    "merge_lora",
    "model",
    "save_adapter",
    "scale_of",
    "series",
    "series_mae",
    "split_ids",
    "summarise",
    "text_to_ids",
    "total",
    "train",
    "train_step_flops",
    "training",
]
