"""Numbers and text: the data set, the codec, errors, and forecasts that need no language model."""

from .baselines import (
    BASELINES, baseline_maes, context_mean, last_value, log_var, log_var_paths, nearest_analogue, period_of,
    seasonal_naive,
)  # fmt: skip
from .codec import (
    CODEC_VERSION, CONTEXT_STEPS, FORECAST_STEPS, FORMAT_FILE, PAD, ROUNDINGS, SHORTEST, STUDY, TABLES, VARIABLES,
    Decoded, Scaling, TextFormat, decode, encode, scale_of, to_integers, unscale,
)  # fmt: skip
from .data import (
    DEFAULT_FILE, SPLIT_SEED, SeriesSet, Split, check_encodable, generate_series, load_series, split_ids, write_series,
)  # fmt: skip
from .intervals import (
    band, bootstrap_interval, conformal, coverage, paired_gain, ranks, sharpness, stretch_needed, stretched,
)  # fmt: skip
from .metrics import DECILES, best_and_worst, crps_fair, quantile_loss, series_mae, summarise, weighted_quantile_loss
from .physics import FITS, fit_system, physics_forecast
from .recipe import draw_systems
from .worlds import WORLDS

__all__ = [
    "BASELINES", "CODEC_VERSION", "CONTEXT_STEPS", "DECILES", "DEFAULT_FILE", "FITS", "FORECAST_STEPS", "FORMAT_FILE",
    "PAD", "ROUNDINGS", "SHORTEST", "SPLIT_SEED", "STUDY", "TABLES", "VARIABLES", "WORLDS", "Decoded", "Scaling",
    "SeriesSet", "Split", "TextFormat", "band", "baseline_maes", "best_and_worst", "bootstrap_interval",
    "check_encodable", "conformal", "context_mean", "coverage", "crps_fair", "decode", "draw_systems", "encode",
    "fit_system", "generate_series", "last_value", "load_series", "log_var", "log_var_paths", "nearest_analogue",
    "paired_gain", "period_of", "physics_forecast", "quantile_loss", "ranks", "scale_of", "seasonal_naive",
    "series_mae", "sharpness", "split_ids", "stretch_needed", "stretched", "summarise", "to_integers", "unscale",
    "weighted_quantile_loss", "write_series",
]  # fmt: skip
