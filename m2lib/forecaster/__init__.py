"""What a user takes home: a forecaster of own tables, with the names of chronos, pandas and PEFT.

Fine-tuning, `m2lib.forecaster.finetune`, is loaded when first used, because it brings the training
loop.
"""

from .adapters import adapter_folder, read_format
from .calendars import following
from .evaluation import Evaluation
from .rolling import evaluate
from .export import export
from .forecaster import DEFAULT_BACKBONE, Forecaster, chosen_backbone
from .plotting import plot_forecasts, plot_items
from .sampling import Sampler, format_for
from .table_files import check_output, read_table, write_table
from .tables import (
    Columns,
    Fill,
    Item,
    calendar_seasons,
    calendars_differ,
    chosen_seasons,
    guess_columns,
    in_parts,
    items_of,
)
from .views import View
