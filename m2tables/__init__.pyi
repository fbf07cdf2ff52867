from .evaluation import Evaluation, Rival
from .forecaster import Forecaster
from .plotting import plot_forecasts, plot_items
from .table_files import check_output, csv_of, read_table, write_table
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
    "csv_of",
    "items_of",
    "plot_forecasts",
    "plot_items",
    "read_table",
    "write_table",
]
