"""Numbers and text: the data set, the codec, errors, and forecasts that need no language model."""

from .baselines import (
    BASELINES, context_mean, last_value, log_var, log_var_paths, nearest_analogue, period_of,
    seasonal_naive,
)  # fmt: skip
from .bands import band, conformal, coverage, ranks, sharpness, stretch_needed, stretched
from .codec import (
    CODEC_VERSION, CONTEXT_STEPS, FORECAST_STEPS, FORMAT_FILE, MOST_VARIABLES, ROUNDINGS, SHORTEST,
    STUDY, TABLES, VARIABLES, Scaling, TextFormat, decode, encode, said_series, scale_of,
    to_integers, unscale,
)  # fmt: skip
from .data import (
    DEFAULT_FILE, SPLIT_SEED, SeriesSet, draw_systems, generate_series, load_series, split_ids,
    write_series,
)  # fmt: skip
from .intervals import bootstrap_interval, paired_gain
from .metrics import (
    DECILES, best_and_worst, crps_fair, quantile_loss, quantile_losses, series_mae, summarise,
    weighted_quantile_loss,
)  # fmt: skip
from .seasons import NOTHING_LEFT, Season, checked_seasons, season_length, without_season
from .trends import Trend

__all__ = [
    "BASELINES",
    "CODEC_VERSION",
    "CONTEXT_STEPS",
    "DECILES",
    "DEFAULT_FILE",
    "FORECAST_STEPS",
    "FORMAT_FILE",
    "MOST_VARIABLES",
    "NOTHING_LEFT",
    "ROUNDINGS",
    "SHORTEST",
    "SPLIT_SEED",
    "STUDY",
    "TABLES",
    "VARIABLES",
    "Scaling",
    "Season",
    "SeriesSet",
    "TextFormat",
    "Trend",
    "band",
    "best_and_worst",
    "bootstrap_interval",
    "checked_seasons",
    "conformal",
    "context_mean",
    "coverage",
    "crps_fair",
    "decode",
    "draw_systems",
    "encode",
    "generate_series",
    "last_value",
    "load_series",
    "log_var",
    "log_var_paths",
    "nearest_analogue",
    "paired_gain",
    "period_of",
    "quantile_loss",
    "quantile_losses",
    "ranks",
    "said_series",
    "scale_of",
    "season_length",
    "seasonal_naive",
    "series_mae",
    "sharpness",
    "split_ids",
    "stretch_needed",
    "stretched",
    "summarise",
    "to_integers",
    "unscale",
    "weighted_quantile_loss",
    "without_season",
    "write_series",
]
