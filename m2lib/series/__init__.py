"""Numbers and text: the data set, the codec, errors, and forecasts that need no language model."""

from .baselines import (
    BASELINES, context_mean, last_value, log_var, log_var_paths, nearest_analogue, period_of,
    seasonal_naive,
)  # fmt: skip
from .bands import (
    band, conformal, coverage, sharpness, stretch_needed, stretched,
)  # fmt: skip
from .codec import (
    CODEC_VERSION, CONTEXT_STEPS, FORECAST_STEPS, FORMAT_FILE, MOST_VARIABLES, ROUNDINGS,
    SHORTEST_CONTEXT, STUDY, TABLES, UNDERSHOOT, VARIABLES, Scaling, TextFormat, decode, encode,
    scale_of, series_label, to_integers, unscale,
)  # fmt: skip
from .data import (
    DEFAULT_FILE, SPLIT_SEED, SeriesSet, draw_systems, generate_series, load_series, split_ids,
    write_series,
)  # fmt: skip
from .intervals import bootstrap_interval, paired_gain, sign_flip_p, t_interval
from .metrics import (
    DECILES, best_and_worst, crps_fair, quantile_losses, series_mae, summarise,
)  # fmt: skip

__all__ = [
    "BASELINES",
    "CODEC_VERSION",
    "CONTEXT_STEPS",
    "DECILES",
    "DEFAULT_FILE",
    "FORECAST_STEPS",
    "FORMAT_FILE",
    "MOST_VARIABLES",
    "ROUNDINGS",
    "SHORTEST_CONTEXT",
    "SPLIT_SEED",
    "STUDY",
    "TABLES",
    "UNDERSHOOT",
    "VARIABLES",
    "Scaling",
    "SeriesSet",
    "TextFormat",
    "band",
    "best_and_worst",
    "bootstrap_interval",
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
    "quantile_losses",
    "scale_of",
    "seasonal_naive",
    "series_label",
    "series_mae",
    "sharpness",
    "sign_flip_p",
    "split_ids",
    "stretch_needed",
    "stretched",
    "summarise",
    "t_interval",
    "to_integers",
    "unscale",
    "write_series",
]
