"""Tokens out of a model, and numbers out of tokens."""

from .engine import Engine
from .forecasts import Forecast, cut_prompt, forecast, point_forecast, read_back
from .generation import StepGrammar, generate
from .protocol import DECODE_VERSION, LONGEST_STEP, DecodeConfig, step_columns
from .reference import Reference

__all__ = [
    "DECODE_VERSION", "LONGEST_STEP", "DecodeConfig", "Engine", "Forecast", "Reference", "StepGrammar", "cut_prompt",
    "forecast", "generate", "point_forecast", "read_back", "step_columns",
]  # fmt: skip
