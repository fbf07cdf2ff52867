"""What a user takes home: a forecaster of one's own tables, in the conventions of chronos, pandas and PEFT."""

from .adapters import adapter_folder, base_of, read_format
from .evaluation import Evaluation, baselines_for, evaluate
from .export import export
from .finetune import finetune, refitter
from .forecaster import Forecaster
from .sampling import Sampler, format_for
from .tables import Columns, Item, calendar_season, check_output, guess_columns, items_of, read_table, write_table

__all__ = [
    "Columns", "Evaluation", "Forecaster", "Item", "Sampler", "adapter_folder", "base_of", "baselines_for",
    "calendar_season", "check_output", "evaluate", "export", "finetune", "format_for", "guess_columns", "items_of",
    "read_format", "read_table", "refitter", "write_table",
]  # fmt: skip
