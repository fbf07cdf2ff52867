"""Tokens out of a model, and numbers out of tokens."""

from .bare_model import BareModel
from .engine import Engine, step_columns
from .forecasts import Forecast, cut_prompt, forecast, point_forecast, pooled, read_back
from .generation import DECODE_VERSION, DecodeConfig, StepGrammar, generate

__all__ = [
    "DECODE_VERSION",
    "BareModel",
    "DecodeConfig",
    "Engine",
    "Forecast",
    "StepGrammar",
    "cut_prompt",
    "forecast",
    "generate",
    "point_forecast",
    "pooled",
    "read_back",
    "step_columns",
]
