from .calendars import following
from .evaluation import Evaluation, Rival
from .forecaster import Forecaster
from .plotting import plot_forecasts, plot_items
from .table_files import check_output, read_table, write_table
from .tables import Columns, Fill, Item, columns_of, items_of

__all__ = [
    "Columns",
    "Evaluation",
    "Fill",
    "Forecaster",
    "Item",
    "Rival",
    "check_output",
    "columns_of",
    "following",
    "items_of",
    "plot_forecasts",
    "plot_items",
    "read_table",
    "write_table",
]
