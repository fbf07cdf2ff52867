"""The report's experiments: declared as data, run, recorded, and counted against the budget."""

from .costs import all_records, budget_of, experiment_sizes, removed, table_3
from .experiments import (
    ARMS,
    EXPERIMENTS,
    SAMPLED_AT,
    SEARCH,
    SECOND,
    TEMPERATURES,
    TRIALS,
    experiment_named,
)
from .profiles import PROFILES, REPLICATION, Profile, active_profile, setting
from .records import (
    ORDER,
    STATISTICAL,
    TUNED,
    Record,
    adapter_path,
    in_progress,
    load_record,
    record_path,
    recorded_forecast,
    recorded_rows,
    recorded_samples,
    recorded_yardsticks,
)
from .runs import run
from .rules import chosen_by, published_maes, published_statements, published_table_3
