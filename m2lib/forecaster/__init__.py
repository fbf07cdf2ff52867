"""What a user takes home: a forecaster of own tables, with the names of chronos, pandas and PEFT.

Fine-tuning, `m2lib.forecaster.finetune`, is loaded when first used, because it brings the training
loop.
"""

from .adapters import NO_ADAPTER, adapter_folder, read_format
from .calendars import following
from .columns import Columns, guess_columns
from .evaluation import Evaluation
from .rivals import Rival
from .rolling import evaluate
from .export import export
from .forecaster import Forecaster
from .network import NetworkForecaster
from .plotting import plot_forecasts, plot_items
from .sampling import Sampler, Sampling, format_for
from .table_files import check_output, read_table, write_table
from .tables import Fill, Item, calendars_differ, chosen_seasons, items_of
from .views import View

__all__ = [
    "NO_ADAPTER",
    "Columns",
    "Evaluation",
    "Fill",
    "Forecaster",
    "Item",
    "NetworkForecaster",
    "Rival",
    "Sampler",
    "Sampling",
    "View",
    "adapter_folder",
    "calendars_differ",
    "check_output",
    "chosen_seasons",
    "evaluate",
    "export",
    "following",
    "format_for",
    "guess_columns",
    "items_of",
    "plot_forecasts",
    "plot_items",
    "read_format",
    "read_table",
    "write_table",
]
